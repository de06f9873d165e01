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

	cdptarget "github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// countBecomes waits until the room r has n connections. In less than this time, no browser removes
// a page from its back/forward cache.
func countBecomes(t *testing.T, addr string, n int) {
	t.Helper()
	if !poll(20*time.Millisecond, patience/3, func() bool { return connections(t, addr) == n }) {
		t.Fatalf("got %d connections, want %d", connections(t, addr), n)
	}
}

// signInAt opens a page of the site and signs in as a guest.
func signInAt(t *testing.T, page context.Context, site string) {
	t.Helper()
	do(t, page, chromedp.Navigate(site+"/icon.svg"))
	script[bool](t, page, `import("/presence.js").then(({ request }) => request("POST", "/login", { name: "Ann" })).then(() => true)`)
}

// A page that the browser prerenders is not counted until the user opens it.
func TestPrerender(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"room.html", "event-source.html"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heavy(t)
			_, addr := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--dev", "--listen=127.0.0.1:0")
			site := fixtures(t, addr)
			control := browser(t, "/favicon.ico")
			signInAt(t, control, site)
			// Chromium does not prerender for a page with a debugger. So this page has none, and
			// the test controls it from another tab.
			create := cdptarget.CreateTargetParams{
				URL:              site + "/fixtures/prerender.html?" + name,
				BrowserContextID: chromedp.FromContext(control).BrowserContextID,
			}
			if _, err := chromedp.CallBrowser(control, cdptarget.CreateTarget, create); err != nil {
				t.Fatal(err)
			}
			see(t, control, `localStorage.getItem("prerendering") === "true"`)
			idle(t, func() { until(t, time.Now().Add(time.Second)) }) // longer than it takes to join
			if got := connections(t, addr); got != 0 {
				t.Errorf("got %d connections while the page is prerendered, want 0", got)
			}
			script[bool](t, control, `new BroadcastChannel("prerender").postMessage("open"), true`)
			countBecomes(t, addr, 1)

			page, closePage := attach(t, control, site+"/fixtures/"+name)
			defer closePage()
			see(t, page, count(1))
			if script[float64](t, page, `performance.getEntriesByType("navigation")[0].activationStart`) == 0 {
				t.Error("the page was not prerendered")
			}
		})
	}
}

// attach returns the open tab that shows the page at url. close closes it.
func attach(t *testing.T, browser context.Context, url string) (tab context.Context, close func()) {
	t.Helper()
	var id cdptarget.ID
	found := poll(20*time.Millisecond, patience, func() bool {
		targets, err := chromedp.Targets(browser)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(targets, func(info *cdptarget.Info) bool { return info.Type == "page" && info.URL == url })
		if i >= 0 {
			id = targets[i].TargetID
		}
		return i >= 0
	})
	if !found {
		t.Fatalf("no tab shows %s", url)
	}
	tab, close = chromedp.NewContext(browser, chromedp.WithTargetID(id))
	return watched(t, tab), close
}

// A page is not counted while it is in the back/forward cache.
func TestBackForwardCache(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"room.html", "event-source.html", "shared-worker.html"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heavy(t)
			_, addr := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--dev", "--listen=127.0.0.1:0")
			site := fixtures(t, addr)
			page := browser(t, "/favicon.ico")
			signInAt(t, page, site)
			do(t, page, chromedp.Navigate(site+"/fixtures/"+name))
			countBecomes(t, addr, 1)
			for range 2 {
				script[bool](t, page, `window.kept = true`)
				do(t, page, chromedp.Navigate(site+"/icon.svg"))
				countBecomes(t, addr, 0)
				script[bool](t, page, `history.back(), true`)
				countBecomes(t, addr, 1)
				see(t, page, `location.pathname.endsWith(".html")`)
				if !script[bool](t, page, `window.kept === true`) {
					t.Error("the page was not in the back/forward cache")
				}
			}
		})
	}
}

