package doctor_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/presence/cmd/presence/internal/doctor"
)

// The rules of the checks that cmd/presence does not test with a real proxy.
func TestRules(t *testing.T) {
	t.Parallel()
	const good = "presence_token=abcdefgh; Path=/; HttpOnly; Secure; SameSite=Lax"
	const app = "https://app.example.com"
	allow := func(origin, methods, headers string) http.Header {
		return http.Header{"Access-Control-Allow-Origin": {origin}, "Access-Control-Allow-Methods": {methods},
			"Access-Control-Allow-Headers": {headers}, "Access-Control-Allow-Credentials": {"true"}}
	}
	all := allow(app, "GET, POST", "authorization, content-type")
	noCookie := all.Clone()
	noCookie.Del("Access-Control-Allow-Credentials")
	wildcard := allow("*", "POST", "authorization, content-type")
	wildcard.Del("Access-Control-Allow-Credentials")
	for name, tt := range map[string]struct {
		fake   *fake
		origin string
		check  string
		level  doctor.Level
		text   string // part of the line
	}{
		"cookie":                          {&fake{cookie: good}, app, "cookie", doctor.OK, "Path=/; HttpOnly; Secure; SameSite=Lax"},
		"cookie for another site":         {&fake{cookie: good}, "https://other.example", "cookie", doctor.Note, "--cookie-samesite none"},
		"cookie for a site of plain HTTP": {&fake{cookie: good}, "http://app.example.com", "cookie", doctor.Note, "--cookie-samesite none"},
		"SameSite=None":                   {&fake{cookie: strings.Replace(good, "Lax", "None; Partitioned", 1)}, "https://other.example", "cookie", doctor.OK, "SameSite=None"},
		"cookie for scripts":              {&fake{cookie: strings.Replace(good, " HttpOnly;", "", 1)}, app, "cookie", doctor.Fault, "no HttpOnly"},
		"cookie prefix":                   {&fake{cookie: "__Host-" + strings.Replace(good, "Path=/", "Path=/presence/", 1)}, app, "cookie", doctor.Fault, "browsers drop a cookie __Host-"},
		"cookie path":                     {&fake{cookie: strings.Replace(good, "Path=/", "Path=/x/", 1)}, app, "cookie", doctor.Fault, "--cookie-path /"},
		"cookie domain":                   {&fake{cookie: good + "; Domain=other.example"}, app, "cookie", doctor.Fault, "--cookie-domain for example.com"},
		"cookie of a parent":              {&fake{cookie: good + "; Domain=example.com"}, app, "cookie", doctor.OK, "Domain=example.com"},
		"renamed cookie":                  {&fake{cookie: "sid=abcdefgh; Path=/"}, app, "cookie", doctor.Fault, "removes or renames it"},
		"CORS":                            {&fake{cors: all}, app, "cors", doctor.OK, "with the cookie"},
		"CORS wildcard":                   {&fake{cors: wildcard}, app, "cors", doctor.Note, "but not the cookie"},
		"CORS wildcard with credentials":  {&fake{cors: allow("*", "POST", "authorization, content-type")}, app, "cors", doctor.Fault, "browsers refuse"},
		"CORS without cookie":             {&fake{cors: noCookie}, app, "cors", doctor.Note, "but not the cookie"},
		"CORS of another":                 {&fake{cors: allow("https://x.example", "POST", "authorization, content-type")}, app, "cors", doctor.Fault, "is https://x.example"},
		"CORS method":                     {&fake{cors: allow(app, "GET", "authorization, content-type")}, app, "cors", doctor.Fault, "no POST in Access-Control-Allow-Methods"},
		"CORS header":                     {&fake{cors: allow(app, "POST", "content-type")}, app, "cors", doctor.Fault, "no Authorization in Access-Control-Allow-Headers"},
		"CORS header wildcard":            {&fake{cors: allow(app, "POST", "*")}, app, "cors", doctor.Fault, "no Authorization in Access-Control-Allow-Headers"},
		"no CORS":                         {new(fake), app, "cors", doctor.Fault, "--cors-origin " + app},
		"clock ahead":                     {&fake{skew: 5 * time.Minute}, "", "clock", doctor.Fault, "ahead of this machine: tokens begin and expire"},
		"clock behind a bit":              {&fake{skew: -15 * time.Second}, "", "clock", doctor.Note, " behind this machine"},
		"replay":                          {new(fake), "", "resume", doctor.OK, "is replayed"},
		"no replay":                       {&fake{resync: ": nothing\n\n"}, "", "resume", doctor.Fault, "proxy_set_header Last-Event-ID"},
		"no history":                      {&fake{resync: resetEvent}, "", "resume", doctor.Note, "--history 0"},
		"another server":                  {&fake{resync: resetEvent, epoch: "9876543210"}, "", "resume", doctor.Fault, "--nats"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewTLSServer(tt.fake)
			t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
			v := examine(t, "https://example.com", rootOf(t, s, tt.origin))[tt.check]
			if v.Level != tt.level || !strings.Contains(v.String(), tt.text) {
				t.Errorf("got %v\nwant %s with %q", v, tt.level, tt.text)
			}
		})
	}
}

const resetEvent = "id: " + epoch + "-1\ndata: {\"reason\":\"history\"}\nevent: reset\n\n"

// A token that is valid by the clock of this machine needs no new token, but the right time.
func TestRefusedToken(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		claims string
		detail string // of the answer
		fix    string
	}{
		"expired":                    {fmt.Sprintf(`{"exp":%d}`, time.Now().Add(-time.Minute).Unix()), "invalid token: expired", "token: exp: sign a new token"},
		"expired, and no detail":     {fmt.Sprintf(`{"exp":%d}`, time.Now().Add(-time.Minute).Unix()), "", "token: exp: sign a new token"},
		"expired by another clock":   {fmt.Sprintf(`{"exp":%d}`, time.Now().Add(time.Hour).Unix()), "invalid token: expired", "machine: synchronize the clock with NTP"},
		"too early":                  {fmt.Sprintf(`{"nbf":%d}`, time.Now().Add(time.Hour).Unix()), "invalid token: not valid yet", "token: nbf: synchronize the clocks"},
		"too early by another clock": {fmt.Sprintf(`{"nbf":%d}`, time.Now().Add(-time.Minute).Unix()), "invalid token: not valid yet", "token: nbf: synchronize the clocks"},
		"another secret":             {fmt.Sprintf(`{"exp":%d}`, time.Now().Add(time.Hour).Unix()), "invalid token: signature", "--jwt-secret-file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base, _ := serve(t, &fake{session: func(w http.ResponseWriter, _ *http.Request) {
				writeJSON(w, 401, "application/problem+json", `{"type":"about:blank","status":401,"detail":"`+tt.detail+`"}`)
			}})
			v := examine(t, base, func(c *doctor.Config) {
				c.Token = "e30." + base64.RawURLEncoding.EncodeToString([]byte(tt.claims)) + ".c2lnbmF0dXJl"
			})["token"]
			if v.Level != doctor.Fault || !strings.Contains(v.String(), ". Fix: "+tt.fix) && !strings.Contains(v.String(), ". Fix: presence: "+tt.fix) {
				t.Errorf("got %v\nwant the line %s", v, tt.fix)
			}
		})
	}
}

// A run that is interrupted ends at once, and returns the verdicts until then.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	base, _ := serve(t, new(fake))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	all, err := doctor.Run(ctx, doctor.Config{URL: base, Token: token, Watch: time.Hour}, func(v doctor.Verdict) {
		if v.Check == "clock" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || len(all) == 0 {
		t.Errorf("got %d verdicts, %v", len(all), err)
	}
}
