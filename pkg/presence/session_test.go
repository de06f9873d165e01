package presence_test

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/golang-jwt/jwt/v5"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
)

// signIn sends POST /session with the token.
func (h *testServer) signIn(token string, headers ...string) *http.Response {
	h.t.Helper()
	return h.ask("POST", "/session", "", `{"token":"`+token+`"}`, append(headers, "Content-Type", "application/json")...)
}

// cookie returns the session cookie that the response sets.
func cookie(t *testing.T, r *http.Response) *http.Cookie {
	t.Helper()
	for _, c := range r.Cookies() {
		if c.Name == auth.CookieName || c.Name == auth.HostCookieName {
			return c
		}
	}
	t.Fatalf("got %s without a cookie, want one", r.Status)
	return nil
}

// POST /session sets the cookie. DELETE /session clears it and ends only the streams that were
// opened with it.
func TestSession(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		h := open(t, presence.Config{})
		alice := bearer(t, "alice")
		answer := h.signIn(alice)
		c := cookie(t, answer)
		if answer.StatusCode != http.StatusNoContent || c.Value != alice || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode ||
			c.Path != "/" || c.Domain != "" || c.MaxAge < 3500 || c.MaxAge > 3600 {
			t.Errorf("POST /session: got %s and %s, want 204 and the cookie of the token", answer.Status, c)
		}
		jar := []string{"Cookie", auth.HostCookieName + "=" + c.Value}
		stream := h.stream("/events", "", jar...)
		stream.next("user count")
		other := h.stream("/events", alice) // with the token instead of the cookie
		other.next("user count")

		if r := h.ask("DELETE", "/session", ""+alice, ""); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("DELETE /session without the cookie: got %s, want 401", r.Status)
		}
		answer = h.ask("DELETE", "/session", "", "", jar...)
		if c := cookie(t, answer); answer.StatusCode != http.StatusNoContent || c.Value != "" || c.MaxAge != -1 {
			t.Errorf("DELETE /session: got %s and %s, want 204 and the cookie cleared", answer.Status, c)
		}
		events := stream.rest()
		if last := events[len(events)-1]; last.name != "goodbye" || last.data != `{"reason":"signed out"}` {
			t.Errorf("stream of the cookie: got %+v last, want goodbye signed out", last)
		}
		other.until("user count", "1")
	})
}

