package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// script runs a script in the tab, waits for its promise, and returns the result.
func script[T any](t *testing.T, tab context.Context, source string) T {
	t.Helper()
	v, err := chromedp.Run(tab, chromedp.Evaluate[T](source, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	return v
}

// joinShared makes the tab join the room r with share: true. The page is the server's icon, because
// it has the server's origin and loads nothing else. The script variable received collects the
// events.
func joinShared(t *testing.T, tab context.Context, addr string) {
	t.Helper()
	if err := chromedp.Do(tab, chromedp.Navigate("http://"+addr+"/icon.svg")); err != nil {
		t.Fatal(err)
	}
	script[bool](t, tab, `(async () => {
		window.received = [];
		const presence = await import("/presence.js");
		if (!(await presence.request("GET", "/session")).user) await presence.request("POST", "/login", {name: "Ann"});
		window.room = presence.join({room: "r", share: true});
		room.on("message", ({data}) => received.push(data));
		room.on("chat message", ({data}) => received.push(data));
		room.on("reset", () => received.push("reset"));
		return true;
	})()`)
}

// sendNumbers sends the numbers from, from+1, … to-1 as messages to the room r. It sends each
// number after the server has accepted the previous one.
func sendNumbers(t *testing.T, addr string, from, to int) {
	t.Helper()
	token := must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=bob", "--send=r", "--join=r")
	for n := from; n < to; n++ {
		postMessage(t, addr, token, fmt.Sprintf(`{"event":%q,"data":%d}`, []string{"message", "chat message"}[n%2], n))
	}
}

// postMessage sends a message to the room r.
func postMessage(t *testing.T, addr, token, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/messages?room=r", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	if answer.StatusCode != http.StatusAccepted {
		t.Fatalf("%s: %s %s", body, answer.Status, text)
	}
}

// connections returns the number of connections in the room r, as the server reports it.
func connections(t *testing.T, addr string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+addr+"/presence?room=r", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=bob", "--join=r"))
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var page struct{ Connections int }
	if err := json.NewDecoder(answer.Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	return page.Connections
}

// Eight tabs (ten in make test-long) share one connection, because over plain HTTP/1.1 a browser
// opens only six connections to a server. However the leader tab ends, no other tab misses a
// message or receives one twice.
func TestTabsShareOneConnection(t *testing.T) {
	t.Parallel()
	tabCount := sized(4, 8, 10)
	part := sized(50, 100, 200)                                   // a fifth of the messages
	hang := sized(10*time.Second, 10*time.Second, 15*time.Second) // a follower tab takes over after 8.5 s
	end := map[string]func(t *testing.T, addr string, tab context.Context){
		"closed": func(t *testing.T, _ string, tab context.Context) {
			if err := chromedp.Cancel(tab); err != nil {
				t.Fatal(err)
			}
		},
		"killed": func(t *testing.T, _ string, tab context.Context) {
			go chromedp.Call(tab, page.Crash, cdp.Empty{}) // ends when the browser exits, because no renderer is left to reply
		},
		"closes its room": func(t *testing.T, _ string, tab context.Context) {
			script[bool](t, tab, `room.close(), true`)
		},
		"hangs": func(t *testing.T, _ string, tab context.Context) {
			// The tab blocks like one with an open dialog, and resumes after another tab has taken
			// over.
			script[bool](t, tab, fmt.Sprintf(`setTimeout(() => { for (const end = Date.now() + %d; Date.now() < end;); }), true`, hang.Milliseconds()))
		},
	}
	if testing.Short() {
		delete(end, "killed")
		delete(end, "closes its room")
	}
	for how, end := range end {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			heavy(t)
			_, addr := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--dev", "--listen=127.0.0.1:0",
				"--message-rate=10000", "--message-burst=10000", "--heartbeat=1s", "--log-level=info")
			browser := ownBrowser(t, "/favicon.ico") // its first tab stays open and empty, because the browser exits without it
			var tabs []context.Context
			for len(tabs) < tabCount {
				next, closeTab := tab(t, browser)
				t.Cleanup(closeTab)
				joinShared(t, next, addr)
				tabs = append(tabs, next)
			}
			for _, tab := range tabs {
				see(t, tab, `room.state.connection === "open" && room.count === 1 && room.users === 1`)
			}
			if got := connections(t, addr); got != 1 {
				t.Errorf("%d tabs hold %d connections, want 1", tabCount, got)
			}
			sendNumbers(t, addr, 0, 2*part)
			leader := -1
			for i, tab := range tabs {
				if script[string](t, tab, `room.state.shared`) == "leading" {
					if leader >= 0 {
						t.Errorf("tabs %d and %d are leaders, want one leader", leader, i)
					}
					leader = i
				}
			}
			if leader < 0 {
				t.Fatal("no leader tab")
			}
			sent := make(chan struct{})
			go func() { // ends when all messages are sent
				defer close(sent)
				sendNumbers(t, addr, 2*part, 3*part)
			}()
			end(t, addr, tabs[leader])
			<-sent
			rest := append(tabs[:leader:leader], tabs[leader+1:]...)
			if how == "hangs" {
				see(t, rest[0], fmt.Sprintf(`received.length === %d`, 3*part)) // another tab has taken over
				rest = tabs
			}
			sendNumbers(t, addr, 3*part, 5*part)
			for i, tab := range rest {
				see(t, tab, fmt.Sprintf(`received.length >= %d && room.state.connection === "open"`, 5*part))
				const wrong = `(() => { const i = received.findIndex((n, i) => n !== i); return i < 0 ? "" : i + ": " + received.slice(i - 2, i + 5); })()`
				if wrong := script[string](t, tab, wrong); wrong != "" {
					t.Errorf("tab %d: first wrong event at %s", i, wrong)
				}
				see(t, tab, fmt.Sprintf(`received.length === %d && room.count === 1`, 5*part))
			}
			if got := connections(t, addr); got != 1 {
				t.Errorf("the remaining tabs hold %d connections, want 1", got)
			}
		})
	}
}

