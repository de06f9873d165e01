package metrics_test

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/internal/logtest"
	"example.com/presence/pkg/presence/metrics"
)

// TestMain runs more parallel tests than there are CPUs, because most of them wait for timers.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		f.Value.Set("8")
	}
	goleak.VerifyTestMain(m)
}

var secret = []byte("a secret of thirty-two bytes ok!")

// patience is the time limit for an expected value. It is long because the machine may be busy. A
// passing test never waits that long.
const patience = time.Minute

// samples holds the values of all metrics by series, such as
//
//	presence_refusals_total{reason="rate"}
//	presence_join_to_count_seconds_count
type samples map[string]float64

// gather returns the current values of all metrics.
func gather(t testing.TB, from prometheus.Gatherer) samples {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := samples{}
	for _, f := range families {
		for _, m := range f.Metric {
			labels := ""
			for _, l := range m.Label {
				labels += fmt.Sprintf(",%s=%q", l.GetName(), l.GetValue())
			}
			if labels != "" {
				labels = "{" + labels[1:] + "}"
			}
			switch {
			case m.Histogram != nil:
				all[f.GetName()+"_count"+labels] = float64(m.Histogram.GetSampleCount())
			default:
				all[f.GetName()+labels] = m.Counter.GetValue() + m.Gauge.GetValue() // a nil pointer has the value 0
			}
		}
	}
	return all
}

// watched is a server on a real socket, with its metrics.
type watched struct {
	*presence.Server
	t        testing.TB
	metrics  *metrics.Metrics
	registry *prometheus.Registry
	addr     string
	by       *http.Transport
	log      *logtest.Buffer
}

// open starts a server that accepts tokens signed with secret, and stops it when the test ends.
func open(t testing.TB, c presence.Config) *watched {
	t.Helper()
	return openOn(t, c, func(_ *http.Server, l net.Listener) net.Listener { return l })
}

// openOn is open with another server of net/http, or another listener.
func openOn(t testing.TB, c presence.Config, change func(*http.Server, net.Listener) net.Listener) *watched {
	t.Helper()
	s := &watched{t: t, metrics: metrics.New(), registry: prometheus.NewPedanticRegistry(), by: &http.Transport{}, log: new(logtest.Buffer)}
	if c.Authenticator == nil {
		c.Authenticator = verifier(t, auth.Config{})
	}
	c.Logger, c.Observer = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})), s.metrics.Observer()
	c.MessageRate = cmp.Or(c.MessageRate, -1) // unlimited, because one test checks the rate limit
	var err error
	if s.Server, err = presence.New(c); err != nil {
		t.Fatal(err)
	}
	s.metrics.Watch(s.Server)
	s.registry.MustRegister(s.metrics)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	h := &http.Server{Handler: s}
	l = s.Harden(h, change(h, l))
	done := make(chan struct{})
	go func() { h.Serve(l); close(done) }() // ends with h.Close
	t.Cleanup(func() {
		s.shutdown()
		s.lint()
		s.by.CloseIdleConnections()
		h.Close()
		<-done
	})
	return s
}

func (s *watched) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		s.t.Error(err)
	}
}

// lint checks the names and the help texts of the metrics.
func (s *watched) lint() {
	s.t.Helper()
	problems, err := testutil.GatherAndLint(s.registry)
	if len(problems) > 0 || err != nil {
		s.t.Errorf("got %v, %v, want no problem", problems, err)
	}
}

