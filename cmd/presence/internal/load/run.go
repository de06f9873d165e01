package load

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"math"
	"net/http"
	"net/url"
	"runtime"
	"sync"
	"time"
)

// Run carries out a run. If ctx is done, it ends early, with the report up to then. The error is a
// [SettingError], or the server cannot be reached at the start.
func Run(ctx context.Context, config Config) (*Report, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	s, err := newShared(ctx, config)
	if err != nil {
		return nil, err
	}
	m := &measurement{shared: s, users: usersOf(s.Tokens)}
	if m.loops, err = newLoops(s); err != nil {
		return nil, err
	}
	m.measure(0)
	working, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	s.start = time.Now()
	for _, l := range m.loops {
		group.Go(func() { l.work(working) }) // ends with stop
	}
	return m.take(ctx), nil
}

func newShared(ctx context.Context, config Config) (*shared, error) {
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails
	name := hex.EncodeToString(id[:])
	s := &shared{Config: config, prefix: prefixOf(name), shards: min(runtime.GOMAXPROCS(0), config.Clients)}
	s.Room = either(s.Room, "load-"+name)
	if s.Transport == nil {
		s.Transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	s.tls = secure(&s.Config, u)
	if s.addresses, err = addressesOf(ctx, &s.Config, u); err != nil {
		return nil, err
	}
	for i := range s.Rooms {
		s.rooms = append(s.rooms, &room{index: i, name: s.roomName(i)})
	}
	return s, nil
}

// newLoops returns the loops with their clients.
func newLoops(s *shared) (loops []*loop, err error) {
	for i := range s.shards {
		l := &loop{shard: &shard{shared: s}, limit: max(1, maxInFlight/s.shards)}
		if direct && s.tls == nil {
			l.sockets, err = newEpoll(l, i)
		} else {
			l.sockets = newConns(l)
		}
		if err != nil {
			return nil, err
		}
		loops = append(loops, l)
	}
	for i := range s.Clients {
		token := ""
		if len(s.Tokens) > 0 {
			token = s.Tokens[i%len(s.Tokens)]
		}
		l := loops[i%len(loops)]
		c := newClient(l.shard, i, s.rooms[i%s.Rooms], token, paceOf(&s.Config, i))
		l.clients = append(l.clients, c)
		if c.pace == slow {
			l.slow = append(l.slow, c)
		}
	}
	return loops, nil
}

// paceOf returns the pace of the client with this index. The multiples of the golden ratio spread
// the shares evenly over the clients, and so over the rooms and the loops.
func paceOf(c *Config, i int) pace {
	_, at := math.Modf(float64(i) * (math.Phi - 1))
	switch {
	case at < c.Slow:
		return slow
	case at < c.Slow+c.Stopped:
		return stopped
	}
	return normal
}
