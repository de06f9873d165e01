package presence_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
)

// A repeated or misspelled parameter gets 400. Otherwise the request would silently go to another
// room, or to the lobby.
func TestParameters(t *testing.T) {
	h := open(t, presence.Config{})
	alice, root := bearer(t, "alice"), mint(t, auth.Claims{Sub: "root", Admin: true, Join: []string{"*"}, Send: []string{"*"}})
	for _, c := range []struct {
		method, path string
		detail       string // part of the problem's detail; empty if the request is accepted
	}{
		{"GET", "/events?room=a&room=b", `repeated parameter "room" (2 times, maximum 1)`},
		{"GET", "/events?room[]=c", `unknown parameter "room[]": did you mean room?`},
		{"GET", "/events?room%5B%5D=c", `"room[]"`},
		{"GET", "/events?room[10]=c", `"room[10]"`},
		{"GET", "/events?room_id=c", `"room_id"`},
		{"GET", "/events?roomName=c", `"roomName"`},
		{"GET", "/events?Room=c", `"Room"`},
		{"GET", "/events?rooms=c", `"rooms"`},
		{"GET", "/events?rom=c", `"rom"`},
		{"GET", "/events?romo=c", `"romo"`},
		{"GET", "/events?riom=c", `"riom"`},
		{"GET", "/events?r%C3%B6om=c", `"röom"`},
		{"GET", "/events?" + strings.Repeat("x&", 100) + "room=c", "too many query parameters (maximum 100)"},
		{"GET", "/events?r_oom=c", `"r_oom"`},
		{"GET", "/events?room=c&ROOM=d", `"ROOM"`},
		{"GET", "/events?room=c&lastEventID=x-1", `"lastEventID"`},
		{"GET", "/events?room=c&last-event-id=x-1", `"last-event-id"`},
		{"GET", "/events?room=c&last_event_id=x-1&last_event_id=x-2", `repeated parameter "last_event_id" (2 times, maximum 1)`},
		{"POST", "/messages?room=a&room=b", `repeated parameter "room" (2 times, maximum 1)`},
		{"POST", "/messages?rooms=a", `"rooms"`},
		{"PUT", "/state?room=a&room=b", `repeated parameter "room" (2 times, maximum 1)`},
		{"GET", "/presence?room=a&limit=1&limit=2", `repeated parameter "limit" (2 times, maximum 1)`},
		{"GET", "/presence?room=a&limits=1", `"limits"`},
		{"GET", "/presence?room=a&aftr=1", `"aftr"`},
		{"GET", "/rooms?Limit=1", `"Limit"`},
		{"GET", "/rooms?after=a&after=b", `repeated parameter "after" (2 times, maximum 1)`},
		{"DELETE", "/members/alice?room=a&room=b", `repeated parameter "room" (2 times, maximum 1)`},
		{"DELETE", "/members/alice?room=c&For=1s", `"For"`},
		{"DELETE", "/members/alice?room=c&fro=3h", `"fro"`},
		{"DELETE", "/members/alice?room=c&foor=3h", `"foor"`},
		{"DELETE", "/members/alice?room=c&for[0]=3h", `"for[0]"`},
		{"DELETE", "/members/alice?room=c&id=bob", "in both the path and the query"},
		{"DELETE", "/members?room=c", "missing member id"},
		{"DELETE", "/members?room=c&id=", "missing member id"},
		{"DELETE", "/members?room=c&id=a&id=b", `repeated parameter "id" (2 times, maximum 1)`},
		{"DELETE", "/members?room=c&Id=a", `"Id"`},

		{"GET", "/presence?room=c&r=0.5&_=17&t=1&utm_source=x&cachebuster=1&roommate=x&to=1&zoom=7&boom=1", ""},
		{"GET", "/events?room=c&limit=1&foo=1&foo=2&%C3%A9=1&=", ""},
	} {
		token := alice
		if strings.HasPrefix(c.path, "/members") || strings.HasPrefix(c.path, "/rooms") {
			token = root
		}
		r := h.ask(c.method, c.path, token, "1", "Content-Type", "application/json")
		if c.method == "GET" {
			r = h.ask(c.method, c.path, token, "")
		}
		if c.detail == "" {
			if r.StatusCode != 200 {
				t.Errorf("%s %s: got %s, want 200", c.method, c.path, r.Status)
			}
			continue
		}
		if r.StatusCode == 200 { // do not read the body, because a stream does not end
			r.Body.Close()
		}
		body, _ := io.ReadAll(r.Body)
		if detail := strings.ReplaceAll(string(body), `\"`, `"`); r.StatusCode != 400 || !strings.Contains(detail, c.detail) {
			t.Errorf("%s %s: got %s, %s; want 400, %s", c.method, c.path, r.Status, body, c.detail)
		}
	}
}

