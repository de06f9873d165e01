package stream

import (
	"bytes"
	"net/http"
	"strings"
	"time"
)

// headers are those of a stream. Those after Content-Type ask proxies to pass every event on at
// once and unchanged; docs/proxies.md lists which proxy obeys which.
//
// RFC 9110, section 8.4.1, says that identity should not be sent in Content-Encoding. Caddy before
// 2.6.3 (Debian 12) and Varnish ignore no-transform, and gzip a response without Content-Encoding
// without ever flushing the encoder. The header must not depend on the request's Accept-Encoding,
// which many configurations remove.
var headers = []struct{ name, value string }{
	{"Content-Type", "text/event-stream"},
	{"Cache-Control", "no-store, no-transform"},
	{"Content-Encoding", "identity"},
	{"X-Accel-Buffering", "no"},
}

// fixedHeaders are the header fields that a host's middleware cannot set: this package does.
var fixedHeaders = func() map[string]bool {
	fixed := map[string]bool{"Content-Length": true, "Transfer-Encoding": true, "Connection": true}
	for _, field := range headers {
		fixed[field.name] = true
	}
	return fixed
}()

// responseHead returns the status line and the headers of the answer to a request of HTTP/1, with
// those that the middleware has set.
func responseHead(r *http.Request, middleware http.Header, chunked bool) []byte {
	var head bytes.Buffer
	head.Grow(640) // once: the usual head takes half, and the first events of a joiner go behind it
	if chunked {
		head.WriteString("HTTP/1.1 200 OK\r\n") // the highest version that is known here
	} else {
		head.WriteString("HTTP/1.0 200 OK\r\n")
	}
	for _, field := range headers {
		writeField(&head, field.name, field.value)
	}
	if chunked {
		writeField(&head, "Transfer-Encoding", "chunked")
	}
	if !chunked || announcesEnd(r) {
		writeField(&head, "Connection", "close")
	}
	if _, set := middleware["Date"]; !set {
		writeField(&head, "Date", time.Now().UTC().Format(http.TimeFormat))
	}
	middleware.WriteSubset(&head, fixedHeaders) // removes line breaks from values, as net/http does
	head.WriteString("\r\n")
	return head.Bytes()
}

func writeField(b *bytes.Buffer, name, value string) {
	b.WriteString(name)
	b.WriteString(": ")
	b.WriteString(value)
	b.WriteString("\r\n")
}

// announcesEnd reports whether the answer has Connection: close. RFC 9112 section 9.6 wants it, as
// the connection ends with the stream; and a proxy with a pool of connections would reuse this one:
// nginx answered 75 of 4,000 requests with 502 without it. But Node's fetch takes a reset for the
// stream's end after it, chunked or not. So it is not sent to a client that sent Connection: close
// itself, nor to one that sent Connection: keep-alive without a header of a proxy, as browsers and
// Node do.
func announcesEnd(r *http.Request) bool {
	if r.Close {
		return false
	}
	for _, ofProxy := range []string{"Via", "Forwarded", "X-Forwarded-For"} {
		if _, there := r.Header[ofProxy]; there {
			return true
		}
	}
	return !strings.EqualFold(r.Header.Get("Connection"), "keep-alive")
}
