//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// sseClient is an existing SSE client. Its program is a code block in docs/clients.md, which prints
// the `message` and `reset` events that the library dispatches.
type sseClient struct {
	name  string
	start func(t *testing.T, url, token string) *lines
	// unfinished states how the library handles a message if the connection closes after the `id`
	// line and before the data is complete:
	//
	//	""        drops the partial message, resumes, and dispatches the message once
	//	"lost"    stores the ID as soon as it has read the line, so the server replays only the
	//	          messages after this one
	//	"broken"  also dispatches the partial message as an event
	unfinished string
	// gone reports whether the library gives up after a 502 response, as the standard requires.
	gone bool

	printed *lines
}

// clients returns the clients, with their programs from docs/clients.md.
func clients(t *testing.T) []*sseClient {
	t.Helper()
	document, err := os.ReadFile("../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	modules, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	versions := regexp.MustCompile(`github.com/(?:tmaxmax/go-sse|launchdarkly/eventsource|r3labs/sse/v2) v\S+`).FindAllString(string(modules), -1)
	if len(versions) != 3 {
		t.Errorf("go.mod: got %v, want 3 modules", versions)
	}
	// version checks that the document names the tested version.
	version := func(v string) {
		if !strings.Contains(string(document), v) {
			t.Errorf("docs/clients.md does not name the version %s", v)
		}
	}
	for _, v := range versions {
		version(v)
	}
	blocks := documentBlocks(t, "clients.md")
	program := func(file string) string {
		if blocks[file] == "" {
			t.Fatalf("no block %s in docs/clients.md", file)
		}
		return blocks[file]
	}
	node := func(file string, packages ...string) func(*testing.T, string, string) *lines {
		return func(t *testing.T, url, token string) *lines {
			printed, versions := startNode(t, program(file), url, token, packages...)
			for _, v := range versions {
				version(v)
			}
			return printed
		}
	}
	inGo := func(name string) func(*testing.T, string, string) *lines {
		return func(t *testing.T, url, token string) *lines {
			return startGo(t, program(name+".go"), url, token, goClients[name])
		}
	}
	return []*sseClient{
		{name: "eventsource 2", unfinished: "lost", start: node("eventsource2.mjs", "eventsource=eventsource2")},
		{name: "eventsource 3", gone: true, start: node("eventsource.mjs", "eventsource=eventsource3")},
		{name: "eventsource 4", gone: true, start: node("eventsource.mjs", "eventsource=eventsource4")},
		{name: "eventsource 5", gone: true, start: node("eventsource.mjs", "eventsource=eventsource5")},
		{name: "event-source-polyfill", gone: true, start: node("event-source-polyfill.mjs", "event-source-polyfill")},
		{name: "reconnecting-eventsource", start: node("reconnecting-eventsource.mjs", "reconnecting-eventsource", "eventsource=eventsource5")},
		{name: "fetch-event-source", unfinished: "lost", start: node("fetch-event-source.mjs", "@microsoft/fetch-event-source")},
		{name: "eventsource-client", start: node("eventsource-client.mjs", "eventsource-client")},
		{name: "undici", gone: true, start: node("undici.mjs", "undici")},
		{name: "launchdarkly-eventsource", start: node("launchdarkly-eventsource.mjs", "launchdarkly-eventsource")},
		{name: "tmaxmax", gone: true, start: inGo("tmaxmax")},
		{name: "launchdarkly", start: inGo("launchdarkly")},
		{name: "r3labs", unfinished: "broken", start: inGo("r3labs")},
		{name: "curl", start: func(t *testing.T, url, token string) *lines {
			return startCurl(t, program("curl.sh"), url, token)
		}},
		{name: "Chromium", gone: true, start: func(t *testing.T, url, token string) *lines {
			return startBrowser(t, program("browser.js"), url, token)
		}},
	}
}

// TestClients runs existing SSE clients and sends numbered messages to them. First, a proxy in
// front of the server closes their connections. Then the server is stopped or killed, and started
// again. The clients do not remove duplicates: they print all events that their libraries dispatch.
func TestClients(t *testing.T) {
	t.Parallel()
	e := env{"PRESENCE_JWT_SECRET": secret}
	server, _, addr := serveProcess(t, "--listen=127.0.0.5:0")
	cutter := newCutter(t, addr)
	sender := must(t, e, "token", "--sub=sender")

	all := clients(t)
	for _, c := range all {
		c.printed = c.start(t, "http://"+cutter.addr, must(t, e, "token", "--sub="+c.name))
	}

	var sent []string // message numbers
	post := func(n int) {
		t.Helper()
		for range n {
			sent = append(sent, strconv.Itoa(len(sent)+1))
			must(t, e, "send", "--url=http://"+addr, "--token="+sender, "--json", fmt.Sprintf(`{"n":%d}`, len(sent)))
		}
	}
	// received waits until all clients that have not given up have received the last message. Then
	// it checks that each of them has one connection.
	received := func(phase string) {
		t.Helper()
		for _, c := range all {
			t.Run(phase+"/"+c.name, func(t *testing.T) { // so that a failure names the client
				c.printed.find(t, fmt.Sprintf(`{"n":%d}`, len(sent)))
			})
		}
		if t.Failed() {
			t.FailNow()
		}
		awaitCount(t, addr, sender, len(all))
		countedOnce(t, addr, sender, all)
	}

	awaitCount(t, addr, sender, len(all))
	post(5)
	received("connected")

	if !testing.Short() { // the phase "refused" begins with a RST too
		post(3)
		cutter.reset()
		post(7)
		received("RST")

		post(3)
		cutter.finish()
		post(7)
		received("FIN")
	}

	unfinished := len(sent) + 3
	post(2)
	cutter.finishAfter(t, fmt.Sprintf(`{"n":%d`, unfinished), len(all), func() { post(1) })
	post(2)
	if !testing.Short() { // with -short, the clients are refused before they reconnect
		received("FIN within an event")
	}

	post(3)
	cutter.refuse()
	post(7)
	until(t, time.Now().Add(sized(time.Second, 3*time.Second, 3*time.Second))) // the longest reconnection delay
	cutter.accept(t)
	post(5)
	received("refused")

	for _, c := range all {
		want := slices.Clone(sent)
		switch c.unfinished {
		case "lost":
			want = slices.Delete(want, unfinished-1, unfinished)
		case "broken":
			want[unfinished-1] = "broken"
		}
		if got := dispatched(c.printed); !slices.Equal(got, want) {
			t.Errorf("%s dispatched\n%v, want\n%v", c.name, got, want)
		}
	}

	both := []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}
	signals := sized([]syscall.Signal{syscall.SIGKILL}, both, both)
	for _, signal := range signals {
		before := len(sent)
		post(5)
		server.Process.Signal(signal)
		server.Wait()
		server, _, _ = serveProcess(t, "--listen="+addr)
		post(5)
		awaitCount(t, addr, sender, len(all))
		post(5)
		received(signal.String())
		for _, c := range all {
			got := dispatched(c.printed)
			got = got[slices.Index(got, sent[before-1])+1:]
			if !wholeOrReset(sent[before:], got) {
				t.Errorf("%v: %s dispatched %v of %v", signal, c.name, got, sent[before:])
			}
		}
	}
	if testing.Short() {
		return
	}

	// A gateway whose server is down returns 502. Some clients then give up, and their users must
	// restart them. All other clients resume.
	before := len(sent)
	post(5)
	cutter.answerAll(t, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", len(all))
	post(5)
	var gone []*sseClient
	all = slices.DeleteFunc(all, func(c *sseClient) bool {
		if c.gone {
			gone = append(gone, c)
		}
		return c.gone
	})
	received("502")
	for _, c := range all {
		if got := dispatched(c.printed); !slices.Equal(got[slices.Index(got, sent[before-1])+1:], sent[before:]) {
			t.Errorf("502: %s dispatched %v, want all of %v", c.name, got, sent[before:])
		}
	}
	for _, c := range gone {
		if got := dispatched(c.printed); got[len(got)-1] == sent[len(sent)-1] {
			t.Errorf("502: %s resumes, but docs/clients.md lists it as a client that gives up", c.name)
		}
	}
}

// wholeOrReset reports whether got contains all messages in sent, in order and without duplicates.
// A message may be missing only immediately before or after a reset.
func wholeOrReset(sent, got []string) bool {
	reset := false
	for _, s := range got {
		if s == "reset" {
			reset = true
			continue
		}
		i := slices.Index(sent, s)
		if i < 0 || i > 0 && !reset {
			return false
		}
		sent, reset = sent[i+1:], false
	}
	return len(sent) == 0
}

// dispatched returns the events that a client printed: the number of each message, "reset" for a
// reset, and "broken" for a partial message.
func dispatched(printed *lines) []string {
	var got []string
	for line := range strings.Lines(printed.String()) {
		event, data, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		var message struct{ Data struct{ N int } }
		switch err := json.Unmarshal([]byte(data), &message); {
		case event == "reset":
			got = append(got, event)
		case event == "message" && err == nil && message.Data.N > 0:
			got = append(got, strconv.Itoa(message.Data.N))
		case event == "message" || event == "" && strings.Contains(data, `{"n":`):
			got = append(got, "broken")
		}
	}
	return got
}

// awaitCount waits until n clients are connected, in addition to its own stream.
func awaitCount(t *testing.T, addr, token string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	observer := opened(t, ask(t, ctx, through(t, addr, false), "GET", "http://"+addr+"/events", "", "Authorization", "Bearer "+token), 1)
	defer observer.Close()
	observer.until(t, "user count", strconv.Itoa(n+1))
}

// countedOnce checks that each client has one connection.
func countedOnce(t *testing.T, addr, token string, all []*sseClient) {
	t.Helper()
	resp := ask(t, t.Context(), through(t, addr, false), "GET", "http://"+addr+"/presence", "", "Authorization", "Bearer "+token)
	var page struct {
		Members []struct {
			ID          string
			Connections int
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		t.Fatal(resp.Status, err)
	}
	connections := map[string]int{}
	for _, m := range page.Members {
		connections[m.ID] = m.Connections
	}
	for _, c := range all {
		if connections[c.name] != 1 {
			t.Errorf("%s: got %d connections, want 1", c.name, connections[c.name])
		}
	}
}

// startCurl starts the shell program from docs/clients.md.
func startCurl(t *testing.T, program, url, token string) *lines {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("curl is required (make test installs it on Debian as root): ", err)
	}
	dir := t.TempDir()
	write(t, dir, "curl.sh", strings.ReplaceAll(program, "https://presence.example", url))
	return startIn(t, dir, token, "bash", "curl.sh")
}

// startIn runs a command in dir until the end of the test.
func startIn(t *testing.T, dir, token string, args ...string) *lines {
	t.Helper()
	printed, errs := newLines(), newLines()
	command := exec.Command(args[0], args[1:]...)
	command.Dir = dir
	command.Env = append(os.Environ(), "PRESENCE_TOKEN="+token)
	command.Stdout, command.Stderr = printed, errs
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the group includes curl, which is a child of the shell
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		command.Wait()
		printed.Close()
		errs.Close()
		if t.Failed() {
			t.Logf("standard error of %v:\n%s", args, errs)
		}
	})
	return printed
}

