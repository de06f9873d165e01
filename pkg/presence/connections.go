package presence

import (
	"sync"

	"example.com/presence/pkg/presence/stream"
)

// connections are the open streams of all rooms, and by the cookie that each
// was opened with, if it was.
type connections struct {
	mu       sync.Mutex // guards what follows
	open     map[*connection]struct{}
	sessions map[string]map[*connection]struct{} // by User.Session
}

func newConnections() connections {
	return connections{open: map[*connection]struct{}{}, sessions: map[string]map[*connection]struct{}{}}
}

// add remembers the connection until remove.
func (c *connections) add(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[conn] = struct{}{}
	if conn.session == "" {
		return
	}
	if c.sessions[conn.session] == nil {
		c.sessions[conn.session] = map[*connection]struct{}{}
	}
	c.sessions[conn.session][conn] = struct{}{}
}

func (c *connections) remove(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
	delete(c.sessions[conn.session], conn)
	if len(c.sessions[conn.session]) == 0 {
		delete(c.sessions, conn.session)
	}
}

// end asks all connections for their end.
func (c *connections) end(why stream.End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		conn.conn.End(why)
	}
}

// endSession asks those for their end that were opened with this cookie.
func (c *connections) endSession(session string, why stream.End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.sessions[session] {
		conn.conn.End(why)
	}
}
