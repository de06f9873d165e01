package nats

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"example.com/presence/pkg/presence/internal/redact"
)

// Config holds the settings of a [Bus]. The prefix, the replicas and the limits of the log must be
// the same on all nodes.
type Config struct {
	// URLs are the addresses of NATS servers, such as nats://10.0.0.1:4222 or tls://nats:4222. A
	// URL may contain a user and a password. The bus uses one server at a time, and finds the other
	// servers of the cluster by itself. At least one is required.
	URLs []string

	// Credentials is a file with the JWT and the key of a user (nsc). Default: none.
	Credentials string
	// CA is a PEM file with the certificates that sign the certificate of the server. Default: the
	// system's certificates.
	CA string
	// Cert and Key are PEM files with a client certificate and its key. Default: none.
	Cert, Key string

	// Prefix is the first token of all subjects, and the name of the stream: 1 to 64 of A-Z, a-z,
	// 0-9, "_" and "-". Servers with different prefixes share nothing. Default: "presence".
	Prefix string

	// Replicas is the number of NATS servers that store each message, 1 to 5. A single server
	// requires 1. Default: 3.
	Replicas int

	// Messages is the maximum number of entries per room. 0 means 1, because a log must know its
	// last entry.
	Messages int
	// Age is the maximum age of an entry. Required.
	Age time.Duration
	// Bytes is the maximum size of all entries, with their subjects and headers. Required.
	Bytes int64

	// Largest is the size of the largest entry or publication, in bytes. Open fails if the NATS
	// server does not accept a payload of this size. Default: 0, which every server accepts.
	Largest int

	// Node is the name of the connection, for the NATS operator. Default: empty.
	Node string

	// Log receives a line for each change of the contact. Default: slog.Default().
	Log *slog.Logger

	now func() time.Time // the clock of this node; tests replace it
}

// DefaultPrefix and DefaultReplicas are the defaults of Config.
const (
	DefaultPrefix   = "presence"
	DefaultReplicas = 3
)

const (
	dialTime  = time.Second     // timeout of a connection attempt
	writeTime = 2 * time.Second // timeout of a write to the server
	pingTime  = time.Second     // between two pings; two unanswered ones end a connection
	retryTime = 250 * time.Millisecond
)

func (c Config) withDefaults() (Config, error) {
	c.Prefix = cmp.Or(c.Prefix, DefaultPrefix)
	c.Replicas = cmp.Or(c.Replicas, DefaultReplicas)
	c.Messages = max(c.Messages, 1)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	c.Log = redact.Logger(c.Log) // the name of a room can be a token
	if c.now == nil {
		c.now = time.Now
	}
	switch {
	case len(c.URLs) == 0:
		return c, errors.New("no URL of a NATS server")
	case c.checkURLs() != nil:
		return c, c.checkURLs()
	case len(c.Prefix) > 64 || strings.ContainsFunc(c.Prefix, func(r rune) bool { return r > 127 || !isPlain(byte(r)) }):
		return c, fmt.Errorf("prefix is 1 to 64 of A-Z, a-z, 0-9, _ and -, not %q", c.Prefix)
	case c.Replicas < 1 || c.Replicas > 5:
		return c, fmt.Errorf("replicas are 1 to 5, not %d", c.Replicas)
	case c.Age < time.Second:
		return c, fmt.Errorf("age of entries is at least 1s, not %v", c.Age)
	case c.Bytes < 1:
		return c, fmt.Errorf("size of the log is at least 1 byte, not %d", c.Bytes)
	case (c.Cert == "") != (c.Key == ""):
		return c, errors.New("client certificate and key belong together")
	}
	return c, nil
}

func (c Config) checkURLs() error {
	for i, address := range c.URLs {
		if err := CheckURL(address); err != nil {
			return fmt.Errorf("URL %d of %d: %w", i+1, len(c.URLs), err)
		}
	}
	return nil
}

// CheckURL returns an error if the text cannot be one of Config.URLs. The text may contain a
// password, so the error does not contain the text.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
		return errors.New("must be like nats://nats:4222, with the scheme nats, tls, ws or wss (value not shown)")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("must end after the port; in a password, write @ / ? # and % as %40 %2F %3F %23 and %25 (value not shown)")
	}
	return nil
}

// options returns the options of the connection. The buffer for publications while not connected
// is off: the hub repeats its frames, and an old frame would be applied late.
func (c Config) options() []nats.Option {
	options := []nats.Option{
		func(o *nats.Options) error { o.Servers = c.URLs; return nil }, // a list in one text is split at each comma
		nats.Name(strings.TrimSpace("presence " + c.Node)),
		nats.CustomInboxPrefix(subjects{c.Prefix}.inbox()),
		nats.Timeout(dialTime),
		nats.FlusherTimeout(writeTime),
		nats.ReconnectOnFlusherError(),
		nats.PingInterval(pingTime),
		nats.MaxPingsOutstanding(2),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(retryTime),
		nats.ReconnectJitter(retryTime, retryTime),
		nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(),
	}
	if c.Credentials != "" {
		options = append(options, nats.UserCredentials(c.Credentials))
	}
	if c.CA != "" {
		options = append(options, nats.RootCAs(c.CA))
	}
	if c.Cert != "" {
		options = append(options, nats.ClientCert(c.Cert, c.Key))
	}
	return options
}
