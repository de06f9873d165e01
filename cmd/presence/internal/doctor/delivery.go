package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// traffic is the interval of messages. It is below the shortest idle timeout in use, 1 s.
const traffic = time.Second / 2

// The limits of checkBuffering. In a cluster, the first client of a room waits up to 1 s for the
// parts of the other nodes (promise 2).
const (
	firstLimit   = 3 * time.Second
	messageLimit = time.Second
	messages     = 3
	lateMessages = 2               // of messages, for a fault
	holdLimit    = 5 * time.Second // for a late message, before the next one
)

// checkStream opens the stream with traffic. It sets traffic and level.
func checkStream(ctx context.Context, x *exam) Verdict {
	x.traffic = x.open(ctx, x.busy, x.rooms.busy, "")
	x.why = "no stream opened"
	x.arrives(ctx, firstLimit, x.traffic, func() bool { return x.traffic.answered() != nil })
	a := x.traffic.answered()
	if _, err := x.traffic.end(); a == nil && err != nil {
		return fault("GET events: %v", err)
	}
	if a == nil { // buffering finds the cause
		x.admit(needStream, "no event has arrived: see buffering")
		return note("no response header within %v", ms(time.Since(x.traffic.began)))
	}
	x.look(a.header)
	switch {
	case a.status == http.StatusForbidden && a.problem() != "":
		return fault("GET events: %s", a.problem()).with(Fix{"token", fmt.Sprintf(`"presence": {"join": [%q], "send": [%q]}`, x.rooms.busy, x.rooms.busy)})
	case a.status != http.StatusOK:
		return fault("GET events with a token is answered with %v", a)
	case a.mediaType() != "text/event-stream":
		return fault("GET events is answered with Content-Type %q, not with text/event-stream", cut(a.header.Get("Content-Type")))
	}
	x.admit(needStream, "no event has arrived: see buffering")
	return pass("opened in %v, room %s", ms(a.came.Sub(a.began)), x.rooms.busy)
}

// checkBuffering checks that events arrive at once. It sets sync, heartbeat, message,
// sent, until and level.
func checkBuffering(ctx context.Context, x *exam) Verdict {
	s := x.traffic
	arrived := x.arrives(ctx, firstLimit, s, func() bool { _, there := s.named("sync"); return there })
	x.sync, _ = s.named("sync")
	if !arrived {
		if g, there := s.named("goodbye"); there {
			why := map[string]string{"full": " (a limit such as --max-connections is reached)", "draining": " (it is stopping)"}
			return note("the server ends new streams with goodbye %q%s", cut(g.reasonOf()), why[g.reasonOf()])
		}
		if encoding := x.traffic.encoding(); encoding != "" {
			return note("no sync can be read: see compression")
		}
		if _, err := s.end(); err != nil {
			return fault("the stream ended before its first sync: %v", err)
		}
		return fault("no sync within %v, although %d later requests were answered: a proxy buffers the stream", ms(time.Since(s.began)), tries).with(unbuffer.of(x.proxy)...)
	}
	var first struct{ Heartbeat float64 }
	if err := json.Unmarshal([]byte(x.sync.data), &first); err != nil || !(first.Heartbeat > 0 && first.Heartbeat <= 300) {
		return fault("the first sync has no heartbeat of 1 s to 5 min: not a stream of presence")
	}
	x.until = time.Now().Add(x.config.Watch)
	x.heartbeat = time.Duration(first.Heartbeat * float64(time.Second))
	x.admit(needDelivery, "")
	if !x.rooms.send {
		return note("the first sync arrived after %v, but the token may not send messages", ms(x.sync.at.Sub(s.began)))
	}
	return x.deliver(ctx)
}

// deliver sends messages. A proxy that flushes at intervals may pass a single message at once. So
// each message is sent after the one before has arrived, or after holdLimit.
func (x *exam) deliver(ctx context.Context) Verdict {
	s := x.traffic
	first := ms(x.sync.at.Sub(s.began))
	late := 0
	for range messages {
		began := time.Now()
		text, err := x.post(ctx)
		if err != nil && !x.sent.IsZero() {
			break // such as a rate limit
		}
		if err != nil {
			return note("the first sync arrived after %v, but no message was accepted: %v", first, err)
		}
		accepted := time.Now()
		there := func() bool { _, there := s.containing(text); return there }
		switch {
		case x.arrives(ctx, messageLimit, s, there):
			if x.sent.IsZero() {
				x.sent, x.accepted = began, accepted
				x.message, _ = s.containing(text)
			}
			pause(ctx, traffic)
			continue
		case ctx.Err() != nil:
			return note("stopped: %v", ctx.Err())
		}
		if end, err := s.end(); err != nil {
			return fault("the stream ended %v after its first sync: %v", ms(end.Sub(x.sync.at)), err)
		}
		if late++; late == lateMessages {
			x.held = true
			return fault("the first sync arrived after %v, but %d of %d messages are late by over %v: a proxy buffers the stream",
				first, late, messages, messageLimit).with(unbuffer.of(x.proxy)...)
		}
		arrives(ctx, holdLimit, func(context.Context) {}, s, there)
	}
	return pass("the first sync arrived after %v, a message %v after its 202", first, ms(max(0, x.message.at.Sub(x.accepted))))
}

