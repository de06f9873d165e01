package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"example.com/presence/pkg/presence/client"
)

// send posts a message.
type send struct {
	clientFlags
	Event   string `placeholder:"message" help:"The event's name"`
	ID      string `name:"id" placeholder:"ID" help:"An id of your own, 1 to 64 characters"`
	JSON    bool   `name:"json" help:"The message is JSON, not text"`
	Message string `arg:"" help:"What to say; - reads it from standard input"`
}

// Run posts the message and prints the id that the server gave it.
func (c *send) Run(ctx context.Context, p *process) error {
	room, err := c.client(p)
	if err != nil {
		return err
	}
	text := c.Message
	if text == "-" {
		// A server takes 1 MiB at most; what is longer it refuses by name.
		read, err := io.ReadAll(io.LimitReader(p.stdin, 2<<20))
		if err != nil {
			return err
		}
		text = strings.TrimSuffix(string(read), "\n")
	}
	data := json.RawMessage(text)
	if !c.JSON {
		if data, err = json.Marshal(text); err != nil {
			return err
		}
	} else if !json.Valid(data) {
		return usagef("--json: the message is not JSON")
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	id, err := room.Send(ctx, client.Message{Event: c.Event, ID: c.ID, Data: data})
	if err != nil {
		return c.explain(err)
	}
	_, err = fmt.Fprintln(p.stdout, printable(id))
	return err
}
