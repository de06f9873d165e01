package presence_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/presence/pkg/presence"
)

// Promise 3: clients that disconnect and resume while messages are published receive every message
// once and in order, except the messages that a correct reset covers. Each client resumes 10 times
// or more, usually after a disconnect in the middle of an event. In make test-long, 1,000 clients
// resume 27 times each during 50,000 messages.
func TestPromise3Replay(t *testing.T) {
	var (
		clients  = sized(100, 250, 1000)
		messages = sized[uint64](5_000, 20_000, 50_000)
		history  = sized[uint64](200, 500, 1000)
		stay     = 400 * int(history) // maximum bytes per visit; a message has some 150
	)
	h := open(t, presence.Config{History: int(history), HistoryAge: time.Hour, MemberLimit: 10})
	crowd := newCrowd()
	var returns, resets atomic.Int64
	var wait sync.WaitGroup
	for i := range clients {
		token := bearer(t, fmt.Sprint("user-", i))
		crowd.connects()
		wait.Go(func() {
			c := replayed{addr: strings.TrimPrefix(h.URL, "http://"), token: token}
			rnd := rand.New(rand.NewPCG(uint64(i), 0))
			for c.seq < messages && !t.Failed() {
				before, onSync := c.seq, sync.OnceFunc(crowd.synced)
				if err := c.follow(rnd.IntN(stay), messages, onSync); err != nil {
					t.Error(err)
				}
				onSync() // if it left before its sync
				if c.reset {
					resets.Add(1)
					if published := crowd.published.Load(); published-before <= history {
						t.Errorf("got a reset at message %d of %d, want a replay of at most %d messages", before, published, history)
					}
				}
				returns.Add(1)
				crowd.waitForMessages(min(messages, c.seq+rnd.Uint64N(history*21/20)))
			}
			crowd.synced()
		})
	}
	for i := range messages {
		crowd.waitForSyncs(clients / 20)
		_, err := h.Publish(t.Context(), "lobby", "", i+1)
		for errors.Is(err, presence.ErrBusy) { // on a busy machine; the message was not published
			_, err = h.Publish(t.Context(), "lobby", "", i+1)
		}
		if err != nil {
			t.Error(err)
		}
		if t.Failed() {
			go h.Shutdown(t.Context()) // ends with the test; unblocks the clients
			break
		}
		crowd.publish(i + 1)
	}
	crowd.publish(messages)
	wait.Wait()
	t.Logf("the clients connected %d times and got %d resets", returns.Load(), resets.Load())
	if returns.Load() < 10*int64(clients) || resets.Load() == 0 || resets.Load() > returns.Load()/4 {
		t.Errorf("got %d connects and %d resets, want at least %d connects, a reset, and at most one reset for 4 connects", returns.Load(), resets.Load(), 10*clients)
	}
}

// replayed is a client that reads fast and keeps its position.
type replayed struct {
	addr, token string
	lastID      string
	seq         uint64
	reset       bool // received a reset on this connection
}

// follow opens the stream and reads up to stay bytes, or until the message last. It calls onSync
// when it receives the sync.
func (c *replayed) follow(stay int, last uint64, onSync func()) error {
	c.reset = false
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Minute))
	fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nLast-Event-ID: %s\r\n\r\n", c.token, c.lastID)
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 32<<10), nil)
	if err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /events: got %v, %v; want 200", response, err)
	}
	blocks := bufio.NewScanner(io.LimitReader(response.Body, int64(stay)))
	blocks.Buffer(make([]byte, 32<<10), 1<<20)
	blocks.Split(wholeBlocks)
	var want []byte
	for c.seq < last && blocks.Scan() {
		block := blocks.Bytes()
		id, rest, _ := bytes.Cut(block, []byte("\n"))
		id, found := bytes.CutPrefix(id, []byte("id: "))
		if !found {
			continue
		}
		_, digits, _ := bytes.Cut(id, []byte("-"))
		seq, err := strconv.ParseUint(string(digits), 10, 64)
		if err != nil {
			return fmt.Errorf("got id %q, want EPOCH-NUMBER", id)
		}
		name := rest[bytes.LastIndexByte(rest, '\n')+1:]
		switch string(name) {
		case "event: message":
			want = append(append(append(want[:0], `"data":`...), digits...), ',')
			if seq != c.seq+1 || !bytes.Contains(rest, want) {
				return fmt.Errorf("got %s, want message %d", block, c.seq+1)
			}
			c.seq = seq
		case "event: reset":
			c.reset, c.seq = true, seq
		case "event: sync":
			if c.lastID != "" && seq != c.seq {
				return fmt.Errorf("got %s, want sequence number %d", block, c.seq)
			}
			c.seq = seq
			onSync()
		default:
			if seq != c.seq {
				return fmt.Errorf("got %s, want sequence number %d", block, c.seq)
			}
		}
		c.lastID = string(id)
	}
	return nil // the client has all messages, left in the middle of an event, or was disconnected
}

// wholeBlocks is a bufio.SplitFunc that splits a stream at its blank lines, and drops an incomplete
// block at the end.
func wholeBlocks(data []byte, _ bool) (advance int, block []byte, err error) {
	if i := bytes.Index(data, []byte("\n\n")); i >= 0 {
		return i + 2, data[:i], nil
	}
	return 0, nil, nil
}

// crowd coordinates the publisher and the clients. It counts the published messages and the clients
// that are connecting.
type crowd struct {
	published atomic.Uint64

	mu         sync.Mutex // guards known and connecting
	known      uint64     // the value of published when the waiting clients were last woken
	connecting int        // clients that connect and have no sync yet
	more       *sync.Cond // signals that known has grown
	fewer      *sync.Cond // signals that connecting has fallen
}

func newCrowd() *crowd {
	c := new(crowd)
	c.more, c.fewer = sync.NewCond(&c.mu), sync.NewCond(&c.mu)
	return c
}

// publish records that n messages are published, and wakes the waiting clients at every 50th
// message.
func (c *crowd) publish(n uint64) {
	c.published.Store(n)
	if n%50 == 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.known = n
		c.more.Broadcast()
	}
}

// waitForSyncs waits until at most that many clients are connecting.
func (c *crowd) waitForSyncs(most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.connecting > most {
		c.fewer.Wait()
	}
}

// waitForMessages waits until n messages are published, with n rounded down to a multiple of 50.
// Then it counts the client as connecting.
func (c *crowd) waitForMessages(n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.known < n/50*50 {
		c.more.Wait()
	}
	c.connecting++
}

func (c *crowd) connects() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connecting++
}

func (c *crowd) synced() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connecting--
	c.fewer.Signal()
}
