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

// jwk returns the JWK of key with this metadata.
func jwk(key any, m jwkset.JWKMetadataOptions) jwkset.JWKMarshal {
	o := jwkset.JWKOptions{Metadata: m, Marshal: jwkset.JWKMarshalOptions{Private: true}}
	return must(jwkset.NewJWKFromKey(key, o)).Marshal()
}

func named(kid string, key any) jwkset.JWKMarshal {
	return jwk(key, jwkset.JWKMetadataOptions{KID: kid})
}

// issuer serves a JWK Set.
type issuer struct {
	answer  atomic.Pointer[http.HandlerFunc]
	fetches atomic.Int32
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.fetches.Add(1)
	(*i.answer.Load())(w, r)
}

func (i *issuer) does(f http.HandlerFunc) { i.answer.Store(&f) }

func (i *issuer) has(keys ...jwkset.JWKMarshal) {
	set := must(json.Marshal(map[string]any{"keys": append([]jwkset.JWKMarshal{}, keys...)}))
	i.does(func(w http.ResponseWriter, _ *http.Request) { w.Write(set) })
}

func down(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// wire is a network in memory that follows the clock of testing/synctest.
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

// world is an issuer and a JWT that uses its keys.
type world struct {
	issuer
	*auth.JWT
	t   *testing.T
	log bytes.Buffer
	end context.CancelFunc
}

// inWorld runs story in a synctest bubble. The issuer first has key 1, or is down.
func inWorld(t *testing.T, up bool, story func(*testing.T, *world)) {
	inWorldThat(t, func(w *world) {
		if up {
			w.has(named("1", edKey))
		} else {
			w.does(down)
		}
	}, story)
}

// inWorldThat is inWorld with an issuer that begin configures before the first fetch.
func inWorldThat(t *testing.T, begin func(*world), story func(*testing.T, *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t}
		begin(w)
		net := &wire{conns: make(chan net.Conn)}
		server := &httptest.Server{Listener: net, Config: &http.Server{Handler: w, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}}
		server.Start()
		defer server.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w.end = cancel
		key, err := auth.JWKSOver(ctx, server.URL, slog.New(slog.NewTextHandler(&w.log, nil)),
			&http.Transport{DialContext: net.dial, DisableKeepAlives: true})
		if err != nil {
			t.Fatal(err)
		}
		w.JWT = newJWT(t, auth.Config{Key: key})
		story(t, w)
	})
}

// ask authenticates a token with that kid. It fails unless the error is want and the call took the
// time after.
func (w *world) ask(kid string, want error, after time.Duration) {
	w.t.Helper()
	start := time.Now()
	_, err := w.Authenticate(bearer(sign(`{"alg":"EdDSA","kid":"`+kid+`"}`, alice, edKey)))
	check(w.t, err, want, "")
	if took := time.Since(start); took != after {
		w.t.Errorf("kid %s: took %v, want %v", kid, took, after)
	}
}

// knows fails unless a token with kid is accepted without another fetch.
func (w *world) knows(kid string) {
	w.t.Helper()
	before := w.fetches.Load()
	w.ask(kid, nil, 0)
	if got := w.fetches.Load(); got != before {
		w.t.Errorf("kid %s: got a fetch, want none", kid)
	}
}

// sleep lets d pass in the bubble and waits until everything due has happened.
func (w *world) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// logged returns the log so far.
func (w *world) logged() string {
	synctest.Wait()
	return w.log.String()
}

