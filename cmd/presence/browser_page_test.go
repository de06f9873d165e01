package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/client"
)

// site is a server whose page a test opens. Its methods send requests on behalf of users.
type site struct {
	url    string
	client *http.Client
	cookie string // name of the session cookie
}

func newSite(t *testing.T, args ...string) *site {
	t.Helper()
	_, addr := serving(t, env{"PRESENCE_JWT_SECRET": secret}, append([]string{"--listen=127.0.0.1:0", "--linger=0s"}, args...)...)
	transport := &http.Transport{}
	s := &site{url: "http://" + addr, client: &http.Client{Transport: transport}, cookie: auth.HostCookieName}
	if slices.Contains(args, "--dev") {
		s.cookie = auth.CookieName
	}
	t.Cleanup(transport.CloseIdleConnections)
	return s
}

// userClaims returns the token claims of a user that may join and send to every room.
func userClaims(id, name string) auth.Claims {
	return auth.Claims{Sub: id, Name: name, Join: []string{"*"}, Send: []string{"*"}}
}

func (s *site) request(t *testing.T, ctx context.Context, user auth.Claims, method, path, body string) *http.Response {
	t.Helper()
	token, err := auth.Mint([]byte(secret), user)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// do sends a request and fails the test unless the server accepts it.
func (s *site) do(t *testing.T, ctx context.Context, user auth.Claims, method, path, body string) *http.Response {
	t.Helper()
	answer := s.request(t, ctx, user, method, path, body)
	if answer.StatusCode >= 300 {
		t.Fatalf("%s %s: %s", method, path, answer.Status)
	}
	return answer
}

// ask is like do, but discards the response body.
func (s *site) ask(t *testing.T, user auth.Claims, method, path, body string) {
	t.Helper()
	s.do(t, t.Context(), user, method, path, body).Body.Close()
}

// join makes a user join a room. The user leaves when the test calls leave, or at the end of the
// test.
func (s *site) join(t *testing.T, room string, user auth.Claims) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream := s.do(t, ctx, user, "GET", "/events?room="+room, "")
	done := make(chan struct{})
	go func() { // ends when the test calls leave or the server closes the stream
		defer close(done)
		_, _ = io.Copy(io.Discard, stream.Body)
		stream.Body.Close()
	}()
	leave = func() { cancel(); <-done }
	t.Cleanup(leave)
	return leave
}

// send sends a message whose data is any JSON value.
func (s *site) send(t *testing.T, room string, user auth.Claims, event string, data any) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"event": event, "data": data})
	if err != nil {
		t.Fatal(err)
	}
	s.ask(t, user, "POST", "/messages?room="+room, string(body))
}

// state replaces the user's info in a room.
func (s *site) state(t *testing.T, room string, user auth.Claims, info string) {
	t.Helper()
	s.ask(t, user, "PUT", "/state?room="+room, info)
}

// visit opens the page with the session cookie of a user.
func (s *site) visit(t *testing.T, tab context.Context, user auth.Claims, path string) {
	t.Helper()
	s.sign(t, tab, user)
	do(t, tab, chromedp.Navigate(s.url+path))
	see(t, tab, `document.body?.dataset.state === 'open'`)
}

// sign sets the session cookie of a user.
func (s *site) sign(t *testing.T, tab context.Context, user auth.Claims) {
	t.Helper()
	token, err := auth.Mint([]byte(secret), user)
	if err != nil {
		t.Fatal(err)
	}
	secure := s.cookie == auth.HostCookieName
	cookie := network.SetCookieParams{Name: s.cookie, Value: token, URL: s.url, Secure: &secure}
	if _, err := chromedp.Call(tab, network.SetCookie, cookie); err != nil {
		t.Fatal(err)
	}
}

func do(t *testing.T, tab context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(tab, steps...); err != nil {
		t.Fatal(err)
	}
}

// names returns n user names, sorted.
func names(n int) []string {
	first := strings.Fields("Ada Ben Carla Dinesh Elif Femi Grace Hiro Ines Jonas Kofi Lena Mateo Nadia Owen Priya Quentin Rosa Samir Tove Uma Viktor Wanjiru Xin Yusuf")
	last := strings.Fields("Abara Berg Chen Duarte Evans Fischer Gupta Haddad Ito Jansen Kowalski Lopez Moreau Nakamura Okafor Park Quist Rossi Silva Tanaka")
	all := make([]string, n)
	for i := range all {
		all[i] = first[i%len(first)] + " " + last[(i/len(first)+7*(i%len(first)))%len(last)]
	}
	slices.Sort(all)
	return all
}

// skipping is a script that defines the function skip in the page. The function sets the clock of
// the page forward, so that tests of the five-minute plot need not wait.
const skipping = `{
	const now = Date.now;
	let ahead = 0;
	Date.now = () => now.call(Date) + ahead;
	window.skip = (seconds) => { ahead += seconds * 1000; };
}`

func scheme(t *testing.T, tab context.Context, dark bool) {
	t.Helper()
	value := "light"
	if dark {
		value = "dark"
	}
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: value},
		{Name: "prefers-reduced-motion", Value: "reduce"}, // so that no screenshot shows an animation in progress
	}}
	if _, err := chromedp.Call(tab, emulation.SetEmulatedMedia, media); err != nil {
		t.Fatal(err)
	}
}

