package doctor

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"

	"example.com/presence/pkg/presence/auth"
)

// checkCookie signs in as the page does, and checks that a browser keeps and sends the cookie.
func checkCookie(ctx context.Context, x *exam) Verdict {
	body, _ := json.Marshal(map[string]string{"token": x.token})
	origin := x.page
	a, err := x.do(ctx, http.MethodPost, "session", string(body), "Origin", origin)
	if err == nil && a.status == http.StatusForbidden && origin != x.own { // see cors
		origin = x.own
		a, err = x.do(ctx, http.MethodPost, "session", string(body), "Origin", origin)
	}
	c := sessionCookie(a)
	switch {
	case err != nil:
		return fault("POST session: %v", err)
	case a.status == http.StatusForbidden && a.problem() != "":
		return note("not run: the sign-in is refused, see host and cors: %s", a.problem())
	case a.status == http.StatusRequestEntityTooLarge && a.problem() != "":
		return note("the token is too large for the cookie: %s", a.problem())
	case a.status != http.StatusNoContent:
		return fault("POST session is answered with %v", a)
	case c == nil:
		return fault("POST session sets no cookie %s or %s: a proxy removes or renames it", auth.HostCookieName, auth.CookieName).with(passCookie.of(x.proxy)...)
	}
	x.hide(c.Value)
	if v, unfit := x.judge(c); unfit {
		return v
	}
	s, err := x.do(ctx, http.MethodGet, "session", "", "Cookie", c.Name+"="+c.Value, "Origin", origin)
	var session struct{ User *struct{} }
	if err != nil || !isSession(s) || !s.json(&session) {
		return note("GET session with the cookie is answered with %v", s)
	}
	if session.User == nil {
		return fault("the server does not receive the cookie: a proxy removes the header Cookie").with(remedy{
			nginx: "proxy_set_header Cookie $http_cookie;", haproxy: "remove http-request del-header Cookie", caddy: "remove header_up -Cookie", varnish: "remove unset req.http.Cookie;"}.of(x.proxy)...)
	}
	return pass("%s: %s", c.Name, attributes(c))
}

// judge returns the verdict for a cookie that a page of x.page does not keep or must not use. The
// rules are those of RFC 6265bis, section 5.7.
func (x *exam) judge(c *http.Cookie) (v Verdict, unfit bool) {
	secure := x.base.Scheme == "https"
	page, err := url.Parse(x.page)
	if err != nil {
		return v, false
	}
	host := x.base.Hostname()
	prefixed := c.Name == auth.HostCookieName
	switch {
	case secure && !c.Secure:
		return fault("the cookie has no Secure behind TLS: it is also sent over plain HTTP (%s)", attributes(c)).
			with(flag("without --cookie-insecure and --dev")).with(passCookie.of(x.proxy)...), true
	case !c.HttpOnly:
		return fault("the cookie has no HttpOnly: scripts can read the token (%s)", attributes(c)).with(passCookie.of(x.proxy)...), true
	case prefixed && (!c.Secure || c.Path != "/" || c.Domain != ""):
		return fault("browsers drop a cookie %s with other attributes than Secure and Path=/: %s", c.Name, attributes(c)).with(passCookie.of(x.proxy)...), true
	case !covers(c.Path, x.base.Path):
		return fault("the cookie has the path %s, which does not cover %s", c.Path, x.base.Path).with(flag("--cookie-path %s", x.base.Path)).with(passCookie.of(x.proxy)...), true
	case c.Domain != "" && host != strings.TrimPrefix(c.Domain, ".") && !strings.HasSuffix(host, "."+strings.TrimPrefix(c.Domain, ".")):
		return fault("the cookie has the domain %s, of which %s is not a part", c.Domain, host).with(flag("--cookie-domain for %s", host)).with(passCookie.of(x.proxy)...), true
	case !secure && c.Secure && !isLocal(host):
		return note("%s is plain HTTP, so browsers drop the Secure cookie, and pages need a token", x.base).with(flag("--tls-cert FILE --tls-key FILE, or --cookie-insecure")), true
	case !sameSite(page, x.base) && c.SameSite != http.SameSiteNoneMode:
		return note("pages of %s are of another site, so browsers drop the cookie (%s), and the pages need a token", x.page, attributes(c)).with(flag("--cookie-samesite none")), true
	}
	return v, false
}

// attributes returns the attributes of a cookie as in the header.
func attributes(c *http.Cookie) string {
	bare := *c
	bare.Name, bare.Value, bare.MaxAge = "x", "", 0
	text := strings.TrimPrefix(bare.String(), "x=")
	return cut(strings.TrimPrefix(text, "; "))
}

// covers reports whether a browser sends a cookie with the path for requests below mount, which
// ends with a slash (RFC 6265 section 5.1.4).
func covers(path, mount string) bool {
	return path == "" || strings.HasPrefix(mount, strings.TrimSuffix(path, "/")+"/")
}

// sameSite reports whether two origins are of one site: the same scheme and the same registrable
// domain.
func sameSite(a, b *url.URL) bool {
	if a.Scheme != b.Scheme {
		return false
	}
	if a.Hostname() == b.Hostname() {
		return true
	}
	one, err := publicsuffix.EffectiveTLDPlusOne(a.Hostname())
	if err != nil {
		return false
	}
	other, err := publicsuffix.EffectiveTLDPlusOne(b.Hostname())
	_, notName := netip.ParseAddr(a.Hostname())
	return err == nil && one == other && notName != nil
}

// isLocal reports whether browsers treat a host as secure without TLS (W3C Secure Contexts section
// 3.1).
func isLocal(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && ip.IsLoopback()
}