// startNode starts a JavaScript program from a document with Node.js. Each package is the name of a
// directory in web/node_modules, or name=directory if the two differ. startNode also returns the
// versions of the packages.
func startNode(t *testing.T, program, url, token string, packages ...string) (printed *lines, versions []string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range packages {
		name, alias, ok := strings.Cut(name, "=")
		if !ok {
			alias = name
		}
		var description []byte
		target, err := filepath.Abs(filepath.Join("../../web/node_modules", alias))
		if err == nil {
			description, err = os.ReadFile(filepath.Join(target, "package.json"))
		}
		var installed struct{ Version string }
		if err == nil {
			err = json.Unmarshal(description, &installed)
		}
		versions = append(versions, installed.Version)
		link := filepath.Join(dir, "node_modules", name)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(link), 0o755)
		}
		if err == nil {
			err = os.Symlink(target, link)
		}
		if err != nil {
			t.Fatal("the packages of web/package.json are required (make test installs them): ", err)
		}
	}
	write(t, dir, "client.mjs", strings.ReplaceAll(program, "https://presence.example", url))
	return startIn(t, dir, token, "node", "client.mjs"), versions
}

// startGo runs a function of this package until the end of the test. The function must be in
// docs/clients.md.
func startGo(t *testing.T, program, url, token string, read func(ctx context.Context, url, token string, print func(event, data string)) error) *lines {
	t.Helper()
	source, err := os.ReadFile("clients_go_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(source), program) {
		t.Errorf("function from docs/clients.md missing in clients_go_test.go:\n%s", program)
	}
	printed := newLines()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { // ends with ctx
		done <- read(ctx, url+"/events?room=lobby", token, func(event, data string) { fmt.Fprintln(printed, event, data) })
	}()
	t.Cleanup(func() {
		cancel()
		err := <-done
		printed.Close()
		if t.Failed() {
			t.Log("error of the client: ", err)
		}
	})
	return printed
}

// startBrowser signs in and runs a script from docs/clients.md in a page of the server.
func startBrowser(t *testing.T, program, url, token string) *lines {
	t.Helper()
	printed := newLines()
	t.Cleanup(func() { printed.Close() })
	page := browser(t, "net::ERR_", "console.log", "status of 502", "favicon.ico")
	err := chromedp.Listen(page, func(event any) {
		if e, ok := event.(*runtime.EventConsoleAPICalled); ok && len(e.Args) > 0 {
			var text string
			json.Unmarshal(e.Args[0].Value, &text)
			fmt.Fprintln(printed, text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	signIn := fmt.Sprintf(`fetch("/session", { method: "POST", headers: { "Content-Type": "application/json" },
		body: JSON.stringify({ token: %q }) }).then((answer) => (window.status = String(answer.status)))`, token)
	if err := chromedp.Do(page, chromedp.Navigate(url+"/healthz")); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Run(page, chromedp.Evaluate[any](signIn+"; undefined")); err != nil {
		t.Fatal(err)
	}
	see(t, page, `window.status === "204"`)
	if _, err := chromedp.Run(page, chromedp.Evaluate[any](program+"; undefined")); err != nil {
		t.Fatal(err)
	}
	return printed
}
