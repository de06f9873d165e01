package auth_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"example.com/presence/pkg/presence/auth"
	"github.com/MicahParks/jwkset"
)

// The context of a request selects the cookie.
func TestCookieNameOfContext(t *testing.T) {
	r := httptest.NewRequest("GET", "/events", nil)
	r.Header.Set("Cookie", auth.CookieName+"="+hs256(`{"sub":"a"}`)+"; mine="+hs256(`{"sub":"b"}`)+"; "+auth.HostCookieName+"="+hs256(`{"sub":"c"}`))
	j := newJWT(t, auth.Config{})
	for name, want := range map[string]string{auth.CookieName: "a", "mine": "b", auth.HostCookieName: "c", "": "c"} {
		request := r
		if name != "" {
			request = r.WithContext(auth.WithCookieName(r.Context(), name))
		}
		if u, err := j.Authenticate(request); err != nil || u.ID != want {
			t.Errorf("%q: got %q, %v; want %s", name, u.ID, err, want)
		}
	}
}

// A false cookie whose key may be in the next JWK Set delays no request with a valid cookie, and
// several of them wait for one fetch only.
func TestTossedCookieWithUnknownKey(t *testing.T) {
	token := func(kid, sub string) string {
		return "; " + auth.HostCookieName + "=" + sign(`{"alg":"EdDSA","kid":"`+kid+`"}`, `{"sub":"`+sub+`"}`, edKey)
	}
	withIssuer(t, true, func(t *testing.T, w *jwksTest) {
		w.authenticate("1", nil, 0)
		for _, c := range []struct {
			cookies string
			keys    []jwkset.JWKMarshal // the keys of the issuer, if not nil
			user    string
			err     error
			took    time.Duration
		}{
			{"x=y" + token("x", "mallory") + token("1", "alice"), nil, "alice", nil, 0},
			{"x=y" + token("x", "mallory") + token("y", "mallory") + token("2", "alice"), []jwkset.JWKMarshal{named("1", edKey), named("2", edKey)}, "alice", nil, 5 * time.Second},
			{"x=y" + token("x", "mallory") + token("y", "mallory"), nil, "", auth.ErrBadToken, 5 * time.Second},
		} {
			if c.keys != nil {
				w.setKeys(c.keys...)
			}
			r := httptest.NewRequest("GET", "/events", nil)
			r.Header.Set("Cookie", c.cookies)
			start := time.Now()
			u, err := w.Authenticate(r)
			check(t, err, c.err, "")
			if took := time.Since(start); u.ID != c.user || took != c.took {
				t.Errorf("got %q after %v, want %q after %v", u.ID, took, c.user, c.took)
			}
		}
		w.respondWith(unreachable)
		w.sleep(time.Minute)
		r := httptest.NewRequest("GET", "/events", nil)
		r.Header.Set("Cookie", "x=y"+token("x", "mallory")+"; "+auth.HostCookieName+"=rubbish")
		_, err := w.Authenticate(r)
		check(t, err, auth.ErrUnavailable, "")
	})
}
