package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// The page marks an admin, and shows that the messages of an admin appear as from the server. It
// marks the ones that it has sent itself.
func TestAdminMark(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t)
	s.visit(t, tab, userClaims("me", "Mira"), "/?room=studio")
	marks := func(want string) {
		t.Helper()
		see(t, tab, fmt.Sprintf(`document.querySelectorAll('#members li').length > 0 && [
			'#me-admin', '#members .me .admin', '#speaks', '#members li:not(.me) .admin',
		].map((selector) => document.querySelector(selector)?.checkVisibility() === true).join() + ' ' + document.querySelector('label[for=message]').textContent === %q`, want))
	}
	marks("false,false,false,false Message")
	root := userClaims("root", "Root")
	root.Admin = true
	s.join(t, "studio", userClaims("ada", "Ada"))
	s.visit(t, tab, root, "/?room=studio")
	marks("true,true,true,false Message as the server")
	// The badge and the missing button of the own row change neither its height nor its columns.
	do(t, tab, chromedp.EmulateViewport(1440, 900))
	see(t, tab, `document.querySelectorAll('#members .kick').length === 1`)
	rows := script[[][3]float64](t, tab, `[...document.querySelectorAll('#members li')].map((row) => [row.offsetHeight, ...['.since', '.tabs'].map((part) => row.querySelector(part).getBoundingClientRect().right)])`)
	if len(rows) != 2 || rows[0] != rows[1] {
		t.Errorf("height of each row, and right edges of its columns: got %v, want two equal rows", rows)
	}
	s.send(t, "studio", root, "message", "from elsewhere")
	see(t, tab, `document.querySelectorAll('#messages li').length === 1`)
	do(t, tab, chromedp.SendKeys("#message", "from here\r"))
	see(t, tab, `[...document.querySelectorAll('#messages li')].map((row) => [row.querySelector('.text').textContent, row.querySelector('.server').checkVisibility(), row.querySelector('.you').checkVisibility(), row.matches('.again')].join()).join(' ')
		=== 'from elsewhere,true,false,false from here,true,true,false'`)
}

// In a narrow list, a long id and a long status have lines of their own, so that the name keeps its
// width. A tooltip, a tap and the keyboard focus of the list show the whole texts.
func TestNarrowTexts(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t)
	const long = "4c1f9a83-0d6e-4b7c-9b5a-5e2f7d3c8a10-4c1f9a83-0d6e-4b7c-9b5a-5e2f7d3c8a10"
	s.join(t, "studio", userClaims("ada", "Ada Okafor"))
	s.join(t, "studio", userClaims(long, "ADA Okafor"))
	s.join(t, "studio", userClaims("wide", strings.Repeat("Wide", 25)))
	s.state(t, "studio", userClaims("wide", ""), `{"status":"in a long call with the printers until noon"}`)
	s.visit(t, tab, userClaims("me", strings.Repeat("Mira", 25)), "/?room=studio")
	see(t, tab, `document.querySelectorAll('#members li').length === 4`)
	cut := func(selector string) string {
		return fmt.Sprintf(`((element) => element.scrollWidth > element.clientWidth)(document.querySelector(%q))`, selector)
	}
	row := func(id, part string) string { return fmt.Sprintf(`[data-id="%s"] %s`, id, part) }
	do(t, tab, chromedp.EmulateViewport(320, 800), chromedp.Click("#open-people"))
	for _, width := range []int64{320, 900} {
		do(t, tab, chromedp.EmulateViewport(width, 800))
		settle(t, tab)
		for selector, want := range map[string]bool{
			row(long, ".id"): true, row(long, ".name"): false, row("ada", ".name"): false, row("wide", ".name"): true, "#me": true,
		} {
			if got := script[bool](t, tab, cut(selector)); got != want {
				t.Errorf("%d px wide: %s is truncated: %t, want %t", width, selector, got, want)
			}
			if !script[bool](t, tab, fmt.Sprintf(`((element) => element.title === element.textContent)(document.querySelector(%q))`, selector)) {
				t.Errorf("%s has no tooltip with its text", selector)
			}
		}
		if !script[bool](t, tab, fmt.Sprintf(`((name, tabs) => Math.abs(name.bottom - tabs.bottom) < 10)(...%q.split("|").map((selector) => document.querySelector(selector).getBoundingClientRect()))`, row(long, ".name")+"|"+row(long, ".tabs"))) {
			t.Errorf("%d px wide: a long id moves the facts away from the line of the name", width)
		}
		if got := script[float64](t, tab, `document.querySelector('[data-id=wide] .name').clientWidth`); got < 60 {
			t.Errorf("%d px wide: a name beside a status has %v px, want 60 or more", width, got)
		}
	}
	for _, selector := range []string{row(long, ".id"), row("wide", ".name"), "#me"} {
		do(t, tab, chromedp.Click(selector))
		see(t, tab, "!"+cut(selector))
		do(t, tab, chromedp.Click(selector))
		see(t, tab, cut(selector))
	}
	script[any](t, tab, `document.querySelector('#set-status').focus()`)
	do(t, tab, chromedp.KeyEvent(kb.Tab))
	see(t, tab, `document.activeElement.id === 'members' && !`+cut(row(long, ".id"))+` && !`+cut(row("wide", ".name")))
	for _, wrong := range script[[]string](t, tab, layout) {
		t.Error(wrong)
	}
}

