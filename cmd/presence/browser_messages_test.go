package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// Enter sends a message, Shift+Enter starts a new line, and Enter that confirms a composed
// character does neither. The box grows up to six lines.
func TestComposer(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t, "--max-message=1024")
	tab := browser(t, "status of 413", "status of 403")
	do(t, tab, chromedp.EmulateViewport(1440, 900)) // in a low window, the box has fewer lines
	next := s.follow(t, "studio", userClaims("watch", ""))
	s.visit(t, tab, userClaims("me", "Mira"), "/?room=studio")
	sent := func(want string) {
		t.Helper()
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if got := next(); got != "message "+string(text) {
			t.Fatalf("got %s, want %q", got, want)
		}
		see(t, tab, fmt.Sprintf(`document.querySelector('#message').value === '' && document.querySelector('#messages li:last-child .text').innerText === %q`, want))
	}
	height := func() float64 { return script[float64](t, tab, `document.querySelector('#message').offsetHeight`) }
	one := height()
	do(t, tab, chromedp.SendKeys("#message", "first"), chromedp.KeyEvent("\r", chromedp.KeyModifiers(chromedp.ModifierShift)), chromedp.KeyEvent("second"))
	see(t, tab, `document.querySelector('#message').value === 'first\nsecond'`)
	if two := height(); two < one+20 || two > one+28 {
		t.Errorf("two lines are %v px high and one is %v px high, want a line more", two, one)
	}
	do(t, tab, chromedp.KeyEvent("\r"))
	sent("first\nsecond")
	if got := height(); got != one {
		t.Errorf("after sending, the box is %v px high, want %v", got, one)
	}
	// Pasted text keeps its lines. The box scrolls after six lines.
	const lines = "1\n2\n3\n\n5\n6\n7\n8\n9"
	if _, err := chromedp.Call(tab, input.InsertText, input.InsertTextParams{Text: lines}); err != nil {
		t.Fatal(err)
	}
	if got := height(); got < one+5*24-1 || got > one+5*24+1 {
		t.Errorf("nine lines are %v px high and one is %v px high, want five lines more", got, one)
	}
	do(t, tab, chromedp.KeyEvent("\r"))
	sent(lines)

	do(t, tab, chromedp.KeyEvent("  \r\r")) // blank messages are not sent
	if _, err := chromedp.Call(tab, input.ImeSetComposition, input.ImeSetCompositionParams{Text: "か", SelectionStart: 1, SelectionEnd: 1}); err != nil {
		t.Fatal(err)
	}
	// An input method handles the keys itself, so the test dispatches the event of its Enter key.
	script[any](t, tab, `document.querySelector('#message').dispatchEvent(new InputEvent("beforeinput", { inputType: "insertLineBreak", isComposing: true, bubbles: true, cancelable: true }))`)
	if _, err := chromedp.Call(tab, input.InsertText, input.InsertTextParams{Text: "か!"}); err != nil {
		t.Fatal(err)
	}
	do(t, tab, chromedp.KeyEvent("\r"))
	sent("  か!")

	// The server rejects a message that is too long. Then the page knows the limit.
	long := strings.Repeat("long ", 600)
	script[any](t, tab, `window.asked = 0; window.real = fetch; window.fetch = (...args) => { asked += args[1].method === "POST"; return real(...args); }; 0`)
	for range 2 {
		script[any](t, tab, fmt.Sprintf(`document.querySelector('#message').value = %q; document.querySelector('#message').focus()`, long))
		do(t, tab, chromedp.KeyEvent("\r"))
		see(t, tab, fmt.Sprintf(`asked === 1 && document.querySelector('#send-error').textContent === 'Not sent: the message is too long (3 KB, at most 1 KB).' && document.querySelector('#message').value === %q && document.querySelector('#message').ariaInvalid === 'true'`, long))
	}
	script[any](t, tab, `document.querySelector('#message').value = ''`)
	do(t, tab, chromedp.KeyEvent("short\r"))
	sent("short")
	see(t, tab, `document.querySelector('#send-error').textContent === '' && document.querySelector('#message').ariaInvalid === 'false'`)

	// Without the right to send, the text remains, and the box is read-only until the next room.
	reader := userClaims("reader", "Rosa")
	reader.Send = []string{"kitchen"}
	s.visit(t, tab, reader, "/?room=studio")
	do(t, tab, chromedp.SendKeys("#message", "may I?"), chromedp.Click("#send"))
	see(t, tab, `document.querySelector('#send-error').textContent === 'Not sent: you may not send messages to this room. Ask an admin for the right to send.' && document.querySelector('#message').value === 'may I?'
		&& document.querySelector('#message').readOnly && document.querySelector('#send').disabled && document.activeElement.id === 'message'`)
	do(t, tab, chromedp.Click("#change"), chromedp.SendKeys("#room-name", "kitchen\r"))
	see(t, tab, `document.body.dataset.state === 'open' && !document.querySelector('#message').readOnly && !document.querySelector('#send').disabled && document.querySelector('#send-error').textContent === ''`)
	do(t, tab, chromedp.SendKeys("#message", "\r"))
	see(t, tab, texts("may I?"))
}

