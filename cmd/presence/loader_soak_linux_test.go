package main

import (
	"cmp"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// soaking is the part of a loader for a soak. Each connection goes to a random server, and one in
// 20 has a token that expires soon. One client in 50 reads slowly all the time. On the order
// "soak", random clients end their streams, or stop reading for so long that the server ends their
// streams. After each end of its stream, a client connects again and resumes with its id. So it
// receives each message exactly once, which messageLocked checks.
type soaking struct {
	loader *loader
	random *rand.Rand // guarded by loader.mu, as the fields below
	addrs  []string
	slow   []*loadClient
	retry  time.Duration // see loadOrder

	changes int // of clients so far
}

const (
	// soakReceiveBuffer is the receive buffer of a socket in bytes. It is small, because the server
	// first fills it when a client stops reading.
	soakReceiveBuffer = 8 << 10
	slowReads         = 10 // per second and slow client
)

// newSoaking returns the soaking of these clients, and begins to read the sockets of the slow ones.
func newSoaking(l *loader, o loadOrder, clients []*loadClient) *soaking {
	s := &soaking{loader: l, random: rand.New(rand.NewPCG(o.Seed, 2)), addrs: o.Addrs, retry: o.Retry}
	for i, c := range clients {
		if c.slow = i%50 == 0; c.slow {
			s.slow = append(s.slow, c)
		}
	}
	go s.readSlowly(make([]byte, o.Slow/slowReads)) // ends with the process
	return s
}

func (s *soaking) readSlowly(buf []byte) {
	for range time.Tick(time.Second / slowReads) {
		s.loader.mu.Lock()
		for _, c := range s.slow {
			if c.fd >= 0 && !c.stopped {
				s.loader.readIntoLocked(c, buf)
			}
		}
		s.loader.mu.Unlock()
	}
}

// events returns the events for which the reader waits. That of a client that is slow or stopped
// waits only for the end of the stream.
func (c *loadClient) events() uint32 {
	if c.slow || c.stopped {
		return unix.EPOLLRDHUP
	}
	return unix.EPOLLIN
}

// prepareLocked chooses the server and the token of the next connection.
func (s *soaking) prepareLocked(c *loadClient) {
	var ttl time.Duration
	if s.random.IntN(20) == 0 {
		ttl = time.Duration(5+s.random.IntN(60)) * time.Second
	}
	if err := cmp.Or(c.authorize(nil, ttl), c.moveTo(s.addrs[s.random.IntN(len(s.addrs))])); err != nil {
		s.loader.faultLocked(c, "%v", err)
	}
}

// run changes random clients at a rate. From its start, clients connect to the servers of the
// order.
func (s *soaking) run(o loadOrder) {
	l := s.loader
	l.mu.Lock()
	defer l.mu.Unlock()
	s.addrs = o.Addrs
	began := time.Now()
	for n := 0; dueAt(n, o.Rate) < o.Time; n++ {
		l.mu.Unlock()
		time.Sleep(time.Until(began.Add(dueAt(n, o.Rate))))
		l.mu.Lock()
		c := l.clients[s.random.IntN(len(l.clients))]
		if c.fd < 0 || !c.landed || c.stopped {
			continue
		}
		if s.changes++; s.changes%o.Stops == 0 {
			s.stopLocked(c, o.Pause)
			continue
		}
		l.closeLocked(c)
		l.again(c, time.Duration(s.random.Int64N(int64(o.Away))))
	}
}

// stopLocked makes a client stop reading. It reads again after d, because it may not know the end
// of its stream before: the kernel ignores the reset of a connection whose receive buffer is full.
func (s *soaking) stopLocked(c *loadClient, d time.Duration) {
	c.stopped = true
	s.loader.report.Stops++
	s.watchLocked(c)
	time.AfterFunc(d, func() {
		s.loader.mu.Lock()
		defer s.loader.mu.Unlock()
		if c.stopped {
			c.stopped = false
			s.watchLocked(c)
		}
	})
}

// watchLocked makes the reader wait for the events of a connected client.
func (s *soaking) watchLocked(c *loadClient) {
	if err := unix.EpollCtl(s.loader.epoll, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: c.events(), Fd: int32(c.place)}); err != nil {
		s.loader.faultLocked(c, "epoll_ctl: %v", err)
	}
}
