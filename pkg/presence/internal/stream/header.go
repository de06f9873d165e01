package stream

import (
	"bytes"
	"net/http"
	"strings"
	"time"
)

// headers are the header fields of a stream. The fields after Content-Type ask proxies to forward
// every event immediately and unchanged. docs/proxies.md lists the headers that each proxy obeys.
//
// RFC 9110, section 8.4.1 advises against Content-Encoding: identity. It is needed because Caddy
// before 2.6.3 (Debian 12) and Varnish ignore no-transform. They gzip a response without
// Content-Encoding, and never flush the encoder. The field must not depend on the request's
// Accept-Encoding, because many configurations remove that header.
var headers = []struct{ name, value string }{
	{"Content-Type", "text/event-stream"},
	{"Cache-Control", "no-store, no-transform"},
	{"Content-Encoding", "identity"},
	{"X-Accel-Buffering", "no"},
}

// fixedHeaders are the header fields that the embedding program's middleware cannot override.
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
	head.Grow(640) // a typical head needs half; the first events of a joiner use the rest
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

// announcesEnd reports whether the response has the header Connection: close. Two requirements
// conflict:
//
//   - RFC 9112 section 9.6 asks for the header, because the connection ends with the stream.
//     Without it, a proxy with a connection pool would reuse the connection: nginx responded with
//     502 to 75 of 4,000 requests.
//   - With the header, Node's fetch treats a reset as the end of the stream, chunked or not.
//
// Therefore, the result depends on the request:
//
//	Connection   proxy header   Connection: close in the response
//	close        any            no
//	keep-alive   no             no, because browsers and Node send this
//	keep-alive   yes            yes
//	other        any            yes
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