// GET /session returns the user of the request's token. Without a credential, or with an invalid or
// expired cookie, it returns 200 without a user, so that any page can ask.
func TestGetSession(t *testing.T) {
	key, err := auth.Secret(secret)
	if err != nil {
		t.Fatal(err)
	}
	withQuery, err := auth.New(auth.Config{Keys: []auth.Key{key}, QueryToken: true})
	if err != nil {
		t.Fatal(err)
	}
	usual := open(t, presence.Config{})
	queried := open(t, presence.Config{Authenticator: withQuery})
	guests := open(t, presence.Config{
		Guest:       func(string) (string, presence.User, error) { return "", presence.User{}, nil },
		CORSOrigins: []string{"https://app.example"},
	})
	eternal := open(t, presence.Config{Authenticator: authenticator(func(*http.Request) (presence.User, error) {
		return presence.User{ID: "x", Expires: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}, nil
	})})
	ends := time.Now().Add(time.Hour)
	token, endless := mint(t, auth.Claims{Sub: "alice", Name: "Alice", TTL: time.Hour}), mint(t, auth.Claims{Sub: "root", Admin: true})
	ended, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "alice", "exp": ends.Add(-2 * time.Hour).Unix()}).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	jar := func(token string, more ...string) []string {
		return append([]string{"Cookie", auth.HostCookieName + "=" + token}, more...)
	}
	bearer := func(token string, more ...string) []string {
		return append([]string{"Authorization", "Bearer " + token}, more...)
	}
	const alice, root, noUser, guest = `{"user":{"id":"alice","name":"Alice","admin":false,"expires":"…"},"guests":false}`,
		`{"user":{"id":"root","name":"","admin":true},"guests":false}`, `{"user":null,"guests":false}`, `{"user":null,"guests":true}`
	for name, c := range map[string]struct {
		at      *testServer
		query   string
		headers []string
		status  int
		want    string
	}{
		"token":                                   {usual, "", bearer(token), 200, alice},
		"token from another site":                 {usual, "", bearer(token, "Sec-Fetch-Site", "cross-site"), 403, ""},
		"token from an allowed origin":            {guests, "", bearer(token, "Origin", "https://app.example"), 200, strings.Replace(alice, `"guests":false`, `"guests":true`, 1)},
		"token without expiry":                    {usual, "", bearer(endless), 200, root},
		"cookie":                                  {usual, "", jar(token, "Sec-Fetch-Site", "same-origin"), 200, alice},
		"token and another user's cookie":         {usual, "", jar(token, "Authorization", "Bearer "+endless), 200, root},
		"expired cookie":                          {usual, "", jar(ended, "Sec-Fetch-Site", "same-origin"), 200, noUser},
		"invalid cookie":                          {usual, "", jar("rubbish"), 200, noUser},
		"expired cookie and a proxy's password":   {usual, "", jar(ended, "Authorization", "Basic eDp5"), 200, noUser},
		"expired cookie and a token in the query": {queried, "?access_token=" + token, jar(ended), 200, noUser},
		"no credential":                           {usual, "", nil, 200, noUser},
		"no credential, guests allowed":           {guests, "", nil, 200, guest},
		"query token that is not enabled":         {usual, "?access_token=" + token, nil, 200, noUser},
		"query token":                             {queried, "?access_token=" + token, nil, 200, alice},
		"invalid query token":                     {queried, "?access_token=rubbish", nil, 401, ""},
		"invalid query token and another cookie":  {queried, "?access_token=rubbish", []string{"Cookie", "theme=dark"}, 401, ""},
		"expired token":                           {usual, "", bearer(ended), 401, ""},
		"expired token and a valid cookie":        {usual, "", jar(token, "Authorization", "Bearer "+ended), 401, ""},
		"expired token and an expired cookie":     {usual, "", jar(ended, "Authorization", "Bearer "+ended), 401, ""},
		"cookie from another site":                {usual, "", jar(token, "Sec-Fetch-Site", "cross-site"), 403, ""},
		"expired cookie from another site":        {usual, "", jar(ended, "Origin", "https://evil.example"), 403, ""},
		"expiry after the year 9999":              {eternal, "", nil, 200, `{"user":{"id":"x","name":"","admin":false},"guests":false}`},
		"expired cookie from an allowed origin":   {guests, "", jar(ended, "Origin", "https://app.example"), 200, guest},
	} {
		answer := c.at.ask("GET", "/session"+c.query, "", "", c.headers...)
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != c.status || answer.Header.Get("Cache-Control") != "no-store" || len(answer.Cookies()) > 0 {
			t.Errorf("%s: got %s, %q, %v; want %d", name, answer.Status, body, err, c.status)
		}
		if c.status != 200 {
			continue
		}
		got := strings.TrimSuffix(string(body), "\n")
		if at := regexp.MustCompile(`"expires":"(.*?)"`).FindStringSubmatch(got); at != nil {
			if end, err := time.Parse(time.RFC3339, at[1]); err != nil || !strings.HasSuffix(at[1], "Z") || end.Sub(ends).Abs() > 5*time.Second {
				t.Errorf("%s: got expiry %s, want %s", name, at[1], ends.UTC())
			}
			got = strings.Replace(got, at[1], "…", 1)
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// POST and DELETE /session reject invalid tokens, content types and origins, and then set no
// session cookie.
func TestSessionRejections(t *testing.T) {
	h := open(t, presence.Config{})
	long := make([]byte, 5000)
	rand.Read(long)
	for name, want := range map[string]struct {
		answer *http.Response
		status int
	}{
		"blanks":         {h.signIn(" " + bearer(t, "alice")), 401},
		"bad token":      {h.signIn("rubbish"), 401},
		"no token":       {h.ask("POST", "/session", bearer(t, "alice"), `{}`, "Content-Type", "application/json"), 400},
		"form":           {h.ask("POST", "/session", "", `{"token":"x"}`, "Content-Type", "text/plain"), 415},
		"other site":     {h.signIn(bearer(t, "alice"), "Sec-Fetch-Site", "cross-site"), 403},
		"other origin":   {h.signIn(bearer(t, "alice"), "Origin", "https://evil.example"), 403},
		"too long":       {h.signIn(mint(t, auth.Claims{Sub: "a", Join: []string{strings.Repeat("x", 4000)}})), 413},
		"other sign-out": {h.ask("DELETE", "/session", "", "", "Cookie", auth.HostCookieName+"="+bearer(t, "alice"), "Sec-Fetch-Site", "same-site"), 403},
	} {
		if want.answer.StatusCode != want.status || len(want.answer.Cookies()) > 0 && want.status != 401 {
			t.Errorf("%s: got %s with cookies %v, want %d", name, want.answer.Status, want.answer.Cookies(), want.status)
		}
	}
}

// The server rejects requests with the cookie from other sites, because a browser adds the cookie
// to every request that a page causes. This includes GET /events, which changes the members of a
// room.
func TestCrossSiteCookie(t *testing.T) {
	h := open(t, presence.Config{CORSOrigins: []string{"https://app.example"}})
	jar := []string{"Cookie", auth.HostCookieName + "=" + bearer(t, "alice"), "Content-Type", "text/plain"}
	for name, c := range map[string]struct {
		headers []string
		status  int
	}{
		"same origin":    {[]string{"Sec-Fetch-Site", "same-origin"}, 200},
		"address bar":    {[]string{"Sec-Fetch-Site", "none"}, 200},
		"curl":           {nil, 200},
		"own origin":     {[]string{"Origin", h.URL}, 200},
		"allowed origin": {[]string{"Sec-Fetch-Site", "cross-site", "Origin", "https://app.example"}, 200},
		"image":          {[]string{"Sec-Fetch-Site", "cross-site"}, 403},
		"sibling host":   {[]string{"Sec-Fetch-Site", "same-site", "Origin", "https://evil.app.example"}, 403},
		"other origin":   {[]string{"Origin", "https://evil.example"}, 403},
		"null origin":    {[]string{"Origin", "null"}, 403},
	} {
		headers := append(c.headers, jar...)
		get, page := h.ask("GET", "/events", "", "", headers...), h.ask("GET", "/presence", "", "", headers...)
		post := h.ask("POST", "/messages", "", "x", headers...)
		if want := c.status; get.StatusCode != want || page.StatusCode != want || post.StatusCode != map[int]int{200: 202, 403: 403}[want] {
			t.Errorf("%s: got %s, %s, %s; want %d", name, get.Status, page.Status, post.Status, want)
		}
		get.Body.Close()
	}
	// A bearer token is allowed from other sites, because a browser does not add it automatically:
	// the script must know it.
	if r := h.ask("GET", "/presence", bearer(t, "alice"), "", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"); r.StatusCode != 200 {
		t.Errorf("bearer token from another site: got %s, want 200", r.Status)
	}
}

// Only the configured origins are allowed. CORSOrigins * never allows the cookie.
func TestCORS(t *testing.T) {
	preflight := func(c presence.Config, origin string) http.Header {
		return open(t, c).ask("OPTIONS", "/messages", "", "", "Origin", origin,
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type,last-event-id").Header
	}
	named := presence.Config{CORSOrigins: []string{"https://app.example", "http://localhost:3000"}}
	if got := preflight(named, "http://localhost:3000"); got.Get("Access-Control-Allow-Origin") != "http://localhost:3000" ||
		got.Get("Access-Control-Allow-Credentials") != "true" || got.Get("Access-Control-Allow-Headers") == "" || got.Get("Access-Control-Allow-Methods") != "POST" {
		t.Errorf("allowed origin: got %v, want it with credentials, headers and POST", got)
	}
	if got := preflight(named, "https://evil.example"); got.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("other origin: got %v, want no Access-Control-Allow-Origin", got)
	}
	if got := preflight(presence.Config{CORSOrigins: []string{"*"}}, "https://any.example"); got.Get("Access-Control-Allow-Origin") != "*" || got.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("CORSOrigins *: got %v, want * without credentials", got)
	}
	if got := preflight(presence.Config{}, "https://any.example"); got.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("no CORSOrigins: got %v, want no Access-Control-Allow-Origin", got)
	}
	any := open(t, presence.Config{CORSOrigins: []string{"*"}})
	if r := any.ask("GET", "/presence", "", "", "Cookie", auth.HostCookieName+"="+bearer(t, "alice"), "Sec-Fetch-Site", "cross-site", "Origin", "https://any.example"); r.StatusCode != 403 {
		t.Errorf("CORSOrigins * with the cookie: got %s, want 403", r.Status)
	}
	c := open(t, named).stream("/events", bearer(t, "alice"), "Origin", "https://app.example")
	if got := c.header.Get("Access-Control-Allow-Origin"); got != "https://app.example" {
		t.Errorf("stream: got Access-Control-Allow-Origin %q, want https://app.example", got)
	}
}

