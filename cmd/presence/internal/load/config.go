package load

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Target is a kind of server: the URLs and credentials of its requests, and the meaning of its
// events.
type Target string

// The targets. docs/benchmark.md describes the configuration that each server needs.
const (
	// Presence is this project's server.
	Presence Target = "presence"
	// Mercure is the Mercure hub (https://mercure.rocks/spec): a room is a topic.
	Mercure Target = "mercure"
	// Centrifugo is Centrifugo with the transport uni_sse and its HTTP API: a room is a channel.
	Centrifugo Target = "centrifugo"
	// Nchan is the nginx module with a subscriber location /sub/ROOM and a publisher location
	// /pub/ROOM.
	Nchan Target = "nchan"
	// Generic is any server of event streams that sends the body of a POST in the data of an event.
	Generic Target = "generic"
)

// Targets are all targets.
var Targets = []Target{Presence, Mercure, Centrifugo, Nchan, Generic}

// Config holds the settings of a run.
type Config struct {
	// Target is the kind of the server. Default: [Presence].
	Target Target

	// URL is the base URL of the server: http or https, a host, and optionally a mount path.
	URL string

	// Socket is the path of a Unix socket to connect to, instead of the host of URL. Default: none.
	Socket string

	// StreamURL and PublishURL replace the URLs of the target, for a stream and for a message.
	// "{room}" in them stands for the room's name. [Generic] requires StreamURL, and PublishURL if
	// Rate is not 0.
	StreamURL, PublishURL string

	// Clients is the number of clients, at least 1. Client i is in room i modulo Rooms.
	Clients int

	// Rooms is the number of rooms, at least 1. They are named Room, or Room-0, Room-1 and so on if
	// there are several.
	Rooms int
	Room  string

	// Tokens are the credentials of the clients: client i has that with index i modulo their
	// number. Empty means none.
	Tokens []string

	// SenderTokens are the credentials of the messages, used in turn. Empty means none.
	SenderTokens []string

	// Ramp is the time in which the clients connect, at a steady rate. 0 means as fast as the
	// server answers.
	Ramp time.Duration

	// Duration is the length of the steady phase.
	Duration time.Duration

	// Rate is the number of messages per second over all rooms, and Size the length of a message's
	// text in bytes, at least [MinSize].
	Rate float64
	Size int

	// Churn is the number of connections per second that are closed and opened again, over all
	// clients.
	Churn float64

	// Slow and Stopped are the shares of the clients, from 0 to 1, that read SlowRate bytes per
	// second and that read nothing at all after the ramp phase.
	Slow, Stopped float64
	SlowRate      int

	// PIDs are processes on this machine whose CPU time and memory are measured. Linux only.
	PIDs []int

	// Transport makes the requests that send messages. It must connect to the same server as the
	// streams. Run closes its idle connections. Default: a copy of [http.DefaultTransport].
	Transport *http.Transport

	// Progress is called about once per second, and at the end of each phase, unless it is nil.
	Progress func(Progress)
}

// Progress is the state of a run.
type Progress struct {
	Phase      string        // ramp, steady, drain or settle
	Elapsed    time.Duration // since the start of the run
	Share      float64       // finished part of the run, from 0 to 1, as an estimate
	Connected  int           // clients with a stream
	Deliveries int64
	Lost       int64         // only those of streams that began anew; the report has all
	P99        time.Duration // send to receipt
}

// MinSize is the minimum of [Config.Size].
const MinSize = 64

// Limits of [Config.Rate] and [Config.Churn]. The times between the events of a smaller rate would
// exceed a [time.Duration].
const (
	minRate = 0.0001
	maxRate = 1_000_000
)

// maxInFlight is the maximum number of clients that connect at the same time, in all loops. Each
// has no response yet. A listening socket refuses more than a few hundred at the same time on many
// systems.
const maxInFlight = 256

// Time limits. A server that exceeds one counts as failed.
const (
	// openTimeout limits the time from connect(2) to the response header, and, if the target sends
	// user counts, to the first one.
	openTimeout = 30 * time.Second
	// landTimeout limits the time from the last connect to the end of the ramp phase.
	landTimeout = openTimeout + 5*time.Second
	// sendTimeout limits a request that sends a message.
	sendTimeout = 10 * time.Second
	// drainTimeout limits the drain phase.
	drainTimeout = time.Minute
	// drainQuiet ends the drain phase, if no message arrives and no client connects for so long. It
	// is longer than the usual time until a client connects again.
	drainQuiet = 5 * time.Second
	// settleTimeout limits the check of the user counts.
	settleTimeout = 5 * time.Second
)

