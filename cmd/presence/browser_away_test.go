//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// While the server is stopped, killed or frozen, the page shows that it is connecting. Afterwards,
// it reconnects without user action, and shows the right count and no message twice. In make
// test-long, the outage is as long as a deployment or a snapshot of the machine may take.
// Otherwise, the outage and the heartbeat are shorter.
func TestServerIsAway(t *testing.T) {
	t.Parallel()
	heartbeat := sized(2*time.Second, 2*time.Second, 15*time.Second)
	silence := heartbeat * 5 / 2 // the page detects a frozen server no earlier
	restart := min(silence, 10*time.Second)
	post := func(t *testing.T, addr, text string) {
		t.Helper()
		must(t, env{"PRESENCE_JWT_SECRET": secret}, "send", "--url=http://"+addr,
			"--token="+must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=bob", "--name=Bob"), text)
	}
	messages := func(want ...string) string {
		list, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`JSON.stringify([...document.querySelectorAll('#messages .text')].map((e) => e.textContent)) === %q`, list)
	}
	signal := func(t *testing.T, server *os.Process, s os.Signal) {
		t.Helper()
		if err := server.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	for how, outage := range map[string]struct {
		time  time.Duration
		leave func(t *testing.T, server *os.Process)
		back  func(t *testing.T, server *os.Process, addr string)
	}{
		"stopped": {
			restart,
			func(t *testing.T, server *os.Process) { signal(t, server, syscall.SIGTERM) },
			func(t *testing.T, _ *os.Process, addr string) { serveProcess(t, "--listen="+addr) },
		},
		"killed": {
			restart,
			func(t *testing.T, server *os.Process) { signal(t, server, syscall.SIGKILL) },
			func(t *testing.T, _ *os.Process, addr string) { serveProcess(t, "--listen="+addr) },
		},
		"frozen": {
			silence + 5*time.Second, // 5 s more for a busy machine
			func(t *testing.T, server *os.Process) { signal(t, server, syscall.SIGSTOP) },
			func(t *testing.T, server *os.Process, _ string) { signal(t, server, syscall.SIGCONT) },
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			heavy(t)
			server, _, addr := serveProcess(t, "--listen=127.0.0.1:"+quietPort(t), "--heartbeat="+heartbeat.String())
			first := browser(t, "net::ERR_")
			signIn(t, first, "http://"+addr, "Ann")
			second, closeSecond := tab(t, first)
			t.Cleanup(closeSecond)
			if err := chromedp.Do(second, chromedp.Navigate("http://"+addr)); err != nil {
				t.Fatal(err)
			}
			both := []context.Context{first, second}
			for _, page := range both {
				see(t, page, count(2))
			}
			post(t, addr, "one")
			for _, page := range both {
				see(t, page, messages("one"))
			}

			back := time.Now().Add(outage.time)
			outage.leave(t, server.Process)
			idle(t, func() {
				for _, page := range both {
					seeUntil(t, page, `document.body.dataset.state === "connecting"`, back)
				}
				until(t, back)
				outage.back(t, server.Process, addr)
			})
			for _, page := range both {
				see(t, page, `document.body.dataset.state === "open"`)
				see(t, page, count(2))
			}
			post(t, addr, "two")
			for _, page := range both {
				see(t, page, messages("one", "two"))
				// A restarted server has no history, so the page must show a gap.
				see(t, page, fmt.Sprintf(`(document.querySelector('#messages .gap') !== null) === %t`, how != "frozen"))
			}
		})
	}
}
