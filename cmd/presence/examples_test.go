//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"
	"go.yaml.in/yaml/v4"
)

const examplesDir = "../../docs/examples"

// example runs the programs of one example, with other ports than those in its README.
type example struct {
	t     *testing.T
	dir   string            // working directory of the programs, with the file secret
	ports map[string]string // ports by those in the README: 8080 presence, 3000 site, 5173 Vite
}

func newExample(t *testing.T) *example {
	x := &example{t, t.TempDir(), map[string]string{}}
	write(t, x.dir, "secret", secret+"\n")
	for _, port := range []string{"8080", "3000", "5173"} {
		x.ports[port] = quietPort(t)
	}
	return x
}

// program is a running program of an example.
type program struct {
	*exec.Cmd
	log   *lines
	ended chan struct{}
}

// run starts a program in the directory of the example.
func (x *example) run(environment []string, args ...string) *program {
	x.t.Helper()
	p := &program{exec.Command(args[0], args[1:]...), newServerLog(x.t), make(chan struct{})}
	p.Dir = x.dir
	p.Env = append(os.Environ(), environment...)
	p.Stdout, p.Stderr = p.log, p.log
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // npm is the parent of Vite
	if err := p.Start(); err != nil {
		x.t.Fatal(err)
	}
	go func() { // ends with the program
		defer close(p.ended)
		p.Wait()
		p.log.Close() // so that find does not wait for a program that failed
	}()
	x.t.Cleanup(func() {
		p.stop(syscall.SIGKILL)
		if x.t.Failed() {
			x.t.Logf("log of %v:\n%s", args, p.log)
		}
	})
	return p
}

// stop sends a signal to the program and its children, and waits for its end.
func (p *program) stop(signal syscall.Signal) {
	syscall.Kill(-p.Process.Pid, signal)
	<-p.ended
}

// path returns the absolute path of a file in docs/examples.
func (x *example) path(name string) string {
	x.t.Helper()
	path, err := filepath.Abs(filepath.Join(examplesDir, name))
	if err != nil {
		x.t.Fatal(err)
	}
	return path
}

// commands returns the command lines of the example's README, with absolute paths and the ports of
// the test.
func (x *example) commands(name string) (all []string) {
	x.t.Helper()
	text, err := os.ReadFile(filepath.Join(examplesDir, name, "README.md"))
	if err != nil {
		x.t.Fatal(err)
	}
	change := []string{"docs/examples", x.path("")}
	for port, own := range x.ports {
		change = append(change, ":"+port, ":"+own)
	}
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		all = append(all, strings.Split(strings.TrimSpace(strings.NewReplacer(change...).Replace(block[1])), "\n")...)
	}
	return all
}

// start runs the commands of the example's README. It returns the program that serves presence, and
// a function that starts it again.
func (x *example) start(name string) (presence *program, again func() *program) {
	t := x.t
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range x.commands(name) {
		switch args := strings.Fields(line); {
		case strings.HasPrefix(line, "go run ./cmd/presence serve "):
			again = func() *program {
				p := x.run([]string{asCommand + "=1", "PRESENCE_LISTEN=127.0.0.1:" + x.ports["8080"]}, append([]string{self}, args[3:]...)...)
				p.log.find(t, "msg=listening")
				return p
			}
			presence = again()
		case strings.HasPrefix(line, "go run ./"): // ./docs/examples/go
			binary := filepath.Join(x.dir, "site")
			if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, strings.TrimPrefix(args[2], "./")).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", line, err, out)
			}
			again = func() *program {
				p := x.run(nil, binary, "-listen", "localhost:"+x.ports["3000"])
				p.log.find(t, "site on ")
				return p
			}
			presence = again()
		case args[0] == "node":
			p := x.run([]string{"PORT=" + x.ports["3000"], "PRESENCE_URL=http://localhost:" + x.ports["8080"] + "/"}, args...)
			p.log.find(t, "site on port "+x.ports["3000"])
		case strings.HasPrefix(line, "npm run dev "):
			urls := []string{"SITE_URL=http://localhost:" + x.ports["3000"], "PRESENCE_URL=http://localhost:" + x.ports["8080"]}
			p := x.run(urls, append(args, "--", "--port", x.ports["5173"], "--strictPort", "--bypass-lock")...)
			p.log.find(t, "ready in")
		case strings.HasPrefix(line, "npm ci "): // by make test
		case line == "(umask 077; openssl rand -hex 32 > secret)": // by newExample
		default:
			t.Errorf("%s/README.md: no test for this line: %s", name, line)
		}
	}
	if presence == nil {
		t.Fatalf("%s/README.md does not start presence", name)
	}
	return presence, again
}

