package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/client"
)

// follow collects the events until Events ends. It formats each event as "name#id=data".
func follow(ctx context.Context, c *client.Client) (events []string, err error) {
	for e, err := range c.Events(ctx) {
		if err != nil {
			return events, err
		}
		events = append(events, fmt.Sprintf("%s#%s=%s", e.Name, e.ID, e.Data))
	}
	return events, nil
}

// serve responds to the n-th request with the n-th of streams, and to any further request with 404.
// It records the Last-Event-ID of each request.
func serve(lastIDs *[]string, streams ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n := len(*lastIDs)
		*lastIDs = append(*lastIDs, r.Header.Get("Last-Event-ID"))
		if n >= len(streams) {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, streams[n])
	}
}

func TestEventsResumes(t *testing.T) {
	var lastIDs []string
	c, _ := open(t, serve(&lastIDs,
		"retry: 1\n\nid: e-1\nevent: sync\ndata: {}\n\nevent: user count\ndata: 1\n\nid: e-2\ndata: 2\n",
		"event: user count\ndata: 2\n\n",
		"id: e-2\ndata: 2\n\n",
	), func(c *client.Config) { c.LastEventID = "e-0" })
	events, err := follow(t.Context(), c)
	if want := []string{"sync#e-1={}", "user count#e-1=1", "user count#e-1=2", "message#e-2=2"}; !slices.Equal(events, want) {
		t.Errorf("got %q, want %q", events, want)
	}
	if want := []string{"e-0", "e-1", "e-1", "e-2"}; !slices.Equal(lastIDs, want) {
		t.Errorf("got the Last-Event-IDs %q, want %q", lastIDs, want)
	}
	if p := new(client.Problem); !errors.As(err, &p) || p.Status != 404 {
		t.Errorf("got %v, want 404", err)
	}
}

// If a header cannot contain an id, the client sends the id in the query. Otherwise every request
// would fail.
func TestEventsResumesFromAnyID(t *testing.T) {
	var queries []string
	c, _ := open(t, func(w http.ResponseWriter, r *http.Request) {
		queries = append(queries, r.URL.RawQuery+r.Header.Get("Last-Event-ID"))
		if len(queries) > 2 {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, []string{"retry: 1\nid: a\x01b\n\n", "id: c\n\n"}[len(queries)-1])
	})
	follow(t.Context(), c)
	if want := []string{"room=doc-1", "last_event_id=a%01b&room=doc-1", "room=doc-1c"}; !slices.Equal(queries, want) {
		t.Errorf("got %q, want %q", queries, want)
	}
}

// The client waits at least one second for data, even if the server announces a shorter heartbeat
// interval.
func TestEventsBoundsTheHeartbeat(t *testing.T) {
	n, start := 0, time.Time{}
	f := func(r *http.Request) (*http.Response, error) {
		if n++; n > 1 {
			return response(404, nil, http.NoBody), nil
		}
		start = time.Now()
		body, w := pipe(r)
		go io.WriteString(w, "retry: 1\nevent: sync\ndata: {\"heartbeat\":1e-9}\n\n")
		return stream(body), nil
	}
	within(t, f, func(t *testing.T, c *client.Client) {
		follow(t.Context(), c)
		if took := time.Since(start); took < time.Second || took > 2*time.Second {
			t.Errorf("reconnected after %v, want 1 s to 2 s", took)
		}
	})
}

