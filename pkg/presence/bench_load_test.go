//go:build linux

package presence_test

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence/auth"
)

// benchPatience is how long a benchmark waits for what must come.
const benchPatience = 2 * time.Minute

// inFlight is the maximum number of clients in flight where the order does not say another.
const inFlight = 200

// load is the process with the clients. One goroutine reads all their sockets, those of clients in
// flight first: else a client's wait would include reading the events of all others.
type load struct {
	epoll int           // the sockets of clients that have landed, and fresh
	fresh int           // epoll descriptor with the sockets of clients in flight
	slots chan struct{} // as many as clients are in flight

	mu       sync.Mutex // guards what follows; the reader holds it for the sockets that are ready
	buf      []byte
	now      time.Duration // when the bytes in buf were read, since start
	server   unix.SockaddrInet4
	addr     string
	source   byte            // order.Source
	clients  []loadClient    // one a user, whether it is connected or not
	rooms    int             // client i is in room i modulo rooms
	flight   stage           // the end of a client's time in flight
	open     int             // clients that are connected
	stopped  int             // those of them that are not read
	churned  int             // clients that went in churn; they go in the order of clients
	answered int             // clients that were, since open
	synced   int             // those that heard a sync
	final    int             // the count that the clients wait for
	counted  int             // clients whose last count is final
	messages int             // events that arrived
	waits    []time.Duration // of the clients that have landed, from connect(2) on
	landed   time.Duration   // when the last client in flight landed, since start
	failed   error

	// While messages are timed: when each was sent, since start, and for each room the id of the
	// first of them. They go to the rooms in turn.
	start   time.Time
	sent    []atomic.Int64
	first   []int
	arrival []time.Duration // from there to the client

	until func() bool   // asked after every round of the reader
	so    chan struct{} // closed when it is so
}

// loadClient is one connection and as much of the parser's state as is left
// between two reads.
type loadClient struct {
	request []byte
	i       int   // its place in clients
	fd      int   // -1 if it is not connected
	began   int64 // when it connected, since start; set atomically, as the reader has it by then
	landed  bool
	stopped bool
	synced  bool
	count   int // the last user count; -1 before the first
	bytes   int
	last    int // the place of the last message; -1 before the first id

	headed  bool     // the head of the answer is over
	chunked bool     // as it said
	chunk   int      // bytes that are left of this chunk
	size    int      // of the next one, as far as it is read
	line    [48]byte // the beginning of a line whose end has not come yet
	partial int      // bytes of it

	id     int // of the event under way; -1 without
	kind   eventKind
	number int // its data, if that is a number
}

// stage is a point in the life of a client.
type stage string

const (
	answered stage = "answered" // the head of the answer has arrived
	synced   stage = "synced"   // the first sync has arrived
	counted  stage = "counted"  // the first user count has arrived
)

type eventKind int8

const (
	otherEvent eventKind = iota
	messageEvent
	countEvent
	syncEvent
	goodbyeEvent
)

func newLoad() (*load, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	fresh, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fresh, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}); err != nil {
		return nil, err
	}
	l := &load{epoll: epoll, fresh: fresh, buf: make([]byte, 256<<10), start: time.Now()}
	go l.read() // ends with the process
	return l, nil
}

func (l *load) do(o order) (a answer, err error) {
	began := time.Now()
	switch o.Do {
	case "open":
		a, err = l.connect(o)
	case "say":
		a, err = l.say(o)
	case "post":
		a, err = l.post(o)
	case "stop":
		err = l.stop(o.Narrow)
	case "churn":
		err = l.churn(o)
	case "visit":
		a, err = l.visit(o)
	case "leave":
		a, err = l.leave(o)
	default:
		err = errors.New("not an order for the load")
	}
	a.Elapsed = cmp.Or(a.Elapsed, time.Since(began))
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.clients {
		a.Bytes += l.clients[i].bytes
	}
	a.Bytes /= max(1, l.open)
	return a, errors.Join(err, l.failed)
}