// slowBuffer is the size of the receive buffer of a client that reads slowly or stops. By default,
// the kernel would receive up to 6 MiB for it.
const slowBuffer = 16 << 10

// firstRetry is the time before a client connects again, if the server has sent no retry field.
const firstRetry = 3 * time.Second

// A setting that is out of range causes a SettingError.
type SettingError struct {
	Field  string // name of the Config field
	Reason string // text after the name
}

// Error returns the field and the reason.
func (e *SettingError) Error() string { return "load: " + e.Field + " " + e.Reason }

// check returns a SettingError for the first invalid setting.
func (c *Config) check() error {
	bad := func(field, format string, values ...any) error {
		return &SettingError{field, fmt.Sprintf(format, values...)}
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		return bad("URL", "%v", err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return bad("URL", "is http://HOST or https://HOST, not %q", c.URL)
	case u.User != nil:
		return bad("URL", "has no user, as servers of event streams expect tokens")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return bad("URL", "has no query and no fragment, but is %q", c.URL)
	case c.Clients < 1:
		return bad("Clients", "is at least 1, not %d", c.Clients)
	case c.Rooms < 1 || c.Rooms > c.Clients:
		return bad("Rooms", "is 1 to the number of clients, %d, not %d", c.Clients, c.Rooms)
	case c.Ramp < 0:
		return bad("Ramp", "is at least 0s, not %v", c.Ramp)
	case c.Duration < 0:
		return bad("Duration", "is at least 0s, not %v", c.Duration)
	case c.Rate != 0 && !(c.Rate >= minRate && c.Rate <= maxRate):
		return bad("Rate", "is 0, or %v to %v, not %v", minRate, maxRate, c.Rate)
	case c.Churn != 0 && !(c.Churn >= minRate && c.Churn <= maxRate):
		return bad("Churn", "is 0, or %v to %v, not %v", minRate, maxRate, c.Churn)
	case c.Size < MinSize || c.Size > 16<<20:
		return bad("Size", "is %d to %d, not %d", MinSize, 16<<20, c.Size)
	case !(c.Slow >= 0 && c.Slow <= 1):
		return bad("Slow", "is 0 to 1, not %v", c.Slow)
	case !(c.Stopped >= 0 && c.Stopped <= 1-c.Slow):
		return bad("Stopped", "is 0 to 1, together with the slow clients, not %v", c.Stopped)
	case c.SlowRate < 10:
		return bad("SlowRate", "is at least 10, not %d", c.SlowRate)
	}
	if _, err := usageOf(c.PIDs); err != nil {
		return bad("PIDs", "are processes on this machine: %v", err)
	}
	return c.checkTarget()
}

// checkTarget returns a SettingError for the first invalid setting of the target.
func (c *Config) checkTarget() error {
	t := c.Target
	switch {
	case !slices.Contains(Targets, t):
		return &SettingError{"Target", fmt.Sprintf("is presence, mercure, centrifugo, nchan or generic, not %q", t)}
	case t == Generic && c.StreamURL == "":
		return &SettingError{"StreamURL", "is required for the target generic"}
	case t == Generic && c.PublishURL == "" && c.Rate > 0:
		return &SettingError{"PublishURL", "is required for the target generic, unless the rate is 0"}
	}
	for field, template := range map[string]string{"StreamURL": c.StreamURL, "PublishURL": c.PublishURL} {
		u, err := url.Parse(strings.ReplaceAll(template, "{room}", "room"))
		base, _ := url.Parse(c.URL)
		switch {
		case template == "":
		case err != nil:
			return &SettingError{field, err.Error()}
		case u.Scheme != base.Scheme || u.Host != base.Host:
			return &SettingError{field, fmt.Sprintf("begins with %s://%s, not %q", base.Scheme, base.Host, template)}
		}
	}
	return nil
}

// roomName returns the name of the room with this index.
func (c *Config) roomName(index int) string {
	if c.Rooms == 1 {
		return c.Room
	}
	return fmt.Sprintf("%s-%d", c.Room, index)
}