// layout is a script that returns the layout errors of the page: scrolling, and text that overlaps
// other text.
const layout = `(() => {
	const wrong = [];
	const root = document.documentElement;
	if (innerWidth >= 832 && innerHeight >= 600 && root.scrollHeight > root.clientHeight) wrong.push("page scrolls: " + root.scrollHeight + " > " + root.clientHeight);
	if (root.scrollWidth > root.clientWidth) wrong.push("page scrolls sideways: " + root.scrollWidth + " > " + root.clientWidth);
	const shown = [];
	const walker = document.createTreeWalker(document.querySelector("dialog[open]") ?? document.body, NodeFilter.SHOW_TEXT);
	for (let node; (node = walker.nextNode()); ) {
		const parent = node.parentElement;
		if (node.data.trim() === "" || parent.closest("template, script, noscript, .unseen, .again .by") || !parent.checkVisibility({contentVisibilityAuto: true})) continue;
		const range = document.createRange();
		range.selectNodeContents(node);
		for (const rect of range.getClientRects()) {
			let { left, right, top, bottom } = rect;
			for (let up = parent; up; up = up.parentElement) {
				if (up.namespaceURI.endsWith("svg") || getComputedStyle(up).overflow === "visible") continue;
				const box = up.getBoundingClientRect();
				left = Math.max(left, box.left); right = Math.min(right, box.right);
				top = Math.max(top, box.top); bottom = Math.min(bottom, box.bottom);
			}
			const air = (bottom - top) / 5; // a line box is taller than its letters
			top += air; bottom -= air;
			if (right - left > 1 && bottom - top > 1) shown.push({ left, right, top, bottom, parent, text: node.data.trim().slice(0, 30) });
		}
	}
	for (const [i, a] of shown.entries()) for (const b of shown.slice(i + 1)) {
		if (a.parent === b.parent) continue;
		const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
		const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
		if (width > 1 && height > 1) wrong.push("“" + a.text + "” overlaps “" + b.text + "”");
	}
	return wrong;
})()`

