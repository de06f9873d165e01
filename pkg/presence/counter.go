package presence

import (
	"container/list"
	"errors"
	"slices"
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/stream"
	"example.com/presence/pkg/presence/room"
)

// counter is the mutex-guarded counter: who is in one room, and what its
// shared stream was told of it. Its numbers are the sizes of the room's sets.
type counter struct {
	name   room.Name
	shared *shared
	stream *stream.Stream
	drop   func(*counter) // called with no lock held when the room was unused for long
	unused *unused

	mu      sync.Mutex // guards what follows
	room    room.Room
	joiners []joiner      // counted in; they wait for their sync until the interval ends
	missed  []byte        // the messages said while there are joiners
	told    int           // the last user count of the shared stream
	ahead   bool          // a client holds another one since then
	last    time.Time     // when something was told
	idle    time.Time     // since when nobody is here and nothing is said; zero while somebody is
	queued  *list.Element // in unused, while idle is not zero
	timer   *time.Timer   // calls wake
	closed  bool          // nothing is told any more, nobody joins
}

// errClosed says that the room was dropped, or the server drained, while
// somebody was at its door.
var errClosed = errors.New("room closed")

const (
	// maxSnapshot is the largest sync that a joiner gets before the interval ends, in bytes. Each
	// such sync is encoded for its joiner alone; a larger one is encoded once per interval. A
	// joiner that reads nothing holds it for up to 15 s: the bound of all is that on connections.
	maxSnapshot = 4 << 10
	// The longest flush intervals that passes make, in a room that sends members and in one that
	// sends counts only. A room at rest for 1 s has sent its last count to every client (promise
	// 1): 750 ms leave 250 ms for that pass. An interval of 1 s missed it by 4 ms at 15,000
	// clients. A join waits for the interval only in a room that sends members.
	maxMembersInterval = 250 * time.Millisecond
	maxCountsInterval  = 750 * time.Millisecond
)

func newCounter(name room.Name, s *shared, floor uint64, u *unused, drop func(*counter)) *counter {
	c := &counter{
		name:   name,
		shared: s,
		stream: s.streams.Stream(string(name)),
		drop:   drop,
		unused: u,
		room: room.New(room.Config{Linger: s.config.Linger, MemberLimit: s.config.MemberLimit,
			Start: room.Place{Epoch: s.epoch, Seq: floor}}),
		idle: time.Now(),
	}
	c.mu.Lock()
	defer c.mu.Unlock() // wake waits until there is a timer
	c.queued = u.add(c)
	c.timer = time.AfterFunc(s.config.HistoryAge, c.wake)
	return c
}

// join counts the connection in and has the new number published. The client is
// answered at once, with its replay. Its sync and count follow at once where they
// are small and no member change waits, which its own arrival may be; else at the end
// of the flush interval, and then the messages since it joined.
func (c *counter) join(conn *connection, u User, lastID string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	now := time.Now()
	if !c.shared.memory.banned(c.name, conn.user, now).IsZero() {
		return errBanned
	}
	c.room.Join(conn.id, room.User{ID: conn.user, Name: u.Name, Info: u.Info}, now)
	place := c.room.Place()
	greeting := c.greetLocked(conn, lastID, place, now)
	c.shared.running.Add(1)
	if c.intervalLocked(now) && c.admitAtOnceLocked(conn, greeting, now) {
		c.shared.conns.enter(conn, true)
	} else {
		if greeting != nil {
			conn.conn.Send(greeting)
		}
		c.shared.conns.enter(conn, false) // under the lock: a kick or Shutdown ends the connections of the room
		c.joiners = append(c.joiners, joiner{conn, place.String(), len(c.missed)})
	}
	c.tellLocked(now)
	return nil
}

// greetLocked returns the first events for a client: the time to wait before it reconnects, and a
// reset, if it cannot resume with its id. If it can, greetLocked sends the greeting and the replay
// itself, and returns nil.
func (c *counter) greetLocked(conn *connection, lastID string, here room.Place, now time.Time) (greeting []byte) {
	greeting = appendRetry(make([]byte, 0, 256), time.Second, 3*time.Second)
	if lastID == "" {
		return greeting
	}
	switch missed, taken, ok := c.shared.memory.missed(conn, lastID, here, now); {
	case !ok:
		greeting = resetEvent(here.String()).Append(greeting)
	case len(missed) > 0:
		conn.conn.Send(greeting)
		conn.conn.SendThen(taken, missed...)
		return nil
	}
	return greeting
}

