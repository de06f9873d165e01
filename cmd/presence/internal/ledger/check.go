package ledger

import "time"

// Check checks these promises:
//
//   - No client receives a message twice or out of order, and ids never go back, except after a
//     reset.
//   - No client misses a message between two ids that it held, except by a reset.
//   - Every message answered with 202 is at each client that is open at the end, unless the client
//     joined later or was reset later.
//   - A message is in the log at most once, even if no request that sent it was answered with 202.
//   - An id names one message, and a message that was not sent is never received.
//   - Joins and leaves of a user alternate at each client.
//   - When it is quiet, each open client has the true count and the true members.
func Check(records []Record) Report {
	c := &checker{contents: map[Position]string{}, ids: map[string]Position{}, posts: map[string]bool{}, began: map[string]time.Time{}, clients: map[string]*client{}}
	c.collect(records)
	for _, r := range records {
		switch r.Kind {
		case Opened:
			c.opened(r)
		case Event:
			c.event(r)
		case Closed:
			if k := c.clients[r.Client]; k != nil {
				k.open = false
			}
		case Quiet:
			c.quiet(r)
		}
	}
	for _, name := range c.names {
		c.complete(c.clients[name], true)
	}
	c.count()
	return c.report
}
