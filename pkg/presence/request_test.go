package presence_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
)

// The log has the address of the client. A header counts only if the peer is a trusted proxy, and
// only its last address that is not trusted counts.
func TestClientAddress(t *testing.T) {
	var log syncBuffer
	server, err := presence.New(presence.Config{
		Logger:         slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Authenticator:  authenticator(func(*http.Request) (presence.User, error) { return presence.User{}, auth.ErrNoToken }),
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("fe80::/10")},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown(context.Background())
	for _, c := range []struct {
		peer    string
		headers []string // names and values
		want    string
	}{
		{"192.0.2.1:5", nil, "192.0.2.1"},
		{"192.0.2.1:5", []string{"X-Forwarded-For", "198.51.100.7"}, "192.0.2.1"}, // not a proxy
		{"10.1.2.3:5", nil, "10.1.2.3"},
		{"10.1.2.3:5", []string{"X-Forwarded-For", "198.51.100.7"}, "198.51.100.7"},
		{"[::ffff:10.1.2.3]:5", []string{"X-Forwarded-For", "198.51.100.7"}, "198.51.100.7"},
		{"[2001:db8::1]:5", []string{"X-Forwarded-For", "2001:db9::7"}, "2001:db9::7"},
		{"10.1.2.3:5", []string{"X-Forwarded-For", "203.0.113.9, 198.51.100.7, 10.9.9.9"}, "198.51.100.7"},            // the first is forged
		{"10.1.2.3:5", []string{"X-Forwarded-For", "203.0.113.9", "X-Forwarded-For", "198.51.100.7"}, "198.51.100.7"}, // two headers
		{"10.1.2.3:5", []string{"X-Forwarded-For", "198.51.100.7, unknown"}, "10.1.2.3"},                              // not an address
		{"10.1.2.3:5", []string{"X-Forwarded-For", "10.9.9.9"}, "10.1.2.3"},                                           // all trusted
		{"10.1.2.3:5", []string{"X-Forwarded-For", strings.Repeat("x", 9000)}, "10.1.2.3"},
		{"10.1.2.3:5", []string{"Forwarded", `for=198.51.100.7;proto=https`}, "198.51.100.7"},
		{"10.1.2.3:5", []string{"Forwarded", `for="[2001:db9::7]:4711"`}, "2001:db9::7"},
		{"10.1.2.3:5", []string{"Forwarded", `for=203.0.113.9`, "X-Forwarded-For", "198.51.100.7"}, "198.51.100.7"},
		{"10.1.2.3:5", []string{"Forwarded", `for=203.0.113.9`, "X-Forwarded-For", ""}, "10.1.2.3"},
		{"10.1.2.3:5", []string{"X-Forwarded-For", "198.51.100.7, ", "X-Forwarded-For", " ,"}, "198.51.100.7"}, // empty elements
		{"10.1.2.3:5", []string{"Forwarded", `for=198.51.100.7;host="a,for=203.0.113.9;b"`}, "10.1.2.3"},       // the second address is quoted
		{"10.1.2.3:5", []string{"Forwarded", `ext="a;for=203.0.113.9;";for=198.51.100.7`}, "10.1.2.3"},
		{"10.1.2.3:5", []string{"Forwarded", `ext="\",for=203.0.113.9";for=198.51.100.7`}, "10.1.2.3"},
		{"10.1.2.3:5", []string{"Forwarded", `for="198.51.100.7`, "Forwarded", `for=203.0.113.9"`}, "10.1.2.3"},
		{"10.1.2.3:5", []string{"Forwarded", `for=203.0.113.9;host="a b", for="198.51.100.7:80"`}, "198.51.100.7"},
		{"10.1.2.3:5", []string{"X-Forwarded-For", "2001:db9::7%eth1"}, "2001:db9::7"},
		{"10.1.2.3:5", []string{"X-Forwarded-For", "::ffff:198.51.100.7%x"}, "198.51.100.7"},
		{"[fe80::1%eth0]:5", []string{"X-Forwarded-For", "198.51.100.7"}, "198.51.100.7"},
		{"", []string{"X-Forwarded-For", "198.51.100.7"}, "198.51.100.7"}, // a Unix socket
		{"@", nil, "unix"},
		{"not an address", nil, `"not an address"`},
	} {
		log.reset()
		r := httptest.NewRequest("GET", "/healthz", nil)
		r.RemoteAddr = c.peer
		for i := 0; i < len(c.headers); i += 2 {
			r.Header.Add(c.headers[i], c.headers[i+1])
		}
		server.ServeHTTP(httptest.NewRecorder(), r)
		if got := log.String(); !strings.Contains(got, " client_address="+c.want+" ") {
			t.Errorf("peer %q, headers %.80q: got %q, want client_address=%s", c.peer, c.headers, got, c.want)
		}
	}
}

// Each request that is not a stream has a line at level debug, and each stream has one for its
// beginning and one for its end.
func TestAccessLog(t *testing.T) {
	var log syncBuffer
	h := open(t, presence.Config{
		Logger:      slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		CORSOrigins: []string{"https://example.com"},
		Web:         fstest.MapFS{"index.html": {Data: []byte("the page")}},
	})
	number := regexp.MustCompile(`duration=[0-9.]+(µs|ms|s)\b`)
	line := func(want string) {
		t.Helper()
		log.until(t, want, func(text string) bool {
			return strings.Contains(number.ReplaceAllString(text, "duration=D"), " "+want+"\n")
		})
	}
	alice := bearer(t, "alice")
	h.ask("GET", "/presence?room=doc-1&access_token="+alice, alice, "", "X-Request-Id", "req-1")
	line(`level=DEBUG msg=request method=GET path=/presence room=doc-1 user=alice client_address=127.0.0.1 request_id=req-1 status=200 duration=D`)
	h.ask("POST", "/messages", alice, "hello", "X-Request-Id", "req-2", "Content-Type", "text/plain")
	line(`level=DEBUG msg=request method=POST path=/messages room=lobby user=alice client_address=127.0.0.1 request_id=req-2 status=202 duration=D`)
	h.ask("HEAD", "/", "", "", "X-Request-Id", "req-3")
	line(`level=DEBUG msg=request method=HEAD path=/ client_address=127.0.0.1 request_id=req-3 status=200 duration=D`)
	h.ask("OPTIONS", "/messages", "", "", "X-Request-Id", "req-4", "Origin", "https://example.com", "Access-Control-Request-Method", "POST")
	line(`level=DEBUG msg=request method=OPTIONS path=/messages client_address=127.0.0.1 request_id=req-4 status=200 duration=D`)
	s := h.stream("/events", alice, "X-Request-Id", "req-5")
	line(`level=DEBUG msg="stream opened" room=lobby user=alice client_address=127.0.0.1 request_id=req-5 protocol=HTTP/1.1`)
	s.body.Close()
	line(`level=DEBUG msg="stream ended" room=lobby user=alice client_address=127.0.0.1 request_id=req-5 reason=closed duration=D`)
	if got := log.String(); strings.Contains(got, "path=/events") {
		t.Errorf("got an access line for a stream: %s", got)
	}
}

// A problem document has the request id of its log line: that of the client if it is valid, else a
// new one.
func TestRequestID(t *testing.T) {
	var log syncBuffer
	h := open(t, presence.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	made := regexp.MustCompile(`^[A-Z2-7]{26}$`)
	for sent, kept := range map[string]bool{
		"": false, "a": true, "6f9619ff-8b86-d011-b42d-00cf4fc964ff": true, strings.Repeat("x", 128): true, strings.Repeat("x", 129): false,
		"two words": false, `"`: false, "é": false,
	} {
		got := h.ask("GET", "/presence", "", "", "X-Request-Id", sent).Header.Get("X-Request-Id")
		if kept && got != sent || !kept && !made.MatchString(got) {
			t.Errorf("X-Request-Id %.50q: got %q, want it kept: %v", sent, got, kept)
		}
		log.has(t, " request_id="+got+" status=401 ")
	}
}

// Each refusal has a line with its cause, an example, and no token and no message text, wherever a
// client puts them.
func TestRefusalLog(t *testing.T) {
	var log syncBuffer
	h := open(t, presence.Config{
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), MaxConnectionsPerUser: 1, MaxRooms: 2, MessageRate: 0.001, MessageBurst: 2,
		HistoryAge: time.Hour,
	})
	alice, root := mint(t, auth.Claims{Sub: "alice", Join: []string{"lobby", "two", "three"}, Send: []string{"lobby"}}), mint(t, auth.Claims{Sub: "root", Admin: true})
	old, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "alice", "exp": 1}).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	// So short that it is a valid name of a room, request id and user id.
	bare := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "a"})
	delete(bare.Header, "typ")
	short, err := bare.SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	const text = "what-was-said"
	plain := []string{"Content-Type", "text/plain"}
	inJSON := []string{"Content-Type", "application/json"}
	h.stream("/events", alice)
	h.stream("/events?room=two", bearer(t, "bob"))
	for _, c := range []struct {
		method, path, token, body string
		headers                   []string
		want                      string
	}{
		{"GET", "/events", "", "", nil, `cause=anonymous count=1 detail="no token: send an Authorization: Bearer header or the session cookie" status=401 method=GET path=/events client_address=`},
		{"GET", "/events", old, "", nil, `cause=token reason=expired count=1 detail="invalid token: expired: exp 1970-01-01T00:00:01Z is `},
		{"GET", "/events", alice + "x", "", nil, `cause=token reason=signature count=1 detail="invalid token: signature mismatch: no key verifies it, 1 tried (alg \"HS256\", no kid, key fingerprint secret-534da614d257a303)" status=401 method=GET path=/events client_address=`},
		{"GET", "/events?room=secret", alice, "", nil, `cause=room_right count=1 detail="token lacks the required right for room \"secret\": join allowed in \"lobby\", \"two\", \"three\"" status=403 method=GET path=/events room=secret user=alice client_address=`},
		{"GET", "/events", alice, "", nil, `cause=user_connections count=1 detail="per-user connection limit reached (1)" status=200 method=GET path=/events room=lobby user=alice client_address=`},
		{"GET", "/events?room=three", bearer(t, "bob2"), "", nil, `cause=rooms count=1 detail="room limit reached (2)" status=200 method=GET path=/events room=three user=bob2 client_address=`},
		{"GET", "/rooms", alice, "", nil, `cause=admin_right count=1 detail="admin token required" status=403 method=GET path=/rooms user=alice client_address=`},
		{"POST", "/messages", alice, strings.Repeat(text, 6000), plain, `cause=too_large count=1 detail="body too large (maximum 65536 bytes)" status=413`},
		{"POST", "/messages", alice, `{"` + text + `":1}`, inJSON, `cause=bad_request count=1 detail="unknown JSON field (known fields: event, data, id)" status=400`},
		{"POST", "/messages", alice, text, plain, `cause=rate count=1 detail="message rate limit exceeded (0.001 per second)" status=429 method=POST path=/messages room=lobby user=alice client_address=`},
		{"POST", "/session", "", `{"token":"` + alice + `"}`, append([]string{"Origin", "https://evil.example"}, inJSON...), `cause=origin count=1 detail="cross-origin request rejected: origin \"https://evil.example\" not allowed`},
		{"PUT", "/state?room=two", alice, `"` + text + `"`, inJSON, `cause=conflict count=1 detail="user not in room \"two\": open a stream in the room first" status=409`},
		{"PUT", "/state", alice, `"` + text + `"`, plain, `cause=media_type count=1`},
		{"DELETE", "/members/alice?for=1h", root, "", nil, ""},
		{"GET", "/events", alice, "", nil, `cause=banned count=1 detail="user banned from room \"lobby\" until `},
		{"DELETE", "/bans?id=alice", root, "", nil, ""},
		// Places where a token does not belong.
		{"GET", "/" + alice, alice, "", nil, ""},
		{short, "/" + alice, alice, "", nil, ""},
		{"GET", "/presence?room=" + alice, alice, "", nil, ""},
		{"GET", "/presence?" + alice + "=1&access_token=" + alice, alice, "", nil, ""},
		{"GET", "/presence?rooms=" + alice, alice, "", nil, ""},
		{"DELETE", "/members/" + alice, root, "", nil, ""},
		{"DELETE", "/members?id=" + alice, alice, "", nil, ""},
		{"GET", "/healthz", "", "", []string{"X-Request-Id", alice, "X-Forwarded-For", alice, "Last-Event-ID", alice, "Origin", alice, "User-Agent", alice}, ""},
		{"GET", "/session", "", "", []string{"Cookie", "__Host-presence_token=" + alice, "Origin", "https://" + alice, "Host", alice}, ""},
		{"POST", "/session", "", alice, inJSON, ""},
		{"POST", "/session", "", `{"` + alice + `":1}`, inJSON, ""},
		{"POST", "/messages", root, alice, plain, ""},
		{"DELETE", "/members?id=bob&room=two&for=1s", root, "", []string{"X-Request-Id", short}, ""},
		{"DELETE", "/members?id=" + short + "&room=two&for=1s", root, "", nil, ""},
		{"DELETE", "/members?id=bob&for=1s&room=" + short, root, "", nil, ""},
		{"DELETE", "/bans?id=" + short + "&room=two", root, "", nil, ""},
		{"DELETE", "/bans?id=" + alice, root, "", nil, ""},
		{"GET", "/bans?after=" + alice + "&room=" + short, root, "", nil, ""},
		{"POST", "/messages?room=" + short, root, "hello", append([]string{"X-Request-Id", short}, plain...), ""},
		{"POST", "/messages", root, `{"event":"` + text + `","data":"` + text + `","id":"` + text + `"}`, inJSON, ""},
	} {
		h.ask(c.method, c.path, c.token, c.body, c.headers...)
		log.has(t, `level=WARN msg="request refused" `+c.want)
	}
	log.has(t, `)" status=401 method=GET path=/events user=alice client_address=`) // of the expired token
	log.has(t, `level=INFO msg="user removed from room" removed=alice for=1h0m0s room=lobby admin=root client_address=127.0.0.1 request_id=`)
	log.has(t, `level=INFO msg="ban lifted" banned=alice room=lobby admin=root client_address=127.0.0.1 request_id=`)
	got := log.String()
	for _, part := range slices.Concat([]string{text}, strings.Split(alice, "."), strings.Split(root, "."), strings.Split(old, "."), strings.Split(short, ".")) {
		if i := strings.Index(got, part); i >= 0 {
			from := strings.LastIndexByte(got[:i], '\n') + 1
			t.Errorf("got a token or a message in the log: %s", got[from:from+strings.IndexByte(got[from:], '\n')])
		}
	}
}

