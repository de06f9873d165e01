package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"example.com/presence/pkg/presence/auth"
)

// checkService finds presence. It sets first, proxy and level.
func checkService(ctx context.Context, x *exam) Verdict {
	a, err := x.do(ctx, http.MethodGet, "healthz", "")
	x.first, x.proxy = a, proxyOf(a.header)
	x.why = "no presence server found"
	var alive struct{ Status string }
	switch {
	case err != nil:
		fix := Fix{"client", "curl -v " + x.base.String() + "healthz shows the connection"}
		if errors.As(err, new(certificateError)) {
			fix.Line = "--ca FILE for a private authority; otherwise install a certificate of " + x.base.Hostname() + " with its chain"
		}
		return fault("GET %shealthz: %v", x.base, err).with(fix)
	case a.status == http.StatusOK && a.json(&alive) && alive.Status == "alive":
	case a.isRedirect():
		return fault("GET healthz: %v, but streams and POST requests must not be redirected", a).with(Fix{"client", "url: " + x.target(a)})
	case a.status == http.StatusMisdirectedRequest && a.problem() != "":
		return fault("GET healthz: %v", a).with(flag("without --dev, or --cors-origin %s", x.own))
	case strings.HasPrefix(a.problem(), "no resource at path"):
		return fault("presence answers, but the proxy keeps the prefix: %v", a).with(stripPrefix.of(x.proxy)...)
	default:
		return x.withoutHealth(ctx, a)
	}
	x.admit(needServer, "no token: set --token or --jwt-secret-file")
	by := "no proxy named in its headers"
	if x.proxy != "" {
		by = "through " + string(x.proxy)
	}
	if ready, err := x.do(ctx, http.MethodGet, "readyz", ""); err == nil && ready.problem() != "" {
		return note("presence is alive but not ready, %s: %v", by, ready)
	}
	return pass("presence answered in %v, %s", ms(a.came.Sub(a.began)), by)
}

// withoutHealth examines a server whose answer to GET healthz is not that of presence. A proxy may
// hide only that path.
func (x *exam) withoutHealth(ctx context.Context, health answer) Verdict {
	if s, err := x.do(ctx, http.MethodGet, "session", ""); err == nil && isSession(s) {
		x.admit(needServer, "no token: set --token or --jwt-secret-file")
		return note("presence answers GET session, but a proxy answers GET healthz: %v", health)
	}
	if x.base.Path != "/" {
		root := &url.URL{Scheme: x.base.Scheme, Host: x.base.Host, Path: "/"}
		if s, err := send(x.client, request(ctx, root, http.MethodGet, "session", "")); err == nil && isSession(s) {
			return fault("presence is at %s, and another service at %s: %v", root, x.base, health).with(Fix{"client", "url: " + root.String()})
		}
	}
	if health.status >= 502 && health.status <= 504 {
		return fault("the proxy does not reach presence: %v", health).with(x.atAddress()...)
	}
	return fault("another service answers at %s: %v", x.base, health).with(x.atAddress()...)
}

// isSession reports whether an answer is that of GET session.
func isSession(a answer) bool {
	var s map[string]any
	if a.status != http.StatusOK || !a.json(&s) {
		return false
	}
	_, user := s["user"]
	_, guests := s["guests"]
	return user && guests
}

// atAddress returns the line with the address of presence in a proxy.
func (x *exam) atAddress() []Fix {
	return remedy{
		nginx:   "proxy_pass http://127.0.0.1:8080;",
		haproxy: "server presence 127.0.0.1:8080",
		caddy:   "reverse_proxy 127.0.0.1:8080",
	}.of(x.proxy)
}

// target returns the base URL to which GET healthz was redirected.
func (x *exam) target(a answer) string {
	to, err := x.base.JoinPath("healthz").Parse(a.header.Get("Location"))
	if err != nil {
		return a.header.Get("Location")
	}
	to.RawQuery, to.Fragment, to.User = "", "", nil
	return strings.TrimSuffix(to.String(), "healthz")
}

// checkProblem checks that problem documents pass the proxy. A client reads the cause in them.
func checkProblem(ctx context.Context, x *exam) Verdict {
	a, err := x.do(ctx, http.MethodGet, "events", "")
	remove := remedy{
		nginx:   "proxy_intercept_errors off;",
		haproxy: "remove http-error and errorfile for 401",
		caddy:   "remove handle_errors and handle_response",
		apache:  "ProxyErrorOverride Off",
	}.of(x.proxy)
	switch {
	case err != nil:
		return fault("GET events without a token: %v", err)
	case a.status != http.StatusUnauthorized:
		return fault("GET events without a token is answered with %v, not with 401", a).with(remove...)
	case a.problem() == "":
		return note("a proxy has replaced the problem document, so clients do not see the cause: %v", a).with(remove...)
	}
	return pass("GET events without a token is answered with 401 and its cause")
}

