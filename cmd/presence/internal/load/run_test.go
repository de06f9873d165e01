package load

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "32") // the tests wait most of the time
	goleak.VerifyTestMain(m)
}

// TestRun runs a load against a server with one fault each, over plain HTTP (epoll on Linux) and
// over TLS (a goroutine per connection). Client 3 of 8 is the one with the fault.
func TestRun(t *testing.T) {
	odd := func(fault func(s *fakeStream, number int, frame string) ([]string, bool)) faults {
		return faults{deliver: func(s *fakeStream, number int, frame string) ([]string, bool) {
			if s.token == "3" {
				return fault(s, number, frame)
			}
			return []string{frame}, false
		}}
	}
	tests := []struct {
		name   string
		clean  bool // the report has no error
		faults func() faults
		check  func(t *testing.T, f *fake, r *Report)
	}{
		{"exact", true, func() faults { return faults{} }, func(t *testing.T, _ *fake, r *Report) {
			equal(t, "deliveries", r.Deliveries, 4*r.Accepted)
			equal(t, "counts", *r.Counts, Counts{Right: 8, Least: 4, Most: 4})
			equal(t, "times to open", r.JoinToOpen.Number, 8)
			equal(t, "times to count", r.JoinToCount.Number, 8)
			equal(t, "failed and ended", len(r.Failed)+len(r.Ended)+len(r.Refused), 0)
		}},
		{"large snapshot", true, func() faults { return faults{sync: strings.Repeat("x", 300<<10)} }, func(t *testing.T, _ *fake, r *Report) {
			equal(t, "deliveries", r.Deliveries, 4*r.Accepted)
			equal(t, "times to count", r.JoinToCount.Number, 8)
		}},
		{"lost", false, func() faults {
			return odd(func(_ *fakeStream, n int, frame string) ([]string, bool) {
				if n == 2 || n == 4 {
					return nil, false
				}
				return []string{frame}, false
			})
		}, func(t *testing.T, _ *fake, r *Report) { equal(t, "lost", r.Lost, 2) }},
		{"lost at the end", false, func() faults {
			return odd(func(_ *fakeStream, n int, frame string) ([]string, bool) {
				if n > 2 {
					return nil, false
				}
				return []string{frame}, false
			})
		}, func(t *testing.T, f *fake, r *Report) { equal(t, "lost", int(r.Lost), f.sentTo("-1")-2) }},
		{"duplicated", false, func() faults {
			return odd(func(_ *fakeStream, n int, frame string) ([]string, bool) {
				if n == 3 {
					return []string{frame, frame, frame}, false
				}
				return []string{frame}, false
			})
		}, func(t *testing.T, _ *fake, r *Report) { equal(t, "duplicated", r.Duplicated, 2) }},
		{"out of order", false, func() faults {
			kept := ""
			return odd(func(_ *fakeStream, n int, frame string) ([]string, bool) {
				switch n {
				case 3:
					kept = frame
					return nil, false
				case 4:
					return []string{frame, kept}, false
				}
				return []string{frame}, false
			})
		}, func(t *testing.T, _ *fake, r *Report) { equal(t, "out of order", r.OutOfOrder, 1) }},
		{"message of another room", false, func() faults {
			return odd(func(s *fakeStream, n int, frame string) ([]string, bool) {
				if n == 3 { // client 3 is in room 1
					return []string{frame, strings.Replace(frame, ".1.", ".0.", 1)}, false
				}
				return []string{frame}, false
			})
		}, func(t *testing.T, _ *fake, r *Report) { equal(t, "other rooms", r.Strays, 1) }},
		{"wrong count", false, func() faults {
			return faults{count: func(s *fakeStream, n int) int {
				if s.token == "3" {
					return n + 1
				}
				return n
			}}
		}, func(t *testing.T, _ *fake, r *Report) {
			equal(t, "counts", *r.Counts, Counts{Right: 7, Wrong: 1, Least: 4, Most: 5})
		}},
		{"stream ends, and resumes", true, func() faults {
			return odd(func(s *fakeStream, n int, frame string) ([]string, bool) {
				return []string{frame, "data: {\"reason\":\"slow\"}\nevent: goodbye\n\n"}, n == 3 && s.count == 1
			})
		}, func(t *testing.T, _ *fake, r *Report) {
			equal(t, "ended", fmt.Sprint(r.Ended), "map[goodbye slow:1]")
			equal(t, "resumed", r.Resumed, 1)
			equal(t, "connections", r.Connections, 9)
		}},
		{"stream ends within an event, and resumes", true, func() faults {
			return odd(func(s *fakeStream, n int, frame string) ([]string, bool) {
				if n == 3 && s.count == 1 {
					return []string{strings.TrimSuffix(frame, "event: message\n\n")}, true
				}
				return []string{frame}, false
			})
		}, func(t *testing.T, _ *fake, r *Report) {
			equal(t, "resumed", r.Resumed, 1)
			equal(t, "deliveries", r.Deliveries, 4*r.Accepted)
		}},
		{"reset", true, func() faults {
			return odd(func(_ *fakeStream, n int, frame string) ([]string, bool) {
				switch n {
				case 3, 4: // lost, and the server states it
					return nil, false
				case 5:
					return []string{"id: 4\ndata: {\"reason\":\"history\"}\nevent: reset\n\n", frame}, false
				}
				return []string{frame}, false
			})
		}, func(t *testing.T, _ *fake, r *Report) { equal(t, "resets", r.Resets, 1) }},
		{"refused", false, func() faults {
			return faults{open: func(token string, attempt int) int {
				switch {
				case token == "3" && attempt == 1:
					return http.StatusServiceUnavailable
				case token == "5":
					return http.StatusUnauthorized
				}
				return http.StatusOK
			}}
		}, func(t *testing.T, _ *fake, r *Report) {
			equal(t, "failed", fmt.Sprint(r.Failed), "map[status 401:1 status 503:1]")
			equal(t, "connected", r.Connected, 7)
		}},
		{"messages refused", false, func() faults {
			return faults{post: func(int) int { return http.StatusForbidden }}
		}, func(t *testing.T, _ *fake, r *Report) { equal(t, "connected", r.Connected, 8) }},
		{"answers of messages lost", true, func() faults {
			return faults{post: func(attempt int) int {
				switch attempt {
				case 3:
					return 0
				case 6:
					return http.StatusServiceUnavailable
				}
				return http.StatusAccepted
			}}
		}, func(t *testing.T, _ *fake, r *Report) {
			equal(t, fmt.Sprintf("refused %v", r.Refused), total(r.Refused), 2)
			equal(t, "status 503", r.Refused["status 503"], 1)
		}},
	}
	for _, secure := range []bool{false, true} {
		for _, test := range tests {
			t.Run(fmt.Sprintf("%s/tls=%v", test.name, secure), func(t *testing.T) {
				t.Parallel()
				f := newFake(test.faults())
				r := runAgainst(t, f, secure, Config{})
				test.check(t, f, r)
				if err := r.Err(); (err == nil) != test.clean {
					t.Errorf("got the error %v, want none: %v", err, test.clean)
				}
				if r.Accepted < 10 && r.Refused["status 403"] == 0 {
					t.Errorf("got %d accepted messages, want at least 10", r.Accepted)
				}
			})
		}
	}
}

