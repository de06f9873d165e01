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

// Clients disconnect, in the middle of an event as a rule, and resume, each 10
// times or more, while messages are sent. Each client receives every message
// once and in order, except those that a correct reset covers. In make test-long
// 1,000 clients resume 27 times each during 50,000 messages.
func TestPromise3Replay(t *testing.T) {
	var (
		clients  = sized(100, 250, 1000)
		messages = sized[uint64](5_000, 20_000, 50_000)
		history  = sized[uint64](200, 500, 1000)
		stay     = 400 * int(history) // bytes at most, of some 150 a message
	)
	h := open(t, presence.Config{History: int(history), HistoryAge: time.Hour, MemberLimit: 10})
	crowd := newCrowd()
	var returns, resets atomic.Int64
	var wait sync.WaitGroup
	for i := range clients {
		token := bearer(t, fmt.Sprint("user-", i))
		crowd.comes()
		wait.Go(func() {
			c := replayed{addr: strings.TrimPrefix(h.URL, "http://"), token: token}
			rnd := rand.New(rand.NewPCG(uint64(i), 0))
			for c.seq < messages && !t.Failed() {
				before, here := c.seq, sync.OnceFunc(crowd.isHere)
				if err := c.follow(rnd.IntN(stay), messages, here); err != nil {
					t.Error(err)
				}
				here() // or it left before its sync
				if c.reset {
					resets.Add(1)
					if said := crowd.said.Load(); said-before <= history {
						t.Errorf("of %d messages a client had %d, and was told reset", said, before)
					}
				}
				returns.Add(1)
				crowd.waitFor(min(messages, c.seq+rnd.Uint64N(history*21/20)))
			}
			crowd.isHere()
		})
	}
	for i := range messages {
		crowd.gather(clients / 20)
		_, err := h.Publish(t.Context(), "lobby", "", i+1)
		for errors.Is(err, presence.ErrBusy) { // on a machine that has much else to do; it was not said
			_, err = h.Publish(t.Context(), "lobby", "", i+1)
		}
		if err != nil {
			t.Error(err)
		}
		if t.Failed() {
			go h.Shutdown(t.Context()) // ends with the test: nobody waits for more
			break
		}
		crowd.say(i + 1)
	}
	crowd.say(messages)
	wait.Wait()
	t.Logf("the clients came %d times, and were told reset %d times", returns.Load(), resets.Load())
	if returns.Load() < 10*int64(clients) || resets.Load() == 0 || resets.Load() > returns.Load()/4 {
		t.Errorf("the clients came %d times, and were told reset %d times: this tests little", returns.Load(), resets.Load())
	}
}

// replayed is a client that reads fast and remembers its place.
type replayed struct {
	addr, token string
	lastID      string
	seq         uint64
	reset       bool // told so this time
}

// follow opens the stream and follows it for so many bytes, or until it has the
// last message. Here is called when it has its sync.
func (c *replayed) follow(stay int, last uint64, here func()) error {
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
		return fmt.Errorf("%v, %v", response, err)
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
			return fmt.Errorf("an id is %q", id)
		}
		name := rest[bytes.LastIndexByte(rest, '\n')+1:]
		switch string(name) {
		case "event: message":
			want = append(append(append(want[:0], `"data":`...), digits...), ',')
			if seq != c.seq+1 || !bytes.Contains(rest, want) {
				return fmt.Errorf("after message %d comes %s", c.seq, block)
			}
			c.seq = seq
		case "event: reset":
			c.reset, c.seq = true, seq
		case "event: sync":
			if c.lastID != "" && seq != c.seq {
				return fmt.Errorf("at message %d comes %s", c.seq, block)
			}
			c.seq = seq
			here()
		default:
			if seq != c.seq {
				return fmt.Errorf("at message %d comes %s", c.seq, block)
			}
		}
		c.lastID = string(id)
	}
	return nil // it has enough, or leaves in the midst of an event, or was sent away
}

// wholeBlocks splits a stream at its blank lines, and gives out no rest.
func wholeBlocks(data []byte, _ bool) (advance int, block []byte, err error) {
	if i := bytes.Index(data, []byte("\n\n")); i >= 0 {
		return i + 2, data[:i], nil
	}
	return 0, nil, nil
}

// crowd is the clients of which some are on their way, and how many messages
// were said.
type crowd struct {
	said atomic.Uint64

	mu     sync.Mutex // guards what follows
	known  uint64     // of said, to those who wait
	coming int
	more   *sync.Cond // known has grown
	fewer  *sync.Cond // coming has fallen
}

func newCrowd() *crowd {
	c := new(crowd)
	c.more, c.fewer = sync.NewCond(&c.mu), sync.NewCond(&c.mu)
	return c
}

// say says that there are so many messages, now and then to those who wait.
func (c *crowd) say(n uint64) {
	c.said.Store(n)
	if n%50 == 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.known = n
		c.more.Broadcast()
	}
}

// gather waits until no more than so many clients are on their way.
func (c *crowd) gather(most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.coming > most {
		c.fewer.Wait()
	}
}

// waitFor waits, off the way, until so many messages were said.
func (c *crowd) waitFor(n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.known < n/50*50 {
		c.more.Wait()
	}
	c.coming++
}

func (c *crowd) comes() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.coming++
}

func (c *crowd) isHere() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.coming--
	c.fewer.Signal()
}