// POST /login signs a guest in with a valid name, from the same site only.
func TestLogin(t *testing.T) {
	guest := func(name string) (string, presence.User, error) {
		return bearer(t, "guest-1"), presence.User{ID: "guest-1", Name: name, Expires: time.Now().Add(time.Minute)}, nil
	}
	h := open(t, presence.Config{Guest: guest, Cookie: presence.Cookie{Insecure: true, SameSite: http.SameSiteStrictMode}})
	login := func(body string) *http.Response {
		return h.ask("POST", "/login", "", body, "Content-Type", "application/json")
	}
	answer := login(`{"name":" Ann "}`)
	var got struct{ ID, Name string }
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil || got.ID != "guest-1" || got.Name != "Ann" {
		t.Errorf("POST /login: got %+v, %v; want guest-1 with name Ann", got, err)
	}
	c := cookie(t, answer)
	if c.Secure || c.SameSite != http.SameSiteStrictMode || c.MaxAge < 50 || c.MaxAge > 60 {
		t.Errorf("POST /login: got cookie %s, want SameSite=Strict, not Secure, with 50 to 60 s", c)
	}
	h.stream("/events", "", "Cookie", auth.CookieName+"="+c.Value).next("user count")
	for body, want := range map[string]string{
		`{"name":" \u200b A\u2060nn\u202e \ufeff"}`:         "Ann",
		`{"name":"\u200d` + strings.Repeat("x", 128) + `"}`: strings.Repeat("x", 128),
		`{"name":"می\u200cخواهم"}`:                          "می\u200cخواهم",
		`{"name":"é\u200d\u00a0"}`:                          "é",
	} {
		if err := json.NewDecoder(login(body).Body).Decode(&got); err != nil || got.Name != want {
			t.Errorf("POST /login with %s: got name %q, %v; want %q", body, got.Name, err, want)
		}
	}
	for _, body := range []string{`{"name":""}`, `{"name":"\u200b"}`, `{"name":"a\u200b\nb"}`, `{"name":" "}`, `{"name":"a\u0000"}`, `{"name":"` + strings.Repeat("x", 129) + `"}`, `{}`, `[]`} {
		if r := login(body); r.StatusCode != http.StatusBadRequest {
			t.Errorf("POST /login with %s: got %s, want 400", body, r.Status)
		}
	}
	if r := h.ask("POST", "/login", "", `{"name":"x"}`, "Content-Type", "application/json", "Sec-Fetch-Site", "cross-site"); r.StatusCode != http.StatusForbidden {
		t.Errorf("POST /login from another site: got %s, want 403", r.Status)
	}
}

