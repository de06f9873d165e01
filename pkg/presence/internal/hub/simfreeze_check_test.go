package hub_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// A frozen node receives nothing. Afterwards all that has gathered arrives in order, quickly.
func TestSimFreeze(t *testing.T) {
	inSimRig(t, 1, 2, func(r *simRig) {
		r.engine.setDelay(0, 10*time.Millisecond)
		a, seen := r.nodes[0], r.subscribe(0, "a")
		a.freeze()
		var want []string
		for n := range 50 {
			text := fmt.Sprint("m", n)
			want = append(want, text)
			r.publish(1, "a", text)
			time.Sleep(20 * time.Millisecond)
		}
		r.append(1, "a", "entry")
		time.Sleep(10 * time.Second)
		r.want("the frozen node", seen)
		r.engine.setDelay(0, 0)
		a.thaw()
		r.publish(1, "a", "new") // arrives while the older deliveries wait
		begin := time.Since(r.start)
		time.Sleep(time.Second)
		texts, at := seen.take()
		want = append(want, "1:entry", "new")
		if fmt.Sprint(texts) != fmt.Sprint(want) {
			t.Errorf("after the freeze: got %q, want %q", texts, want)
		}
		if len(at) != len(want) {
			return
		}
		if d := at[50] - begin; d > time.Millisecond {
			t.Errorf("the last gathered delivery arrives %v after the freeze, want 1ms at most", d)
		}
	})
}

// The calls of a frozen node do not return, even if their ctx ends.
func TestSimFreezeCalls(t *testing.T) {
	inSimRig(t, 1, 2, func(r *simRig) {
		r.engine.setDelay(10*time.Millisecond, 10*time.Millisecond)
		a, seen := r.nodes[0], &simSeen{start: r.start}
		other := r.subscribe(1, "a")
		call := func(name string, f func(ctx context.Context) error) {
			go func() {
				ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
				defer cancel()
				err := f(ctx)
				seen.add("%s:%v", name, errors.Is(err, context.DeadlineExceeded))
			}()
		}
		ask := func(ctx context.Context) error {
			return a.Ask(ctx, "a", []byte("x"), func([]byte) bool { return true })
		}
		read := func(ctx context.Context) error { _, err := a.Last(ctx, "a"); return err }
		call("Last", read)
		call("Ask", ask)
		time.Sleep(time.Millisecond)
		a.freeze()
		call("Ask", ask)
		call("Publish", func(ctx context.Context) error { return a.Publish(ctx, "a", []byte("late")) })
		call("ended", func(ctx context.Context) error {
			ctx, cancel := context.WithDeadline(ctx, r.start)
			defer cancel()
			return a.Publish(ctx, "a", nil)
		})
		call("Put", func(ctx context.Context) error { return a.Put(ctx, "a", nil, time.Second) })
		time.Sleep(10 * time.Second)
		r.want("calls that have returned during the freeze", seen)
		r.want("the other node", other, "?x") // of the Ask before the freeze
		a.thaw()
		time.Sleep(time.Second)
		if texts, _ := seen.take(); len(texts) != 6 {
			t.Errorf("calls that have returned after the freeze: got %q, want all 6", texts)
		}
		if _, err := a.Last(r.t.Context(), "a"); err != nil {
			t.Errorf("Last after the freeze: %v", err)
		}
	})
}

// Calls of Publish wait until the end of a block, even if their ctx ends. Then they succeed or
// fail. The node still receives.
func TestSimBlock(t *testing.T) {
	for _, refuses := range []bool{false, true} {
		inSimRig(t, 1, 2, func(r *simRig) {
			a, own, other := r.nodes[0], r.subscribe(0, "a"), r.subscribe(1, "a")
			a.block(refuses)
			time.AfterFunc(3*time.Second, a.unblock)
			r.publish(1, "a", "x")
			ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
			defer cancel()
			err := a.Publish(ctx, "a", []byte("y"))
			if errors.Is(err, backplane.ErrUnavailable) != refuses || time.Since(r.start) != 3*time.Second {
				t.Errorf("refuses %v: got %v after %v, want the end of Publish after 3s", refuses, err, time.Since(r.start))
			}
			time.Sleep(time.Second)
			want := map[bool][]string{false: {"x", "y"}, true: {"x"}}[refuses]
			r.want("the node", own, want...)
			r.want("the other node", other, want...)
			r.publish(0, "a", "z")
			a.block(false)
			go a.crash()
			if err := a.Publish(r.t.Context(), "a", nil); !errors.Is(err, backplane.ErrClosed) {
				t.Errorf("a crash during the block: got %v, want ErrClosed", err)
			}
		})
	}
}

// A request to a frozen node is answered after the freeze.
func TestSimFreezeAsk(t *testing.T) {
	inSimRig(t, 1, 2, func(r *simRig) {
		r.subscribe(1, "a")
		r.nodes[1].freeze()
		time.AfterFunc(3*time.Second, r.nodes[1].thaw)
		var after time.Duration
		err := r.nodes[0].Ask(r.t.Context(), "a", nil, func([]byte) bool {
			after = time.Since(r.start)
			return false
		})
		if err != nil || after < 3*time.Second || after > 3*time.Second+time.Millisecond {
			t.Errorf("the answer arrives after %v, error %v, want 3s", after, err)
		}
	})
}

// A crashed node receives nothing, and its calls return ErrClosed, those of before the crash too.
func TestSimCrash(t *testing.T) {
	inSimRig(t, 1, 2, func(r *simRig) {
		r.engine.setDelay(100*time.Millisecond, 100*time.Millisecond)
		a, seen, errs := r.nodes[0], r.subscribe(0, "a"), make(chan error, 2)
		go func() { _, err := a.Last(r.t.Context(), "a"); errs <- err }()
		go func() { errs <- a.Ask(r.t.Context(), "a", nil, func([]byte) bool { return true }) }()
		r.publish(1, "a", "x")
		time.Sleep(50 * time.Millisecond)
		a.freeze()
		a.crash()
		for range 2 {
			if err := <-errs; !errors.Is(err, backplane.ErrClosed) {
				t.Errorf("a call during the crash: got %v, want ErrClosed", err)
			}
		}
		r.publish(1, "a", "y")
		a.thaw()
		time.Sleep(time.Second)
		r.want("the crashed node", seen)
		if err := a.Publish(r.t.Context(), "a", nil); !errors.Is(err, backplane.ErrClosed) {
			t.Errorf("Publish after the crash: got %v, want ErrClosed", err)
		}
		if a.Status().Connected {
			t.Error("a crashed node is connected")
		}
	})
}