// The page fits its window on a phone, a tablet and a desktop. It is tested before the sign-in (0
// people), with three members, and with 500, the most that a room lists. PRESENCE_SCREENSHOTS=1
// updates the screenshots in docs/images.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t, "--dev")
	tab := browser(t)
	if _, err := chromedp.Call(tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: skipping}); err != nil {
		t.Fatal(err)
	}
	sizes := []struct {
		width, height int64
		dark          bool
	}{{360, 740, false}, {768, 1024, true}, {1440, 900, false}}
	for _, people := range []int{0, 3, 500} {
		do(t, tab, chromedp.Navigate("about:blank"))
		switch people {
		case 0:
			do(t, tab, chromedp.Navigate(s.url+"/?room=studio"))
			see(t, tab, visible("#name"))
		case 3:
			s.smallRoom(t, tab)
		case 500:
			s.largeRoom(t, tab)
			see(t, tab, `document.querySelectorAll('#members li').length === 500`)
		}
		for _, size := range sizes {
			name := fmt.Sprintf("page-%d-%d", size.width, people)
			for _, dark := range []bool{!size.dark, size.dark} {
				scheme(t, tab, dark)
				options := []chromedp.EmulateViewportOption{}
				if size.width < 700 {
					options = append(options, chromedp.EmulateMobile, chromedp.EmulateTouch)
				}
				do(t, tab, chromedp.EmulateViewport(size.width, size.height, options...))
				settle(t, tab)
			}
			for _, wrong := range script[[]string](t, tab, layout) {
				t.Errorf("%s: %s", name, wrong)
			}
			if people > 0 {
				for _, selector := range []string{"#count", "#people-title", "#message", "#send"} {
					if !script[bool](t, tab, fmt.Sprintf(`(() => {
						const element = document.querySelector(%q);
						element.scrollIntoView({block: "nearest"});
						const { left, right, top, bottom, width, height } = element.getBoundingClientRect();
						return width > 10 && height > 10 && left >= -1 && right <= innerWidth + 1 && top >= -1 && bottom <= innerHeight + 1;
					})()`, selector)) {
						t.Errorf("%s: %s cannot be scrolled into the window", name, selector)
					}
				}
				script[any](t, tab, `scrollTo(0, 0)`)
			}
			if os.Getenv("PRESENCE_SCREENSHOTS") == "1" {
				picture, err := chromedp.Run(tab, chromedp.CaptureScreenshot())
				if err != nil {
					t.Fatal(err)
				}
				path := filepath.Join("..", "..", "docs", "images", name+".png")
				if err := os.WriteFile(path, picture, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// visible returns a script that reports whether the element is visible.
func visible(selector string) string {
	return fmt.Sprintf(`document.querySelector(%q)?.checkVisibility() === true`, selector)
}

// settle waits until the page has rendered all events that it has received.
func settle(t *testing.T, tab context.Context) {
	t.Helper()
	script[any](t, tab, `new Promise((done) => requestAnimationFrame(() => setTimeout(() => requestAnimationFrame(() => setTimeout(done)))))`)
}

// smallRoom opens the page in a room with three users, four tabs and some messages.
func (s *site) smallRoom(t *testing.T, tab context.Context) {
	t.Helper()
	me, ada, ben := userClaims("me", "Mira Lindqvist"), userClaims("ada", "Ada Okafor"), userClaims("ben", "Ben Duarte")
	s.join(t, "studio", ada)
	s.visit(t, tab, me, "/?room=studio")
	advance := func(seconds, now int) {
		t.Helper()
		see(t, tab, count(now))
		script[any](t, tab, fmt.Sprintf(`skip(%d)`, seconds))
	}
	advance(40, 2)
	leaveBen := s.join(t, "studio", ben)
	advance(50, 3)
	second := s.join(t, "studio", ada)
	advance(35, 4)
	third := s.join(t, "studio", userClaims("chen", "Chen Wei"))
	advance(45, 5)
	third()
	advance(20, 4)
	leaveBen()
	advance(15, 3)
	second()
	advance(30, 2)
	s.join(t, "studio", ben)
	advance(12, 3)
	s.join(t, "studio", ada)
	advance(25, 4)
	s.state(t, "studio", ben, `{"status":"away"}`)
	s.send(t, "studio", ada, "message", "Is the new cover ready?")
	s.send(t, "studio", me, "message", "Nearly. I am on the last spread.")
	s.send(t, "studio", me, "message", "Ten minutes, then it is yours.")
	s.send(t, "studio", ben, "chat message", "Take your time. I am getting tea, anybody else?")
	s.send(t, "studio", ada, "message", map[string]any{"page": 12, "zoom": 1.5})
	s.send(t, "studio", ada, "message", "That is where I am looking, by the way.")
	see(t, tab, `document.querySelectorAll('#messages li').length >= 6`)
	see(t, tab, `document.querySelector('#members [data-id=ada] .tabs').textContent === '2 tabs'`)
	see(t, tab, `document.querySelector('#members [data-id=ben] .status').textContent === 'away'`)
}

// largeRoom opens the page in a room that grows to five hundred users.
func (s *site) largeRoom(t *testing.T, tab context.Context) {
	t.Helper()
	names := names(499)
	var leaves []func()
	joinMore := func(n int) {
		for range n {
			i := len(leaves)
			leaves = append(leaves, s.join(t, "hall", userClaims(fmt.Sprintf("user-%03d", i), names[i])))
		}
	}
	joinMore(412)
	s.visit(t, tab, userClaims("me", "Mira Lindqvist"), "/?room=hall")
	for _, change := range []int{0, 4, 7, 3, -2, 9, 11, -5, 8, 14, 6, -3, 10, 12, 2, 5, -1, 7} {
		if change < 0 {
			for _, leave := range leaves[len(leaves)+change:] {
				leave()
			}
			leaves = leaves[:len(leaves)+change]
		}
		joinMore(max(change, 0))
		see(t, tab, count(len(leaves)+1))
		script[any](t, tab, `skip(16)`)
	}
	see(t, tab, count(500))
	for i := range 40 {
		s.state(t, "hall", userClaims(fmt.Sprintf("user-%03d", 7*i+3), ""), `{"status":"away"}`)
	}
	host := userClaims("user-000", names[0])
	s.send(t, "hall", host, "message", "Welcome, everybody. We begin at the full hour.")
	s.send(t, "hall", userClaims("user-007", names[7]), "message", "Hello from Nairobi!")
	s.send(t, "hall", userClaims("user-300", names[300]), "message", "Sound and picture are fine here.")
	s.send(t, "hall", host, "message", map[string]any{"slide": 1, "title": "Who is here?"})
	see(t, tab, `document.querySelectorAll('#messages li').length === 4`)
	see(t, tab, `document.querySelectorAll('#members [data-status=away]').length === 40`)
}

// The page never renders user text as HTML. As a second defense, the Content-Security-Policy blocks
// scripts in user text.
func TestMarkup(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t, "--dev")
	const code, image, bold = `<script>document.body.dataset.ran = 1</script>`, `<img src=x onerror="document.body.dataset.ran = 1">`, `<b>bold</b>`
	tab := browser(t)
	s.join(t, "studio", userClaims(image, bold))
	s.join(t, "studio", userClaims(code, ""))
	s.state(t, "studio", userClaims(image, bold), `{"status":"<img src=x onerror=alert(1)>"}`)
	s.visit(t, tab, userClaims(bold, image), "/?room=studio")
	for _, text := range []any{code, image, map[string]any{bold: image}, []string{code}} {
		s.send(t, "studio", userClaims(code, ""), "message", text)
		s.send(t, "studio", userClaims(image, bold), "chat message", text)
	}
	see(t, tab, `document.querySelectorAll('#messages li').length === 8`)
	see(t, tab, `document.querySelectorAll('#members li').length === 3`)
	shows := func(selector string, texts ...string) {
		t.Helper()
		got := script[[]string](t, tab, fmt.Sprintf(`[...document.querySelectorAll(%q)].map((element) => element.textContent)`, selector))
		for _, text := range texts {
			if !slices.Contains(got, text) {
				t.Errorf("%s: got texts %q, want %q among them", selector, got, text)
			}
		}
	}
	shows("#members .name", bold, image, code)
	shows("#members .status", `<img src=x onerror=alert(1)>`)
	shows("#messages .name", bold, code)
	shows("#messages .text", code, image, `["<script>document.body.dataset.ran = 1</script>"]`)
	shows("#me", image)
	noElements := func() {
		t.Helper()
		if n := script[int](t, tab, `document.querySelectorAll('body script, img, b').length + ('ran' in document.body.dataset)`); n != 0 {
			t.Errorf("user text created %d elements, want none", n)
		}
	}
	noElements()

	// A link may contain any text as the room name. Other pages of the same origin may write any
	// text to the storage that contains the names of visited rooms.
	script[any](t, tab, `localStorage.setItem(Object.keys(localStorage)[0], JSON.stringify(["<b>bold</b>", "before", 7]))`)
	do(t, tab, chromedp.Navigate(s.url+"/?"+url.Values{"room": {image}}.Encode()))
	see(t, tab, visible("#nowhere"))
	shows("#asked", image)
	see(t, tab, `document.querySelector('#correct-name').value === 'img-src-x-onerror-document.body.dataset.ran-1' && document.activeElement.id === 'correct-name'`)
	noElements()
	do(t, tab, chromedp.Focus("#to-lobby"), chromedp.KeyEvent("\r"))
	see(t, tab, `document.body.dataset.state === 'open' && document.querySelector('#room').textContent === 'lobby' && document.activeElement.id === 'room'`)
	if got := script[[]string](t, tab, `[...document.querySelectorAll('#visited option')].map((option) => option.value)`); !slices.Equal(got, []string{"before"}) {
		t.Errorf("suggested rooms: got %q, want \"before\"", got)
	}
	noElements()

	answer, err := s.client.Get(s.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if policy := answer.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "script-src 'self';") || strings.Contains(policy, "unsafe-") {
		t.Errorf("got policy %q, want script-src 'self' and nothing unsafe", policy)
	}
}

// When users join and leave, the page keeps the row elements of the remaining members. Above the
// member limit, it lists no members.
func TestFiveHundred(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t)
	var leaves []func()
	for i, name := range names(449) {
		leaves = append(leaves, s.join(t, "hall", userClaims(fmt.Sprintf("user-%03d", i), name)))
	}
	s.visit(t, tab, userClaims("me", ""), "/?room=hall")
	see(t, tab, count(450))
	see(t, tab, `document.querySelectorAll('#members li').length === 450`)
	script[any](t, tab, `window.before = new Map([...document.querySelectorAll('#members li')].map((row) => [row.dataset.id, row])); 0`)
	nodes := script[int](t, tab, `document.querySelectorAll('*').length`)
	script[any](t, tab, `window.spoken = []; new MutationObserver(() => spoken.push(performance.now())).observe(document.querySelector('#spoken'), { childList: true }); 0`)
	for i := range 50 {
		leaves[i*9]()
		s.join(t, "hall", userClaims(fmt.Sprintf("late-%03d", i), "Late"))
	}
	see(t, tab, `document.querySelectorAll('#members [data-id^=late]').length === 50 && document.querySelectorAll('#members li').length === 450`)
	if got := script[int](t, tab, `[...document.querySelectorAll('#members li')].filter((row) => before.get(row.dataset.id) === row).length`); got != 400 {
		t.Errorf("%d of the 400 remaining members have their old row", got)
	}
	if got := script[int](t, tab, `document.querySelectorAll('*').length`); got != nodes {
		t.Errorf("the page has %d elements, want %d as before", got, nodes)
	}
	if got := script[string](t, tab, `document.querySelector('#members li .name').textContent + document.querySelector('#people-title').textContent`); got != "mePeople (450)" {
		t.Errorf("got %q, want the own row first and the title of 450 people", got)
	}
	if gaps := script[[]float64](t, tab, `spoken.slice(1).map((at, i) => at - spoken[i]).filter((gap) => gap < 4900)`); len(gaps) > 0 {
		t.Errorf("a screen reader announces the number again after %v ms, want at least 4900", gaps)
	}
	for i := range 51 {
		s.join(t, "hall", userClaims(fmt.Sprintf("more-%03d", i), "More"))
	}
	see(t, tab, visible("#crowd"))
	see(t, tab, `document.querySelectorAll('#members li').length === 0 && document.querySelector('#people-title').textContent === 'People (501)'`)
	see(t, tab, count(501))
}

// follow joins a room as a user. next waits for the next update of a member, or the next message,
// and returns it as text.
func (s *site) follow(t *testing.T, room string, user auth.Claims) (next func() string) {
	t.Helper()
	token, err := auth.Mint([]byte(secret), user)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{URL: s.url, Room: room, Token: client.StaticToken(token), HTTPClient: s.client})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	received := make(chan string, 100)
	ready := make(chan struct{})
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		for event, err := range c.Events(ctx) {
			if err != nil {
				return
			}
			switch value, _ := event.Value(); value := value.(type) {
			case client.Sync:
				close(ready)
			case client.Update:
				received <- fmt.Sprintf("%s %s", value.ID, value.Info)
			case client.Message:
				received <- fmt.Sprintf("message %s", value.Data)
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	<-ready
	return func() string {
		t.Helper()
		select {
		case text := <-received:
			return text
		case <-time.After(patience):
			t.Fatal("no further update or message")
			return ""
		}
	}
}

// The page marks a user without a visible tab as away after two seconds, and keeps the rest of the
// info of the user.
func TestAway(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	first := browser(t)
	next := s.follow(t, "studio", userClaims("watch", ""))
	me := userClaims("me", "Mira")
	me.Info = json.RawMessage(`{"desk":4}`)
	s.visit(t, first, me, "/?room=studio")
	see(t, first, `!document.hidden && document.querySelector('#members .me') !== null`)

	ctx, _ := chromedp.NewContext(first, chromedp.WithNewWindow(false)) // a tab that hides the first one, not a second window
	second := watched(t, ctx)
	see(t, first, `document.hidden`)
	if got := next(); got != `me {"desk":4,"status":"away"}` {
		t.Fatalf("with the tab hidden: got %s", got)
	}
	see(t, first, `document.querySelector('#members .me').dataset.status === 'away'`)
	do(t, second, chromedp.Navigate(s.url+"/?room=studio"))
	if got := next(); got != `me {"desk":4}` {
		t.Fatalf("with another tab in the room: got %s", got)
	}
	see(t, first, `document.querySelector('#members .me').dataset.status === ''`) // the first tab has received the update too
	front(t, first)
	see(t, second, `document.hidden`)
	// While one tab is visible, the page sends no update. The second tab sends a message after the
	// time at which it would send an update, and this message arrives first.
	script[any](t, second, `setTimeout(() => fetch("messages?room=studio", { method: "POST", headers: { "Content-Type": "text/plain" }, body: "later" }), 2500); 0`)
	if got := next(); got != `message "later"` {
		t.Fatalf("with one tab visible: got %s", got)
	}
}

// front moves a tab to the foreground.
func front(t *testing.T, tab context.Context) {
	t.Helper()
	if _, err := chromedp.Call(tab, page.BringToFront, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
}

// The page switches rooms without a reload, also with the back and forward buttons of the browser.
func TestRoomSwitch(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t)
	s.join(t, "kitchen", userClaims("ada", "Ada"))
	s.visit(t, tab, userClaims("me", "Mira"), "/?room=studio")
	see(t, tab, count(1))
	script[any](t, tab, `window.loaded = 1`)
	in := func(room string, n int) {
		t.Helper()
		see(t, tab, fmt.Sprintf(`loaded === 1 && document.querySelector('#room').textContent === %q && new URL(location).searchParams.get('room') === %[1]q
			&& document.body.dataset.state === 'open' && document.querySelectorAll('#members li').length === %d && %s`, room, n, count(n)))
	}
	s.send(t, "studio", userClaims("me", "Mira"), "message", "only here")
	see(t, tab, `document.querySelectorAll('#messages li').length === 1`)

	do(t, tab, chromedp.Click("#change"), chromedp.SendKeys("#room-name", "no room\r"))
	see(t, tab, `document.querySelector('#room-name-error').textContent.startsWith('“no room” cannot be a room name: it has a space.') && document.querySelector('#room-name').getAttribute('aria-invalid') === 'true'`)
	in("studio", 1)
	do(t, tab, chromedp.KeyEvent(kb.Escape))
	see(t, tab, `!document.querySelector('#switch').checkVisibility() && document.activeElement.id === 'change'`)

	do(t, tab, chromedp.Click("#change"), chromedp.SendKeys("#room-name", "kitchen\r"))
	in("kitchen", 2)
	see(t, tab, `document.querySelectorAll('#messages li').length === 0 && [...document.querySelectorAll('#visited option')].some(({ value }) => value === 'studio')`)
	script[any](t, tab, `history.back()`)
	in("studio", 1)
	script[any](t, tab, `history.forward()`)
	in("kitchen", 2)
}

// An admin sees the rooms in use, can visit each of them, also one that its token does not name,
// and can remove a user from a room.
func TestKick(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t)
	ann := userClaims("ann/ä <x>?", "Ann")
	s.join(t, "studio", ann)
	s.join(t, "kitchen", userClaims("ada", "Ada"))
	root := auth.Claims{Sub: "root", Name: "Root", Join: []string{"none"}, Admin: true}
	s.visit(t, tab, root, "/?room=studio")
	see(t, tab, `[...document.querySelectorAll('#rooms li')].map((row) => row.textContent.trim().replace(/\s+/g, ' ')).join() === 'kitchen 1 connected 1 person,studio 2 connected 2 people'`)
	do(t, tab, chromedp.Click(`#members li:not(.me) .kick`))
	see(t, tab, visible("#removal"))
	do(t, tab, chromedp.KeyEvent(kb.Escape))
	see(t, tab, `!document.querySelector('#removal').open`)
	do(t, tab, chromedp.Click(`#members li:not(.me) .kick`), chromedp.Click(`#removal [value="1h"]`), chromedp.Click("#remove-now"))
	see(t, tab, `!document.querySelector('#removal').open && document.querySelectorAll('#members li').length === 1`)
	if answer := s.request(t, t.Context(), ann, "GET", "/presence?room=studio", ""); answer.StatusCode != http.StatusForbidden {
		t.Errorf("removed user: got %s, want 403", answer.Status)
	} else {
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if want := `for another 60 min"`; !strings.Contains(string(text), want) {
			t.Errorf("removed user: got %s, want %s", text, want)
		}
	}

	// An error stays in the dialog. A user that another admin has removed meanwhile is banned anew.
	s.join(t, "studio", userClaims("ben", "Ben"))
	see(t, tab, `document.querySelector('#members [data-id=ben]') !== null`)
	script[any](t, tab, `window.real = fetch; window.fetch = (url, options) => (options.method === "DELETE" ? Promise.resolve(Response.json({ detail: "no table" }, { status: 503 })) : real(url, options)); 0`)
	do(t, tab, chromedp.Click(`#members [data-id=ben] .kick`), chromedp.Click("#remove-now"))
	see(t, tab, `document.querySelector('#remove-error').textContent === 'No table.' && document.querySelector('#removal').open`)
	script[any](t, tab, `window.fetch = real; 0`)
	s.ask(t, root, "DELETE", "/members/ben?room=studio", "")
	see(t, tab, `document.querySelector('#removal').open && document.querySelectorAll('#members li').length === 1`)
	do(t, tab, chromedp.Click("#remove-now"))
	see(t, tab, `!document.querySelector('#removal').open`)

	// The row of the current room shows the number of the page at once.
	s.join(t, "studio", userClaims("cem", "Cem"))
	see(t, tab, count(2)+` && document.querySelector('#rooms li:has([aria-current])').textContent.includes('2 connected')`)
	do(t, tab, chromedp.Click(`#rooms [data-room=kitchen]`))
	see(t, tab, `document.querySelector('#room').textContent === 'kitchen' && document.querySelector('#rooms [aria-current=page]')?.textContent === 'kitchen'`)
	see(t, tab, count(2))
}

// The page distinguishes users with similar names by their IDs, in the list and in the removal
// dialog. It can remove a user whose ID is not valid as a path segment.
func TestNamesakes(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t)
	s.join(t, "studio", userClaims("ann-1", "Ann"))
	s.join(t, "studio", userClaims("ann-2", "ANN\u200b"))
	s.join(t, "studio", userClaims("..", "\u2800"))
	root := userClaims("root", "Root")
	root.Admin = true
	s.visit(t, tab, root, "/?room=studio")
	see(t, tab, `[...document.querySelectorAll('#members li')].map((li) => [li.dataset.id, li.querySelector('.name').textContent.replace('\u200b', ''), li.querySelector('.id').checkVisibility()].join()).sort().join(' ') ===
		'..,..,false ann-1,Ann,true ann-2,ANN,true root,Root,false'`)
	do(t, tab, chromedp.Click(`#members [data-id=ann-2] .kick`))
	see(t, tab, `document.querySelector('#removal').open && document.querySelector('#whose').textContent === 'ann-2'`)
	do(t, tab, chromedp.Click("#remove-now"))
	see(t, tab, `!document.querySelector('#removal').open && document.querySelector('[data-id=ann-2]') === null`)
	// The ids remain visible as long as the page shows that a namesake was removed.
	see(t, tab, `document.querySelector('#notices .id').textContent === 'ann-2' && document.querySelector('#members [data-id=ann-1] .id').checkVisibility()`)
	do(t, tab, chromedp.Click("#notices .dismiss"))
	see(t, tab, `!document.querySelector('#members [data-id=ann-1] .id').checkVisibility()`)
	do(t, tab, chromedp.Click(`#members [data-id=".."] .kick`), chromedp.Click("#remove-now"))
	see(t, tab, `!document.querySelector('#removal').open && document.querySelector('[data-id=".."]') === null`)
}

// The room list shows 100 rooms per page.
func TestRooms(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t)
	root := userClaims("root", "Root")
	root.Admin = true
	for i := range 102 {
		s.join(t, fmt.Sprintf("room-%03d", i), userClaims("ada", "Ada"))
	}
	do(t, tab, chromedp.EmulateViewport(1440, 900)) // a low window has no space for the rooms
	s.visit(t, tab, root, "/?room=room-000")
	shows := func(rows int, first string, more, back bool) {
		t.Helper()
		see(t, tab, fmt.Sprintf(`document.querySelectorAll('#rooms li').length === %d && document.querySelector('#rooms a').textContent === %q
			&& document.querySelector('#rooms-next').checkVisibility() === %t && document.querySelector('#rooms-first').checkVisibility() === %t`, rows, first, more, back))
	}
	shows(100, "room-000", true, false)
	do(t, tab, chromedp.Click("#rooms-next"))
	shows(2, "room-100", false, true)
	do(t, tab, chromedp.Click("#rooms-first"))
	shows(100, "room-000", true, false)
	if link := script[string](t, tab, `document.querySelector('#rooms a').getAttribute('href')`); link != "?room=room-000" {
		t.Errorf("link of the first room: got %q, want \"?room=room-000\"", link)
	}
}

