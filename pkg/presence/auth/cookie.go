package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
)

// CookieName and HostCookieName are the names of the session cookie, which holds a token. A browser
// accepts a cookie with the prefix __Host- only from the host itself, with the attribute Secure,
// the path / and no Domain (RFC 6265bis section 4.1.3.2). So no other host of the domain can set
// it. A cookie with other attributes needs the other name.
const (
	CookieName     = "presence_token"
	HostCookieName = "__Host-presence_token"
)

// cookieKey is the context key of the name of the session cookie.
type cookieKey struct{}

// WithCookieName returns a context with the name of the session cookie. A presence.Server sets it
// for the requests that it passes to its Authenticator.
func WithCookieName(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, cookieKey{}, name)
}

// CookieNameFrom returns the name of the session cookie from the context of a request. Without one,
// as for a request outside of a presence.Server, it returns [HostCookieName].
func CookieNameFrom(ctx context.Context) string {
	if name, ok := ctx.Value(cookieKey{}).(string); ok {
		return name
	}
	return HostCookieName
}

// maxCookies is the maximum number of session cookies of a request that are tried. A forged one
// costs a verification per key, and 32 KiB of headers have room for 200.
const maxCookies = 8

// cookieTokens returns the different values of the first maxCookies session cookies, in the order
// of the request.
func cookieTokens(r *http.Request) (tokens []string) {
	if len(r.Header["Cookie"]) == 0 {
		return nil
	}
	for _, c := range r.CookiesNamed(CookieNameFrom(r.Context())) {
		if c.Value != "" && len(tokens) < maxCookies && !slices.Contains(tokens, c.Value) {
			tokens = append(tokens, c.Value)
		}
	}
	return tokens
}

// withSession returns the user of a token in the session cookie.
func (u User) withSession(token string) User {
	hash := sha256.Sum256([]byte(token))
	u.Session = base64.RawURLEncoding.EncodeToString(hash[:])
	return u
}