func TestEventsRequest(t *testing.T) {
	c, _ := open(t, func(w http.ResponseWriter, r *http.Request) {
		got := []string{r.Method, r.URL.String(), r.Header.Get("Accept"), r.Header.Get("Cache-Control"), r.Header.Get("Authorization")}
		if want := []string{"GET", "/live/events?room=doc-1", "text/event-stream", "no-cache", "Bearer secret"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if _, ok := r.Header["Last-Event-Id"]; ok {
			t.Error("got a Last-Event-ID, want none")
		}
		http.NotFound(w, r)
	})
	follow(t.Context(), c)
}

func TestEventsAfterGoodbye(t *testing.T) {
	for _, tt := range []struct {
		reason string
		ends   bool
	}{
		{"removed", true}, {"expired", true}, {"signed out", true},
		{"draining", false}, {"full", false}, {"slow", false}, {"something new", false},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			var lastIDs []string
			c, _ := open(t, serve(&lastIDs, fmt.Sprintf("retry: 1\n\nevent: goodbye\ndata: {\"reason\":%q}\n\n", tt.reason)))
			events, err := follow(t.Context(), c)
			if want := []string{fmt.Sprintf("goodbye#={\"reason\":%q}", tt.reason)}; !slices.Equal(events, want) {
				t.Errorf("got %q, want %q", events, want)
			}
			g := new(client.Goodbye)
			if ends := errors.As(err, &g); ends != tt.ends || ends && (g.Reason != tt.reason || len(lastIDs) != 1) || !ends && len(lastIDs) != 2 {
				t.Errorf("got %v after %d requests; Events must end on this goodbye: %v", err, len(lastIDs), tt.ends)
			}
		})
	}
}

func TestEventsBreakClosesTheStream(t *testing.T) {
	closed := make(chan struct{})
	c, _ := open(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(closed)
	})
	for range c.Events(t.Context()) {
		break
	}
	<-closed
}