// Users set their own status. The other fields of the info remain. "away" replaces the status while
// the page is hidden.
func TestStatus(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	first := browser(t, "status of 413")
	next := s.follow(t, "studio", userClaims("watch", ""))
	me := userClaims("me", "Mira")
	me.Info = json.RawMessage(`{"desk":4}`)
	s.visit(t, first, me, "/?room=studio")
	updates := func(when, want string) {
		t.Helper()
		if got := next(); got != want {
			t.Fatalf("%s: got %s, want %s", when, got, want)
		}
	}
	set := func(text string) {
		t.Helper()
		do(t, first, chromedp.Click("#set-status"))
		see(t, first, `document.activeElement.id === 'status-text'`)
		do(t, first, chromedp.KeyEvent(text))
	}
	closed := func(status string) {
		t.Helper()
		see(t, first, fmt.Sprintf(`!document.querySelector('#own-status').checkVisibility() && document.activeElement.id === 'set-status' && document.querySelector('#members .me .status').textContent === %q`, status))
	}
	set(" at lunch \r")
	updates("set", `me {"desk":4,"status":"at lunch"}`)
	closed("at lunch")
	set("not this one" + kb.Escape)
	closed("at lunch")

	ctx, _ := chromedp.NewContext(first, chromedp.WithNewWindow(false)) // a tab that hides the first one
	second := watched(t, ctx)
	updates("hidden", `me {"desk":4,"status":"away"}`)
	// The second tab was opened while the status was "away", and has to know the one before.
	do(t, second, chromedp.Navigate(s.url+"/?room=studio"))
	updates("in a second tab", `me {"desk":4,"status":"at lunch"}`)
	see(t, first, `document.querySelector('#members .me .status').textContent === 'at lunch'`) // it would set the status too
	front(t, first)
	see(t, first, `!document.hidden`)

	set("Away\r")
	see(t, first, `document.querySelector('#status-error').textContent.includes('by itself')`)
	do(t, first, chromedp.KeyEvent(kb.Escape))
	closed("at lunch")
	do(t, first, chromedp.Click("#set-status"))
	see(t, first, `document.querySelector('#status-text').value === 'at lunch'`)
	script[any](t, first, `document.querySelector('#status-text').value = ''`)
	do(t, first, chromedp.Click("#status-save"))
	updates("cleared", `me {"desk":4}`)
	closed("")

	s.state(t, "studio", me, fmt.Sprintf(`{"notes":%q}`, strings.Repeat("x", 1000)))
	next()
	see(t, first, `document.querySelector('#members .me') !== null`)
	set(strings.Repeat("long", 20) + "\r")
	see(t, first, `document.querySelector('#status-error').textContent === 'Not set: your status and your other details take more than 1024 bytes. Choose a shorter one.' && document.querySelector('#own-status').checkVisibility()`)

	// Info that is not an object cannot hold a status.
	s.state(t, "studio", me, `"text"`)
	see(t, first, `!document.querySelector('#set-status').checkVisibility() && !document.querySelector('#own-status').checkVisibility()`)
}

