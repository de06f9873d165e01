package doctor

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// exam is the state of a run. Its fields below are set by the checks of one stage, and read by
// those of later stages.
type exam struct {
	config Config
	base   *url.URL // ends with a slash
	own    string   // origin of base
	page   string   // origin of the page; own if none is given
	name   string   // doctor-RANDOM: the rooms and the user of this run
	client *http.Client
	// busy and quiet have a connection of their own, for one stream each. With HTTP/2, the traffic
	// of another stream on the same connection would hide an idle timeout, and flush held events.
	busy, quiet *http.Client

	level need // set by service, token, stream and buffering: the checks that can run
	why   string
	first answer // of the server, set by service
	proxy proxy  // that first names

	token  string // set by token
	claims claims
	rooms  rooms

	traffic   *stream // set by stream; in rooms.busy
	sync      event   // its first sync
	heartbeat time.Duration
	until     time.Time // end of the observation
	message   event     // set by buffering: the first message that arrived at once; zero without one
	sent      time.Time // of message: the begin of its POST
	accepted  time.Time // of message: its 202
	held      bool      // set by buffering: messages do not arrive at once

	mu      sync.Mutex // guards the fields below
	cached  string     // headers of an answer from a cache
	secrets redact
}

// need is a condition of a check. Each one includes those before it.
type need int

const (
	needNothing  need = iota
	needServer        // presence answers
	needToken         // and accepts the token
	needStream        // and opens a stream
	needDelivery      // and its events arrive
)

// rooms are the rooms of a run. Without rooms of its own, all three are the same.
type rooms struct {
	busy  string // two messages per second
	quiet string // one stream and no messages
	leave string // one stream, which opens and closes
	own   bool   // quiet and leave are rooms of this run alone
	send  bool   // the token may send to busy
}

// roomsFor returns the rooms for a token. asked is the room of the configuration.
func roomsFor(c claims, asked, name string) (r rooms) {
	r = rooms{busy: name, quiet: name + "-quiet", leave: name + "-leave", own: true}
	if asked != "" {
		r.busy = asked
	}
	if !c.mayJoin(r.quiet) || !c.mayJoin(r.leave) || asked == "" && !(c.mayJoin(name) && c.maySend(name)) {
		r.own = false
		if asked == "" {
			r.busy = lobby
		}
		r.quiet, r.leave = r.busy, r.busy
	}
	r.send = c.maySend(r.busy)
	return r
}

func newExam(c Config) (*exam, error) {
	base, err := c.base()
	if err != nil {
		return nil, err
	}
	x := &exam{config: c, base: base, own: originOf(base), page: c.Origin, client: newClient(c), busy: newClient(c), quiet: newClient(c)}
	x.name = "doctor-" + strings.ToLower(rand.Text()[:10])
	if x.page == "" {
		x.page = x.own
	}
	x.secrets.add(c.Token)
	return x, nil
}

// close closes the connections.
func (x *exam) close() {
	if x.traffic != nil {
		x.traffic.close()
	}
	x.client.CloseIdleConnections()
	x.busy.CloseIdleConnections()
	x.quiet.CloseIdleConnections()
}

// admit lets the checks run that need n. why is the reason for those that need more.
func (x *exam) admit(n need, why string) { x.level, x.why = n, why }

// do sends a request without a token.
func (x *exam) do(ctx context.Context, method, path, body string, headers ...string) (answer, error) {
	a, err := send(x.client, request(ctx, x.base, method, path, body, headers...))
	x.look(a.header)
	return a, err
}

// as sends a request with the token.
func (x *exam) as(ctx context.Context, method, path, body string, headers ...string) (answer, error) {
	return x.do(ctx, method, path, body, append([]string{"Authorization", "Bearer " + x.token}, headers...)...)
}

// look records an answer from a cache. presence sends no-store with each answer.
func (x *exam) look(h http.Header) {
	var from string
	if age := h.Get("Age"); age != "" && age != "0" {
		from = "Age: " + age
	}
	for _, name := range []string{"X-Cache", "X-Cache-Status", "Cf-Cache-Status", "X-Proxy-Cache"} {
		if v := h.Get(name); strings.Contains(strings.ToLower(v), "hit") {
			from = name + ": " + v
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if from != "" && x.cached == "" {
		x.cached = cut(from)
	}
}

// short sends a short request, for arrives.
func (x *exam) short(ctx context.Context) { x.do(ctx, http.MethodGet, "healthz", "") }

// arrives is [arrives] for a stream of this server.
func (x *exam) arrives(ctx context.Context, limit time.Duration, s *stream, done func() bool) bool {
	return arrives(ctx, limit, x.short, s, done)
}

// open opens a stream of a room. query begins with & or is empty.
func (x *exam) open(ctx context.Context, client *http.Client, room, query string, headers ...string) *stream {
	headers = append([]string{"Authorization", "Bearer " + x.token, "Accept", "text/event-stream"}, headers...)
	if x.page != x.own {
		headers = append(headers, "Origin", x.page)
	}
	return open(client, request(ctx, x.base, http.MethodGet, "events?room="+url.QueryEscape(room)+query, "", headers...))
}

// post sends a message to rooms.busy. It returns when the server has accepted it, with the text
// that its event contains.
func (x *exam) post(ctx context.Context) (text string, err error) {
	text = strings.ToLower(rand.Text()[:12])
	body, _ := json.Marshal(map[string]any{"event": "doctor", "data": text})
	a, err := x.as(ctx, http.MethodPost, "messages?room="+url.QueryEscape(x.rooms.busy), string(body))
	if err == nil && a.status != http.StatusAccepted {
		err = fmt.Errorf("POST messages: %v", a)
	}
	return text, err
}

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// redact returns the verdict without secrets, and with a bounded text.
func (x *exam) redact(v Verdict) Verdict {
	x.mu.Lock()
	defer x.mu.Unlock()
	const limit = 600
	shorten := func(text string) string {
		if text = x.secrets.apply(text); len(text) > limit {
			text = strings.ToValidUTF8(text[:limit], "") + "…"
		}
		return text
	}
	v.Text = shorten(v.Text)
	for i := range v.Fix {
		v.Fix[i].Line = shorten(v.Fix[i].Line)
	}
	return v
}

// hide adds a secret for redact.
func (x *exam) hide(token string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.secrets.add(token)
}

// ms rounds a duration for a verdict.
func ms(d time.Duration) time.Duration {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond)
	case d < time.Second:
		return d.Round(time.Millisecond)
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