// checkRedirect checks that no POST is redirected: a client repeats it as a GET without its body
// after 301 and 302 (WHATWG Fetch section 4.4), and no client repeats its Authorization for another
// host.
func checkRedirect(ctx context.Context, x *exam) Verdict {
	a, err := x.do(ctx, http.MethodPost, "messages", `{"data":""}`)
	switch {
	case err != nil:
		return fault("POST messages without a token: %v", err)
	case a.isRedirect():
		return fault("POST messages: %v, and clients drop the body then", a).with(Fix{"client", "use the URL of the redirect"})
	}
	return pass("POST messages is not redirected")
}

// checkProtocol checks the HTTP version that browsers get.
func checkProtocol(_ context.Context, x *exam) Verdict {
	switch {
	case x.first.major >= 2:
		return pass("%s", x.first.proto)
	case x.base.Scheme == "http":
		return note("plain HTTP: browsers speak HTTP/1.1 then and open at most six streams for all tabs").with(flag("--tls-cert FILE --tls-key FILE, or TLS in a proxy"))
	}
	return note("%s: browsers open at most six streams for all tabs", x.first.proto).with(speakHTTP2.of(x.proxy)...)
}

// checkToken gets a token and checks that the server accepts it. It sets token, claims, rooms and
// level.
func checkToken(ctx context.Context, x *exam) Verdict {
	if v, done := x.getToken(ctx); done {
		return v
	}
	x.hide(x.token)
	var known bool
	x.claims, known = claimsOf(x.token)
	x.rooms = roomsFor(x.claims, x.config.Room, x.name)
	x.why = "the server has not accepted the token"
	a, err := x.as(ctx, http.MethodGet, "session", "")
	var s struct{ User *struct{ ID string } }
	switch {
	case err != nil:
		return fault("GET session: %v", err)
	case a.status == http.StatusUnauthorized && (a.problem() != "" || x.claims.expired(time.Now())):
		return x.refused(a)
	case !isSession(a) || !a.json(&s):
		return fault("GET session with a token is answered with %v", a)
	case s.User == nil:
		return fault("the token does not arrive: a proxy removes the header Authorization").with(passAuthorization.of(x.proxy)...)
	}
	x.admit(needToken, "the stream was not opened")
	left := time.Duration(math.MaxInt64)
	if x.claims.Exp != nil {
		left = time.Until(at(*x.claims.Exp))
	}
	switch {
	case left < x.config.Watch:
		return note("the token expires in %v, before the end of the observation (%v): streams end then", left.Round(time.Second), x.config.Watch)
	case !known:
		return note("the server accepts the token, which is not a JWT: its rooms are unknown")
	}
	return pass("the server accepts the token of user %q", s.User.ID)
}

// refused returns the verdict for a token that the server has refused.
func (x *exam) refused(a answer) Verdict {
	text, now := cmp.Or(a.problem(), a.String()), time.Now()
	expired, early := strings.Contains(text, "expired"), strings.Contains(text, "not valid yet")
	switch c := x.claims; {
	case c.expired(now):
		text += fmt.Sprintf(" (exp was %v ago)", now.Sub(at(*c.Exp)).Round(time.Second))
		return fault("the server refuses the token: %s", text).with(Fix{"token", "exp: sign a new token for each session, such as presence token --ttl 1h"})
	case c.Exp != nil && expired:
		text += fmt.Sprintf(" (by the clock of this machine, exp is in %v)", at(*c.Exp).Sub(now).Round(time.Second))
		return fault("the server refuses the token: %s", text).with(synchronize)
	case c.Nbf != nil && (early || at(*c.Nbf).After(now)):
		text += fmt.Sprintf(" (by the clock of this machine, nbf is in %v)", at(*c.Nbf).Sub(now).Round(time.Second))
		return fault("the server refuses the token: %s", text).with(Fix{"token", "nbf: synchronize the clocks of the server and of the signer"})
	}
	return fault("the server refuses the token: %s", text).with(flag("--jwt-secret-file, --jwt-issuer and --jwt-audience as the signer of the tokens has them"))
}

// getToken sets token. done reports that there is none, for the reason in v.
func (x *exam) getToken(ctx context.Context) (v Verdict, done bool) {
	switch {
	case x.config.Token != "":
		x.token = x.config.Token
		return v, false
	case x.config.Secret != nil:
		join := []string{x.name + "*"}
		if x.config.Room != "" {
			join = append(join, x.config.Room)
		}
		minted, err := auth.Mint(x.config.Secret, auth.Claims{Sub: x.name, Join: join, Send: join,
			Issuer: x.config.Issuer, Audience: x.config.Audience, TTL: x.config.Watch + 5*time.Minute})
		if err != nil {
			return fault("token not signed: %v", err), true
		}
		x.token = minted
		return v, false
	}
	a, err := x.do(ctx, http.MethodPost, "login", `{"name":"presence doctor"}`)
	if err == nil && a.status == http.StatusOK {
		if c := sessionCookie(a); c != nil {
			x.token, _ = url.PathUnescape(c.Value)
			return v, x.token == ""
		}
	}
	return note("%s", x.why), true
}

// sessionCookie returns the session cookie that an answer sets, or nil.
func sessionCookie(a answer) *http.Cookie {
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if (c.Name == auth.CookieName || c.Name == auth.HostCookieName) && c.Value != "" && c.MaxAge >= 0 {
			return c
		}
	}
	return nil
}
