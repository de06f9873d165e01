package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"example.com/presence/pkg/presence/auth"
)

// rootClaims returns the token claims of an admin.
func rootClaims() auth.Claims {
	root := userClaims("root", "Root")
	root.Admin = true
	return root
}

// A removed user sees a panel in place of the room. The page enters the room again when the ban
// ends, and shows the messages that were sent meanwhile.
func TestRemovedReturns(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t, "--dev")
	tab := browser(t, "status of 403") // the answers to a removed user
	ada := userClaims("ada", "Ada")
	s.join(t, "studio", ada)
	s.visit(t, tab, userClaims("me", "Mira"), "/?room=studio")
	see(t, tab, count(2))
	see(t, tab, `document.title === '2 in studio – presence'`)
	s.send(t, "studio", ada, "message", "before")
	see(t, tab, `document.querySelectorAll('#messages li').length === 1`)
	script[any](t, tab, `window.loaded = 1`)
	ban := sized(4*time.Second, 6*time.Second, 6*time.Second) // time for the checks during the ban
	s.ask(t, rootClaims(), "DELETE", fmt.Sprintf("/members/me?room=studio&for=%s", ban), "")
	end := time.Now().Add(ban)
	see(t, tab, visible("#refused")+` && !document.querySelector('#live').checkVisibility() && !document.querySelector('#reconnect').checkVisibility()
		&& document.querySelector('#refused-title').textContent === 'You were removed from this room' && document.activeElement.id === 'refused-title'
		&& /^You come back automatically in \d s \(.+\)\.$/.test(document.querySelector('#refused-until').textContent)
		&& document.querySelector('#refused-text').textContent === 'An admin removed you.'
		&& document.querySelector('#state').textContent === 'Removed' && document.title === 'Removed from studio – presence'
		&& document.querySelector('#me').textContent === 'Mira' && document.querySelector('#sign-out').checkVisibility()
		&& document.querySelector('#refused-lobby').checkVisibility() && !document.querySelector('#other').checkVisibility()`)
	s.send(t, "studio", ada, "message", "during the ban")
	if time.Now().After(end) {
		t.Fatal("the checks took longer than the ban")
	}
	idle(t, func() {
		see(t, tab, `document.body.dataset.state === 'open' && document.querySelector('#live').checkVisibility() && !document.querySelector('#refused').checkVisibility()`)
	})
	if now := time.Now(); now.Before(end) {
		t.Errorf("returned %v before the end of the ban", end.Sub(now))
	}
	see(t, tab, count(2)+` && loaded === 1 && document.title === '2 in studio – presence' && document.activeElement.id === 'room'`)
	see(t, tab, `[...document.querySelectorAll('#messages .text')].map(({ textContent }) => textContent).join() === 'before,during the ban'`)
}

// If an admin lifts the ban, the page enters the room within 30 seconds, also a page that was
// opened during the ban.
func TestBanLifted(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t, "--dev")
	tab := browser(t, "status of 403") // the answers to a removed user
	if _, err := chromedp.Call(tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: skipping}); err != nil {
		t.Fatal(err)
	}
	s.ask(t, rootClaims(), "DELETE", "/members?room=studio&id=me&for=24h", "")
	s.sign(t, tab, userClaims("me", "Mira"))
	do(t, tab, chromedp.Navigate(s.url+"/?room=studio"))
	see(t, tab, visible("#refused")+` && / on .* at /.test(document.querySelector('#refused-until').textContent)`)
	asked := `performance.getEntriesByType('resource').filter(({ name }) => name.includes('/presence?')).length`
	before := script[int](t, tab, asked)
	script[any](t, tab, `skip(31)`)
	see(t, tab, fmt.Sprintf(`%s === %d && document.querySelector('#again-result').textContent === ''`, asked, before+1))
	s.ask(t, rootClaims(), "DELETE", "/bans?room=studio&id=me", "")
	script[any](t, tab, `skip(31)`)
	see(t, tab, count(1)+` && document.body.dataset.state === 'open' && !document.querySelector('#refused').checkVisibility()`)

	// The server bans the user again, and lifts the ban while the page is hidden.
	s.ask(t, rootClaims(), "DELETE", "/members?room=studio&id=me&for=24h", "")
	see(t, tab, visible("#refused")+" && "+text("#refused-until", "You come back automatically on "))
	ctx, _ := chromedp.NewContext(tab, chromedp.WithNewWindow(false)) // hides the first tab
	watched(t, ctx)
	see(t, tab, `document.hidden`)
	s.ask(t, rootClaims(), "DELETE", "/bans?room=studio&id=me", "")
	front(t, tab)
	seeUntil(t, tab, count(1)+` && document.body.dataset.state === 'open'`, time.Now().Add(25*time.Second)) // before the next request
}

