package stream

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

// maxTrailing is the maximum number of bytes that a client may send after its request. This package
// reads and discards these bytes, because the end of the connection is visible only after them.
const maxTrailing = 16 << 10

// http1 is a hijacked HTTP/1 connection. This package writes the response on it, because net/http
// would hide two ways in which the connection ends. It does not notice a half-closed connection if
// a byte follows the request, and it drops the error of a broken connection.
type http1 struct {
	conn     net.Conn
	head     []byte // status line and headers, until they are written
	chunked  bool
	trailing int           // number of bytes received after the request
	buffer   *bufio.Writer // nil except between Write and Flush
	released func()        // called when the socket is closed; may be nil
	ender    *socket.Ender // closes the connection
}

// Detacher is a connection of a listener that counts its connections. Detach removes the connection
// from the count. It returns the connection below, and a function to call when that connection is
// closed. The function may be nil. A type that wraps a Detacher, such as [crypto/tls.Conn], still
// uses it after Detach.
type Detacher interface {
	Detach() (below net.Conn, released func())
}

// hijack takes over the connection of the request from net/http. The body of the response is
// chunked, so that a client can distinguish the end of the body from a broken connection. HTTP/1.0
// has no chunks, so its body ends with the connection.
func hijack(w http.ResponseWriter, r *http.Request, ender *socket.Ender) (*http1, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	h := &http1{conn: conn, ender: ender, chunked: r.ProtoAtLeast(1, 1), trailing: buffered.Reader.Buffered()}
	if d, ok := h.below().(Detacher); ok {
		plain := h.below() == conn
		below, released := d.Detach()
		if h.released = released; plain {
			h.conn = below
		}
	}
	h.head = responseHead(r, w.Header(), h.chunked)
	if s := socket.Of(h.below()); s != nil {
		s.Control(socket.Tune)
	}
	return h, nil
}

// buffers holds the buffers that are used between a Write and its Flush.
var buffers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 4<<10) }}

// Write adds b to the body.
func (h *http1) Write(b []byte) (int, error) {
	if h.buffer == nil {
		h.buffer = buffers.Get().(*bufio.Writer)
		h.buffer.Reset(h.conn)
	}
	h.buffer.Write(h.head) // if this fails, the next write returns the error
	h.head = nil
	if !h.chunked {
		return h.buffer.Write(b)
	}
	return len(b), writeChunk(h.buffer, b)
}

// Flush writes the buffer to the connection.
func (h *http1) Flush() error {
	if h.buffer == nil {
		return nil
	}
	err := h.buffer.Flush()
	h.buffer.Reset(nil)
	buffers.Put(h.buffer)
	h.buffer = nil
	return err
}

func (h *http1) SetWriteDeadline(t time.Time) error { return h.conn.SetWriteDeadline(t) }

// waitForEnd waits until the client has closed its half of the connection, has sent more than
// maxTrailing bytes, or the connection is broken or closed. The error is never nil.
func (h *http1) waitForEnd() error {
	b := make([]byte, 256)
	for {
		n, err := h.conn.Read(b)
		if h.trailing += n; h.trailing > maxTrailing {
			return errors.New("too many bytes after the request")
		}
		if err != nil {
			return err
		}
	}
}

// close closes the connection. If complete is set, the client receives the end of the body, and the
// close_notify of TLS if that takes no longer than within. If complete is not set and the client
// has vanished or is slow, the connection is reset. In all other cases, queued data is delivered.
func (h *http1) close(complete bool, why End, within time.Duration) {
	below := h.below()
	end := layers{socket.Of(below), below, h.conn}
	if complete {
		if h.chunked {
			io.WriteString(h.conn, lastChunk) // the deadline of the goodbye applies
		}
		late := time.AfterFunc(within, func() { socket.Reset(end) }) // not the 5 s of crypto/tls
		if half, ok := h.conn.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
		late.Stop()
	}
	below.SetDeadline(time.Unix(1, 0)) // ends waitForEnd, even while the Ender holds the socket
	if !complete && (why == Timeout || why == Slow) {
		socket.Reset(end)
	} else {
		h.ender.End(end)
	}
	if h.released != nil {
		h.released()
	}
}

// liveness returns the kernel's TCP statistics for the socket, or zero if there is no socket.
func (h *http1) liveness() (p socket.Liveness) {
	if s := socket.Of(h.below()); s != nil {
		s.Control(func(fd uintptr) { p = socket.ReadLiveness(fd) })
	}
	return p
}

// below returns the connection below TLS or a similar wrapper.
func (h *http1) below() net.Conn {
	if t, ok := h.conn.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return h.conn
}

// layers is a [socket.Socket] that closes all layers of a connection: the socket (if there is one),
// the connection below TLS, and the connection on top.
type layers struct {
	socket.Socket
	below, top net.Conn
}

func (l layers) Control(f func(fd uintptr)) error {
	if l.Socket == nil {
		return errors.ErrUnsupported
	}
	return l.Socket.Control(f)
}

// Close closes the lowest layer first. Otherwise, crypto/tls would try for 5 s to write
// close_notify to a client that reads nothing.
func (l layers) Close() error {
	err := l.below.Close()
	if l.top != l.below {
		l.top.Close()
	}
	return err
}
