package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// application starts a site like the one in docs/browser.md. The site serves the pages in a
// directory, returns a token for Ann at /token, and mounts the server at /presence/. If ttl is
// empty, /token fails.
func application(t *testing.T, pages string, ttl string) (site, presence string) {
	t.Helper()
	e := env{"PRESENCE_JWT_SECRET": secret}
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	t.Cleanup(app.Close)
	_, addr := serving(t, e, "--listen=127.0.0.1:0", "--cookie-insecure", "--cors-origin="+app.URL)
	presence = "http://" + addr
	target, err := url.Parse(presence)
	if err != nil {
		t.Fatal(err)
	}
	mux.Handle("/presence/", http.StripPrefix("/presence", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}))
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		if ttl == "" {
			http.Error(w, "<h1>Internal server error</h1>", http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, must(t, e, "token", "--sub=ann", "--name=Ann", "--ttl="+ttl))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		content, err := os.ReadFile(filepath.Join(pages, filepath.Base(r.URL.Path)))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		if strings.HasSuffix(r.URL.Path, ".js") {
			w.Header().Set("Content-Type", "text/javascript")
		} else {
			fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,">`)
		}
		fmt.Fprint(w, strings.ReplaceAll(string(content), "https://presence.example.com", presence))
	})
	return app.URL, presence
}

