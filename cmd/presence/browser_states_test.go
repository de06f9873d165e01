package main

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"example.com/presence/pkg/presence/auth"
)

// gateway is a reverse proxy before a server. A test can make it fail.
type gateway struct {
	*httptest.Server
	fault  atomic.Pointer[http.HandlerFunc] // answers in place of the server, if it is not nil
	target atomic.Pointer[url.URL]
}

// newGateway starts a proxy before the server at addr.
func newGateway(t *testing.T, addr string) *gateway {
	t.Helper()
	f := &gateway{}
	f.target.Store(&url.URL{Scheme: "http", Host: addr})
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(f.target.Load())
		r.Out.Host = r.In.Host
	}}
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := f.fault.Load(); fault != nil {
			(*fault)(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		f.fail(drop) // otherwise Close waits for the streams that the page opens meanwhile
		f.Close()
	})
	return f
}

// fail closes all connections and answers each further request with fault. nil ends the fault.
func (f *gateway) fail(fault http.HandlerFunc) {
	if fault == nil {
		f.fault.Store(nil)
		return
	}
	f.fault.Store(&fault)
	f.CloseClientConnections()
}

// hang never answers a request. It reads the body, as net/http notices the end of the connection
// only then.
func hang(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// drop closes the connection without an answer.
func drop(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// stage is a server with one tab, in which a test shows the states of the page.
type stage struct {
	*site
	*gateway
	tab context.Context
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := newSite(t, "--dev")
	f := newGateway(t, strings.TrimPrefix(s.url, "http://"))
	s.url = f.URL
	tab := browser(t, "Failed to load resource", "net::ERR_") // in the states without a server, and in those of a refused user
	if _, err := chromedp.Call(tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: skipping}); err != nil {
		t.Fatal(err)
	}
	return &stage{s, f, tab}
}

// open opens a path of the page without waiting for the room.
func (s *stage) open(t *testing.T, path string) {
	t.Helper()
	do(t, s.tab, chromedp.Navigate("about:blank"), chromedp.Navigate(s.url+path))
}

// show visits the room "studio" as a user.
func (s *stage) show(t *testing.T) {
	t.Helper()
	s.visit(t, s.tab, userClaims("me", "Mira Lindqvist"), "/?room=studio")
}

// offline disconnects the tab from the network, or connects it again.
func (s *stage) offline(t *testing.T, offline bool) {
	t.Helper()
	state := network.OverrideNetworkStateParams{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1}
	if _, err := chromedp.Call(s.tab, network.OverrideNetworkState, state); err != nil {
		t.Fatal(err)
	}
}

// text returns a script that reports whether the text of the element contains part.
func text(selector, part string) string {
	return fmt.Sprintf(`(document.querySelector(%q)?.textContent ?? "").includes(%q)`, selector, part)
}

// states are the states of the page, in an order in which each can follow the one before it. show
// shows the state. At its end the state is visible, and it stays for the time of some pictures.
// undo, if it is set, restores the stage.
var states = []struct {
	name string
	show func(t *testing.T, s *stage)
	undo func(t *testing.T, s *stage)
}{
	{name: "signed-out", show: func(t *testing.T, s *stage) {
		s.open(t, "/?room=studio")
		see(t, s.tab, visible("#name"))
	}},
	{name: "blank-name", show: func(t *testing.T, s *stage) {
		do(t, s.tab, chromedp.SendKeys("#name", " \r"))
		see(t, s.tab, text("#name-error", "Enter a name")+` && document.activeElement.id === 'name'`)
	}},
	{name: "token-form", show: func(t *testing.T, s *stage) {
		do(t, s.tab, chromedp.Click("#to-token"))
		see(t, s.tab, visible("#token")+` && !document.querySelector('#name').checkVisibility()`)
	}},
	{name: "invalid-room-name", show: func(t *testing.T, s *stage) {
		s.open(t, "/?room=no%20room")
		see(t, s.tab, visible("#nowhere"))
	}},
	{name: "one-person", show: func(t *testing.T, s *stage) {
		s.show(t)
		see(t, s.tab, count(1))
	}},
	{name: "pending-message", show: func(t *testing.T, s *stage) {
		fault := http.HandlerFunc(hang)
		s.fault.Store(&fault)
		do(t, s.tab, chromedp.SendKeys("#message", "Is anybody here already?\r"))
		see(t, s.tab, text("#messages .pending .state", "Sending…")+` && document.querySelector('#message').value === ''`)
	}, undo: func(t *testing.T, s *stage) { s.fail(drop); s.fail(nil) }},
	{name: "cannot-reach", show: func(t *testing.T, s *stage) {
		s.show(t)
		s.fail(drop)
		see(t, s.tab, text("#status", "Cannot reach the server, trying again in "))
	}, undo: func(t *testing.T, s *stage) { s.fail(nil) }},
	{name: "bad-gateway", show: func(t *testing.T, s *stage) {
		s.show(t)
		s.fail(func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "<h1>Bad gateway</h1>", http.StatusBadGateway)
		})
		see(t, s.tab, text("#status", "The server does not answer (502), trying again in "))
	}, undo: func(t *testing.T, s *stage) { s.fail(nil) }},
	{name: "connecting", show: func(t *testing.T, s *stage) {
		s.show(t)
		fault := http.HandlerFunc(hang)
		s.fault.Store(&fault)
		do(t, s.tab, chromedp.Click("#change"), chromedp.SendKeys("#room-name", "kitchen\r"))
		see(t, s.tab, text("#room", "kitchen"))
		see(t, s.tab, text("#room", "kitchen")+` && document.querySelector('#state').textContent === 'Connecting…'`)
	}, undo: func(t *testing.T, s *stage) { s.fail(drop); s.fail(nil) }},
	{name: "offline", show: func(t *testing.T, s *stage) {
		s.show(t)
		s.offline(t, true)
		s.CloseClientConnections()
		see(t, s.tab, `document.querySelector('#status').textContent === 'You are offline'`)
	}, undo: func(t *testing.T, s *stage) { s.offline(t, false) }},
	{name: "draining", show: func(t *testing.T, s *stage) {
		// The server of this state does not start again, and the proxy does not answer.
		server, addr := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--dev", "--listen=127.0.0.1:0")
		before := s.target.Swap(&url.URL{Scheme: "http", Host: addr})
		s.show(t)
		fault := http.HandlerFunc(hang)
		s.fault.Store(&fault)
		s.target.Store(before)
		server.end()
		see(t, s.tab, `document.querySelector('#status').textContent === 'The server is restarting, one moment…'`)
		server.exit()
	}, undo: func(t *testing.T, s *stage) { s.fail(drop); s.fail(nil) }},
	{name: "too-many-tabs", show: func(t *testing.T, s *stage) {
		s.show(t)
		script[any](t, s.tab, `(async () => {
			const { held } = await navigator.locks.query();
			const slot = held.map(({ name }) => name).find((name) => name.startsWith("presence stream "));
			for (let i = 0; i < 9; i++) navigator.locks.request(slot.replace(/stream \d+/, "stream " + i), () => new Promise(() => {}));
		})()`)
		do(t, s.tab, chromedp.Click("#change"), chromedp.SendKeys("#room-name", "kitchen\r"))
		see(t, s.tab, text("#state", "Too many tabs for this browser"))
	}},
	{name: "sent-without-stream", show: func(t *testing.T, s *stage) {
		do(t, s.tab, chromedp.SendKeys("#message", "The kettle is on.\r"))
		see(t, s.tab, text("#messages .pending .state", "Sent")+" && "+text("#sent", "This tab shows no messages"))
	}},
	{name: "three-people", show: func(t *testing.T, s *stage) { s.smallRoom(t, s.tab) }},
	{name: "status-form", show: func(t *testing.T, s *stage) {
		do(t, s.tab, chromedp.Click("#set-status"))
		see(t, s.tab, visible("#status-text"))
	}},
	{name: "conversation", show: func(t *testing.T, s *stage) {
		ada, root := userClaims("ada", "Ada Okafor"), userClaims("root", "Root")
		root.Admin = true
		s.join(t, "workshop", ada)
		for i := range 55 {
			sender := []auth.Claims{ada, userClaims("ben", "Ben Tran")}[i/5%2] // the rate of one user is too low
			s.send(t, "workshop", sender, "message", fmt.Sprintf("Sheet %d is printed.", i+1))
		}
		s.send(t, "workshop", root, "message", "The workshop closes at six.")
		s.send(t, "workshop", ada, "message", "The proofs are at https://example.com/proofs/2026-11?sheet=12 and\nthe paper list is below:\n\n  A3, 120 g\n  A4, 90 g")
		s.send(t, "workshop", ada, "message", map[string]any{"printer": "north", "sheets": 55, "paper": []string{"A3", "A4"}, "done": true})
		s.visit(t, s.tab, userClaims("me", "Mira Lindqvist"), "/?room=workshop")
		see(t, s.tab, `document.querySelectorAll('#messages li').length === 50 && document.querySelector('#earlier').checkVisibility({visibilityProperty: true})`)
	}},
	{name: "message-too-long", show: func(t *testing.T, s *stage) {
		script[any](t, s.tab, `document.querySelector('#message').value = "too long ".repeat(8000)`)
		do(t, s.tab, chromedp.Click("#send"))
		see(t, s.tab, text("#send-error", "the message is too long"))
	}},
	{name: "may-not-send", show: func(t *testing.T, s *stage) {
		reader := userClaims("reader", "Rita Read")
		reader.Send = nil
		s.visit(t, s.tab, reader, "/?room=workshop")
		do(t, s.tab, chromedp.SendKeys("#message", "May I?\r"))
		see(t, s.tab, text("#send-error", "may not"))
	}},
	{name: "wrong-room-name", show: func(t *testing.T, s *stage) {
		do(t, s.tab, chromedp.Click("#change"))
		see(t, s.tab, visible("#room-name"))
		do(t, s.tab, chromedp.SendKeys("#room-name", "no room\r"))
		see(t, s.tab, text("#room-name-error", "it has a space"))
	}},
	{name: "expiring", show: func(t *testing.T, s *stage) {
		me := userClaims("me", "Mira Lindqvist")
		me.TTL = 25 * time.Second
		s.visit(t, s.tab, me, "/?room=studio")
		see(t, s.tab, text("#state", "your access ends at"))
	}},
	{name: "renew-token", show: func(t *testing.T, s *stage) {
		me := userClaims("me", "Mira Lindqvist")
		me.TTL = 28 * time.Second // time for the pictures
		s.visit(t, s.tab, me, "/?room=studio")
		see(t, s.tab, visible("#renew"))
		do(t, s.tab, chromedp.Click("#renew"))
		see(t, s.tab, visible("#token"))
	}},
	{name: "expired", show: func(t *testing.T, s *stage) {
		me := userClaims("me", "Mira Lindqvist")
		me.TTL = 8 * time.Second // time to join the room
		s.visit(t, s.tab, me, "/?room=studio")
		idle(t, func() { see(t, s.tab, text("#ended", "Your token has expired.")) })
	}},
	{name: "admin", show: func(t *testing.T, s *stage) {
		root := userClaims("root", "Root")
		root.Admin = true
		s.join(t, "studio", userClaims("4c1f9a83-0d6e-4b7c-9b5a-5e2f7d3c8a10", "ADA Okafor"))
		s.visit(t, s.tab, root, "/?room=studio")
		see(t, s.tab, `document.querySelectorAll('#rooms li').length >= 1 && document.querySelectorAll('#members .kick').length === 3`)
		s.send(t, "studio", root, "message", "We close in an hour.")
		s.send(t, "studio", root, "message", strings.Repeat("long ", 1000))
		see(t, s.tab, `document.querySelector('#messages .whole') !== null`)
	}},
	{name: "open-rooms", show: func(t *testing.T, s *stage) {
		script[any](t, s.tab, `document.querySelector('#open-rooms').click()`) // it is hidden on a wide screen
		see(t, s.tab, visible("#rooms"))
	}},
	{name: "open-people", show: func(t *testing.T, s *stage) {
		script[any](t, s.tab, `document.querySelector('#open-people').click()`)
		see(t, s.tab, visible("#members"))
	}},
	{name: "remove-dialog", show: func(t *testing.T, s *stage) {
		do(t, s.tab, chromedp.Click(`#members [data-id=ada] .kick`))
		see(t, s.tab, visible("#removal"))
	}},
	{name: "removal-notice", show: func(t *testing.T, s *stage) {
		do(t, s.tab, chromedp.Click("#remove-now"))
		see(t, s.tab, `!document.querySelector('#removal').open && `+text("#notices", "was removed for 1 minute"))
	}},
	{name: "removed", show: func(t *testing.T, s *stage) {
		s.show(t)
		root := userClaims("root", "Root")
		root.Admin = true
		s.ask(t, root, "DELETE", "/members/me?room=studio&for=1h", "")
		see(t, s.tab, visible("#refused")+" && "+text("#refused-until", "You come back automatically "))
	}},
	{name: "removed-yet", show: func(t *testing.T, s *stage) {
		do(t, s.tab, chromedp.Click("#again"))
		see(t, s.tab, text("#again-result", "Still "))
	}},
	{name: "not-allowed", show: func(t *testing.T, s *stage) {
		guest := userClaims("me", "Mira Lindqvist")
		guest.Join = []string{"lobby"}
		s.sign(t, s.tab, guest)
		s.open(t, "/?room=studio")
		see(t, s.tab, text("#refused-title", "You are not allowed in this room"))
	}},
	{name: "five-hundred", show: func(t *testing.T, s *stage) {
		if os.Getenv("PRESENCE_STATES") == "" {
			return // TestScreenshots has it, and axe-core needs many seconds for its rows
		}
		s.largeRoom(t, s.tab)
		see(t, s.tab, `document.querySelectorAll('#members li').length === 500`)
	}},
}

