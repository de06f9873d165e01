package doctor

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"
)

// The limits of checkLeave. In a cluster, a count is exact after 2 s (promise 1).
const (
	leaveOK   = 3 * time.Second
	leaveStep = 250 * time.Millisecond
)

// checkLeave closes a stream and checks that the server stops counting it. A proxy that does not
// notice the close holds its own connection open.
func checkLeave(ctx context.Context, x *exam) Verdict {
	before, err := x.connections(ctx)
	if err != nil {
		return note("not run: %v", err)
	}
	s := x.open(ctx, x.client, x.rooms.leave, "")
	defer s.close()
	during, end := before, time.Now().Add(requestTime)
	for during <= before && time.Now().Before(end) && ctx.Err() == nil {
		pause(ctx, leaveStep)
		if during, err = x.connections(ctx); err != nil {
			return note("not run: %v", err)
		}
	}
	if during <= before {
		return note("not run: the server does not count a second stream")
	}
	s.close()
	closed := time.Now()
	allowed := 2*x.heartbeat + leaveOK
	unsure := allowed > x.config.Watch
	deadline := closed.Add(min(allowed, x.config.Watch))
	for {
		began := time.Now()
		now, err := x.connections(ctx)
		took := time.Since(closed)
		switch {
		case err != nil:
			return note("stopped: %v", err)
		case now < during && took <= leaveOK:
			return pass("the count fell within %v after a stream was closed", ms(took))
		case now < during:
			return note("the count fell %v after a stream was closed: the proxy notices a close when it writes", ms(took)).with(endClosed.of(x.proxy)...)
		case began.After(deadline) && unsure:
			return note("the count did not fall within %v after a stream was closed: use --watch %v", ms(took), allowed)
		case began.After(deadline):
			return fault("the server still counts a stream %v after it was closed, over two heartbeats of %v: the proxy holds it open", ms(took), x.heartbeat).with(endClosed.of(x.proxy)...)
		}
		pause(ctx, leaveStep)
	}
}

// connections returns the number of connections of the user in rooms.leave.
func (x *exam) connections(ctx context.Context) (int, error) {
	id := x.claims.Sub
	after := id
	if _, size := utf8.DecodeLastRuneInString(id); size > 0 {
		after = id[:len(id)-size]
	}
	path := "presence?limit=100&room=" + url.QueryEscape(x.rooms.leave)
	if after != "" {
		path += "&after=" + url.QueryEscape(after) // members are sorted by id
	}
	a, err := x.as(ctx, http.MethodGet, path, "")
	if err != nil {
		return 0, fmt.Errorf("GET presence: %w", err)
	}
	var p struct {
		Members []struct {
			ID          string
			Connections int
		}
	}
	if a.status != http.StatusOK || !a.json(&p) {
		return 0, fmt.Errorf("GET presence: %v", a)
	}
	for _, m := range p.Members {
		if m.ID == id {
			return m.Connections, nil
		}
	}
	return 0, nil
}
