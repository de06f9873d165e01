package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence/auth"
)

// asLoader is the environment variable that makes this test binary run a load process.
const asLoader = "PRESENCE_TEST_AS_LOADER"

func init() {
	if os.Getenv(asLoader) == "" {
		return
	}
	if err := runLoader(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "load process:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// loadOrder is a command to a load process, sent as one line of JSON. The process replies to each
// with a loadReport.
type loadOrder struct {
	Do string // the command: a case of loader.do

	// open adds clients and connects them, clients adds them unconnected. Client i has the user
	// "user-I". I is i if Users is 0, and FirstUser + i modulo Users otherwise. Its room is
	// "room-R", where R is FirstRoom + i modulo Rooms. The server of a client is the element
	// R + i/Rooms + Turn, modulo their number, of Addrs, so clients of one room are on different
	// servers.
	Addrs     []string
	From      int
	Clients   int
	FirstUser int
	Users     int
	FirstRoom int
	Rooms     int
	Turn      int
	// Browser makes a client that loses its stream connect again, as a browser does.
	Browser bool
	// Soak makes the clients ready for the order "soak", see soaking. It requires Browser.
	Soak bool
	Slow int // with Soak: bytes per second that one client in 50 reads
	// Retry is with Soak the maximum time until a client connects again that has lost its stream.
	Retry time.Duration
	// Lenient is for a load whose content does not matter: messages may have any data, and lost
	// streams, leaves and resets are no faults.
	Lenient  bool
	Info     int // size of the info in each token, in bytes
	InFlight int // clients that connect at the same time; 0: maxInFlight

	Rate  float64       // open: connections per second; churn and soak: changes per second
	Time  time.Duration // churn and soak: duration
	Seed  uint64        // churn, and open with Soak: seed of the random choices
	Stops int           // soak: each of so many changes stops a client, instead of ending its stream
	Pause time.Duration // soak: the time for which a stopped client does not read
	Away  time.Duration // soak: the longest time until a client whose stream it has ended connects again
	Part  float64       // close: the share of the connected clients that are closed

	// await waits until each connected client has the user count Want, and at least Messages
	// messages. With Browser, all clients must be connected. After Within it returns all the same.
	Want     int
	Messages int
	Within   time.Duration
}

// loadReport is the reply of a load process. Times are in nanoseconds since 1970, so that the times
// of several processes can be compared.
type loadReport struct {
	Faults []string // the first events that must not happen

	Open   int // connected clients
	Users  int // users with a connected client
	Acted  int64
	Landed int // clients that have received a user count
	// Changed is the latest time at which the user count of a connected client changed.
	Changed int64
	// Wrong counts the connected clients without the user count Want, by server and count, such as
	// "127.0.0.11:8080 has 17".
	Wrong map[string]int

	Messages   int // received messages
	Unreceived int // connected clients with fewer than the wanted messages
	First      int // the smallest and the largest number of the last message of a client
	Last       int
	Joins      int
	Leaves     int
	Resets     int
	Retries    int // connections made again by clients with Browser
	Stops      int // clients that have stopped reading
	Stopped    int // connected clients that do not read
	Expired    int // goodbyes with the reason expired
	Banned     int // streams that were refused because of a ban
	Lost       int // connections lost by clients with Lenient, but without Browser
	Full       int // goodbyes with the reason full
	// Goodbye is the time of the first goodbye since the last order "clear"; 0: none.
	Goodbye int64
}

// loader holds many streams in one process. One goroutine reads all sockets. The clients use
// HTTP/1.0, whose streams have no chunks.
type loader struct {
	epoll int

	mu      sync.Mutex // guards the fields below; the reader holds it while it reads ready sockets
	landing *sync.Cond // signaled when flight falls
	buf     []byte
	now     time.Time // of the last read
	clients []*loadClient
	browser bool
	lenient bool
	soak    *soaking // nil: not ready for the order "soak"
	most    int      // limit of flight
	flight  int      // connected clients without a count
	open    int
	right   int // connected clients with the count want
	want    int
	report  loadReport // Faults, Acted, Messages, Joins, Leaves, Resets, Retries, Goodbye
}

// loadClient is one client, connected or not, with the state of its parser between two reads.
type loadClient struct {
	index   int
	place   int // in loader.clients
	user    int
	room    int
	addr    string
	server  unix.SockaddrInet4
	head    string // request, without the id
	fd      int    // -1 if not connected
	landed  bool   // has received its first count
	count   int    // -1 before the first
	changed time.Time
	id      []byte // of the last complete event, to resume
	next    []byte // the last id line
	retry   time.Duration
	slow    bool // reads only a little at a time
	stopped bool // does not read
	got     int  // received messages
	last    int  // number in the last message; -1 before the first

	headed  bool   // the response header is complete
	partial []byte // the beginning of an incomplete line
	kind    string // of the current event
	data    []byte // the beginning of its data
}

// maxInFlight is the maximum number of clients of one process that connect at the same time.
const maxInFlight = 100

// keptBytes is how many bytes of a line are kept, which is enough to distinguish events.
const keptBytes = 256

func runLoader(in io.Reader, out io.Writer) error {
	debug.SetGCPercent(400)
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	l := &loader{epoll: epoll, buf: make([]byte, 256<<10), want: -1, most: maxInFlight}
	l.landing = sync.NewCond(&l.mu)
	go l.read() // ends with the process
	orders, reports := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o loadOrder
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := l.do(o); err != nil {
			return err
		}
		l.mu.Lock()
		err := reports.Encode(l.reportLocked(o))
		l.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (l *loader) do(o loadOrder) error {
	switch o.Do {
	case "open":
		return l.openAll(o)
	case "clients":
		_, err := l.add(o)
		return err
	case "churn":
		return l.churn(o)
	case "soak":
		l.soak.run(o)
	case "close":
		l.closePart(o)
	case "await":
		l.await(o)
	case "clear":
		l.mu.Lock()
		defer l.mu.Unlock()
		l.report.Goodbye = 0
	case "report":
	default:
		return fmt.Errorf("unknown order: %q", o.Do)
	}
	return nil
}

// add adds the clients of the order.
func (l *loader) add(o loadOrder) (added []*loadClient, err error) {
	for i := o.From; i < o.From+o.Clients; i++ {
		user := i
		if o.Users > 0 {
			user = o.FirstUser + i%o.Users
		}
		rooms := max(1, o.Rooms)
		room := o.FirstRoom + i%rooms
		c := &loadClient{index: i, user: user, room: room, fd: -1, last: -1}
		if err := c.authorize(infoOf(o.Info), 0); err != nil {
			return nil, err
		}
		if err := c.moveTo(o.Addrs[(room+i/rooms+o.Turn)%len(o.Addrs)]); err != nil {
			return nil, err
		}
		added = append(added, c)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.browser, l.lenient = l.browser || o.Browser, l.lenient || o.Lenient
	l.most = cmp.Or(o.InFlight, l.most)
	if o.Soak {
		l.soak = newSoaking(l, o, added)
	}
	for _, c := range added {
		c.place = len(l.clients)
		l.clients = append(l.clients, c)
	}
	return added, nil
}

// authorize makes the further requests of the client have a token with this info, which expires
// after ttl, unless that is 0.
func (c *loadClient) authorize(info json.RawMessage, ttl time.Duration) error {
	name := "user-" + strconv.Itoa(c.user)
	token, err := auth.Mint([]byte(secret), auth.Claims{Sub: name, Name: name, Join: []string{"*"}, Info: info, TTL: ttl})
	if err != nil {
		return err
	}
	c.head = fmt.Sprintf("GET /events?room=room-%d HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\nAuthorization: Bearer %s\r\n", c.room, token)
	return nil
}

// infoOf returns an info of this size in bytes; nil for 0.
func infoOf(size int) json.RawMessage {
	if size == 0 {
		return nil
	}
	return json.RawMessage(`"` + strings.Repeat("i", size-2) + `"`)
}

// moveTo makes the next connection of the client go to the server at addr.
func (c *loadClient) moveTo(addr string) error {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	c.addr, c.server = addr, unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	return nil
}

// openAll adds clients, connects them at a rate, and waits until each has its first count.
func (l *loader) openAll(o loadOrder) error {
	added, err := l.add(o)
	if err != nil {
		return err
	}
	began := time.Now()
	for n, c := range added {
		if o.Rate > 0 {
			time.Sleep(time.Until(began.Add(dueAt(n, o.Rate))))
		}
		l.mu.Lock()
		l.openLocked(c)
		l.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.landLocked(0)
	return nil
}

// dueAt returns when the action n of a load is due, since its beginning. The load process sleeps
// until then, because the rate is the load.
func dueAt(n int, rate float64) time.Duration {
	return time.Duration(float64(n) / rate * float64(time.Second))
}

// landLocked waits until at most n clients are in flight.
func (l *loader) landLocked(n int) {
	for l.flight > n {
		l.landing.Wait()
	}
}

// openLocked connects a client. If too many clients are in flight, it first waits, and releases the
// lock meanwhile.
func (l *loader) openLocked(c *loadClient) {
	l.landLocked(l.most - 1)
	if c.fd >= 0 { // connected meanwhile
		return
	}
	if l.soak != nil {
		l.soak.prepareLocked(c)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		l.faultLocked(c, "socket: %v", err)
		return
	}
	if l.soak != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, soakReceiveBuffer)
	}
	request := c.head
	if len(c.id) > 0 {
		request += "Last-Event-ID: " + string(c.id) + "\r\n"
	}
	err = errors.Join(unix.Connect(fd, &c.server), unix.SetNonblock(fd, true))
	if err == nil {
		_, err = unix.Write(fd, []byte(request+"\r\n"))
	}
	if err == nil {
		err = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: c.events(), Fd: int32(c.place)})
	}
	if err != nil {
		unix.Close(fd)
		l.brokenLocked(c, err)
		return
	}
	c.fd, c.landed, c.headed, c.count, c.partial, c.kind, c.next = fd, false, false, -1, c.partial[:0], "", append(c.next[:0], c.id...)
	l.open++
	l.flight++
	l.report.Acted = time.Now().UnixNano()
}

// closeLocked closes the connection of a client, which must be open. It first reads all received
// bytes, because close(2) would otherwise send a reset instead of a FIN.
func (l *loader) closeLocked(c *loadClient) {
	for c.fd >= 0 && l.readLocked(c) {
	}
	if c.fd >= 0 {
		l.forgetLocked(c)
		l.report.Acted = time.Now().UnixNano()
	}
}

func (l *loader) forgetLocked(c *loadClient) {
	unix.Close(c.fd)
	c.fd, c.stopped = -1, false
	l.open--
	if !c.landed {
		l.flight--
		l.landing.Broadcast()
	}
	if c.count == l.want {
		l.right--
	}
	c.count = -1
}

// closePart closes a part of the clients, the first ones.
func (l *loader) closePart(o loadOrder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := int(o.Part * float64(l.open))
	for _, c := range l.clients {
		if c.fd >= 0 && left > 0 {
			left--
			l.closeLocked(c)
		}
	}
}

// churn changes random clients: it closes a connected one, and connects another one to a random
// server.
func (l *loader) churn(o loadOrder) error {
	random := rand.New(rand.NewPCG(o.Seed, 1))
	began := time.Now()
	for n := 0; ; n++ {
		due := dueAt(n, o.Rate)
		if due >= o.Time {
			break
		}
		time.Sleep(time.Until(began.Add(due)))
		l.mu.Lock()
		c := l.clients[random.IntN(len(l.clients))]
		if c.fd >= 0 {
			l.closeLocked(c)
		} else if err := c.moveTo(o.Addrs[random.IntN(len(o.Addrs))]); err != nil {
			l.mu.Unlock()
			return err
		} else {
			l.openLocked(c)
		}
		l.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.landLocked(0)
	return nil
}

// await waits until the condition of the order is true, or until its time has ended. The report
// shows which.
func (l *loader) await(o loadOrder) {
	poll(2*time.Millisecond, o.Within, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.want != o.Want {
			l.want, l.right = o.Want, 0
			for _, c := range l.clients {
				if c.fd >= 0 && c.count == o.Want {
					l.right++
				}
			}
		}
		return l.right == l.open && (!l.browser || l.open == len(l.clients)) && (o.Messages == 0 || l.unreceivedLocked(o.Messages) == 0)
	})
}

func (l *loader) unreceivedLocked(messages int) (n int) {
	for _, c := range l.clients {
		if c.fd >= 0 && c.got < messages {
			n++
		}
	}
	return n
}

func (l *loader) reportLocked(o loadOrder) loadReport {
	r := l.report
	r.Open, r.Wrong, r.Unreceived = l.open, map[string]int{}, l.unreceivedLocked(o.Messages)
	r.First, r.Last = -1, -1
	users := map[int]bool{}
	for _, c := range l.clients {
		if c.fd < 0 {
			continue
		}
		users[c.user] = true
		if c.landed {
			r.Landed++
		}
		if c.stopped {
			r.Stopped++
		}
		r.Changed = max(r.Changed, c.changed.UnixNano())
		if o.Do == "await" && c.count != o.Want {
			r.Wrong[fmt.Sprintf("%s has %d", c.addr, c.count)]++
		}
		if r.Last = max(r.Last, c.last); r.First < 0 || c.last < r.First {
			r.First = c.last
		}
	}
	r.Users = len(users)
	return r
}

// faultLocked records an event that must not happen.
func (l *loader) faultLocked(c *loadClient, format string, values ...any) {
	if len(l.report.Faults) < 10 {
		l.report.Faults = append(l.report.Faults, fmt.Sprintf("client %d of %s: ", c.index, c.addr)+fmt.Sprintf(format, values...))
	}
}

// brokenLocked handles the end of a connection that the client has not closed. A browser connects
// again after its retry time.
func (l *loader) brokenLocked(c *loadClient, err error) {
	switch {
	case !l.browser && l.lenient:
		l.report.Lost++
		return
	case !l.browser:
		l.faultLocked(c, "connection lost: %v", err)
		return
	}
	retry := cmp.Or(c.retry, 3*time.Second)
	if l.soak != nil {
		retry = min(retry, l.soak.retry)
	}
	l.again(c, retry)
}

// again makes a client connect again after d.
func (l *loader) again(c *loadClient, d time.Duration) {
	time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.report.Retries++
		l.openLocked(c)
	})
}