// The links, the cookie and the routes of a mounted server are below its path, with chi, with
// net/http and with both.
func TestMounted(t *testing.T) {
	files := fstest.MapFS{"index.html": {Data: []byte("the page")}, "presence.js": {Data: []byte("export {}")}}
	h := open(t, presence.Config{Web: files})
	inChi := chi.NewRouter()
	inChi.Mount("/a/presence", h.Server)
	inMux := http.NewServeMux()
	inMux.Handle("/a/presence/", http.StripPrefix("/a/presence", h.Server))
	mixed := chi.NewRouter()
	mixed.Route("/a", func(r chi.Router) { r.Handle("/presence/*", http.StripPrefix("/a/presence", h.Server)) })
	for name, router := range map[string]http.Handler{"chi": inChi, "net/http": inMux, "both": mixed} {
		outer := httptest.NewServer(router)
		t.Cleanup(outer.CloseClientConnections)
		t.Cleanup(outer.Close)
		g := &testServer{h.Server, t, outer.URL + "/a/presence"}
		if c := cookie(t, g.signIn(bearer(t, "alice"))); c.Path != "/a/presence" {
			t.Errorf("%s: got cookie path %q, want /a/presence", name, c.Path)
		}
		g.stream("/events", bearer(t, "alice")).next("user count")
		if r := g.ask("DELETE", "/events", "", ""); r.StatusCode != 405 || r.Header.Get("Allow") != "GET" {
			t.Errorf("%s: DELETE /events: got %s, Allow %q; want 405, GET", name, r.Status, r.Header.Get("Allow"))
		}
		for path, want := range map[string]int{"/": 200, "/presence.js": 200, "/healthz": 200, "/readyz": 200, "/nothing": 404, "/..%2fsecret": 404} {
			r := g.ask("GET", path, "", "")
			if r.StatusCode != want {
				t.Errorf("%s: GET %s: got %s, want %d", name, path, r.Status, want)
			}
			if csp := r.Header.Get("Content-Security-Policy"); want == 200 && (path == "/" || path == "/presence.js") && (csp == "" || strings.Contains(csp, "unsafe-")) {
				t.Errorf("%s: GET %s: got policy %q, want one without unsafe-", name, path, csp)
			}
		}
		etag := g.ask("GET", "/presence.js", "", "").Header.Get("ETag")
		if r := g.ask("GET", "/presence.js", "", "", "If-None-Match", etag); r.StatusCode != http.StatusNotModified {
			t.Errorf("%s: file with its ETag: got %s, want 304", name, r.Status)
		}
	}
	outer := httptest.NewServer(inChi)
	defer outer.Close()
	g := &testServer{h.Server, t, outer.URL}
	if r := g.ask("GET", "/a/presence?room=x", "", ""); r.StatusCode != http.StatusPermanentRedirect || r.Header.Get("Location") != "./presence/?room=x" {
		t.Errorf("path without the slash: got %s to %q, want 308 to ./presence/?room=x", r.Status, r.Header.Get("Location"))
	}
}