// connect opens all clients, as fast as it can, and waits until each has reached the stage o.Until. The time is without that of minting tokens.
func (l *load) connect(o order) (a answer, err error) {
	at, err := netip.ParseAddrPort(o.Addr)
	if err != nil {
		return a, err
	}
	rooms := max(1, o.Rooms)
	clients := make([]loadClient, o.Clients+o.Spare)
	token := ""
	for i := range clients {
		if i == 0 || !o.OneUser {
			user := fmt.Sprintf("user-%d", o.From+i)
			if token, err = auth.Mint(secret, auth.Claims{Sub: user, Name: user, Join: []string{"*"}}); err != nil {
				return a, err
			}
		}
		clients[i] = loadClient{i: i, fd: -1}
		clients[i].request = fmt.Appendf(nil, "GET /events?room=%s&stream=messages HTTP/1.1\r\n"+ // r3labs asks for the stream
			"Host: %s\r\nAccept: text/event-stream\r\nAuthorization: Bearer %s\r\n\r\n", roomName(o.Rooms, i), o.Addr, token)
	}
	l.mu.Lock()
	l.addr, l.server = o.Addr, unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	l.source = o.Source
	l.clients, l.rooms, l.final = clients, o.Rooms, o.Clients/rooms
	l.slots, l.flight = make(chan struct{}, cmp.Or(o.InFlight, inFlight)), cmp.Or(o.Flight, answered)
	l.waits = make([]time.Duration, 0, len(clients))
	l.mu.Unlock()
	began := time.Now()
	start := time.Since(l.start)
	for i := range o.Clients {
		if err := l.openClient(i, o.Narrow > 0 && i%o.Narrow == 0); err != nil {
			return a, err
		}
	}
	reached := map[stage]*int{answered: &l.answered, synced: &l.synced, counted: &l.counted}[o.Until]
	err = l.wait("the event that ends the order", func() bool { return *reached == o.Clients })
	a.Elapsed = time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	a.summarise(l.waits)
	a.Landed = l.landed - start
	return a, err
}

// roomName returns the name of the room of client i, or of message i, if there are so many rooms;
// 0 means the lobby.
func roomName(rooms, i int) string {
	if rooms == 0 {
		return "lobby"
	}
	return fmt.Sprintf("room-%d", i%rooms)
}

// openClient connects one client and sends its request. A narrow one has small buffers on both
// sides, as a path with small segments makes them. The lock is not held, and not waited for, between
// the start of the client's time in flight and its end.
func (l *load) openClient(i int, narrow bool) error {
	if err := l.takeSlot(); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if l.source != 0 {
		err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
			unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, l.source}}))
	}
	if narrow {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1460))
	}
	l.mu.Lock()
	c := &l.clients[i]
	request := c.request
	*c = loadClient{request: request, i: i, fd: fd, count: -1, last: -1, id: -1}
	l.open++
	l.mu.Unlock()
	atomic.StoreInt64(&c.began, int64(time.Since(l.start)))
	if err := errors.Join(err, unix.Connect(fd, &l.server), unix.SetNonblock(fd, true)); err != nil {
		return err
	}
	if _, err := unix.Write(fd, request); err != nil {
		return err
	}
	return unix.EpollCtl(l.fresh, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)})
}

// takeSlot returns when a client more may be in flight.
func (l *load) takeSlot() error {
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	patience := time.After(benchPatience)
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case l.slots <- struct{}{}:
			return nil
		case <-look.C:
			l.mu.Lock()
			err := l.failed
			l.mu.Unlock()
			if err != nil {
				return err
			}
		case <-patience:
			return fmt.Errorf("%d clients in flight for %v", len(l.slots), benchPatience)
		}
	}
}

