//go:build unix

package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"
	"github.com/golang-jwt/jwt/v5"
)

// symptoms reproduces each section of docs/troubleshooting.md that shows lines: those that a client
// or an operator sees.
var symptoms = map[string]func(t *testing.T, r *reproduction){
	"401 on /events": func(t *testing.T, r *reproduction) {
		r.serve(t)
		r.request(t, "GET", "/events", "")
		r.asAlice(t, "GET", "/events", "", jwt.MapClaims{"exp": time.Now().Add(-2 * time.Hour).Unix(), "iat": time.Now().Add(-3 * time.Hour).Unix()})
		r.asAlice(t, "GET", "/events", "", jwt.MapClaims{"nbf": time.Now().Add(2 * time.Hour).Unix()})
		untrimmed := signed(t, jwt.SigningMethodHS256, []byte(secret+"\n"), nil)
		r.request(t, "GET", "/events", "", "Authorization", "Bearer "+untrimmed)
		r.request(t, "GET", "/events", "", "Authorization", `Bearer "`+untrimmed+`"`)
		r.open(t, `<script type="module">new EventSource("/presence/events")</script>`)
		r.console(t, "status of 401")
	},
	"403 on /events": func(t *testing.T, r *reproduction) {
		r.serve(t)
		documents := jwt.MapClaims{"presence": map[string]any{"join": []string{"doc-*"}}}
		r.asAlice(t, "GET", "/events?room=lobby", "", documents)
		r.asAdmin(t, "DELETE", "/members?room=doc-1&id=alice&for=1h")
		r.asAlice(t, "GET", "/events?room=doc-1", "", documents)
		r.request(t, "GET", "/events", "", "Cookie", "__Host-presence_token="+signed(t, jwt.SigningMethodHS256, []byte(secret), nil),
			"Origin", "https://app.example", "Sec-Fetch-Site", "cross-site")
	},
	"A CORS error in the console": func(t *testing.T, r *reproduction) {
		r.serve(t, "--cors-origin=*")
		r.open(t, `<script type="module">
			import { request } from "SERVER/presence.js";
			await request("POST", "SERVER/session", { token: "`+r.tokenOf(t, "alice")+`" }, { credentials: "include" });
			</script>`)
		r.console(t, "blocked by CORS policy")
		r.server.end()
		r.server.exit()
		if got := warnings(r.server); len(got) > 0 {
			t.Errorf("got the lines %q, want none", got)
		}
		r.serve(t)
		r.open(t, r.showing(t, "SERVER/presence.js", "SERVER/"))
		r.status(t)
		r.console(t, "blocked by CORS policy")
	},
	"The count is too high": func(t *testing.T, r *reproduction) {
		r.serve(t)
		for range 2 {
			r.stream(t, "alice", "lobby").until(t, "event: user count")
		}
		r.saw(r.asAdmin(t, "GET", "/presence?room=lobby"))
	},
	"The count is too low, or 0": func(t *testing.T, r *reproduction) {
		r.serve(t, "--max-connections=2")
		r.stream(t, "alice", "lobby").until(t, "event: user count")
		r.stream(t, "bob", "loby").until(t, "event: user count")
		r.saw(r.asAdmin(t, "GET", "/rooms"))
		full := r.stream(t, "carol", "lobby")
		r.saw(full.until(t, "data: "))
		r.saw(full.until(t, "event: "))
	},
	"Nothing arrives behind my proxy": func(t *testing.T, r *reproduction) {
		r.serve(t, "--log-level=debug")
		const buffering = "proxy_ignore_headers X-Accel-Buffering;\n"
		block := replaced(t, proxyBlocks(t)["nginx"][0], "proxy_set_header Host", buffering+"proxy_set_header Host")
		proxy := proxies["nginx"].start(t, block, r.addr)
		client, request := through(t, proxy, true), httptest.NewRequestWithContext(t.Context(), "GET", "https://presence.example/events", nil)
		request.RequestURI = ""
		request.Header.Set("Authorization", "Bearer "+r.tokenOf(t, "bob"))
		received := make(chan string, 1)
		go func() { // ends when the server has ended
			first := ""
			if resp, err := client.Do(request); err == nil { // nginx holds even the header back
				first, _ = bufio.NewReader(resp.Body).ReadString('\n')
				resp.Body.Close()
			}
			received <- first
		}()
		r.logged(t, `msg="stream opened"`)
		direct := r.stream(t, "alice", "lobby")
		r.asAlice(t, "POST", "/messages", `{"data":"hello"}`, nil)
		direct.until(t, `"hello"`)
		select {
		case line := <-received:
			t.Errorf("the proxy delivered %q", line)
		default:
		}
		r.server.end()
		if first := <-received; !strings.HasPrefix(first, "retry: ") {
			t.Errorf("got %q at the end of the stream, want its first line", first)
		}
	},
	"The stream ends every few seconds": func(t *testing.T, r *reproduction) {
		r.serve(t, "--log-level=debug")
		block := replaced(t, proxyBlocks(t)["nginx"][0], "proxy_set_header Host", "proxy_read_timeout 1s;\nproxy_set_header Host")
		proxy := proxies["nginx"].start(t, block, r.addr)
		resp := ask(t, t.Context(), through(t, proxy, true), "GET", "https://presence.example/events", "", "Authorization", "Bearer "+r.tokenOf(t, "alice"))
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("the proxy ended the stream without an error")
		}
		r.logged(t, `msg="stream ended"`)
		short := must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=alice", "--ttl=5s")
		expired := r.streamWith(t, through(t, r.addr, false), "http://presence.example/events", short)
		idle(t, func() { r.saw(expired.until(t, `"expired"`)) })
		r.saw(expired.until(t, "event: "))
		r.logged(t, `msg="stream ended"`)
	},
	"It works in curl, but not in the browser": func(t *testing.T, r *reproduction) {
		r.serve(t)
		r.open(t, `<meta http-equiv="Content-Security-Policy" content="connect-src 'self'">`+r.showing(t, "SERVER/presence.js", "SERVER/"))
		r.console(t, "Content Security Policy")
		r.insecure(t)
		r.console(t, "Mixed Content")
	},
	"It works in one browser, but not in another": func(t *testing.T, r *reproduction) {
		r.serve(t)
		// A proxy that replaces Host, and a browser that sends no Sec-Fetch-Site.
		resp := ask(t, t.Context(), through(t, r.addr, false), "POST", "http://"+r.addr+"/session", "", "Origin", "https://presence.example.com")
		r.saw(bodyText(t, resp))
	},
	"The cookie is not kept": func(t *testing.T, r *reproduction) {
		r.serve(t, "--cors-origin=https://app.localhost")
		keeps, drops := through(t, r.addr, false), through(t, r.addr, false)
		keeps.Jar, _ = cookiejar.New(nil) // never an error
		for _, page := range []*website{
			{keeps, "http://presence.example", []string{"Origin", "http://presence.example"}},
			{drops, "http://presence.localhost", []string{"Origin", "https://app.localhost", "Sec-Fetch-Site", "cross-site"}}, // as Chromium in TestSites
		} {
			if got := page.signIn(t); got != http.StatusNoContent {
				t.Errorf("sign-in: got %d, want 204", got)
			}
			if got := page.get(t, "/events"); got != http.StatusUnauthorized {
				t.Errorf("stream: got %d, want 401", got)
			}
		}
	},
	"Messages are missing": func(t *testing.T, r *reproduction) {
		r.serve(t)
		last, _ := strings.CutPrefix(r.stream(t, "alice", "lobby").until(t, "id: "), "id: ")
		r.server.end()
		r.logged(t, "msg=stopped")
		r.server.exit()
		r.serve(t)
		resumed := r.stream(t, "alice", "lobby", "Last-Event-ID", last)
		r.saw(resumed.until(t, "data: "))
		r.saw(resumed.until(t, "event: "))
		r.saw(strings.SplitAfterN(strings.Split(r.server.stderr.String(), "\n")[0], " ", 2)[1])
	},
	"A message is not sent": func(t *testing.T, r *reproduction) {
		r.serve(t, "--message-rate=1", "--message-burst=1")
		r.asAlice(t, "POST", "/messages?room=doc-1", `{"data":"hello"}`, jwt.MapClaims{"presence": map[string]any{"join": []string{"doc-*"}}})
		r.asAlice(t, "POST", "/messages", `{"data":"`+strings.Repeat("x", 64<<10)+`"}`, nil)
		for r.asAlice(t, "POST", "/messages", `{"data":"hello"}`, nil) == http.StatusAccepted {
		}
	},
	"421 with --dev": func(t *testing.T, r *reproduction) {
		r.serve(t, "--dev")
		r.request(t, "GET", "/", "")
	},
	"presence.js is not found": func(t *testing.T, r *reproduction) {
		r.serve(t)
		r.open(t, `<script type="module">import "/presence.js"</script>`)
		r.console(t, "status of 404")
		r.open(t, `<script type="module">import "/app/presence.js"</script>`)
		r.console(t, "MIME type")
		untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
		untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of the failed handshake
		untrusted.StartTLS()
		t.Cleanup(untrusted.Close)
		r.open(t, `<script type="module">import "`+untrusted.URL+`/presence.js"</script>`)
		r.console(t, "ERR_CERT")
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
		t.Cleanup(proxy.Close)
		r.open(t, `<script type="module">import "`+proxy.URL+`/presence.js"</script>`)
		r.console(t, "blocked by CORS policy")
		for _, url := range []string{"/app/", "/absent/", "/kept/"} {
			r.open(t, r.showing(t, "/presence/presence.js", url))
			r.status(t)
		}
	},
	"The member list is empty": func(t *testing.T, r *reproduction) {
		r.serve(t, "--member-limit=1")
		r.stream(t, "alice", "lobby").until(t, "event: user count")
		bob := r.stream(t, "bob", "lobby")
		r.saw(bob.until(t, "data: "))
		r.saw(bob.until(t, "event: "))
	},
	"The server does not start": func(t *testing.T, r *reproduction) {
		r.serve(t)
		dir := t.TempDir()
		for _, args := range [][]string{
			{"--jwt-secret=" + secret, "--listen=" + r.addr},
			{},
			{"--jwt-secret-file=" + write(t, dir, "secret", "short\n")},
			{"--jwt-secret-file=" + dir + "/absent"},
		} {
			_, stderr, exit := command(t, env{}, append([]string{"serve"}, args...)...)
			if exit == 0 {
				t.Errorf("%q: got exit status 0", args)
			}
			for line := range strings.SplitSeq(strings.TrimSpace(strings.ReplaceAll(stderr, dir, "/etc/presence")), "\n") {
				if !strings.Contains(line, "level=INFO") {
					r.saw(line)
				}
			}
		}
	},
	"Can the members be hidden?": func(t *testing.T, r *reproduction) {
		r.serve(t)
		for range 2 {
			r.stream(t, "visitor", "lobby").until(t, "event: user count")
		}
		r.saw(r.asAdmin(t, "GET", "/presence?room=lobby&limit=1"))
		visitor := jwt.MapClaims{"sub": "visitor", "presence": map[string]any{"join": []string{"lobby"}}}
		r.asAlice(t, "POST", "/messages", `{"data":"hello"}`, visitor)
	},
}

