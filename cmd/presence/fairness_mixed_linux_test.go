//go:build !race

package main

import (
	"cmp"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mixedBound is the most memory that the server may have with 1,000 attacking accounts. It had 903
// MB in three minutes. The table of all bounds in docs/architecture.md allows more.
const mixedBound = 1536 << 20

// 1,000 accounts do all attacks at the same time, on one core and at the lowest priority. Each
// honest client with a slow line gets the snapshot of the large room, and then messages. It may
// connect again, as the protocol allows.
func TestFaultFairMixed(t *testing.T) {
	lasting := sized(10*time.Second, 10*time.Second, 3*time.Minute)
	s := startAttacked(t, "--member-limit=2000")
	s.members(largeUsers, 0, largeInfo)
	rss, used, began := s.watchMemory(), s.use(), time.Now()
	attacking := startAttack(t, attack{Do: "mixed", Addr: s.addr, Room: largeRoom, Accounts: 1000,
		Size: 64_000, Rate: 1000, Buffer: 4096, Workers: 200, Seed: 1, Time: lasting}, slowly(t)...)
	stop := s.sendEach(largeRoom, time.Second)
	var running sync.WaitGroup
	clients := make([]honestClient, 20)
	for i := range clients {
		c := &clients[i]
		c.user = fmt.Sprintf("honest-%d", i)
		running.Go(func() { // ends at the latest after its time
			until(t, began.Add(lasting/10+lasting/40*time.Duration(i)))
			c.use(s, sized(240_000, 240_000, 60_000), began.Add(lasting))
		})
	}
	running.Wait()
	stop()
	t.Logf("attack: %v", attacking.wait())
	peak, text := rss.report()
	t.Logf("server: %s; %s", used.since(), text)
	s.checkHonest(clients)
	if peak<<20 > mixedBound {
		t.Errorf("got %d MB of memory, want at most %d MB", peak, mixedBound>>20)
	}
}

// slowly returns the command that runs an attack on one core and at the lowest priority.
func slowly(t *testing.T) []string {
	t.Helper()
	var cores unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cores); err != nil {
		t.Fatal(err)
	}
	last := 0
	for core := range 1024 {
		if cores.IsSet(core) {
			last = core
		}
	}
	command := []string{"nice", "-n", "19"}
	if _, err := exec.LookPath("taskset"); err == nil {
		command = append([]string{"taskset", "-c", strconv.Itoa(last)}, command...)
	}
	return command
}

// sendEach sends a small message to a room at intervals, until the returned function is called.
func (s *attacked) sendEach(room string, every time.Duration) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { // ends with done
		client := &http.Client{Timeout: patience}
		defer client.CloseIdleConnections()
		token, ticks := anyRoom("honest-sender"), time.NewTicker(every)
		defer ticks.Stop()
		for refused := 0; ; {
			status, err := postAs(client, s.addr, room, token, "hello")
			if err != nil || status != http.StatusAccepted {
				refused++
				s.t.Logf("message: status %d, %v (%d refused)", status, err, refused)
			}
			select {
			case <-done:
				return
			case <-ticks.C:
			}
		}
	})
	stop = sync.OnceFunc(func() { close(done); running.Wait() })
	s.t.Cleanup(stop)
	return stop
}

// honestClient is a client that connects again when its stream has ended.
type honestClient struct {
	user     string
	tries    int
	joined   time.Duration // from the first try to the first snapshot; 0: none
	messages int           // after a snapshot
	last     string        // the end of its last lost stream
}

// use reads the room until the end of the attack. If it then lacks a snapshot or a message, it goes
// on for a while.
func (c *honestClient) use(s *attacked, rate int, end time.Time) {
	began := time.Now()
	content := func() bool { return c.joined > 0 && c.messages >= 3 }
	for time.Now().Before(end) || !content() && time.Now().Before(end.Add(patience/2)) {
		c.tries++
		r := s.open(&steadyReader{user: c.user, room: largeRoom, rate: rate})
		before := c.messages
		poll(20*time.Millisecond, time.Until(end.Add(patience/2)), func() bool {
			if c.joined == 0 && r.has("sync") > 0 {
				c.joined = time.Since(began)
			}
			c.messages = before + r.has("message")
			return r.isOver() || content() && time.Now().After(end)
		})
		if !r.isOver() {
			r.close()
			return
		}
		c.last = r.String()
		until(s.t, time.Now().Add(cmp.Or(r.retry, 3*time.Second)))
	}
}

func (s *attacked) checkHonest(clients []honestClient) {
	s.t.Helper()
	var joined []time.Duration
	tries, unjoined, silent := 0, 0, 0
	for _, c := range clients {
		tries += c.tries
		if c.joined == 0 {
			unjoined++
		} else if joined = append(joined, c.joined); c.messages < 3 {
			silent++
		}
		if c.last != "" {
			s.t.Logf("%d tries, %d messages, last lost: %s", c.tries, c.messages, c.last)
		}
	}
	slices.Sort(joined)
	if len(joined) > 0 {
		s.t.Logf("snapshots after %v to %v, %d streams", joined[0], joined[len(joined)-1], tries)
	}
	if unjoined > 0 || silent > 0 {
		s.t.Errorf("of %d clients %d got no snapshot, and %d fewer than 3 messages after it",
			len(clients), unjoined, silent)
	}
}