// exampleFaults are the console messages of a page without a sign-in or without presence.
var exampleFaults = []string{"status of 401", "status of 50", "net::ERR_", "console.debug", "console.info"}

// enter opens the site in a new profile and signs in with the form.
func enter(t *testing.T, site, name string) context.Context {
	t.Helper()
	page := browser(t, exampleFaults...)
	if _, err := chromedp.Call(page, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true}); err != nil {
		t.Fatal(err)
	}
	do(t, page, chromedp.Navigate(site))
	see(t, page, `document.querySelector("#status").textContent === "Sign in to see who is here."`)
	do(t, page, chromedp.SendKeys("input[name=name]", name+"\r"))
	see(t, page, `document.querySelector("#members")?.textContent.includes(`+fmt.Sprintf("%q", name)+`)`)
	return page
}

// lists is true if the elements with this selector have exactly these texts, in any order.
func lists(selector string, texts ...string) string {
	want, _ := json.Marshal(texts)
	return fmt.Sprintf(`JSON.stringify([...document.querySelectorAll(%q)].map((e) => e.textContent.trim()).sort()) === JSON.stringify(%s.sort())`, selector, want)
}

// converse tests a page of an example with two users. The number rises, a message and a status
// arrive, and the page shows why it is not connected while presence restarts. It returns the pages.
func converse(t *testing.T, site string, presence *program, again func() *program) (ann, bob context.Context) {
	t.Helper()
	ann = enter(t, site, "Ann")
	see(t, ann, count(1))
	bob = enter(t, site, "Bob <b>")
	for _, page := range []context.Context{ann, bob} {
		see(t, page, count(2))
		see(t, page, lists("#members li", "Ann (here)", "Bob <b> (here)"))
	}
	const text = `<script>alert(1)</script> & é`
	do(t, bob, chromedp.SendKeys("input[name=text]", text+"\r"))
	for _, page := range []context.Context{ann, bob} {
		see(t, page, lists("#messages li", "Bob <b>: "+text))
		see(t, page, `document.querySelector("#status").textContent === ""`)
	}
	// Any JSON can be a status: here an object that cannot become a string.
	script[bool](t, bob, `(() => {
		const select = document.querySelector("#mine");
		Object.defineProperty(select, "value", { get: () => ({ toString: 1 }), configurable: true });
		select.dispatchEvent(new Event("change", { bubbles: true }));
		return delete select.value;
	})()`)
	script[bool](t, ann, `(() => {
		const select = document.querySelector("#mine");
		select.value = "away";
		return select.dispatchEvent(new Event("change", { bubbles: true }));
	})()`)
	see(t, bob, lists("#members li", "Ann (away)", "Bob <b> (here)"))

	idle(t, func() {
		presence.stop(syscall.SIGTERM)
		for _, page := range []context.Context{ann, bob} {
			see(t, page, `document.querySelector("#status").textContent.startsWith("Not connected: ")`)
		}
		again()
		for _, page := range []context.Context{ann, bob} {
			see(t, page, count(2)+` && document.querySelector("#status").textContent === ""`)
			see(t, page, lists("#members li", "Ann (away)", "Bob <b> (here)"))
		}
	})
	return ann, bob
}

// Each example in docs/examples starts with the commands in its README. Two users see each other,
// also after a restart of presence.
func TestExamples(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"react", "vue", "svelte"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heavy(t)
			x := newExample(t)
			presence, again := x.start(name)
			ann, bob := converse(t, "http://localhost:"+x.ports["5173"], presence, again)
			if name == "vue" { // the strict mode of React unmounts each component once
				script[bool](t, ann, `document.querySelector("#root").__vue_app__.unmount(), true`)
				see(t, bob, count(1))
			}
		})
	}
	t.Run("go", func(t *testing.T) {
		t.Parallel()
		heavy(t)
		x := newExample(t)
		presence, again := x.start("go")
		site := "http://localhost:" + x.ports["3000"]
		ann, bob := converse(t, site, presence, again)
		saves(t, ann, bob)
	})
	t.Run("node and plain", func(t *testing.T) {
		t.Parallel()
		heavy(t)
		x := newExample(t)
		if node, plain := x.commands("node"), x.commands("plain"); strings.Join(node, "\n") != strings.Join(plain, "\n") {
			t.Errorf("got the commands %q in node/README.md and %q in plain/README.md, want the same", node, plain)
		}
		presence, again := x.start("plain")
		site := "http://localhost:" + x.ports["3000"]
		ann, bob := converse(t, site, presence, func() *program {
			presence = again()
			return presence
		})
		saves(t, ann, bob)
		if got := script[string](t, ann, `fetch("/online").then((r) => r.json()).then((all) => all.map(({ name }) => name).sort().join())`); got != "Ann,Bob <b>" {
			t.Errorf("GET /online: got %q", got)
		}
		reads(t, site, ann, bob)
		presence.stop(syscall.SIGTERM)
		see(t, ann, `document.querySelector("#status").textContent.startsWith("Not connected: ") && document.querySelector("#count").textContent === "–"`)
	})
}

