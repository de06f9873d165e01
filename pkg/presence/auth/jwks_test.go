package auth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/auth"
	"github.com/MicahParks/jwkset"
)

// jwk returns the JWK of key with the metadata m.
func jwk(key any, m jwkset.JWKMetadataOptions) jwkset.JWKMarshal {
	o := jwkset.JWKOptions{Metadata: m, Marshal: jwkset.JWKMarshalOptions{Private: true}}
	return must(jwkset.NewJWKFromKey(key, o)).Marshal()
}

func named(kid string, key any) jwkset.JWKMarshal {
	return jwk(key, jwkset.JWKMetadataOptions{KID: kid})
}

// issuer serves a JWK Set and counts the fetches.
type issuer struct {
	handler atomic.Pointer[http.HandlerFunc]
	fetches atomic.Int32
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.fetches.Add(1)
	(*i.handler.Load())(w, r)
}

func (i *issuer) respondWith(f http.HandlerFunc) { i.handler.Store(&f) }

func (i *issuer) setKeys(keys ...jwkset.JWKMarshal) {
	set := must(json.Marshal(map[string]any{"keys": append([]jwkset.JWKMarshal{}, keys...)}))
	i.respondWith(func(w http.ResponseWriter, _ *http.Request) { w.Write(set) })
}

