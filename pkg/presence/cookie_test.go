package presence_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
)

// The cookie has the prefix __Host- if its attributes allow it. The server reads no other cookie
// then, so one that another host of the domain has set has no effect.
func TestCookieName(t *testing.T) {
	good, other := bearer(t, "alice"), bearer(t, "mallory")
	for name, c := range map[string]struct {
		cookie presence.Cookie
		mount  string
		name   string
		path   string
	}{
		"default":                 {presence.Cookie{}, "/", auth.HostCookieName, "/"},
		"SameSite=None":           {presence.Cookie{SameSite: http.SameSiteNoneMode}, "/", auth.HostCookieName, "/"},
		"insecure":                {presence.Cookie{Insecure: true}, "/", auth.CookieName, "/"},
		"domain":                  {presence.Cookie{Domain: "example.com"}, "/", auth.CookieName, "/"},
		"path":                    {presence.Cookie{Path: "/presence/"}, "/", auth.CookieName, "/presence/"},
		"path of the host":        {presence.Cookie{Path: "/"}, "/", auth.CookieName, "/"},
		"below a path":            {presence.Cookie{}, "/a", auth.CookieName, "/a"},
		"below a path, with Path": {presence.Cookie{Path: "/b/a"}, "/a", auth.CookieName, "/b/a"},
	} {
		h := open(t, presence.Config{Cookie: c.cookie})
		router := chi.NewRouter()
		router.Mount(c.mount, h.Server)
		ask := func(method, path, body, cookies string) *http.Response {
			r := httptest.NewRequest(method, strings.TrimSuffix(c.mount, "/")+path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			r.Header["Cookie"] = []string{cookies}
			w := httptest.NewRecorder()
			router.ServeHTTP(w, r)
			return w.Result()
		}
		for _, answer := range []*http.Response{ask("POST", "/session", `{"token":"`+good+`"}`, ""), ask("DELETE", "/session", "", c.name+"="+good)} {
			set := cookie(t, answer)
			if answer.StatusCode != http.StatusNoContent || set.Name != c.name || set.Path != c.path || set.Secure == c.cookie.Insecure || set.Domain != c.cookie.Domain {
				t.Errorf("%s: got %s and %s, want 204 and %s with the path %s", name, answer.Status, set, c.name, c.path)
			}
		}
		wrong := map[string]string{auth.HostCookieName: auth.CookieName, auth.CookieName: auth.HostCookieName}[c.name]
		for cookies, want := range map[string]string{
			c.name + "=" + good: "alice",
			wrong + "=" + other: "",
			wrong + "=" + other + "; " + c.name + "=" + good:                                "alice",
			c.name + "=rubbish; " + c.name + "=" + good:                                     "alice",
			c.name + "=" + good + "; " + c.name + "=" + other:                               "alice",
			strings.Repeat(c.name+"="+other[:len(other)-2]+"xx; ", 7) + c.name + "=" + good: "alice",
		} {
			answer := ask("GET", "/session", "", cookies)
			body := make([]byte, 200)
			n, _ := answer.Body.Read(body)
			if want := `{"user":{"id":"` + want + `"`; !strings.HasPrefix(string(body[:n]), strings.Replace(want, `{"id":""`, "null", 1)) {
				t.Errorf("%s: Cookie %.200s: got %s %s, want %s", name, cookies, answer.Status, body[:n], want)
			}
		}
	}
}

// A sign-in and a sign-out clear the cookie of a version without the prefix, if the browser has
// one.
func TestOldCookieIsCleared(t *testing.T) {
	h := open(t, presence.Config{})
	alice := bearer(t, "alice")
	for _, old := range []bool{true, false} {
		jar := auth.HostCookieName + "=" + alice
		if old {
			jar += "; " + auth.CookieName + "=" + alice
		}
		for _, answer := range []*http.Response{h.signIn(alice, "Cookie", jar), h.ask("DELETE", "/session", "", "", "Cookie", jar)} {
			all := answer.Cookies()
			if all[0].Name != auth.HostCookieName || len(all) != 1+map[bool]int{true: 1}[old] {
				t.Errorf("old cookie %v: got cookies %v, want one for each of the request", old, all)
			} else if old && (all[1].Name != auth.CookieName || all[1].MaxAge != -1 || all[1].Value != "" || all[1].Path != "/") {
				t.Errorf("got %s, want the old cookie cleared", all[1])
			}
		}
	}
}

// A sign-out ends the streams of the first valid cookie, and so does a sign-in that replaces it.
func TestTossedCookieAndSignOut(t *testing.T) {
	h := open(t, presence.Config{Cookie: presence.Cookie{Insecure: true}})
	first, second := bearer(t, "alice"), mint(t, auth.Claims{Sub: "alice", TTL: 2 * time.Hour})
	jar := func(token string) []string {
		return []string{"Cookie", auth.CookieName + "=tossed; " + auth.CookieName + "=" + token}
	}
	c := h.stream("/events", "", jar(first)...)
	if answer := h.signIn(second, jar(first)...); answer.StatusCode != http.StatusNoContent {
		t.Fatalf("got %s, want 204", answer.Status)
	}
	if answer := h.ask("DELETE", "/session", "", "", jar(second)...); answer.StatusCode != http.StatusNoContent {
		t.Fatalf("got %s, want 204", answer.Status)
	}
	events := c.rest()
	if last := events[len(events)-1]; last.data != `{"reason":"signed out"}` {
		t.Errorf("got %+v last, want goodbye signed out", last)
	}
}

// A stream with the cookie needs a header that an element of a page cannot cause, unless browsers
// send Sec-Fetch-Site to the host.
func TestStreamOfAnElement(t *testing.T) {
	h := open(t, presence.Config{MaxConnections: 1, FullStatus: 503})
	h.stream("/events", bearer(t, "bob")).next("user count") // so that an accepted request is 503, and no stream
	jar := []string{"Cookie", auth.HostCookieName + "=" + bearer(t, "alice")}
	image := []string{"Accept", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"}
	for name, c := range map[string]struct {
		host    string
		tls     bool
		headers [][]string
		status  int
	}{
		"image":                       {"presence.example", false, [][]string{jar, image}, 403},
		"image at an address":         {"192.168.1.5:8080", false, [][]string{jar, image}, 403},
		"curl":                        {"presence.example", false, [][]string{jar, {"Accept", "*/*"}}, 403},
		"no Accept":                   {"presence.example", false, [][]string{jar}, 403},
		"EventSource":                 {"presence.example", false, [][]string{jar, {"Accept", "text/event-stream"}}, 503},
		"EventSource, several types":  {"presence.example", false, [][]string{jar, {"Accept", "a/b, Text/Event-Stream;q=0.9"}}, 503},
		"fetch metadata":              {"presence.example", false, [][]string{jar, image, {"Sec-Fetch-Site", "same-origin"}}, 503},
		"only the mode":               {"presence.example", false, [][]string{jar, image, {"Sec-Fetch-Mode", "cors"}}, 503},
		"own origin":                  {"presence.example", false, [][]string{jar, image, {"Origin", "http://presence.example"}}, 503},
		"EventSource, foreign origin": {"presence.example", false, [][]string{jar, {"Accept", "text/event-stream", "Origin", "http://evil.example"}}, 403},
		"image of a foreign site":     {"presence.example", false, [][]string{jar, image, {"Sec-Fetch-Site", "cross-site"}}, 403},
		"TLS":                         {"presence.example", true, [][]string{jar, image}, 503},
		"localhost":                   {"localhost:8080", false, [][]string{jar, image}, 503},
		"below localhost":             {"app.localhost", false, [][]string{jar, image}, 503},
		"loopback":                    {"127.0.0.2:8080", false, [][]string{jar, image}, 503},
		"loopback with IPv6":          {"[::1]:8080", false, [][]string{jar, image}, 503},
		"a name that begins like it":  {"localhost.example", false, [][]string{jar, image}, 403},
		"token instead of the cookie": {"presence.example", false, [][]string{{"Authorization", "Bearer " + bearer(t, "alice")}, image}, 503},
	} {
		r := httptest.NewRequest("GET", "/events", nil)
		r.Host = c.host
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		for _, pairs := range c.headers {
			for i := 0; i < len(pairs); i += 2 {
				r.Header.Set(pairs[i], pairs[i+1])
			}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%s: got %d %s, want %d", name, w.Code, w.Body, c.status)
		}
	}
	r := httptest.NewRequest("GET", "/events", nil)
	r.Header.Set("Cookie", jar[1])
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	const want = `"detail":"stream with the session cookie requires the header Accept: text/event-stream, or the Sec-Fetch-Site of a browser (server host \"example.com\")"`
	if !strings.Contains(w.Body.String(), want) {
		t.Errorf("got %s, want %s", w.Body, want)
	}
}

// With Config.Hosts, the server rejects requests for other hosts than these, local ones and those
// of the allowed origins.
func TestHosts(t *testing.T) {
	guest := func(name string) (string, presence.User, error) {
		return bearer(t, "guest"), presence.User{ID: "guest"}, nil
	}
	h := open(t, presence.Config{Guest: guest, Hosts: []string{"Dev.Example", "192.0.2.7", "2001:db8::7"},
		CORSOrigins: []string{"https://app.example:8443", "https://*.shop.example", "capacitor://shell.example"}})
	for host, want := range map[string]int{
		"localhost": 200, "localhost:8080": 200, "LOCALHOST:8080": 200, "a.localhost:8080": 200, "a.b.localhost": 200,
		"127.0.0.1:8080": 200, "127.255.255.254": 200, "[::1]:8080": 200, "[::ffff:127.0.0.1]": 200, "evil.example\u212a.localhost": 421,
		"dev.example": 200, "DEV.example:9": 200, "192.0.2.7:80": 200, "[2001:db8::7]:80": 200, "[2001:DB8:0::7]": 421,
		"app.example": 200, "app.example:1": 200, "a.shop.example": 200, "shell.example": 200,
		"shop.example": 421, "a.b.shop.example": 421, ".shop.example": 421,
		"evil.example": 421, "evil.example:8080": 421, "localhost.evil.example": 421, "evillocalhost": 421, "127.0.0.1.evil.example": 421,
		"128.0.0.1": 421, "192.0.2.8": 421, "[::2]:8080": 421, "0.0.0.0:8080": 421, "": 421, "localhost:x": 421, "a b": 421, "127.1": 421,
		"user@localhost": 421, "localhost, evil.example": 421, "localhost.": 421,
	} {
		for _, request := range [][2]string{{"GET", "/session"}, {"GET", "/"}, {"POST", "/login"}, {"GET", "/events"}, {"OPTIONS", "/messages"}, {"GET", "/healthz"}} {
			r := httptest.NewRequest(request[0], request[1], strings.NewReader(`{"name":"x"}`))
			r.Host = host
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Origin", "http://"+host)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if rejected := w.Code == http.StatusMisdirectedRequest; rejected != (want == 421) {
				t.Errorf("%s %s, Host %q: got %d %s, want %d", request[0], request[1], host, w.Code, w.Body, want)
			} else if rejected && (len(w.Result().Cookies()) > 0 || w.Header().Get("Content-Type") != "application/problem+json") {
				t.Errorf("%s %s, Host %q: got %v, want a problem without a cookie", request[0], request[1], host, w.Header())
			}
		}
	}
	any := open(t, presence.Config{})
	r := httptest.NewRequest("GET", "/healthz", nil)
	r.Host = "evil.example"
	w := httptest.NewRecorder()
	if any.ServeHTTP(w, r); w.Code != http.StatusOK {
		t.Errorf("without Hosts: got %d, want 200", w.Code)
	}
}