// The plot shows the counts of the last five minutes, including the time during which the page was
// hidden. The page has no animations for a user that prefers reduced motion.
func TestPlot(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t)
	if _, err := chromedp.Call(tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: skipping}); err != nil {
		t.Fatal(err)
	}
	scheme(t, tab, false)
	s.visit(t, tab, userClaims("me", "Mira"), "/?room=studio")
	label := func(text string) {
		t.Helper()
		see(t, tab, fmt.Sprintf(`document.querySelector('#plot').getAttribute('aria-label') === 'Connected, last 5 minutes: %s'`, text))
	}
	see(t, tab, count(1))
	script[any](t, tab, `skip(20)`)
	label("1 throughout")
	starts := func(text string) {
		t.Helper()
		see(t, tab, fmt.Sprintf(`document.querySelector('#plot').checkVisibility() && document.querySelector('#plot .axis').textContent === %q`, text))
	}
	starts("20 s ago")
	see(t, tab, `document.querySelector('#spoken').textContent === '1 connected' && /^Server answers in \d+ ms$/.test(document.querySelector('#latency').textContent)`)
	script[any](t, tab, `skip(60)`)
	leave := s.join(t, "studio", userClaims("ada", "Ada"))
	s.join(t, "studio", userClaims("ada", "Ada"))
	label("between 1 and 3")
	script[any](t, tab, `skip(60)`)
	leave()
	see(t, tab, count(2))
	// The line rises by two, stays level for a minute, falls by one, and ends at the current time.
	see(t, tab, `(() => {
		const points = document.querySelector('#plot .line').getAttribute('d').slice(1).split('L').map((point) => point.split(' ').map(Number));
		const [first, last] = [points[0], points.at(-1)];
		const [top, bottom] = [Math.min(...points.map(([, y]) => y)), Math.max(...points.map(([, y]) => y))];
		return first[1] === bottom && Math.abs(last[1] - (top + bottom) / 2) < .2 && points.every(([x], i) => i === 0 || x >= points[i - 1][0])
			&& document.querySelector('#plot .end').getAttribute('cx') === String(last[0])
			&& [...document.querySelectorAll('#plot .bound')].map(({ textContent }) => textContent).join() === '3,0';
	})()`)
	if n := script[int](t, tab, `document.getAnimations().length`); n != 0 {
		t.Errorf("%d animations run, want none", n)
	}
	starts("2 min ago")
	script[any](t, tab, `skip(270)`)
	starts("5 min ago")
	label("between 2 and 3") // the plot no longer shows the first minutes
	script[any](t, tab, `skip(300)`)
	label("2 throughout")
	for _, size := range [][2]int64{{1440, 900}, {768, 1024}, {360, 740}, {740, 360}} {
		do(t, tab, chromedp.EmulateViewport(size[0], size[1]))
		settle(t, tab)
		tops := script[[]float64](t, tab, `(() => {
			const [plot, people] = ["plot", "people"].map((id) => document.getElementById(id));
			const top = () => people.getBoundingClientRect().top;
			const tops = [plot.checkVisibility() ? top() : NaN];
			plot.setAttribute("hidden", "");
			tops.push(top());
			plot.removeAttribute("hidden");
			return tops;
		})()`)
		if tops[0] != tops[1] {
			t.Errorf("%d x %d px: the people are at %v px with the plot, and at %v px without", size[0], size[1], tops[0], tops[1])
		}
	}
}

