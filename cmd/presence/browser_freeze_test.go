package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// silenceLimit is the time after which a client with a heartbeat of 1 s detects a lost stream.
const silenceLimit = 2500 * time.Millisecond

// freeze makes the browser freeze or resume a tab, and waits until it has done so.
func freeze(t *testing.T, tab context.Context, frozen bool) {
	t.Helper()
	state := page.SetWebLifecycleStateStateActive
	if frozen {
		state = page.SetWebLifecycleStateStateFrozen
	}
	if _, err := chromedp.Call(tab, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: state}); err != nil {
		t.Fatal(err)
	}
	see(t, tab, fmt.Sprintf(`(frozen > 0) === %t`, frozen))
}

// show makes a tab visible, and hides the other tabs of its window.
func show(t *testing.T, tab context.Context) {
	t.Helper()
	if _, err := chromedp.Call(tab, page.BringToFront, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	see(t, tab, `!document.hidden`)
}

// joinFreezing opens the fixture freeze.html in a new tab of the window, which joins the rooms. The
// other tabs of the window are then in the background.
func joinFreezing(t *testing.T, browser context.Context, site, flags string, rooms ...string) context.Context {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(browser, chromedp.WithNewWindow(false))
	t.Cleanup(closeTab)
	next := watched(t, ctx)
	query := url.Values{"room": rooms}
	do(t, next, chromedp.Navigate(site+"/fixtures/freeze.html?"+query.Encode()+flags))
	see(t, next, `window.room && Object.values(rooms).every(({ state, count }) => state.connection === "open" && count === 1)`)
	return next
}

// gotNumbers is a script that is true once the tab has received the messages 0 to n-1 in the room,
// each once and in order.
func gotNumbers(room string, n int) string {
	return fmt.Sprintf(`received[%q].join() === [...Array(%d).keys()].join()`, room, n)
}

// A browser freezes the tab that leads. Another tab takes over, and receives all messages. The
// frozen tab receives them when it resumes. It is not counted while it is frozen.
//
// The leader must leave when it is frozen, or else the other tabs must detect it. They must also
// detect a frozen leader that received no event, because a frozen tab still receives their
// messages.
func TestFrozenLeader(t *testing.T) {
	t.Parallel()
	const slack = time.Second // for a busy machine
	for name, c := range map[string]struct {
		flags    string
		byPolicy bool          // whether the browser decides to freeze the tab
		within   time.Duration // until another tab has taken over
	}{
		"notified":     {within: silenceLimit},
		"not notified": {flags: "&unnoticed", within: silenceLimit + 3*time.Second},
		"by policy":    {byPolicy: true, within: silenceLimit},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heavy(t)
			_, addr := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--dev", "--listen=127.0.0.1:0", "--heartbeat=1s")
			site := fixtures(t, addr)
			var first context.Context
			if c.byPolicy {
				// Chromium on Android freezes each tab in the background, even one with a Web Lock.
				first = launch(t, []chromedp.ExecAllocatorOption{
					chromedp.Flag("enable-features", "stop-in-background:DelayForBackgroundTabFreezingMills/4000"),
				})
			} else {
				first = browser(t)
			}
			leader := joinFreezing(t, first, site, c.flags, "r")
			follower := joinFreezing(t, first, site, c.flags, "r")
			if script[string](t, leader, `room.state.shared`) != "leading" {
				leader, follower = follower, leader // the browser has already frozen the first tab
			}
			show(t, leader)
			see(t, leader, `room.state.shared === "leading"`)
			show(t, follower)
			see(t, follower, `room.state.shared === "following"`)
			script[int](t, follower, `led.r.length = 0`)
			sendNumbers(t, addr, 0, 3)
			for _, tab := range []context.Context{leader, follower} {
				see(t, tab, gotNumbers("r", 3))
			}

			if c.byPolicy {
				idle(t, func() { see(t, leader, `frozen > 0`) })
			} else {
				freeze(t, leader, true)
			}
			sendNumbers(t, addr, 3, 13)
			idle(t, func() { see(t, follower, `led.r.length > 0`) })
			took := time.Duration(script[int64](t, follower, `led.r[0]`)-script[int64](t, leader, `frozen`)) * time.Millisecond
			t.Logf("took over after %v", took)
			if took > c.within+slack {
				t.Errorf("took over after %v, want at most %v", took, c.within)
			}
			see(t, follower, gotNumbers("r", 13)+` && room.state.connection === "open"`)
			one := func() bool { return connections(t, addr) == 1 }
			if c.flags == "" && !poll(20*time.Millisecond, patience, one) {
				t.Errorf("got %d connections while the first leader is frozen, want 1", connections(t, addr))
			}
			if script[int64](t, leader, `frozen`) == 0 {
				t.Error("the first leader is not frozen")
			}

			show(t, leader)
			if !c.byPolicy {
				freeze(t, leader, false)
				see(t, leader, `room.state.shared === "following"`)
			}
			see(t, leader, gotNumbers("r", 13)+` && room.state.connection === "open"`)
			sendNumbers(t, addr, 13, 15)
			for _, tab := range []context.Context{leader, follower} {
				show(t, tab)
				see(t, tab, gotNumbers("r", 15)+` && room.state.connection === "open" && room.count === 1`)
			}
			if !poll(20*time.Millisecond, patience, one) {
				t.Errorf("got %d connections, want 1", connections(t, addr))
			}
		})
	}
}