// admitAtOnceLocked sends the joiner its own snapshot, after the greeting, and attaches it to the
// shared stream, between two counts. It reports false, having sent nothing, where the
// snapshot is large, or where a member change waits: the joiner would then receive
// that change a second time.
//
// The joiner may now hold a number that the other clients do not, and that may
// be wrong before the next count: ahead has the next count published even if it
// equals the last one.
func (c *counter) admitAtOnceLocked(conn *connection, greeting []byte, now time.Time) bool {
	c.room.Expire(now)
	if !c.room.Counting() && (c.room.HasNews(now) || c.room.MembersExceed(maxSnapshot)) {
		return false
	}
	state := syncData(&c.room, c.shared.config.Heartbeat)
	if len(state) > maxSnapshot {
		return false
	}
	c.shared.syncs.Add(1)
	n, id := c.countLocked(), c.room.Place().String()
	first := stream.Event{ID: id, Name: string(room.EventSync), Data: state}.Append(greeting)
	conn.conn.Send(countEvent(id, n).Append(first)) // in one write
	c.stream.Attach(conn.conn)
	c.ahead = c.ahead || n != c.told
	return true
}

// leave counts the connection out.
func (c *counter) leave(conn *connection, why room.Reason) {
	defer c.shared.running.Done()
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

// kick takes the user away with all its connections, and keeps it out for a
// time.
func (c *counter) kick(user room.UserID, ban time.Duration) error {
	c.mu.Lock()
	defer c.unlock()
	now := time.Now()
	if !c.room.Has(user) {
		return ErrNotInRoom
	}
	if err := c.shared.memory.ban(c.name, user, now.Add(ban), now); err != nil {
		return err
	}
	c.room.Remove(user)
	c.shared.conns.endIn(c.name, user, endRemoved)
	c.tellLocked(now)
	return nil
}

// update replaces the info of a member, and reports whether it is here.
func (c *counter) update(user room.UserID, info []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	there := c.room.Update(user, info)
	if there {
		c.tellLocked(time.Now())
	}
	return there
}

// wake is the timer's: an interval has ended, or a member's grace period, or the time
// of an empty room.
func (c *counter) wake() {
	c.mu.Lock()
	defer c.unlock()
	c.tellLocked(time.Now())
}

// unlock ends what may have left the room unused for long: then it is dropped.
func (c *counter) unlock() {
	unused := c.unusedLocked(time.Now())
	c.mu.Unlock()
	if unused {
		c.drop(c)
	}
}

// say publishes a message and returns its id. A slot of the stream must have
// been reserved; it stays so after an error. If by has sent it before, as the
// id that is its own says, that one's id is returned.
func (c *counter) say(m Message, by room.UserID, own string) (id string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return "", errClosed
	}
	now := time.Now()
	if by != "" && !c.shared.memory.banned(c.name, by, now).IsZero() { // since it was let in, its body took its time
		return "", errBanned
	}
	place := c.room.Place()
	seq, found, err := c.shared.memory.sent(c.name, by, own, now)
	if found {
		c.stream.Release()
		return room.Place{Epoch: place.Epoch, Seq: seq}.String(), nil
	} else if err != nil {
		return "", err
	}
	place = c.room.Advance()
	m.Room, m.ID, m.At = string(c.name), place.String(), now.UTC().Truncate(time.Millisecond)
	e := messageEvent(m)
	c.stream.Publish(e, stream.Reserved)
	encoded := e.Append(nil)
	for _, conn := range c.shared.memory.keep(c.name, place.Seq, encoded, by, own, now) {
		conn.conn.End(stream.Slow)
	}
	if len(c.joiners) > 0 {
		c.missed = append(c.missed, encoded...)
	}
	if !c.idle.IsZero() {
		c.idle = now
		c.unused.touch(c.queued)
	}
	if hook := c.shared.config.OnMessage; hook != nil {
		c.shared.hooks.add(len(m.Data), func() { hook(m) })
	}
	return m.ID, nil
}

// tellLocked removes the users whose grace period has ended, publishes changes if
// the flush interval has ended, and sets the timer for the next of either.
func (c *counter) tellLocked(now time.Time) {
	if c.closed {
		return
	}
	c.room.Expire(now)
	switch used := c.room.Users() > 0; {
	case used && !c.idle.IsZero():
		c.idle = time.Time{}
		c.unused.remove(c.queued)
	case !used && c.idle.IsZero():
		c.idle = now
		c.queued = c.unused.add(c)
	}
	due := c.room.Due(now)
	if c.newsLocked(now) {
		if c.intervalLocked(now) && c.room.Exceeds() {
			c.publishLocked(now, false) // from now on nobody waits for members
		}
		if end := c.last.Add(c.interval()); !now.Before(end) {
			c.publishLocked(now, true)
			due = c.room.Due(now)
		} else if due.IsZero() || end.Before(due) {
			due = end
		}
	}
	if !c.idle.IsZero() && due.IsZero() {
		due = c.idle.Add(c.shared.config.HistoryAge)
	}
	if due.After(now) {
		c.timer.Reset(due.Sub(now))
	} else { // there is none, or the room is unused: then unlock drops it
		c.timer.Stop()
	}
}