// Addresses in messages are links, and everything else is text.
func TestMessageLinks(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t)
	s.visit(t, tab, userClaims("me", "Mira"), "/?room=studio")
	const text = `See (https://example.com/a?b="c" http://localhost:1/<b>) javascript:alert(1) https://bank.example@evil.example`
	for _, data := range []any{text, map[string]any{"url": "https://example.com"}, strings.Repeat("x", 16) + " " + strings.Repeat("https://example.com/ ", 500)} {
		s.send(t, "studio", userClaims("ada", "Ada"), "message", data)
	}
	see(t, tab, `document.querySelectorAll('#messages li').length === 3`)
	const want = `https://example.com/a?b= _blank noopener noreferrer nofollow,http://localhost:1/ _blank noopener noreferrer nofollow`
	see(t, tab, fmt.Sprintf(`[...document.querySelectorAll('#messages li:first-child a')].map((a) => [a.href, a.target, a.rel].join(' ')).join() === %q
		&& document.querySelector('#messages .text').textContent === %q`, want, text))
	see(t, tab, `document.querySelectorAll('#messages .json a').length === 0 && document.querySelector('#messages .json').textContent === '{"url":"https://example.com"}'`)
	// The last address of a text that is shown in part may be incomplete.
	see(t, tab, `[...document.querySelectorAll('#messages li:last-child a')].every((a) => a.href === 'https://example.com/') && document.querySelectorAll('#messages li:last-child a').length === 27
		&& document.querySelector('#messages li:last-child .text').textContent.endsWith(' https://example.…')`)
}

// While the page is hidden, its title has the number of unread messages. Then the list shows where
// they begin.
func TestUnread(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t)
	ada, me := userClaims("ada", "Ada"), userClaims("me", "Mira")
	s.send(t, "studio", ada, "message", "earlier")
	s.visit(t, tab, me, "/?room=studio")
	s.send(t, "studio", ada, "message", "read")
	see(t, tab, texts("earlier", "read"))
	see(t, tab, `document.title === '1 in studio – presence'`)
	fresh := func(want string) {
		t.Helper()
		see(t, tab, fmt.Sprintf(`[...document.querySelectorAll('#messages .fresh')].map((row) => row.querySelector('.text').textContent + row.querySelector('.by').checkVisibility() + row.matches('.again')).join() === %q`, want))
	}
	show := hide(t, tab)
	s.send(t, "studio", me, "message", "mine, from another device")
	s.send(t, "studio", ada, "message", "one")
	s.send(t, "studio", ada, "chat message", "two")
	see(t, tab, `document.title === '(2) 1 in studio – presence'`)
	s.join(t, "studio", ada)
	see(t, tab, `document.title === '(2) 2 in studio – presence'`)
	show()
	see(t, tab, `document.title === '2 in studio – presence'`)
	fresh("onetruefalse")
	show = hide(t, tab)
	s.send(t, "studio", ada, "message", "three")
	see(t, tab, `document.title === '(1) 2 in studio – presence'`)
	fresh("threetruefalse")
	show()
	see(t, tab, `document.title === '2 in studio – presence'`)
}

