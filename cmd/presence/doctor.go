package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"example.com/presence/cmd/presence/internal/doctor"
)

// examine is the command that finds the faults between clients and a server.
type examine struct {
	URL     string        `arg:"" help:"Base URL of the server as its clients use it, including any mount path, such as https://presence.example.com."`
	Token   string        `placeholder:"TOKEN" help:"Token of a user. It takes precedence over a secret. A token on the command line is visible in the process list. Default: none, so a secret signs a token, or else the command signs in as a guest if the server has --dev."`
	Room    string        `placeholder:"ROOM" help:"Room that the token may join. The command sends messages to it. Default: a room of its own, doctor-RANDOM, or lobby if the token may not join that."`
	Origin  string        `placeholder:"ORIGIN" help:"Origin of the page that uses the server, such as https://app.example.com. Default: that of the URL."`
	Watch   time.Duration `default:"40s" help:"Time for which streams are observed, 1s to 1h. It must exceed the timeouts to find. Default: 40s."`
	CA      string        `name:"ca" placeholder:"FILE" help:"PEM file with certificates that sign the certificate of the server, beside those of the system. Default: none."`
	Connect string        `placeholder:"ADDR" help:"Address (HOST:PORT) to connect to in place of that in the URL, such as one of several proxies. Default: none."`
	JSON    bool          `name:"json" help:"Print one JSON document instead of lines. Default: off."`

	secretFlags `group:"Signature (a secret of the server, in place of --token)"`
}

// Help returns the examples that --help prints.
func (examine) Help() string {
	return "Examples:\n\n" +
		"    presence doctor http://127.0.0.1:8080\n" +
		"    presence doctor https://presence.example.com --jwt-secret-file ./secret --origin https://app.example.com"
}

// Run prints a line per check as soon as its result is known. It returns an error if there is a
// fault.
func (c *examine) Run(ctx context.Context, p *process) error {
	config, err := c.config()
	if err != nil {
		return err
	}
	var failed error // of standard output
	verdicts, err := doctor.Run(ctx, config, func(v doctor.Verdict) {
		if !c.JSON && failed == nil {
			_, failed = fmt.Fprintln(p.stdout, printable(v.String()))
		}
	})
	if bad := new(doctor.ConfigError); errors.As(err, &bad) {
		if bad.Field == "URL" {
			return usagef("URL %s", bad.Reason)
		}
		return usagef("--%s %s", strings.ToLower(bad.Field), bad.Reason)
	}
	if err != nil {
		return fmt.Errorf("stopped before all checks had run: %w", err)
	}
	numbers := map[doctor.Level]int{}
	for _, v := range verdicts {
		numbers[v.Level]++
	}
	faults := numbers[doctor.Fault]
	if c.JSON {
		encoder := json.NewEncoder(p.stdout)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		failed = encoder.Encode(map[string]any{"url": config.URL, "faults": faults, "verdicts": verdicts})
	}
	switch {
	case failed != nil:
		return failed
	case faults > 0:
		return fmt.Errorf("faults found (%d of %d checks)", faults, len(verdicts))
	}
	_, err = fmt.Fprintf(p.stderr, "no fault (%d checks, of which %d have a note)\n", len(verdicts), numbers[doctor.Note])
	return err
}

// config returns the settings of the run. An error is that of a flag.
func (c *examine) config() (doctor.Config, error) {
	config := doctor.Config{URL: c.URL, Token: c.Token, Issuer: c.JWTIssuer, Audience: c.JWTAudience,
		Room: c.Room, Origin: c.Origin, Watch: c.Watch, Connect: c.Connect}
	if c.Token == "" && c.hasSecret() {
		_, secret, err := c.secrets(readLimited)
		if err != nil {
			return config, err
		}
		config.Secret = secret
	}
	if c.CA == "" {
		return config, nil
	}
	pem, err := readLimited(c.CA)
	if err != nil {
		return config, fileError("--ca", c.CA, err)
	}
	if config.RootCAs, err = x509.SystemCertPool(); err != nil {
		config.RootCAs = x509.NewCertPool()
	}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return config, usagef("--ca: %s: no PEM certificate", c.CA)
	}
	return config, nil
}