// The browser's program in docs/clients.md receives the messages that are sent while its page is in
// the back/forward cache, the first message of the room included.
func TestProgramInBackForwardCache(t *testing.T) {
	t.Parallel()
	heavy(t)
	pages := t.TempDir()
	site, presence := application(t, pages, "1h")
	program := strings.Replace(documentBlocks(t, "clients.md")["browser.js"], "/events", "/presence/events", 1)
	write(t, pages, "program.html", `<ul></ul><script type="module">
		const console = { log: (line) => (document.querySelector("ul").textContent += line) };
		`+program+`</script>`)
	e := env{"PRESENCE_JWT_SECRET": secret}
	sender := must(t, e, "token", "--sub=sender")

	page := browser(t, "/favicon.ico")
	do(t, page, chromedp.Navigate(site+"/presence/icon.svg"))
	script[bool](t, page, `import("/presence/presence.js").then(async ({ request }) =>
		request("POST", "/presence/session", { token: await (await fetch("/token")).text() })).then(() => true)`)
	watch := start(t, e, "watch", "--url="+presence, "--token="+sender)
	watch.stdout.find(t, "user count\t1")
	do(t, page, chromedp.Navigate(site+"/program.html"))
	for _, message := range []string{"first", "second"} {
		watch.stdout.find(t, "user count\t2")
		see(t, page, `document.querySelector("ul")?.textContent.includes("sync")`)
		do(t, page, chromedp.Navigate(site+"/presence/icon.svg"))
		watch.stdout.find(t, "user count\t1")
		must(t, e, "send", "--url="+presence, "--token="+sender, message)
		script[bool](t, page, `history.back(), true`)
		see(t, page, fmt.Sprintf(`document.querySelector("ul")?.textContent.includes(%q)`, message))
	}
}

