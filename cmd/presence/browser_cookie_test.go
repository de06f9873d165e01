package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// A page of another site can sign in with the session cookie, even in a Chromium that blocks
// third-party cookies. Chromium accepts the cookie because it is partitioned by the site of the
// page.
func TestThirdPartyCookie(t *testing.T) {
	t.Parallel()
	heavy(t)
	e := env{"PRESENCE_JWT_SECRET": secret}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,">`)
	}))
	t.Cleanup(site.Close)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certificate(t, cert, key)
	_, addr := serving(t, e, "--listen=127.0.0.1:0", "--tls-cert="+cert, "--tls-key="+key, "--cookie-samesite=none", "--cors-origin="+site.URL)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}

	page := launch(t, []chromedp.ExecAllocatorOption{
		chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("test-third-party-cookie-phaseout", true),
		chromedp.Flag("host-resolver-rules", "MAP presence.example 127.0.0.1"),
	})
	if err := chromedp.Do(page, chromedp.Navigate(site.URL)); err != nil {
		t.Fatal(err)
	}
	script[int](t, page, fmt.Sprintf(`(async () => {
		const base = "https://presence.example:%s";
		const signedIn = await fetch(base + "/session", { method: "POST", credentials: "include", headers: { "Content-Type": "application/json" },
			body: JSON.stringify({ token: %q }) });
		window.source = new EventSource(base + "/events", { withCredentials: true });
		source.addEventListener("user count", (e) => (window.counted = e.data));
		return signedIn.status;
	})()`, port, must(t, e, "token", "--sub=ann")))
	see(t, page, `window.counted === "1"`)
	script[int](t, page, `source.close(); 0`)
}

// A visitor signs in behind the documented configurations of nginx and Caddy, plain and with TLS.
// Another host of the domain has set session cookies before. With TLS and without --cookie-path
// they have no effect, even if their token is valid. Otherwise the first valid cookie counts.
func TestTossedCookie(t *testing.T) {
	t.Parallel()
	blocks := proxyBlocks(t)
	if t.Failed() {
		return
	}
	for _, c := range []struct {
		proxy                  string
		below, cookiePath, tls bool
	}{
		{"nginx", false, false, true},
		{"nginx", true, false, true},
		{"nginx", true, true, true},
		{"nginx", true, true, false},
		{"caddy", true, false, true},
		{"caddy", true, true, true},
		{"caddy", true, true, false},
	} {
		t.Run(fmt.Sprintf("%s, prefix %v, flag %v, TLS %v", c.proxy, c.below, c.cookiePath, c.tls), func(t *testing.T) {
			t.Parallel()
			heavy(t)
			p, block := proxies[c.proxy], blocks[c.proxy][0]
			if c.below {
				p, block = p.below(t, blocks[c.proxy])
			}
			if !c.tls {
				p, block = p.withoutTLS(block)
			}
			p.rootCookie = !c.cookiePath
			_, _, addr, origin := p.serve(t, block, 15*time.Second)
			host, _, _ := net.SplitHostPort(addr)
			page := launch(t, []chromedp.ExecAllocatorOption{
				chromedp.Flag("ignore-certificate-errors", true),
				chromedp.Flag("host-resolver-rules", "MAP evil.presence.example 127.0.0.1, MAP presence.example "+host),
			}, "/favicon.ico")
			e := env{"PRESENCE_JWT_SECRET": secret}
			ann, mallory := must(t, e, "token", "--sub=ann"), must(t, e, "token", "--sub=mallory")
			tossed(t, page, c.tls, mallory+"x")
			signedInAs(t, page, origin+p.mount, ann, "null", "ann")
			tossed(t, page, c.tls, mallory)
			if c.tls && !c.cookiePath {
				signedInAs(t, page, origin+p.mount, ann, "null", "ann")
			} else {
				signedInAs(t, page, origin+p.mount, ann, "mallory", "mallory")
			}
		})
	}
}

// tossed deletes all cookies, and visits a page that sets session cookies for the whole domain.
func tossed(t *testing.T, page context.Context, secure bool, token string) {
	t.Helper()
	site := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"presence_token", "__Host-presence_token"} {
			for _, path := range []string{"/", "/presence/"} {
				http.SetCookie(w, &http.Cookie{Name: name, Value: token, Domain: "presence.example", Path: path, Secure: secure})
			}
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,">`)
	}))
	if secure {
		site.StartTLS()
	} else {
		site.Start()
	}
	defer site.Close()
	if _, err := chromedp.Call(page, network.ClearBrowserCookies, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	scheme, addr, _ := strings.Cut(site.URL, "://")
	_, port, _ := net.SplitHostPort(addr)
	do(t, page, chromedp.Navigate(scheme+"://evil.presence.example:"+port))
}

