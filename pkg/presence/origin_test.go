package presence_test

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
)

// The server compares an Origin with the Host of the request and with the allowed origins. It
// compares the scheme, the lower-cased host and the effective port (RFC 6454 section 5).
func TestOrigins(t *testing.T) {
	h := open(t, presence.Config{CORSOrigins: []string{
		"https://App.example:443", "http://localhost:3000", "https://*.Example.com", "http://*.localhost:5173",
		"capacitor://localhost", "ionic://localhost", "tauri://localhost", "chrome-extension://abcdefghijklmnop",
	}})
	jar := auth.HostCookieName + "=" + bearer(t, "alice")
	for _, c := range []struct {
		host, origin string
		same, listed bool // same origin as Host; one of the allowed origins
	}{
		{"presence.test:80", "http://presence.test", true, false},
		{"presence.test", "http://presence.test:80", true, false},
		{"presence.test:443", "https://presence.test", true, false},
		{"presence.test", "https://presence.test:443", true, false},
		{"presence.test", "https://presence.test", true, false},
		{"Presence.Test", "http://presence.test", true, false},
		{"presence.test", "HTTP://PRESENCE.TEST", true, false},
		{"presence.test:8080", "http://presence.test:8080", true, false},
		{"[::1]:8080", "http://[::1]:8080", true, false},
		{"[::1]", "http://[::1]:80", true, false},
		{"presence.test:8080", "http://presence.test", false, false},
		{"presence.test", "http://presence.test:8080", false, false},
		{"presence.test:443", "http://presence.test", false, false},
		{"presence.test:80", "https://presence.test", false, false},
		{"presence.test", "http://presence.test.", false, false},
		{"presence.test", "http://presence.test:", false, false},
		{"presence.test", "http://x@presence.test", false, false},
		{"presence.test", "presence.test", false, false},
		{"presence.test", "http://", false, false},
		{"presence.test", "null", false, false},
		{"presence.test", "https://evil.example", false, false},
		{"localhost", "capacitor://localhost", false, true},
		{"localhost", "app://localhost", false, false},

		{"presence.test", "https://app.example", false, true},
		{"presence.test", "https://APP.example:443", false, true},
		{"presence.test", "http://app.example", false, false},
		{"presence.test", "http://localhost:3000", false, true},
		{"presence.test", "http://localhost", false, false},
		{"presence.test", "https://a.example.com", false, true},
		{"presence.test", "https://a.b.example.com", false, false},
		{"presence.test", "https://example.com", false, false},
		{"presence.test", "https://.example.com", false, false},
		{"presence.test", "https://a.example.com:8443", false, false},
		{"presence.test", "https://aexample.com", false, false},
		{"presence.test", "http://shop.localhost:5173", false, true},
		{"presence.test", "ionic://localhost", false, true},
		{"presence.test", "tauri://localhost", false, true},
		{"presence.test", "chrome-extension://abcdefghijklmnop", false, true},
		{"presence.test", "chrome-extension://ponmlkjihgfedcba", false, false},
	} {
		for _, site := range []string{"", "cross-site"} {
			r := httptest.NewRequest("GET", "/presence", nil)
			r.Host = c.host
			r.Header.Set("Cookie", jar)
			r.Header.Set("Origin", c.origin)
			if site != "" {
				r.Header.Set("Sec-Fetch-Site", site)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			want := http.StatusForbidden
			if c.listed || c.same && site == "" {
				want = http.StatusOK
			}
			if w.Code != want {
				t.Errorf("Host %s, Origin %s, Sec-Fetch-Site %q: got %d %s, want %d", c.host, c.origin, site, w.Code, w.Body, want)
			}
			if w.Code == http.StatusForbidden && (!strings.Contains(w.Body.String(), c.host) || !strings.Contains(w.Body.String(), c.origin)) {
				t.Errorf("Host %s, Origin %s: got problem %s, want both names in it", c.host, c.origin, w.Body)
			}
			for _, name := range []string{"Access-Control-Allow-Origin", "Timing-Allow-Origin"} {
				if got := w.Header().Get(name); (got == c.origin) != c.listed || got != "" && got != c.origin {
					t.Errorf("Origin %s: got %s %q, want the origin: %v", c.origin, name, got, c.listed)
				}
			}
		}
	}
}

// A cookie with SameSite=None is Partitioned, and so is the Set-Cookie that clears it. Otherwise a
// browser neither sends the cookie from a page of another site nor clears it.
func TestPartitionedCookie(t *testing.T) {
	for _, mode := range []http.SameSite{http.SameSiteNoneMode, http.SameSiteLaxMode} {
		h := open(t, presence.Config{Cookie: presence.Cookie{SameSite: mode}})
		in := h.signIn(bearer(t, "alice"))
		out := h.ask("DELETE", "/session", "", "", "Cookie", auth.HostCookieName+"="+cookie(t, in).Value)
		for _, answer := range []*http.Response{in, out} {
			all := answer.Cookies()
			if mode == http.SameSiteNoneMode && (len(all) != 2 || all[1].Partitioned || all[1].MaxAge != -1 || all[1].Name != all[0].Name || all[1].Path != all[0].Path) {
				t.Errorf("got cookies %v, want the one without Partitioned cleared", all)
			}
			if c := cookie(t, answer); c.Partitioned != (mode == http.SameSiteNoneMode) || !c.Secure || c.SameSite != mode {
				t.Errorf("SameSite %v: got %s, want Secure and Partitioned: %v", mode, c, mode == http.SameSiteNoneMode)
			}
		}
	}
}

// The server allows a preflight with the headers of the fetch libraries, for every method.
func TestPreflightOfFetch(t *testing.T) {
	h := open(t, presence.Config{CORSOrigins: []string{"https://app.example"}})
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE"} {
		r := h.ask("OPTIONS", "/events", "", "", "Origin", "https://app.example", "Access-Control-Request-Method", method,
			"Access-Control-Request-Headers", "authorization,cache-control,content-type,last-event-id")
		body, _ := io.ReadAll(r.Body)
		if r.StatusCode != 200 || r.Header.Get("Access-Control-Allow-Methods") != method || r.Header.Get("Access-Control-Allow-Headers") == "" ||
			r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: got %s, %v, %s; want 200 with the allowed method and headers", method, r.Status, r.Header, body)
		}
	}
}

