package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"example.com/presence/cmd/presence/internal/ledger"
)

// checkOrder checks that the positions of messages agree with real time: if a message was accepted
// before another one was sent, its position is lower.
func checkOrder(t *testing.T, records []ledger.Record) {
	t.Helper()
	positions, sent := map[string]ledger.Position{}, map[string]*porcupine.Operation{}
	for _, r := range records {
		if m, ok := r.Message(); ok {
			positions[m.Data], _ = ledger.ParsePosition(m.ID)
		}
		if r.Kind != ledger.Posted {
			continue
		}
		op := sent[r.Content]
		if op == nil {
			op = &porcupine.Operation{Call: r.Began.UnixNano(), Return: math.MaxInt64}
			sent[r.Content] = op
		}
		op.Call = min(op.Call, r.Began.UnixNano())
		if r.Status == http.StatusAccepted {
			positions[r.Content], _ = ledger.ParsePosition(r.ID)
			op.Return = min(op.Return, r.At.UnixNano())
		}
	}
	epochs := map[string][]porcupine.Operation{}
	for content, op := range sent {
		if p, known := positions[content]; known { // otherwise it was refused and is not in the log
			op.Output = p.Seq
			epochs[p.Epoch] = append(epochs[p.Epoch], *op)
		}
	}
	for epoch, ops := range epochs {
		if result := porcupine.CheckOperationsTimeout(orderModel(ops), ops, time.Minute); result != porcupine.Ok {
			t.Errorf("%d messages of epoch %s: their order is %v", len(ops), epoch, result)
		}
		t.Logf("%d messages of epoch %s: checked against the model of the log", len(ops), epoch)
	}
}

// orderModel is a log that gives each message the next position. The positions in use are known
// from the history, so the state is the number of messages in the log.
func orderModel(ops []porcupine.Operation) porcupine.Model {
	var used []uint64
	for _, op := range ops {
		used = append(used, op.Output.(uint64))
	}
	slices.Sort(used)
	return porcupine.Model{
		Init: func() any { return 0 },
		Step: func(state, _, output any) (bool, any) {
			n := state.(int)
			return n < len(used) && used[n] == output.(uint64), n + 1
		},
	}
}

// The model of the log accepts a history in which the positions agree with real time, and no other.
func TestOrderModel(t *testing.T) {
	for name, c := range map[string]struct {
		ops  []porcupine.Operation
		want porcupine.CheckResult
	}{
		"in order":   {[]porcupine.Operation{{Call: 1, Return: 2, Output: uint64(5)}, {Call: 3, Return: 4, Output: uint64(9)}}, porcupine.Ok},
		"concurrent": {[]porcupine.Operation{{Call: 1, Return: 4, Output: uint64(9)}, {Call: 3, Return: 5, Output: uint64(5)}}, porcupine.Ok},
		"backwards":  {[]porcupine.Operation{{Call: 1, Return: 2, Output: uint64(9)}, {Call: 3, Return: 4, Output: uint64(5)}}, porcupine.Illegal},
		"twice":      {[]porcupine.Operation{{Call: 1, Return: 2, Output: uint64(5)}, {Call: 3, Return: 4, Output: uint64(5)}}, porcupine.Ok},
	} {
		if got := porcupine.CheckOperationsTimeout(orderModel(c.ops), c.ops, time.Minute); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// kicks joins a room with many users on all nodes, and removes and bans each user meanwhile. It
// lifts the bans of about half of the users.
type kicks struct {
	book *book
	room string
	pick func() string
	ctx  context.Context
	stop context.CancelFunc
	wait sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	ops     map[string][]porcupine.Operation
	skipped map[string]bool // users whose last change of the ban some node may lack
}

// The results of operations on a user.
const (
	joined  = "joined"
	refused = "refused"
	kicked  = "kicked"
	lifted  = "lifted"
)

// confirmed is the time within which all live nodes apply a ban, or its end. A request that takes
// longer may be answered with 204 although a node that is cut off lacks the change.
const confirmed = 950 * time.Millisecond

// startKicks begins with a user each 300 ms (see slower) until the end.
func startKicks(b *book, prefix string, pick func() string) *kicks {
	ctx, stop := context.WithCancel(b.ctx)
	k := &kicks{book: b, room: "kicks-" + prefix, pick: pick, ctx: ctx, stop: stop, ops: map[string][]porcupine.Operation{}, skipped: map[string]bool{}}
	k.wait.Go(func() { // ends with ctx
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-time.After(300 * time.Millisecond * slower):
				k.user(fmt.Sprintf("%s-%d", prefix, n))
			}
		}
	})
	b.t.Cleanup(k.end)
	return k
}

// user joins with a user several times at random nodes, and removes it.
func (k *kicks) user(user string) {
	for range 3 {
		k.wait.Go(func() { // ends after its joins
			for range 5 {
				k.linger(400 * time.Millisecond)
				k.join(user)
			}
		})
	}
	k.wait.Go(func() {
		k.linger(800 * time.Millisecond)
		if k.change(user, kicked, "/members?for=1h&"); rand.IntN(2) == 0 {
			k.linger(800 * time.Millisecond)
			k.change(user, lifted, "/bans?")
		}
	})
}

// linger waits for a random time, so that joins and removals meet in many orders.
func (k *kicks) linger(most time.Duration) {
	select {
	case <-time.After(rand.N(most)):
	case <-k.book.t.Context().Done():
	}
}

// add adds an operation to the history of a user.
func (k *kicks) add(user, node, result string, call time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	op := porcupine.Operation{Input: node, Output: result, Call: call.UnixNano(), Return: time.Now().UnixNano()}
	k.ops[user] = append(k.ops[user], op)
}

