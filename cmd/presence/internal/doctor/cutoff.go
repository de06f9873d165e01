package doctor

import (
	"context"
	"time"
)

// traffic is the interval of the messages of checkDuration. It is below the shortest idle timeout
// in use, 1 s.
const traffic = time.Second / 2

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
	s := x.traffic
	for time.Now().Before(x.until) && !s.wait(ctx, min(traffic, time.Until(x.until))) && ctx.Err() == nil {
		x.post(ctx) // a refused message is no traffic, which the silence in the verdict shows
	}
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

// checkIdle checks that a quiet stream stays open from ping to ping.
func checkIdle(ctx context.Context, x *exam) Verdict {
	s, until := x.traffic, x.until
	if x.rooms.own {
		s = x.open(ctx, x.quiet, x.rooms.quiet, "")
		defer s.close()
		x.arrives(ctx, firstLimit, s, func() bool { return s.answered() != nil })
		until = time.Now().Add(x.config.Watch)
	}
	s.wait(ctx, time.Until(until))
	end, err := s.end()
	age, silence := s.ages()
	if end.IsZero() {
		return x.stayed(s, age)
	}
	if g, there := s.named("goodbye"); there {
		return note("the server ended the stream with goodbye %q after %v", cut(g.reasonOf()), ms(age))
	}
	if a := s.answered(); a == nil || a.status != 200 {
		return note("not run: a second stream was not opened (%v)", err)
	}
	if s != x.traffic && x.endsAt(ctx, age) {
		return note("the quiet stream ended after %v, as did the stream with traffic: see duration", ms(age))
	}
	idle := max(time.Second, silence/2).Round(time.Second)
	return fault("a quiet stream ended after %v, %v after its last event, but the heartbeat is %v (%v)", ms(age), ms(silence), x.heartbeat, err).
		with(readTimeout(int(4 * x.heartbeat.Seconds())).of(x.proxy)...).with(flag("--heartbeat %v", idle))
}

// stayed returns the verdict of checkIdle for a stream that is still open.
func (x *exam) stayed(s *stream, age time.Duration) Verdict {
	if _, pinged := s.named("ping"); pinged {
		return pass("a quiet stream stayed open for %v, with pings (heartbeat %v)", ms(age), x.heartbeat)
	}
	if due := 2*x.heartbeat + slack; age < due {
		return note("a quiet stream stayed open for %v, but without a ping, as the heartbeat is %v: use --watch %v", ms(age), x.heartbeat, due)
	}
	return fault("no ping within %v, although the heartbeat is %v", ms(age), x.heartbeat).with(unbuffer.of(x.proxy)...)
}

// endsAt waits until the stream with traffic is older than age. It reports whether it ended near
// that age.
func (x *exam) endsAt(ctx context.Context, age time.Duration) bool {
	near := max(time.Second, age/10)
	now, _ := x.traffic.ages()
	x.traffic.wait(ctx, min(age+near-now, time.Until(x.until)))
	end, _ := x.traffic.end()
	ended, _ := x.traffic.ages()
	return !end.IsZero() && (ended-age).Abs() <= near
}