// read reads all sockets.
func (l *loader) read() {
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(l.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			panic(err)
		}
		l.mu.Lock()
		for _, e := range events[:max(0, n)] {
			if c := l.clients[e.Fd]; c.fd >= 0 { // else closed after epoll_wait(2) returned the socket
				l.readLocked(c)
			}
		}
		l.mu.Unlock()
	}
}

// readLocked reads once from the socket of a client. It reports whether there may be more.
func (l *loader) readLocked(c *loadClient) (more bool) { return l.readIntoLocked(c, l.buf) }

// readIntoLocked is like readLocked, up to the length of buf.
func (l *loader) readIntoLocked(c *loadClient, buf []byte) (more bool) {
	n, err := unix.Read(c.fd, buf)
	l.now = time.Now()
	switch {
	case errors.Is(err, unix.EAGAIN):
	case n <= 0:
		l.forgetLocked(c)
		l.brokenLocked(c, cmp.Or(err, io.EOF))
	default:
		l.feedLocked(c, buf[:n])
		return n == len(buf)
	}
	return false
}

// feedLocked parses bytes from a socket as lines.
func (l *loader) feedLocked(c *loadClient, b []byte) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			c.partial = kept(c.partial, b)
			return
		}
		line := b[:i]
		if len(c.partial) > 0 {
			line = kept(c.partial, line)
			c.partial = line[:0]
		}
		if c.headed {
			l.lineLocked(c, line)
		} else {
			l.headLocked(c, line)
		}
		b = b[i+1:]
	}
}

