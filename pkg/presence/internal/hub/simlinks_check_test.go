package hub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// Each frame has its own delay, and the frames of one publisher keep their order.
func TestSimDelay(t *testing.T) {
	inSimRig(t, 1, 2, func(r *simRig) {
		r.engine.setDelay(20*time.Millisecond, 200*time.Millisecond)
		seen, own := r.subscribe(1, "a"), r.subscribe(0, "a")
		var want []string
		for n := range 100 {
			want = append(want, fmt.Sprint(n))
			r.publish(0, "a", want[n])
			time.Sleep(15 * time.Millisecond)
		}
		time.Sleep(time.Second)
		_, at := seen.take()
		r.want("the publisher", own, want...)
		delays := map[time.Duration]int{}
		for n, at := range at {
			d := at - time.Duration(n)*15*time.Millisecond
			delays[d/(20*time.Millisecond)]++
			if d < 20*time.Millisecond || d > 201*time.Millisecond {
				t.Errorf("frame %d took %v, want 20 to 200 ms", n, d)
			}
		}
		if len(delays) < 5 {
			t.Errorf("delays per 20 ms: got %v, want all from 20 to 200 ms", delays)
		}
	})
}

// The order of a publisher stays, but that of two publishers may change.
func TestSimOrder(t *testing.T) {
	inSimRig(t, 1, 3, func(r *simRig) {
		r.engine.setDelay(0, 200*time.Millisecond)
		seen := r.subscribe(2, "a")
		overtaken, last := 0, map[byte]string{}
		for n := range 50 {
			r.publish(0, "a", fmt.Sprintf("A%02d", n))
			r.publish(1, "a", fmt.Sprintf("B%02d", n))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		texts, _ := seen.take()
		for _, text := range texts {
			if text <= last[text[0]] {
				t.Errorf("%s follows %s", text, last[text[0]])
			}
			last[text[0]] = text
			if text[0] == 'B' && last['A'] < "A"+text[1:] {
				overtaken++
			}
		}
		if len(texts) != 100 || overtaken == 0 {
			t.Errorf("got %d frames, %d before an earlier one of another node; want 100, some", len(texts), overtaken)
		}
	})
}

// At most three frames are lost in a row, per topic.
func TestSimLoss(t *testing.T) {
	for _, topic := range []room.Name{"a", backplane.Nodes} {
		inSimRig(t, 1, 2, func(r *simRig) {
			seen := []*simSeen{r.subscribe(0, topic), r.subscribe(1, topic)}
			other := r.subscribe(1, "other")
			r.engine.setLoss(1)
			for n := range 12 {
				r.publish(0, topic, fmt.Sprint(n))
				r.publish(0, "other", fmt.Sprint(n))
			}
			time.Sleep(time.Second)
			for _, s := range append(seen, other) {
				r.want("with certain loss", s, "3", "7", "11")
			}
			r.engine.setLoss(0.5)
			for n := range 1000 {
				r.publish(0, topic, fmt.Sprintf("%04d", n))
			}
			time.Sleep(time.Second)
			texts, _ := seen[1].take()
			if len(texts) < 400 || len(texts) > 700 {
				t.Errorf("with a loss of one half: got %d of 1000 frames", len(texts))
			}
			if got := r.engine.counts().lost; got < 600 {
				t.Errorf("counted %d lost frames", got)
			}
		})
	}
}

// The weather sets how many frames are lost in a row. With one, every second frame arrives, and of
// two requests within a second one is answered.
func TestSimLossesInRow(t *testing.T) {
	inSimRig(t, 1, 2, func(r *simRig) {
		seen := r.subscribe(1, "a")
		r.engine.setLoss(1)
		r.engine.setLossesInRow(1)
		for n := range 6 {
			r.publish(0, "a", fmt.Sprint(n))
		}
		time.Sleep(time.Second)
		r.want("with certain loss", seen, "1", "3", "5")
		for round := range 20 {
			answers := 0
			for range 2 {
				ctx, cancel := context.WithTimeout(r.t.Context(), 300*time.Millisecond)
				r.nodes[0].Ask(ctx, "a", nil, func([]byte) bool { answers++; return true })
				cancel()
			}
			if answers == 0 {
				t.Errorf("round %d: both requests were lost", round)
			}
			time.Sleep(time.Second)
		}
		if c := r.engine.counts(); c.asksLost < 10 || c.answersLost < 5 {
			t.Errorf("lost %d requests and %d answers, want at least 10 and 5", c.asksLost, c.answersLost)
		}
	})
}

// Requests and answers are lost too. Ask returns when its ctx ends.
func TestSimAskLoss(t *testing.T) {
	inSimRig(t, 1, 3, func(r *simRig) {
		r.engine.setDelay(0, 100*time.Millisecond)
		for i := range r.nodes {
			r.subscribe(i, "a")
		}
		answers := map[int]int{}
		ask := func() (got int) {
			ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
			defer cancel()
			begin := time.Now()
			err := r.nodes[0].Ask(ctx, "a", []byte("x"), func(data []byte) bool {
				got++
				return string(data) == "re:x"
			})
			if d := time.Since(begin); err != nil || d != time.Second {
				t.Errorf("Ask returns %v after %v, want nil after 1s", err, d)
			}
			return got
		}
		if got := ask(); got != 3 {
			t.Errorf("without loss: got %d answers, want 3", got)
		}
		r.engine.setLoss(0.4)
		for range 50 {
			answers[ask()]++
		}
		c := r.engine.counts()
		if len(answers) != 4 || c.asksLost == 0 || c.answersLost == 0 {
			t.Errorf("with loss: got %v calls by number of answers, %d requests and %d answers lost", answers, c.asksLost, c.answersLost)
		}
	})
}

// A duplicate arrives behind its original, possibly behind later frames.
func TestSimDuplicates(t *testing.T) {
	inSimRig(t, 1, 2, func(r *simRig) {
		seen := r.subscribe(1, "a")
		r.engine.setDuplicates(1)
		for n := range 20 {
			r.publish(0, "a", fmt.Sprint(n))
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Second)
		texts, _ := seen.take()
		behind := 0
		for n := range 20 {
			first := slices.Index(texts, fmt.Sprint(n))
			second := slices.Index(texts[first+1:], fmt.Sprint(n))
			if first < 0 || second < 0 {
				t.Fatalf("frame %d does not arrive twice: %q", n, texts)
			}
			if second > 0 {
				behind++
			}
		}
		if len(texts) != 40 || behind == 0 {
			t.Errorf("got %d frames, %d duplicates behind others; want 40, some", len(texts), behind)
		}
	})
}

// A node that is cut off sends and receives nothing, and notices it after 2 to 4 s.
func TestSimCut(t *testing.T) {
	inSimRig(t, 1, 2, func(r *simRig) {
		a, status := r.nodes[0], &simSeen{start: r.start}
		seen, other := r.subscribe(0, "a"), r.subscribe(1, "a")
		defer a.Notify(func(s backplane.Status) { status.add("%v", s.Connected) })()
		a.cut()
		r.publish(0, "a", "from A") // A does not know yet
		r.publish(1, "a", "from B")
		r.append(1, "a", "entry")
		time.Sleep(5 * time.Second)
		r.want("the node that is cut off", seen)
		r.want("the other node", other, "from B", "1:entry")
		texts, at := status.take()
		if len(texts) != 1 || texts[0] != "false" || at[0] < 2*time.Second || at[0] > 4*time.Second || a.Status().Connected {
			t.Errorf("status: got %q at %v, want false after 2 to 4 s", texts, at)
		}
		if err := a.Publish(r.t.Context(), "a", nil); !errors.Is(err, backplane.ErrUnavailable) {
			t.Errorf("Publish: got %v, want ErrUnavailable", err)
		}
		a.mend()
		time.Sleep(time.Second)
		r.want("the status after the cut", status, "true")
		r.want("the node after the cut", seen, "lost")
		r.publish(0, "a", "again")
		time.Sleep(time.Second)
		r.want("the other node after the cut", other, "again")
		a.cut()
		time.Sleep(time.Second)
		a.mend()
		time.Sleep(5 * time.Second)
		r.want("the status after a short cut", status, "false", "true")
	})
}

// A frame that is sent during a cut is lost, even if it would arrive after the cut.
func TestSimShortCut(t *testing.T) {
	inSimRig(t, 1, 2, func(r *simRig) {
		r.engine.setDelay(100*time.Millisecond, 100*time.Millisecond)
		seen := r.subscribe(0, "a")
		r.nodes[0].cut()
		r.publish(1, "a", "during")
		r.nodes[0].mend()
		time.Sleep(time.Second)
		r.want("the node that was cut off", seen, "lost")
	})
}

// A subscription receives nothing that was sent before it began, and nothing after its end.
func TestSimSubscribe(t *testing.T) {
	inSimRig(t, 1, 2, func(r *simRig) {
		r.engine.setDelay(100*time.Millisecond, 100*time.Millisecond)
		early := r.subscribe(1, "a")
		go r.append(0, "a", "old")
		r.publish(0, "a", "old")
		time.Sleep(150 * time.Millisecond) // the entry is accepted, and is on its way
		r.publish(0, "a", "old")
		seen := r.subscribe(1, "a")
		r.publish(0, "a", "new")
		time.Sleep(time.Second)
		r.want("the subscription", seen, "new")
		r.want("an earlier subscription", early, "old", "1:old", "old", "new")
		var cancel func()
		if _, err := r.nodes[1].Subscribe("b", backplane.Handler{Message: func([]byte) { cancel() }}); err != nil {
			t.Fatal(err)
		}
		calls := 0
		cancel, err := r.nodes[1].Subscribe("b", backplane.Handler{Message: func([]byte) { calls++ }})
		if err != nil {
			t.Fatal(err)
		}
		r.publish(0, "b", "one")
		time.Sleep(time.Second)
		if calls > 0 {
			t.Error("a subscription is called after its end")
		}
	})
}

// Calls during a cut fail at once or within two seconds, and calls on their way fail as well.
func TestSimCutCalls(t *testing.T) {
	inSimRig(t, 1, 1, func(r *simRig) {
		a := r.nodes[0]
		r.engine.setDelay(100*time.Millisecond, 100*time.Millisecond)
		time.AfterFunc(150*time.Millisecond, a.cut) // the reply is on its way
		if _, _, err := a.Append(r.t.Context(), "a", "k", nil); !errors.Is(err, backplane.ErrUnavailable) {
			t.Errorf("Append whose reply is cut off: got %v, want ErrUnavailable", err)
		}
		soon, late := 0, 0
		for range 20 {
			for name, call := range map[string]func() error{
				"Last":   func() error { _, err := a.Last(r.t.Context(), "a"); return err },
				"Put":    func() error { return a.Put(r.t.Context(), "k", nil, time.Second) },
				"Delete": func() error { return a.Delete(r.t.Context(), "k") },
				"Clear":  func() error { return a.Clear(r.t.Context(), "a") },
			} {
				begin := time.Now()
				err := call()
				switch d := time.Since(begin); {
				case !errors.Is(err, backplane.ErrUnavailable) || d > 2*time.Second+time.Millisecond:
					t.Errorf("%s: got %v after %v, want ErrUnavailable within 2 s", name, err, d)
				case d < time.Millisecond:
					soon++
				default:
					late++
				}
			}
		}
		if soon < 20 || late < 20 {
			t.Errorf("%d calls fail at once and %d later, want both", soon, late)
		}
		a.mend()
		if position, duplicate, err := a.Append(r.t.Context(), "a", "k", nil); position != 1 || !duplicate || err != nil {
			t.Errorf("the same key after the cut: got %d, %v, %v, want 1, true", position, duplicate, err)
		}
	})
}

// Some frames of before a cut arrive after its end, behind newer ones. The others are lost.
func TestSimCutHolds(t *testing.T) {
	behind, lost := 0, 0
	for seed := range uint64(40) {
		inSimRig(t, seed, 2, func(r *simRig) {
			r.engine.setDelay(100*time.Millisecond, 100*time.Millisecond)
			cut, seen := r.nodes[seed%2], r.subscribe(1, "a")
			for n := range 5 {
				r.publish(0, "a", fmt.Sprint("old", n))
			}
			cut.cut()
			time.Sleep(10 * time.Second)
			during, _ := seen.take()
			if cut == r.nodes[1] && len(during) > 0 {
				t.Errorf("seed %d: the node receives %q during the cut", seed, during)
			}
			cut.mend()
			r.publish(0, "a", "new")
			time.Sleep(time.Second)
			after, _ := seen.take()
			after = slices.DeleteFunc(after, func(text string) bool { return text == "lost" })
			if !slices.Contains(after, "new") {
				t.Errorf("seed %d: after the cut, the node receives %q, want \"new\" among them", seed, after)
			}
			behind += len(after) - 1 - slices.Index(after, "new")
			lost += 5 + 1 - len(during) - len(after)
		})
	}
	if behind == 0 || lost == 0 {
		t.Errorf("%d frames of before a cut arrive behind newer ones, and %d are lost; want both", behind, lost)
	}
}
