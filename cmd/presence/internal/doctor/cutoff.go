package doctor

import (
	"context"
	"time"
)

// slack is the time by which a ping or the end of a closed stream may be late on a slow machine.
const slack = 5 * time.Second

// checkDuration keeps a stream busy and checks that it stays open.
func checkDuration(ctx context.Context, x *exam) Verdict {
	switch {
	case !x.rooms.own || !x.rooms.send:
		return note("not run: it needs a room of its own, so set --jwt-secret-file, or a token that may join and send to doctor-*")
	case x.sent.IsZero():
		return note("not run: messages do not arrive, see buffering")
	}
	if v, stalled := x.keepBusy(ctx); stalled {
		return v
	}
	s := x.traffic
	end, err := s.end()
	age, silence := s.ages()
	if end.IsZero() {
		return pass("a stream with two events per second stayed open for %v", ms(age))
	}
	if g, there := s.named("goodbye"); there {
		return note("the server ended the stream with goodbye %q after %v", cut(g.reasonOf()), ms(age))
	}
	return fault("the stream ended after %v, %v after its last event (%v): a proxy limits the duration", ms(age), ms(silence), err).with(unlimited.of(x.proxy)...)
}

// keepBusy sends messages until the end of the observation or of the stream. It stops if several
// messages in a row are late, or one does not arrive, as with a proxy that passes only the first
// bytes at once.
func (x *exam) keepBusy(ctx context.Context) (v Verdict, stalled bool) {
	s, late := x.traffic, 0
	for time.Now().Before(x.until) && !s.wait(ctx, min(traffic, time.Until(x.until))) && ctx.Err() == nil {
		text, err := x.post(ctx)
		if err != nil {
			continue // a refused message is no traffic, which the silence in the verdict shows
		}
		there := func() bool { _, there := s.containing(text); return there }
		if x.arrives(ctx, messageLimit, s, there) {
			late = 0
			continue
		}
		if late++; late == lateInARow || !x.arrives(ctx, holdLimit, s, there) {
			late = lateInARow
			break
		}
	}
	end, _ := s.end()
	age, silence := s.ages()
	switch {
	case late < lateInARow || !end.IsZero() || ctx.Err() != nil:
		return v, false
	case silence > slack:
		return fault("the stream is open, but no event has arrived after %v: a proxy limits the duration, or buffers the stream", ms(age-silence)).
			with(unlimited.of(x.proxy)...).with(unbuffer.of(x.proxy)...), true
	}
	return fault("until %v, %d messages in a row were late by over %v: a proxy buffers the stream", ms(age), late, messageLimit).
		with(unbuffer.of(x.proxy)...), true
}

// lateInARow is the number of late messages in a row that are a fault.
const lateInARow = 3

// checkIdle checks that a quiet stream stays open from ping to ping.
func checkIdle(ctx context.Context, x *exam) Verdict {
	s := x.open(ctx, x.quiet, x.rooms.quiet, "")
	defer s.close()
	x.arrives(ctx, firstLimit, s, func() bool { return s.answered() != nil })
	s.wait(ctx, x.config.Watch)
	end, err := s.end()
	age, silence := s.ages()
	if end.IsZero() {
		return x.stayed(ctx, s, age)
	}
	if g, there := s.named("goodbye"); there {
		return note("the server ended the stream with goodbye %q after %v", cut(g.reasonOf()), ms(age))
	}
	if a := s.answered(); a == nil || a.status != 200 {
		return note("not run: a second stream was not opened (%v)", err)
	}
	together, distinct := x.endsAt(ctx, age, silence)
	if together && distinct {
		if x.rooms.own {
			return note("the quiet stream ended after %v, as did the stream with traffic: see duration", ms(age))
		}
		return fault("two streams ended after %v, although their last events were at other times (%v): a proxy limits the duration", ms(age), err).
			with(unlimited.of(x.proxy)...)
	}
	idle := max(time.Second, silence/2).Round(time.Second)
	v := fault("a quiet stream ended after %v, %v after its last event, but the heartbeat is %v (%v)", ms(age), ms(silence), x.heartbeat, err).
		with(readTimeout(int(4 * x.heartbeat.Seconds())).of(x.proxy)...).with(flag("--heartbeat %v", idle))
	if together { // by chance, the events do not distinguish the causes
		v.Text += ", or a proxy limits the duration"
		v = v.with(unlimited.of(x.proxy)...)
	}
	return v
}

// stayed returns the verdict of checkIdle for a stream that is still open.
func (x *exam) stayed(ctx context.Context, s *stream, age time.Duration) Verdict {
	due := x.heartbeat + slack
	quiet := func() time.Duration { _, silence := s.ages(); return silence }
	_, pinged := s.named("ping")
	switch late := quiet() >= due && !x.arrives(ctx, 0, s, func() bool { return quiet() < due }); {
	case late && x.held:
		return note("a quiet stream has no ping for %v: see buffering", ms(quiet()))
	case late && pinged:
		return fault("a quiet stream is open, but has no ping for %v, although the heartbeat is %v: a proxy has dropped it", ms(quiet()), x.heartbeat).
			with(readTimeout(int(4 * x.heartbeat.Seconds())).of(x.proxy)...)
	case late:
		return fault("no ping within %v, although the heartbeat is %v", ms(age), x.heartbeat).with(readTimeout(int(4 * x.heartbeat.Seconds())).of(x.proxy)...).with(unbuffer.of(x.proxy)...)
	case !pinged:
		return note("a quiet stream stayed open for %v, but without a ping, as the heartbeat is %v: use --watch %v", ms(age), x.heartbeat, x.heartbeat+due)
	}
	return pass("a quiet stream stayed open for %v, with pings (heartbeat %v)", ms(age), x.heartbeat)
}

// endsAt waits until the stream with traffic is older than age. together reports that it ended near
// that age. distinct reports that the cause can then be no idle timeout: the stream was in another
// room, or its silence before the end was another one.
func (x *exam) endsAt(ctx context.Context, age, silence time.Duration) (together, distinct bool) {
	near := max(time.Second, age/10)
	now, _ := x.traffic.ages()
	x.traffic.wait(ctx, min(age+near-now, time.Until(x.until)))
	end, _ := x.traffic.end()
	ended, quiet := x.traffic.ages()
	together = !end.IsZero() && (ended-age).Abs() <= near
	return together, x.rooms.own || (quiet-silence).Abs() > traffic
}