// kept appends b to line, up to keptBytes.
func kept(line, b []byte) []byte {
	return append(line, b[:min(len(b), keptBytes-len(line))]...)
}

// headLocked parses a line of the response header.
func (l *loader) headLocked(c *loadClient, line []byte) {
	switch {
	case len(line) == 1: // "\r"
		c.headed = true
	case l.soak != nil && bytes.HasPrefix(line, []byte("HTTP/1.")) && bytes.HasPrefix(line[8:], []byte(" 403 ")):
		l.report.Banned++
	case bytes.HasPrefix(line, []byte("HTTP/1.")) && !bytes.HasPrefix(line[8:], []byte(" 200 ")):
		l.faultLocked(c, "got the status line %q, want 200", line)
	}
}

// lineLocked parses a line of the event stream.
func (l *loader) lineLocked(c *loadClient, line []byte) {
	name, value, _ := bytes.Cut(line, []byte(": "))
	switch string(name) {
	case "":
		if c.kind != "" {
			l.eventLocked(c)
		}
		c.kind, c.id = "", append(c.id[:0], c.next...)
	case "id":
		c.next = append(c.next[:0], value...)
	case "event":
		c.kind = eventKind(value)
	case "data":
		c.data = kept(c.data[:0], value)
	case "retry":
		ms, err := strconv.Atoi(string(value))
		if err != nil {
			l.faultLocked(c, "got the line %q", line)
		}
		c.retry = time.Duration(ms) * time.Millisecond
	}
}

