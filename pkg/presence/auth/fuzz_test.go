package auth_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/auth"
)

// FuzzAuthenticate checks Authenticate with arbitrary headers, cookies, queries and signed claims:
//
//   - It returns a user only for a valid, signed token. The user is within its limits.
//   - It returns no error other than ErrNoToken and ErrBadToken. The error contains no part of the
//     input.
func FuzzAuthenticate(f *testing.F) {
	good := hs256(alice)
	f.Add("Bearer "+good, "__Host-presence_token="+good, "access_token="+good, alice)
	f.Add("Basic dTpw", "a=b; __Host-presence_token=\""+good+"\"", "access_token="+good+"&access_token=x", `{"sub":"a","exp":1e300}`)
	f.Add("bearer", "__Host-presence_token=; __Host-presence_token="+good, "%zz;=&access_token", `{"sub":"a","aud":["x"],"nbf":0,"iat":0.5,"exp":4102444800}`)
	f.Add("Bearer "+sign(`{"alg":"EdDSA","kid":"1"}`, alice, edKey), "", "", `{"sub":"a","sid":"s","presence":{"join":["*"],"send":[],"info":{"a":[1,null]},"admin":true}}`)
	f.Add("Bearer eyJhbGciOiJub25lIn0."+strings.Split(good, ".")[1]+".", "", "", `{"sub":"a","name":"b","presence":null}`)
	f.Add(good, good, good, good)

	j := newJWT(f, auth.Config{QueryToken: true})
	words := regexp.MustCompile(`[A-Za-z0-9_-]{16,}`) // longer than any word of an error text
	f.Fuzz(func(t *testing.T, header, cookie, query, claims string) {
		safe := func(err error, in ...string) {
			if !errors.Is(err, auth.ErrNoToken) && !errors.Is(err, auth.ErrBadToken) {
				t.Errorf("got error %v, want ErrNoToken or ErrBadToken", err)
			}
			for _, word := range words.FindAllString(strings.Join(in, " "), -1) {
				if strings.Contains(err.Error(), word) {
					t.Errorf("error %v contains the input %q", err, word)
				}
			}
		}

		r := &http.Request{URL: &url.URL{RawQuery: query}, Header: http.Header{"Cookie": {cookie}}}
		if header != "" {
			r.Header["Authorization"] = []string{header}
		}
		if u, err := j.Authenticate(r); err != nil {
			safe(err, header, cookie, query)
		} else if unescaped, _ := url.QueryUnescape(query); u.ID != "alice" || !strings.Contains(header+cookie+unescaped, good) {
			t.Errorf("got user %+v for header %q, cookie %q, query %q", u, header, cookie, query)
		}

		u, err := j.Authenticate(bearer(hs256(claims)))
		if err != nil {
			safe(err, claims, hs256(claims))
			return
		}
		again, err := u.Checked()
		if err != nil || !reflect.DeepEqual(u, again) || !json.Valid(u.Info) {
			t.Errorf("%s: got %+v; second Checked returns %+v, %v", claims, u, again, err)
		}
		if !u.Expires.IsZero() && u.Expires.Before(time.Now().Add(-time.Minute)) || u.Expires.Year() > 9999 {
			t.Errorf("%s: got a user that expires at %v", claims, u.Expires)
		}
	})
}
