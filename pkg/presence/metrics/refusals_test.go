package metrics_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/backplane"
)

// door is an authenticator with faults. The query of a request selects the fault.
type door struct {
	presence.Authenticator
}

func (d door) Authenticate(r *http.Request) (presence.User, error) {
	switch r.URL.RawQuery {
	case "other":
		return presence.User{}, errors.New("out of order")
	case "unavailable":
		return presence.User{}, auth.ErrUnavailable
	}
	return d.Authenticator.Authenticate(r)
}

// reasons returns the values of the label reason of a metric.
func (s *watched) reasons(metric string) map[string]bool {
	all := map[string]bool{}
	for series := range gather(s.t, s.registry) {
		if reason, ok := strings.CutPrefix(series, "presence_"+metric+`{reason="`); ok {
			all[strings.TrimSuffix(reason, `"}`)] = true
		}
	}
	return all
}

// refusal is a way to cause one refusal.
type refusal struct {
	config presence.Config
	cause  func(*testing.T, *watched)
	bus    func() backplane.Bus // the backplane of the server; may be nil
}

// asked returns a cause that is one request by alice.
func asked(status int, method, path, body string, headers ...string) func(*testing.T, *watched) {
	return func(t *testing.T, s *watched) { s.ask(status, method, path, user(t, "alice"), body, headers...) }
}

// full returns a cause that is a second stream. It is refused, and not counted as a stream.
func full(path, sub string) func(*testing.T, *watched) {
	return func(t *testing.T, s *watched) {
		s.stream("/events?room=a", user(t, "alice"))
		if text := s.ask(200, "GET", path, user(t, sub), ""); !strings.Contains(text, `{"reason":"full"}`) {
			t.Errorf("got %s, want goodbye full", text)
		}
		s.logged(1, `level=DEBUG msg="stream refused" cause=`)
		s.logged(1, `msg="stream opened"`)
		s.logged(0, `msg="stream ended"`)
		s.want("streams_opened_total", 1, "connections", 1)
		s.only("streams_ended_total")
	}
}