// A preflight of an origin that is not allowed is refused and logged, because the browser sends no
// request after it.
func TestRefusedPreflight(t *testing.T) {
	const preflight = "Access-Control-Request-Method"
	for _, c := range []struct {
		cors    []string
		headers []string
		status  int
		why     string
	}{
		{nil, []string{"Origin", "https://evil.example", preflight, "POST"}, 403, "not in the CORS origins"},
		{[]string{"https://app.example"}, []string{"Origin", "https://evil.example", preflight, "POST"}, 403, "not in the CORS origins"},
		{[]string{"https://app.example"}, []string{"Origin", "https://evil.example", preflight, "POST", "Sec-Fetch-Site", "same-site"}, 403, `not in the CORS origins, Sec-Fetch-Site "same-site"`},
		{[]string{"https://app.example"}, []string{"Origin", "https://app.example", preflight, "POST"}, 200, ""},
		{[]string{"*"}, []string{"Origin", "https://evil.example", preflight, "POST"}, 200, ""},
		{nil, []string{"Origin", "https://evil.example"}, 405, ""},
		{nil, []string{preflight, "POST"}, 405, ""},
	} {
		var log syncBuffer
		h := open(t, presence.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), CORSOrigins: c.cors})
		r := h.ask("OPTIONS", "/session", "", "", c.headers...)
		want := ""
		if c.why != "" {
			want = "cause=origin count=1 detail=" + strconv.Quote(`cross-origin request rejected: origin "https://evil.example" not allowed (server host "`+
				strings.TrimPrefix(h.URL, "http://")+`"): `+c.why) + " status=403 method=OPTIONS path=/session client_address=127.0.0.1 request_id="
		}
		if got := log.String(); r.StatusCode != c.status || !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q, %q: got %s and the log %q, want %d and %q", c.cors, c.headers, r.Status, got, c.status, want)
		}
	}
}