// The page keeps at most 200 messages. If the user has scrolled up, a new message does not change
// the scroll position.
func TestMessages(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t, "--message-burst=1000")
	tab := browser(t, "status of 403") // the user may not send
	me := userClaims("me", "Mira")
	me.Send = nil
	s.visit(t, tab, me, "/?room=studio")
	ada := userClaims("ada", "Ada")
	for i := range 210 {
		s.send(t, "studio", ada, "message", fmt.Sprint("message ", i))
	}
	see(t, tab, `document.querySelector('#messages').lastElementChild?.textContent.includes('message 209')`)
	if got := script[[]int](t, tab, `[document.querySelectorAll('#messages li').length, document.querySelectorAll('#messages li:not(.again)').length, document.querySelectorAll('#messages *').length / 200]`); got[0] != 200 || got[1] != 1 || got[2] > 8 {
		t.Errorf("rows, rows with a name, elements per row: got %d, want 200, 1, at most 8", got)
	}
	see(t, tab, `(({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight < 2)(document.querySelector('#log'))`)
	script[any](t, tab, `document.querySelector('#log').scrollTop = 40`)
	settle(t, tab)
	s.send(t, "studio", ada, "message", "the newest")
	see(t, tab, visible("#more"))
	if top := script[float64](t, tab, `document.querySelector('#log').scrollTop`); top > 60 {
		t.Errorf("the log scrolled from 40 to %v", top)
	}
	do(t, tab, chromedp.EmulateViewport(1280, 720))
	settle(t, tab)
	for _, wrong := range script[[]string](t, tab, layout) {
		t.Error(wrong)
	}
	do(t, tab, chromedp.Click("#more"))
	see(t, tab, `!document.querySelector('#more').checkVisibility() && (({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight < 2)(document.querySelector('#log'))`)

	// The input box grows in the frame of a scroll event, as if the keyboard of a phone appears.
	for range 2 {
		script[any](t, tab, `document.querySelector('#log').scrollTop -= 1; document.querySelector('#message').style.minHeight = '200px'; document.querySelector('#message').style.maxHeight = '200px'; 0`)
		settle(t, tab)
		see(t, tab, `!document.querySelector('#more').checkVisibility() && (({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight < 2)(document.querySelector('#log'))`)
		script[any](t, tab, `document.querySelector('#message').removeAttribute('style')`)
		settle(t, tab)
	}

	// Send a message that would be gigabytes as indented text, one that is nested too deeply for a
	// script, and one from the server.
	s.send(t, "studio", ada, "message", json.RawMessage(strings.Repeat("[", 1500)+strings.Repeat("0,", 28_500)+"0"+strings.Repeat("]", 1500)))
	s.send(t, "studio", ada, "message", json.RawMessage(strings.Repeat("[", 9900)+strings.Repeat("]", 9900)))
	root := userClaims("root", "From the server")
	root.Admin = true
	s.send(t, "studio", root, "message", "good evening")
	see(t, tab, `(([wide, deep, last]) => [wide, deep].every((li) => li.querySelector('.text').textContent.length <= 601 && !li.querySelector('.server').checkVisibility()
		&& /Show all|too deeply/.test(li.querySelector('.whole, .note').textContent) && li.querySelector('.by').textContent.startsWith('From Ada'))
		&& last.textContent.includes('good evening') && last.querySelector('.server').checkVisibility() && !last.querySelector('.name').checkVisibility() && !last.querySelector('.from').checkVisibility()
	)([...document.querySelectorAll('#messages li')].slice(-3))`)

	do(t, tab, chromedp.SendKeys("#message", "may I?\r"))
	see(t, tab, `document.querySelector('#send-error').textContent.startsWith('Not sent: ') && document.querySelector('#message').value === 'may I?'`)
}