// The examples in docs/browser.md work in a browser.
func TestBrowserDocument(t *testing.T) {
	t.Parallel()
	pages := t.TempDir()
	var out []byte
	if !t.Run("build", func(t *testing.T) {
		heavy(t)
		var err error
		if out, err = exec.Command("node", "../../web/examples.js", "../../docs/browser.md", pages).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}) {
		return
	}

	// bob joins the room as Bob and prints its events.
	bob := func(t *testing.T, presence string) *background {
		t.Helper()
		return start(t, env{}, "watch", "--url="+presence, "--token="+must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=bob", "--name=Bob"))
	}
	// counts returns a test that the count on the page rises when Bob joins.
	counts := func(element string) func(*testing.T, context.Context, string) {
		shows := func(n int) string {
			return fmt.Sprintf(`document.querySelector(%q)?.textContent === "%d"`, element, n)
		}
		return func(t *testing.T, page context.Context, presence string) {
			see(t, page, shows(1))
			bob(t, presence)
			see(t, page, shows(2))
		}
	}
	// cached returns the same test, and then a test that the page is not counted while it is in the
	// back/forward cache.
	cached := func(element string) func(*testing.T, context.Context, string) {
		return func(t *testing.T, page context.Context, presence string) {
			counts(element)(t, page, presence)
			carol := bob(t, presence)
			carol.stdout.find(t, "user count\t3")
			site := script[string](t, page, `window.kept = location.origin`)
			do(t, page, chromedp.Navigate(site+"/presence/icon.svg"))
			carol.stdout.find(t, "user count\t2")
			script[bool](t, page, `history.back(), true`)
			carol.stdout.find(t, "user count\t3")
			see(t, page, `window.kept`)
		}
	}
	// component tests the React and Vue examples.
	component := func(t *testing.T, page context.Context, presence string) {
		counts("b")(t, page, presence)
		see(t, page, `document.querySelector("section").dataset.state === "open"`)
		see(t, page, `[...document.querySelectorAll("li")].map((li) => li.textContent).sort().join() === "Ann,Bob"`)
		carol := bob(t, presence)
		see(t, page, `document.querySelector("b").textContent === "3"`)
		if err := chromedp.Do(page, chromedp.Click("button")); err != nil {
			t.Fatal(err)
		}
		carol.stdout.find(t, "hello")
	}
	enters := func(t *testing.T, page context.Context, _ string) {
		see(t, page, `window.room?.state.connection === "open" && room.count === 1`)
	}

	ttl := sized(3*time.Second, 6*time.Second, 6*time.Second) // lifetime of a token that the page must renew before it expires
	examples := map[string]struct {
		ttl    string
		cookie bool // the user signs in before the page opens
		test   func(t *testing.T, page context.Context, presence string)
	}{
		"event-source.html": {"1h", false, cached("#count")},
		"worker.html":       {"1h", true, cached("#count")},
		"presence.html": {"1h", false, func(t *testing.T, page context.Context, presence string) {
			counts("#count")(t, page, presence)
			if err := chromedp.Do(page, chromedp.Click("p > button")); err != nil {
				t.Fatal(err)
			}
			see(t, page, `document.body.textContent.includes("Ann: hello")`)
		}},
		"Room.jsx.html": {"1h", true, component},
		"Room.vue.html": {"1h", true, component},
		"away.js.html": {"1h", true, func(t *testing.T, page context.Context, presence string) {
			enters(t, page, presence)
			watch := bob(t, presence)
			watch.stdout.find(t, "sync")
			for _, hidden := range []bool{true, false} {
				script[bool](t, page, fmt.Sprintf(`Object.defineProperty(document, "hidden", {value: %t, configurable: true});
					document.dispatchEvent(new Event("visibilitychange"))`, hidden))
				watch.stdout.find(t, map[bool]string{true: "away", false: "here"}[hidden])
			}
		}},
		"earlier.js.html": {"1h", true, func(t *testing.T, page context.Context, presence string) {
			enters(t, page, presence)
			rows := func(first, last int) string {
				return fmt.Sprintf(`[...document.querySelectorAll("li")].map((li) => li.textContent).join() ===
					Array.from({length: %d}, (_, i) => "Ann: " + (%d + i)).join()`, last-first+1, first)
			}
			see(t, page, `document.querySelector("button").hidden`)
			script[bool](t, page, `(async () => { for (let i = 1; i <= 25; i++) await room.send(i); return true; })()`)
			see(t, page, rows(1, 25))
			if err := chromedp.Do(page, chromedp.Reload()); err != nil {
				t.Fatal(err)
			}
			enters(t, page, presence)
			see(t, page, rows(6, 25)+` && !document.querySelector("button").hidden`)
			script[bool](t, page, `room.send(26).then(() => true)`)
			see(t, page, rows(6, 26))
			if err := chromedp.Do(page, chromedp.Click("button")); err != nil {
				t.Fatal(err)
			}
			see(t, page, rows(1, 26)+` && document.querySelector("button").hidden`)
		}},
		"renew.js.html": {ttl.String(), true, func(t *testing.T, page context.Context, presence string) {
			enters(t, page, presence)
			idle(t, func() {
				see(t, page, fmt.Sprintf(`performance.now() > %d && room.state.connection === "open"`, (ttl+2*time.Second).Milliseconds()))
			})
		}},
		"share.js.html": {"1h", true, func(t *testing.T, page context.Context, presence string) {
			enters(t, page, presence)
			other, closeOther := tab(t, page)
			t.Cleanup(closeOther)
			site := script[string](t, page, `location.href`)
			if err := chromedp.Do(other, chromedp.Navigate(site)); err != nil {
				t.Fatal(err)
			}
			enters(t, other, presence)
			for _, page := range []context.Context{page, other} {
				see(t, page, `document.title === "1 are here"`)
			}
		}},
		"other-origin-token.html": {"1h", false, counts("#count")},
		"other-origin-cookie.html": {ttl.String(), false, func(t *testing.T, page context.Context, presence string) {
			user := func(id string) string {
				return fmt.Sprintf(`(async () => (await (await fetch("%s/session", { credentials: "include" })).json()).user?.id === %q)()`, presence, id)
			}
			counts("#count")(t, page, presence)
			// Another user has left a cookie in this browser.
			if got := script[int](t, page, fmt.Sprintf(`fetch("%s/session", { method: "POST", credentials: "include",
				headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token: %q }) }).then((response) => response.status)`,
				presence, must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=eve"))); got != http.StatusNoContent {
				t.Fatalf("sign-in: got %d", got)
			}
			if !script[bool](t, page, user("eve")) {
				t.Error("the cookie is not that of eve")
			}
			do(t, page, chromedp.Reload())
			see(t, page, `document.querySelector("#count")?.textContent === "2"`)
			if !script[bool](t, page, user("ann")) {
				t.Error("the cookie is not that of the user of the page")
			}
			idle(t, func() {
				see(t, page, fmt.Sprintf(`performance.now() > %d && document.querySelector("#status").textContent === "" &&
					document.querySelector("#count").textContent === "2"`, (ttl+2*time.Second).Milliseconds()))
			})
		}},
	}
	for _, name := range strings.Fields(string(out)) {
		example, known := examples[name]
		if !known {
			t.Errorf("no test for example %s", name)
			continue
		}
		delete(examples, name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heavy(t)
			site, presence := application(t, pages, example.ttl)
			page := browser(t, "/favicon.ico", "console.log", "console.info") // printed by the examples and by React's development build
			if example.cookie {
				if err := chromedp.Do(page, chromedp.Navigate(site+"/presence/icon.svg")); err != nil {
					t.Fatal(err)
				}
				script[bool](t, page, `(async () => {
					const { request } = await import("/presence/presence.js");
					await request("POST", "/presence/session", { token: await (await fetch("/token")).text() });
					return true;
				})()`)
			}
			if err := chromedp.Do(page, chromedp.Navigate(site+"/"+name)); err != nil {
				t.Fatal(err)
			}
			example.test(t, page, presence)
		})
	}
	for name := range examples {
		t.Errorf("example %s missing in docs/browser.md", name)
	}

	// The complete pages report a failure of the application, on the page and in the console.
	for _, name := range []string{"presence.html", "event-source.html", "other-origin-token.html", "other-origin-cookie.html"} {
		t.Run("broken token "+name, func(t *testing.T) {
			t.Parallel()
			heavy(t)
			site, _ := application(t, pages, "")
			const failure = "/token: status 500"
			page := browser(t, failure, "status of 500")
			reported := make(chan string, 1)
			if err := chromedp.Listen(page, func(event any) {
				if e, ok := event.(*cdpruntime.EventExceptionThrown); ok {
					select {
					case reported <- e.ExceptionDetails.Exception.Description:
					default:
					}
				}
			}); err != nil {
				t.Fatal(err)
			}
			do(t, page, chromedp.Navigate(site+"/"+name))
			select {
			case got := <-reported:
				if !strings.Contains(got, failure) {
					t.Errorf("the console shows %q, want %q", got, failure)
				}
			case <-time.After(patience):
				t.Error("the console shows no exception")
			}
			see(t, page, fmt.Sprintf(`document.body.innerText.includes(%q)`, failure))
		})
	}

	t.Run("refused event-source.html", func(t *testing.T) {
		t.Parallel()
		heavy(t)
		site, _ := application(t, pages, "3s") // the stream ends with its token
		page := browser(t, "status of 401")
		do(t, page, chromedp.Navigate(site+"/event-source.html"))
		idle(t, func() {
			see(t, page, `document.querySelector("#status")?.textContent === "refused" && document.querySelector("#count").textContent === "–"`)
		})
	})
}

// The two pages in the README show why they have no count, and then the count.
func TestReadmePages(t *testing.T) {
	t.Parallel()
	heavy(t)
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n### From a page\n")
	section, _, _ = strings.Cut(section, "\n### ")
	blocks := regexp.MustCompile("(?ms)^```js\n(.*?)^```$").FindAllStringSubmatch(section, -1)
	refused := []string{"refused: the network tab has the cause", "no token: send an Authorization: Bearer header or the session cookie"}
	if len(blocks) != len(refused) {
		t.Fatalf("got %d pages, want %d", len(blocks), len(refused))
	}
	e := env{"PRESENCE_JWT_SECRET": secret}
	_, addr := serving(t, e, "--listen=127.0.0.1:0", "--cookie-insecure")
	mux := http.NewServeMux()
	mux.Handle("/", &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: addr})
		r.Out.Host = r.In.Host
	}})
	for i, block := range blocks {
		mux.HandleFunc(fmt.Sprintf("/page%d", i), func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><b id="count"></b> <i id="status"></i><script type="module">%s</script>`, block[1])
		})
	}
	site := httptest.NewServer(mux)
	t.Cleanup(func() {
		site.CloseClientConnections() // an open stream would block Close
		site.Close()
	})
	for i := range blocks {
		page := browser(t, "status of 401")
		address := fmt.Sprintf("%s/page%d", site.URL, i)
		do(t, page, chromedp.Navigate(address))
		see(t, page, fmt.Sprintf(`document.querySelector("#status").textContent === %q && document.querySelector("#count").textContent === "–"`, refused[i]))
		status := script[int](t, page, fmt.Sprintf(`fetch("/session", { method: "POST", headers: { "Content-Type": "application/json" },
			body: JSON.stringify({ token: %q }) }).then((response) => response.status)`, must(t, e, "token", "--sub=ann")))
		if status != http.StatusNoContent {
			t.Fatalf("sign-in: got %d", status)
		}
		do(t, page, chromedp.Navigate(address))
		see(t, page, `document.querySelector("#count").textContent === "1" && document.querySelector("#status").textContent === ""`)
		do(t, page, chromedp.Navigate("about:blank")) // the next page counts alone
	}
}

// Each code block in docs/browser.md and docs/proxies.md is tested. It must be one of these:
//
//   - an example that names its file,
//   - the configuration of a proxy,
//   - a command line, which must be valid,
//   - a kernel setting, which must exist.
//
// YAML blocks are not tested, because they configure proxies that no test runs.
func TestBrowserDocumentIsTested(t *testing.T) {
	var document []byte
	for _, name := range []string{"browser", "proxies"} {
		text, err := os.ReadFile("../../docs/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		document = append(document, text...)
	}
	t.Chdir(t.TempDir())
	certificate(t, "cert.pem", "key.pem") // of the command lines
	for _, block := range regexp.MustCompile("(?ms)^```(.*?)\n(.*?)^```$").FindAllStringSubmatch(string(document), -1) {
		info, text := block[1], block[2]
		switch {
		case info == "sh":
			line := strings.Fields(strings.ReplaceAll(regexp.MustCompile("(?m)^#.*$").ReplaceAllString(text, ""), "'", ""))
			switch strings.Join(line[:2], " ") {
			case "presence serve":
				must(t, env{"PRESENCE_JWT_SECRET": secret}, append(line[1:], "--check")...)
			case "sysctl -w":
				name, _, _ := strings.Cut(line[2], "=")
				if _, err := os.Stat("/proc/sys/" + strings.ReplaceAll(name, ".", "/")); err != nil && runtime.GOOS == "linux" {
					t.Error(err)
				}
			default:
				t.Errorf("no test for this line: %q", line)
			}
		case len(strings.Fields(info)) < 2 && len(proxies[info].args) == 0 && info != "yaml":
			t.Errorf("no test for this block: %s", text)
		}
	}
}
