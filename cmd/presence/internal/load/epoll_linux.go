package load

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// epoll holds the sockets of a loop in one epoll instance. The goroutine of the loop reads them.
// They are registered edge-triggered, once: a read that returns fewer bytes than the buffer has
// space for has emptied the socket (epoll(7), question 9). If the peer has closed the connection,
// only a read that returns none has: the end may have arrived with the bytes, in one event.
type epoll struct {
	loop   *loop
	fd     int
	ports  ports
	buffer []byte
	events []unix.EpollEvent
	made   int32     // connections made; the generation of the last one
	unread []*client // whose sockets may have more bytes

	// fresh is a second instance, for the clients in flight. It is read first: otherwise the time
	// of a join would include the time to read the events of all other clients. fd contains it.
	fresh     int
	newEvents []unix.EpollEvent

	seen  int           // events since the time from
	from  time.Duration // start of the present tick
	quick bool          // many events have come in the last tick
}

// socket is the link of a client.
type socket struct {
	fd         int
	generation int32
	request    []byte // not yet written
	unread     bool   // the client is in epoll.unread
	fresh      bool   // the socket is in epoll.fresh
	closed     bool   // by the peer, or with an error
}

func (s *socket) close() { unix.Close(s.fd) } // also removes it from the epoll instance

// direct reports whether this system has an epoll instance.
const direct = true

// newEpoll returns the sockets of the loop with this index.
func newEpoll(l *loop, index int) (sockets, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	fresh, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	e := &epoll{
		loop: l, fd: fd, fresh: fresh, ports: newPorts(index, l.shards), buffer: make([]byte, 64<<10),
		events: make([]unix.EpollEvent, 256), newEvents: make([]unix.EpollEvent, 256),
	}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, fresh, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: freshEvent}); err != nil {
		e.end()
		return nil, err
	}
	return e, nil
}

// freshEvent is the client of an event for the clients in flight.
const freshEvent = -1

func (e *epoll) end() {
	unix.Close(e.fresh)
	unix.Close(e.fd)
}

func (e *epoll) open(c *client, request []byte) (err error) {
	family, to := sockaddr(e.loop.addressOf(c.index))
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	e.made++
	s := &socket{fd: fd, generation: e.made, request: request, fresh: true}
	c.link = s
	if c.pace != normal {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, slowBuffer); err != nil {
			return err
		}
	}
	if family != unix.AF_UNIX {
		// Otherwise a request of several packets would wait for an acknowledgment.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return err
		}
	}
	err = e.ports.connect(fd, to, int(e.made))
	if err == nil {
		err = s.send()
	} else if errors.Is(err, unix.EINPROGRESS) {
		err = nil
	}
	if err != nil {
		return err
	}
	return e.register(e.fresh, c, s, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP)
}

// register adds a socket to an instance, edge-triggered.
func (e *epoll) register(to int, c *client, s *socket, events uint32) error {
	return unix.EpollCtl(to, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{
		Events: events | unix.EPOLLET&0xffffffff, Fd: int32(c.index / e.loop.shards), Pad: s.generation,
	})
}

// send writes the rest of the request.
func (s *socket) send() error {
	for len(s.request) > 0 {
		n, err := unix.Write(s.fd, s.request)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		} else if err != nil {
			return err
		}
		s.request = s.request[n:]
	}
	s.request = nil
	return nil
}

func sockaddr(to net.Addr) (family int, at unix.Sockaddr) {
	tcp, ok := to.(*net.TCPAddr)
	if !ok {
		return unix.AF_UNIX, &unix.SockaddrUnix{Name: to.String()}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	if ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: tcp.Port, Addr: ip.As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: tcp.Port, Addr: ip.As16(), ZoneId: zoneOf(ip)}
}

// zoneOf returns the index of the interface of a link-local address; 0 for any other.
func zoneOf(ip netip.Addr) uint32 {
	if ip.Zone() == "" {
		return 0
	}
	i, err := net.InterfaceByName(ip.Zone())
	if err != nil {
		return 0
	}
	return uint32(i.Index)
}

func (e *epoll) wait(until time.Duration) {
	if e.quick && len(e.unread) == 0 {
		e.gather()
	}
	ms := 0
	if left := until - e.loop.shared.now(); left > 0 && len(e.unread) == 0 {
		ms = int((left + time.Millisecond - 1) / time.Millisecond)
	}
	n, err := unix.EpollWait(e.fd, e.events, ms)
	if err != nil { // EINTR; any other would be a fault of this file
		return
	}
	e.handleFresh()
	for i, event := range e.events[:n] {
		if event.Fd != freshEvent {
			e.handle(event)
		}
		if i%16 == 15 {
			e.handleFresh()
		}
	}
	e.drainUnread()
	e.seen += n
	if now := e.loop.shared.now(); now-e.from >= tick {
		e.quick = e.seen > quickEvents
		e.seen, e.from = 0, now
	}
}