func (c *counter) newsLocked(now time.Time) bool {
	return len(c.joiners) > 0 || c.ahead || c.countLocked() != c.told || c.room.HasNews(now)
}

// intervalLocked reports whether the flush interval since the last count is running.
func (c *counter) intervalLocked(now time.Time) bool { return now.Before(c.last.Add(c.interval())) }

// interval is the flush interval: the time from one count to the next. The cost of a
// count grows with the room; at eight times the duration of the last one, counts
// take a ninth of the time at most, however many clients join at once.
func (c *counter) interval() time.Duration {
	longest := maxMembersInterval
	if c.room.Counting() {
		longest = maxCountsInterval
	}
	return max(c.shared.config.Coalesce, min(8*c.stream.FanOutTime(), longest))
}

// publishLocked publishes the member changes and sends the waiting joiners a snapshot
// that includes them. With the count it ends the interval.
func (c *counter) publishLocked(now time.Time, count bool) {
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
		state = syncData(&c.room, c.shared.config.Heartbeat)
		c.shared.syncs.Add(1)
	}
	if news.Sync {
		c.stream.Publish(stream.Event{ID: id, Name: string(room.EventSync), Data: state}, stream.Free)
	}
	n := c.countLocked()
	if count && (n != c.told || c.ahead) {
		c.told, c.ahead = n, false
		c.stream.Publish(countEvent(id, n), stream.Latest)
	}
	if len(c.joiners) > 0 {
		c.admitLocked(state, n)
		c.ahead = c.ahead || n != c.told
	}
	if count {
		c.last = now
	}
}

// admitLocked sends the joiners of this interval the state, made once for
// all of them, and attaches them to the shared stream. Each is told the state
// at its own place, which is why the id lines stand apart, then the messages
// since, so that no id goes back.
func (c *counter) admitLocked(state []byte, count int) {
	sync := stream.Event{Name: string(room.EventSync), Data: state}.Append(nil)
	number := countEvent("", count).Append(nil)
	syncing, slow := c.shared.memory.tell(len(sync), c.joiners)
	for _, conn := range slow {
		conn.conn.Drop(stream.Slow) // with a goodbye it would hold the state for as long as that may take
	}
	for _, j := range c.joiners {
		id := []byte("id: " + j.place + "\n")
		pieces := [][]byte{id, sync, id, number}
		if missed := c.missed[j.since:]; len(missed) > 0 { // in memory once, however many joined
			pieces = append(pieces, missed)
		}
		j.conn.SendThen(func() { c.shared.memory.taken(syncing, j.connection) }, pieces...)
		c.stream.Attach(j.conn)
		c.shared.conns.admit(j.connection)
	}
	c.joiners, c.missed = nil, nil
}

// hearLocked lets the host program hear of the change.
func (c *counter) hearLocked(change room.Change) {
	joined, left := c.shared.config.OnJoin, c.shared.config.OnLeave
	switch {
	case change.Event == room.EventJoin && joined != nil:
		c.shared.hooks.add(len(change.Member.Info), func() { joined(string(c.name), change.Member) })
	case change.Event == room.EventLeave && left != nil:
		c.shared.hooks.add(len(change.Member.Info), func() { left(string(c.name), change.Member, change.Reason) })
	}
}

// countLocked is the user count.
func (c *counter) countLocked() int {
	return c.shared.config.count(&c.room)
}

// unusedLocked reports whether the room may be dropped.
func (c *counter) unusedLocked(now time.Time) bool {
	return !c.closed && !c.idle.IsZero() && now.Sub(c.idle) >= c.shared.config.HistoryAge
}

// close attaches the joiners of this interval to the stream, and is the last
// to publish.
func (c *counter) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(time.Now())
}

func (c *counter) closeLocked(now time.Time) {
	if c.closed {
		return
	}
	if c.newsLocked(now) {
		c.publishLocked(now, true)
	}
	c.closed = true
	c.timer.Stop()
	if !c.idle.IsZero() {
		c.unused.remove(c.queued)
	}
}
