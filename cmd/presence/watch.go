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

// clientFlags are the flags that watch and send share: the server, the credential and the room.
type clientFlags struct {
	URL   string `name:"url" default:"http://127.0.0.1:8080" placeholder:"URL" help:"Base URL of the server, including any mount path, or unix:PATH of its Unix socket. Default: http://127.0.0.1:8080."`
	Token string `placeholder:"TOKEN" help:"Token of the user. A token on the command line is visible in the process list. Default: none."`
	Room  string `placeholder:"lobby" help:"Name of the room. Default: lobby."`
}

func (f clientFlags) client(p *process) (*client.Client, error) {
	if strings.ContainsFunc(f.Token, unicode.IsControl) {
		return nil, usagef("--token must not contain control characters")
	}
	config := client.Config{
		URL:    f.URL,
		Room:   f.Room,
		Token:  client.StaticToken(f.Token),
		Logger: slog.New(slog.NewTextHandler(p.stderr, nil)),
	}
	if strings.HasPrefix(f.URL, unixPrefix) {
		base, via := transport(f.URL)
		config.URL, config.HTTPClient = base, &http.Client{Transport: via}
	}
	c, err := client.New(config)
	if bad := new(client.ConfigError); errors.As(err, &bad) && bad.Field == "URL" {
		return nil, usagef("--url %s", bad.Reason)
	} else if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// explain adds the remedy to the error of a 401 response if no token was set. The command does not
// require a token before it connects, because an embedding program may not require one.
func (f clientFlags) explain(err error) error {
	var p *client.Problem
	if f.Token == "" && errors.As(err, &p) && p.Status == http.StatusUnauthorized {
		return fmt.Errorf("token required by the server: set --token or $PRESENCE_TOKEN: %w", err)
	}
	return err
}

// watch is the command that prints the events of a room.
type watch struct {
	clientFlags
	Pings bool `help:"Also print ping events. Default: off."`
}

// Help returns the example that --help prints.
func (watch) Help() string {
	return "Example:\n\n" +
		"    export PRESENCE_TOKEN=$(presence token --jwt-secret-file ./secret --sub bob)\n" +
		"    presence watch --room lobby"
}

// Run prints one line per event, with the name and the data separated by a tab, until ctx is done.
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
