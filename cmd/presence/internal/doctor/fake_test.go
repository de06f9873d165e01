package doctor_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/presence/cmd/presence/internal/doctor"
)

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "48") // the tests wait most of the time
	goleak.VerifyTestMain(m)
}

// fake imitates the answers of presence to short requests. Its streams are those of a test.
type fake struct {
	events  http.HandlerFunc // the stream of a request with a token; nil: one with messages
	session http.HandlerFunc // GET session with a token; nil: accepts it
	cookie  string           // Set-Cookie of POST session
	cors    http.Header      // of each answer; OPTIONS is answered with 204
	skew    time.Duration    // of the times of messages
	resync  string           // text before sync after Last-Event-ID; "" replays
	epoch   string           // of a stream that resumes; "" is the same

	mu       sync.Mutex     // guards the fields below
	messages []string       // events that were posted
	open     map[string]int // streams by room
}

const (
	epoch     = "0123456789"
	firstSync = "id: " + epoch + "-1\ndata: {\"connections\":1,\"users\":1,\"members\":[],\"complete\":true,\"heartbeat\":1}\nevent: sync\n\n"
)

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, values := range f.cors {
		w.Header()[name] = values
	}
	authorized := r.Header.Get("Authorization") != ""
	switch r.Method + " " + r.URL.Path {
	case "GET /healthz":
		writeJSON(w, 200, "application/json", `{"status":"alive"}`)
	case "GET /session":
		switch {
		case authorized && f.session != nil:
			f.session(w, r)
		case authorized || r.Header.Get("Cookie") != "":
			writeJSON(w, 200, "application/json", `{"user":{"id":"alice"},"guests":false}`)
		default:
			writeJSON(w, 200, "application/json", `{"user":null,"guests":false}`)
		}
	case "POST /session":
		if f.cookie != "" {
			w.Header().Set("Set-Cookie", f.cookie)
		}
		w.WriteHeader(204)
	case "POST /messages":
		f.post(w, r, authorized)
	case "GET /events":
		if !authorized {
			writeJSON(w, 401, "application/problem+json", `{"type":"about:blank","title":"Unauthorized","status":401,"detail":"no token"}`)
			return
		}
		if f.events != nil {
			f.events(w, r)
			return
		}
		f.stream(w, r)
	case "GET /presence":
		f.mu.Lock()
		n := f.open[r.FormValue("room")]
		f.mu.Unlock()
		writeJSON(w, 200, "application/json", fmt.Sprintf(`{"members":[{"id":"alice","connections":%d}]}`, n))
	default:
		w.WriteHeader(map[bool]int{true: 204, false: 404}[r.Method == "OPTIONS"])
	}
}

func writeJSON(w http.ResponseWriter, status int, mediaType, body string) {
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	io.WriteString(w, body)
}

func (f *fake) post(w http.ResponseWriter, r *http.Request, authorized bool) {
	if !authorized {
		w.WriteHeader(401)
		return
	}
	var m struct{ Data string }
	json.NewDecoder(r.Body).Decode(&m)
	f.mu.Lock()
	f.messages = append(f.messages, fmt.Sprintf("id: %s-%d\ndata: {\"data\":%q,\"at\":%q}\nevent: doctor\n\n",
		epoch, 2+len(f.messages), m.Data, time.Now().Add(f.skew).Format(time.RFC3339Nano)))
	f.mu.Unlock()
	writeJSON(w, 202, "application/json", `{"id":"x"}`)
}

// stream sends sync, the messages and a ping every 100 ms.
func (f *fake) stream(w http.ResponseWriter, r *http.Request) {
	beginStream(w)
	f.count(r.FormValue("room"), 1)
	defer f.count(r.FormValue("room"), -1)
	sent, begin := 0, firstSync
	f.mu.Lock()
	if r.Header.Get("Last-Event-ID") == "" {
		sent = len(f.messages)
	} else if f.resync != "" {
		sent = len(f.messages)
		begin = f.resync + begin
	}
	f.mu.Unlock()
	if f.epoch != "" && r.Header.Get("Last-Event-ID") != "" {
		begin = strings.ReplaceAll(begin, epoch, f.epoch)
	}
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for {
		f.mu.Lock()
		text := strings.Join(f.messages[sent:], "")
		sent = len(f.messages)
		f.mu.Unlock()
		io.WriteString(w, text+begin+"data: {}\nevent: ping\n\n")
		begin = ""
		http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-ticks.C:
		}
	}
}

func (f *fake) count(room string, change int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		f.open = map[string]int{}
	}
	f.open[room] += change
}

func beginStream(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(200)
	http.NewResponseController(w).Flush()
}

// token is a token of alice without a valid signature. Its rights include all rooms.
const token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSIsInByZXNlbmNlIjp7ImpvaW4iOlsiKiJdLCJzZW5kIjpbIioiXX19.c2lnbmF0dXJlLW9mLWFsaWNl"

// examine runs all checks with the token, and returns the verdicts by check.
func examine(t *testing.T, base string, change func(*doctor.Config)) map[string]doctor.Verdict {
	t.Helper()
	c := doctor.Config{URL: base, Token: token, Watch: time.Second}
	if change != nil {
		change(&c)
	}
	reported := 0
	all, err := doctor.Run(t.Context(), c, func(doctor.Verdict) { reported++ })
	if err != nil || reported != len(all) || len(all) != 17 {
		t.Errorf("got %d verdicts, %d reported, %v; want 17", len(all), reported, err)
	}
	by := map[string]doctor.Verdict{}
	for _, v := range all {
		by[v.Check] = v
		t.Log(v)
		if strings.Contains(v.String(), token) || strings.Contains(v.String(), "c2lnbmF0dXJlLW9mLWFsaWNl") {
			t.Errorf("a verdict has the token: %v", v)
		}
		if len(v.String()) > 4<<10 {
			t.Errorf("got a verdict of %d bytes", len(v.String()))
		}
	}
	return by
}

// counting is a listener that counts the bytes that its connections have written.
type counting struct {
	net.Listener
	written *atomic.Int64
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countingConn{c, l.written}, err
}

type countingConn struct {
	net.Conn
	written *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// serve starts a server, which counts the bytes that it has written.
func serve(t *testing.T, h http.Handler) (base string, written *atomic.Int64) {
	t.Helper()
	written = new(atomic.Int64)
	s := httptest.NewUnstartedServer(h)
	s.Listener = counting{s.Listener, written}
	s.Start()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL, written
}

// rootOf returns a function that makes a Config trust the server and connect to it as example.com.
func rootOf(t *testing.T, s *httptest.Server, origin string) func(*doctor.Config) {
	t.Helper()
	return func(c *doctor.Config) {
		c.Connect, c.Origin = s.Listener.Addr().String(), origin
		c.RootCAs = s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	}
}