// landLocked ends a client's time in flight if this stage is the end of it.
func (l *load) landLocked(c *loadClient, at stage) {
	if at != l.flight || c.landed {
		return
	}
	c.landed = true
	<-l.slots
	l.waits = append(l.waits, l.now-time.Duration(atomic.LoadInt64(&c.began)))
	l.landed = l.now
	l.failed = cmp.Or(l.failed, unix.EpollCtl(l.fresh, unix.EPOLL_CTL_DEL, c.fd, nil),
		unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.i)}))
}

// closeClientLocked ends a connection from this side. Close after reading
// everything is a FIN; before that, it would be a reset.
func (l *load) closeClientLocked(c *loadClient) {
	l.readClientLocked(c)
	if c.fd < 0 { // the server has closed it
		return
	}
	unix.Close(c.fd)
	c.fd = -1
	l.open--
	if !c.landed {
		<-l.slots
	}
	for _, n := range []struct {
		in bool
		of *int
	}{{c.headed, &l.answered}, {c.synced, &l.synced}, {c.count == l.final, &l.counted}} {
		if n.in {
			*n.of--
		}
	}
}

// churn closes the client that came first and opens another, so many times a
// second, and then waits until each was told how many there are.
func (l *load) churn(o order) error {
	began := time.Now()
	for n := 0; ; n++ {
		due := time.Duration(float64(n) / o.Rate * float64(time.Second))
		if due >= o.Time {
			return l.wait("the count after the churn", func() bool { return l.counted == l.open })
		}
		time.Sleep(due - time.Since(began))
		l.mu.Lock()
		out, in := l.churned, l.churned+l.open
		l.closeClientLocked(&l.clients[out%len(l.clients)])
		l.churned++
		l.mu.Unlock()
		if err := l.openClient(in%len(l.clients), false); err != nil {
			return err
		}
	}
}

// visit has clients come at a rate, each of which goes when it has stayed for o.Stay. A client that
// is still in flight then stays as long again. The time in flight of each is measured.
func (l *load) visit(o order) (a answer, err error) {
	type visitor struct {
		i   int
		end time.Duration
	}
	var in []visitor // in the order of their ends
	l.mu.Lock()
	l.waits = l.waits[:0]
	l.mu.Unlock()
	began := time.Now()
	total := min(int(o.Rate*o.Time.Seconds()), len(l.clients))
	for n := 0; n < total || len(in) > 0; {
		come := time.Duration(float64(n) / o.Rate * float64(time.Second))
		if n < total && (len(in) == 0 || come <= in[0].end) {
			time.Sleep(come - time.Since(began))
			if err := l.openClient(n, false); err != nil {
				return a, err
			}
			in = append(in, visitor{n, time.Since(began) + o.Stay})
			n++
			continue
		}
		v := in[0]
		in = in[1:]
		time.Sleep(v.end - time.Since(began))
		if time.Since(began) > benchPatience {
			return a, fmt.Errorf("%d visitors in flight for %v", len(in)+1, benchPatience)
		}
		l.mu.Lock()
		if c := &l.clients[v.i]; c.landed {
			l.closeClientLocked(c)
		} else {
			in = append(in, visitor{v.i, time.Since(began) + o.Stay})
		}
		err := l.failed
		l.mu.Unlock()
		if err != nil {
			return a, err
		}
	}
	a.Elapsed = time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	a.summarise(l.waits)
	return a, nil
}

// leave closes the client that came first, and waits until every other holds the true number. Right
// before that, o.Burst other clients join, and leave when they are answered. The time is from the
// close of the last client to leave.
func (l *load) leave(o order) (a answer, err error) {
	for i := range o.Burst {
		if err := l.openClient(len(l.clients)-o.Burst+i, false); err != nil {
			return a, err
		}
	}
	if err := l.wait("answers", func() bool { return l.answered == l.open }); err != nil {
		return a, err
	}
	l.mu.Lock()
	l.final, l.counted = l.open-o.Burst-1, 0
	for i := range l.clients {
		if c := &l.clients[i]; c.fd >= 0 && c.count == l.final {
			l.counted++
		}
	}
	for i := range o.Burst {
		l.closeClientLocked(&l.clients[len(l.clients)-o.Burst+i])
	}
	began := time.Now()
	l.closeClientLocked(&l.clients[l.churned])
	l.churned++
	l.mu.Unlock()
	err = l.wait("the count after a leave", func() bool { return l.counted == l.open })
	a.Elapsed = time.Since(began)
	return a, err
}