// stuck is a response whose client reads nothing.
type stuck struct {
	*httptest.ResponseRecorder
	left context.Context // done when the client disconnects
}

func (s stuck) Write([]byte) (int, error) {
	<-s.left.Done()
	return 0, s.left.Err()
}

// Over one HTTP/2 connection, a large response waits up to 10 s for two others. Then it is refused,
// and the log has its client.
func TestLargeResponseRefused(t *testing.T) {
	var log syncBuffer
	inBubble(t, presence.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, b *bubble) {
		one, leave := context.WithCancel(t.Context())
		two, leaveToo := context.WithCancel(t.Context())
		local := &net.TCPAddr{} // one for each connection
		ask := func(w http.ResponseWriter, local net.Addr) (done chan struct{}) {
			r := b.request(context.WithValue(t.Context(), http.LocalAddrContextKey, local), "GET", "/presence", "", testUser("alice"))
			r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
			done = make(chan struct{})
			go func() { b.ServeHTTP(w, r); close(done) }() // ends with the response
			return done
		}
		first, second := ask(stuck{httptest.NewRecorder(), one}, local), ask(stuck{httptest.NewRecorder(), two}, local)
		synctest.Wait()
		other, refused := httptest.NewRecorder(), httptest.NewRecorder()
		began := time.Now()
		<-ask(other, &net.TCPAddr{})
		<-ask(refused, local)
		if took := time.Since(began); other.Code != 200 || refused.Code != 503 || took != 10*time.Second {
			t.Errorf("got %d over another connection and %d after %v, want 200, and 503 after 10 s", other.Code, refused.Code, took)
		}
		log.has(t, `level=WARN msg="request refused" cause=answers count=1 detail="large response limit per connection reached" status=503 `+
			`method=GET path=/presence client_address=192.0.2.1 request_id=`+refused.Header().Get("X-Request-Id"))
		leave()
		<-first
		after := httptest.NewRecorder()
		if <-ask(after, local); after.Code != 200 {
			t.Errorf("got %d after one of the two responses, want 200", after.Code)
		}
		leaveToo()
		<-second
		if answers := b.Stats().Refusals["answers"]; answers != 1 {
			t.Errorf("got %d refusals, want 1", answers)
		}
	})
}