// The page shows the messages from before its user came, and the reader can go back to the first
// one. Messages that arrive meanwhile are shown once, in their place.
func TestEarlierMessages(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t, "--message-burst=1000")
	tab := browser(t)
	ada := userClaims("ada", "Ada")
	s.visit(t, tab, userClaims("me", "Mira"), "/?room=empty")
	see(t, tab, visible("#quiet")+` && document.querySelector('#quiet').textContent.startsWith('No recent messages.') && !document.querySelector('#earlier').checkVisibility()`)

	for i := range 130 {
		s.send(t, "studio", ada, []string{"message", "chat message", "cursor"}[i%3], fmt.Sprint(i))
	}
	shown := func(from, to int) []string {
		list := []string{}
		for i := from; i < to; i++ {
			if i >= 130 || i%3 != 2 { // the page does not show the event "cursor"
				list = append(list, fmt.Sprint(i))
			}
		}
		return list
	}
	// The response with the history arrives after two newer messages, one of which it contains.
	script[any](t, tab, `window.real = fetch; window.fetch = async (url, options) => {
		if (!String(url).includes("messages?") || options.method !== "GET") return real(url, options);
		await new Promise((resolve) => { window.ask = resolve; });
		const response = await real(url, options);
		await new Promise((resolve) => { window.answer = resolve; });
		return response;
	}; 0`)
	do(t, tab, chromedp.Click("#change"), chromedp.SendKeys("#room-name", "studio\r"))
	see(t, tab, `document.body.dataset.state === 'open' && 'ask' in window && !document.querySelector('#quiet').checkVisibility()`)
	s.send(t, "studio", ada, "message", "130")
	see(t, tab, texts("130"))
	script[any](t, tab, `ask(); 0`)
	see(t, tab, `'answer' in window`)
	s.send(t, "studio", ada, "message", "131")
	see(t, tab, texts("130", "131"))
	script[any](t, tab, `answer(); window.fetch = real; 0`)
	see(t, tab, texts(shown(81, 132)...))
	see(t, tab, scrolled+` && document.querySelector('#earlier').checkVisibility() && document.querySelectorAll('#messages li:not(.again)').length === 1`)

	// The reader goes back. The messages in view stay in their place.
	for _, step := range []struct {
		from  int
		later bool
	}{{31, true}, {0, false}} {
		script[any](t, tab, `document.querySelector('#log').scrollTop = 5`)
		settle(t, tab)
		before := script[[]float64](t, tab, `(window.first = document.querySelector('#messages li'), [first.getBoundingClientRect().top])`)[0]
		s.send(t, "studio", ada, "message", "132") // the position is kept if one arrives meanwhile
		see(t, tab, `document.querySelector('#messages li:last-child').textContent.includes('132')`)
		do(t, tab, chromedp.Click("#earlier"))
		see(t, tab, fmt.Sprintf(`document.querySelector('#messages .text').textContent === '%d'`, step.from))
		settle(t, tab)
		after := script[float64](t, tab, `first.getBoundingClientRect().top`)
		if off := after - before; off < -60 || off > 60 {
			t.Errorf("from message %d: the first message in view moved by %v px", step.from, off)
		}
		see(t, tab, fmt.Sprintf(`document.querySelector('#earlier').checkVisibility() === %t`, step.later))
	}
	see(t, tab, texts(append(shown(0, 132), "132", "132")...))
	see(t, tab, `document.querySelectorAll('#messages li:not(.again)').length === 1`)

	// If the request fails, the button remains.
	s.visit(t, tab, userClaims("me", "Mira"), "/?room=studio")
	see(t, tab, visible("#earlier"))
	script[any](t, tab, `window.real = fetch; window.fetch = async (url, options) => (String(url).includes("messages?") ? Response.json({ detail: "try later" }, { status: 503 }) : real(url, options)); 0`)
	do(t, tab, chromedp.Click("#earlier"))
	see(t, tab, `document.querySelector('#earlier-note').textContent === 'Earlier messages cannot be shown: try later.'`)
	script[any](t, tab, `window.fetch = real; 0`)
	do(t, tab, chromedp.Click("#earlier"))
	see(t, tab, `document.querySelector('#earlier-note').textContent === '' && document.querySelectorAll('#messages li').length > 60`)
}

