package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/nats-io/nkeys"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/nats"
)

// clusterFlags connect several nodes through NATS.
type clusterFlags struct {
	NATS         []string `name:"nats" placeholder:"URL" help:"NATS server that connects this node with the others, such as nats://nats:4222 or tls://user:password@nats:4222. All nodes with the same NATS account and --nats-prefix act as one server. A password in the URL is visible in the process list: use PRESENCE_NATS or --nats-credentials. Repeatable, for the servers of one NATS cluster. Default: none (a single node)."`
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
	for i, address := range f.NATS {
		f.NATS[i] = strings.TrimSpace(address)
		if err := nats.CheckURL(f.NATS[i]); err != nil {
			return usagef("--nats: URL %d of %d: %w", i+1, len(f.NATS), err)
		}
	}
	if len(f.NATS) > 0 {
		return f.checkFiles()
	}
	for _, other := range []struct {
		flag  string
		isSet bool
	}{
		{"--nats-credentials", f.Credentials != ""},
		{"--nats-ca", f.CA != ""},
		{"--nats-cert", f.Cert != ""},
		{"--nats-prefix", f.Prefix != nats.DefaultPrefix},
		{"--nats-replicas", f.NATSReplicas != nats.DefaultReplicas},
		{"--ready-needs-backplane", f.ReadyNeeds},
		{"--node", f.Node != ""},
	} {
		if other.isSet {
			return usagef("%s requires --nats", other.flag)
		}
	}
	return nil
}

// checkFiles returns a usage error for a file that cannot be used.
func (f clusterFlags) checkFiles() error {
	if f.Credentials != "" {
		text, err := os.ReadFile(f.Credentials)
		if err == nil {
			_, err = nkeys.ParseDecoratedUserNKey(text)
		}
		if err != nil {
			return usagef("--nats-credentials: %w", err)
		}
	}
	if f.CA != "" {
		text, err := os.ReadFile(f.CA)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(text) {
			err = fmt.Errorf("%s contains no certificate in PEM format", f.CA)
		}
		if err != nil {
			return usagef("--nats-ca: %w", err)
		}
	}
	if f.Cert != "" {
		if _, err := tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
			return usagef("--nats-cert and --nats-key: %w", err)
		}
	}
	return nil
}

// config returns the settings of the bus for a server with the configuration c.
func (f clusterFlags) config(c presence.Config, log *slog.Logger) nats.Config {
	return nats.Config{
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
	}
}

// verify checks that the NATS servers can be used with c. Without --nats, it does nothing.
func (f clusterFlags) verify(ctx context.Context, c presence.Config, log *slog.Logger) error {
	if len(f.NATS) == 0 {
		return nil
	}
	return f.named(nats.Check(ctx, f.config(c, log)))
}

// open connects to NATS, and sets the backplane of c. Without --nats, it does nothing.
func (f clusterFlags) open(ctx context.Context, c *presence.Config, log *slog.Logger) (closeBus func(), err error) {
	if len(f.NATS) == 0 {
		return func() {}, nil
	}
	b, err := nats.Open(ctx, f.config(*c, log))
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
	if setting.Value == nil {
		return fmt.Errorf("%w (%s)", err, flagOfField[setting.Field])
	}
	return fmt.Errorf("%w; or start this node with %s %v", err, flagOfField[setting.Field], setting.Value)
}