func memory(c backplane.MemoryConfig) backplane.Bus {
	c.Messages, c.Age, c.Bytes = 10, time.Minute, 1<<20
	return backplane.NewMemory(c)
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// limited returns a function that opens a backplane with these limits.
func limited(c backplane.MemoryConfig) func() backplane.Bus {
	return func() backplane.Bus { return memory(c) }
}

// unable returns a function that opens a backplane whose log accepts no message.
func unable(err func(context.Context) error) func() backplane.Bus {
	return func() backplane.Bus { return &faultyBus{Bus: memory(backplane.MemoryConfig{}), append: err} }
}

// refusals has a way to cause each refusal. TestOpenFilesRefused causes open_files, and
// TestTooManyAnswers causes answers.
var refusals = map[string]refusal{
	"anonymous":        {cause: func(_ *testing.T, s *watched) { s.ask(401, "GET", "/presence", "", "") }},
	"token":            {cause: func(_ *testing.T, s *watched) { s.ask(401, "GET", "/presence", "bad", "") }},
	"keys_unavailable": {cause: func(_ *testing.T, s *watched) { s.ask(503, "GET", "/presence?unavailable", "", "") }},
	"origin":           {cause: asked(403, "POST", "/session", `{"token":"x"}`, "Origin", "https://evil.example")},
	"host": {config: presence.Config{Hosts: []string{"presence.example"}}, cause: func(t *testing.T, s *watched) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = "evil.example"
		w := httptest.NewRecorder()
		if s.ServeHTTP(w, r); w.Code != http.StatusMisdirectedRequest {
			t.Errorf("got %d, want 421", w.Code)
		}
	}},
	"room_right": {cause: func(t *testing.T, s *watched) {
		s.ask(403, "GET", "/presence?room=other", mint(t, auth.Claims{Sub: "alice"}), "")
	}},
	"banned": {cause: func(t *testing.T, s *watched) {
		s.stream("/events", user(t, "alice"))
		s.ask(204, "DELETE", "/members/alice?for=60s", admin(t), "")
		s.ask(403, "GET", "/presence", user(t, "alice"), "")
	}},
	"admin_right": {cause: asked(403, "GET", "/rooms", "")},
	"bad_request": {cause: asked(400, "GET", "/presence?room=a/b", "")},
	"not_found":   {cause: asked(404, "GET", "/none", "")},
	"method":      {cause: asked(405, "PATCH", "/presence", "")},
	"conflict":    {cause: asked(409, "PUT", "/state", `{"info":1}`)},
	"too_large": {
		config: presence.Config{MaxMessage: 10},
		cause:  asked(413, "POST", "/messages", `"`+strings.Repeat("x", 10_000)+`"`),
	},
	"media_type": {cause: asked(415, "POST", "/messages", `{"data":1}`, "Content-Type", "image/png")},
	"rate": {config: presence.Config{MessageRate: 0.001, MessageBurst: 1}, cause: func(t *testing.T, s *watched) {
		s.ask(202, "POST", "/messages", user(t, "alice"), `{"data":1}`)
		s.ask(429, "POST", "/messages", user(t, "alice"), `{"data":1}`)
	}},
	"cost": {config: presence.Config{CostRate: 1, CostBurst: 64 << 10}, cause: func(t *testing.T, s *watched) {
		alice := user(t, "alice")
		s.stream("/events", alice)
		s.ask(202, "POST", "/messages", alice, `{"data":"`+strings.Repeat("x", 30_000)+`"}`)
		s.ask(204, "PUT", "/state", alice, "1") // at least 64 KiB, so the rest takes hours
		s.ask(429, "PUT", "/state", alice, "2")
	}},
	"history_rate": {
		config: presence.Config{HistoryRate: 1, HistoryBytes: 16_000, MaxMessage: 1000}, // a burst of 1000 bytes
		bus:    limited(backplane.MemoryConfig{Shared: true}),
		cause: func(t *testing.T, s *watched) {
			s.want("backplane_up", 1)
			message := `{"data":"` + strings.Repeat("x", 900) + `"}`
			for _, status := range []int{202, 202, 429} {
				s.ask(status, "POST", "/messages", user(t, "alice"), message)
			}
		},
	},
	"room_backlog":     {config: presence.Config{MaxMessage: 1000, MaxUnsent: 1 << 20, MaxUnsentTotal: 4000}, cause: causeRoomBacklog},
	"unsent":           {config: crowded, cause: causeUnsent},
	"connections":      {config: presence.Config{MaxConnections: 1}, cause: full("/events?room=a", "bob")},
	"user_connections": {config: presence.Config{MaxConnectionsPerUser: 1}, cause: full("/events?room=a", "alice")},
	"rooms":            {config: presence.Config{MaxRooms: 1}, cause: full("/events?room=b", "bob")},
	"user_rooms":       {config: presence.Config{MaxRoomsPerUser: 1}, cause: full("/events?room=b", "alice")},
	"room_busy": {
		bus:   unable(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }),
		cause: asked(503, "POST", "/messages", `{"data":1}`),
	},
	"bans": {bus: limited(backplane.MemoryConfig{MaxRows: 1}), cause: func(t *testing.T, s *watched) {
		for sub, status := range map[string]int{"alice": 204, "bob": 204} {
			s.stream("/events", user(t, sub))
			if s.want("users", 1); gather(t, s.registry)["presence_bans"] == 1 {
				status = 503
			}
			s.ask(status, "DELETE", "/members/"+sub+"?for=60s", admin(t), "")
		}
	}},
	"idempotency_keys": {bus: limited(backplane.MemoryConfig{MaxKeys: 1}), cause: func(t *testing.T, s *watched) {
		s.ask(202, "POST", "/messages", user(t, "alice"), `{"data":1,"id":"one"}`)
		s.ask(503, "POST", "/messages", user(t, "alice"), `{"data":1,"id":"two"}`)
	}},
	"backplane": {
		bus:   unable(func(context.Context) error { return backplane.ErrUnavailable }),
		cause: asked(503, "POST", "/messages", `{"data":1}`),
	},
	"draining": {cause: func(t *testing.T, s *watched) {
		s.shutdown()
		s.ask(503, "POST", "/messages", user(t, "alice"), `{"data":1}`)
	}},
	"idle_connections": {config: presence.Config{MaxIdleConnections: 1}, cause: func(t *testing.T, s *watched) {
		evicted := s.dial()
		s.want("idle_connections", 1)
		s.dial()
		if _, err := evicted.Read(make([]byte, 1)); err == nil {
			t.Error("got an open connection, want it evicted")
		}
	}},
	"address": {config: presence.Config{MaxConnectionsPerAddress: 1}, cause: func(t *testing.T, s *watched) {
		s.dial()
		s.want("idle_connections", 1)
		conn, err := net.Dial("tcp", s.addr) // fails if the reset is early
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("got %v, want a reset", err)
		}
	}},
	"proxy_header": {config: presence.Config{ProxyProtocol: true, TrustedProxies: loopback}, cause: func(t *testing.T, s *watched) {
		conn := s.dial()
		io.WriteString(conn, "GET /presence HTTP/1.1\r\nHost: x\r\n\r\n")
		if answer, _ := io.ReadAll(conn); len(answer) > 0 {
			t.Errorf("got %q, want a closed connection", answer)
		}
	}},
	"internal": {cause: func(t *testing.T, s *watched) {
		r := httptest.NewRequest("GET", "/events", nil)
		r.Header.Set("Authorization", "Bearer "+user(t, "alice"))
		s.ServeHTTP(httptest.NewRecorder(), r) // a recorder cannot stream
	}},
}

