package metrics_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

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
}

// asked returns a cause that is one request by alice.
func asked(status int, method, path, body string, headers ...string) func(*testing.T, *watched) {
	return func(t *testing.T, s *watched) { s.ask(status, method, path, user(t, "alice"), body, headers...) }
}

// full returns a cause that is a second stream.
func full(path, sub string) func(*testing.T, *watched) {
	return func(t *testing.T, s *watched) {
		s.stream("/events?room=a", user(t, "alice"))
		if text := s.ask(200, "GET", path, user(t, sub), ""); !strings.Contains(text, `{"reason":"full"}`) {
			t.Errorf("got %s, want goodbye full", text)
		}
	}
}

func memory(c backplane.MemoryConfig) backplane.Bus {
	c.Messages, c.Age, c.Bytes = 10, time.Minute, 1<<20
	return backplane.NewMemory(c)
}

// refusals has a way to cause each refusal. TestOpenFilesRefused causes open_files. No
// test here causes answers, because that takes 4,096 requests.
var refusals = map[string]refusal{
	"anonymous":        {cause: func(_ *testing.T, s *watched) { s.ask(401, "GET", "/presence", "", "") }},
	"token":            {cause: func(_ *testing.T, s *watched) { s.ask(401, "GET", "/presence", "bad", "") }},
	"keys_unavailable": {cause: func(_ *testing.T, s *watched) { s.ask(503, "GET", "/presence?unavailable", "", "") }},
	"origin":           {cause: asked(403, "POST", "/session", `{"token":"x"}`, "Origin", "https://evil.example")},
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
	"too_large":   {presence.Config{MaxMessage: 10}, asked(413, "POST", "/messages", `"`+strings.Repeat("x", 10_000)+`"`)},
	"media_type":  {cause: asked(415, "POST", "/messages", `{"data":1}`, "Content-Type", "image/png")},
	"rate": {presence.Config{MessageRate: 0.001, MessageBurst: 1}, func(t *testing.T, s *watched) {
		s.ask(202, "POST", "/messages", user(t, "alice"), `{"data":1}`)
		s.ask(429, "POST", "/messages", user(t, "alice"), `{"data":1}`)
	}},
	"connections":      {presence.Config{MaxConnections: 1}, full("/events?room=a", "bob")},
	"user_connections": {presence.Config{MaxConnectionsPerUser: 1}, full("/events?room=a", "alice")},
	"rooms":            {presence.Config{MaxRooms: 1}, full("/events?room=b", "bob")},
	"room_busy": {presence.Config{Backplane: &faultyBus{Bus: memory(backplane.MemoryConfig{}), append: func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}}}, asked(503, "POST", "/messages", `{"data":1}`)},
	"bans": {presence.Config{Backplane: memory(backplane.MemoryConfig{MaxRows: 1})}, func(t *testing.T, s *watched) {
		for sub, status := range map[string]int{"alice": 204, "bob": 204} {
			s.stream("/events", user(t, sub))
			if s.want("users", 1); gather(t, s.registry)["presence_bans"] == 1 {
				status = 503
			}
			s.ask(status, "DELETE", "/members/"+sub+"?for=60s", admin(t), "")
		}
	}},
	"idempotency_keys": {presence.Config{Backplane: memory(backplane.MemoryConfig{MaxKeys: 1})}, func(t *testing.T, s *watched) {
		s.ask(202, "POST", "/messages", user(t, "alice"), `{"data":1,"id":"one"}`)
		s.ask(503, "POST", "/messages", user(t, "alice"), `{"data":1,"id":"two"}`)
	}},
	"backplane": {presence.Config{Backplane: &faultyBus{Bus: memory(backplane.MemoryConfig{}), append: func(context.Context) error {
		return backplane.ErrUnavailable
	}}}, asked(503, "POST", "/messages", `{"data":1}`)},
	"draining": {cause: func(t *testing.T, s *watched) {
		s.shutdown()
		s.ask(503, "POST", "/messages", user(t, "alice"), `{"data":1}`)
	}},
	"idle_connections": {presence.Config{MaxIdleConnections: 1}, func(t *testing.T, s *watched) {
		evicted := s.dial()
		s.want("idle_connections", 1)
		s.dial()
		if _, err := evicted.Read(make([]byte, 1)); err == nil {
			t.Error("got an open connection, want it evicted")
		}
	}},
	"address": {presence.Config{MaxConnectionsPerAddress: 1}, func(t *testing.T, s *watched) {
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
	"proxy_header": {presence.Config{ProxyProtocol: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, func(t *testing.T, s *watched) {
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

// Each refusal is counted once, for its own reason only.
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
			if r.config.Backplane != nil {
				t.Cleanup(func() {
					if f, ok := r.config.Backplane.(*faultyBus); ok {
						f.Bus.Close()
					}
					r.config.Backplane.Close()
				})
			}
			s := open(t, r.config)
			s.only("refusals_total")
			r.cause(t, s)
			s.only("refusals_total", fmt.Sprintf("refusals_total{reason=%q}", reason), 1)
		})
	}
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
