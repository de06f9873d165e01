package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// allowed is the context key of the console texts that do not fail a test.
type allowed struct{}

// shared is the Chromium that most tests share, because starting it takes as long as one test. The
// first test that needs it starts it, and TestMain stops it.
var shared struct {
	sync.Mutex // guards the fields below
	ctx        context.Context
	end        context.CancelFunc
	dir        string // directory of its profiles
}

// startShared returns the context of the shared Chromium. It starts Chromium if necessary.
func startShared(t *testing.T) context.Context {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.ctx != nil {
		return shared.ctx
	}
	dir, err := os.MkdirTemp("", "presence-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := chromedp.NewExecAllocator(context.Background(), chromium(t, dir)...)
	ctx, _ = chromedp.NewContext(ctx)
	if err := chromedp.Do(ctx); err != nil {
		end()
		os.RemoveAll(dir)
		t.Fatal(err)
	}
	shared.ctx, shared.end, shared.dir = ctx, end, dir
	return ctx
}

// endShared stops the shared Chromium if a test has started it.
func endShared() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.ctx == nil {
		return nil
	}
	err := chromedp.Cancel(shared.ctx)
	shared.end()
	return errors.Join(err, os.RemoveAll(shared.dir))
}

// browser returns a tab of the shared Chromium, in a new profile. [tab] opens further tabs in that
// profile. A console message fails the test unless it contains one of the texts in may.
func browser(t *testing.T, may ...string) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithValue(startShared(t), allowed{}, may), 20*patience)
	t.Cleanup(cancel)
	ctx, _ = chromedp.NewContext(ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("tab not closed: %v", err)
		}
	})
	return watched(t, ctx)
}

// ownBrowser starts a separate Chromium for one test and returns its first tab. Tests with many
// tabs need it: above some number of tabs, Chromium shares processes between them, so closing one
// tab may close others.
func ownBrowser(t *testing.T, may ...string) context.Context {
	t.Helper()
	return launch(t, nil, may...)
}

// launch is like ownBrowser, with additional options.
func launch(t *testing.T, more []chromedp.ExecAllocatorOption, may ...string) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), allowed{}, may), 20*patience)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromium(t, t.TempDir()), more...)...)
	t.Cleanup(cancel)
	ctx, _ = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("Chromium not stopped: %v", err)
		}
	})
	return watched(t, ctx)
}

// chromium returns the options that start the installed Chromium with its profile in dir.
func chromium(t *testing.T, dir string) []chromedp.ExecAllocatorOption {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("Chromium is required (make test installs it on Debian as root): ", err)
	}
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.WSURLReadTimeout(patience),
		chromedp.WindowSize(1440, 900)} // a low window has no space for all controls of the page
	for _, flag := range []string{
		"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
		"disable-component-update", "disable-sync", "disable-dev-shm-usage",
	} {
		options = append(options, chromedp.Flag(flag, true))
	}
	return options
}

// tab opens another tab in the profile of browser. close closes it.
func tab(t *testing.T, browser context.Context) (tab context.Context, close func()) {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	return watched(t, ctx), cancel
}

// watched makes every console message of the tab fail the test, except for the allowed ones. It
// returns the tab.
func watched(t *testing.T, tab context.Context) context.Context {
	t.Helper()
	var mu sync.Mutex // guards seen; the listener runs on a goroutine of chromedp
	var seen []string
	err := chromedp.Listen(tab, func(event any) {
		text := ""
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			text = e.ExceptionDetails.Text
			if e.ExceptionDetails.Exception != nil {
				text += fmt.Sprint(" ", e.ExceptionDetails.Exception.Description)
			}
		case *runtime.EventConsoleAPICalled:
			text = fmt.Sprint("console.", e.Type)
		case *log.EventEntryAdded:
			text = e.Entry.Text + " " + e.Entry.URL
		}
		may, _ := tab.Value(allowed{}).([]string)
		if text != "" && !slices.ContainsFunc(may, func(part string) bool { return strings.Contains(text, part) }) {
			mu.Lock()
			seen = append(seen, text)
			mu.Unlock()
		}
	})
	if err == nil {
		_, err = chromedp.Call(tab, log.Enable, cdp.Empty{})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, text := range seen {
			t.Errorf("console message: %s", text)
		}
	})
	return tab
}

// see waits until the script is true in the tab.
func see(t *testing.T, tab context.Context, script string) {
	t.Helper()
	seeUntil(t, tab, script, time.Now().Add(patience))
}