// causeRoomBacklog sends messages to a room with a client that reads nothing, until one is refused.
func causeRoomBacklog(t *testing.T, s *watched) {
	s.unread("/events", user(t, "alice"))
	s.want("connections", 1)
	message := `{"data":"` + strings.Repeat("x", 900) + `"}`
	for late := time.Now().Add(patience); ; {
		answer := s.send("POST", "/messages", user(t, "bob"), message)
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode == http.StatusServiceUnavailable {
			s.want("unsent_event_bytes", bound(4000), "connections", 1)
			s.ask(202, "POST", "/messages?room=other", user(t, "bob"), message)
			return
		}
		if answer.StatusCode != http.StatusAccepted || time.Now().After(late) {
			t.Fatalf("got %s, want 202, and then 503", answer.Status)
		}
	}
}

// causeUnsent opens streams that read nothing of their snapshots, until one is refused: when the
// user holds half of the limit of 64 MiB.
func causeUnsent(t *testing.T, s *watched) {
	s.crowd()
	token := user(t, "user-0")
	encoded := gather(t, s.registry)["presence_snapshots_total"]
	for opened := 1; ; opened++ { // one in each flush interval, so that each has its own snapshot
		s.unread("/events", token)
		for late := time.Now().Add(patience); ; <-time.After(time.Millisecond) {
			all := gather(t, s.registry)
			if all[`presence_refusals_total{reason="unsent"}`] > 0 {
				s.want("unsent_snapshot_bytes", within{31 << 20, 33 << 20}, "connections", opened-1)
				return
			}
			snapshots := int(all["presence_snapshots_total"] - encoded)
			if snapshots == opened {
				break
			}
			if time.Now().After(late) {
				t.Fatalf("got %d snapshots for %d streams, want as many", snapshots, opened)
			}
		}
	}
}

// quiet has the causes without a line of their own.
var quiet = map[string]bool{"not_found": true, "method": true, "draining": true, "internal": true}

// Each refusal is counted once, for its own reason only. All but the quiet ones have a line.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for reason := range open(t, presence.Config{}).reasons("refusals_total") {
		if _, exists := refusals[reason]; !exists && reason != "open_files" && reason != "answers" {
			t.Errorf("%s: no test", reason)
		}
	}
	for reason, r := range refusals {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			r.config.Authenticator = door{verifier(t, auth.Config{})}
			if r.bus != nil {
				bus := r.bus()
				t.Cleanup(func() {
					if f, ok := bus.(*faultyBus); ok {
						f.Bus.Close()
					}
					bus.Close()
				})
				r.config.Backplane = bus
			}
			s := open(t, r.config)
			s.only("refusals_total")
			r.cause(t, s)
			s.only("refusals_total", fmt.Sprintf("refusals_total{reason=%q}", reason), 1)
			lines := 1
			if quiet[reason] {
				lines = 0
			}
			s.logged(lines, `level=WARN msg="request refused" cause=`+reason+" ")
			s.logged(lines, `level=WARN msg="request refused"`)
		})
	}
}

// docs/operations.md has a row for each value of the label reason, and for no other.
func TestReasonsAreDocumented(t *testing.T) {
	t.Parallel()
	s := open(t, presence.Config{})
	text, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for heading, metric := range map[string]string{
		"### Causes": "refusals_total", "### Reasons of invalid tokens": "auth_failures_total", "### Ends of streams": "streams_ended_total",
	} {
		_, section, _ := strings.Cut(string(text), "\n"+heading+"\n")
		section, _, _ = strings.Cut(section, "\n#")
		documented := map[string]bool{}
		for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
			documented[row[1]] = true
		}
		if want := s.reasons(metric); !maps.Equal(documented, want) {
			t.Errorf("%s: got rows for %q, want %q", heading, slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(want)))
		}
	}
}

// gate is an authenticator that counts requests, and holds each until it is opened.
type gate struct {
	presence.Authenticator
	held   atomic.Int64
	opened chan struct{}
}

func (g *gate) Authenticate(r *http.Request) (presence.User, error) {
	g.held.Add(1)
	<-g.opened
	return g.Authenticator.Authenticate(r)
}