// A user whose token does not allow the room stays signed in. It can go to another room, or sign in
// as another user. A room name that the server rejects is shown with the server's cause.
func TestNotAllowed(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t, "--dev")
	tab := browser(t, "status of 403")
	me := userClaims("me", "Mira")
	me.Join = []string{"lobby"}
	s.sign(t, tab, me)
	do(t, tab, chromedp.Navigate(s.url+"/?room=studio"))
	refused := visible("#refused") + ` && document.querySelector('#refused-title').textContent === 'You are not allowed in this room' && !document.querySelector('#live').checkVisibility()
		&& document.querySelector('#refused-text').textContent === 'Your token does not open the room “studio”.' && !document.querySelector('#refused-until').checkVisibility()
		&& document.querySelector('#me').textContent === 'Mira' && document.title === 'Not allowed in studio – presence'`
	see(t, tab, refused)
	do(t, tab, chromedp.Click("#refused-lobby a"))
	see(t, tab, count(1)+` && document.querySelector('#room').textContent === 'lobby' && document.body.dataset.state === 'open' && !document.querySelector('#refused').checkVisibility() && document.activeElement.id === 'room'`)
	script[any](t, tab, `history.back()`)
	see(t, tab, refused)
	do(t, tab, chromedp.Click("#other"))
	see(t, tab, visible("#name")+` && document.querySelector('#state').textContent === 'Signed out' && !document.querySelector('#refused').checkVisibility()
		&& !document.querySelector('#reconnect').checkVisibility()`)
	do(t, tab, chromedp.SendKeys("#name", "Ann\r"))
	see(t, tab, count(1)+` && document.querySelector('#room').textContent === 'studio' && document.querySelector('#me').textContent === 'Ann'`)
}

