package doctor_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"example.com/presence/cmd/presence/internal/doctor"
)

// maxWritten is the maximum number of bytes that a hostile server gets rid of in a run: the limits
// of the package doctor, and the buffers of the sockets.
const maxWritten = 64 << 20

// hostile are servers that no check may trust. Each ends in a fault, with bounded bytes.
var hostile = map[string]struct {
	handler http.Handler
	check   string
	text    string // pattern of the verdict
	flood   bool   // keeps a core busy, so that on a slow machine its sync may be late instead
}{
	"HTML for everything": {
		handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<!doctype html><title>shop</title>") }),
		check:   "service", text: "another service answers",
	},
	"redirect loop": {
		handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }),
		check:   "service", text: "302 Found to /healthz",
	},
	"endless body": {
		handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { repeat(w, r, "{") }),
		check:   "service", text: "another service answers",
	},
	"endless line": {
		handler: &fake{events: func(w http.ResponseWriter, r *http.Request) {
			beginStream(w)
			repeat(w, r, "data: ", strings.Repeat("x", 4096))
		}},
		check: "buffering", text: `event larger than the limit \(1048576 bytes\)|no sync within`, flood: true,
	},
	"huge event of many lines": {
		handler: &fake{events: func(w http.ResponseWriter, r *http.Request) {
			beginStream(w)
			repeat(w, r, "data: x\n")
		}},
		check: "buffering", text: `event larger than the limit \(1048576 bytes\)|no sync within`, flood: true,
	},
	"endless comments": {
		handler: &fake{events: func(w http.ResponseWriter, r *http.Request) {
			beginStream(w)
			repeat(w, r, ": "+strings.Repeat("x", 4096)+"\n\n")
		}},
		check: "buffering", text: `size limit of the stream reached \(16777216 bytes\)|no sync within`, flood: true,
	},
	"endless events": {
		handler: &fake{events: func(w http.ResponseWriter, r *http.Request) {
			beginStream(w)
			repeat(w, r, "data: x\n\n")
		}},
		check: "buffering", text: `event limit of the stream reached \(10000\)|no sync within`, flood: true,
	},
	"endless events after sync": {
		handler: &fake{events: func(w http.ResponseWriter, r *http.Request) {
			beginStream(w)
			repeat(w, r, firstSync, "data: x\n\n")
		}},
		check: "buffering", text: `after its first sync: event limit of the stream reached \(10000\)|no sync within`, flood: true,
	},
	"stream that closes at once": {
		handler: &fake{events: func(w http.ResponseWriter, r *http.Request) { beginStream(w) }},
		check:   "buffering", text: "ended before its first sync: EOF",
	},
	"stream that fails": {
		handler: &fake{events: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		check:   "stream", text: "GET events: EOF",
	},
	"stream that is HTML": {
		handler: &fake{events: func(w http.ResponseWriter, r *http.Request) { repeat(w, r, "<p>") }},
		check:   "stream", text: `Content-Type "text/html`,
	},
	"stream without an answer": {
		handler: &fake{events: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		check:   "buffering", text: "no sync within",
	},
	"impossible heartbeat": {
		handler: &fake{events: func(w http.ResponseWriter, r *http.Request) {
			beginStream(w)
			io.WriteString(w, strings.Replace(firstSync, `"heartbeat":1}`, `"heartbeat":1e300}`, 1))
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}},
		check: "buffering", text: "no heartbeat of 1 s to 5 min",
	},
	"repeated token": {
		handler: &fake{session: func(w http.ResponseWriter, r *http.Request) {
			_, sent, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			writeJSON(w, 401, "application/problem+json", `{"type":"about:blank","status":401,"detail":"bad token `+sent+` signed `+sent[strings.LastIndex(sent, ".")+1:]+`"}`)
		}},
		check: "token", text: `bad token \[token\] signed \[token\]`,
	},
}

// repeat writes begin[0] once if there are two, and then the last one until the client is gone.
func repeat(w http.ResponseWriter, r *http.Request, texts ...string) {
	if len(texts) > 1 {
		io.WriteString(w, texts[0])
	}
	for piece := strings.Repeat(texts[len(texts)-1], 16); r.Context().Err() == nil; {
		if _, err := io.WriteString(w, piece); err != nil {
			return
		}
	}
}

// floods lets one flood run at a time.
var floods sync.Mutex

func TestHostile(t *testing.T) {
	t.Parallel()
	for name, h := range hostile {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if h.flood {
				floods.Lock()
				defer floods.Unlock()
			}
			base, written := serve(t, h.handler)
			v := examine(t, base, nil)[h.check]
			if v.Level != doctor.Fault || !regexp.MustCompile(h.text).MatchString(v.Text) {
				t.Errorf("got %v\nwant a fault that matches %s", v, h.text)
			}
			if n := written.Load(); n > maxWritten {
				t.Errorf("the server wrote %d bytes, want at most %d", n, maxWritten)
			}
		})
	}
}

// A peer that breaks HTTP itself also ends in a verdict.
func TestHostileConnection(t *testing.T) {
	t.Parallel()
	endless := func(begin, piece string) func(net.Conn) {
		return func(c net.Conn) {
			c.Read(make([]byte, 4096)) // the request
			io.WriteString(c, begin)
			for {
				if _, err := io.WriteString(c, piece); err != nil {
					return
				}
			}
		}
	}
	for name, tt := range map[string]struct {
		serve func(net.Conn)
		text  string
	}{
		"closes at once":      {func(net.Conn) {}, "GET http"},
		"never answers":       {func(c net.Conn) { io.Copy(io.Discard, c) }, "no answer within 10s"},
		"endless header":      {endless("HTTP/1.1 200 OK\r\n", "X-A: "+strings.Repeat("x", 4096)+"\r\n"), "header"},
		"endless line":        {endless("HTTP/1.1 200 OK\r\nX-A: ", strings.Repeat("x", 4096)), "header"},
		"endless 103":         {endless("", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), "exceeded 65536 bytes"},
		"not HTTP":            {endless("", "\x00\x01\x02\x03 presence\r\n"), "malformed"},
		"body without an end": {endless("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", "["), "http://127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { // ends with the listener
				defer close(ended)
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() { // ends when the client closes the connection
						defer c.Close()
						tt.serve(c)
					}()
				}
			}()
			t.Cleanup(func() { l.Close(); <-ended })
			v := examine(t, "http://"+l.Addr().String(), nil)["service"]
			if v.Level != doctor.Fault || !strings.Contains(v.Text, tt.text) {
				t.Errorf("got %v\nwant a fault with %q", v, tt.text)
			}
		})
	}
}

// HTTP/2 alone is enough. A certificate that is not valid is a fault of its own.
func TestOnlyHTTP2(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(new(fake))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP2(true)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	by := examine(t, "https://example.com", rootOf(t, s, ""))
	if v := by["protocol"]; v.Level != doctor.OK || !strings.Contains(v.Text, "HTTP/2.0") {
		t.Errorf("got %v", v)
	}
	if v := by["buffering"]; v.Level != doctor.OK {
		t.Errorf("got %v", v)
	}
	by = examine(t, s.URL, nil)
	if v := by["service"]; v.Level != doctor.Fault || !strings.Contains(v.String(), "certificate not valid: ") || !strings.Contains(v.String(), "--ca FILE") {
		t.Errorf("got %v", v)
	}
}
