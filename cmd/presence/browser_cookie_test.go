package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

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