func TestJWKSRotation(t *testing.T) {
	inWorld(t, true, func(t *testing.T, w *world) {
		w.ask("1", nil, 0)
		w.knows("1")

		w.has(named("2", edKey))
		w.knows("1") // the previous set is still in use
		w.ask("2", nil, 5*time.Second)
		w.ask("1", auth.ErrBadToken, 5*time.Second)

		// The set is also fetched without a token.
		w.has(named("3", edKey))
		w.sleep(5 * time.Minute)
		w.knows("3")

		// An empty set is a valid answer.
		w.has()
		w.sleep(5 * time.Minute)
		w.ask("3", auth.ErrBadToken, 5*time.Second)
		if got := w.logged(); !strings.Contains(got, "level=WARN msg=\"JWK Set fetched\"") {
			t.Errorf("got log %s, want a warning for a set without keys", got)
		}
	})
}

func TestJWKSOutage(t *testing.T) {
	inWorld(t, false, func(t *testing.T, w *world) {
		synctest.Wait()
		w.ask("1", auth.ErrUnavailable, 5*time.Second)
		w.has(named("1", edKey))
		w.ask("1", nil, 5*time.Second)

		w.does(down)
		w.sleep(time.Hour)
		w.knows("1")
		w.ask("2", auth.ErrUnavailable, 5*time.Second)

		// The set is also fetched without a token.
		w.has(named("2", edKey))
		w.sleep(30 * time.Second)
		w.knows("2")
		if got := w.logged(); !strings.Contains(got, "JWK Set fetch failed") || strings.Count(got, "JWK Set fetch recovered") != 2 {
			t.Errorf("got log %s, want a failed fetch and two recoveries", got)
		}
	})
}