// eventKind returns the name of an event without an allocation for the common ones.
func eventKind(name []byte) string {
	for _, kind := range []string{"user count", "message", "join", "leave", "ping"} {
		if string(name) == kind {
			return kind
		}
	}
	return string(name)
}

// eventLocked handles an event.
func (l *loader) eventLocked(c *loadClient) {
	switch c.kind {
	case "user count":
		n, err := strconv.Atoi(string(c.data))
		if err != nil {
			l.faultLocked(c, "got the user count %q", c.data)
		}
		l.countLocked(c, n)
	case "message":
		l.messageLocked(c)
	case "join":
		l.report.Joins++
	case "leave":
		l.report.Leaves++
		if l.browser && !l.lenient && l.soak == nil { // no client leaves for long
			l.faultLocked(c, "got leave %s", c.data)
		}
	case "reset":
		l.report.Resets++
		if !l.lenient {
			l.faultLocked(c, "got reset %s", c.data)
		}
	case "goodbye":
		l.report.Goodbye = cmp.Or(l.report.Goodbye, l.now.UnixNano())
		if bytes.Contains(c.data, []byte(`"full"`)) {
			l.report.Full++
		} else if bytes.Contains(c.data, []byte(`"expired"`)) {
			l.report.Expired++
		}
		if !l.browser && !l.lenient {
			l.faultLocked(c, "got goodbye %s", c.data)
		}
	}
}

func (l *loader) countLocked(c *loadClient, n int) {
	if !c.landed {
		c.landed = true
		l.flight--
		l.landing.Broadcast()
	}
	if n == c.count {
		return
	}
	if c.count == l.want {
		l.right--
	}
	if n == l.want {
		l.right++
	}
	c.count, c.changed = n, l.now
}

// messageLocked handles a message. Its data is a number, or a list that begins with one. The
// numbers of a room begin with 0 and have no gaps.
func (l *loader) messageLocked(c *loadClient) {
	c.got++
	l.report.Messages++
	if l.lenient {
		return
	}
	_, rest, ok := bytes.Cut(c.data, []byte(`"data":`))
	digits, _, comma := bytes.Cut(bytes.TrimPrefix(rest, []byte("[")), []byte(","))
	n, err := strconv.Atoi(string(digits))
	if !ok || !comma || err != nil {
		l.faultLocked(c, "got the message %q", c.data)
		return
	}
	if n != c.last+1 {
		l.faultLocked(c, "got message %d after %d", n, c.last)
	}
	c.last = n
}