// browserEncodings is the Accept-Encoding of Chromium over TLS.
const browserEncodings = "gzip, deflate, br, zstd"

// checkCompression opens a stream as a browser does.
func checkCompression(ctx context.Context, x *exam) Verdict {
	if encoding := x.traffic.encoding(); encoding != "" {
		return compressed(x, encoding)
	}
	if x.level < needDelivery {
		return note("not run: %s", x.why)
	}
	s := x.open(ctx, x.client, x.rooms.busy, "", "Accept-Encoding", browserEncodings)
	defer s.close()
	x.arrives(ctx, firstLimit, s, func() bool { return s.answered() != nil })
	a := s.answered()
	if _, err := s.end(); a == nil && err != nil {
		return note("not run: a second stream was not opened (%v)", err)
	}
	if a == nil {
		return fault("with Accept-Encoding: %s, no response header within %v", browserEncodings, ms(time.Since(s.began))).with(uncompress.of(x.proxy)...)
	}
	if encoding := s.encoding(); encoding != "" {
		return compressed(x, encoding)
	}
	if a.status != http.StatusOK {
		return note("a second stream is answered with %v", *a)
	}
	if x.arrives(ctx, firstLimit, s, func() bool { _, there := s.named("sync"); return there }) {
		return pass("the stream is not compressed")
	}
	if g, there := s.named("goodbye"); there {
		return note("the stream is not compressed, but the server ended it with goodbye %q", cut(g.reasonOf()))
	}
	if x.held {
		return note("the stream is not compressed, but has no sync: see buffering")
	}
	return fault("with Accept-Encoding: %s, no sync within %v", browserEncodings, ms(time.Since(s.began))).with(uncompress.of(x.proxy)...)
}

func compressed(x *exam, encoding string) Verdict {
	return fault("a proxy compresses the stream (Content-Encoding: %s), and may hold events back", cut(encoding)).with(uncompress.of(x.proxy)...)
}

// The limits of checkClock. The server accepts nbf up to 30 s early. The Date header has whole
// seconds, and the answer takes some time.
const (
	skewNote  = 2 * time.Second
	skewFault = 30 * time.Second
)

// checkClock compares the clocks. A proxy may set Date with its own clock; the time of a message is
// always that of presence.
func checkClock(_ context.Context, x *exam) Verdict {
	var worst time.Duration
	var from string
	// The server read its clock between these times of this machine.
	compare := func(name string, theirs, after, before time.Time) {
		skew := max(0, theirs.Sub(before)) + min(0, theirs.Sub(after))
		if from == "" || skew.Abs() > worst.Abs() {
			worst, from = skew, name
		}
	}
	if date, err := http.ParseTime(x.first.header.Get("Date")); err == nil {
		compare("the Date header", date, x.first.began.Truncate(time.Second), x.first.came)
	}
	var m struct{ At time.Time }
	if json.Unmarshal([]byte(x.message.data), &m) == nil && !m.At.IsZero() {
		compare("a message's time", m.At, x.sent, x.message.at)
	}
	way := "ahead of"
	if worst < 0 {
		way = "behind"
	}
	text := fmt.Sprintf("%s is %v %s this machine", from, ms(worst.Abs()), way)
	switch {
	case from == "":
		return note("not run: no Date header and no message")
	case worst.Abs() > skewFault:
		return fault("%s: tokens begin and expire at a wrong time", text).with(synchronize)
	case worst.Abs() > skewNote:
		return note("%s", text)
	}
	return pass("%s", text)
}

// checkCache reports an answer from a cache. It runs last.
func checkCache(_ context.Context, x *exam) Verdict {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cached != "" {
		return fault("a cache has answered (%s), although presence sends no-store", x.cached).with(uncache.of(x.proxy)...)
	}
	return pass("no answer came from a cache")
}