// signedInAs signs in with a token at the server at url. It compares the user of the session before
// that, after that, and of a stream.
func signedInAs(t *testing.T, page context.Context, url, token, before, after string) {
	t.Helper()
	do(t, page, chromedp.Navigate(url+"/llms.txt"))
	const session = `fetch("session").then((r) => r.json()).then((s) => String(s.user?.id ?? null))`
	if got := script[string](t, page, session); got != before {
		t.Errorf("before the sign-in: got user %s, want %s", got, before)
	}
	signIn := fmt.Sprintf(`fetch("session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token: %q }) })`, token)
	if got := script[int](t, page, signIn+`.then((r) => r.status)`); got != 204 {
		t.Errorf("sign-in: got %d, want 204", got)
	}
	if got := script[string](t, page, session); got != after {
		t.Errorf("after the sign-in: got user %s, want %s", got, after)
	}
	script[int](t, page, `window.source = new EventSource("events");
		source.addEventListener("sync", (e) => (window.members = JSON.parse(e.data).members.map(({ id }) => id).join())); 0`)
	see(t, page, `window.members === "`+after+`"`)
	script[int](t, page, `source.close(); 0`)
}

// withoutTLS returns the proxy without TLS, and its configuration.
func (p proxy) withoutTLS(block string) (proxy, string) {
	plain := strings.NewReplacer("https://", "http://", "\n tls CERT KEY", "", "443 ssl http2", "443")
	p.plain = true
	p.change = slices.Clone(p.change)
	for i, text := range p.change {
		p.change[i] = plain.Replace(text)
	}
	return p, plain.Replace(block)
}

// Over plain HTTP, an image on a page of the same site opens no stream as the visitor, although
// Chromium sends the cookie with its request. An EventSource on a page of the server does.
func TestImageOpensNoStream(t *testing.T) {
	t.Parallel()
	heavy(t)
	e := env{"PRESENCE_JWT_SECRET": secret}
	server, addr := serving(t, e, "--listen=127.0.0.1:0", "--cookie-insecure")
	_, port, _ := net.SplitHostPort(addr)
	url := "http://presence.example:" + port
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><img src="%s/events" onerror="window.failed = true">`, url)
	}))
	t.Cleanup(site.Close)
	page := launch(t, []chromedp.ExecAllocatorOption{chromedp.Flag("host-resolver-rules", "MAP *.example 127.0.0.1")}, "/favicon.ico", "status of 403")
	signedInAs(t, page, url, must(t, e, "token", "--sub=ann"), "null", "ann")
	_, port, _ = net.SplitHostPort(site.Listener.Addr().String())
	do(t, page, chromedp.Navigate("http://blog.presence.example:"+port))
	see(t, page, `window.failed`)
	server.stderr.find(t, `"cause":"origin","count":1,"detail":"stream with the session cookie requires the header Accept: text/event-stream`)
}

// To Chromium, app.localhost and presence.localhost are two sites, and it drops the SameSite=Lax
// cookie of the sign-in. The hosts app.example.localhost and presence.example.localhost are one
// site. The log has a warning about the first pair only.
func TestSites(t *testing.T) {
	t.Parallel()
	e := env{"PRESENCE_JWT_SECRET": secret}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,">`)
	})
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	_, sitePort, _ := strings.Cut(site.Listener.Addr().String(), ":")
	for domain, want := range map[string]int{"localhost": http.StatusUnauthorized, "example.localhost": http.StatusOK} {
		t.Run(domain, func(t *testing.T) {
			t.Parallel()
			heavy(t)
			origin := "http://app." + domain + ":" + sitePort
			server, addr := serving(t, e, "--listen=127.0.0.1:0", "--cors-origin="+origin)
			_, port, _ := strings.Cut(addr, ":")
			page := browser(t, "status of 401")
			do(t, page, chromedp.Navigate(origin))
			got := script[[]int](t, page, fmt.Sprintf(`(async () => {
				const base = "http://presence.%s:%s", credentials = "include";
				const signedIn = await fetch(base + "/session", { method: "POST", credentials, headers: { "Content-Type": "application/json" },
					body: JSON.stringify({ token: %q }) });
				return [signedIn.status, (await fetch(base + "/presence", { credentials })).status];
			})()`, domain, port, must(t, e, "token", "--sub=ann")))
			if !slices.Equal(got, []int{http.StatusNoContent, want}) {
				t.Errorf("got the statuses %v, want 204 and %d", got, want)
			}
			if got := strings.Contains(server.stderr.String(), "SameSite cookie set for a page of another site"); got != (want != http.StatusOK) {
				t.Errorf("warning logged: %v, in\n%s", got, server.stderr)
			}
		})
	}
}
