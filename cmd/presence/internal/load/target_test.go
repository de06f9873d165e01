package load

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// TestTargetRequests compares the requests of each target with those that its server expects.
func TestTargetRequests(t *testing.T) {
	tests := []struct {
		config          Config
		stream          string // request line and further lines of the stream
		publish, answer string // request of a message, and its body
	}{
		{Config{Target: Presence, URL: "http://host/live/"},
			"GET /live/events?room=a%3Ab HTTP/1.1|Authorization: Bearer T|Last-Event-ID: 7",
			"POST http://host/live/messages?room=a%3Ab application/json Bearer P", `{"data":"text","id":"key"}`},
		{Config{Target: Mercure, URL: "http://host"},
			"GET /.well-known/mercure?topic=a%3Ab HTTP/1.1|Authorization: Bearer T|Last-Event-ID: 7",
			"POST http://host/.well-known/mercure application/x-www-form-urlencoded Bearer P", "data=text&topic=a%3Ab"},
		{Config{Target: Centrifugo, URL: "http://host"},
			"GET /connection/uni_sse?cf_connect=%7B%22token%22%3A%22T%22%2C%22subs%22%3A%7B%22a%3Ab%22%3A%7B%7D%7D%7D HTTP/1.1|Last-Event-ID: 7",
			"POST http://host/api/publish application/json P", `{"channel":"a:b","data":"text","idempotency_key":"key"}`},
		{Config{Target: Nchan, URL: "http://host"},
			"GET /sub/a:b HTTP/1.1|Authorization: Bearer T|Last-Event-ID: 7",
			"POST http://host/pub/a%3Ab text/plain Bearer P", "text"},
		{Config{Target: Generic, URL: "http://host", StreamURL: "http://host/s/{room}?x=1", PublishURL: "http://host/p?r={room}"},
			"GET /s/a%3Ab?x=1 HTTP/1.1|Authorization: Bearer T|Last-Event-ID: 7",
			"POST http://host/p?r=a%3Ab text/plain Bearer P", "text"},
	}
	for _, test := range tests {
		t.Run(string(test.config.Target), func(t *testing.T) {
			c := test.config
			lines := strings.Split(string(c.Target.streamRequest(&c, "a:b", "T", []byte("7"))), "\r\n")
			for i, want := range strings.Split(test.stream, "|") {
				if i == 0 && lines[0] != want || !strings.Contains(strings.Join(lines, "|")+"|", want+"|") {
					t.Errorf("stream: got %q, want the line %q", lines, want)
				}
			}
			if want := "Host: host|Accept: text/event-stream"; !strings.Contains(strings.Join(lines, "|"), want) || lines[len(lines)-2] != "" {
				t.Errorf("stream: got %q, want %q and an end", lines, want)
			}
			r, err := c.Target.publishRequest(&c, "a:b", "P", "text", "key")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			credential := r.Header.Get("Authorization") + r.Header.Get("X-API-Key")
			equal(t, "publish", strings.Join([]string{r.Method, r.URL.String(), r.Header.Get("Content-Type"), credential}, " "), test.publish)
			equal(t, "body", string(body), test.answer)
		})
	}
}

// TestTargetAnswers checks which answers to a message are refusals.
func TestTargetAnswers(t *testing.T) {
	tests := []struct {
		target Target
		status int
		body   string
		want   string
	}{
		{Presence, 202, `{"id":"x"}`, ""},
		{Presence, 429, `{}`, "status 429"},
		{Nchan, 201, "queued messages: 1", ""},
		{Nchan, 413, "", "status 413"},
		{Mercure, 200, "urn:uuid:1", ""},
		{Centrifugo, 200, `{"result":{"offset":1,"epoch":"hmfHZEnt"}}`, ""},
		{Centrifugo, 200, `{"error":{"code":102,"message":"unknown channel"}}`, "error unknown channel"},
		{Generic, 301, "", "status 301"},
	}
	for _, test := range tests {
		if got := test.target.refusal(test.status, []byte(test.body)); got != test.want {
			t.Errorf("%s, %d %s: got the refusal %q, want %q", test.target, test.status, test.body, got, test.want)
		}
	}
}

