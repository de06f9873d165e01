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

// send is the command that sends a message.
type send struct {
	clientFlags
	Event   string `placeholder:"message" help:"Event name of the message. Default: message."`
	ID      string `name:"id" placeholder:"ID" help:"Idempotency key of the message, 1 to 64 characters. A retry with the same key within 2 minutes is not delivered again. Default: none."`
	JSON    bool   `name:"json" help:"Send the message as JSON instead of text. Default: off."`
	Message string `arg:"" help:"Message to send. Use - to read it from standard input."`
}

// Help returns the example that --help prints.
func (send) Help() string {
	return "Example:\n\n" +
		"    export PRESENCE_TOKEN=$(presence token --jwt-secret-file ./secret --sub alice)\n" +
		"    presence send --room lobby 'hello from a shell'"
}

// Run sends the message and prints the ID that the server assigned to it.
func (c *send) Run(ctx context.Context, p *process) error {
	room, err := c.client(p)
	if err != nil {
		return err
	}
	text := c.Message
	if text == "-" {
		// Read more than 1 MiB, the maximum of any server, so that the server rejects a longer
		// message with an error that states the limit.
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
		return usagef("--json: message is not valid JSON")
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