// reproduction collects the lines of one section.
type reproduction struct {
	server *background
	addr   string
	site   string          // the origin of the page
	tab    context.Context // the page
	prints chan string     // the lines of its console
	seen   []string
}

// serve starts a server.
func (r *reproduction) serve(t *testing.T, flags ...string) {
	t.Helper()
	r.server = start(t, env{"PRESENCE_JWT_SECRET": secret}, append([]string{"serve", "--listen=127.0.0.1:0"}, flags...)...)
	_, addr, _ := strings.Cut(r.server.stderr.find(t, "msg=listening"), "addr=")
	r.addr, _, _ = strings.Cut(addr, " ")
}

func (r *reproduction) saw(line string) {
	if r.site != "" { // each page has another port
		line = strings.ReplaceAll(line, r.site, "SITE")
	}
	r.seen = append(r.seen, strings.TrimSpace(line))
}

// logged waits for a line of the server's log, and sees it without its time.
func (r *reproduction) logged(t *testing.T, text string) {
	t.Helper()
	_, line, _ := strings.Cut(r.server.stderr.find(t, text), " ")
	r.saw(line)
}

func (r *reproduction) tokenOf(t *testing.T, user string) string {
	t.Helper()
	return must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub="+user, "--join=*", "--send=*")
}