// stop reads no more from every so-manyth client.
func (l *load) stop(every int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := 0; i < len(l.clients); i += every {
		c := &l.clients[i]
		c.stopped = true
		l.stopped++
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, c.fd, nil); err != nil {
			return err
		}
	}
	return nil
}

// say posts one message after the other, each when every client has the last. It measures the time
// from before the post to the last receipt.
func (l *load) say(o order) (a answer, err error) {
	s, err := l.dial(o.Size)
	if err != nil {
		return a, err
	}
	defer s.conn.Close()
	var times []time.Duration
	for range o.Messages {
		l.mu.Lock()
		all := l.messages + l.open - l.stopped
		l.mu.Unlock()
		began := time.Now()
		if status, err := s.post(0); err != nil || status != http.StatusAccepted {
			return a, fmt.Errorf("answered %d, %v", status, err)
		}
		if err := l.wait("a message", func() bool { return l.messages >= all }); err != nil {
			return a, err
		}
		times = append(times, time.Since(began))
	}
	a.summarise(times)
	return a, nil
}

// post posts messages at a rate, as far as it is kept, to the rooms in turn, and waits until every
// client has all of its room. With one sender the way of each is timed.
func (l *load) post(o order) (a answer, err error) {
	total := int(o.Rate * o.Time.Seconds())
	l.mu.Lock()
	rooms := max(1, l.rooms)
	before, readers := l.messages, (l.open-l.stopped)/rooms
	l.sent, l.arrival = nil, nil
	if o.Senders == 1 {
		l.sent, l.first = make([]atomic.Int64, total), make([]int, rooms)
		for i := range l.clients {
			l.first[i%rooms] = max(l.first[i%rooms], l.clients[i].last+1)
		}
	}
	sent := l.sent
	l.mu.Unlock()
	began := time.Now()
	var next, taken, refused atomic.Int64
	failed := make(chan error, o.Senders)
	for range o.Senders {
		s, err := l.dial(o.Size)
		if err != nil {
			return a, err
		}
		go func() { // ends with the time, or the messages
			defer s.conn.Close()
			for {
				n := next.Add(1) - 1
				due := time.Duration(float64(n) / o.Rate * float64(time.Second))
				if due >= o.Time || int(n) >= total || time.Since(began) > o.Time {
					failed <- nil
					return
				}
				time.Sleep(due - time.Since(began))
				room := int(n)
				if sent != nil {
					room = int(taken.Load()) // without those that were refused
					sent[room].Store(int64(time.Since(l.start)))
				}
				status, err := s.post(room)
				switch {
				case err != nil || status != http.StatusAccepted && status != http.StatusServiceUnavailable:
					failed <- fmt.Errorf("answered %d, %v", status, err)
					return
				case status == http.StatusAccepted:
					taken.Add(1)
				default:
					refused.Add(1)
				}
			}
		}()
	}
	for range o.Senders {
		err = errors.Join(err, <-failed)
	}
	if err != nil {
		return a, err
	}
	a.Taken, a.Refused = int(taken.Load()), int(refused.Load())
	err = l.wait("all messages", func() bool { return l.messages-before >= a.Taken*readers })
	a.Elapsed = time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.messages - before; n != a.Taken*readers {
		err = errors.Join(err, fmt.Errorf("%d messages to %d clients arrived %d times", a.Taken, readers, n))
	}
	l.sent = nil
	a.summarise(l.arrival)
	return a, err
}

