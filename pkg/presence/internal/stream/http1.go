package stream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

// maxStray is how much a client may send after its request, in bytes. It is
// read and thrown away, as the end of the connection is seen behind it only.
const maxStray = 16 << 10

// http1 is a connection of HTTP/1 that was taken out of net/http, and the
// answer on it, written by hand. net/http would hide two ends from us: one
// byte after the request blinds it to a half-closed connection, and what a
// connection died of is lost.
type http1 struct {
	conn    net.Conn
	head    []byte // of the answer, until it is sent
	chunked bool
	stray   int // bytes that came after the request
	buf     *bufio.Writer

	released func()        // called when the socket is closed; may be nil
	ender    *socket.Ender // closes it
}

// Detacher is a connection of a listener that keeps an account of its
// connections. Detach takes this one off it and returns the connection below,
// and what is to be called when that is closed, which may be nil. A type around
// it, such as [crypto/tls.Conn], goes on using the Detacher.
type Detacher interface {
	Detach() (below net.Conn, released func())
}

// hijack takes the connection of the request over. The answer's body is
// chunked, so that a client can distinguish its end from a broken connection.
// HTTP/1.0 has no such body: there the end of the connection is that of the body.
func (s *Streams) hijack(w http.ResponseWriter, r *http.Request) (*http1, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	h := &http1{conn: conn, ender: &s.ender, chunked: r.ProtoAtLeast(1, 1), stray: buffered.Reader.Buffered()}
	if d, ok := h.below().(Detacher); ok {
		plain := h.below() == conn
		below, released := d.Detach()
		if h.released = released; plain {
			h.conn = below
		}
	}
	var head bytes.Buffer
	head.Grow(640) // once: the usual head takes half, and the first events of a joiner go behind it
	if h.chunked {
		head.WriteString("HTTP/1.1 200 OK\r\n") // the highest version that is known here
	} else {
		head.WriteString("HTTP/1.0 200 OK\r\n")
	}
	for _, field := range headers {
		writeField(&head, field.name, field.value)
	}
	if h.chunked {
		writeField(&head, "Transfer-Encoding", "chunked")
	}
	if !h.chunked || announcesEnd(r) {
		writeField(&head, "Connection", "close")
	}
	if _, set := w.Header()["Date"]; !set {
		writeField(&head, "Date", time.Now().UTC().Format(http.TimeFormat))
	}
	w.Header().WriteSubset(&head, own) // takes line breaks out of values, as net/http does
	head.WriteString("\r\n")
	h.head = head.Bytes()
	return h, nil
}

// own are the header fields that a host's middleware cannot set, as they are this package's.
var own = func() map[string]bool {
	own := map[string]bool{"Content-Length": true, "Transfer-Encoding": true, "Connection": true}
	for _, field := range headers {
		own[field.name] = true
	}
	return own
}()

func writeField(b *bytes.Buffer, name, value string) {
	b.WriteString(name)
	b.WriteString(": ")
	b.WriteString(value)
	b.WriteString("\r\n")
}

// announcesEnd reports whether the answer has Connection: close. RFC 9112 section 9.6 wants it, as
// the connection ends with the stream; and a proxy that keeps a pool of connections would reuse this
// one: nginx then answered 75 of 4,000 requests with 502. But Node's fetch takes a reset for the
// stream's end after it, chunked or not. So a client gets none that asked for the end itself, or
// that sent Connection: keep-alive without a trace of a proxy, as browsers and Node do.
func announcesEnd(r *http.Request) bool {
	if r.Close {
		return false
	}
	for _, trace := range []string{"Via", "Forwarded", "X-Forwarded-For"} {
		if _, there := r.Header[trace]; there {
			return true
		}
	}
	return !strings.EqualFold(r.Header.Get("Connection"), "keep-alive")
}

// buffers are for what is written between two flushes.
var buffers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 4<<10) }}

// Write adds b to the body.
func (h *http1) Write(b []byte) (int, error) {
	if h.buf == nil {
		h.buf = buffers.Get().(*bufio.Writer)
		h.buf.Reset(h.conn)
	}
	h.buf.Write(h.head) // an error stays, and the last Write has it
	h.head = nil
	if !h.chunked {
		return h.buf.Write(b)
	}
	h.buf.Write(appendChunkHead(h.buf.AvailableBuffer(), len(b)))
	h.buf.Write(b)
	_, err := h.buf.WriteString(chunkEnd)
	return len(b), err
}

// Flush brings what was written to the socket.
func (h *http1) Flush() error {
	if h.buf == nil {
		return nil
	}
	err := h.buf.Flush()
	h.buf.Reset(nil)
	buffers.Put(h.buf)
	h.buf = nil
	return err
}

func (h *http1) SetWriteDeadline(t time.Time) error { return h.conn.SetWriteDeadline(t) }

// listen returns when the client has closed its half of the connection, the
// connection is broken or closed, or too much came; the error is not nil.
func (h *http1) listen() error {
	b := make([]byte, 256)
	for {
		n, err := h.conn.Read(b)
		if h.stray += n; h.stray > maxStray {
			return errors.New("too much after the request")
		}
		if err != nil {
			return err
		}
	}
}

// close ends the connection; if the body is whole, in a way that has the
// client see that, for which it takes no longer than that. A client that has
// vanished or takes nothing is owed nothing more.
func (h *http1) close(whole bool, why End, within time.Duration) {
	below := h.below()
	end := layers{socket.Of(below), below, h.conn}
	if whole {
		if h.chunked {
			io.WriteString(h.conn, chunkLast) // within the deadline of the goodbye
		}
		// TLS has a goodbye of its own, for which crypto/tls waits 5 s.
		late := time.AfterFunc(within, func() { socket.Reset(end) })
		if half, ok := h.conn.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
		late.Stop()
	}
	below.SetDeadline(time.Unix(1, 0)) // ends listen, though the socket may be held
	if !whole && (why == Timeout || why == Slow) {
		socket.Reset(end)
	} else {
		h.ender.End(end)
	}
	if h.released != nil {
		h.released()
	}
}

// layers is the socket of a connection, if it has one, the connection below
// TLS, and the one on top.
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

// Close closes from below: crypto/tls would write its goodbye to a peer that takes
// nothing, for 5 s.
func (l layers) Close() error {
	err := l.below.Close()
	if l.top != l.below {
		l.top.Close()
	}
	return err
}

// tune bounds what the kernel holds for the client.
func (h *http1) tune() {
	if s := socket.Of(h.below()); s != nil {
		s.Control(socket.Tune)
	}
}

// feel returns the pulse of the client; zero if there is no socket below.
func (h *http1) feel() (p socket.Pulse) {
	if s := socket.Of(h.below()); s != nil {
		s.Control(func(fd uintptr) { p = socket.Feel(fd) })
	}
	return p
}

// below is the connection below the one of TLS, or of what is like it.
func (h *http1) below() net.Conn {
	if t, ok := h.conn.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return h.conn
}