// The page keeps a message that could not be sent, even if its sender has signed out in the
// meantime.
func TestUnsent(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t)
	s.visit(t, tab, userClaims("me", "Mira"), "/?room=studio")
	script[any](t, tab, `window.real = fetch; window.fetch = (url, options) => (String(url).includes("messages")
		? new Promise((done) => { window.refuse = () => done(Response.json({ detail: "no" }, { status: 403 })); }) : real(url, options)); 0`)
	do(t, tab, chromedp.SendKeys("#message", "long thought over\r"))
	see(t, tab, `'refuse' in window`)
	do(t, tab, chromedp.Click("#sign-out"))
	see(t, tab, visible("#token"))
	script[any](t, tab, `refuse(); 0`)
	see(t, tab, `document.querySelector('#message').value === 'long thought over'`)

	// Several messages fail, while the user writes another one. They keep their order.
	s.visit(t, tab, userClaims("me", "Mira"), "/?room=studio")
	script[any](t, tab, `window.real = fetch; window.fetch = (url, options) => (options.method === "POST"
		? new Promise((done) => { window.refuse = () => { delete window.refuse; done(Response.json({ detail: "no" }, { status: 400 })); }; }) : real(url, options)); 0`)
	do(t, tab, chromedp.SendKeys("#message", "one\rtwo\rthree"))
	for _, want := range []string{`one\nthree`, `one\ntwo\nthree`} {
		see(t, tab, `'refuse' in window`)
		script[any](t, tab, `refuse(); 0`)
		see(t, tab, fmt.Sprintf(`document.querySelector('#message').value === '%s'`, want))
	}
}

