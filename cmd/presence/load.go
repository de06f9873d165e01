package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"example.com/presence/cmd/presence/internal/load"
)

// loadTest is the command that opens many connections and reports.
type loadTest struct {
	URL    string `name:"url" default:"http://127.0.0.1:8080" placeholder:"URL" help:"Base URL of the server, including any mount path, or unix:PATH of its Unix socket. Default: http://127.0.0.1:8080."`
	Target string `default:"presence" placeholder:"KIND" help:"Kind of the server: presence, mercure, centrifugo, nchan or generic. Default: presence."`

	Clients  int           `default:"100" placeholder:"N" help:"Number of clients. Default: 100."`
	Rooms    int           `default:"1" placeholder:"N" help:"Number of rooms, of equal size. Default: 1."`
	Room     string        `placeholder:"NAME" help:"Name of the room, or the beginning of the names. No other client should be in it, because the user counts are compared. Default: load- and a random number."`
	Ramp     time.Duration `default:"5s" help:"Time in which the clients connect. 0s means as fast as possible. Default: 5s."`
	Duration time.Duration `default:"30s" help:"Time with messages after all clients have connected. Default: 30s."`
	Rate     float64       `default:"10" placeholder:"N" help:"Messages per second over all rooms, at most one at a time per room. Default: 10."`
	Size     size          `default:"100" range:"64 to 16MiB" placeholder:"BYTES" help:"Size of a message's text. Default: 100."`
	Churn    float64       `default:"0" placeholder:"N" help:"Connections per second that end and resume. Default: 0."`
	Slow     float64       `default:"0" placeholder:"SHARE" help:"Share of the clients that read slowly, 0 to 1. Default: 0."`
	SlowRate size          `default:"64KiB" range:"10 to 1GiB" placeholder:"BYTES" help:"Bytes per second that a slow client reads. Default: 64KiB."`
	Stopped  float64       `default:"0" placeholder:"SHARE" help:"Share of the clients that stop reading until the end, 0 to 1. Default: 0."`

	StreamURL  string `name:"stream-url" placeholder:"URL" help:"URL of a room's stream, in which {room} stands for the room. Default: that of the target."`
	PublishURL string `name:"publish-url" placeholder:"URL" help:"URL of a room's messages, in which {room} stands for the room. Default: that of the target."`
	PID        []int  `name:"pid" placeholder:"PID" help:"Process on this machine whose CPU time and memory are measured, usually the server. Repeatable. Linux only. Default: none."`
	JSON       bool   `name:"json" help:"Print the result as JSON. Default: off."`

	loadTokens `group:"Tokens (by default, clients sign in as guests if the server allows it)"`
}

// Help returns the example that --help prints.
func (loadTest) Help() string {
	return "The exit status is 1 unless each client was connected at the end, messages were accepted (with --rate above 0), each arrived once and in order, and each user count was right. A client that received a reset need not have the messages before it.\n\n" +
		"Example:\n\n    presence load --jwt-secret-file ./secret --clients 10000 --rate 20 --churn 50"
}

// Run carries out the load, and prints a table, or JSON.
func (c *loadTest) Run(ctx context.Context, p *process) error {
	config, err := c.config(ctx)
	if err != nil {
		return err
	}
	shown := newProgress(p.stderr)
	config.Progress = shown.show
	report, err := load.Run(ctx, config)
	shown.end()
	if bad := new(load.SettingError); errors.As(err, &bad) {
		return usagef("%s %s", loadFlag(bad.Field), bad.Reason)
	} else if err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(p.stdout)
		out.SetIndent("", "  ")
		err = out.Encode(report)
	} else {
		err = printReport(p.stdout, report)
	}
	return errors.Join(err, report.Err())
}

// loadFlag returns the flag that sets a field of [load.Config].
func loadFlag(field string) string {
	switch field {
	case "URL":
		return "--url"
	case "PIDs":
		return "--pid"
	}
	words := strings.Builder{}
	for i, r := range strings.Replace(field, "URL", "Url", 1) {
		if i > 0 && r >= 'A' && r <= 'Z' {
			words.WriteByte('-')
		}
		words.WriteRune(r)
	}
	return "--" + strings.ToLower(words.String())
}

func (c *loadTest) config(ctx context.Context) (config load.Config, err error) {
	base, via := transport(c.URL)
	via.DisableKeepAlives, via.Proxy = false, nil    // the streams use no proxy either
	via.MaxConnsPerHost = max(1, min(c.Rooms, 1000)) // each room sends one message at a time
	via.MaxIdleConns, via.MaxIdleConnsPerHost = via.MaxConnsPerHost, via.MaxConnsPerHost
	config = load.Config{
		Target: load.Target(c.Target), URL: base, StreamURL: c.StreamURL, PublishURL: c.PublishURL,
		Clients: c.Clients, Rooms: c.Rooms, Room: c.Room,
		Ramp: c.Ramp, Duration: c.Duration, Rate: c.Rate, Size: int(c.Size),
		Churn: c.Churn, Slow: c.Slow, SlowRate: int(c.SlowRate), Stopped: c.Stopped,
		PIDs: c.PID, Transport: via,
	}
	if path, ok := strings.CutPrefix(c.URL, unixPrefix); ok {
		if path == "" {
			return config, usagef("--url: unix: requires the path")
		}
		config.Socket = path
	}
	if limit := int(openFiles()); limit > 0 {
		if most := limit - loadFiles - via.MaxConnsPerHost; c.Clients > most {
			return config, usagef("--clients is at most %d with the open-file limit %d (ulimit -n), not %d", most, limit, c.Clients)
		}
	}
	err = c.loadTokens.set(ctx, &config)
	return config, err
}

// loadFiles is the number of open files that a load needs besides those of its clients.
const loadFiles = 64