// At the limit of concurrent responses, the connection with the most requests that wait for the
// client is reset, and the next request is served.
func TestTooManyAnswers(t *testing.T) {
	t.Parallel()
	g := &gate{Authenticator: verifier(t, auth.Config{}), opened: make(chan struct{})}
	s := openOn(t, presence.Config{Authenticator: g}, func(h *http.Server, l net.Listener) net.Listener {
		h.Protocols = new(http.Protocols)
		h.Protocols.SetHTTP1(true)
		h.Protocols.SetUnencryptedHTTP2(true)
		return l
	})
	t.Cleanup(func() { close(g.opened) })
	const conns, perConn = 32, 128 // 4,096 in all
	ended := make(chan error, conns)
	for range conns {
		conn := s.unfinished(perConn)
		go func() { // ends with the connection
			_, err := io.Copy(io.Discard, conn)
			ended <- err
		}()
	}
	for late := time.Now().Add(patience); g.held.Load() < conns*perConn; <-time.After(5 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("got %d requests, want %d", g.held.Load(), conns*perConn)
		}
	}
	s.only("refusals_total")
	s.ask(200, "GET", "/healthz", "", "")
	s.only("refusals_total", `refusals_total{reason="answers"}`, 1)
	s.logged(1, `level=WARN msg="request refused" cause=answers count=1 detail="concurrent response limit reached" limit=4096 client_address=127.0.0.1`)
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	s.ask(200, "GET", "/healthz", "", "")
	if len(ended) > 0 {
		t.Errorf("got %d more connections closed, want none", len(ended))
	}
}

// unfinished sends n requests without their bodies over an HTTP/2 connection.
func (s *watched) unfinished(n int) net.Conn {
	s.t.Helper()
	conn := s.dial()
	w := bufio.NewWriter(conn)
	io.WriteString(w, http2.ClientPreface)
	framer := http2.NewFramer(w, nil)
	framer.WriteSettings()
	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for i := range n {
		block.Reset()
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", s.addr}, {":path", "/messages"}} {
			fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndHeaders: true})
	}
	if err := w.Flush(); err != nil {
		s.t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	return conn
}

// sign returns a token with this payload.
func sign(t *testing.T, method jwt.SigningMethod, key any, kid string, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	if kid != "" {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Each failed authentication is counted once, for its own reason only.
func TestAuthFailures(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	set := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"1","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public))
	}))
	t.Cleanup(set.Close)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	known, err := auth.JWKS(ctx, set.URL, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	claims := func(name string, value any) jwt.MapClaims {
		c := jwt.MapClaims{"sub": "alice", "iss": "us", "aud": "p", "exp": time.Now().Add(time.Hour).Unix()}
		c[name] = value
		return c
	}
	hs := func(name string, value any) string {
		return sign(t, jwt.SigningMethodHS256, secret, "", claims(name, value))
	}
	strict := func() *auth.JWT { return verifier(t, auth.Config{Issuer: "us", Audience: "p"}) }
	withSet := func() *auth.JWT { return verifier(t, auth.Config{Keys: []auth.Key{known}}) }
	for reason, c := range map[string]struct {
		token, query string
		by           func() *auth.JWT
	}{
		"no_token":         {"", "", strict},
		"malformed":        {"a.b.c", "", strict},
		"too_long":         {strings.Repeat("x", 9000), "", strict},
		"algorithm":        {sign(t, jwt.SigningMethodEdDSA, private, "", claims("sub", "alice")), "", strict},
		"unknown_key":      {sign(t, jwt.SigningMethodEdDSA, private, "2", claims("sub", "alice")), "", withSet},
		"signature":        {sign(t, jwt.SigningMethodHS256, []byte(strings.Repeat("other", 8)), "", claims("sub", "alice")), "", strict},
		"expired":          {hs("exp", 1), "", strict},
		"not_yet_valid":    {hs("nbf", time.Now().Add(time.Hour).Unix()), "", strict},
		"issuer":           {hs("iss", "them"), "", strict},
		"audience":         {hs("aud", "q"), "", strict},
		"claim":            {hs("sub", 7), "", strict},
		"keys_unavailable": {"", "?unavailable", strict},
		"other":            {"", "?other", strict},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			s := open(t, presence.Config{Authenticator: door{c.by()}})
			if got := s.reasons("auth_failures_total"); len(got) != 13 {
				t.Errorf("got %d reasons, want 13, each with a test", len(got))
			}
			s.only("auth_failures_total")
			s.send("GET", "/presence"+c.query, c.token, "")
			s.only("auth_failures_total", fmt.Sprintf("auth_failures_total{reason=%q}", reason), 1)
		})
	}
}