// The page asks for a token if the server does not let users sign in with a name. It asks again
// after the token has expired.
func TestTokenForm(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t, "status of 401") // the token may expire during a request
	do(t, tab, chromedp.Navigate(s.url))
	see(t, tab, visible("#token"))
	short := userClaims("me", "Mira")
	short.TTL = sized(3*time.Second, 10*time.Second, 10*time.Second) // long enough for the page to join and show the warning
	token, err := auth.Mint([]byte(secret), short)
	if err != nil {
		t.Fatal(err)
	}
	script[any](t, tab, fmt.Sprintf(`document.querySelector('#token').value = %q`, token)) // typing the token would take as long as its lifetime
	do(t, tab, chromedp.SendKeys("#token", "\r"))
	see(t, tab, `/^Live, your access ends at \d/.test(document.querySelector('#state').textContent) && document.body.dataset.reason === 'expiring' && document.querySelector('#renew').checkVisibility()`)
	idle(t, func() {
		see(t, tab, visible("#token")+` && document.querySelector('#state').textContent === 'Your token has expired' && document.querySelector('#ended').textContent === 'Your token has expired.'`)
	})
}

// A user whose token expires soon can use a new one, and remains in the room.
func TestRenewToken(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t, "status of 401") // the token may expire during a request
	me := userClaims("me", "Mira")
	me.TTL = sized(10*time.Second, 20*time.Second, 20*time.Second) // time to use the form
	s.visit(t, tab, me, "/?room=studio")
	s.send(t, "studio", userClaims("ada", "Ada"), "message", "before")
	see(t, tab, texts("before"))
	see(t, tab, visible("#renew"))
	script[any](t, tab, `window.row = document.querySelector('#members .me'); 0`)
	do(t, tab, chromedp.Click("#renew"))
	see(t, tab, visible("#token")+` && document.activeElement.id === 'token' && document.body.dataset.state === 'open' && document.querySelector('#question').textContent === 'Use a new token' && /^Your access ends at /.test(document.querySelector('#lede').textContent)`)
	do(t, tab, chromedp.Click("#to-room"))
	see(t, tab, visible("#live")+` && document.querySelector('#renew').checkVisibility()`)
	do(t, tab, chromedp.Click("#renew"))
	me.TTL = time.Hour
	token, err := auth.Mint([]byte(secret), me)
	if err != nil {
		t.Fatal(err)
	}
	script[any](t, tab, fmt.Sprintf(`document.querySelector('#token').value = %q`, token))
	do(t, tab, chromedp.SendKeys("#token", "\r"))
	see(t, tab, visible("#live")+` && document.querySelector('#state').textContent === 'Live' && !document.querySelector('#renew').checkVisibility() && row.isConnected && document.activeElement.id === 'message'`)
	see(t, tab, texts("before"))
}

