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

// benchPatience is the time limit for an expected event in a benchmark.
const benchPatience = 2 * time.Minute

// inFlight is the maximum number of clients in flight unless the order sets another.
const inFlight = 200

// load runs the clients of a benchmark, in a process of its own. One goroutine reads all sockets,
// and it reads the sockets of clients in flight first. Otherwise the measured time of a client
// would include the time to read the events of all other clients.
type load struct {
	epoll int           // epoll descriptor of fresh and of the clients that are no longer in flight
	fresh int           // epoll descriptor of the clients in flight
	slots chan struct{} // one element per client in flight

	mu       sync.Mutex // guards the fields below; the reader holds it while it reads ready sockets
	buf      []byte
	now      time.Duration // time of the last read into buf, since start
	server   unix.SockaddrInet4
	addr     string
	source   byte            // order.Source
	clients  []loadClient    // one per user, connected or not
	rooms    int             // client i is in room i modulo rooms
	flight   stage           // the stage that ends a client's time in flight
	open     int             // connected clients
	stopped  int             // connected clients that the reader skips
	churned  int             // number of clients that were closed, in the order of clients
	answered int             // connected clients that have a response
	synced   int             // connected clients that have a sync
	final    int             // the expected final count
	counted  int             // connected clients whose last count is final
	messages int             // received message events
	waits    []time.Duration // times in flight, from connect(2), of the clients that reached the stage flight
	landed   time.Duration   // time at which the last client reached the stage flight, since start
	due      int             // messages after the drain
	failed   error

	// The fields for timed messages. The messages go to the rooms in turn.
	start   time.Time
	sent    []atomic.Int64  // time of each POST, since start
	first   []int           // sequence number of the first message, per room
	arrival []time.Duration // time from the POST to each client

	until func() bool   // condition of wait, checked after every round of the reader
	done  chan struct{} // closed when until returns true
}

// loadClient is one connection, with the state of its parser between two reads.
type loadClient struct {
	request []byte
	i       int   // its index in clients
	fd      int   // -1 if not connected
	began   int64 // time of its connect(2), since start; atomic, because the reader uses it concurrently
	landed  bool
	stopped bool
	synced  bool
	count   int // the last user count; -1 before the first
	bytes   int
	last    int // the sequence number of the last message; -1 before the first id

	headed  bool     // the response header is complete
	chunked bool     // the response is chunked
	chunk   int      // unread bytes of the current chunk
	size    int      // size of the next chunk, from the digits read so far
	line    [48]byte // the beginning of an incomplete line
	partial int      // bytes in line

	id     int // sequence number of the current event; -1 if it has no id
	kind   eventKind
	number int // data of the current event, if it is a number
}

// stage is a step of a client's connection.
type stage string

const (
	answered stage = "answered" // the client has the response header
	synced   stage = "synced"   // the client has its first sync
	counted  stage = "counted"  // the client has its first user count
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
	case "serial":
		a, err = l.serial(o)
	case "unread":
		err = l.unread(o)
	case "drain":
		err = l.drain()
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
		err = fmt.Errorf("unknown order for the load: %q", o.Do)
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

// connect connects all clients as fast as possible, or at the rate o.Rate, and waits until each has
// reached the stage o.Until. The measured time does not include minting the tokens.
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
			if token, err = auth.Mint(secret, auth.Claims{Sub: user, Name: user, Join: []string{"*"}, TTL: o.TTL}); err != nil {
				return a, err
			}
		}
		clients[i] = loadClient{i: i, fd: -1}
		clients[i].request = fmt.Appendf(nil, "GET /events?room=%s&stream=messages HTTP/1.1\r\n"+ // r3labs requires the parameter stream
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
		if o.Rate > 0 {
			time.Sleep(time.Until(began.Add(time.Duration(float64(i) / o.Rate * float64(time.Second)))))
		}
		if err := l.openClient(i, o.Narrow > 0 && i%o.Narrow == 0); err != nil {
			return a, err
		}
	}
	reached := map[stage]*int{answered: &l.answered, synced: &l.synced, counted: &l.counted}[o.Until]
	err = l.wait(fmt.Sprintf("stage %q of %d clients", o.Until, o.Clients), func() bool { return *reached == o.Clients })
	a.Elapsed = time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	a.summarise(l.waits)
	a.Landed = l.landed - start
	return a, err
}

// roomName returns the room of client i or message i. If rooms is 0, that is the lobby.
func roomName(rooms, i int) string {
	if rooms == 0 {
		return "lobby"
	}
	return fmt.Sprintf("room-%d", i%rooms)
}