// runAgainst runs a load of 8 clients in 2 rooms against a server, with some settings of config.
//
// The steady phase ends after 30 requests with messages.
func runAgainst(t *testing.T, f *fake, secure bool, config Config) *Report {
	t.Helper()
	server := httptest.NewUnstartedServer(f)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // Run connects once without TLS
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	if config.Target == "" {
		config.Target = Presence
	}
	config.URL, config.Transport = server.URL, server.Client().Transport.(*http.Transport)
	if config.Clients == 0 {
		config.Clients, config.Rooms = 8, 2
	}
	if config.Tokens == nil {
		config.Tokens = tokensOf(config.Clients)
	}
	config.Duration, config.Rate, config.Size, config.SlowRate = time.Minute, 50, 100, 1000
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	f.enough = func() {
		if f.posts == 30 {
			enough()
		}
	}
	r, err := Run(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRunChurn checks that clients that end and resume miss nothing, and that clients which read
// slowly or not at all have everything in the end.
func TestRunChurn(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secure), func(t *testing.T) {
			t.Parallel()
			r := runAgainst(t, newFake(faults{}), secure, Config{Clients: 20, Rooms: 2, Churn: 40, Slow: 0.2, Stopped: 0.2})
			if err := r.Err(); err != nil {
				t.Error(err)
			}
			if r.Churned < 5 || r.Resumed != r.Churned || r.Connections != 20+r.Churned {
				t.Errorf("got %d churned, %d resumed, %d connections, want at least 5, and 20 connections more", r.Churned, r.Resumed, r.Connections)
			}
			equal(t, "ended", len(r.Ended), 0)
			if all := 10 * r.Accepted; r.Deliveries < all {
				t.Errorf("got %d deliveries, want at least %d", r.Deliveries, all)
			} else if r.SendToReceipt.Number > all*7/10 {
				t.Errorf("got %d times to the receipt of %d deliveries, want none of the slow and stopped clients", r.SendToReceipt.Number, all)
			}
		})
	}
}