// If GET /session returns 404, the page joins, and detects from the response whether the user is
// signed in.
func TestNoSession(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t, "--dev")
	tab := browser(t, "status of 401") // by which the page detects that no user is signed in
	const without = `{
		const real = fetch;
		window.asked = 0;
		window.fetch = (url, options) => (url === "session" && options.method === "GET" ? (asked++, Promise.resolve(new Response(null, { status: 404 }))) : real(url, options));
	}`
	if _, err := chromedp.Call(tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: without}); err != nil {
		t.Fatal(err)
	}
	signIn(t, tab, s.url, "Ann")
	see(t, tab, count(1))
	see(t, tab, `document.body.dataset.state === 'open' && document.querySelectorAll('#members li').length === 1 && asked === 1`)
}

// With share=1, the tabs of a browser share one connection.
func TestShare(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	first := browser(t)
	s.join(t, "studio", userClaims("ada", "Ada"))
	s.visit(t, first, userClaims("me", "Mira"), "/?room=studio&share=1")
	see(t, first, count(2))
	see(t, first, `document.querySelector('#shared').textContent === 'One connection for all tabs, in this tab'`)
	second, _ := tab(t, first)
	do(t, second, chromedp.Navigate(s.url+"/?room=studio&share=1"))
	see(t, second, count(2))
	see(t, second, `document.querySelector('#shared').textContent === 'One connection for all tabs, in another tab'
		&& document.querySelector('#persons').textContent === '2 people'`)
	see(t, first, count(2))
}
