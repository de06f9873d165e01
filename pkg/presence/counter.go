package presence

import (
	"errors"
	"slices"
	"sync"
	"time"

	"example.com/presence/pkg/presence/room"
	"example.com/presence/pkg/presence/stream"
)

// counter is the mutex-guarded counter: who is in one room, and what its
// shared stream was told of it. Its numbers are the sizes of the room's sets.
type counter struct {
	name    room.Name
	config  *Config
	stream  *stream.Stream
	hooks   *hooks
	running *sync.WaitGroup // whatever the server waits for at its end
	drop    func(*counter)  // called when the room may be empty, with no lock held

	mu      sync.Mutex // guards what follows
	room    room.Room
	joiners []joiner    // counted in; they wait for the sync of this window
	missed  [][]byte    // the messages said while there are joiners
	told    int         // the last user count
	last    time.Time   // when something was told
	timer   *time.Timer // calls wake
	closed  bool        // nothing is told any more, nobody joins
}

// errClosed says that the room was dropped, or the server drained, while
// somebody was at its door.
var errClosed = errors.New("room closed")

func newCounter(name room.Name, config *Config, str *stream.Stream, hooks *hooks, start room.Place, running *sync.WaitGroup, drop func(*counter)) *counter {
	c := &counter{
		name:    name,
		config:  config,
		stream:  str,
		hooks:   hooks,
		running: running,
		drop:    drop,
		room:    room.New(room.Config{Linger: config.Linger, MemberLimit: config.MemberLimit, Start: start}),
	}
	c.timer = time.AfterFunc(time.Hour, c.wake)
	c.timer.Stop()
	return c
}

// join counts the connection in and has the new number told. The client is
// answered at once; its sync comes at the end of the window, which is at once too
// if the room was quiet, and then the messages since it joined.
func (c *counter) join(conn *connection, u User, lastID string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	now := time.Now()
	c.room.Join(conn.id, room.User{ID: room.UserID(u.ID), Name: u.Name, Info: u.Info}, now)
	conn.counter = c
	conn.server.conns.add(conn) // under the lock: who is in when the room is closed is told goodbye
	place := c.room.Place().String()
	conn.greet(lastID, place)
	c.joiners = append(c.joiners, joiner{conn, place, len(c.missed)})
	c.running.Add(1)
	c.tellLocked(now)
	return nil
}

// leave counts the connection out.
func (c *counter) leave(conn *connection, why room.Reason) {
	defer c.running.Done()
	c.mu.Lock()
	defer c.unlock()
	now := time.Now()
	c.room.Leave(conn.id, why, now)
	if i := slices.IndexFunc(c.joiners, func(j joiner) bool { return j.connection == conn }); i >= 0 {
		c.joiners = slices.Delete(c.joiners, i, i+1)
		if len(c.joiners) == 0 {
			c.missed = nil
		}
	} else {
		c.stream.Detach(conn.conn)
	}
	c.tellLocked(now)
}

// wake is the timer's: a window has ended, or a member's lingering.
func (c *counter) wake() {
	c.mu.Lock()
	defer c.unlock()
	now := time.Now()
	c.room.Expire(now)
	c.tellLocked(now)
}

// unlock ends what may have left the room empty: then it is dropped.
func (c *counter) unlock() {
	empty := !c.closed && c.emptyLocked()
	c.mu.Unlock()
	if empty {
		c.drop(c)
	}
}

// say publishes a message and returns its id. A slot of the stream must have
// been reserved; it stays so after an error.
func (c *counter) say(m Message) (id string, err error) {
	c.mu.Lock()
	defer c.unlock()
	if c.closed {
		return "", errClosed
	}
	m.Room, m.ID, m.At = string(c.name), c.room.Advance().String(), time.Now().UTC().Truncate(time.Millisecond)
	e := messageEvent(m)
	c.stream.Publish(e, stream.Reserved)
	if len(c.joiners) > 0 {
		c.missed = append(c.missed, e.Append(nil))
	}
	if hook := c.config.OnMessage; hook != nil {
		c.hooks.add(len(m.Data), func() { hook(m) })
	}
	return m.ID, nil
}