// request sends a request. It sees the body of an error, and returns the status.
func (r *reproduction) request(t *testing.T, method, path, body string, headers ...string) int {
	t.Helper()
	resp := ask(t, t.Context(), through(t, r.addr, false), method, "http://presence.example"+path, body, headers...)
	if resp.StatusCode >= 300 {
		r.saw(bodyText(t, resp))
	}
	return resp.StatusCode
}

// asAlice sends a request of alice, whose token has these claims.
func (r *reproduction) asAlice(t *testing.T, method, path, body string, claims jwt.MapClaims) int {
	t.Helper()
	return r.request(t, method, path, body, "Content-Type", "application/json", "Authorization", "Bearer "+signed(t, jwt.SigningMethodHS256, []byte(secret), claims))
}

// asAdmin sends a request of a backend, and returns the body of the response.
func (r *reproduction) asAdmin(t *testing.T, method, path string) string {
	t.Helper()
	token := must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=backend", "--admin")
	return bodyText(t, ask(t, t.Context(), through(t, r.addr, false), method, "http://presence.example"+path, "", "Authorization", "Bearer "+token))
}

func bodyText(t *testing.T, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// reading is an open stream.
type reading struct{ *bufio.Scanner }

// stream opens a stream.
func (r *reproduction) stream(t *testing.T, user, room string, headers ...string) reading {
	t.Helper()
	return r.streamWith(t, through(t, r.addr, false), "http://presence.example/events?room="+room, r.tokenOf(t, user), headers...)
}

func (r *reproduction) streamWith(t *testing.T, client *http.Client, url, token string, headers ...string) reading {
	t.Helper()
	resp := ask(t, t.Context(), client, "GET", url, "", append(headers, "Authorization", "Bearer "+token)...)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("got %s", resp.Status)
	}
	return reading{bufio.NewScanner(resp.Body)}
}