// The log distinguishes a page of another origin from a proxy that does not pass the Host header
// on. The client does not receive that.
func TestOriginLog(t *testing.T) {
	const listed = "https://app.example"
	for _, c := range []struct {
		cors               string
		host, origin, site string
		want               string
	}{
		{listed, "presence.example", "https://evil.example", "", "not in the CORS origins"},
		{listed, "presence.example", "https://evil.example", "cross-site", `not in the CORS origins, Sec-Fetch-Site "cross-site"`},
		{listed, "127.0.0.1:8080", "https://evil.example", "same-site", `not in the CORS origins, Sec-Fetch-Site "same-site"`},
		{listed, "presence.example", "", "cross-site", `not in the CORS origins, Sec-Fetch-Site "cross-site"`},
		{"*", "presence.example", "https://evil.example", "cross-site", `the CORS origin "*" does not allow cookies`},
		{listed, "127.0.0.1:8080", "https://presence.example", "", "not in the CORS origins, or a proxy does not pass Host on"},
		{listed, "[fd00::1]:8080", "https://presence.example", "", "not in the CORS origins, or a proxy does not pass Host on"},
		{listed, "10.1.2.3", "https://presence.example", "", "not in the CORS origins, or a proxy does not pass Host on"},
		{listed, "backend:8080", "https://presence.example", "", "not in the CORS origins, or a proxy does not pass Host on"},
		{listed, "192.0.2.1", "https://presence.example", "", "not in the CORS origins"},
		{listed, "localhost", "capacitor://localhost", "", "not in the CORS origins"},
		{listed, "presence.example", "https://presence.example:8443", "", "not in the CORS origins, or a proxy changes the port of Host"},
	} {
		var log syncBuffer
		h := open(t, presence.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), CORSOrigins: []string{c.cors}})
		headers := []string{"Cookie", auth.HostCookieName + "=" + bearer(t, "alice")}
		named := ""
		if c.origin != "" {
			headers, named = append(headers, "Origin", c.origin), ` "`+c.origin+`"`
		}
		if c.site != "" {
			headers = append(headers, "Sec-Fetch-Site", c.site)
		}
		r := httptest.NewRequest("GET", "/presence", nil)
		r.Host = c.host
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		text := "cross-origin request rejected: origin" + named + ` not allowed (server host "` + c.host + `")`
		log.has(t, "cause=origin count=1 detail="+strconv.Quote(text+": "+c.want)+" status=403 ")
		var answer struct{ Detail string }
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Detail != text {
			t.Errorf("got problem %s, %v; want %s", answer.Detail, err, text)
		}
	}
}