// New returns an error that names the invalid field or value.
func TestConfigIsChecked(t *testing.T) {
	good := open(t, presence.Config{}).Server // only the Authenticator is required
	if good == nil {
		t.Fatal("New: got nil, want a server")
	}
	valid := authenticator(func(*http.Request) (presence.User, error) { return presence.User{ID: "x"}, nil })
	for want, c := range map[string]presence.Config{
		"Authenticator": {},
		"Count":         {Authenticator: valid, Count: "tabs"},
		"Coalesce":      {Authenticator: valid, Coalesce: time.Hour},
		"Linger":        {Authenticator: valid, Linger: time.Hour},
		"Heartbeat":     {Authenticator: valid, Heartbeat: time.Millisecond},
		"MemberLimit":   {Authenticator: valid, MemberLimit: -1},
		"MaxMessage":    {Authenticator: valid, MaxMessage: 2 << 20},
		"MaxUnsent":     {Authenticator: valid, MaxUnsent: 1 << 10},
		"SameSite":      {Authenticator: valid, Cookie: presence.Cookie{SameSite: http.SameSiteNoneMode, Insecure: true}},
		"only entry":    {Authenticator: valid, CORSOrigins: []string{"*", "https://a.example"}},
		"a.example/":    {Authenticator: valid, CORSOrigins: []string{"https://a.example/"}},
		"a:99999":       {Authenticator: valid, CORSOrigins: []string{"https://a:99999"}},
		"https://ä":     {Authenticator: valid, CORSOrigins: []string{"https://ä"}},
		"Domain":        {Authenticator: valid, Cookie: presence.Cookie{Domain: "a b;c"}},
		"*.com":         {Authenticator: valid, CORSOrigins: []string{"https://*.com"}},
		"*.127.0.0.1":   {Authenticator: valid, CORSOrigins: []string{"https://*.127.0.0.1"}},
		"a..example":    {Authenticator: valid, CORSOrigins: []string{"https://a..example"}},
		"http://::1":    {Authenticator: valid, CORSOrigins: []string{"http://::1"}},
		"a:b:80":        {Authenticator: valid, CORSOrigins: []string{"http://a:b:80"}},
		"1x://a":        {Authenticator: valid, CORSOrigins: []string{"1x://a"}},
		"a.*.example":   {Authenticator: valid, CORSOrigins: []string{"https://a.*.example"}},
		"*.*.example":   {Authenticator: valid, CORSOrigins: []string{"https://*.*.example"}},
		"example.com":   {Authenticator: valid, CORSOrigins: []string{"example.com"}},
		"x://":          {Authenticator: valid, CORSOrigins: []string{"x://"}},
		"a:0":           {Authenticator: valid, CORSOrigins: []string{"https://a:0"}},
		"[::1":          {Authenticator: valid, CORSOrigins: []string{"http://[::1"}},
		"u@a.example":   {Authenticator: valid, CORSOrigins: []string{"https://u@a.example"}},
	} {
		if _, err := presence.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that names %s", err, want)
		}
	}
}