// TestTargetStreams feeds a client of each target with the bytes of a real stream: nginx 1.22.1
// with nchan 1.3.6, Centrifugo 6.9.1, and, from its source, Mercure 0.24.
func TestTargetStreams(t *testing.T) {
	const chunked = "Content-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
	text := message{0, 1, 0}.text(prefixOf("0123abcd"), MinSize)
	next := message{0, 2, 0}.text(prefixOf("0123abcd"), MinSize)
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	tests := []struct {
		target  Target
		name    string
		stream  string
		open    bool
		counted bool
		got     int64 // messages
		id      string
		reason  string
	}{
		{Nchan, "messages", "Server: nginx/1.22.1\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: keep-alive\r\n\r\n" +
			": hi\n\nid: 1796063805:0\ndata: " + text + "\n\nevent: ping\n\nid: 1796063805:1\ndata: " + next + "\n\n", true, false, 2, "1796063805:1", ""},
		{Mercure, "messages", chunked + chunk(":\n") + chunk("id: urn:uuid:1\ndata: "+text+"\n\n") + chunk(":\n"), true, false, 1, "urn:uuid:1", ""},
		{Centrifugo, "messages", chunked + chunk("\r\n") + chunk(`data: {"connect":{"client":"8224c8fc","version":"0.0.0 OSS","ping":25}}`+"\n\n"+
			`data: {"channel":"members:r1","pub":{"data":"`+text+`","offset":1,"epoch":"hmfHZEnt"}}`+"\n\n") + chunk("data: {}\n\n"), true, false, 1, "", ""},
		{Centrifugo, "join", chunked + chunk("\r\n") + chunk(`data: {"connect":{"client":"8224c8fc"}}`+"\n\n"+
			`data: {"channel":"members:r1","join":{"info":{"user":"alice","client":"8224c8fc"}}}`+"\n\n"), true, true, 0, "", ""},
		{Centrifugo, "refused", chunked + chunk("\r\n") + chunk(`data: {"disconnect":{"code":3500,"reason":"invalid token"}}`+"\n\n"), false, false, 0, "", "disconnect invalid token"},
		{Presence, "messages", chunked + chunk("retry: 1756\n\n") + chunk("id: 0123456789-6\ndata: {\"connections\":1}\nevent: sync\n\n") +
			chunk("id: 0123456789-6\ndata: 1\nevent: user count\n\n") + chunk(`data: {"id":"0123456789-7","data":"`+text+`"}`+"\nevent: message\nid: 0123456789-7\n\n"), true, true, 1, "0123456789-7", ""},
		{Presence, "full", chunked + chunk("retry: 20000\n\ndata: {\"reason\":\"full\"}\nevent: goodbye\n\n"), false, false, 0, "", "goodbye full"},
	}
	for _, test := range tests {
		t.Run(string(test.target)+" "+test.name, func(t *testing.T) {
			l := &loop{shard: &shard{shared: &shared{Config: Config{Target: test.target}, prefix: prefixOf("0123abcd"), start: time.Now()}}}
			c := newClient(l.shard, 0, &room{}, "", normal)
			c.begin(0)
			l.receive(c, []byte("HTTP/1.1 200 OK\r\n"+test.stream))
			equal(t, "open", c.state == open, test.open)
			equal(t, "counted", c.counted, test.counted)
			equal(t, "messages", l.stats.deliveries, test.got)
			equal(t, "in order", c.sequence.complete(test.got), true)
			equal(t, "id", string(c.id), test.id)
			equal(t, "reason", c.reason, test.reason)
			equal(t, "in flight", l.stats.flight, map[bool]int{true: 0, false: 1}[test.open])
		})
	}
}

// TestTargetKeys checks that the targets with idempotency keys, and no others, get one.
func TestTargetKeys(t *testing.T) {
	for _, target := range Targets {
		c := Config{Target: target, URL: "http://host", PublishURL: "http://host/p"}
		r, err := target.publishRequest(&c, "a", "", "text", "key")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		equal(t, string(target), strings.Contains(string(body), `:"key"`), target.idempotent())
	}
}