// While more than quickEvents arrive per tick, a loop waits for gatherTime before it reads the
// clients that are not in flight: so it reads several sockets per wakeup, and takes less CPU from a
// server on the same machine. The times to receipt are then up to that longer.
const (
	quickEvents = 1000 // in tick, so 10,000 per second
	gatherTime  = 200 * time.Microsecond
)

// gather waits for gatherTime, and meanwhile handles the clients in flight.
func (e *epoll) gather() {
	for end := e.loop.shared.now() + gatherTime; ; {
		left := end - e.loop.shared.now()
		if left <= 0 {
			return
		}
		timeout := unix.NsecToTimespec(int64(left))
		if n, err := unix.Ppoll([]unix.PollFd{{Fd: int32(e.fresh), Events: unix.POLLIN}}, &timeout, nil); err != nil || n == 0 {
			return
		}
		e.handleFresh()
	}
}

// handleFresh handles the events of the clients in flight, if there are any.
func (e *epoll) handleFresh() {
	e.loop.mu.Lock()
	flight := e.loop.stats.flight
	e.loop.mu.Unlock()
	if flight == 0 {
		return
	}
	n, err := unix.EpollWait(e.fresh, e.newEvents, 0)
	if err != nil { // EINTR
		return
	}
	for _, event := range e.newEvents[:n] {
		e.handle(event)
	}
}

// handle handles an event. It takes the lock anew for each one, so that a flood of events does not
// keep it.
func (e *epoll) handle(event unix.EpollEvent) {
	e.loop.mu.Lock()
	defer e.loop.mu.Unlock()
	c := e.loop.clients[event.Fd]
	s, ok := c.link.(*socket)
	if !ok || s.generation != event.Pad {
		return
	}
	e.look(c, s, event.Events)
}

// look acts on the events of a socket.
func (e *epoll) look(c *client, s *socket, events uint32) {
	if s.request != nil && events&unix.EPOLLOUT != 0 {
		if err := s.send(); err != nil {
			e.loop.lose(c, err)
			return
		}
	}
	s.closed = s.closed || events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	switch {
	case !c.held && (s.closed || events&unix.EPOLLIN != 0):
		e.drain(c, len(e.buffer))
	case c.held && s.closed && c.pace == stopped:
		err := error(io.EOF)
		if number, failed := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR); failed == nil && number != 0 {
			err = unix.Errno(number)
		}
		e.loop.lose(c, err)
	}
}

// drain reads up to a number of bytes, until there are no more. If there may be more, the next wait
// goes on, unless the client is held.
func (e *epoll) drain(c *client, most int) {
	s, ok := c.link.(*socket)
	if !ok {
		return
	}
	e.readAll(c, s, most)
	if c.link == s && s.fresh && c.landed {
		s.fresh = false
		// The new registration reports bytes that have arrived meanwhile.
		err := errors.Join(unix.EpollCtl(e.fresh, unix.EPOLL_CTL_DEL, s.fd, nil), e.register(e.fd, c, s, unix.EPOLLIN|unix.EPOLLRDHUP))
		if err != nil {
			e.loop.lose(c, err)
		}
	}
}

func (e *epoll) readAll(c *client, s *socket, most int) {
	for most > 0 {
		size := min(most, len(e.buffer))
		n := e.read(c, s, size)
		if n == 0 || n < size && !s.closed {
			return
		}
		most -= n
	}
	if !c.held && c.link == s && !s.unread {
		s.unread = true
		e.unread = append(e.unread, c)
	}
}

// drainUnread reads from the sockets that may have more bytes.
func (e *epoll) drainUnread() {
	clients := e.unread
	e.unread = nil
	for _, c := range clients {
		e.loop.mu.Lock()
		if s, ok := c.link.(*socket); ok && s.unread {
			if s.unread = false; !c.held {
				e.drain(c, len(e.buffer))
			}
		}
		e.loop.mu.Unlock()
	}
}

// read reads once. It returns 0 if there is nothing to read, or if the connection has ended.
func (e *epoll) read(c *client, s *socket, most int) int {
	if c.link != s {
		return 0
	}
	n, err := unix.Read(s.fd, e.buffer[:most])
	switch {
	case n > 0:
		e.loop.receive(c, e.buffer[:n])
		return n
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
	case err != nil:
		e.loop.lose(c, err)
	default:
		e.loop.lose(c, io.EOF)
	}
	return 0
}