// A browser drops a Secure cookie that it receives over plain HTTP, except from its own machine.
// The log has a warning.
func TestDroppedCookie(t *testing.T) {
	const none = http.SameSiteNoneMode
	for _, c := range []struct {
		host, origin string
		cookie       presence.Cookie
		want         bool
	}{
		{"presence.example", "http://presence.example", presence.Cookie{}, true},
		{"192.0.2.1:8080", "http://192.0.2.1:8080", presence.Cookie{}, true},
		{"presence.example", "http://presence.example", presence.Cookie{SameSite: none}, true},
		{"presence.example", "http://app.example", presence.Cookie{}, true},
		{"presence.example", "http://app.example", presence.Cookie{SameSite: none}, false}, // the server may be behind HTTPS
		{"presence.example", "http://presence.example", presence.Cookie{Insecure: true}, false},
		{"presence.example", "https://presence.example", presence.Cookie{}, false},
		{"presence.example", "", presence.Cookie{}, false},
		{"localhost:8080", "http://localhost:8080", presence.Cookie{}, false},
		{"a.localhost", "http://a.localhost", presence.Cookie{}, false},
		{"127.0.0.2", "http://127.0.0.2", presence.Cookie{}, false},
		{"[::1]:8080", "http://[::1]:8080", presence.Cookie{}, false},
	} {
		var log syncBuffer
		h := open(t, presence.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Cookie: c.cookie, CORSOrigins: []string{"http://app.example"}})
		for _, secure := range []*tls.ConnectionState{{}, nil} {
			r := httptest.NewRequest("POST", "/session", strings.NewReader(`{"token":"`+bearer(t, "alice")+`"}`))
			r.Host, r.TLS = c.host, secure
			r.Header.Set("Content-Type", "application/json")
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			want := ""
			if c.want && secure == nil {
				want = `level=WARN msg="Secure cookie set for a page over plain HTTP: browsers drop it" origin=` + c.origin + " host=" + c.host +
					" method=POST path=/session user=alice client_address=192.0.2.1 request_id="
			}
			if got := log.String(); w.Code != http.StatusNoContent || !strings.Contains(got, want) || want == "" && got != "" {
				t.Errorf("Host %s, Origin %q, %+v, TLS %v: got %d and the log %q, want 204 and %q", c.host, c.origin, c.cookie, secure != nil, w.Code, got, want)
			}
		}
	}
}

// A browser drops a Lax or Strict cookie for a page of another site. The log has a warning.
func TestCrossSiteCookieLog(t *testing.T) {
	lax, strict, none := presence.Cookie{}, presence.Cookie{SameSite: http.SameSiteStrictMode}, presence.Cookie{SameSite: http.SameSiteNoneMode}
	for _, c := range []struct {
		cookie              presence.Cookie
		path, site, sent    string
		want                bool
		body, authorization string
	}{
		{lax, "/session", "cross-site", "https://app.example", true, "", ""},
		{strict, "/session", "cross-site", "https://app.example", true, "", ""},
		{lax, "/login", "cross-site", "https://app.example", true, `{"name":"Ann"}`, ""},
		{none, "/session", "cross-site", "https://app.example", false, "", ""},
		{lax, "/session", "same-site", "https://app.example", false, "", ""},
		{lax, "/session", "same-origin", "https://presence.example", false, "", ""},
		{lax, "/session", "", "https://app.example", false, "", ""},                       // over plain HTTP
		{lax, "/session", "cross-site", "https://app.example", false, "", "Bearer token"}, // presence.js renews a token
	} {
		var log syncBuffer
		guest := func(string) (string, presence.User, error) {
			return bearer(t, "guest"), presence.User{ID: "guest"}, nil
		}
		h := open(t, presence.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Cookie: c.cookie, CORSOrigins: []string{"https://app.example"}, Guest: guest})
		for range 2 { // the second line within a minute is not logged
			r := httptest.NewRequest("POST", c.path, strings.NewReader(cmp.Or(c.body, `{"token":"`+bearer(t, "alice")+`"}`)))
			r.Host = "presence.example"
			for name, value := range map[string]string{"Content-Type": "application/json", "Sec-Fetch-Site": c.site, "Origin": c.sent, "Authorization": c.authorization} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code >= 300 || len(w.Result().Cookies()) == 0 {
				t.Errorf("%+v: got %d and the cookies %v", c, w.Code, w.Result().Cookies())
			}
		}
		const line = `level=WARN msg="SameSite cookie set for a page of another site: browsers drop it" ` +
			`origin=https://app.example host=presence.example needs="--cookie-samesite none" method=POST path=`
		want := 0
		if c.want {
			want = 1
		}
		if got := log.String(); strings.Count(got, line+c.path+" user=") != want || strings.Count(got, "\n") != want {
			t.Errorf("%+v: got the log %q, want %d lines", c, got, want)
		}
	}
}
