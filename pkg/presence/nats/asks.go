package nats

import (
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

const (
	// maxAsks is the maximum number of requests that wait for replies at the same time.
	maxAsks = 1024
	// maxReplies is the maximum number of replies that wait for their reader. More are dropped.
	maxReplies = 512
)

// asks passes the replies to the requests of this node on. All requests share one subscription,
// because the servers of a cluster exchange each subscription.
type asks struct {
	slots  chan struct{} // has an element per request
	prefix string        // of the reply subjects; ends with a dot

	mu      sync.Mutex // guards the fields below
	next    uint64
	waiting map[string]chan *nats.Msg // by the last token of the reply subject
}

func newAsks(c *nats.Conn) (*asks, error) {
	a := &asks{slots: make(chan struct{}, maxAsks), prefix: c.NewInbox() + ".", waiting: map[string]chan *nats.Msg{}}
	_, err := c.Subscribe(a.prefix+"*", a.receive)
	return a, err
}

// receive passes on a reply. It does not wait for the reader.
func (a *asks) receive(m *nats.Msg) {
	a.mu.Lock()
	replies := a.waiting[strings.TrimPrefix(m.Subject, a.prefix)]
	a.mu.Unlock()
	if replies != nil {
		select {
		case replies <- m:
		default:
		}
	}
}

// start returns the reply subject of a new request, and its replies. The caller must call end.
func (a *asks) start() (reply string, replies <-chan *nats.Msg, end func()) {
	c := make(chan *nats.Msg, maxReplies)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next++
	token := strconv.FormatUint(a.next, 36)
	a.waiting[token] = c
	return a.prefix + token, c, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.waiting, token)
	}
}

// isUnanswered reports whether the server has replied that no subscription exists.
func isUnanswered(m *nats.Msg) bool { return len(m.Data) == 0 && m.Header.Get("Status") == "503" }