// tellLocked publishes what there is to tell, if the window since the last
// time has ended, and sets the timer for what is to be done later.
func (c *counter) tellLocked(now time.Time) {
	if c.closed {
		return
	}
	due := c.room.Due()
	if c.newsLocked(now) {
		if end := c.last.Add(c.window()); now.Before(end) {
			due = end
		} else {
			c.publishLocked(now)
			due = c.room.Due()
		}
	}
	if due.IsZero() {
		c.timer.Stop()
	} else {
		c.timer.Reset(due.Sub(now))
	}
}

func (c *counter) newsLocked(now time.Time) bool {
	return len(c.joiners) > 0 || c.countLocked() != c.told || c.room.HasNews(now)
}

// window is the time from one count to the next. What a count costs grows
// with the room; at eight times what the last one took, counts take a ninth
// of the time at most, however many join at once.
func (c *counter) window() time.Duration {
	return min(max(c.config.Coalesce, 8*c.stream.Pass()), time.Second)
}

// publishLocked ends the window: the shared stream hears who came and went and
// the new number, and those who joined get the state that includes them.
func (c *counter) publishLocked(now time.Time) {
	news := c.room.News(now)
	id := c.room.Place().String()
	for _, change := range news.Changes {
		c.hearLocked(change)
		if !news.Sync && !c.room.Counting() {
			c.stream.Publish(changeEvent(id, &c.room, change), stream.Every)
		}
	}
	var state []byte // made once for all
	if news.Sync || len(c.joiners) > 0 {
		state = syncData(&c.room, c.config.Heartbeat)
	}
	if news.Sync {
		c.stream.Publish(stream.Event{ID: id, Name: string(room.EventSync), Data: state}, stream.Free)
	}
	n := c.countLocked()
	if n != c.told {
		c.told = n
		c.stream.Publish(stream.Event{ID: id, Name: string(room.EventCount), Data: encode(n)}, stream.Latest)
	}
	if len(c.joiners) > 0 {
		c.admitLocked(state, n)
	}
	c.last = now
}

// admitLocked gives those who joined in this window the state, made once for
// all of them, and attaches them to the shared stream. Each is told the state
// at its own place, which is why the id lines stand apart, then the messages
// since, so that no id goes back.
func (c *counter) admitLocked(state []byte, count int) {
	sync := stream.Event{Name: string(room.EventSync), Data: state}.Append(nil)
	number := stream.Event{Name: string(room.EventCount), Data: encode(count)}.Append(nil)
	for _, j := range c.joiners {
		id := []byte("id: " + j.place + "\n")
		j.conn.Tell(slices.Concat([][]byte{id, sync, id, number}, c.missed[j.since:])...)
		c.stream.Attach(j.conn)
	}
	c.joiners, c.missed = nil, nil
}

// hearLocked lets the host program hear of the change.
func (c *counter) hearLocked(change room.Change) {
	joined, left := c.config.OnJoin, c.config.OnLeave
	switch {
	case change.Left == "" && joined != nil:
		c.hooks.add(len(change.Member.Info), func() { joined(string(c.name), change.Member) })
	case change.Left != "" && left != nil:
		c.hooks.add(len(change.Member.Info), func() { left(string(c.name), change.Member, change.Left) })
	}
}

// countLocked is the user count.
func (c *counter) countLocked() int {
	return c.config.count(&c.room)
}

func (c *counter) emptyLocked() bool {
	return c.room.Users() == 0 && !c.newsLocked(time.Now())
}

// close brings those who joined in this window to the stream, and is the last
// to publish.
func (c *counter) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed && c.newsLocked(time.Now()) {
		c.publishLocked(time.Now())
	}
	c.closeLocked()
}

func (c *counter) closeLocked() {
	c.closed = true
	c.timer.Stop()
}