// openClient connects one client and sends its request. A narrow client has small buffers on both
// sides, as on a path with small segments. openClient neither holds nor waits for the lock while
// the client is in flight, because that would increase the measured time.
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

// takeSlot waits for a slot for one more client in flight.
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
			return fmt.Errorf("no free slot within %v: %d clients in flight", benchPatience, len(l.slots))
		}
	}
}

// landLocked ends the client's time in flight if the reached stage is l.flight.
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

// closeClientLocked closes the connection. It first reads all received bytes, because close(2)
// would otherwise send a reset instead of a FIN.
func (l *load) closeClientLocked(c *loadClient) {
	l.readClientLocked(c)
	if c.fd < 0 { // the server has closed the connection
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

// churn closes the oldest client and opens a new one, o.Rate times per second for o.Time. Then it
// waits until each client has the final count.
func (l *load) churn(o order) error {
	began := time.Now()
	for n := 0; ; n++ {
		due := time.Duration(float64(n) / o.Rate * float64(time.Second))
		if due >= o.Time {
			return l.wait("final user count after the churn", func() bool { return l.counted == l.open })
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

// visit opens o.Rate clients per second and closes each after o.Stay. If a client is still in
// flight at that time, it stays for another o.Stay. visit measures the time in flight of each
// client.
func (l *load) visit(o order) (a answer, err error) {
	type visitor struct {
		i   int
		end time.Duration
	}
	var in []visitor // in the order of their end times
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
			return a, fmt.Errorf("visits incomplete after %v: %d visitors remaining", benchPatience, len(in)+1)
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

// leave closes the oldest client and waits until every other client has the true count. Before
// that, o.Burst further clients join, and leave when all of them have a response. The measured time
// starts when the oldest client, the last one to leave, is closed.
func (l *load) leave(o order) (a answer, err error) {
	for i := range o.Burst {
		if err := l.openClient(len(l.clients)-o.Burst+i, false); err != nil {
			return a, err
		}
	}
	if err := l.wait("response to every client", func() bool { return l.answered == l.open }); err != nil {
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
	err = l.wait("final user count after a leave", func() bool { return l.counted == l.open })
	a.Elapsed = time.Since(began)
	return a, err
}

// stop stops reading from each client whose index is a multiple of every.
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

// serial posts o.Messages messages. It posts each message when every client has received the
// previous one, and measures the time from before the POST until the last client has the message.
func (l *load) serial(o order) (a answer, err error) {
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
			return a, fmt.Errorf("POST /messages: got %d, %v; want 202", status, err)
		}
		if err := l.wait("message at every client", func() bool { return l.messages >= all }); err != nil {
			return a, err
		}
		times = append(times, time.Since(began))
	}
	a.summarise(times)
	return a, nil
}

// unread posts o.Messages messages without reading them. No goroutine waits for the sockets of the
// clients, so arriving bytes wake none. Each message is posted when every client's socket holds the
// previous one (FIONREAD). drain must follow.
func (l *load) unread(o order) error {
	s, err := l.dial(o.Size)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	held := make([]int, len(l.clients))
	for i := range l.clients {
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, l.clients[i].fd, nil); err != nil {
			return err
		}
	}
	l.due = l.messages + o.Messages*l.open
	deadline := time.Now().Add(benchPatience)
	for range o.Messages {
		if status, err := s.post(0); err != nil || status != http.StatusAccepted {
			return fmt.Errorf("POST /messages: got %d, %v; want 202", status, err)
		}
		for i := range l.clients {
			for {
				n, err := unix.IoctlGetInt(l.clients[i].fd, unix.TIOCINQ)
				if err != nil {
					return err
				}
				if n > held[i] {
					held[i] = n
					break
				}
				if time.Now().After(deadline) {
					return fmt.Errorf("no message at client %d within %v", i, benchPatience)
				}
				time.Sleep(time.Millisecond)
			}
		}
	}
	return nil
}

// drain reads the messages of unread, and waits until every client has all of them.
func (l *load) drain() error {
	l.mu.Lock()
	for i := range l.clients {
		e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.clients[i].fd, &e); err != nil {
			l.mu.Unlock()
			return err
		}
	}
	due := l.due
	l.mu.Unlock()
	return l.wait("unread message at every client", func() bool { return l.messages >= due })
}

// post posts up to o.Rate messages per second, to the rooms in turn. Then it waits until every
// client has received all messages of its room. With one sender, it measures the time of each
// message from the POST to each client.
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
	var next, accepted, rejected atomic.Int64
	failed := make(chan error, o.Senders)
	for range o.Senders {
		s, err := l.dial(o.Size)
		if err != nil {
			return a, err
		}
		go func() { // ends after o.Time, or after the last message
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
					room = int(accepted.Load()) // rejected messages have no sequence number
					sent[room].Store(int64(time.Since(l.start)))
				}
				status, err := s.post(room)
				switch {
				case err != nil || status != http.StatusAccepted && status != http.StatusServiceUnavailable:
					failed <- fmt.Errorf("POST /messages: got %d, %v; want 202 or 503", status, err)
					return
				case status == http.StatusAccepted:
					accepted.Add(1)
				default:
					rejected.Add(1)
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
	a.Accepted, a.Rejected = int(accepted.Load()), int(rejected.Load())
	err = l.wait("complete delivery to every client", func() bool { return l.messages-before >= a.Accepted*readers })
	a.Elapsed = time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.messages - before; n != a.Accepted*readers {
		err = errors.Join(err, fmt.Errorf("%d messages to %d clients: got %d arrivals, want %d", a.Accepted, readers, n, a.Accepted*readers))
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

// sender is a connection that posts messages.
type sender struct {
	conn     net.Conn
	r        *bufio.Reader
	requests [][]byte // one per room
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

// post posts one message. Its room is the given number modulo the number of rooms.
func (s *sender) post(room int) (status int, err error) {
	s.conn.SetDeadline(time.Now().Add(benchPatience)) // if this fails, the write fails too
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

// wait waits until cond returns true. The reader calls cond with the lock held. Only one goroutine
// may wait at a time.
func (l *load) wait(event string, cond func() bool) error {
	l.mu.Lock()
	if cond() || l.failed != nil {
		defer l.mu.Unlock()
		return l.failed
	}
	done := make(chan struct{})
	l.until, l.done = cond, done
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
		return fmt.Errorf("no %s within %v: %d clients open, %d stopped, %d answered, %d synced, %d counted, %d messages arrived",
			event, benchPatience, l.open, l.stopped, l.answered, l.synced, l.counted, l.messages)
	}
}

// read reads all sockets. After each round over at most 128 sockets, it reads the clients in
// flight, so that a client in flight waits for one short round at most.
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
				close(l.done)
			}
			l.mu.Unlock()
		}
	}
}

func (l *load) readClientLocked(c *loadClient) {
	if c.fd < 0 || c.stopped { // closed or stopped after epoll_wait(2) returned the socket
		return
	}
	n, err := unix.Read(c.fd, l.buf)
	l.now = time.Since(l.start)
	switch {
	case errors.Is(err, unix.EAGAIN):
	case n <= 0:
		l.failed = cmp.Or(l.failed, fmt.Errorf("connection closed by the server: %w", cmp.Or(err, io.EOF)))
		unix.Close(c.fd)
		c.fd = -1
	default:
		c.bytes += n
		l.feedLocked(c, l.buf[:n])
	}
}

// feedLocked parses bytes from a socket: the response header, then the chunks of the body (RFC 9112
// section 7.1). A chunk may end in the middle of a line. A body without chunks is parsed as one
// endless chunk.
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
			l.failed = cmp.Or(l.failed, fmt.Errorf("client got the status line %q, want 200", line))
		}
	}
	for len(b) > 0 {
		if c.chunk == 0 { // in a chunk-size line, or in the line break before it
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

// cut returns the first line of b, the rest of b, and whether the line is complete. It keeps the
// beginning of an incomplete line in c.line, which is long enough to distinguish the lines.
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

// lineLocked parses a line of the event stream.
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

// trailing returns the decimal number at the end of the line, or 0.
func trailing(line []byte) (n int) {
	for i, power := len(line)-1, 1; i >= 0 && line[i] >= '0' && line[i] <= '9'; i-- {
		n += power * int(line[i]-'0')
		power *= 10
	}
	return n
}

// eventLocked handles an event and checks its id. Sequence numbers increase by one per message. Any
// other event repeats the sequence number of the last message.
func (l *load) eventLocked(c *loadClient) {
	if c.id >= 0 {
		want := c.last
		if c.kind == messageEvent {
			want++
		}
		if c.id != want && c.last >= 0 {
			l.failed = cmp.Or(l.failed, fmt.Errorf("event out of order: got sequence number %d after %d, want %d", c.id, c.last, want))
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
		l.failed = cmp.Or(l.failed, errors.New("client received a goodbye"))
	}
}