// If the server does not return, the page shows that it cannot reach it, and when it tries again. A
// screen reader announces this once. A click tries at once.
func TestServerGone(t *testing.T) {
	t.Parallel()
	heavy(t)
	e := env{"PRESENCE_JWT_SECRET": secret}
	server, addr := serving(t, e, "--dev", "--listen=127.0.0.1:"+quietPort(t), "--linger=0s")
	tab := browser(t, "net::ERR_", "Failed to load resource")
	signIn(t, tab, "http://"+addr, "Ann")
	see(t, tab, count(1))
	do(t, tab, chromedp.SendKeys("#message", "before\r"))
	see(t, tab, `document.querySelectorAll('#messages li').length === 1`)
	script[any](t, tab, `window.announced = []; new MutationObserver(() => announced.push(document.querySelector('#state').textContent)).observe(document.querySelector('#state'), { childList: true, characterData: true, subtree: true }); 0`)
	server.end()
	see(t, tab, `document.querySelector('#status').textContent === 'The server is restarting, one moment…'`)
	server.exit()
	idle(t, func() {
		see(t, tab, `/^Cannot reach the server, trying again in ([3-9]|\d\d) s$/.test(document.querySelector('#status').textContent) && document.querySelector('#reconnect').checkVisibility()`)
	})
	// The numbers are marked as outdated.
	see(t, tab, `/^last known at \d/.test(document.querySelector('#known').textContent) && !document.querySelector('#tip').checkVisibility()
		&& document.querySelector('#members .since').textContent !== 'just joined' && getComputedStyle(document.querySelector('#members li'), '::before').visibility === 'hidden'`)
	see(t, tab, `document.querySelector('#seconds').ariaHidden === 'true' && document.body.dataset.reason === 'lost' && document.querySelectorAll('#messages .gap').length === 0`)
	got := script[[]string](t, tab, `announced`)
	if times := strings.Count(strings.Join(got, "\n"), "Cannot reach the server"); times != 1 {
		t.Errorf("a screen reader announces %q, want “Cannot reach the server” once", got)
	}
	// With the keyboard, the button keeps the focus during the attempt.
	see(t, tab, `document.querySelector('#reconnect').focus() || document.activeElement.id === 'reconnect'`) // it is hidden just before an attempt
	script[any](t, tab, `window.attempts = []; new MutationObserver(() => {
		if (document.querySelector('#seconds').textContent === ', trying again…') attempts.push(document.querySelector('#reconnect').checkVisibility());
	}).observe(document.querySelector('#seconds'), { childList: true, characterData: true, subtree: true }); 0`)
	do(t, tab, chromedp.KeyEvent("\r"))
	idle(t, func() {
		see(t, tab, `attempts.length > 0 && /in ([3-9]|\d\d) s$/.test(document.querySelector('#seconds').textContent) && document.activeElement.id === 'reconnect'`)
	})
	if got := script[[]bool](t, tab, `attempts`); slices.Contains(got, false) {
		t.Errorf("during the attempts, the button with the focus is visible: %t", got)
	}
	serving(t, e, "--dev", "--listen="+addr, "--linger=0s")
	do(t, tab, chromedp.KeyEvent("\r"))
	see(t, tab, `document.querySelector('#status').textContent === 'Live' && !document.querySelector('#reconnect').checkVisibility() && document.activeElement.id === 'room'`)
	see(t, tab, count(1)+` && document.querySelector('#known').textContent === '' && document.querySelector('#persons').textContent === '1 person'`)
	see(t, tab, `document.querySelector('#messages').lastElementChild.textContent === 'Messages may be missing here'`)
}

// If a room had no messages, the page shows no gap after a restart of the server.
func TestRestartWithoutMessages(t *testing.T) {
	t.Parallel()
	heavy(t)
	e := env{"PRESENCE_JWT_SECRET": secret}
	server, addr := serving(t, e, "--dev", "--listen=127.0.0.1:"+quietPort(t), "--linger=0s")
	tab := browser(t, "net::ERR_", "Failed to load resource")
	signIn(t, tab, "http://"+addr, "Ann")
	see(t, tab, count(1))
	server.end()
	server.exit()
	see(t, tab, `document.body.dataset.state === 'connecting'`)
	serving(t, e, "--dev", "--listen="+addr, "--linger=0s")
	see(t, tab, `document.body.dataset.state === 'open' && document.querySelectorAll('#messages li').length === 0 && document.querySelector('#quiet').checkVisibility()`)
}