// After the page has lost messages, it shows the ones that the history still has. It reports a gap
// only if some may be missing.
func TestGap(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t, "--history=5")
	tab := browser(t)
	ada := userClaims("ada", "Ada")
	s.join(t, "studio", ada)
	s.visit(t, tab, userClaims("me", "Mira"), "/?room=studio")
	s.send(t, "studio", ada, "message", "before")
	see(t, tab, texts("before"))
	away := func(fn func()) {
		t.Helper()
		script[any](t, tab, `document.dispatchEvent(new Event("freeze"))`)
		see(t, tab, `document.body.dataset.state === 'connecting'`)
		fn()
		script[any](t, tab, `document.dispatchEvent(new Event("resume"))`)
		see(t, tab, `document.body.dataset.state === 'open'`)
	}
	away(func() {
		for i := range 8 {
			s.send(t, "studio", ada, "message", fmt.Sprint(i))
		}
	})
	see(t, tab, texts("before", "3", "4", "5", "6", "7"))
	see(t, tab, `document.querySelectorAll('#messages .gap').length === 1 && document.querySelector('#messages li:nth-child(2)').matches('.gap') && document.querySelectorAll('#messages li:not(.again, .gap)').length === 2`)
	away(func() { s.send(t, "studio", ada, "message", "8") })
	see(t, tab, texts("before", "3", "4", "5", "6", "7", "8"))
	see(t, tab, `document.querySelectorAll('#messages .gap').length === 1`)

	// A page of the history closes each gap after the first message that it shares with the list.
	for page, want := range map[string]string{
		"2, 3, 4, 5, 6, 7, 8, 9": "1,2,3,4,5,6,7,8,9",
		"4, 5, 6, 7, 8, 9":       "1,2,gap,4,5,6,7,8,9",
		"8, 9":                   "1,2,gap,5,6,gap,8,9",
	} {
		got := script[string](t, tab, fmt.Sprintf(`(async () => {
			const { Messages } = await import("./messages.js");
			const [log, list, quiet, more] = ["div", "ol", "p", "button"].map((name) => document.createElement(name));
			const messages = new Messages({ log, list, quiet, more }, () => {});
			const message = (n) => ({ id: "e-" + n, data: String(n), at: new Date(n).toISOString() });
			for (const n of [1, 2, "gap", 5, 6, "gap", 9]) n === "gap" ? messages.gap() : messages.add(message(n), "me");
			messages.fill([%s].map(message), "me");
			return [...list.children].map((row) => row.querySelector(".text")?.textContent ?? "gap").join();
		})()`, page))
		if got != want {
			t.Errorf("page %s: got %s, want %s", page, got, want)
		}
	}
}