// A removal can be taken back while it lasts.
func TestUndoRemoval(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t, "status of 404", "status of 503")
	do(t, tab, chromedp.EmulateViewport(1440, 900))
	root := userClaims("root", "Root")
	root.Admin = true
	ann, ben := userClaims("ann/ä?", "Ann"), userClaims("ben", "Ben")
	s.join(t, "studio", ann)
	s.join(t, "studio", ben)
	s.visit(t, tab, root, "/?room=studio")
	remove := func(id, name string) {
		t.Helper()
		do(t, tab, chromedp.Click(fmt.Sprintf(`#members [data-id=%q] .kick`, id)), chromedp.Click("#remove-now"))
		see(t, tab, fmt.Sprintf(`!document.querySelector('#removal').open && document.querySelector('#removed').textContent === '%s was removed for 1 minute.' && document.activeElement.matches('#notices li:last-child .undo')`, name))
	}
	status := func(user string, want int) {
		t.Helper()
		claims := userClaims(user, "")
		answer := s.request(t, t.Context(), claims, "GET", "/presence?room=studio", "")
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: got %s, want %d", user, answer.Status, want)
		}
	}
	notices := func(want string) {
		t.Helper()
		see(t, tab, fmt.Sprintf(`[...document.querySelectorAll('#notices li')].map((row) => row.querySelector('p').textContent + ' ' + row.querySelector('.undo').checkVisibility()).join() === %q`, want))
	}
	remove("ann/ä?", "Ann")
	remove("ben", "Ben")
	notices("Ann (ann/ä?) was removed for 1 minute. true,Ben (ben) was removed for 1 minute. true")
	status("ben", http.StatusForbidden)
	do(t, tab, chromedp.Click("#notices li:nth-child(2) .undo"))
	notices("Ann (ann/ä?) was removed for 1 minute. true,Ben (ben) may come in again. false")
	see(t, tab, `document.querySelector('#removed').textContent === 'Ben may come in again.' && document.activeElement.matches('li:nth-child(2) .dismiss')`)
	status("ben", http.StatusOK)
	do(t, tab, chromedp.KeyEvent("\r")) // dismisses it
	notices("Ann (ann/ä?) was removed for 1 minute. true")
	see(t, tab, `document.activeElement.matches('#notices li .dismiss')`)

	// The notice shows an error, and is shown in its own room only.
	script[any](t, tab, `window.real = fetch; window.fetch = (url, options) => (options.method === "DELETE" ? Promise.resolve(Response.json({ detail: "no table" }, { status: 503 })) : real(url, options)); 0`)
	do(t, tab, chromedp.Click("#notices .undo"))
	notices("Ann (ann/ä?) is still removed: no table. true")
	script[any](t, tab, `window.fetch = real; 0`)
	do(t, tab, chromedp.Click("#change"), chromedp.SendKeys("#room-name", "kitchen\r"))
	see(t, tab, `document.querySelector('#room').textContent === 'kitchen'`)
	notices("")
	s.join(t, "kitchen", userClaims("cat", "Cat"))
	see(t, tab, visible(`#members [data-id=cat] .kick`))
	remove("cat", "Cat") // the focus is on the button Undo
	do(t, tab, chromedp.Click("#notices .dismiss"))
	notices("")
	see(t, tab, `document.activeElement.id === 'members'`)
	script[any](t, tab, `history.back()`)
	notices("Ann (ann/ä?) is still removed: no table. true")
	s.ask(t, root, "DELETE", "/bans?room=studio&id=ann%2F%C3%A4%3F", "") // by another admin
	do(t, tab, chromedp.Click("#notices .undo"))
	notices("Ann (ann/ä?) may come in again. false")
}