// seeUntil evaluates the script repeatedly until it is true or end has passed. It evaluates the
// script in the current document each time, whereas a poll of chromedp stays in one document and
// fails if the tab navigates.
func seeUntil(t *testing.T, tab context.Context, script string, end time.Time) {
	t.Helper()
	for {
		yes, err := chromedp.Run(tab, chromedp.Evaluate[bool]("Boolean("+script+")"))
		if yes {
			return
		}
		if time.Now().Before(end) {
			select {
			case <-time.After(20 * time.Millisecond):
				continue
			case <-tab.Done():
			}
		}
		page, _ := chromedp.Run(tab, chromedp.Evaluate[string](`document.body.innerText`))
		t.Fatalf("%s: not true in time (last error: %v); text of the page:\n%s", script, err, page)
	}
}

func count(n int) string {
	return fmt.Sprintf(`document.querySelector('#count').textContent === '%d'`, n)
}

func signIn(t *testing.T, tab context.Context, url, name string) {
	t.Helper()
	if err := chromedp.Do(tab,
		chromedp.Navigate(url),
		chromedp.WaitVisible(`#name`),
		chromedp.SendKeys(`#name`, name+"\r"),
		chromedp.WaitVisible(`#count`),
	); err != nil {
		t.Fatal(err)
	}
}

// The count rises when a user opens a second tab. This is how a new user tries the server.
func TestTwoTabs(t *testing.T) {
	t.Parallel()
	_, addr := serving(t, env{}, "--dev", "--listen=127.0.0.1:0")
	first := browser(t)
	signIn(t, first, "http://"+addr, "Ann <b>")
	see(t, first, count(1))
	see(t, first, `document.body.dataset.state === 'open'`)

	second, closeSecond := tab(t, first)
	if err := chromedp.Do(second, chromedp.Navigate("http://"+addr)); err != nil {
		t.Fatal(err)
	}
	see(t, second, count(2))
	see(t, first, count(2))

	const text = `<script>alert(1)</script> & é`
	if err := chromedp.Do(second, chromedp.WaitVisible(`#message`), chromedp.SendKeys(`#message`, text+"\r")); err != nil {
		t.Fatal(err)
	}
	for _, tab := range []context.Context{first, second} {
		see(t, tab, `document.querySelectorAll('#members li').length === 1`) // one user in two tabs
		see(t, tab, `document.querySelector('#members li').textContent.includes('Ann <b>')`)
		see(t, tab, fmt.Sprintf(`document.querySelector('#messages li')?.textContent.includes(%q)`, text))
	}
	closeSecond()
	see(t, first, count(1))
}

// If its user is removed, an EventSource receives goodbye, reconnects, is rejected, and gives up. A
// new EventSource can join after the ban.
func TestRemovedEventSource(t *testing.T) {
	t.Parallel()
	e := env{"PRESENCE_JWT_SECRET": secret}
	_, addr := serving(t, e, "--dev", "--listen=127.0.0.1:0")
	page := browser(t, "status of 403") // the rejection
	signIn(t, page, "http://"+addr, "Ann")
	const open = `window.received = []; window.source = new EventSource("/events?room=r");
		for (const name of ["sync", "goodbye"]) source.addEventListener(name, (e) => received.push(name + e.data));`
	run := func(script string) {
		t.Helper()
		if _, err := chromedp.Run(page, chromedp.Evaluate[any](script)); err != nil {
			t.Fatal(err)
		}
	}
	run(open)
	see(t, page, `received.length === 1 && received[0].startsWith("sync")`)
	id, err := chromedp.Run(page, chromedp.Evaluate[string](`JSON.parse(received[0].slice(4)).members[0].id`))
	if err != nil {
		t.Fatal(err)
	}
	ban := sized(5*time.Second, 12*time.Second, 12*time.Second) // the client reconnects within 3 s
	start := time.Now()
	request, err := http.NewRequestWithContext(t.Context(), "DELETE", fmt.Sprintf("http://%s/members/%s?room=r&for=%s", addr, url.PathEscape(id), ban), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+must(t, e, "token", "--sub=root", "--admin"))
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil || answer.StatusCode != http.StatusNoContent {
		t.Fatalf("got %v, %v", answer, err)
	}
	answer.Body.Close()
	over := time.Now().Add(ban)
	see(t, page, `received.length === 2 && received[1] === 'goodbye{"reason":"removed"}'`)
	see(t, page, `source.readyState === EventSource.CLOSED`)
	run(open)
	see(t, page, `source.readyState === EventSource.CLOSED && received.length === 0`)
	if took := time.Since(start); took >= ban {
		t.Fatalf("rejected after %v, want less than the ban of %v", took, ban)
	}
	see(t, page, fmt.Sprintf(`Date.now() > %d`, over.UnixMilli()+100))
	run(open)
	see(t, page, `source.readyState === EventSource.OPEN && received.length === 1`)
	run(`source.close()`)
}