// change bans a user, or lifts its ban.
func (k *kicks) change(user, result, query string) {
	ctx, cancel := context.WithTimeout(k.book.ctx, 6*time.Second)
	defer cancel()
	node, call := k.pick(), time.Now()
	request, err := k.book.request(ctx, "DELETE", "http://"+node+query+"room="+k.room+"&id="+user, "admin", "")
	if err != nil {
		k.book.t.Error(err)
		return
	}
	resp, err := k.book.streams.Do(request)
	if err == nil {
		resp.Body.Close()
	}
	k.mu.Lock()
	known := !k.skipped[user]
	k.skipped[user] = k.skipped[user] || err != nil || resp.StatusCode != http.StatusNoContent || time.Since(call) > confirmed
	k.mu.Unlock()
	switch {
	case err != nil || resp.StatusCode == http.StatusServiceUnavailable:
	case resp.StatusCode == http.StatusNoContent:
		k.add(user, node, result, call)
	case resp.StatusCode != http.StatusNotFound || result != lifted || known: // some node may lack the ban
		k.book.t.Errorf("user %s to be %s at %s: got %s, want 204 or 503", user, result, node, resp.Status)
	}
}

// join opens a stream and closes it after the first event of the server. Without a result, it may
// not have joined, and is not in the history.
func (k *kicks) join(user string) {
	ctx, cancel := context.WithTimeout(k.book.ctx, 4*time.Second)
	defer cancel()
	node, call := k.pick(), time.Now()
	request, err := k.book.request(ctx, "GET", "http://"+node+"/events?room="+k.room, user, "")
	if err != nil {
		k.book.t.Error(err)
		return
	}
	resp, err := k.book.streams.Do(request)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusForbidden:
		k.add(user, node, refused, call)
	case http.StatusOK:
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			if strings.HasPrefix(s.Text(), "event: sync") {
				k.add(user, node, joined, call)
				return
			}
		}
	default:
		k.book.t.Errorf("join of user %s at %s: got %s, want 200 or 403", user, node, resp.Status)
	}
}

// end stops the operations and waits for the last ones.
func (k *kicks) end() {
	k.stop()
	k.wait.Wait()
}

// banModel is a user that may join until it is kicked, and again after its ban was lifted. The
// state is whether it is banned.
var banModel = porcupine.Model{
	Init: func() any { return false },
	Step: func(state, _, output any) (bool, any) {
		if output == kicked || output == lifted {
			return true, output == kicked
		}
		return state.(bool) == (output == refused), state
	},
}

// The model of bans accepts no join after a kick.
func TestBanModel(t *testing.T) {
	for name, c := range map[string]struct {
		ops  []porcupine.Operation
		want porcupine.CheckResult
	}{
		"join, kick, refused":    {[]porcupine.Operation{{Call: 1, Return: 2, Output: joined}, {Call: 3, Return: 4, Output: kicked}, {Call: 5, Return: 6, Output: refused}}, porcupine.Ok},
		"join during the kick":   {[]porcupine.Operation{{Call: 3, Return: 8, Output: kicked}, {Call: 5, Return: 6, Output: joined}}, porcupine.Ok},
		"join after the kick":    {[]porcupine.Operation{{Call: 3, Return: 4, Output: kicked}, {Call: 5, Return: 6, Output: joined}}, porcupine.Illegal},
		"refused without a kick": {[]porcupine.Operation{{Call: 3, Return: 4, Output: refused}}, porcupine.Illegal},
		"joined after a kick and a refusal": {[]porcupine.Operation{{Call: 1, Return: 2, Output: kicked}, {Call: 3, Return: 4, Output: refused},
			{Call: 5, Return: 6, Output: joined}}, porcupine.Illegal},
		"joined after a lift":  {[]porcupine.Operation{{Call: 1, Return: 2, Output: kicked}, {Call: 3, Return: 4, Output: lifted}, {Call: 5, Return: 6, Output: joined}}, porcupine.Ok},
		"refused after a lift": {[]porcupine.Operation{{Call: 1, Return: 2, Output: kicked}, {Call: 3, Return: 4, Output: lifted}, {Call: 5, Return: 6, Output: refused}}, porcupine.Illegal},
	} {
		if got := porcupine.CheckOperationsTimeout(banModel, c.ops, time.Minute); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// check checks the history of each user whose ban, and its end, were confirmed by all nodes. The
// nodes apply a change one after the other, so the history of each node is checked by itself.
func (k *kicks) check(t *testing.T) {
	t.Helper()
	counts := map[string]int{}
	for user, ops := range k.ops {
		if k.skipped[user] {
			counts["users skipped"]++
			continue
		}
		nodes := map[any][]porcupine.Operation{}
		for _, op := range ops {
			counts[op.Output.(string)]++
			nodes[op.Input] = nil
		}
		for node := range nodes {
			history := slices.DeleteFunc(slices.Clone(ops), func(op porcupine.Operation) bool {
				return op.Input != node && op.Output != kicked && op.Output != lifted
			})
			if porcupine.CheckOperationsTimeout(banModel, history, time.Minute) != porcupine.Ok {
				t.Errorf("user %s joined while it was banned, or was refused while it was not:\n%s", user, describe(history))
			}
		}
	}
	t.Logf("%d users: %v", len(k.ops), counts)
	if counts["users skipped"] < len(k.ops) && (counts[joined] == 0 || counts[refused] == 0 || counts[kicked] == 0) {
		t.Errorf("history without joins, refusals or kicks: %v", counts)
	}
}

func describe(history []porcupine.Operation) string {
	var lines []string
	for _, op := range history {
		lines = append(lines, fmt.Sprintf("%s to %s at %s: %s", time.Unix(0, op.Call).Format("15:04:05.000"), time.Unix(0, op.Return).Format("05.000"), op.Input, op.Output))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