type authenticator func(*http.Request) (presence.User, error)

func (f authenticator) Authenticate(r *http.Request) (presence.User, error) { return f(r) }

// The limits on users also apply to an Authenticator other than auth.JWT.
func TestUsersOfAnotherAuthenticator(t *testing.T) {
	h := open(t, presence.Config{Authenticator: authenticator(func(r *http.Request) (presence.User, error) {
		return presence.User{ID: r.Header.Get("X-User"), Join: []string{"*"}, Info: json.RawMessage(r.Header.Get("X-Info"))}, nil
	})})
	h.stream("/events", "", "X-User", "alice").next("user count")
	for _, headers := range [][]string{{}, {"X-User", "a\u200b"}, {"X-User", strings.Repeat("x", 257)}, {"X-User", "a", "X-Info", "{"}, {"X-User", "a", "X-Info", `"` + strings.Repeat("x", 1024) + `"`}} {
		if r := h.ask("GET", "/events", "", "", headers...); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("%.40q: got %s, want 401", headers, r.Status)
		}
	}
}

// embedding is an Authenticator that changes the user of its embedded auth.JWT.
type embedding struct{ *auth.JWT }

func (e embedding) Authenticate(r *http.Request) (presence.User, error) {
	u, err := e.JWT.Authenticate(r)
	u.Info = json.RawMessage(r.Header.Get("X-Info"))
	return u, err
}

// The limits on users also apply to an Authenticator that embeds auth.JWT.
func TestUsersOfAnAuthenticatorThatEmbedsJWT(t *testing.T) {
	key, err := auth.Secret(secret)
	if err != nil {
		t.Fatal(err)
	}
	j, err := auth.New(auth.Config{Keys: []auth.Key{key}})
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, presence.Config{Authenticator: embedding{j}})
	h.stream("/events", bearer(t, "alice"), "X-Info", "{}").next("user count")
	if r := h.ask("GET", "/events", bearer(t, "alice"), "", "X-Info", "{"); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %s, want 401 for info that is no JSON", r.Status)
	}
}