func TestJWKSReady(t *testing.T) {
	if err := newJWT(t, auth.Config{}).Ready(t.Context()); err != nil {
		t.Errorf("Ready of a secret: got %v, want nil", err)
	}
	hangs := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, tt := range map[string]struct {
		does  http.HandlerFunc // nil: the issuer has key 1
		limit time.Duration
		said  string
		took  time.Duration
	}{
		"up":      {nil, time.Minute, "", 0},
		"down":    {down, time.Minute, "EOF", 0},
		"404":     {http.NotFound, time.Minute, "unexpected status 404 Not Found", 0},
		"no keys": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"keys":[]}`) }, time.Minute, "no key that verifies", 0},
		"hangs":   {hangs, time.Minute, "deadline exceeded", 5 * time.Second},
		"hurry":   {hangs, time.Second, "deadline exceeded", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			begin := func(w *world) {
				w.has(named("1", edKey))
				if tt.does != nil {
					w.does(tt.does)
				}
			}
			inWorldThat(t, begin, func(t *testing.T, w *world) {
				ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
				defer cancel()
				start := time.Now()
				err := w.Ready(ctx)
				if (err == nil) != (tt.said == "") || err != nil && !strings.Contains(err.Error(), tt.said) {
					t.Errorf("got %v, want %q", err, tt.said)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
			})
		})
	}

	// The keys of an earlier fetch are enough.
	inWorld(t, true, func(t *testing.T, w *world) {
		w.ask("1", nil, 0)
		w.does(down)
		w.sleep(time.Hour)
		if err := w.Ready(t.Context()); err != nil {
			t.Errorf("got %v, want nil with the keys of an earlier fetch", err)
		}
	})
}

func TestJWKSFetchRateIsLimited(t *testing.T) {
	inWorld(t, true, func(t *testing.T, w *world) {
		w.ask("1", nil, 0)
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Second / 10)
				_, err := w.Authenticate(bearer(sign(`{"alg":"EdDSA","kid":"?"}`, alice, edKey)))
				check(t, err, auth.ErrBadToken, "it is signed with an unknown key")
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
	says := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
	}
	for name, tt := range map[string]struct {
		does http.HandlerFunc
		log  string
		took time.Duration
	}{
		"too long": {says(`{"keys":[` + good + `]}` + strings.Repeat(" ", 512<<10)), "not a JWK Set", 0},
		"no keys":  {says(`{}`), "not a JWK Set", 0},
		"no JSON":  {says(`<html>`), "not a JWK Set", 0},
		"cut off":  {says(`{"keys":[` + good), "not a JWK Set", 0},
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
			inWorld(t, true, func(t *testing.T, w *world) {
				w.ask("1", nil, 0)
				w.does(tt.does)
				w.ask("2", auth.ErrUnavailable, 5*time.Second+tt.took)
				w.knows("1")
				if got := w.logged(); !strings.Contains(got, tt.log) {
					t.Errorf("got log %s, want %s", got, tt.log)
				}
			})
		})
	}
}

func TestJWKSEnds(t *testing.T) {
	inWorld(t, true, func(t *testing.T, w *world) {
		w.ask("1", nil, 0)

		// A waiting token gets an error. A later one does not wait.
		go func() {
			time.Sleep(time.Second)
			w.end()
		}()
		w.ask("2", auth.ErrUnavailable, time.Second)
		w.ask("2", auth.ErrUnavailable, 0)
		w.knows("1")
		if got := w.logged(); got != "" {
			t.Errorf("got log %s, want none after the context was canceled", got)
		}
	})
}

func TestJWKSCanceledRequest(t *testing.T) {
	inWorld(t, true, func(t *testing.T, w *world) {
		w.ask("1", nil, 0)
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

// This test uses a real socket and the exported function.
func TestJWKSKeys(t *testing.T) {
	type meta = jwkset.JWKMetadataOptions
	broken := named("broken", &ecKey.PublicKey)
	broken.X = "!"
	var set issuer
	set.has(broken,
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
	j := newJWT(t, auth.Config{Key: key})
	const algorithm, unknown = "its algorithm is not accepted", "it is signed with an unknown key"
	for _, tt := range []struct {
		header string
		key    any
		said   string
	}{
		{`{"alg":"RS256","kid":"rsa"}`, rsaKey, ""},
		{`{"alg":"PS256","kid":"rsa"}`, rsaKey, ""},
		{`{"alg":"PS256","kid":"ps256"}`, rsaKey, ""},
		{`{"alg":"ES256","kid":"ec"}`, ecKey, ""},
		{`{"alg":"ES256","kid":"private"}`, ecKey, ""}, // its public half
		{`{"alg":"EdDSA","kid":"ed"}`, edKey, ""},
		{`{"alg":"RS256","kid":"twice"}`, rsaKey, ""},
		{`{"alg":"ES256","kid":"twice"}`, ecKey, ""},
		{`{"alg":"RS256"}`, rsaKey, ""},
		{`{"alg":"ES256"}`, ecKey, ""},
		{`{"alg":"EdDSA","kid":""}`, edKey, ""},

		{`{"alg":"RS256","kid":"rsa"}`, weakRSA, "its signature does not match"},
		{`{"alg":"RS256"}`, weakRSA, "its signature does not match"},
		{`{"alg":"RS256","kid":"ps256"}`, rsaKey, unknown},
		{`{"alg":"ES256","kid":"rsa"}`, ecKey, unknown},
		{`{"alg":"HS256","kid":"oct"}`, secret, algorithm},
		{`{"alg":"HS256","kid":"rsa"}`, pkix(&rsaKey.PublicKey), algorithm},
		{`{"alg":"RS384","kid":"rsa"}`, rsaKey, algorithm},
		{`{"alg":"ES384","kid":"p384"}`, p384, algorithm},
		{`{"alg":"RS256","kid":["rsa"]}`, rsaKey, "its kid is not a string"},
	} {
		u, err := j.Authenticate(bearer(sign(tt.header, alice, tt.key)))
		if tt.said != "" {
			check(t, err, auth.ErrBadToken, tt.said)
		} else if err != nil || u.ID != "alice" {
			t.Errorf("%s: got user %q and error %v, want alice", tt.header, u.ID, err)
		}
	}
	if got := set.fetches.Load(); got != 1 {
		t.Errorf("got %d fetches, want 1", got)
	}

	// A key that was ignored is unknown: each of these tokens causes a fetch.
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