// A message that is nested too deeply for a browser to clone between tabs reaches all tabs, and so
// does the next message.
func TestDeepMessage(t *testing.T) {
	t.Parallel()
	heavy(t)
	_, addr := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--dev", "--listen=127.0.0.1:0")
	browser := browser(t, "/favicon.ico")
	var tabs []context.Context
	for len(tabs) < 2 {
		next, closeTab := tab(t, browser)
		t.Cleanup(closeTab)
		joinShared(t, next, addr)
		see(t, next, `room.state.connection === "open"`)
		tabs = append(tabs, next)
	}
	const depth = 9000
	token := must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=bob", "--send=r", "--join=r")
	postMessage(t, addr, token, `{"data":`+strings.Repeat("[", depth)+strings.Repeat("]", depth)+`}`)
	postMessage(t, addr, token, `{"data":"after"}`)
	for _, tab := range tabs {
		see(t, tab, `received.length === 2 && received[1] === "after"`)
		if got := script[int](t, tab, `(() => { let depth = 0; for (let a = received[0]; a; a = a[0]) depth++; return depth; })()`); got != depth {
			t.Errorf("got a depth of %d, want %d", got, depth)
		}
	}
}

// until waits until the given time. It is for tests that measure durations.
func until(t testing.TB, moment time.Time) {
	t.Helper()
	select {
	case <-time.After(time.Until(moment)):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// An offline browser sends no request, neither with an EventSource nor with fetch. Its console
// would show the error of a request. It reconnects when it is online again.
func TestOffline(t *testing.T) {
	t.Parallel()
	heavy(t)
	e := env{"PRESENCE_JWT_SECRET": secret}
	server, addr := serving(t, e, "--dev", "--listen=127.0.0.1:"+quietPort(t), "--heartbeat=1s")
	page := browser(t, "/favicon.ico")
	if err := chromedp.Do(page, chromedp.Navigate("http://"+addr+"/icon.svg")); err != nil {
		t.Fatal(err)
	}
	script[bool](t, page, fmt.Sprintf(`(async () => {
		const { join, request } = await import("/presence.js");
		await request("POST", "/login", { name: "Ann" });
		window.received = [[], []];
		window.rooms = [{}, { token: %q }].map((options) => join({ ...options, room: "r" }));
		rooms.forEach((room, i) => room.on("message", ({ data }) => received[i].push(data)));
		return true;
	})()`, must(t, e, "token", "--sub=carol", "--join=r")))
	see(t, page, `rooms.every((room) => room.state.connection === "open" && room.count === 2)`)
	network := func(offline bool) {
		t.Helper()
		notify := func() {
			state := network.OverrideNetworkStateParams{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1}
			if _, err := chromedp.Call(page, network.OverrideNetworkState, state); err != nil {
				t.Fatal(err)
			}
		}
		if offline { // before the connection is cut
			notify()
		}
		rule := network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: []*network.Conditions{
			{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1},
		}}
		if _, err := chromedp.Call(page, network.EmulateNetworkConditionsByRule, rule); err != nil {
			t.Fatal(err)
		}
		if !offline { // after the connection is restored
			notify()
		}
	}
	sendNumbers(t, addr, 0, 1)
	see(t, page, `String(received) === "0,0"`)
	network(true)
	sendNumbers(t, addr, 1, 2)
	server.end()
	server.exit()
	see(t, page, `rooms.every((room) => room.state.connection === "connecting" && room.state.reason === "offline")`)
	serving(t, e, "--dev", "--listen="+addr)
	idle(t, func() { until(t, time.Now().Add(4*time.Second)) }) // longer than any delay before the first retry
	if got := connections(t, addr); got != 0 {
		t.Errorf("got %d connections while offline, want 0", got)
	}
	network(false)
	see(t, page, `rooms.every((room) => room.state.connection === "open" && room.count === 2)`)
	sendNumbers(t, addr, 2, 3)
	see(t, page, `String(received) === "0,2,0,2"`)
}

// A page of an origin that the server does not allow can load presence.js, and sees the cause.
func TestOriginNotAllowed(t *testing.T) {
	t.Parallel()
	heavy(t)
	e := env{"PRESENCE_JWT_SECRET": secret}
	_, addr := serving(t, e, "--listen=127.0.0.1:0")
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,">`)
	}))
	t.Cleanup(site.Close)
	page := browser(t, "CORS policy", "net::ERR_FAILED", "status of 403")
	do(t, page, chromedp.Navigate(site.URL))
	script[bool](t, page, fmt.Sprintf(`import("http://%s/presence.js").then(({ join }) => {
		window.room = join({ token: %q });
		return true;
	})`, addr, must(t, e, "token", "--sub=ann")))
	see(t, page, fmt.Sprintf(`room.state.reason === "lost" && room.state.problem.detail.endsWith("or this page's origin is not allowed: %s")`, site.URL))
	if got := script[string](t, page, `room.url.href`); got != "http://"+addr+"/" {
		t.Errorf("got the server %s, want http://%s/", got, addr)
	}
}
