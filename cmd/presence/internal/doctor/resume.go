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
	case byHeader.reset:
		return note("the server answered reset: it keeps no history (--history 0)")
	}
	if x.resume(ctx, text, "&last_event_id="+url.QueryEscape(x.sync.id)).replayed {
		return fault("the header Last-Event-ID does not arrive, so an EventSource misses messages; the query last_event_id works, which presence.js uses").
			with(passPosition.of(x.proxy)...).with(Mend{"client", "new EventSource(url + \"&last_event_id=\" + id)"})
	}
	return fault("a missed message is not replayed: neither the header Last-Event-ID nor the query last_event_id arrives").with(passPosition.of(x.proxy)...)
}

// resumed is the beginning of a stream that resumes.
type resumed struct {
	replayed, reset bool
	sync            event
	err             error // the stream ended before its sync
}

// resume opens a stream at a position until its sync, which follows the replay.
func (x *exam) resume(ctx context.Context, text, query string, headers ...string) (r resumed) {
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