// A client may send its position in the header Last-Event-ID, or in the parameter last_event_id or
// lastEventId.
func TestLastEventID(t *testing.T) {
	h := open(t, presence.Config{})
	alice := bearer(t, "alice")
	h.stream("/events", alice).next("user count")
	var ids []string
	for i := range 4 {
		ids = append(ids, h.post("/messages", alice, fmt.Sprintf(`{"data":%d}`, i)))
	}
	for _, c := range []struct {
		query   string
		headers []string
		first   int // index of the first replayed message
	}{
		{"?last_event_id=" + ids[0], nil, 1},
		{"?lastEventId=" + ids[1], nil, 2},
		{"?last_event_id=" + ids[0] + "&lastEventId=" + ids[2], nil, 3},
		{"?lastEventId=" + ids[0] + "&last_event_id=" + ids[2], nil, 1},
		{"?lastEventId=" + ids[0] + "&lastEventId=" + ids[2], nil, 3},
		{"?lastEventId=&last_event_id=" + ids[1], nil, 2},
		{"?last_event_id=" + ids[0] + "&lastEventId=" + ids[0], []string{"Last-Event-ID", ids[2]}, 3},
	} {
		s := h.stream("/events"+c.query, alice, c.headers...)
		if got, want := s.next("message").id, ids[c.first]; got != want {
			t.Errorf("%s %v: got a replay from %s, want from %s", c.query, c.headers, got, want)
		}
		s.close()
	}
	if e := h.stream("/events?lastEventId=x-1", alice).next("reset"); e.data != `{"reason":"history"}` {
		t.Errorf("got %+v, want reset with reason history", e)
	}
}

// DELETE /members?id= removes a user with any id, including ids that do not fit into a path.
func TestRemoveByQuery(t *testing.T) {
	h := open(t, presence.Config{})
	root := mint(t, auth.Claims{Sub: "root", Admin: true})
	for _, id := range []string{".", "..", "a/b", "a%2Fb", "?&=#", "ä\u200dß", "a b+c"} {
		s := h.stream("/events", mint(t, auth.Claims{Sub: id}))
		s.next("user count")
		query := url.Values{"room": {"lobby"}, "id": {id}, "for": {"1s"}}
		if r := h.ask("DELETE", "/members?"+query.Encode(), root, ""); r.StatusCode != http.StatusNoContent {
			t.Errorf("%q: got %s, want 204", id, r.Status)
			continue
		}
		events := s.rest()
		if last := events[len(events)-1]; last.data != `{"reason":"removed"}` {
			t.Errorf("%q: got %+v last, want a goodbye with reason removed", id, last)
		}
	}
}

