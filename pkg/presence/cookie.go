package presence

import (
	"net/http"
	"time"

	"example.com/presence/pkg/presence/auth"
)

// maxCookie is the longest token that goes into a cookie, in bytes: browsers take 4,096 with name
// and attributes (RFC 6265 section 6.1).
const maxCookie = 3800

func (s *Server) setCookie(w http.ResponseWriter, r *http.Request, token string, expires time.Time) error {
	if len(token) > maxCookie {
		return refuse(http.StatusRequestEntityTooLarge, "the token is larger than the %d bytes that fit a cookie", maxCookie)
	}
	cookie := s.cookie(r)
	cookie.Value = token
	if !expires.IsZero() {
		cookie.MaxAge = max(1, int(time.Until(expires).Seconds()))
	}
	http.SetCookie(w, cookie)
	clearUnpartitioned(w, cookie)
	return nil
}

func (s *Server) clearCookie(w http.ResponseWriter, r *http.Request) {
	cookie := s.cookie(r)
	cookie.MaxAge = -1
	http.SetCookie(w, cookie)
	clearUnpartitioned(w, cookie)
}

// clearUnpartitioned clears the cookie beside a partitioned one that has the same
// name and is none: a browser keeps both, and sends the older one first. Servers
// of before the attribute have set it.
func clearUnpartitioned(w http.ResponseWriter, cookie *http.Cookie) {
	if !cookie.Partitioned {
		return
	}
	old := *cookie
	old.Value, old.MaxAge, old.Partitioned = "", -1, false
	http.SetCookie(w, &old)
}

func (s *Server) cookie(r *http.Request) *http.Cookie {
	c := s.config.Cookie
	return &http.Cookie{
		Name: auth.CookieName, Path: mountPoint(r), Domain: c.Domain,
		HttpOnly: true, Secure: !c.Insecure, SameSite: c.SameSite,
		// Else Chromium drops it in another site's page. With the attribute there
		// is a cookie for each site whose page sets it (CHIPS).
		Partitioned: c.SameSite == http.SameSiteNoneMode,
	}
}
