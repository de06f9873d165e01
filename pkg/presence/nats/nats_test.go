package nats_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/backplane/backplanetest"
	"example.com/presence/pkg/presence/nats"
)

func startServer(t *testing.T) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, NoSystemAccount: false})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("not ready")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s.ClientURL()
}

func openBus(t *testing.T, url string, change func(*nats.Config)) *nats.Bus {
	t.Helper()
	c := nats.Config{URLs: []string{url}, Replicas: 1, Messages: 10, Age: 5 * time.Minute, Bytes: 64 << 20}
	if change != nil {
		change(&c)
	}
	b, err := nats.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// relay is a proxy whose connections can be cut.
type relay struct {
	l      net.Listener
	target string
	mu     sync.Mutex
	cut    bool
	conns  map[net.Conn]bool
}

func startRelay(t *testing.T, target string) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{l: l, target: target, conns: map[net.Conn]bool{}}
	go r.run()
	t.Cleanup(func() { l.Close(); r.setCut(true) })
	return r
}

func (r *relay) run() {
	for {
		c, err := r.l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			up, err := net.Dial("tcp", r.target)
			if err != nil {
				return
			}
			defer up.Close()
			r.mu.Lock()
			if r.cut {
				r.mu.Unlock()
				return
			}
			r.conns[c], r.conns[up] = true, true
			r.mu.Unlock()
			done := make(chan struct{}, 2)
			pipe := func(a, b net.Conn) {
				buf := make([]byte, 32<<10)
				for {
					n, err := a.Read(buf)
					if n > 0 {
						b.Write(buf[:n])
					}
					if err != nil {
						break
					}
				}
				done <- struct{}{}
			}
			go pipe(c, up)
			go pipe(up, c)
			<-done
		}()
	}
}

func (r *relay) setCut(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	if cut {
		for c := range r.conns {
			c.Close()
		}
		r.conns = map[net.Conn]bool{}
	}
}

func TestBus(t *testing.T) {
	backplanetest.Run(t, func(t *testing.T) backplanetest.Engine {
		url := startServer(t)
		r := startRelay(t, url[len("nats://"):])
		b0 := openBus(t, "nats://"+r.l.Addr().String(), nil)
		b1 := openBus(t, url, nil)
		return backplanetest.Engine{
			Nodes:    []backplane.Bus{b0, b1},
			Messages: 10,
			Recreate: func() {
				conn, err := natsgo.Connect(url)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				js, _ := jetstream.New(conn)
				if err := js.DeleteStream(t.Context(), "presence"); err != nil {
					t.Error(err)
				}
			},
			Drop: func(during func()) {
				r.setCut(true)
				await(t, "cut", func() bool { return !b0.Status().Connected })
				during()
				r.setCut(false)
				await(t, "contact", func() bool { return b0.Status().Connected })
			},
		}
	})
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Error(fmt.Sprint("timeout: ", what))
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}
