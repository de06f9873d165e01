package load

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// conns holds connections with a goroutine each: those over TLS, and all on systems without epoll.
type conns struct {
	loop    *loop
	running sync.WaitGroup
	woken   chan struct{} // a connection has changed
}

// conn is the link of a client.
type conn struct {
	cancel context.CancelFunc
}

func (k *conn) close() { k.cancel() }

func newConns(l *loop) sockets { return &conns{loop: l, woken: make(chan struct{}, 1)} }

func (s *conns) end() { s.running.Wait() }

func (s *conns) open(c *client, request []byte) error {
	ctx, cancel := context.WithCancel(context.Background())
	k := &conn{cancel}
	c.link = k
	s.running.Go(func() { // ends when the link is closed, or with the connection
		defer cancel()
		socket, err := s.dial(ctx, c)
		if err == nil {
			defer socket.Close()
			stop := context.AfterFunc(ctx, func() { socket.Close() })
			defer stop()
			if _, err = socket.Write(request); err == nil {
				err = s.read(ctx, c, k, socket)
			}
		}
		s.loop.mu.Lock()
		if c.link == k {
			s.loop.now = s.loop.shared.now()
			s.loop.lose(c, err)
		}
		s.loop.mu.Unlock()
		s.wake()
	})
	return nil
}

func (s *conns) dial(ctx context.Context, c *client) (net.Conn, error) {
	to := s.loop.addressOf(c.index)
	dialer := net.Dialer{Timeout: openTimeout}
	if c.pace != normal {
		dialer.Control = smallBuffer
	}
	if s.loop.tls == nil {
		return dialer.DialContext(ctx, to.Network(), to.String())
	}
	return (&tls.Dialer{NetDialer: &dialer, Config: s.loop.tls}).DialContext(ctx, to.Network(), to.String())
}

// read passes bytes to the client until the connection ends. It returns the error that ended it.
func (s *conns) read(ctx context.Context, c *client, k *conn, socket net.Conn) error {
	buffer := make([]byte, 8<<10)
	for {
		most := len(buffer)
		for {
			s.loop.mu.Lock()
			held := c.held
			s.loop.mu.Unlock()
			if !held {
				break
			}
			select {
			case <-time.After(tick):
			case <-ctx.Done():
				return ctx.Err()
			}
			if c.pace == slow {
				most = max(1, min(most, s.loop.SlowRate/int(time.Second/tick)))
				break
			}
		}
		n, err := socket.Read(buffer[:most])
		if n > 0 {
			s.loop.mu.Lock()
			flight := s.loop.stats.flight
			if c.link == k {
				s.loop.receive(c, buffer[:n])
			}
			landed := s.loop.stats.flight < flight
			s.loop.mu.Unlock()
			if landed {
				s.wake()
			}
		}
		if err != nil {
			return err
		}
	}
}

func (s *conns) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// drain does nothing: the goroutine of the connection reads.
func (*conns) drain(*client, int) {}

func (s *conns) wait(until time.Duration) {
	timer := time.NewTimer(until - s.loop.shared.now())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.woken:
	}
}
