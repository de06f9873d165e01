package presence

import (
	"cmp"
	"net/http"
	"time"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/internal/redact"
)

// maxCookie is the maximum length of a token in a cookie, in bytes. Browsers accept cookies of
// 4,096 bytes, including name and attributes (RFC 6265 section 6.1).
const maxCookie = 3800

func (s *Server) setCookie(w http.ResponseWriter, r *http.Request, token string, expires time.Time) error {
	if len(token) > maxCookie {
		return reject(http.StatusRequestEntityTooLarge, "token too large for a cookie (%d bytes, maximum %d)", len(token), maxCookie)
	}
	cookie := s.cookie(r)
	cookie.Value = token
	if !expires.IsZero() {
		cookie.MaxAge = max(1, int(time.Until(expires).Seconds()))
	}
	http.SetCookie(w, cookie)
	clearOlder(w, r, cookie)
	s.warnInsecure(r, cookie)
	s.warnCrossSite(r, cookie)
	return nil
}

// warnInsecure warns about a Secure cookie for a page that was loaded over plain HTTP. The browser
// drops the cookie, although the response is a success, and its next request has no token. The
// exception are pages of its own machine (W3C Secure Contexts section 3.1).
func (s *Server) warnInsecure(r *http.Request, cookie *http.Cookie) {
	sent := r.Header.Get("Origin")
	page, ok := parseOrigin(sent)
	if !ok || page.scheme != "http" || isLocal(page.host) || !cookie.Secure || r.TLS != nil {
		return
	}
	if cookie.SameSite == http.SameSiteNoneMode && !sameHost(sent, r.Host) {
		return // the server itself may be behind HTTPS
	}
	s.warn.Warn(r.Context(), "Secure cookie set for a page over plain HTTP: browsers drop it",
		append([]any{"origin", redact.Text(sent), "host", redact.Text(r.Host)}, s.lineOf(r)...)...)
}

// warnCrossSite warns about a Lax or Strict cookie for a page of another site. The browser drops it
// (RFC 6265bis section 5.7), although the response is a success. Sec-Fetch-Site is the browser's
// own comparison of the sites: to Chromium, app.localhost and presence.localhost are two. A page
// that uses a token renews its streams here without the cookie; presence.js then also sends the
// token in Authorization.
func (s *Server) warnCrossSite(r *http.Request, cookie *http.Cookie) {
	if cookie.SameSite == http.SameSiteNoneMode || r.Header.Get("Sec-Fetch-Site") != "cross-site" || r.Header.Get("Authorization") != "" {
		return
	}
	s.warn.Warn(r.Context(), "SameSite cookie set for a page of another site: browsers drop it",
		append([]any{"origin", redact.Text(r.Header.Get("Origin")), "host", redact.Text(r.Host), "needs", "--cookie-samesite none"}, s.lineOf(r)...)...)
}

func (s *Server) clearCookie(w http.ResponseWriter, r *http.Request) {
	cookie := s.cookie(r)
	cookie.MaxAge = -1
	http.SetCookie(w, cookie)
	clearOlder(w, r, cookie)
}

// clearOlder deletes the cookies that versions of this server without the prefix __Host- or the
// Partitioned attribute have set. The browser would keep them beside the new one, and of two
// cookies with the same name it would send the older one first.
func clearOlder(w http.ResponseWriter, r *http.Request, cookie *http.Cookie) {
	old := *cookie
	old.Value, old.MaxAge, old.Partitioned = "", -1, false
	if cookie.Partitioned {
		http.SetCookie(w, &old)
	}
	if _, err := r.Cookie(auth.CookieName); err == nil && cookie.Name != auth.CookieName {
		old.Name = auth.CookieName
		http.SetCookie(w, &old)
	}
}

// cookie returns the session cookie for the requests of r's mount point, without a value.
func (s *Server) cookie(r *http.Request) *http.Cookie {
	c := s.config.Cookie
	return &http.Cookie{
		Name: s.cookieName(r), Path: cmp.Or(c.Path, mountPoint(r)), Domain: c.Domain,
		HttpOnly: true, Secure: !c.Insecure, SameSite: c.SameSite,
		// On a page of another site, Chromium rejects a cookie without the Partitioned attribute.
		// With the attribute, it keeps one cookie per top-level site (CHIPS).
		Partitioned: c.SameSite == http.SameSiteNoneMode,
	}
}

// cookieName returns the name of the session cookie: with the prefix __Host- if its attributes
// allow it. With Cookie.Path, the browser may see another path than this server.
func (s *Server) cookieName(r *http.Request) string {
	if c := s.config.Cookie; !c.Insecure && c.Domain == "" && c.Path == "" && mountPoint(r) == "/" {
		return auth.HostCookieName
	}
	return auth.CookieName
}

// identify returns the result of the Authenticator.
func (s *Server) identify(r *http.Request) (User, error) {
	if len(r.Header["Cookie"]) > 0 {
		r = r.WithContext(auth.WithCookieName(r.Context(), s.cookieName(r)))
	}
	return s.config.Authenticator.Authenticate(r)
}