// reachable is a script that returns why the user of a room cannot read and send messages without
// scrolling the page. In a room, the page does not scroll, and the button Send is in the window.
const reachable = `(() => {
	const [log, send, root] = [...["log", "send"].map((id) => document.getElementById(id)), document.documentElement];
	if (!send.checkVisibility()) return [];
	const { left, right, top, bottom } = send.getBoundingClientRect();
	const wrong = [];
	if (left < 0 || right > innerWidth || top < 0 || bottom > innerHeight) wrong.push("Send is outside of the window: " + JSON.stringify({ left, right, top, bottom }));
	if (log.clientHeight < 48) wrong.push("the messages are " + log.clientHeight + " px high, less than two lines");
	if (root.scrollHeight > root.clientHeight) wrong.push("the page scrolls: " + root.scrollHeight + " > " + root.clientHeight);
	return wrong;
})()`

// look is a window size and a colour scheme.
type look struct {
	width, height int64
	dark          bool
}

// set gives the tab the look.
func (l look) set(t *testing.T, tab context.Context) {
	t.Helper()
	scheme(t, tab, l.dark)
	options := []chromedp.EmulateViewportOption{}
	if l.width < 760 {
		options = append(options, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	do(t, tab, chromedp.EmulateViewport(l.width, l.height, options...))
	settle(t, tab)
}

// On a phone in light mode and on a desktop in dark mode, every state of the page fits the window,
// and axe-core reports no violation. With -short, the states alternate between the two.
//
// PRESENCE_STATES=DIRECTORY also writes screenshots of all states, in three sizes, light and dark.
func TestAccessible(t *testing.T) {
	t.Parallel()
	heavy(t)
	axe, err := os.ReadFile(filepath.Join("..", "..", "web", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal("axe-core is required (.ci/setup installs it): ", err)
	}
	s := newStage(t)
	looks := []look{{360, 800, false}, {1440, 800, true}}
	for _, state := range states {
		began := time.Now()
		state.show(t, s)
		t.Logf("%s: shown after %.1fs", state.name, time.Since(began).Seconds())
		for _, l := range []look{{360, 740, false}, {740, 360, false}, {320, 568, false}} {
			l.set(t, s.tab)
			for _, wrong := range script[[]string](t, s.tab, reachable) {
				t.Errorf("%s, %d x %d px: %s", state.name, l.width, l.height, wrong)
			}
		}
		script[any](t, s.tab, string(axe)+";0")
		slices.Reverse(looks)
		for _, l := range looks[:sized(1, 2, 2)] {
			l.set(t, s.tab)
			for _, wrong := range script[[]string](t, s.tab, layout) {
				t.Errorf("%s, %d px wide: %s", state.name, l.width, wrong)
			}
			for _, wrong := range script[[]string](t, s.tab, `axe.run(document, {rules: {"target-size": {enabled: true}}}).then(({ violations }) => violations.flatMap(
				({ id, help, nodes }) => nodes.map(({ html, any, all, none }) => id + ": " + help + ": " + html.slice(0, 200) + " " + [...any, ...all, ...none].map(({ message }) => message).join("; "))))`) {
				t.Errorf("%s, dark %t: %s", state.name, l.dark, wrong)
			}
		}
		if directory := os.Getenv("PRESENCE_STATES"); directory != "" {
			s.pictures(t, directory, state.name)
		}
		if state.undo != nil {
			state.undo(t, s)
		}
	}
}

// While the server does not answer, nothing on the page moves, with and without the button "Try
// now". The header and the number have the same place as before.
func TestSteadyHeader(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newStage(t)
	s.show(t)
	see(t, s.tab, count(1))
	looks := []look{{320, 568, false}, {360, 740, false}, {740, 360, false}, {768, 1024, false}, {900, 700, false}, {1440, 900, false}}
	places := func(l look) [][2]float64 {
		t.Helper()
		l.set(t, s.tab)
		return script[[][2]float64](t, s.tab, `(() => {
			const button = document.querySelector("#reconnect");
			const before = button.hidden;
			const places = [false, true].map((hidden) => {
				button.hidden = hidden;
				return ["header", "#now"].map((selector) => document.querySelector(selector).getBoundingClientRect().bottom);
			});
			button.hidden = before;
			return places;
		})()`)
	}
	var live [][2]float64
	for _, l := range looks {
		live = append(live, places(l)[1])
	}
	s.fail(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "", http.StatusBadGateway) })
	see(t, s.tab, text("#status", "The server does not answer (502), trying again in "))
	for i, l := range looks {
		for j, place := range places(l) {
			if place != live[i] {
				t.Errorf("%d x %d px: the header and the number end at %v px without a server (button hidden: %t), and before at %v px", l.width, l.height, place, j == 1, live[i])
			}
		}
	}
}

// The ink of the count begins at the left edge of the texts below it, for each digit and size.
func TestInk(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newStage(t)
	s.show(t)
	for n := 1; n <= 4; n++ {
		if n > 1 {
			s.join(t, "studio", userClaims(fmt.Sprint("user-", n), ""))
		}
		see(t, s.tab, count(n))
		for _, l := range []look{{360, 740, false}, {768, 1024, false}, {1440, 900, false}} {
			l.set(t, s.tab)
			box := script[[4]float64](t, s.tab, `(({ left, right, top, bottom }) => [left, right, top, bottom])(document.querySelector("#count").getBoundingClientRect())`)
			edge := script[float64](t, s.tab, `document.querySelector("#people").getBoundingClientRect().left`)
			data, err := chromedp.Run(s.tab, chromedp.CaptureScreenshot())
			if err != nil {
				t.Fatal(err)
			}
			picture, err := png.Decode(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			ink := -1
			for x := max(0, int(box[0])); x < int(box[1]) && ink < 0; x++ {
				for y := int(box[2]); y < int(box[3]); y++ {
					if red, _, _, _ := picture.At(x, y).RGBA(); red < 0x8000 {
						ink = x
						break
					}
				}
			}
			if ink < 0 || math.Abs(float64(ink)-edge) > 2 {
				t.Errorf("%d connected, %d px wide: the digit begins at %d px, want %v", n, l.width, ink, edge)
			}
		}
	}
}

// pictures writes screenshots of the current state to the directory.
func (s *stage) pictures(t *testing.T, directory, name string) {
	t.Helper()
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, l := range []look{{360, 740, false}, {360, 740, true}, {740, 360, false}, {768, 1024, false}, {768, 1024, true}, {1440, 900, false}, {1440, 900, true}} {
		l.set(t, s.tab)
		picture, err := chromedp.Run(s.tab, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		shade := map[bool]string{false: "light", true: "dark"}[l.dark]
		if err := os.WriteFile(filepath.Join(directory, fmt.Sprintf("%s-%d-%s.png", name, l.width, shade)), picture, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