// Every response, errors included, has the common headers. HEAD returns the status and the headers
// of GET.
func TestCommonHeaders(t *testing.T) {
	h := open(t, presence.Config{Web: fstest.MapFS{"index.html": {Data: []byte("the page")}}})
	alice, root := bearer(t, "alice"), mint(t, auth.Claims{Sub: "root", Admin: true})
	for _, path := range []string{"/", "/index.html", "/presence", "/presence?limit=0", "/rooms", "/session", "/healthz", "/readyz", "/nothing"} {
		for _, token := range []string{alice, root, ""} {
			get, head := h.ask("GET", path, token, ""), h.ask("HEAD", path, token, "")
			if get.StatusCode != head.StatusCode {
				t.Errorf("HEAD %s: got %s, want %s as for GET", path, head.Status, get.Status)
			}
			for name := range get.Header {
				if g, h := get.Header.Get(name), head.Header.Get(name); g != h && name != "Date" && name != "X-Request-Id" {
					t.Errorf("HEAD %s: got %s %q, want %q as for GET", path, name, h, g)
				}
			}
		}
	}
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/events", ""}, {"HEAD", "/events", ""}, {"OPTIONS", "/messages", ""}, {"POST", "/messages", "x"}, {"PUT", "/state", "1"},
		{"GET", "/", ""}, {"GET", "/presence", ""}, {"GET", "/nothing", ""}, {"FOO", "/nothing", ""}, {"DELETE", "/session", ""},
	} {
		for _, token := range []string{alice, ""} {
			r := h.ask(c.method, c.path, token, c.body, "Content-Type", "application/json")
			if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Accept-Ranges") != "" {
				t.Errorf("%s %s: got %s with %v, want nosniff and no Accept-Ranges", c.method, c.path, r.Status, r.Header)
			}
		}
	}
	_, addr := hardened(t, presence.Config{}, true, false)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
	if r, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || r.StatusCode != 200 || r.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("OPTIONS *: got %v, %v; want 200 with nosniff", r, err)
	}
	// A 401 to a request without a credential has no error code (RFC 6750 section 3.1).
	for header, want := range map[string]string{"": "Bearer", "Basic eDp5": "Bearer", "Bearer rubbish": `Bearer error="invalid_token", error_description="`} {
		var headers []string
		if header != "" {
			headers = []string{"Authorization", header}
		}
		r := h.ask("GET", "/events", "", "", headers...)
		if got := r.Header.Get("WWW-Authenticate"); r.StatusCode != 401 || got != want && !(strings.HasPrefix(got, want) && strings.HasSuffix(want, `"`)) {
			t.Errorf("Authorization %q: got %s with WWW-Authenticate %q, want %q", header, r.Status, got, want)
		}
	}
}

// The server rejects a request before its body arrives if the Content-Length or the
// Content-Encoding is not allowed.
func TestRejectedBeforeTheBody(t *testing.T) {
	h := open(t, presence.Config{})
	alice := bearer(t, "alice")
	send := func(head string) *http.Response {
		t.Helper()
		conn, err := net.Dial("tcp", strings.TrimPrefix(h.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(8 * time.Second)) // after 10 s the server stops waiting for the body and responds
		io.WriteString(conn, head)
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: got %v, want a response", head, err)
		}
		return r
	}
	const head = "%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n%s\r\n"
	for _, c := range []struct {
		line, more string
		status     int
	}{
		{"POST /messages", "Content-Length: 65537\r\n", 413},
		{"POST /messages", "Content-Length: 65537\r\nExpect: 100-continue\r\n", 413},
		{"POST /messages", "Content-Length: 99999999999\r\n", 413},
		{"PUT /state", "Content-Length: 16385\r\n", 413},
		{"POST /session", "Content-Length: 16385\r\n", 413},
		{"POST /messages", "Content-Length: 1000\r\nContent-Encoding: gzip\r\n", 415},
		{"POST /messages", "Content-Length: 1000\r\nContent-Encoding: identity\r\nContent-Encoding: br\r\n", 415},
		{"PUT /state", "Content-Length: 1000\r\nContent-Encoding: deflate\r\n", 415},
		{"PUT /state", "Content-Length: 0\r\nContent-Encoding: Identity\r\n", 400}, // the body is empty
	} {
		r := send(fmt.Sprintf(head, c.line, alice, c.more))
		body, _ := io.ReadAll(r.Body)
		if r.StatusCode != c.status || r.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %q: got %s, %s; want %d", c.line, c.more, r.Status, body, c.status)
		}
		if r.Close != (c.status != 400) {
			t.Errorf("%s %q: %s: got Connection: close %v, want %v", c.line, c.more, r.Status, r.Close, c.status != 400)
		}
	}
}

// The stream of a request with Connection: close is chunked too, so that a client can distinguish a
// lost connection from the end of the stream.
func TestStreamIsDelimited(t *testing.T) {
	each(t, func(t *testing.T, open opener) {
		h := open(t, presence.Config{})
		for _, header := range []string{"close", "keep-alive"} {
			conn, err := net.Dial("tcp", strings.TrimPrefix(h.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			conn.SetDeadline(time.Now().Add(patience))
			fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: %s\r\n\r\n", bearer(t, "alice"), header)
			r, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.TransferEncoding) != 1 || r.TransferEncoding[0] != "chunked" || r.Close {
				t.Errorf("Connection: %s: got %v, close %v; want chunked, close false", header, r.TransferEncoding, r.Close)
			}
			if line, err := bufio.NewReader(r.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "retry: ") {
				t.Errorf("Connection: %s: got %q, %v; want retry first", header, line, err)
			}
		}
	})
}