// Promise 7: a sign-in renews the user's open streams that have the same sid, in rooms that the new
// token may join. It shortens no stream and affects no other stream.
func TestPromise7Renewal(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, open opener) {
		t.Parallel() // it waits for tokens to expire
		h := open(t, presence.Config{})
		token := func(sub, sid string, ttl time.Duration, join ...string) string {
			return mint(t, auth.Claims{Sub: sub, SID: sid, TTL: ttl, Join: join})
		}
		short := sized(3*time.Second, 10*time.Second, 10*time.Second) // long enough to open and renew all streams on a busy machine
		ends := map[string]*tab{
			"not renewed":    h.stream("/events?room=doc-1", token("alice", "other", short, "*")),
			"of another sid": h.stream("/events?room=doc-1", token("bob", "tab", short, "*")),
			"another user":   h.stream("/events?room=doc-1", token("carol", "", short, "*")),
			"another room":   h.stream("/events?room=doc-2", token("alice", "", short, "*")),
		}
		stays := map[string]*tab{
			"renewed":            h.stream("/events?room=doc-1", token("alice", "", short, "*")),
			"a second one":       h.stream("/events?room=doc-1", token("alice", "", short, "*")),
			"of the same sid":    h.stream("/events?room=doc-1", token("bob", "desk", short, "*")),
			"would be shortened": h.stream("/events?room=doc-1", token("dora", "", time.Hour, "*")),
			"had no expiry":      h.stream("/events?room=doc-1", token("dora", "", 0, "*")),
			"renewed, no expiry": h.stream("/events?room=doc-1", token("eve", "", short, "*")),
			"renewed twice":      h.stream("/events?room=doc-1", token("fay", "", short, "*")),
		}
		for name, c := range stays {
			if strings.HasPrefix(name, "renewed") {
				c.next("expiring") // immediately, because less than 30 s are left
			}
		}
		for _, renewal := range []string{
			token("alice", "", time.Hour, "doc-1"),
			token("bob", "desk", time.Hour, "doc-*"),
			token("dora", "", time.Second, "*"),
			token("eve", "", 0, "*"),
			token("fay", "", short+time.Second, "*"),
			token("fay", "", time.Hour, "*"),
		} {
			if answer := h.signIn(renewal); answer.StatusCode != http.StatusNoContent {
				t.Fatalf("POST /session: got %s, want 204", answer.Status)
			}
		}
		for name, c := range ends {
			events := c.rest()
			if last := events[len(events)-1]; last.name != "goodbye" || last.data != `{"reason":"expired"}` {
				t.Errorf("%s: got %+v last, want goodbye expired", name, last)
			}
		}
		// Now every stream that was not renewed has ended.
		h.Publish(t.Context(), "doc-1", "after", 1)
		for name, c := range stays {
			for e, err := c.read(patience); e.name != "after"; e, err = c.read(patience) {
				if err != nil || e.name == "goodbye" {
					t.Errorf("%s: got %+v, %v; want it open", name, e, err)
					break
				}
			}
		}
	})
}

// A sign-out ends the streams that were opened with the cookie, or with the cookie that it
// replaced. It ends no other stream.
func TestSignOutAfterRenewal(t *testing.T) {
	h := open(t, presence.Config{})
	first, second := bearer(t, "alice"), mint(t, auth.Claims{Sub: "alice", TTL: 2 * time.Hour})
	jar := func(token string) []string { return []string{"Cookie", auth.HostCookieName + "=" + token} }
	c := h.stream("/events", "", jar(first)...)
	c.next("user count")
	others := []*tab{h.stream("/events", first), h.stream("/events", "", jar(mint(t, auth.Claims{Sub: "alice", TTL: 3 * time.Hour}))...)}
	if answer := h.signIn(second, jar("rubbish")...); answer.StatusCode != http.StatusNoContent {
		t.Fatalf("got %s, want 204", answer.Status)
	}
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
	h.post("/messages", first, `{"event":"after","data":1}`)
	for _, other := range others {
		other.next("after")
	}
}

// The line about an invalid token has no user, although the cookie of the request is valid.
func TestInvalidTokenBesideCookieLog(t *testing.T) {
	var log syncBuffer
	h := open(t, presence.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if r := h.ask("GET", "/session", "bad", "", "Cookie", auth.HostCookieName+"="+bearer(t, "alice")); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %s, want 401", r.Status)
	}
	log.has(t, `cause=token reason=malformed count=1 detail="invalid token: not a JWT" status=401 method=GET path=/session client_address=127.0.0.1 `)
}

// A token with quotes, such as a JSON answer that was not decoded, is malformed.
func TestQuotedTokenLog(t *testing.T) {
	var log syncBuffer
	h := open(t, presence.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if r := h.signIn(`\"` + bearer(t, "alice") + `\"`); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %s, want 401", r.Status)
	}
	log.has(t, `cause=token reason=malformed count=1 detail="invalid token: contains characters that are not allowed in a token" status=401 method=POST path=/session client_address=`)
}
