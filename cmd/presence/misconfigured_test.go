package main

import (
	"crypto/rand"
	"crypto/rsa"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// misconfiguration is a mistake that locks all users out. The operator has only the log, at its
// default level.
type misconfiguration struct {
	flags []string                                     // wrong for the tokens of the issuer
	use   func(t *testing.T, addr string) (status int) // a client uses the server at addr
	want  int                                          // status of the client
	lines []string                                     // warnings and errors, sorted
}

const (
	refusedLine = `level=WARN msg="request refused" `
	ofAnyone    = ` method=GET path=/presence client_address=127.0.0.1 request_id=ID`
	ofAlice     = ` method=GET path=/presence user=alice client_address=127.0.0.1 request_id=ID`
	secretID    = "secret-fa3b2a54dfcfd0b1" // fingerprint of secret
)

var misconfigurations = map[string]misconfiguration{
	"secret": {
		use:  withToken(jwt.SigningMethodHS256, []byte("the secret of the application, another"), nil),
		want: http.StatusUnauthorized,
		lines: []string{refusedLine + `cause=token reason=signature count=1 detail="invalid token: signature mismatch: no key verifies it, 1 tried ` +
			`(alg \"HS256\", no kid, key fingerprint ` + secretID + `)" status=401` + ofAnyone},
	},
	"issuer": {
		flags: []string{"--jwt-issuer=https://login.example"},
		use:   withToken(jwt.SigningMethodHS256, []byte(secret), jwt.MapClaims{"iss": "https://login.example/"}),
		want:  http.StatusUnauthorized,
		lines: []string{refusedLine + `cause=token reason=issuer count=1 detail="invalid token: wrong issuer: \"https://login.example/\" (required \"https://login.example\")" status=401` + ofAlice},
	},
	"audience": {
		flags: []string{"--jwt-audience=presence"},
		use:   withToken(jwt.SigningMethodHS256, []byte(secret), jwt.MapClaims{"aud": []string{"web", "api"}}),
		want:  http.StatusUnauthorized,
		lines: []string{refusedLine + `cause=token reason=audience count=1 detail="invalid token: wrong audience: \"web\", \"api\" (required \"presence\")" status=401` + ofAlice},
	},
	"algorithm": {
		use:   withToken(jwt.SigningMethodRS256, nil, nil),
		want:  http.StatusUnauthorized,
		lines: []string{refusedLine + `cause=token reason=algorithm count=1 detail="invalid token: algorithm not accepted: alg \"RS256\", no kid (accepted HS256)" status=401` + ofAnyone},
	},
	"clock ahead": {
		use:  withToken(jwt.SigningMethodHS256, []byte(secret), jwt.MapClaims{"exp": time.Now().Add(-2 * time.Hour).Unix(), "iat": time.Now().Add(-3 * time.Hour).Unix()}),
		want: http.StatusUnauthorized,
		lines: []string{refusedLine + `cause=token reason=expired count=1 detail="invalid token: expired: exp TIME is DURATION ago, iat TIME (server time TIME)" status=401` +
			ofAlice},
	},
	"clock behind": {
		use:  withToken(jwt.SigningMethodHS256, []byte(secret), jwt.MapClaims{"nbf": time.Now().Add(2 * time.Hour).Unix()}),
		want: http.StatusUnauthorized,
		lines: []string{refusedLine + `cause=token reason=not_yet_valid count=1 detail="invalid token: not valid yet: nbf TIME is in DURATION (server time TIME)" status=401` +
			ofAlice},
	},
	"CORS origin": {
		flags: []string{"--cors-origin=https://www.app.example"},
		use: func(t *testing.T, addr string) int {
			page := &website{client: through(t, addr, false), server: "http://presence.example", headers: []string{"Origin", "https://app.example", "Sec-Fetch-Site", "cross-site"}}
			preflight := append(page.headers, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
			if got := ask(t, t.Context(), page.client, "OPTIONS", page.server+"/session", "", preflight...); got.StatusCode != http.StatusForbidden {
				t.Errorf("preflight: got %s, want 403", got.Status)
			}
			page.headers = append(page.headers, "Cookie", "__Host-presence_token="+signed(t, jwt.SigningMethodHS256, []byte(secret), nil))
			return page.get(t, "/events") // an EventSource needs no preflight
		},
		want: http.StatusForbidden,
		lines: []string{
			refusedLine + `cause=origin count=1 detail="cross-origin request rejected: origin \"https://app.example\" not allowed (server host \"presence.example\"): ` +
				`not in the CORS origins, Sec-Fetch-Site \"cross-site\"" status=403 method=GET path=/events user=alice client_address=127.0.0.1 request_id=ID`,
			refusedLine + `cause=origin count=1 detail="cross-origin request rejected: origin \"https://app.example\" not allowed (server host \"presence.example\"): ` +
				`not in the CORS origins, Sec-Fetch-Site \"cross-site\"" status=403 method=OPTIONS path=/session client_address=127.0.0.1 request_id=ID`,
		},
	},
	"CORS wildcard with the cookie": {
		flags: []string{"--cors-origin=*"},
		use: func(t *testing.T, addr string) int {
			page := &website{client: through(t, addr, false), server: "http://presence.example", headers: []string{"Origin", "https://app.example", "Sec-Fetch-Site", "cross-site"}}
			preflight := append(page.headers, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
			// After this response, a browser does not send the request, and the log has no line.
			got := ask(t, t.Context(), page.client, "OPTIONS", page.server+"/session", "", preflight...)
			if got.StatusCode != http.StatusOK || got.Header.Get("Access-Control-Allow-Origin") != "*" || got.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("preflight: got %s, %v", got.Status, got.Header)
			}
			page.headers = append(page.headers, "Cookie", "__Host-presence_token="+signed(t, jwt.SigningMethodHS256, []byte(secret), nil))
			return page.get(t, "/events")
		},
		want: http.StatusForbidden,
		lines: []string{
			refusedLine + `cause=origin count=1 detail="cross-origin request rejected: origin \"https://app.example\" not allowed (server host \"presence.example\"): ` +
				`the CORS origin \"*\" does not allow cookies" status=403 method=GET path=/events user=alice client_address=127.0.0.1 request_id=ID`,
		},
	},
	"cookie over plain HTTP": {
		use: func(t *testing.T, addr string) int {
			page := &website{client: through(t, addr, false), server: "http://presence.example", headers: []string{"Origin", "http://presence.example"}}
			page.client.Jar, _ = cookiejar.New(nil) // never an error
			if status := page.signIn(t); status != http.StatusNoContent {
				t.Errorf("sign-in: got %d, want 204", status)
			}
			return page.get(t, "/presence")
		},
		want: http.StatusUnauthorized,
		lines: []string{
			`level=WARN msg="Secure cookie set for a page over plain HTTP: browsers drop it" origin=http://presence.example host=presence.example ` +
				`method=POST path=/session user=alice client_address=127.0.0.1 request_id=ID`,
			refusedLine + `cause=anonymous count=1 detail="no token: send an Authorization: Bearer header or the session cookie" status=401` + ofAnyone,
		},
	},
	"cookie of another site": {
		flags: []string{"--cors-origin=https://app.example"},
		use: func(t *testing.T, addr string) int {
			page := &website{client: through(t, addr, false), server: "http://presence.example",
				headers: []string{"Origin", "https://app.example", "Sec-Fetch-Site", "cross-site"}}
			if status := page.signIn(t); status != http.StatusNoContent { // the client keeps no cookie
				t.Errorf("sign-in: got %d, want 204", status)
			}
			return page.get(t, "/presence")
		},
		want: http.StatusUnauthorized,
		lines: []string{
			`level=WARN msg="SameSite cookie set for a page of another site: browsers drop it" origin=https://app.example host=presence.example ` +
				`needs="--cookie-samesite none" method=POST path=/session user=alice client_address=127.0.0.1 request_id=ID`,
			refusedLine + `cause=anonymous count=1 detail="no token: send an Authorization: Bearer header or the session cookie" status=401` + ofAnyone,
		},
	},
	"room claim": {
		use: func(t *testing.T, addr string) int {
			token := signed(t, jwt.SigningMethodHS256, []byte(secret), jwt.MapClaims{"rooms": []string{"doc-*"}})
			page := &website{client: through(t, addr, false), server: "http://presence.example", headers: []string{"Authorization", "Bearer " + token}}
			return page.get(t, "/events?room=doc-1")
		},
		want: http.StatusForbidden,
		lines: []string{refusedLine + `cause=room_right count=1 detail="token lacks the required right for room \"doc-1\": join allowed in \"lobby\" (as without the claim presence)" ` +
			`status=403 method=GET path=/events room=doc-1 user=alice client_address=127.0.0.1 request_id=ID`},
	},
	"JWKS unreachable": {
		flags: []string{"--jwt-secret=", "--jwks-url=http://DOWN/jwks.json"},
		use:   withToken(jwt.SigningMethodRS256, nil, nil),
		want:  http.StatusServiceUnavailable,
		lines: []string{
			`level=WARN msg="JWK Set fetch failed" url=http://DOWN/jwks.json err="dial tcp DOWN: connect: connection refused"`,
			refusedLine + `cause=keys_unavailable count=1 detail="keys unavailable: JWK Set http://DOWN/jwks.json not fetched: ` +
				`dial tcp DOWN: connect: connection refused" status=503` + ofAnyone,
		},
	},
	"proxy without Host": {
		use: func(t *testing.T, addr string) int {
			block := proxyBlocks(t)["nginx"][0]
			without := strings.Replace(block, "proxy_set_header Host $http_host;", "", 1)
			if without == block {
				t.Fatalf("no Host in\n%s", block)
			}
			proxy := proxies["nginx"].start(t, without, addr)
			page := &website{client: through(t, proxy, true), server: "https://presence.example", headers: []string{"Origin", "https://presence.example"}}
			return page.signIn(t)
		},
		want: http.StatusForbidden,
		lines: []string{refusedLine + `cause=origin count=1 detail="cross-origin request rejected: origin \"https://presence.example\" not allowed (server host \"ADDR\"): ` +
			`not in the CORS origins, or a proxy does not pass Host on" status=403 method=POST path=/session client_address=127.0.0.1 request_id=ID`},
	},
}

// website sends requests as a page in a browser does.
type website struct {
	client  *http.Client
	server  string
	headers []string
}

func (w *website) get(t *testing.T, path string) int {
	t.Helper()
	return ask(t, t.Context(), w.client, "GET", w.server+path, "", w.headers...).StatusCode
}

func (w *website) signIn(t *testing.T) int {
	t.Helper()
	body := `{"token":"` + signed(t, jwt.SigningMethodHS256, []byte(secret), nil) + `"}`
	return ask(t, t.Context(), w.client, "POST", w.server+"/session", body, append(w.headers, "Content-Type", "application/json")...).StatusCode
}

// withToken returns a client that sends a request with this token.
func withToken(method jwt.SigningMethod, key any, claims jwt.MapClaims) func(*testing.T, string) int {
	return func(t *testing.T, addr string) int {
		page := &website{client: through(t, addr, false), server: "http://presence.example",
			headers: []string{"Authorization", "Bearer " + signed(t, method, key, claims)}}
		return page.get(t, "/presence")
	}
}

// signed returns a token of alice with these claims. A nil key is a new RSA key.
func signed(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	if key == nil {
		made, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		key = made
	}
	all := jwt.MapClaims{"sub": "alice"}
	maps.Copy(all, claims)
	token, err := jwt.NewWithClaims(method, all).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Each misconfiguration that locks all users out has lines in the log that lead to the cause, at
// the default level and without the configuration. With -v, the test prints the logs.
func TestMisconfigured(t *testing.T) {
	t.Parallel()
	for name, m := range misconfigurations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gone, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.3:0")
			if err != nil {
				t.Fatal(err)
			}
			gone.Close()
			down := gone.Addr().String()
			args := []string{"serve", "--listen=127.0.0.1:0"}
			for _, flag := range m.flags {
				args = append(args, strings.Replace(flag, "DOWN", down, 1))
			}
			server := start(t, env{"PRESENCE_JWT_SECRET": secret}, args...)
			_, addr, _ := strings.Cut(server.stderr.find(t, "msg=listening"), "addr=")
			if got := m.use(t, addr); got != m.want {
				t.Errorf("got status %d, want %d", got, m.want)
			}
			server.end()
			server.exit()
			t.Log("\n" + server.stderr.String())
			got := warnings(server)
			for i, line := range got {
				got[i] = masked(line, addr, down)
			}
			slices.Sort(got)
			if !slices.Equal(got, m.lines) {
				t.Errorf("got these lines:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(m.lines, "\n"))
			}
		})
	}
}

// warnings returns the warnings and errors of a server, without their times.
func warnings(server *background) (all []string) {
	for line := range strings.SplitSeq(server.stderr.String(), "\n") {
		_, line, _ = strings.Cut(line, " ")
		if strings.HasPrefix(line, "level=WARN") || strings.HasPrefix(line, "level=ERROR") {
			all = append(all, line)
		}
	}
	return all
}

// docs/operations.md shows all of these lines.
func TestMisconfiguredDocument(t *testing.T) {
	t.Parallel()
	document := masked(readOperations(t), "127.0.0.1:8080", "192.0.2.7:8000")
	for name, m := range misconfigurations {
		for _, line := range m.lines {
			if !strings.Contains(document, "\n"+line+"\n") {
				t.Errorf("%s: no line\n%s", name, line)
			}
		}
	}
}

// masked returns the line without the values that differ in each run.
func masked(line, addr, down string) string {
	line = strings.NewReplacer(addr, "ADDR", down, "DOWN").Replace(line)
	for _, m := range [][2]string{
		{`request_id=[A-Za-z0-9]+`, "request_id=ID"},
		{`20[0-9-]+T[0-9:]+Z`, "TIME"},
		{`[12]h[0-9]+m[0-9]+s`, "DURATION"}, // about 2 h, less the time since the start of the tests
	} {
		line = regexp.MustCompile(m[0]).ReplaceAllString(line, m[1])
	}
	return line
}