// want waits until the series have these values. The argument pairs are a series without its prefix
// presence_, and a number or a function that checks it.
func (s *watched) want(pairs ...any) {
	s.t.Helper()
	late := time.Now().Add(patience)
	for {
		all, wrong := gather(s.t, s.registry), ""
		for i := 0; i < len(pairs); i += 2 {
			got, exists := all["presence_"+pairs[i].(string)]
			if !exists || !fits(got, pairs[i+1]) {
				wrong += fmt.Sprintf("%s: got %v (exists: %v), want %v\n", pairs[i], got, exists, pairs[i+1])
			}
		}
		if wrong == "" {
			return
		}
		if time.Now().After(late) {
			s.t.Fatal(wrong)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func fits(got float64, want any) bool {
	switch want := want.(type) {
	case int:
		return got == float64(want)
	case bound:
		return got >= float64(want)
	case within:
		return got >= float64(want.least) && got <= float64(want.most)
	}
	return false
}

// bound is a minimum.
type bound int

func (b bound) String() string { return fmt.Sprintf("at least %d", int(b)) }

// logged waits until the log has n lines that contain text.
func (s *watched) logged(n int, text string) {
	s.t.Helper()
	for late := time.Now().Add(patience); ; <-time.After(5 * time.Millisecond) {
		got := strings.Count(s.log.String(), text)
		if got == n {
			return
		}
		if got > n || time.Now().After(late) {
			s.t.Fatalf("got %d lines with %q, want %d:\n%s", got, text, n, s.log)
		}
	}
}

// within is a range.
type within struct{ least, most int }

// only checks that of all series of a metric, these have these values, and the others are 0.
func (s *watched) only(metric string, pairs ...any) {
	s.t.Helper()
	s.want(pairs...)
	expected := map[string]bool{}
	for i := 0; i < len(pairs); i += 2 {
		expected["presence_"+pairs[i].(string)] = true
	}
	for series, n := range gather(s.t, s.registry) {
		if strings.HasPrefix(series, "presence_"+metric+"{") && n != 0 && !expected[series] {
			s.t.Errorf("%s: got %v, want 0", series, n)
		}
	}
}

// send sends a request. headers are pairs of a name and a value. An empty token is not sent.
func (s *watched) send(method, path, token, body string, headers ...string) *http.Response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := s.by.RoundTrip(r) // follows no redirect and stores no cookie
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { answer.Body.Close() })
	return answer
}

// ask sends a request, and checks the status of the response. It returns the body.
func (s *watched) ask(status int, method, path, token, body string, headers ...string) string {
	s.t.Helper()
	answer := s.send(method, path, token, body, headers...)
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != status {
		s.t.Fatalf("%s %s: got %s, %v, %s; want %d", method, path, answer.Status, err, text, status)
	}
	return string(text)
}

// stream opens a stream and waits until the client is counted. close ends it.
func (s *watched) stream(path, token string, headers ...string) (end func()) {
	s.t.Helper()
	opened := gather(s.t, s.registry)["presence_streams_opened_total"]
	answer := s.send("GET", path, token, "", headers...)
	if answer.StatusCode != http.StatusOK {
		s.t.Fatalf("GET %s: got %s, want 200", path, answer.Status)
	}
	s.want("streams_opened_total", bound(opened+1))
	return func() { answer.Body.Close() }
}

// publish publishes a message to the lobby.
func (s *watched) publish(data string) {
	s.t.Helper()
	_, err := s.Publish(s.t.Context(), "lobby", "message", data)
	for errors.Is(err, presence.ErrBusy) { // on a busy machine; the message was not published
		_, err = s.Publish(s.t.Context(), "lobby", "message", data)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// unread opens a stream over a connection with a small receive buffer. The client reads nothing.
func (s *watched) unread(path, token string) net.Conn {
	s.t.Helper()
	conn := s.dial()
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		s.t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, s.addr, token)
	return conn
}

func (s *watched) dial() net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

func verifier(t testing.TB, c auth.Config) *auth.JWT {
	t.Helper()
	if c.Keys == nil {
		key, err := auth.Secret(secret)
		if err != nil {
			t.Fatal(err)
		}
		c.Keys = []auth.Key{key}
	}
	j, err := auth.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func mint(t testing.TB, c auth.Claims) string {
	t.Helper()
	token, err := auth.Mint(secret, c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// user returns a token of a user that may join and send to every room.
func user(t testing.TB, sub string) string {
	t.Helper()
	return mint(t, auth.Claims{Sub: sub, Join: []string{"*"}, Send: []string{"*"}})
}

func admin(t testing.TB) string {
	t.Helper()
	return mint(t, auth.Claims{Sub: "admin", Admin: true})
}

// names returns the names of the metrics of m, of a server or not.
func names(m prometheus.Collector) map[string]bool {
	descs, all := make(chan *prometheus.Desc), map[string]bool{}
	go func() { m.Describe(descs); close(descs) }()
	for d := range descs {
		_, rest, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		all[name] = true
	}
	return all
}

func keys[V any](m map[string]V) map[string]bool {
	all := map[string]bool{}
	for k := range maps.Keys(m) {
		all[k] = true
	}
	return all
}