// discard makes the browser discard the tab whose URL ends with suffix, as it does when memory is
// short: the tab remains, without its page.
func discard(t *testing.T, browser context.Context, suffix string) {
	t.Helper()
	discards, closeTab := tab(t, browser)
	defer closeTab()
	do(t, discards, chromedp.Navigate("chrome://discards/"))
	show(t, discards) // only a hidden tab can be discarded
	row := fmt.Sprintf(`[...(document.querySelector("discards-main")?.shadowRoot.querySelector("discards-tab")?.shadowRoot.querySelectorAll("tbody tr") ?? [])]
		.find((tr) => tr.querySelector(".tab-url-cell")?.textContent.trim().endsWith(%q))`, suffix)
	see(t, discards, row)
	script[bool](t, discards, fmt.Sprintf(`[...%s.querySelectorAll("[is=action-link]")].find((link) => link.textContent.includes("[Urgent Discard]")).click(), true`, row))
	see(t, discards, row+`.textContent.includes("discarded (urgent)")`)
}

// Ten tabs of a browser are in two rooms over HTTP/1.1, over which a browser opens six connections
// to a server. Each tab sends to each room without delay, and receives each message once and in
// order. The tab that leads is frozen, crashes, is discarded, and navigates to another page. After
// each of these, the same holds for the remaining tabs.
func TestTenTabs(t *testing.T) {
	t.Parallel()
	heavy(t)
	const limit = time.Second // for send()
	_, addr := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--dev", "--listen=127.0.0.1:0",
		"--message-rate=10000", "--message-burst=10000", "--heartbeat=1s")
	site := fixtures(t, addr)
	// Chromium has to enable its debugging pages, and to discard a tab with DevTools attached.
	profile := t.TempDir()
	if err := os.WriteFile(filepath.Join(profile, "Local State"), []byte(`{"internal_only_uis_enabled":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	browser := launch(t, []chromedp.ExecAllocatorOption{
		chromedp.UserDataDir(profile), chromedp.Flag("enable-features", "AllowDevtoolsConnectedDiscard"),
	}) // its first tab stays open and empty, because the browser exits without it
	rooms := []string{"r", "s"}
	var tabs []context.Context
	label := map[context.Context]string{}
	for i := range sized(4, 10, 10) {
		tab := joinFreezing(t, browser, site, fmt.Sprintf("&tab=%d", i), rooms...)
		label[tab] = fmt.Sprintf("tab=%d", i)
		tabs = append(tabs, tab)
	}
	sent := map[string]int{}
	// leader waits until exactly one tab leads the room, and returns its index.
	leader := func(t *testing.T, room string) (leader int) {
		t.Helper()
		roles := func() (roles []string) {
			for _, tab := range tabs {
				roles = append(roles, script[string](t, tab, fmt.Sprintf(`rooms[%q].state.connection + " " + rooms[%[1]q].state.shared`, room)))
			}
			return roles
		}
		want := append([]string{"open leading"}, slices.Repeat([]string{"open following"}, len(tabs)-1)...)
		var got []string
		if !poll(20*time.Millisecond, patience, func() bool {
			got = roles()
			sorted := slices.Clone(got)
			slices.Sort(sorted)
			slices.Reverse(sorted)
			return slices.Equal(sorted, want)
		}) {
			t.Fatalf("room %s: got the roles %q, want one leading tab and all open", room, got)
		}
		return slices.Index(got, "open leading")
	}
	// exchange checks that each tab can send to each room, and that all tabs receive the messages.
	exchange := func(t *testing.T) {
		t.Helper()
		slowest := time.Duration(0)
		for _, room := range rooms {
			leader(t, room)
			for _, tab := range tabs {
				took := script[float64](t, tab, fmt.Sprintf(`(async () => {
					const start = performance.now();
					await rooms[%q].send(%d);
					return performance.now() - start;
				})()`, room, sent[room]))
				sent[room]++
				slowest = max(slowest, time.Duration(took*float64(time.Millisecond)))
			}
		}
		if slowest > limit {
			t.Errorf("send() took up to %v, want at most %v", slowest, limit)
		}
		for _, room := range rooms {
			for _, tab := range tabs {
				see(t, tab, gotNumbers(room, sent[room])+fmt.Sprintf(` && rooms[%q].count === 1`, room))
			}
		}
		if got := connections(t, addr); got != 1 {
			t.Errorf("%d tabs hold %d connections in a room, want 1", len(tabs), got)
		}
		t.Logf("%d tabs: send() took up to %v", len(tabs), slowest)
	}
	exchange(t)
	for i, end := range []struct {
		how string
		end func(t *testing.T, tab context.Context)
	}{
		{"frozen", func(t *testing.T, tab context.Context) { freeze(t, tab, true) }},
		{"crashed", func(t *testing.T, tab context.Context) {
			go chromedp.Call(tab, page.Crash, cdp.Empty{}) // ends when the browser exits, because no renderer is left to reply
		}},
		{"discarded", func(t *testing.T, tab context.Context) { discard(t, browser, label[tab]) }},
		{"navigated away", func(t *testing.T, tab context.Context) {
			do(t, tab, chromedp.Navigate(site+"/fixtures/freeze.html")) // joins no room
		}},
	} {
		at := leader(t, rooms[i%2])
		ended := tabs[at]
		show(t, tabs[(at+1)%len(tabs)]) // a browser freezes and discards hidden tabs only
		end.end(t, ended)
		tabs = slices.Delete(slices.Clone(tabs), at, at+1)
		t.Log(end.how)
		exchange(t)
		if end.how == "frozen" {
			freeze(t, ended, false)
			tabs = append(tabs, ended)
			exchange(t)
		}
	}
}