// The list keeps 200 messages while it follows new ones. The reader can go back to older ones, up
// to 2000.
func TestMessageLimit(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t, "--message-burst=10000", "--message-rate=10000", "--history=3000")
	tab := browser(t)
	ada := userClaims("ada", "Ada")
	s.visit(t, tab, userClaims("me", "Mira"), "/?room=studio")
	for i := range 260 {
		s.send(t, "studio", ada, "message", fmt.Sprint(i))
	}
	see(t, tab, `document.querySelector('#messages').lastElementChild?.textContent.includes('259') && document.querySelectorAll('#messages li').length === 200 && document.querySelector('#earlier').checkVisibility()`)
	script[any](t, tab, `document.querySelector('#log').scrollTop = 0`)
	settle(t, tab)
	do(t, tab, chromedp.Click("#earlier"))
	see(t, tab, `document.querySelectorAll('#messages li').length === 250 && document.querySelector('#messages .text').textContent === '10'`)
	s.send(t, "studio", ada, "message", "260")
	see(t, tab, visible("#more")+` && document.querySelectorAll('#messages li').length === 251`)
	do(t, tab, chromedp.Click("#more"))
	see(t, tab, scrolled)
	s.send(t, "studio", ada, "message", "261")
	see(t, tab, `document.querySelectorAll('#messages li').length === 200 && document.querySelector('#messages .text').textContent === '62' && `+scrolled)
	if !sized(false, false, true) {
		return // 1800 messages take too long
	}
	script[any](t, tab, `(async () => {
		const log = document.querySelector('#log');
		await Promise.all(Array.from({ length: 20 }, async (_, part) => {
			for (let i = 0; i < 90; i++) await fetch("messages?room=studio", { method: "POST", headers: { "Content-Type": "text/plain" }, body: "x" });
		}));
	})()`)
	see(t, tab, `document.querySelectorAll('#messages li').length === 200`)
	script[any](t, tab, `document.querySelector('#log').scrollTop = 0`)
	see(t, tab, `(document.querySelector('#earlier').click(), document.querySelectorAll('#messages li').length === 2000 && !document.querySelector('#earlier').checkVisibility())`)
	see(t, tab, `document.querySelector('#earlier-note').textContent === 'Only 2000 messages are shown here.'`)
}

// A message is visible as soon as it is sent, once, and after all messages that were delivered. If
// it was not sent, its row goes, and the text returns to the box.
func TestPendingMessage(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t, "status of 503", "status of 400")
	ada := userClaims("ada", "Ada")
	s.visit(t, tab, userClaims("me", "Mira"), "/?room=studio")
	see(t, tab, visible("#quiet"))
	// The test decides when a request is sent, and when the page gets its response.
	script[any](t, tab, `window.real = fetch; window.fetch = async (url, options) => {
		if (options?.method !== "POST") return real(url, options);
		const fault = await new Promise((resolve) => { window.pass = resolve; });
		const response = fault ? Response.json({ detail: "no" }, { status: fault }) : await real(url, options);
		await new Promise((resolve) => { window.answer = resolve; });
		return response;
	}; 0`)
	rows := func(want string) {
		t.Helper()
		see(t, tab, fmt.Sprintf(`[...document.querySelectorAll('#messages li')].map((row) => row.querySelector('.text').textContent + (row.querySelector('.state') ? ' ' + row.querySelector('.state').textContent : '')
			+ (row.querySelector('.you').checkVisibility() || row.matches('.again') ? ' mine' : '')).join() === %q`, want))
	}
	do(t, tab, chromedp.SendKeys("#message", "one\r"))
	rows("one Sending… mine")
	see(t, tab, `document.querySelector('#messages .pending').getAttribute('aria-live') === 'off' && !document.querySelector('#quiet').checkVisibility()`)
	s.send(t, "studio", ada, "message", "from Ada")
	rows("from Ada,one Sending… mine")
	// The room delivers the message before the page gets the response.
	script[any](t, tab, `window.rowsSeen = 0; new MutationObserver(() => { rowsSeen = Math.max(rowsSeen, document.querySelectorAll('#messages li').length); }).observe(document.querySelector('#messages'), { childList: true }); pass(0); 0`)
	rows("from Ada,one mine")
	script[any](t, tab, `answer(); delete window.pass; delete window.answer; 0`)
	do(t, tab, chromedp.SendKeys("#message", "two\r"))
	see(t, tab, `'pass' in window`)
	rows("from Ada,one mine,two Sending… mine")
	if got := script[int](t, tab, `rowsSeen`); got != 3 {
		t.Errorf("got %d rows at most, want 3", got)
	}
	// A rejected message leaves the list.
	script[any](t, tab, `pass(400); 0`)
	see(t, tab, `'answer' in window`)
	script[any](t, tab, `answer(); 0`)
	rows("from Ada,one mine")
	see(t, tab, `document.querySelector('#message').value === 'two' && document.querySelector('#send-error').textContent === 'Not sent: no.'`)
}