// summarise sorts the times and sets the mean and quantiles of the answer.
func (a *answer) summarise(times []time.Duration) {
	if len(times) == 0 {
		return
	}
	slices.Sort(times)
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	n := len(times)
	a.Times, a.Mean, a.P50, a.P99, a.Max = n, sum/time.Duration(n), times[n/2], times[n*99/100], times[n-1]
}

// sender is a connection for messages.
type sender struct {
	conn     net.Conn
	r        *bufio.Reader
	requests [][]byte // one for each room
}

func (l *load) dial(size int) (*sender, error) {
	token, err := auth.Mint(secret, auth.Claims{Sub: "sender", Name: "Sender", Send: []string{"*"}})
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", l.addr)
	if err != nil {
		return nil, err
	}
	body := fmt.Sprintf(`{"data":"%s"}`, strings.Repeat("x", size))
	s := &sender{conn: conn, r: bufio.NewReader(conn)}
	for i := range max(1, l.rooms) {
		s.requests = append(s.requests, fmt.Appendf(nil, "POST /messages?room=%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", roomName(l.rooms, i), l.addr, token, len(body), body))
	}
	return s, nil
}

// post posts one message, to the room of that number modulo the number of rooms.
func (s *sender) post(room int) (status int, err error) {
	s.conn.SetDeadline(time.Now().Add(benchPatience)) // if it fails, so does the write
	if _, err := s.conn.Write(s.requests[room%len(s.requests)]); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(s.r, nil)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// wait returns when it is so; the reader asks, with the lock held. One
// goroutine waits at a time.
func (l *load) wait(what string, so func() bool) error {
	l.mu.Lock()
	if so() || l.failed != nil {
		defer l.mu.Unlock()
		return l.failed
	}
	done := make(chan struct{})
	l.until, l.so = so, done
	l.mu.Unlock()
	select {
	case <-done:
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.failed
	case <-time.After(benchPatience):
		l.mu.Lock()
		defer l.mu.Unlock()
		l.until = nil
		return fmt.Errorf("waited in vain for %s: %d clients open, %d stopped, %d answered, %d synced, %d counted, %d messages arrived",
			what, l.open, l.stopped, l.answered, l.synced, l.counted, l.messages)
	}
}

// read is the reader. It looks for clients in flight before each round, and its rounds are short.
func (l *load) read() {
	events := make([]unix.EpollEvent, 128)
	for {
		for _, epoll := range []int{l.epoll, l.fresh} {
			timeout := 0
			if epoll == l.epoll {
				timeout = -1
			}
			n, err := unix.EpollWait(epoll, events, timeout)
			if err != nil && !errors.Is(err, unix.EINTR) {
				panic(err)
			}
			l.mu.Lock()
			for _, e := range events[:max(0, n)] {
				if e.Fd >= 0 {
					l.readClientLocked(&l.clients[e.Fd])
				}
			}
			if l.until != nil && (l.failed != nil || l.until()) {
				l.until = nil
				close(l.so)
			}
			l.mu.Unlock()
		}
	}
}

func (l *load) readClientLocked(c *loadClient) {
	if c.fd < 0 || c.stopped { // the reader had it in hand when that was changed
		return
	}
	n, err := unix.Read(c.fd, l.buf)
	l.now = time.Since(l.start)
	switch {
	case errors.Is(err, unix.EAGAIN):
	case n <= 0:
		l.failed = cmp.Or(l.failed, fmt.Errorf("the server ended a connection: %w", cmp.Or(err, io.EOF)))
		unix.Close(c.fd)
		c.fd = -1
	default:
		c.bytes += n
		l.feedLocked(c, l.buf[:n])
	}
}

// feedLocked takes what came from the socket: the head of the answer, then
// chunks (RFC 9112 section 7.1), which may end anywhere in a line. An answer
// without chunks is one that does not end.
func (l *load) feedLocked(c *loadClient, b []byte) {
	for !c.headed && len(b) > 0 {
		line, rest, whole := c.cut(b)
		b = rest
		switch {
		case !whole:
		case len(line) == 1: // "\r"
			c.headed = true
			l.answered++
			l.landLocked(c, answered)
			if !c.chunked {
				c.chunk = math.MaxInt
			}
		case string(line) == "Transfer-Encoding: chunked\r":
			c.chunked = true
		case bytes.HasPrefix(line, []byte("HTTP/1.1 ")) && !bytes.HasPrefix(line[9:], []byte("200 ")):
			l.failed = cmp.Or(l.failed, fmt.Errorf("a client was answered %q", line))
		}
	}
	for len(b) > 0 {
		if c.chunk == 0 { // in a line with a size, or in the end of one before it
			switch digit := b[0]; {
			case digit == '\n':
				c.chunk, c.size = c.size, 0
			case digit >= 'a':
				c.size = c.size<<4 | int(digit-'a'+10)
			case digit >= '0':
				c.size = c.size<<4 | int(digit-'0')
			}
			b = b[1:]
			continue
		}
		n := min(c.chunk, len(b))
		c.chunk -= n
		for part := b[:n]; len(part) > 0; {
			line, rest, whole := c.cut(part)
			part = rest
			if whole {
				l.lineLocked(c, line)
			}
		}
		b = b[n:]
	}
}

// cut returns the first line of b, what follows it, and whether its end is in
// b. If not, its beginning is kept, as far as it tells lines apart.
func (c *loadClient) cut(b []byte) (line, rest []byte, whole bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		c.partial += copy(c.line[c.partial:], b)
		return nil, nil, false
	}
	line, rest = b[:i], b[i+1:]
	if c.partial > 0 {
		n := c.partial + copy(c.line[c.partial:], line)
		c.partial = 0
		line = c.line[:n]
	}
	return line, rest, true
}