// The sign-in form shows an error next to its field. With --dev, a user can also sign in with a
// token.
func TestSignInForms(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newSite(t, "--dev")
	tab := browser(t, "status of 401", "status of 400") // the invalid token
	do(t, tab, chromedp.Navigate(s.url+"/?room=studio"))
	see(t, tab, visible("#name")+` && document.querySelector('#product').textContent === 'presence' && document.querySelector('h1').textContent === 'studio'`)
	enter := func(field, value string) {
		t.Helper()
		script[any](t, tab, fmt.Sprintf(`document.getElementById(%q).value = %q`, field, value))
		do(t, tab, chromedp.SendKeys("#"+field, "\r"))
	}
	shows := func(field, error string) {
		t.Helper()
		see(t, tab, fmt.Sprintf(`document.querySelector('#%[1]s-error').textContent === %[2]q && document.activeElement.id === %[1]q && document.querySelector('#%[1]s').getAttribute('aria-invalid') === 'true'
			&& document.querySelector('#%[1]s').getAttribute('aria-describedby').split(' ').includes('%[1]s-error')`, field, error))
	}
	enter("name", "")
	shows("name", "Enter a name.")
	enter("name", " \u200b ")
	shows("name", "Enter a name.")
	enter("name", strings.Repeat("x", 129))
	shows("name", "Enter a shorter name.")
	do(t, tab, chromedp.Click("#to-token"))
	see(t, tab, `document.activeElement.id === 'token' && !document.querySelector('#name').checkVisibility()`)
	enter("token", " ")
	shows("token", "Paste a token.")
	enter("token", "nonsense")
	see(t, tab, `document.querySelector('#token-error').textContent === 'That is not a complete token. Copy it again.' && document.querySelector('#token').value === 'nonsense'`)
	do(t, tab, chromedp.Click("#to-name"))
	see(t, tab, `document.activeElement.id === 'name' && document.querySelector('#name-error').textContent === '' && document.querySelector('#name').getAttribute('aria-invalid') === 'false'`)
	do(t, tab, chromedp.Click("#to-token"))
	enter("token", must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=root", "--name=Root", "--admin"))
	see(t, tab, count(1)+` && document.querySelector('#me').textContent === 'Root' && !document.querySelector('#all').hidden`)

	// Another tab of the user signs out.
	script[any](t, tab, `fetch("session", { method: "DELETE" }); 0`)
	see(t, tab, visible("#name")+` && document.querySelector('#state').textContent === 'Signed out' && !document.querySelector('#reconnect').checkVisibility()`)
}

// A server that lets a user in and removes the user at once does not receive requests without a
// pause.
func TestRemovedAtOnce(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newStage(t)
	s.sign(t, s.tab, userClaims("me", "Mira"))
	server := httputil.NewSingleHostReverseProxy(s.target.Load())
	server.ErrorLog = log.New(io.Discard, "", 0)
	streams := make(chan time.Time, 1000)
	s.fail(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/events" {
			server.ServeHTTP(w, r)
			return
		}
		streams <- time.Now()
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "event: goodbye\ndata: {\"reason\":\"removed\"}\n\n")
	})
	s.open(t, "/?room=studio")
	idle(t, func() {
		<-streams
		second := <-streams // at once, because the server lets the user in
		if wait := (<-streams).Sub(second); wait < 4*time.Second {
			t.Errorf("the page opened the third stream after %v, want 5s", wait)
		}
	})
	see(t, s.tab, visible("#refused"))
}

// After the end of a ban, for example on a clock that is ahead, the requests become rare.
func TestBanOnFastClock(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := newStage(t)
	s.sign(t, s.tab, userClaims("me", "Mira"))
	s.ask(t, rootClaims(), "DELETE", "/members?room=studio&id=me&for=1h", "")
	s.open(t, "/?room=studio")
	see(t, s.tab, visible("#refused"))
	asked := `performance.getEntriesByType('resource').filter(({ name }) => name.includes('/presence?')).length`
	answers := script[int](t, s.tab, asked)
	for _, wait := range []int{2 * 3600, 6, 11, 21} {
		script[any](t, s.tab, fmt.Sprintf(`skip(%d)`, wait))
		answers++
		see(t, s.tab, fmt.Sprintf(`%s === %d`, asked, answers))
	}
	see(t, s.tab, `document.querySelector('#refused-until').textContent === 'You come back automatically in a moment.'`)
	script[any](t, s.tab, `(skip(6), window.ticks = 0, setInterval(() => ticks++, 1000))`)
	see(t, s.tab, `ticks >= 3`)
	if got := script[int](t, s.tab, asked); got != answers {
		t.Errorf("got %d requests 6 s after the last one, want none", got-answers)
	}
}