// If the element with the focus disappears, the focus moves to a similar one nearby.
func TestFocusStays(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t, "--message-burst=1000")
	tab := browser(t)
	do(t, tab, chromedp.EmulateViewport(1440, 900)) // a low window has no space for the rooms
	root := userClaims("root", "Root")
	root.Admin = true
	leaves := map[string]func(){}
	for _, id := range []string{"ann", "ben", "cat", "dan"} {
		leaves[id] = s.join(t, "studio", userClaims(id, id))
	}
	leaveKitchen := s.join(t, "kitchen", userClaims("ada", "Ada"))
	s.visit(t, tab, root, "/?room=studio")
	focused := func(want string) {
		t.Helper()
		see(t, tab, fmt.Sprintf(`document.activeElement.matches(%q)`, want))
	}
	focus := func(selector string) {
		t.Helper()
		see(t, tab, visible(selector))
		script[any](t, tab, fmt.Sprintf(`document.querySelector(%q).focus()`, selector))
		focused(selector)
	}
	focus("[data-id=ben] .kick")
	leaves["ben"]()
	focused("[data-id=cat] .kick")
	leaves["cat"]()
	focused("[data-id=dan] .kick")
	s.join(t, "studio", userClaims("eve", "Zoe"))
	focus("[data-id=eve] .kick")
	s.join(t, "studio", userClaims("zed", "Abe"))
	see(t, tab, `document.querySelector('[data-id=zed]') !== null`)
	focused("[data-id=eve] .kick")

	// After a removal, the dialog gives the focus to the button that takes it back.
	do(t, tab, chromedp.Click("[data-id=dan] .kick"), chromedp.Click("#remove-now"))
	see(t, tab, `!document.querySelector('#removal').open`)
	focused("#notices .undo")
	do(t, tab, chromedp.Click("[data-id=eve] .kick"), chromedp.KeyEvent(kb.Escape))
	focused("[data-id=eve] .kick")
	for _, id := range []string{"ann", "eve", "zed"} {
		s.ask(t, root, "DELETE", "/members/"+id+"?room=studio", "")
	}
	focused("#members")

	focus("#rooms [data-room=kitchen]")
	leaveKitchen()
	focused("#rooms [data-room=studio]")

	for i := range 120 {
		s.send(t, "studio", userClaims("ada", "Ada"), "message", fmt.Sprint(i))
	}
	s.visit(t, tab, root, "/?room=studio")
	focus("#earlier")
	do(t, tab, chromedp.KeyEvent("\r"))
	see(t, tab, `document.querySelectorAll('#messages li').length === 100`)
	focused("#log")
}

// targets is a script that returns the controls that are smaller than 44 CSS pixels.
const targets = `[...document.querySelectorAll('button, a, input, textarea, label:has(input)')].filter((element) => {
	if (element.matches('[type=radio]') || !element.checkVisibility({ visibilityProperty: true }) || (document.querySelector('dialog[open]') && !element.closest('dialog'))) return false;
	const { width, height } = element.getBoundingClientRect();
	return width < 43.99 || height < 43.99;
}).map((element) => element.outerHTML.slice(0, 100) + " " + JSON.stringify(element.getBoundingClientRect()))`

