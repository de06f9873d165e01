package stream

import (
	"bytes"
	"net/http"
	"strings"
	"time"
)

// headers are the header fields of a stream. Those after Content-Type ask proxies to forward every
// event at once and unchanged. docs/proxies.md lists the headers that each proxy obeys.
//
// Content-Encoding: identity is against the advice of RFC 9110, section 8.4.1. It is needed because
// Caddy before 2.6.3 (Debian 12) and Varnish ignore no-transform. They gzip a response without
// Content-Encoding, and never flush the encoder. The field must not depend on the request's
// Accept-Encoding, because many configurations remove that.
var headers = []struct{ name, value string }{
	{"Content-Type", "text/event-stream"},
	{"Cache-Control", "no-store, no-transform"},
	{"Content-Encoding", "identity"},
	{"X-Accel-Buffering", "no"},
}

// fixedHeaders are the header fields that this package sets. A host's middleware cannot set them.
var fixedHeaders = func() map[string]bool {
	fixed := map[string]bool{"Content-Length": true, "Transfer-Encoding": true, "Connection": true}
	for _, field := range headers {
		fixed[field.name] = true
	}
	return fixed
}()

// responseHead returns the status line and the headers of the response to an HTTP/1 request. It
// includes the headers that the middleware has set.
func responseHead(r *http.Request, middleware http.Header, chunked bool) []byte {
	var head bytes.Buffer
	head.Grow(640) // once: a usual head needs half, and a joiner's first events follow
	if chunked {
		head.WriteString("HTTP/1.1 200 OK\r\n") // the highest version that this package supports
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

// announcesEnd reports whether the response has Connection: close. Two facts are in conflict:
//
//   - RFC 9112 section 9.6 asks for it, because the connection ends with the stream. Without it a
//     proxy with a connection pool would reuse the connection: nginx answered 75 of 4,000 requests
//     with 502.
//   - After it, Node's fetch treats a reset as the end of the stream, chunked or not.
//
// So the result depends on the request:
//
//	Connection   header of a proxy   Connection: close in the response
//	close        any                 no
//	keep-alive   no                  no, as browsers and Node send this
//	keep-alive   yes                 yes
//	other        any                 yes
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
