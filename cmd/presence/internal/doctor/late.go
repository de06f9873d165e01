package doctor

import (
	"context"
	"time"
)

// tries is the number of short requests that must be answered after a limit before an event counts
// as late.
const tries = 3

// arrives waits until done reports true, at each receive from changed. It returns false if that is
// late: limit has passed, then further short requests that began after it were answered, and done
// is still false. On a slow machine or path these requests take long too. It also returns false if
// ctx is done, or if ended reports true.
func arrives(ctx context.Context, limit time.Duration, request func(context.Context), s signal, done func() bool) bool {
	late := time.NewTimer(limit)
	defer late.Stop()
	for {
		changed, ended := s.next()
		switch {
		case done():
			return true
		case ended:
			return false
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
			return false
		case <-late.C:
		}
		for range tries {
			request(ctx)
		}
		return done()
	}
}

// signal reports changes of a stream.
type signal interface {
	// next returns a channel that is closed at the next change, and whether there is none anymore.
	next() (changed <-chan struct{}, ended bool)
}