// At a width of 320 pixels, each control is at least 44 pixels wide and high, and nothing is wider
// than the page. axe-core reports no violation.
func TestSmallScreen(t *testing.T) {
	t.Parallel()
	heavy(t)
	axe, err := os.ReadFile(filepath.Join("..", "..", "web", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal("axe-core is required (.ci/setup installs it): ", err)
	}
	s := newSite(t, "--dev", "--message-burst=1000")
	tab := browser(t, "status of 403")
	do(t, tab, chromedp.EmulateViewport(320, 640))
	fits := func(view string) {
		t.Helper()
		settle(t, tab)
		for _, wrong := range script[[]string](t, tab, targets) {
			t.Errorf("%s: smaller than 44 px: %s", view, wrong)
		}
		for _, wrong := range script[[]string](t, tab, `[...document.querySelectorAll('#messages .text')].filter((e) => e.scrollHeight > e.clientHeight || e.tabIndex === 0).map((e) => e.textContent)`) {
			t.Errorf("%s: a short message scrolls: %s", view, wrong)
		}
		for _, wrong := range script[[]string](t, tab, reachable) {
			t.Errorf("%s: %s", view, wrong)
		}
		for _, wrong := range script[[]string](t, tab, layout) {
			if !strings.Contains(wrong, "“New messages”") { // the button floats above the messages
				t.Errorf("%s: %s", view, wrong)
			}
		}
		script[any](t, tab, string(axe)+";0")
		for _, wrong := range script[[]string](t, tab, `axe.run().then(({ violations }) => violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => id + ": " + html.slice(0, 200))))`) {
			t.Errorf("%s: %s", view, wrong)
		}
	}
	do(t, tab, chromedp.Navigate(s.url))
	see(t, tab, visible("#name"))
	fits("the sign-in form")
	script[any](t, tab, `document.querySelector('#guest').hidden = true; document.querySelector('#bearer').hidden = false`)
	fits("the token form")
	do(t, tab, chromedp.Navigate(s.url+"/?room=no%20room"))
	see(t, tab, visible("#nowhere"))
	fits("a room with an invalid name")

	ada := userClaims("ada", "Ada Okafor")
	for i := range 60 {
		s.send(t, "studio", ada, "message", fmt.Sprint("message ", i))
	}
	s.send(t, "studio", ada, "message", "See https://example.com/"+strings.Repeat("long/", 30)+" and http://localhost.\nBye: http://localhost")
	s.join(t, "studio", ada)
	s.join(t, "studio", userClaims("4c1f9a83-0d6e-4b7c-9b5a-5e2f7d3c8a10", "ADA Okafor"))
	s.join(t, "studio", userClaims("w", strings.Repeat("Wide", 30)))
	s.join(t, strings.Repeat("long-room-", 12), ada)
	reader := userClaims("me", "Mira Lindqvist")
	reader.Send = nil
	s.visit(t, tab, reader, "/?room=studio")
	see(t, tab, `document.querySelectorAll('#messages li').length === 50`)
	do(t, tab, chromedp.Click("#change"), chromedp.Click("#set-status"), chromedp.SendKeys("#message", "may I?\r"))
	see(t, tab, `document.querySelector('#message').readOnly`)
	fits("a room, with all forms open, without the right to send")
	script[any](t, tab, `document.querySelector('#log').scrollTop = 0`)
	settle(t, tab)
	s.send(t, "studio", ada, "message", "newest")
	see(t, tab, visible("#more"))
	fits("earlier and newer messages")

	root := userClaims("root", "Root")
	root.Admin = true
	s.state(t, "studio", userClaims("w", ""), `{"status":"in a long call with the printers until noon"}`)
	s.visit(t, tab, root, "/?room=studio")
	see(t, tab, `document.querySelectorAll('#rooms li').length === 2 && document.querySelectorAll('.kick').length === 3`)
	fits("an admin's view with closed lists")
	if script[bool](t, tab, `document.querySelector('#members').checkVisibility() || document.querySelector('#rooms').checkVisibility()`) {
		t.Error("a list is open before the user opens it")
	}
	do(t, tab, chromedp.Click("#open-rooms"))
	see(t, tab, visible("#rooms")+` && !document.querySelector('#members').checkVisibility() && document.querySelector('#open-rooms').ariaExpanded === 'true'`)
	fits("the list of rooms")
	do(t, tab, chromedp.Click("#open-people"))
	see(t, tab, visible("#members")+` && !document.querySelector('#rooms').checkVisibility() && document.querySelector('#open-rooms').ariaExpanded === 'false'`)
	fits("the list of people")
	do(t, tab, chromedp.Click("[data-id=ada] .kick"))
	see(t, tab, visible("#removal"))
	fits("the dialog that removes a user")
	do(t, tab, chromedp.Click("#remove-now"))
	see(t, tab, `document.querySelector('#notices li') !== null && !document.querySelector('#removal').open`)
	script[any](t, tab, `document.querySelector('#rooms-next').hidden = document.querySelector('#rooms-first').hidden = false`)
	fits("an admin's view")
	do(t, tab, chromedp.Click("#open-rooms"))
	see(t, tab, visible("#rooms"))
	fits("the pages of rooms")
	see(t, tab, `document.querySelector('#notices').getBoundingClientRect().bottom <= document.querySelector('#all').getBoundingClientRect().top`)
	script[any](t, tab, `document.querySelector('#open-rooms').click(); document.querySelector('#notices .dismiss').focus()`)
	do(t, tab, chromedp.KeyEvent("\r"))
	see(t, tab, `document.activeElement.id === 'open-people'`) // on a wide screen, it is the list
	s.visit(t, tab, root, "/?room="+strings.Repeat("long-room-", 12))
	fits("a room with a long name")
	if got := script[float64](t, tab, `document.querySelector('header').clientHeight`); got > 120 {
		t.Errorf("the header of a room with a long name is %v px high, want at most 120", got)
	}
}

// scrolled returns a script that reports whether the log is scrolled to its end.
const scrolled = `(({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight < 2)(document.querySelector('#log'))`

// texts returns a script that compares the texts of the messages.
func texts(want ...string) string {
	list, err := json.Marshal(want)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`JSON.stringify([...document.querySelectorAll('#messages .text')].map((e) => e.textContent)) === %q`, list)
}

// hide opens a tab in front of another one. show closes it.
func hide(t *testing.T, tab context.Context) (show func()) {
	t.Helper()
	ctx, cancel := chromedp.NewContext(tab, chromedp.WithNewWindow(false))
	watched(t, ctx)
	see(t, tab, `document.hidden`)
	return func() {
		t.Helper()
		cancel()
		front(t, tab)
		see(t, tab, `!document.hidden`)
	}
}