// lineLocked takes a line of the event stream.
func (l *load) lineLocked(c *loadClient, line []byte) {
	switch {
	case len(line) == 0:
		if c.id >= 0 || c.kind != otherEvent {
			l.eventLocked(c)
		}
		c.id, c.kind = -1, otherEvent
	case line[0] == 'i':
		c.id = trailing(line)
	case line[0] == 'd' && len(line) < 16:
		c.number = trailing(line)
	case line[0] == 'e':
		switch string(line) {
		case "event: message":
			c.kind = messageEvent
		case "event: user count":
			c.kind = countEvent
		case "event: sync":
			c.kind = syncEvent
		case "event: goodbye":
			c.kind = goodbyeEvent
		}
	}
}

// trailing returns the number at the end of the line.
func trailing(line []byte) (n int) {
	for i, power := len(line)-1, 1; i >= 0 && line[i] >= '0' && line[i] <= '9'; i-- {
		n += power * int(line[i]-'0')
		power *= 10
	}
	return n
}

// eventLocked takes an event. Those that bear an id show the order: that of a
// message follows the one before, that of any other event is the last
// message's.
func (l *load) eventLocked(c *loadClient) {
	if c.id >= 0 {
		want := c.last
		if c.kind == messageEvent {
			want++
		}
		if c.id != want && c.last >= 0 {
			l.failed = cmp.Or(l.failed, fmt.Errorf("out of order: event %d came after %d", c.id, c.last))
		}
		c.last = c.id
	}
	switch c.kind {
	case messageEvent:
		l.messages++
		if l.sent != nil {
			rooms := len(l.first)
			if n := (c.id-l.first[c.i%rooms])*rooms + c.i%rooms; n < len(l.sent) {
				l.arrival = append(l.arrival, l.now-time.Duration(l.sent[n].Load()))
			}
		}
	case countEvent:
		if c.count == l.final {
			l.counted--
		}
		if c.count = c.number; c.count == l.final {
			l.counted++
		}
		l.landLocked(c, counted)
	case syncEvent:
		if !c.synced {
			c.synced = true
			l.synced++
			l.landLocked(c, synced)
		}
	case goodbyeEvent:
		l.failed = cmp.Or(l.failed, errors.New("a client was sent away"))
	}
}
