package ledger

import (
	"fmt"
	"slices"
	"time"
)

// checker is the state of a check.
type checker struct {
	report   Report
	contents map[Position]string  // of all messages
	ids      map[string]Position  // by content
	posts    map[string]bool      // content of each message sent: whether it was answered with 202
	began    map[string]time.Time // by content: start of the first request
	accepted []Record             // with status 202
	seqs     map[string][]uint64  // by epoch, sorted
	names    []string             // of clients, in the order of their first stream
	clients  map[string]*client
	end      time.Time
}

func (c *checker) fault(at time.Time, client, format string, values ...any) {
	c.report.Faults = append(c.report.Faults, Fault{at, client, fmt.Sprintf(format, values...)})
}

// collect records the id and the content of every message, before the clients are checked.
func (c *checker) collect(records []Record) {
	for _, r := range records {
		c.end = r.At
		if r.Kind == Posted {
			if first, known := c.began[r.Content]; !known || r.Began.Before(first) {
				c.began[r.Content] = r.Began
			}
			c.posts[r.Content] = c.posts[r.Content] || r.Status == 202
		}
	}
	for _, r := range records {
		switch {
		case r.Kind == Posted && r.Status == 202:
			c.accepted = append(c.accepted, r)
			c.name(r, r.ID, r.Content)
		case r.Kind == Posted && r.Status != 503 && r.Status != 0:
			c.fault(r.At, r.Client, "message %q was answered with status %d", r.Content, r.Status)
		case r.carries():
			m, ok := r.Message()
			if !ok || m.ID != r.ID {
				c.fault(r.At, r.Client, "message with the id line %q has the data %s", r.ID, r.Data)
			}
			if _, sent := c.posts[m.Data]; !sent {
				c.fault(r.At, r.Client, "received message %q, which was never sent", m.Data)
			}
			c.name(r, r.ID, m.Data)
		}
	}
	c.seqs = map[string][]uint64{}
	for p := range c.contents {
		c.seqs[p.Epoch] = append(c.seqs[p.Epoch], p.Seq)
	}
	for _, seqs := range c.seqs {
		slices.Sort(seqs)
	}
}

// name records that an id names a message.
func (c *checker) name(r Record, id, content string) {
	p, ok := ParsePosition(id)
	if !ok {
		c.fault(r.At, r.Client, "message %q has the malformed id %q", content, id)
		return
	}
	if other, known := c.contents[p]; known && other != content {
		c.fault(r.At, r.Client, "id %s names the messages %q and %q", p, other, content)
	}
	if other, known := c.ids[content]; known && other != p {
		c.fault(r.At, r.Client, "message %q has the ids %s and %s", content, other, p)
		return
	}
	c.contents[p], c.ids[content] = content, p
}

// count completes the report.
func (c *checker) count() {
	c.report.Clients, c.report.Epochs = len(c.names), len(c.seqs)
	for content, accepted := range c.posts {
		switch _, shown := c.ids[content]; {
		case accepted:
			c.report.Accepted++
		case shown:
			c.report.Shown++
			fallthrough
		default:
			c.report.Refused++
		}
	}
}

// client is the state of one client of the ledger.
type client struct {
	name   string
	open   bool
	synced bool // it has received a sync on its stream

	held     Position        // the last id that it received
	start    Position        // it must have every message after this position
	began    time.Time       // when it received start; zero: it has no position
	received map[uint64]bool // sequence numbers of the messages after start

	count   int
	counted bool
	members map[string]bool // nil: not known
}

// restart begins at a position from which the client must receive all messages.
func (k *client) restart(p Position, at time.Time) {
	k.held, k.start, k.began, k.received = p, p, at, map[uint64]bool{}
}