// until returns the next line that contains text.
func (s reading) until(t *testing.T, text string) string {
	t.Helper()
	for s.Scan() {
		if strings.Contains(s.Text(), text) {
			return s.Text()
		}
	}
	t.Fatalf("no line contains %q: %v", text, s.Err())
	return ""
}

// showing returns a page that joins the lobby as alice with presence.js, and shows the error.
func (r *reproduction) showing(t *testing.T, module, url string) string {
	t.Helper()
	return `<p id="status"></p><script type="module">
		import { join } from "` + module + `";
		const room = join({ url: "` + url + `", token: "` + r.tokenOf(t, "alice") + `" });
		room.on("state", ({ problem }) => (document.querySelector("#status").textContent = problem?.detail ?? ""));
		</script>`
}

// open opens a page in Chromium. SERVER in it is the origin of the server. The page has another
// origin. Its site answers with the page at all paths below /app/, and passes the paths below
// /presence/ on to the server. It passes those below /kept/ on too, with the prefix.
func (r *reproduction) open(t *testing.T, html string) {
	t.Helper()
	server := &url.URL{Scheme: "http", Host: r.addr}
	page := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,">`, strings.ReplaceAll(html, "SERVER", server.String()))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", page)
	mux.HandleFunc("/app/", page)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(server)
		r.Out.Host = r.In.Host
	}}
	mux.Handle("/presence/", http.StripPrefix("/presence", proxy))
	mux.Handle("/kept/", proxy)
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	r.site = site.URL
	r.visit(t, browser(t, ""), site.URL)
}

// visit opens an address in a tab, and collects the lines of its console.
func (r *reproduction) visit(t *testing.T, tab context.Context, address string) {
	t.Helper()
	r.tab, r.prints = tab, make(chan string, 1000)
	prints := r.prints
	if err := chromedp.Listen(tab, func(event any) {
		if e, ok := event.(*log.EventEntryAdded); ok {
			prints <- e.Entry.Text
		}
	}); err != nil {
		t.Fatal(err)
	}
	do(t, tab, chromedp.Navigate(address))
}