// The rooms of a browser leave a connection free for requests. A room that must wait has the reason
// "connections", and it opens when another room closes.
func TestConnections(t *testing.T) {
	t.Parallel()
	e := env{"PRESENCE_JWT_SECRET": secret}
	const open, waiting = `room.state.connection === "open"`, `room.state.connection === "connecting" && room.state.reason === "connections"`
	// shows waits until this number of rooms of the page are open, and this number are waiting.
	shows := func(t *testing.T, page context.Context, opened, waited int) {
		t.Helper()
		see(t, page, fmt.Sprintf(`window.rooms?.filter((room) => %s).length === %d && rooms.filter((room) => %s).length === %d`, open, opened, waiting, waited))
	}
	// sends fails the test if a room of the page cannot send a message at once.
	sends := func(t *testing.T, page context.Context, rooms string) {
		t.Helper()
		const limit = 8000 // milliseconds; without a free connection, a message waits for 10 s or more
		took := script[float64](t, page, fmt.Sprintf(`(async () => {
			const began = performance.now();
			await Promise.all(%s.map((room) => room.send("hello")));
			return performance.now() - began;
		})()`, rooms))
		if took > limit {
			t.Errorf("sent after %.0f ms, want at most %d ms", took, limit)
		}
	}
	// joins makes the page join this number of rooms of the server at url.
	joins := func(t *testing.T, page context.Context, url string, rooms int) {
		t.Helper()
		token := must(t, e, "token", "--sub=ann", "--join=*", "--send=*")
		script[bool](t, page, fmt.Sprintf(`import("%[1]s/presence.js").then(({ join }) => {
			window.rooms = Array.from({ length: %[2]d }, (_, i) => join({ url: "%[1]s", room: "r" + i, token: %[3]q }));
			return true;
		})`, url, rooms, token))
	}
	secure := []chromedp.ExecAllocatorOption{chromedp.Flag("ignore-certificate-errors", true)}
	// serveTLS starts a server with HTTP/2.
	serveTLS := func(t *testing.T, args ...string) (url string) {
		t.Helper()
		dir := t.TempDir()
		cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		certificate(t, cert, key)
		_, addr := serving(t, e, append([]string{"--listen=127.0.0.1:0", "--tls-cert=" + cert, "--tls-key=" + key, "--message-burst=1000"}, args...)...)
		return "https://" + addr
	}

	t.Run("tabs", func(t *testing.T) {
		t.Parallel()
		heavy(t)
		_, addr := serving(t, e, "--dev", "--listen=127.0.0.1:0")
		site := fixtures(t, addr)
		browser := ownBrowser(t, "/favicon.ico") // its first tab stays open, because the browser exits without it
		signInAt(t, browser, site)
		tabs, closes := make([]context.Context, 7), make([]func(), 7)
		for i := range tabs {
			tabs[i], closes[i] = tab(t, browser)
			t.Cleanup(closes[i])
			do(t, tabs[i], chromedp.Navigate(site+"/fixtures/connections.html"))
			if i < 5 {
				shows(t, tabs[i], 1, 0)
			} else {
				shows(t, tabs[i], 0, 1)
			}
		}
		for _, tab := range tabs {
			sends(t, tab, `rooms`)
		}
		closes[0]()
		opened := func(tab context.Context) bool { return script[bool](t, tab, `rooms.every((room) => `+open+`)`) }
		if !poll(20*time.Millisecond, patience, func() bool { return opened(tabs[5]) || opened(tabs[6]) }) {
			t.Fatal("no waiting tab has opened its room")
		}
		if opened(tabs[5]) && opened(tabs[6]) {
			t.Error("both waiting tabs have opened their rooms, want one")
		}
		closes[1]()
		shows(t, tabs[5], 1, 0)
		shows(t, tabs[6], 1, 0)
		countBecomes(t, addr, 5)
	})

	for name, query := range map[string]string{"rooms": "?rooms=7", "shared rooms": "?rooms=7&share"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heavy(t)
			_, addr := serving(t, e, "--dev", "--listen=127.0.0.1:0")
			site := fixtures(t, addr)
			page := browser(t, "/favicon.ico")
			signInAt(t, page, site)
			do(t, page, chromedp.Navigate(site+"/fixtures/connections.html"+query))
			shows(t, page, 5, 2)
			sends(t, page, `rooms`)
			script[bool](t, page, `rooms.find((room) => `+open+`).close(), true`)
			shows(t, page, 5, 1)
			sends(t, page, `rooms.filter((room) => room.state.connection !== "closed")`)
		})
	}

	// A page at an address that is neither HTTPS nor localhost has no Web Locks.
	t.Run("insecure context", func(t *testing.T) {
		t.Parallel()
		heavy(t)
		_, addr := serving(t, e, "--listen=127.0.0.1:0")
		_, port, _ := net.SplitHostPort(addr)
		page := launch(t, []chromedp.ExecAllocatorOption{chromedp.Flag("host-resolver-rules", "MAP presence.example 127.0.0.1")}, "/favicon.ico")
		url := "http://presence.example:" + port
		do(t, page, chromedp.Navigate(url+"/icon.svg"))
		if script[bool](t, page, `isSecureContext`) {
			t.Fatal("got a secure context")
		}
		joins(t, page, url, 7)
		shows(t, page, 5, 2)
		sends(t, page, `rooms`)
	})

	t.Run("HTTP2", func(t *testing.T) {
		t.Parallel()
		heavy(t)
		url := serveTLS(t)
		page := launch(t, secure, "/favicon.ico")
		do(t, page, chromedp.Navigate(url+"/icon.svg"))
		joins(t, page, url, 20)
		shows(t, page, 20, 0)
		if testing.Short() {
			return
		}
		do(t, page, chromedp.Navigate(url+"/icon.svg"))
		joins(t, page, url, 95)
		shows(t, page, 90, 5)
		sends(t, page, `[rooms[0], rooms[94]]`)
	})

	// The page does not see the protocol of its own requests to the server. It learns the protocol
	// with a request, once five streams are open.
	t.Run("HTTP2 of another origin", func(t *testing.T) {
		t.Parallel()
		heavy(t)
		site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,">`)
		}))
		t.Cleanup(site.Close)
		url := serveTLS(t, "--cors-origin="+site.URL)
		page := launch(t, secure)
		do(t, page, chromedp.Navigate(site.URL))
		joins(t, page, url, 20)
		shows(t, page, 20, 0)
		sends(t, page, `[rooms[0], rooms[19]]`)
	})
}
