package doctor

import (
	"context"
	"net/url"
	"strings"
	"time"
)

// checkResume sends a message and resumes at a position before it.
func checkResume(ctx context.Context, x *exam) Verdict {
	if !x.rooms.send || x.sync.id == "" {
		return note("not run: the token may not send messages")
	}
	text, err := x.post(ctx)
	if err != nil {
		return note("not run: %v", err)
	}
	if x.held {
		return note("not run: messages do not arrive, see buffering")
	}
	byHeader := x.resume(ctx, text, "", "Last-Event-ID", x.sync.id)
	epoch, _, _ := strings.Cut(x.sync.id, "-")
	other, _, _ := strings.Cut(byHeader.sync.id, "-")
	switch {
	case byHeader.replayed:
		return pass("a missed message is replayed after the header Last-Event-ID")
	case byHeader.err != nil:
		return note("not run: a second stream ended: %v", byHeader.err)
	case byHeader.reset && epoch != other && other != "":
		return fault("another server answered, which does not know the position (reset): several servers share nothing behind one address").
			with(flag("--nats on each server"))
	}
	byQuery := x.resume(ctx, text, "&last_event_id="+url.QueryEscape(x.sync.id))
	switch {
	case byHeader.reset && !byQuery.replayed:
		return note("the server answered reset: it keeps no history (--history 0)")
	case byHeader.reset:
		return fault("the header Last-Event-ID arrives with another value, so an EventSource misses messages; the query last_event_id works, which presence.js uses").
			with(passPosition.of(x.proxy)...)
	case byQuery.replayed:
		return fault("the header Last-Event-ID does not arrive, so an EventSource misses messages; the query last_event_id works, which presence.js uses").
			with(passPosition.of(x.proxy)...).with(Fix{"client", "new EventSource(url + \"&last_event_id=\" + id)"})
	}
	return fault("a missed message is not replayed: neither the header Last-Event-ID nor the query last_event_id arrives").with(passPosition.of(x.proxy)...)
}

// resumed is the beginning of a stream that resumes.
type resumed struct {
	replayed, reset bool
	sync            event
	err             error // the stream ended before its sync
}

// replayTime is the time within which each node of a cluster has a message that one has accepted.
const replayTime = 2 * time.Second

// resume opens a stream at a position until its sync, which follows the replay. It does so again
// if the message is missing, because another node may not have it yet.
func (x *exam) resume(ctx context.Context, text, query string, headers ...string) (r resumed) {
	for end := time.Now().Add(replayTime); ; {
		r = x.resumeOnce(ctx, text, query, headers...)
		if r.replayed || r.reset || r.err != nil || ctx.Err() != nil || time.Now().After(end) {
			return r
		}
		pause(ctx, replayTime/2)
	}
}

func (x *exam) resumeOnce(ctx context.Context, text, query string, headers ...string) (r resumed) {
	s := x.open(ctx, x.client, x.rooms.busy, query, headers...)
	defer s.close()
	arrived := x.arrives(ctx, 3*time.Second, s, func() bool { _, there := s.named("sync"); return there })
	if _, err := s.end(); !arrived && err != nil {
		r.err = err
	}
	_, r.replayed = s.containing(text)
	_, r.reset = s.named("reset")
	r.sync, _ = s.named("sync")
	return r
}
