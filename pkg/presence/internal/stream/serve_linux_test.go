package stream

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// If a connection ended before Serve, Serve reports the end immediately, although nothing else
// wakes the loop until the next part of the heartbeat.
func TestServeAfterTheEnd(t *testing.T) {
	streams := Open(Config{Heartbeat: time.Hour})
	defer streams.Close()
	ended := make(chan End, 1)
	gone := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		conn, err := streams.Conn(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		c := conn.sink.(*direct)
		conn.Send([]byte("retry: 1000\n\n"))
		for open := true; open; {
			inTurn(c.loop, func() { open = c.fd >= 0 })
		}
		time.Sleep(2 * measureTime) // from now on, only Serve wakes the loop
		conn.Serve(r.Context(), func(why End) { ended <- why })
	}))
	defer server.Close()
	response, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	<-gone
	select {
	case why := <-ended:
		if why != Closed {
			t.Errorf("got %q, want %q", why, Closed)
		}
	case <-time.After(10 * time.Second):
		t.Error("the end was not reported within 10 s")
	}
}