// TestRunRefusedUser checks that a user that may not send messages does not stop the room.
func TestRunRefusedUser(t *testing.T) {
	t.Parallel()
	r := runAgainst(t, newFake(faults{}), false, Config{SenderTokens: []string{"writer", "reader"}})
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	if r.Accepted < 10 || r.Refused["status 403"] == 0 {
		t.Errorf("got %d accepted messages, refused %v, want both", r.Accepted, r.Refused)
	}
}

// TestRunUsers checks the user counts of a server that counts users. Two of the four tokens are of
// the same user.
func TestRunUsers(t *testing.T) {
	t.Parallel()
	tokens := []string{}
	for i, user := range []string{"alice", "bob", "alice", "carol"} {
		claims := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub":%q,"n":%d}`, user, i))
		tokens = append(tokens, "x."+claims+".x")
	}
	for users, want := range map[int]Counts{3: {Right: 8, Least: 3, Most: 3}, 2: {Wrong: 8, Least: 2, Most: 2}} {
		f := newFake(faults{count: func(*fakeStream, int) int { return users }})
		r := runAgainst(t, f, false, Config{Clients: 8, Rooms: 1, Tokens: tokens})
		equal(t, fmt.Sprint("counts of ", users), *r.Counts, want)
	}
}

// TestRunCertificate checks that clients do not try again after an invalid certificate, and that a
// run without clients ends at once.
func TestRunCertificate(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(newFake(faults{}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	r, err := Run(t.Context(), Config{Target: Presence, URL: server.URL, Clients: 5, Rooms: 1, Duration: time.Hour, Rate: 1, Size: 100, SlowRate: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for reason, n := range r.Failed {
		if !strings.HasPrefix(reason, "certificate not valid: x509: ") || n != 5 || len(r.Failed) != 1 {
			t.Errorf("failed: got %v, want 5 invalid certificates", r.Failed)
		}
	}
	equal(t, "connections", r.Connections, 5)
}

// TestRunInterrupted checks that an interrupted ramp phase ends with a report.
func TestRunInterrupted(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newFake(faults{}))
	t.Cleanup(server.Close)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, err := Run(ctx, Config{
		Target: Presence, URL: server.URL, Clients: 10, Rooms: 1, Ramp: time.Hour, Size: 100, SlowRate: 1000,
		Progress: func(p Progress) {
			if p.Connected > 0 && p.Phase == "ramp" {
				stop()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "connected", r.Connected, 1)
	equal(t, "counts", *r.Counts, Counts{Right: 1, Least: 1, Most: 1})
}

func TestRunErrors(t *testing.T) {
	t.Parallel()
	good := Config{Target: Presence, URL: "http://127.0.0.1:1", Clients: 10, Rooms: 1, Size: 100, SlowRate: 1000}
	for field, change := range map[string]func(c *Config){
		"Target":     func(c *Config) { c.Target = "x" },
		"URL":        func(c *Config) { c.URL = "http://user:password@x" },
		"URL query":  func(c *Config) { c.URL += "/?a=b" },
		"Churn low":  func(c *Config) { c.Churn = 1e-12 },
		"Rate low":   func(c *Config) { c.Rate = 1e-12 },
		"Clients":    func(c *Config) { c.Clients = 0 },
		"Rooms":      func(c *Config) { c.Rooms = 11 },
		"Ramp":       func(c *Config) { c.Ramp = -1 },
		"Duration":   func(c *Config) { c.Duration = -1 },
		"Rate":       func(c *Config) { c.Rate = math.NaN() },
		"Churn":      func(c *Config) { c.Churn = math.Inf(1) },
		"Size":       func(c *Config) { c.Size = 63 },
		"Slow":       func(c *Config) { c.Slow = 1.5 },
		"Stopped":    func(c *Config) { c.Slow, c.Stopped = 0.6, 0.6 },
		"SlowRate":   func(c *Config) { c.SlowRate = 0 },
		"StreamURL":  func(c *Config) { c.Target = Generic },
		"PublishURL": func(c *Config) { c.PublishURL = "http://elsewhere/" },
		"PIDs":       func(c *Config) { c.PIDs = []int{-1} },
	} {
		c := good
		change(&c)
		_, err := Run(t.Context(), c)
		if bad := new(SettingError); !errors.As(err, &bad) || bad.Field != strings.Fields(field)[0] {
			t.Errorf("%s: got the error %v, want one of this field", field, err)
		}
	}
	if _, err := Run(t.Context(), good); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got the error %v, want a refused connection", err)
	}
}

// TestRunHostile checks that a run against a server that never behaves ends with a report.
func TestRunHostile(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 0\ndata: {}\nevent: sync\n\ndata: 1\nevent: user count\n\n"
	for _, test := range []struct {
		name  string
		serve func(c net.Conn)
		check func(r *Report) bool
	}{
		{"closes at once", func(net.Conn) {}, func(r *Report) bool { return r.Connected == 0 && total(r.Failed) > 0 }},
		{"never answers", func(c net.Conn) { io.Copy(io.Discard, c) }, func(r *Report) bool { return r.Connected == 0 && len(r.Failed) == 0 }},
		{"endless header", func(c net.Conn) {
			io.Copy(c, io.MultiReader(strings.NewReader("HTTP/1.1 200 OK\r\nX: "), endless{'x'}))
		},
			func(r *Report) bool { return r.Failed["response header too long"] > 0 }},
		{"endless events", func(c net.Conn) { io.Copy(c, io.MultiReader(strings.NewReader(head), endless{'\n'})) }, func(r *Report) bool { return r.Bytes > 1<<20 }},
		{"endless line", func(c net.Conn) { io.Copy(c, io.MultiReader(strings.NewReader(head+"data: "), endless{'x'})) }, func(r *Report) bool { return r.Bytes > 1<<20 }},
		{"ends each stream with its first bytes", func(c net.Conn) {
			c.Read(make([]byte, 4096)) // an unread request would cause a reset
			io.WriteString(c, strings.Replace(head, "retry: 0", "retry: 600000", 1))
		},
			func(r *Report) bool { return r.Connected == 0 && r.Connections == 20 && total(r.Ended) == 20 }},
		{"ends streams", func(c net.Conn) { io.WriteString(c, head) }, func(r *Report) bool { return total(r.Ended) > 0 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { listener.Close() })
			go func() { // ends with the listener
				for c, err := listener.Accept(); err == nil; c, err = listener.Accept() {
					go func() { // ends with the connection
						defer c.Close()
						test.serve(c)
					}()
				}
			}()
			ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
			defer stop()
			r, err := Run(ctx, Config{Target: Presence, URL: "http://" + listener.Addr().String(), Clients: 20, Rooms: 2, Duration: time.Second, Rate: 10, Size: 100, SlowRate: 1000, Slow: 0.1, Stopped: 0.1, Churn: 20})
			if err != nil {
				t.Fatal(err)
			}
			if r.Connections == 0 || r.Deliveries > 0 || !test.check(r) {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func total(numbers map[string]int) (n int) {
	for _, of := range numbers {
		n += of
	}
	return n
}

// endless is a reader of one byte without an end.
type endless struct{ b byte }

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.b
	}
	return len(p), nil
}