// After a break, Events yields nothing more, even if the context has ended at the same time.
// Otherwise the range loop would panic.
func TestEventsBreakAsTheContextEnds(t *testing.T) {
	c, _ := open(t, serve(new([]string), "event: sync\ndata: {}\n\nevent: user count\ndata: 1\n\n"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range c.Events(ctx) {
		cancel()
		break
	}
}

// No error and no log line contains the token.
func TestEventsDoesNotLeakTheToken(t *testing.T) {
	n := 0
	c, log := open(t, func(w http.ResponseWriter, r *http.Request) {
		switch n++; n {
		case 1:
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "retry: 1\n\n")
		case 2:
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	_, err := follow(t.Context(), c)
	if n != 3 || strings.Contains(log.String()+err.Error(), "secret") {
		t.Errorf("got %d requests, error %v, want 3 requests and no token; log:\n%s", n, err, log)
	}
}

// transport responds to requests without a network, so that a test can control the time.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func response(status int, header http.Header, body io.ReadCloser) *http.Response {
	return &http.Response{StatusCode: status, Header: header, Body: body}
}

func stream(body io.ReadCloser) *http.Response {
	return response(200, http.Header{"Content-Type": {"text/event-stream; charset=utf-8"}}, body)
}

// within runs test in a synctest bubble, where waits take no real time. Its client uses the
// transport f.
func within(t *testing.T, f transport, test func(t *testing.T, c *client.Client), change ...func(*client.Config)) {
	synctest.Test(t, func(t *testing.T) {
		config := client.Config{URL: "http://presence.example", HTTPClient: &http.Client{Transport: f}}
		for _, f := range change {
			f(&config)
		}
		c, err := client.New(config)
		if err != nil {
			t.Fatal(err)
		}
		test(t, c)
	})
}

func TestEventsStatuses(t *testing.T) {
	for _, tt := range []struct {
		status int
		header http.Header
		waits  time.Duration // zero: Events ends
	}{
		{200, http.Header{"Content-Type": {"text/html"}}, 0},
		{204, nil, 0}, {400, nil, 0}, {401, nil, 0}, {403, nil, 0}, {404, nil, 0}, {410, nil, 0},
		{408, nil, 3 * time.Second}, {429, nil, 3 * time.Second}, {500, nil, 3 * time.Second}, {502, nil, 3 * time.Second},
		{503, http.Header{"Retry-After": {"20"}}, 20 * time.Second},
		{429, http.Header{"Retry-After": {"Sat, 01 Jan 2000 00:01:00 GMT"}}, time.Minute}, // the time in a bubble starts at 2000-01-01
		{503, http.Header{"Retry-After": {"1"}}, 3 * time.Second},
		{503, http.Header{"Retry-After": {"86400"}}, 5 * time.Minute},
		{503, http.Header{"Retry-After": {"soon"}}, 3 * time.Second},
	} {
		t.Run(fmt.Sprint(tt.status, tt.header), func(t *testing.T) {
			n := 0
			f := func(*http.Request) (*http.Response, error) {
				if n++; n > 1 {
					return response(404, nil, http.NoBody), nil
				}
				return response(tt.status, tt.header, http.NoBody), nil
			}
			within(t, f, func(t *testing.T, c *client.Client) {
				start := time.Now()
				_, err := follow(t.Context(), c)
				p, waited := new(client.Problem), time.Since(start)
				if !errors.As(err, &p) || (n == 1) != (tt.waits == 0) || n == 1 && p.Status != tt.status || waited < tt.waits || waited > tt.waits*3/2 {
					t.Errorf("got %v after %d requests and %v, want a wait of %v to %v", err, n, waited, tt.waits, tt.waits*3/2)
				}
			})
		})
	}
}

// Each failure doubles the wait, up to 30 s. Opening a stream resets the wait.
func TestEventsBacksOff(t *testing.T) {
	var at []time.Time
	f := func(*http.Request) (*http.Response, error) {
		at = append(at, time.Now())
		switch n := len(at); {
		case n == 8:
			return stream(io.NopCloser(strings.NewReader("retry: 2000\n\n"))), nil
		case n == 10:
			return response(404, nil, http.NoBody), nil
		}
		return nil, errors.New("connection refused")
	}
	within(t, f, func(t *testing.T, c *client.Client) {
		follow(t.Context(), c)
		for i, want := range []time.Duration{3, 6, 12, 24, 30, 30, 30, 2, 4} {
			want *= time.Second
			if got := at[i+1].Sub(at[i]); got < want || got > want*3/2 {
				t.Errorf("wait %d: got %v, want %v to %v", i+1, got, want, want*3/2)
			}
		}
	})
}

// The client waits at least 100 ms and at most 5 minutes before it reconnects, even if the retry
// field of the server is lower or higher.
func TestEventsBoundsTheWait(t *testing.T) {
	n := 0
	f := func(*http.Request) (*http.Response, error) {
		if n++; n > 2 {
			return response(404, nil, http.NoBody), nil
		}
		return stream(io.NopCloser(strings.NewReader([]string{"", "retry: 0\n\n", "retry: 999999999\n\n"}[n]))), nil
	}
	within(t, f, func(t *testing.T, c *client.Client) {
		start := time.Now()
		follow(t.Context(), c)
		if got := time.Since(start); got < 5*time.Minute+100*time.Millisecond || got > 8*time.Minute {
			t.Errorf("waited %v in total, want 5m0.1s to 8m", got)
		}
	})
}

// pipe returns a body that ends with its request, like the body of a real connection.
func pipe(r *http.Request) (*io.PipeReader, *io.PipeWriter) {
	body, w := io.Pipe()
	context.AfterFunc(r.Context(), func() { body.CloseWithError(r.Context().Err()) })
	return body, w
}

func TestEventsDetectsSilence(t *testing.T) {
	const pings = 100
	var at []time.Time
	f := func(r *http.Request) (*http.Response, error) {
		switch at = append(at, time.Now()); len(at) {
		case 1: // never responds
			<-r.Context().Done()
			return nil, r.Context().Err()
		case 2: // sends pings, then nothing
			body, w := pipe(r)
			go func() {
				io.WriteString(w, "retry: 1000\nevent: sync\ndata: {\"heartbeat\":60}\n\n")
				for range pings {
					<-time.After(time.Minute)
					io.WriteString(w, "event: ping\ndata: {}\n\n")
				}
			}()
			return stream(body), nil
		}
		return response(404, nil, http.NoBody), nil
	}
	within(t, f, func(t *testing.T, c *client.Client) {
		follow(t.Context(), c)
		for i, want := range []time.Duration{37500*time.Millisecond + 3*time.Second, pings*time.Minute + 150*time.Second + time.Second} {
			if got := at[i+1].Sub(at[i]); got < want || got > want+1500*time.Millisecond {
				t.Errorf("time to the request after connection %d: got %v, want %v to %v", i+1, got, want, want+1500*time.Millisecond)
			}
		}
	})
}

// The client does not treat the server as silent while the receiver is slow.
func TestEventsAllowsASlowReceiver(t *testing.T) {
	n := 0
	f := func(r *http.Request) (*http.Response, error) {
		n++
		body, w := pipe(r)
		go func() {
			for range 3 {
				io.WriteString(w, "data: 1\n\n")
			}
			<-r.Context().Done()
		}()
		return stream(body), nil
	}
	within(t, f, func(t *testing.T, c *client.Client) {
		received := 0
		for range c.Events(t.Context()) {
			if received++; received == 3 {
				break
			}
			<-time.After(time.Hour)
		}
		if n != 1 {
			t.Errorf("got %d connections, want 1", n)
		}
	})
}

func TestEventsEndsWithItsContext(t *testing.T) {
	f := func(r *http.Request) (*http.Response, error) {
		body, _ := pipe(r)
		return stream(body), nil
	}
	for _, after := range []time.Duration{0, time.Second, 38 * time.Second} { // before the stream opens, while it is open, before the reconnect
		within(t, f, func(t *testing.T, c *client.Client) {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			start := time.Now()
			if _, err := follow(ctx, c); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != after {
				t.Errorf("got %v after %v, want the deadline after %v", err, time.Since(start), after)
			}
		})
	}
}

// The client accepts a Content-Type if Web Platform Tests require it (eventsource/format-mime-* and
// format-utf-8). The table adds a few more cases.
func TestEventsFormat(t *testing.T) {
	for _, tt := range []struct {
		name, kind string
		ok         bool
	}{
		{"format-mime-bogus", "x bogus", false},
		{"format-mime-trailing-semicolon", "text/event-stream;", true},
		{"format-mime-valid-bogus", "text/x-bogus", false},
		{"format-utf-8", "text/event-stream;charset=windows-1252", true},
		{"upper case", "Text/Event-Stream ; Charset=UTF-8", true},
		{"a parameter twice", "text/event-stream; charset=utf-8; charset=utf-8", true},
		{"a parameter without a value", "text/event-stream; charset", true},
		{"a longer name", "text/event-streams", false},
		{"empty", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			requests := 0
			c, _ := open(t, func(w http.ResponseWriter, r *http.Request) {
				if requests++; requests > 1 {
					http.NotFound(w, r)
					return
				}
				w.Header()["Content-Type"] = []string{tt.kind}
				io.WriteString(w, "retry: 1\ndata:ok…\n\n")
			})
			events, err := follow(t.Context(), c)
			want, status := []string(nil), http.StatusOK
			if tt.ok {
				want, status = []string{"message#=ok…"}, http.StatusNotFound
			}
			if p := new(client.Problem); !slices.Equal(events, want) || !errors.As(err, &p) || p.Status != status {
				t.Errorf("got %q and %v, want %q and %d", events, err, want, status)
			}
		})
	}
}

// The client sends the Last-Event-ID that Web Platform Tests require of the second request:
// eventsource/format-field-id, format-field-id-2, format-field-id-null and
// format-data-before-final-empty-line.
func TestEventsFormatID(t *testing.T) {
	for _, tt := range []struct{ name, stream, want string }{
		{"format-field-id", "id: …\nretry: 1\ndata: hello\n\n", "…"},
		{"format-field-id-null", "id: x\x00x\nretry: 1\ndata: hello\n\n", ""},
		{"format-data-before-final-empty-line", "retry: 1\ndata: hello\n\nid: test\ndata: test2\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var lastIDs []string
			c, _ := open(t, serve(&lastIDs, tt.stream, "data: a\n\ndata: b\n\n"))
			events, _ := follow(t.Context(), c)
			if want := []string{"message#" + tt.want + "=hello", "message#" + tt.want + "=a", "message#" + tt.want + "=b"}; !slices.Equal(events, want) {
				t.Errorf("got %q, want %q", events, want)
			}
			if want := []string{"", tt.want, tt.want}; !slices.Equal(lastIDs, want) {
				t.Errorf("got the Last-Event-IDs %q, want %q", lastIDs, want)
			}
		})
	}
}
