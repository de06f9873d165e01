package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/nats"
)

// clusterFlags connect several nodes through NATS.
type clusterFlags struct {
	NATS         []string `name:"nats" placeholder:"URL" help:"NATS server that connects this node with the others, such as nats://nats:4222 or tls://user:password@nats:4222. All nodes with the same NATS account and --nats-prefix act as one server. Repeatable. Default: none (a single node)."`
	Credentials  string   `name:"nats-credentials" placeholder:"FILE" help:"File with the JWT and the key of the NATS user (.creds). Default: none."`
	CA           string   `name:"nats-ca" placeholder:"FILE" help:"PEM file with the certificates that sign the certificates of the NATS servers. Default: the system's certificates."`
	Cert         string   `name:"nats-cert" placeholder:"FILE" help:"PEM file with the client certificate for the NATS servers. Requires --nats-key. Default: none."`
	Key          string   `name:"nats-key" placeholder:"FILE" help:"PEM file with the private key of --nats-cert. Requires --nats-cert. Default: none."`
	Prefix       string   `name:"nats-prefix" default:"presence" placeholder:"presence" help:"First token of all NATS subjects, and the name of the stream: 1 to 64 of A-Z a-z 0-9 _ -. Servers with different prefixes share nothing. Default: presence."`
	NATSReplicas int      `name:"nats-replicas" default:"3" help:"Number of NATS servers that store each message and ban, 1 to 5. A single NATS server requires 1. Default: 3."`
	Node         string   `placeholder:"LABEL" help:"Label of this node in the logs of all nodes, 1 to 64 printable characters without blanks. Default: the host name."`
	ReadyNeeds   bool     `name:"ready-needs-backplane" help:"Answer 503 at /readyz whenever the node has no contact with NATS. Without this flag, the answer is 503 only before the first contact. Default: off."`
}

// check returns a usage error for flags that do not belong together.
func (f clusterFlags) check() error {
	switch {
	case (f.Cert == "") != (f.Key == ""):
		return usagef("--nats-cert and --nats-key must be set together")
	case f.NATSReplicas < 1 || f.NATSReplicas > 5:
		return usagef("--nats-replicas is 1 to 5, not %d", f.NATSReplicas)
	case f.Prefix == "" || len(f.Prefix) > 64 || strings.Trim(f.Prefix, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "":
		return usagef("--nats-prefix is 1 to 64 of A-Z a-z 0-9 _ -, not %q", f.Prefix)
	}
	for _, address := range f.NATS {
		// The value may contain a password, so the error does not.
		if u, err := url.Parse(address); err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return usagef("--nats is a URL such as nats://nats:4222, with the scheme nats, tls, ws or wss (value not shown)")
		}
	}
	for flag, file := range map[string]string{"--nats-credentials": f.Credentials, "--nats-ca": f.CA, "--nats-cert": f.Cert, "--nats-key": f.Key} {
		if _, err := os.Stat(file); file != "" && err != nil {
			return usagef("%s: %w", flag, err)
		}
	}
	if len(f.NATS) > 0 {
		return nil
	}
	for flag, value := range map[string]string{"--nats-credentials": f.Credentials, "--nats-ca": f.CA, "--nats-cert": f.Cert} {
		if value != "" {
			return usagef("%s requires --nats", flag)
		}
	}
	return nil
}

// open connects to NATS, and sets the backplane of c. Without --nats, it does nothing.
func (f clusterFlags) open(ctx context.Context, c *presence.Config, log *slog.Logger) (closeBus func(), err error) {
	if len(f.NATS) == 0 {
		return func() {}, nil
	}
	b, err := nats.Open(ctx, nats.Config{
		URLs:        f.NATS,
		Credentials: f.Credentials,
		CA:          f.CA,
		Cert:        f.Cert,
		Key:         f.Key,
		Prefix:      f.Prefix,
		Replicas:    f.NATSReplicas,
		Messages:    max(0, c.History),
		Age:         c.HistoryAge,
		Bytes:       int64(c.HistoryBytes),
		Largest:     c.LargestPublication(),
		Node:        c.Node,
		Log:         log,
	})
	if err != nil {
		return nil, f.named(err)
	}
	c.Backplane = b
	return b.Close, nil
}

// flagOfField maps the fields of [nats.Config] to their flags.
var flagOfField = map[string]string{
	"Replicas": "--nats-replicas",
	"Prefix":   "--nats-prefix",
	"Messages": "--history",
	"Age":      "--history-age",
	"Bytes":    "--history-bytes",
}

// named adds the flag to an error of the bus that another value of the flag can mend.
func (f clusterFlags) named(err error) error {
	setting := new(nats.SettingError)
	if !errors.As(err, &setting) || flagOfField[setting.Field] == "" {
		return err
	}
	flag := flagOfField[setting.Field]
	if setting.Value != nil {
		flag += fmt.Sprint(" ", setting.Value)
	}
	return fmt.Errorf("%w (%s)", err, flag)
}