// In a tab without a stream, a message that was sent remains, and a note explains this. When the
// tab gets a stream, the message has its place among the others.
func TestSentWithoutStream(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t)
	s.visit(t, tab, userClaims("me", "Mira"), "/?room=lobby")
	script[any](t, tab, `(async () => {
		const { held } = await navigator.locks.query();
		const slot = held.map(({ name }) => name).find((name) => name.startsWith("presence stream "));
		const over = new Promise((resolve) => { window.close9 = resolve; });
		for (let i = 0; i < 9; i++) navigator.locks.request(slot.replace(/stream \d+/, "stream " + i), () => over);
	})()`)
	do(t, tab, chromedp.Click("#change"), chromedp.SendKeys("#room-name", "studio\r"))
	see(t, tab, text("#people-wait", "This browser has reached its limit of open tabs for this server.")+` && !document.querySelector('#set-status').checkVisibility() && document.querySelector('#quiet').textContent === 'This tab shows no messages until another tab is closed.'`)
	do(t, tab, chromedp.SendKeys("#message", "hello\r"))
	see(t, tab, `document.querySelector('#messages .pending .state')?.textContent === 'Sent' && document.querySelector('#sent').textContent === 'Sent. This tab shows no messages of others until another tab is closed.'`)
	s.send(t, "studio", userClaims("ada", "Ada"), "message", "welcome")
	script[any](t, tab, `close9(); 0`)
	see(t, tab, texts("hello", "welcome")+` && document.querySelectorAll('.pending').length === 0 && document.querySelector('#sent').textContent === '' && document.querySelector('#messages .you').checkVisibility()`)
}

// The beginning of a long message is shown, and a button shows the rest.
func TestLongMessage(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t)
	tab := browser(t)
	long := strings.Repeat("long ", 1000) + "https://example.com/end"
	s.send(t, "studio", userClaims("ada", "Ada"), "message", long)
	s.visit(t, tab, userClaims("me", "Mira"), "/?room=studio")
	shows := func(button string, expanded bool, length, addresses int) {
		t.Helper()
		see(t, tab, fmt.Sprintf(`(([button]) => button?.textContent === %q && button.getAttribute('aria-expanded') === '%t' && document.querySelector('#messages .text').textContent.length === %d
			&& document.querySelectorAll('#messages a').length === %d)(document.querySelectorAll('#messages .whole'))`, button, expanded, length, addresses))
	}
	shows("Show all (5 KB)", false, 600, 0) // without the space at the end
	do(t, tab, chromedp.Click("#messages .whole"))
	shows("Show less", true, len(long), 1)
	see(t, tab, `(({ scrollHeight, clientHeight }) => scrollHeight === clientHeight)(document.querySelector('#messages .text'))`)
	do(t, tab, chromedp.Click("#messages .whole"))
	shows("Show all (5 KB)", false, 600, 0)
	// Only the 200 newest of these texts are kept.
	script[any](t, tab, `(async () => {
		const { Messages } = await import("./messages.js");
		const part = () => document.body.appendChild(document.createElement("div"));
		const log = part();
		const list = log.appendChild(document.createElement("ol"));
		const messages = new Messages({ log, list, quiet: part(), more: part() }, () => {});
		messages.fill(Array.from({ length: 201 }, (_, i) => ({ id: "e-" + i, from: { id: "a", name: "A" }, data: "x".repeat(5000) + i, at: "2026-11-27T23:41:18Z" })), null);
		window.parts = [...list.children];
	})()`)
	see(t, tab, `parts.length === 201 && parts.filter((row) => row.querySelector('.whole')).length === 200 && parts[0].querySelector('.whole') === null && parts[0].querySelector('.note').textContent === 'Only the beginning is shown (5 KB in total).'`)
}