// insecure opens a page over HTTPS that uses a server over plain HTTP.
func (r *reproduction) insecure(t *testing.T) {
	t.Helper()
	site := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><script type="module">fetch("http://presence.example.com/events")</script>`)
	}))
	t.Cleanup(site.Close)
	_, port, _ := net.SplitHostPort(site.Listener.Addr().String())
	tab := launch(t, []chromedp.ExecAllocatorOption{
		chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("host-resolver-rules", "MAP app.example.com:443 127.0.0.1:"+port),
	}, "")
	r.visit(t, tab, "https://app.example.com/")
}

// status waits until the page shows an error, and sees it.
func (r *reproduction) status(t *testing.T) {
	t.Helper()
	see(t, r.tab, `document.querySelector("#status")?.textContent`)
	r.saw(script[string](t, r.tab, `document.querySelector("#status").textContent`))
}

// console waits for a line in the console of the page, and sees it.
func (r *reproduction) console(t *testing.T, text string) {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case line := <-r.prints:
			t.Log("console:", line)
			if strings.Contains(line, text) {
				r.saw(line)
				return
			}
		case <-late:
			t.Fatalf("no line with %q in the console", text)
		}
	}
}

// lines returns the lines that were seen, and the warnings and errors of the server, sorted.
func (r *reproduction) lines() []string {
	if r.server != nil {
		r.server.end()
		r.server.exit()
		r.seen = append(r.seen, warnings(r.server)...)
	}
	for i, line := range r.seen {
		r.seen[i] = generic(line, cmp.Or(r.site, "http://127.0.0.1:3000"), r.addr)
	}
	slices.Sort(r.seen)
	return slices.Compact(r.seen)
}

// generic returns the line without the values that differ in each run.
func generic(line, site, addr string) string {
	line = masked(strings.ReplaceAll(line, site, "SITE"), addr, "192.0.2.7:8000")
	for _, m := range [][2]string{
		{`20[0-9-]+T[0-9:.]+Z`, "TIME"},
		{`(duration|after)=[0-9.a-zµ]+`, "$1=DURATION"},
		{`(pid|count|streams|joins|leaves|deliveries)=[0-9]+`, "$1=N"},
		{`\([0-9]+ per second\)`, "(N per second)"},
		{`(go|version)=[^ ]+`, "$1=VERSION"},
		{`127\.0\.0\.[12]:[0-9]+`, "ADDR"},
	} {
		line = regexp.MustCompile(m[0]).ReplaceAllString(line, m[1])
	}
	return line
}

// The commands in docs/troubleshooting.md work.
func TestTroubleshootingCommands(t *testing.T) {
	t.Parallel()
	r := &reproduction{}
	r.serve(t)
	r.stream(t, "alice", "lobby").until(t, "event: user count")
	document, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^ *```sh\n *(.*?)\n *```$").FindAllStringSubmatch(string(document), -1)
	if len(blocks) < 5 {
		t.Errorf("got %d commands, want 5 or more", len(blocks))
	}
	setting := fmt.Sprintf("TOKEN=%s; ADMIN=%s; ", r.tokenOf(t, "bob"), must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=backend", "--admin"))
	for _, block := range blocks {
		if flags, ok := strings.CutPrefix(block[1], "presence serve "); ok {
			must(t, env{"PRESENCE_JWT_SECRET": secret}, append([]string{"serve", "--check"}, strings.Fields(flags)...)...)
			continue
		}
		printed := startIn(t, ".", "", "sh", "-c", setting+replaced(t, block[1], "127.0.0.1:8080", r.addr))
		printed.find(t, `"connections":`)
	}
}

// sections returns the lines of the blocks without a language in docs/troubleshooting.md, by the
// heading of their section.
func sections(t *testing.T) map[string][]string {
	t.Helper()
	document, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for part := range strings.SplitSeq(string(document), "\n## ") {
		title, part, _ := strings.Cut(part, "\n")
		for _, block := range regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```$").FindAllStringSubmatch(part, -1) {
			if block[1] != "" {
				continue
			}
			for line := range strings.Lines(block[2]) {
				all[title] = append(all[title], generic(strings.TrimSuffix(line, "\n"), "http://127.0.0.1:3000", "127.0.0.1:8080"))
			}
		}
		slices.Sort(all[title])
		all[title] = slices.Compact(all[title])
	}
	return all
}

// The lines in docs/troubleshooting.md are real. Each section that shows lines is reproduced, and
// has all lines that the client and the operator see then, and no others.
func TestTroubleshooting(t *testing.T) {
	t.Parallel()
	documented := sections(t)
	for title, reproduce := range symptoms {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			heavy(t)
			r := &reproduction{}
			reproduce(t, r)
			got, want := r.lines(), documented[title]
			for _, line := range got {
				if !slices.Contains(want, line) {
					t.Errorf("line missing in the document:\n%s", line)
				}
			}
			for _, line := range want {
				if !slices.Contains(got, line) {
					t.Errorf("line not reproduced:\n%s", line)
				}
			}
		})
	}
	for title, lines := range documented {
		if len(lines) > 0 && symptoms[title] == nil {
			t.Errorf("no test for the lines of section %q", title)
		}
	}
}