func unreachable(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// wire is an in-memory network, so that testing/synctest can control the time.
type wire struct {
	conns chan net.Conn
	once  sync.Once
}

func (w *wire) Accept() (net.Conn, error) {
	if c, ok := <-w.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (w *wire) Close() error   { w.once.Do(func() { close(w.conns) }); return nil }
func (w *wire) Addr() net.Addr { return &net.TCPAddr{} }

func (w *wire) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case w.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// jwksTest contains an issuer and a JWT that uses the issuer's keys.
type jwksTest struct {
	issuer
	*auth.JWT
	key    auth.Key // of the issuer
	t      *testing.T
	log    bytes.Buffer
	cancel context.CancelFunc
}

// withIssuer runs test in a synctest bubble. The issuer serves key 1 if up is true. Otherwise it is
// unreachable.
func withIssuer(t *testing.T, up bool, test func(*testing.T, *jwksTest)) {
	withConfiguredIssuer(t, func(w *jwksTest) {
		if up {
			w.setKeys(named("1", edKey))
		} else {
			w.respondWith(unreachable)
		}
	}, test)
}

// withConfiguredIssuer is like withIssuer, but calls configure to set up the issuer before the
// first fetch.
func withConfiguredIssuer(t *testing.T, configure func(*jwksTest), test func(*testing.T, *jwksTest)) {
	synctest.Test(t, func(t *testing.T) {
		w := &jwksTest{t: t}
		configure(w)
		net := &wire{conns: make(chan net.Conn)}
		server := &httptest.Server{Listener: net, Config: &http.Server{Handler: w, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}}
		server.Start()
		defer server.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w.cancel = cancel
		key, err := auth.JWKSOver(ctx, server.URL, slog.New(slog.NewTextHandler(&w.log, nil)),
			&http.Transport{DialContext: net.dial, DisableKeepAlives: true})
		if err != nil {
			t.Fatal(err)
		}
		w.key = key
		w.JWT = newJWT(t, auth.Config{Keys: []auth.Key{key}})
		test(t, w)
	})
}

// authenticate verifies a token with that kid. It fails the test unless the error is want and the
// call took exactly the given time.
func (w *jwksTest) authenticate(kid string, want error, took time.Duration) {
	w.t.Helper()
	start := time.Now()
	_, err := w.Authenticate(bearer(sign(`{"alg":"EdDSA","kid":"`+kid+`"}`, alice, edKey)))
	check(w.t, err, want, "")
	if got := time.Since(start); got != took {
		w.t.Errorf("kid %s: took %v, want %v", kid, got, took)
	}
}

// wantKnown fails the test unless a token with kid is accepted immediately and without a fetch.
func (w *jwksTest) wantKnown(kid string) {
	w.t.Helper()
	before := w.fetches.Load()
	w.authenticate(kid, nil, 0)
	if got := w.fetches.Load(); got != before {
		w.t.Errorf("kid %s: got a fetch, want none", kid)
	}
}

// sleep advances the clock of the bubble by d, and waits until every goroutine is blocked.
func (w *jwksTest) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// logged returns the log output so far.
func (w *jwksTest) logged() string {
	synctest.Wait()
	return w.log.String()
}

func TestJWKSRotation(t *testing.T) {
	withIssuer(t, true, func(t *testing.T, w *jwksTest) {
		w.authenticate("1", nil, 0)
		w.wantKnown("1")

		w.setKeys(named("2", edKey))
		w.wantKnown("1") // the previous set stays in use until the next fetch
		w.authenticate("2", nil, 5*time.Second)
		w.authenticate("1", auth.ErrBadToken, 5*time.Second)

		// JWKS also fetches the set if no token requests it.
		w.setKeys(named("3", edKey))
		w.sleep(5 * time.Minute)
		w.wantKnown("3")

		// A set without keys is valid and replaces the previous keys.
		w.setKeys()
		w.sleep(5 * time.Minute)
		w.authenticate("3", auth.ErrBadToken, 5*time.Second)
		if got := w.logged(); !strings.Contains(got, "level=WARN msg=\"JWK Set fetched\"") {
			t.Errorf("got log %s, want a warning for a set without keys", got)
		}
	})
}

func TestJWKSOutage(t *testing.T) {
	withIssuer(t, false, func(t *testing.T, w *jwksTest) {
		synctest.Wait()
		w.authenticate("1", auth.ErrUnavailable, 5*time.Second)
		w.setKeys(named("1", edKey))
		w.authenticate("1", nil, 5*time.Second)

		w.respondWith(unreachable)
		w.sleep(time.Hour)
		w.wantKnown("1")
		w.authenticate("2", auth.ErrUnavailable, 5*time.Second)

		// JWKS also fetches the set if no token requests it.
		w.setKeys(named("2", edKey))
		w.sleep(30 * time.Second)
		w.wantKnown("2")
		if got := w.logged(); !strings.Contains(got, "JWK Set fetch failed") || strings.Count(got, "JWK Set fetch recovered") != 2 {
			t.Errorf("got log %s, want a failed fetch and two recoveries", got)
		}
	})
}

// Tokens with an unknown kid cause fetches, but the log has one line per minute about the same
// failure.
func TestJWKSFailureLines(t *testing.T) {
	withIssuer(t, false, func(t *testing.T, w *jwksTest) {
		lines := func(want int) {
			t.Helper()
			if got := strings.Count(w.logged(), "JWK Set fetch failed"); got != want {
				t.Errorf("after %d fetches: got %d lines, want %d", w.fetches.Load(), got, want)
			}
		}
		synctest.Wait()
		for range 11 {
			w.authenticate("1", auth.ErrUnavailable, 5*time.Second)
		}
		lines(1)
		w.respondWith(http.NotFound)
		w.authenticate("1", auth.ErrUnavailable, 5*time.Second)
		lines(2)
		for range 13 {
			w.authenticate("1", auth.ErrUnavailable, 5*time.Second)
		}
		lines(3)
	})
}

func TestJWKSReady(t *testing.T) {
	if err := newJWT(t, auth.Config{}).Ready(t.Context()); err != nil {
		t.Errorf("Ready of a secret: got %v, want nil", err)
	}
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, tt := range map[string]struct {
		respond http.HandlerFunc // nil: the issuer serves key 1
		timeout time.Duration
		want    string
		took    time.Duration
	}{
		"up":         {nil, time.Minute, "", 0},
		"down":       {unreachable, time.Minute, "EOF", 0},
		"404":        {http.NotFound, time.Minute, "unexpected status 404 Not Found", 0},
		"no keys":    {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"keys":[]}`) }, time.Minute, "no RS256, PS256, ES256 or EdDSA key in the JWK Set", 0},
		"hangs":      {hang, time.Minute, "deadline exceeded", 5 * time.Second},
		"short wait": {hang, time.Second, "deadline exceeded", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			configure := func(w *jwksTest) {
				w.setKeys(named("1", edKey))
				if tt.respond != nil {
					w.respondWith(tt.respond)
				}
			}
			withConfiguredIssuer(t, configure, func(t *testing.T, w *jwksTest) {
				ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
				defer cancel()
				start := time.Now()
				err := w.Ready(ctx)
				if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
			})
		})
	}

	// Ready succeeds with the keys of an earlier fetch, although the issuer is unreachable.
	withIssuer(t, true, func(t *testing.T, w *jwksTest) {
		w.authenticate("1", nil, 0)
		w.respondWith(unreachable)
		w.sleep(time.Hour)
		if err := w.Ready(t.Context()); err != nil {
			t.Errorf("got %v, want nil with the keys of an earlier fetch", err)
		}
	})
}

func TestJWKSFetchRateIsLimited(t *testing.T) {
	withIssuer(t, true, func(t *testing.T, w *jwksTest) {
		w.authenticate("1", nil, 0)
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Second / 10)
				_, err := w.Authenticate(bearer(sign(`{"alg":"EdDSA","kid":"?"}`, alice, edKey)))
				check(t, err, auth.ErrBadToken, "signed with an unknown key")
			})
		}
		all.Wait()
		if got := w.fetches.Load(); got != 3 { // at 0, 5 and 10 s
			t.Errorf("got %d fetches in 10 s, want 3", got)
		}
	})
}

func TestJWKSBadAnswers(t *testing.T) {
	good := string(must(json.Marshal(named("2", edKey))))
	respond := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
	}
	for name, tt := range map[string]struct {
		respond http.HandlerFunc
		log     string
		took    time.Duration
	}{
		"too long": {respond(`{"keys":[` + good + `]}` + strings.Repeat(" ", 512<<10)), "not a JWK Set", 0},
		"no keys":  {respond(`{}`), "not a JWK Set", 0},
		"no JSON":  {respond(`<html>`), "not a JWK Set", 0},
		"cut off":  {respond(`{"keys":[` + good), "not a JWK Set", 0},
		"404":      {http.NotFound, "404 Not Found", 0},
		"redirect": {http.RedirectHandler("/elsewhere", http.StatusFound).ServeHTTP, "302 Found", 0},
		"hangs":    {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "deadline exceeded", 5 * time.Second},
		"drips": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, " ")
				w.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
		}, "deadline exceeded", 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			withIssuer(t, true, func(t *testing.T, w *jwksTest) {
				w.authenticate("1", nil, 0)
				w.respondWith(tt.respond)
				w.authenticate("2", auth.ErrUnavailable, 5*time.Second+tt.took)
				w.wantKnown("1")
				if got := w.logged(); !strings.Contains(got, tt.log) {
					t.Errorf("got log %s, want %s", got, tt.log)
				}
			})
		})
	}
}

func TestJWKSEnds(t *testing.T) {
	withIssuer(t, true, func(t *testing.T, w *jwksTest) {
		w.authenticate("1", nil, 0)

		// After the cancellation, a waiting token is rejected, and a later token is rejected
		// without waiting.
		go func() {
			time.Sleep(time.Second)
			w.cancel()
		}()
		w.authenticate("2", auth.ErrUnavailable, time.Second)
		w.authenticate("2", auth.ErrUnavailable, 0)
		w.wantKnown("1")
		if got := w.logged(); got != "" {
			t.Errorf("got log %s, want none after the context was canceled", got)
		}
	})
}

func TestJWKSCanceledRequest(t *testing.T) {
	withIssuer(t, true, func(t *testing.T, w *jwksTest) {
		w.authenticate("1", nil, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := w.Authenticate(bearer(sign(`{"alg":"EdDSA","kid":"2"}`, alice, edKey)).WithContext(ctx))
		check(t, err, auth.ErrUnavailable, "")
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v, want 1s", took)
		}
	})
}

// TestJWKSKeys tests the exported function JWKS over a real socket.
func TestJWKSKeys(t *testing.T) {
	type meta = jwkset.JWKMetadataOptions
	broken := named("broken", &ecKey.PublicKey)
	broken.X = "!"
	var set issuer
	set.setKeys(broken,
		named("rsa", &rsaKey.PublicKey),
		named("ec", &ecKey.PublicKey),
		named("ed", edKey.Public()),
		jwk(&rsaKey.PublicKey, meta{KID: "ps256", ALG: "PS256", USE: "sig", KEYOPS: []jwkset.KEYOPS{"verify"}}),
		jwk(&rsaKey.PublicKey, meta{KID: "enc", USE: "enc"}),
		jwk(&rsaKey.PublicKey, meta{KID: "wrap", KEYOPS: []jwkset.KEYOPS{"wrapKey"}}),
		named("private", ecKey),
		named("weak", &weakRSA.PublicKey),
		named("p384", &p384.PublicKey),
		named("oct", secret),
		named("twice", &rsaKey.PublicKey),
		named("twice", &ecKey.PublicKey),
	)
	server := httptest.NewServer(&set)
	defer server.Close()
	key, err := auth.JWKS(t.Context(), server.URL+"/jwks.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	j := newJWT(t, auth.Config{Keys: []auth.Key{key}})
	const algorithm, unknown = "algorithm not accepted", "signed with an unknown key"
	for _, tt := range []struct {
		header string
		key    any
		want   string
	}{
		{`{"alg":"RS256","kid":"rsa"}`, rsaKey, ""},
		{`{"alg":"PS256","kid":"rsa"}`, rsaKey, ""},
		{`{"alg":"PS256","kid":"ps256"}`, rsaKey, ""},
		{`{"alg":"ES256","kid":"ec"}`, ecKey, ""},
		{`{"alg":"ES256","kid":"private"}`, ecKey, ""}, // JWKS uses the public half of the key
		{`{"alg":"EdDSA","kid":"ed"}`, edKey, ""},
		{`{"alg":"RS256","kid":"twice"}`, rsaKey, ""},
		{`{"alg":"ES256","kid":"twice"}`, ecKey, ""},
		{`{"alg":"RS256"}`, rsaKey, ""},
		{`{"alg":"ES256"}`, ecKey, ""},
		{`{"alg":"EdDSA","kid":""}`, edKey, ""},

		{`{"alg":"RS256","kid":"rsa"}`, weakRSA, "signature mismatch"},
		{`{"alg":"RS256"}`, weakRSA, "signature mismatch"},
		{`{"alg":"RS256","kid":"ps256"}`, rsaKey, unknown},
		{`{"alg":"ES256","kid":"rsa"}`, ecKey, unknown},
		{`{"alg":"HS256","kid":"oct"}`, secret, algorithm},
		{`{"alg":"HS256","kid":"rsa"}`, pkix(&rsaKey.PublicKey), algorithm},
		{`{"alg":"RS384","kid":"rsa"}`, rsaKey, algorithm},
		{`{"alg":"ES384","kid":"p384"}`, p384, algorithm},
		{`{"alg":"RS256","kid":["rsa"]}`, rsaKey, "kid not a string"},
	} {
		u, err := j.Authenticate(bearer(sign(tt.header, alice, tt.key)))
		if tt.want != "" {
			check(t, err, auth.ErrBadToken, tt.want)
		} else if err != nil || u.ID != "alice" {
			t.Errorf("%s: got user %q and error %v, want alice", tt.header, u.ID, err)
		}
	}
	if got := set.fetches.Load(); got != 1 {
		t.Errorf("got %d fetches, want 1", got)
	}

	// An ignored key is an unknown key, so each of these tokens requests a fetch.
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for kid, key := range map[string]any{"enc": rsaKey, "wrap": rsaKey, "weak": weakRSA} {
		_, err := j.Authenticate(bearer(sign(`{"alg":"RS256","kid":"`+kid+`"}`, alice, key)).WithContext(gone))
		check(t, err, auth.ErrUnavailable, "")
	}
}

func TestJWKSAddress(t *testing.T) {
	for _, address := range []string{"", "jwks.json", "ftp://a/b", "file:///etc/jwks", "https://", "http://a b/"} {
		if _, err := auth.JWKS(t.Context(), address, nil); err == nil {
			t.Errorf("JWKS(%q): got no error", address)
		}
	}
}
