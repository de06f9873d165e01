package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"unicode"

	"example.com/presence/pkg/presence/client"
)

// clientFlags select the server, the credential and the room.
type clientFlags struct {
	URL   string `name:"url" default:"http://127.0.0.1:8080" placeholder:"URL" help:"URL at which the server is mounted. Default: http://127.0.0.1:8080."`
	Token string `placeholder:"TOKEN" help:"Token of the user. The process list shows a token that is given as a flag. Default: none."`
	Room  string `placeholder:"lobby" help:"Name of the room. Default: lobby."`
}

func (f clientFlags) client(p *process) (*client.Client, error) {
	if strings.ContainsFunc(f.Token, unicode.IsControl) {
		return nil, usagef("--token must not contain a control character")
	}
	c, err := client.New(client.Config{
		URL:    f.URL,
		Room:   f.Room,
		Token:  client.StaticToken(f.Token),
		Logger: slog.New(slog.NewTextHandler(p.stderr, nil)),
	})
	if bad := new(client.ConfigError); errors.As(err, &bad) && bad.Field == "URL" {
		return nil, usagef("--url %s", bad.Reason)
	} else if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// explain adds to the error of a 401 that no token was given. A missing token is no error until
// then, because a host program may require none.
func (f clientFlags) explain(err error) error {
	var p *client.Problem
	if f.Token == "" && errors.As(err, &p) && p.Status == http.StatusUnauthorized {
		return fmt.Errorf("no token given, but the server requires one: give --token or $PRESENCE_TOKEN: %w", err)
	}
	return err
}

// watch prints a room's events.
type watch struct {
	clientFlags
	Pings bool `help:"Also print ping events. Default: off."`
}

// Help returns the example of --help.
func (watch) Help() string {
	return "Example:\n\n" +
		"    export PRESENCE_TOKEN=$(presence token --jwt-secret-file ./secret --sub bob)\n" +
		"    presence watch --room lobby"
}

// Run prints one line per event, its name and its data separated by a tab, until ctx ends.
func (c *watch) Run(ctx context.Context, p *process) error {
	room, err := c.client(p)
	if err != nil {
		return err
	}
	for e, err := range room.Events(ctx) {
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return c.explain(err)
		case e.Name == "ping" && !c.Pings:
			continue
		}
		if _, err := fmt.Fprintf(p.stdout, "%s\t%s\n", printable(e.Name), printable(string(e.Data))); err != nil {
			return err
		}
	}
	return nil
}