// saves tests an action of the site, which sends a message to the room as the server.
func saves(t *testing.T, ann, bob context.Context) {
	t.Helper()
	script[bool](t, ann, `document.querySelector("#save").click(), true`) // Click would wait for a frame of a hidden tab
	see(t, bob, `document.querySelector("#messages").lastElementChild.textContent === "The site: Ann saved the document."`)
}

// reads tests the page with an EventSource and the cookie of presence, in place of Ann's page.
func reads(t *testing.T, site string, ann, bob context.Context) {
	t.Helper()
	do(t, ann, chromedp.Navigate(site+"/event-source.html"))
	see(t, ann, count(2)+` && document.querySelector("#status").textContent === ""`)
	// The page is left and shown again before its sign-in has ended.
	script[any](t, ann, `for (let i = 0; i < 2; i++) dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }))`)
	see(t, ann, `performance.getEntriesByType("resource").filter(({ name }) => name.endsWith("/session")).length === 3`)
	see(t, ann, count(2)+` && document.querySelector("#status").textContent === ""`)
	do(t, bob, chromedp.SendKeys("input[name=text]", "hello\r"))
	see(t, ann, lists("#messages li", "Bob <b>: hello"))
}

// The programs of the example with Caddy work with the settings of its compose.yaml and its
// Caddyfile. The test replaces the names of the containers, and the ports.
func TestExampleCaddy(t *testing.T) {
	t.Parallel()
	heavy(t)
	x := newExample(t)
	at := x.path("caddy")
	text, err := os.ReadFile(filepath.Join(at, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	port := quietPort(t)
	hosts := env{"SITE_HOST": "app.example.localhost:" + port, "PRESENCE_HOST": "presence.example.localhost:" + port}
	for name, value := range hosts {
		host, _, _ := net.SplitHostPort(value)
		text = []byte(replaced(t, string(text), "${"+name+":-"+host+"}", value))
	}
	var c composed
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	metrics := quietPort(t)
	upstream, backend := "127.0.0.1:"+x.ports["8080"], "127.0.0.1:"+x.ports["3000"]
	// environment returns the environment of a service in compose.yaml.
	environment := func(name string, change ...string) (all []string) {
		for variable, value := range c.Services[name].Environment {
			all = append(all, variable+"="+strings.NewReplacer(change...).Replace(value))
		}
		return all
	}
	for name, s := range c.Services {
		if (len(s.Ports) > 0) != (name == "proxy") {
			t.Errorf("%s: got published ports %v, want some of the proxy only", name, s.Ports)
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if _, isVolume := c.Volumes[source]; isVolume || source == "./secrets" { // a user creates it
				continue
			}
			if _, err := os.Stat(filepath.Join(at, source)); err != nil {
				t.Errorf("%s: volume %s: %v", name, v, err)
			}
		}
	}
	for _, line := range x.commands("caddy") { // Docker is not here
		for _, arg := range strings.Fields(line) {
			if _, err := os.Stat(arg); err != nil && strings.HasPrefix(arg, at) && !strings.HasPrefix(arg, filepath.Join(at, "secrets")) {
				t.Errorf("README.md: %s: %v", line, err)
			}
		}
	}
	if got, want := c.Services["presence"].Environment["PRESENCE_TRUSTED_PROXIES"], c.Networks["default"].IPAM.Config[0].Subnet; got != want {
		t.Errorf("got trusted proxies %q, want %q", got, want)
	}

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	serve := func() *program {
		settings := environment("presence", "/etc/presence", x.dir, ":9090", "127.0.0.1:"+metrics)
		p := x.run(append(settings, asCommand+"=1", "PRESENCE_LISTEN="+upstream), self, "serve")
		p.log.find(t, "msg=listening")
		return p
	}
	presence := serve()
	settings := environment("site", "/etc/presence", x.dir, "presence:8080", upstream, "0.0.0.0", "127.0.0.1", "3000", x.ports["3000"])
	x.run(settings, "node", x.path("node/server.mjs")).log.find(t, "site on port")
	config, err := os.ReadFile(filepath.Join(at, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	// Neither a certificate of the machine, nor a port that needs root.
	global := "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n"
	file := write(t, x.dir, "Caddyfile", global+replaced(t, string(config),
		"site:3000", backend, "presence:8080", upstream, "\tencode gzip\n", "\tbind 127.0.0.1\n\tencode gzip\n"))
	home := []string{"HOME=" + x.dir, "XDG_CONFIG_HOME=" + x.dir, "XDG_DATA_HOME=" + x.dir}
	proxy := x.run(append(environment("proxy"), home...), "caddy", "run", "--adapter", "caddyfile", "--config", file)
	proxy.log.find(t, "serving initial configuration")

	site := "https://" + hosts["SITE_HOST"]
	ann, bob := converse(t, site, presence, serve)
	reads(t, site, ann, bob)

	client := through(t, "127.0.0.1:"+port, true)
	for path, want := range map[string]int{"/metrics": http.StatusNotFound, "/debug/pprof/": http.StatusNotFound, "/healthz": http.StatusOK} {
		if got := ask(t, t.Context(), client, "GET", "https://"+hosts["PRESENCE_HOST"]+path, "").StatusCode; got != want {
			t.Errorf("GET %s: got status %d, want %d", path, got, want)
		}
	}
	response := ask(t, t.Context(), http.DefaultClient, "GET", "http://127.0.0.1:"+metrics+"/metrics", "")
	if body, err := io.ReadAll(response.Body); err != nil || !bytes.Contains(body, []byte("presence_connections 2")) {
		t.Errorf("metrics: got %v and\n%s", err, body)
	}
	evil := ask(t, t.Context(), client, "GET", "https://"+hosts["PRESENCE_HOST"]+"/session", "", "Origin", "https://evil.example")
	if got := evil.Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("another origin: got Access-Control-Allow-Origin %q, want none", got)
	}
}

// A page of another site cannot use the sites of the examples with the cookie of their visitor.
func TestExampleSitesReject(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"node", "go"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heavy(t)
			x := newExample(t)
			x.start(name)
			site := "http://localhost:" + x.ports["3000"]
			client := &http.Client{Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			t.Cleanup(client.CloseIdleConnections)
			const evil = "https://evil.example"
			var cookie string
			expect := func(method, path, body, origin string, want int) {
				t.Helper()
				headers := []string{"Content-Type", "application/x-www-form-urlencoded", "Cookie", cookie}
				if origin != "" {
					headers = append(headers, "Origin", origin)
				}
				response := ask(t, t.Context(), client, method, site+path, body, headers...)
				if response.StatusCode != want {
					t.Errorf("%s %s from %q: got status %d, want %d", method, path, origin, response.StatusCode, want)
				}
				set := response.Header.Get("Set-Cookie")
				if (set != "") != (want == http.StatusSeeOther) {
					t.Errorf("%s %s from %q: got the cookie %q", method, path, origin, set)
				}
				if set != "" {
					cookie, _, _ = strings.Cut(set, ";")
					if !regexp.MustCompile(`^__Host-session=[\w.-]{43,}; Path=/; Max-Age=\d+; HttpOnly; Secure; SameSite=Lax$`).MatchString(set) {
						t.Errorf("got the cookie %q", set)
					}
				}
			}
			expect("POST", "/signin", "name=Ann", evil, http.StatusForbidden)
			expect("POST", "/signin", "name=Ann", "null", http.StatusForbidden)
			expect("POST", "/signin", "name=+", site, http.StatusBadRequest)
			expect("POST", "/save", "", site, http.StatusUnauthorized)
			expect("GET", "/__proto__", "", "", http.StatusNotFound)
			expect("GET", "/main.go", "", "", http.StatusNotFound)
			if name == "node" { // the router of Go redirects it
				expect("GET", "//", "", "", http.StatusNotFound)
			}
			expect("POST", "/signin", "name=Ann", site, http.StatusSeeOther)
			expect("POST", "/save", "", site, http.StatusNoContent)
			expect("POST", "/save", "", evil, http.StatusForbidden)
			cookie += "x"
			expect("POST", "/save", "", site, http.StatusUnauthorized)
			cookie = strings.TrimSuffix(cookie, "x")
			if name == "go" {
				expect("GET", "/presence/presence", "", site, http.StatusOK)
				expect("GET", "/presence/presence", "", evil, http.StatusForbidden)
				expect("POST", "/signin", "name="+strings.Repeat("a", 5000), site, http.StatusBadRequest)
				return
			}
			expect("GET", "/token", "", site, http.StatusOK)
			expect("GET", "/online", "", site, http.StatusOK)
			cookie = ""
			expect("GET", "/token", "", site, http.StatusUnauthorized)
			expect("GET", "/online", "", site, http.StatusUnauthorized)
			expect("POST", "/signin", "name="+strings.Repeat("a", 5000), site, http.StatusRequestEntityTooLarge)
		})
	}
}

// The hooks of the examples are those in docs/browser.md, with the token that it describes.
func TestExampleHooks(t *testing.T) {
	t.Parallel()
	blocks := documentBlocks(t, "browser.md")
	for file, block := range map[string]string{"react/src/useRoom.js": "useRoom.js", "vue/src/useRoom.js": "useRoom.vue.js"} {
		got, err := os.ReadFile(filepath.Join(examplesDir, file))
		if err != nil {
			t.Fatal(err)
		}
		want := replaced(t, blocks[block], "room: name }", "room: name, token }", "\"@example/presence\";\n", "\"@example/presence\";\nimport { token } from \"./token.js\";\n")
		if string(got) != want {
			t.Errorf("%s: got\n%s\nwant the block of docs/browser.md with token:\n%s", file, got, want)
		}
	}
}

// The complete pages of the documents and of the examples show that presence does not run.
func TestPagesWithoutPresence(t *testing.T) {
	t.Parallel()
	const notLoaded = "presence.js not loaded: see the console"
	example := func(name string) string {
		text, err := os.ReadFile(filepath.Join(examplesDir, "plain", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	document := documentBlocks(t, "browser.md")
	noOrigin := "no response from presence, or it does not allow the origin "
	for name, page := range map[string]struct{ html, want string }{
		"presence.html":            {document["presence.html"], notLoaded},
		"event-source.html":        {document["event-source.html"], "/presence/session: status 404"},
		"other-origin-token.html":  {document["other-origin-token.html"], notLoaded},
		"other-origin-cookie.html": {document["other-origin-cookie.html"], notLoaded},
		"tutorial":                 {documentBlocks(t, "tutorial.md")["index.html"], notLoaded},
		"plain":                    {example("index.html"), notLoaded},
		"plain event-source.html":  {example("event-source.html"), noOrigin},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heavy(t)
			closed := quietPort(t)
			mux := http.NewServeMux()
			mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,">`,
					strings.NewReplacer("https://presence.example.com", "http://127.0.0.1:"+closed, "http://localhost:8080", "http://localhost:"+closed).Replace(page.html))
			})
			var attempts atomic.Int64
			mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
				attempts.Add(1)
				fmt.Fprint(w, "token")
			})
			site := httptest.NewServer(mux)
			t.Cleanup(site.Close)
			tab := browser(t, "Failed to load resource", "/presence/session: status 404")
			do(t, tab, chromedp.Navigate(site.URL))
			see(t, tab, fmt.Sprintf(`document.querySelector("#status")?.textContent.includes(%q)`, page.want))
			see(t, tab, `document.querySelector("#count").textContent === "–"`)
			if !strings.Contains(page.html, `>Connecting…<`) {
				t.Error("the page does not show a text before its module runs")
			}
			if page.want != noOrigin {
				return
			}
			// The page keeps the cause while it tries again.
			script[bool](t, tab, `window.shown = [], new MutationObserver(() => shown.push(document.querySelector("#status").textContent))
				.observe(document.querySelector("#status"), { childList: true }), true`)
			before := attempts.Load()
			idle(t, func() { eventually(t, patience, "another attempt", func() bool { return attempts.Load() > before }) })
			if !script[bool](t, tab, fmt.Sprintf(`shown.every((text) => text.includes(%q))`, noOrigin)) {
				t.Errorf("the page shows another text than the cause: %s", script[string](t, tab, `shown.join()`))
			}
		})
	}
}
