package main

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"
)

// A release is due exactly at the marked ticks. Each case is a sequence of ticks. A tick contains
// the bytes allocated in the last second, the bytes live at the last collection, the bytes held
// now, and whether a release is due.
func TestReleases(t *testing.T) {
	const mb = 1 << 20
	type tick struct {
		grown, live, held uint64
		want              bool
	}
	for name, ticks := range map[string][]tick{
		"nothing to gain": {{4 * mb, 2 * mb, 5 * mb, false}, {0, 2 * mb, 5 * mb, false}, {0, 2 * mb, 5 * mb, false}, {0, 2 * mb, 5 * mb, false}},
		"a burst, then idle": {{4 * mb, 2 * mb, 5 * mb, false}, {90 * mb, 20 * mb, 60 * mb, false}, {90 * mb, 20 * mb, 80 * mb, false},
			{0, 20 * mb, 80 * mb, false}, {0, 20 * mb, 80 * mb, true}},
		"a wave while idle": {{4 * mb, 2 * mb, 5 * mb, false}, {0, 20 * mb, 60 * mb, false}, {20 * mb, 20 * mb, 60 * mb, false},
			{0, 20 * mb, 60 * mb, false}, {0, 20 * mb, 60 * mb, true}},
		"steady traffic": {{mb, 2 * mb, 5 * mb, false}, {5 * mb, 20 * mb, 60 * mb, false}, {5 * mb, 20 * mb, 60 * mb, false},
			{5 * mb, 20 * mb, 60 * mb, false}, {5 * mb, 20 * mb, 60 * mb, false}},
		"little traffic": {{mb, 2 * mb, 5 * mb, false}, {3 * mb, 20 * mb, 60 * mb, false}, {3 * mb, 20 * mb, 60 * mb, true}},
		"little of a large heap": {{mb, 100 * mb, 105 * mb, false}, {0, 100 * mb, 115 * mb, false}, {0, 100 * mb, 115 * mb, false},
			{0, 100 * mb, 116 * mb, false}, {0, 100 * mb, 116 * mb, true}},
		"the least gain":        {{mb, 2 * mb, 5 * mb, false}, {0, 2 * mb, 9*mb - 1, false}, {0, 2 * mb, 9*mb - 1, false}, {0, 2 * mb, 9 * mb, false}, {0, 2 * mb, 9 * mb, true}},
		"slack that shrank":     {{mb, 2 * mb, 9 * mb, false}, {0, 2 * mb, 9 * mb, false}, {0, 2 * mb, 5 * mb, false}, {0, 2 * mb, 9 * mb, false}, {0, 2 * mb, 9 * mb, true}},
		"more live than held":   {{mb, 20 * mb, 10 * mb, false}, {0, 20 * mb, 10 * mb, false}, {0, 20 * mb, 10 * mb, false}},
		"allocated at the tick": {{mb, 2 * mb, 5 * mb, false}, {0, 2 * mb, 15 * mb, false}, {mb + 1, 2 * mb, 15 * mb, false}, {mb, 2 * mb, 15 * mb, false}, {mb, 2 * mb, 15 * mb, true}},
	} {
		var r releases
		r.done(memoryUse{held: 3 * mb, live: 0}, time.Time{}, 0) // 3 MB of stacks and fragmentation
		now, allocated := time.Unix(1, 0), uint64(0)
		for i, k := range ticks {
			now = now.Add(memoryTick)
			allocated += k.grown
			if got := r.due(memoryUse{allocated: allocated, live: k.live, held: k.held}, now); got != k.want {
				t.Errorf("%s, tick %d: got %v, want %v", name, i, got, k.want)
			}
		}
	}
}

// A pause follows each release. Memory that a release could not return does not cause another
// release.
func TestReleasesPause(t *testing.T) {
	const mb = 1 << 20
	for took, pause := range map[time.Duration]time.Duration{
		0: 5 * time.Second, 20 * time.Millisecond: 5 * time.Second, 100 * time.Millisecond: 20 * time.Second,
	} {
		var r releases
		began := time.Unix(1, 0)
		r.done(memoryUse{live: 20 * mb, held: 50 * mb}, began, took)
		for now := began.Add(time.Second); now.Before(began.Add(time.Minute)); now = now.Add(time.Second) {
			if r.due(memoryUse{live: 20 * mb, held: 53 * mb}, now) {
				t.Fatalf("release after %v, with only 3 MB more slack than after the last release", now.Sub(began))
			}
		}
		r.done(memoryUse{live: 20 * mb, held: 50 * mb}, began, took)
		for now := began.Add(time.Second); ; now = now.Add(time.Second) {
			if r.due(memoryUse{live: 20 * mb, held: 60 * mb}, now) {
				if got := now.Sub(began); got != pause {
					t.Errorf("after a release of %v: got a pause of %v, want %v", took, got, pause)
				}
				break
			} else if now.Sub(began) > time.Minute {
				t.Fatal("never released")
			}
		}
	}
}

// The stacks of open streams do not count as gain, because a release cannot return them. They count
// after the streams have closed.
func TestReleasesStacks(t *testing.T) {
	const mb = 1 << 20
	for goroutines, want := range map[uint64]bool{10_000: false, 5_000: false, 4_999: true} {
		var r releases
		now := time.Unix(1, 0)
		r.done(memoryUse{live: 20 * mb, held: 200 * mb, goroutines: 10_000}, now, 0)
		released := false
		for range 10 {
			now = now.Add(memoryTick)
			released = released || r.due(memoryUse{live: 20 * mb, held: 200 * mb, goroutines: goroutines}, now)
		}
		if released != want {
			t.Errorf("with %d of 10,000 goroutines left: released %v, want %v", goroutines, released, want)
		}
	}
}

// readMemory counts memory in use as both held and allocated.
func TestReadMemory(t *testing.T) {
	const size = 64 << 20
	runtime.GC() // live is 0 before the first collection
	before := readMemory()
	b := bytes.Repeat([]byte("x"), size)
	after := readMemory()
	if after.allocated-before.allocated < size || after.held < size || before.live == 0 || after.goroutines == 0 || b[0] != 'x' {
		t.Errorf("got %+v, then %+v with %d bytes more", before, after, size)
	}
}

// A server that has become idle releases the memory of a burst of requests.
func TestServeReleasesMemory(t *testing.T) {
	t.Parallel()
	heavy(t)
	_, log, addr := serveProcess(t, "--log-level=debug", "--history=0", "--message-rate=0")
	token := must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=alice")
	body := bytes.Repeat([]byte("x"), 60<<10)
	var conns []net.Conn
	for range 500 { // all bodies are in memory at the same time
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /messages HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n", addr, token, len(body)+1)
		if _, err := conn.Write(body); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		conn.SetDeadline(time.Now().Add(patience))
		conn.Write([]byte("x"))
		if _, err := conn.Read(make([]byte, 512)); err != nil { // 202, or 400 if a body was late
			t.Fatal(err)
		}
	}
	idle(t, func() { log.find(t, `"memory released"`) })
}
