package ledger

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// early is how long a client may have the next true count before the ledger does: a node counts a
// stream that ends before its client sees the end.
const early = 100 * time.Millisecond

// Stale is how long the counts of clients were wrong in all phases of one name.
type Stale struct {
	Phase string
	// Times has the length of each interval in which one client had a wrong count, sorted. An
	// interval belongs to the phase in which it ended.
	Times []time.Duration
	// Watched is the sum of the times in which the clients had a count, right or wrong.
	Watched time.Duration
	// Longest is the longest of the intervals, the first one of several.
	Longest Interval
}

// Interval is a time in which a client had a wrong count.
type Interval struct {
	Client, Node string
	Since, Until time.Time
	Count        int // of the client, at the beginning
	Low, High    int // the smallest and the largest true count, at the beginning
}

func (i Interval) String() string {
	const format = "15:04:05.000"
	return fmt.Sprintf("client %s at node %s had the count %d from %s to %s, want %d to %d", i.Client, i.Node, i.Count,
		i.Since.UTC().Format(format), i.Until.UTC().Format(format), i.Low, i.High)
}

func (i Interval) length() time.Duration { return i.Until.Sub(i.Since) }

// Quantile returns the smallest time that is at least as long as the share q, 0 to 1, of all times;
// 0 if there is none.
func (s Stale) Quantile(q float64) time.Duration {
	if len(s.Times) == 0 {
		return 0
	}
	i := int(math.Ceil(q*float64(len(s.Times)))) - 1
	return s.Times[min(max(i, 0), len(s.Times)-1)]
}

// Wrong returns the sum of all times.
func (s Stale) Wrong() (sum time.Duration) {
	for _, d := range s.Times {
		sum += d
	}
	return sum
}

// Merge adds the times of more to those of all, by phase.
func Merge(all, more []Stale) []Stale {
	for _, m := range more {
		i := slices.IndexFunc(all, func(s Stale) bool { return s.Phase == m.Phase })
		if i < 0 {
			all = append(all, Stale{Phase: m.Phase})
			i = len(all) - 1
		}
		all[i].Times = append(all[i].Times, m.Times...)
		all[i].Watched += m.Watched
		if m.Longest.length() > all[i].Longest.length() {
			all[i].Longest = m.Longest
		}
		slices.Sort(all[i].Times)
	}
	return all
}

// Table formats times as a table in Markdown.
func Table(all []Stale) string {
	var b strings.Builder
	b.WriteString("| phase | wrong counts | p50 | p99 | max | share of the time |\n|---|--:|--:|--:|--:|--:|\n")
	for _, s := range all {
		fmt.Fprintf(&b, "| %s | %d | %.2f s | %.2f s | %.2f s | %.1f %% |\n", s.Phase, len(s.Times),
			s.Quantile(0.5).Seconds(), s.Quantile(0.99).Seconds(), s.Quantile(1).Seconds(), 100*float64(s.Wrong())/float64(max(1, s.Watched)))
	}
	return b.String()
}

// Staleness returns how long the counts of clients were wrong, in the order of the first phases of
// each name. Records before the first [Phase], and of a phase without a name, are used but not
// measured.
//
// The truth is the number of streams that have received their first count and have not ended. A
// stream that has not received it yet may or may not be counted. In a phase in which nodes are
// apart, the truth of a client is that of the nodes that its own node can reach.
func Staleness(records []Record) []Stale {
	w := &watcher{sides: map[string]*nodeSide{}, watched: map[string]*watched{}}
	for _, s := range steps(records) {
		w.step(s)
	}
	for i := range w.all {
		slices.Sort(w.all[i].Times)
	}
	return w.all
}

// step is a record, or the start of the request that opens a stream.
type step struct {
	Record
	asks bool // the client of an Opened record sends its request
}

// steps returns the records and the starts of requests, by time.
func steps(records []Record) (all []step) {
	for _, r := range records {
		if r.Kind == Opened && !r.Began.IsZero() {
			asking := step{r, true}
			asking.At = r.Began
			all = append(all, asking)
		}
		all = append(all, step{Record: r})
	}
	slices.SortStableFunc(all, func(a, b step) int { return a.At.Compare(b.At) })
	return all
}

// watcher is the state of a measurement.
type watcher struct {
	all    []Stale
	phase  int // index in all, plus 1; 0: not measured
	apart  []string
	paused []string

	sides   map[string]*nodeSide // by address of the node
	watched map[string]*watched  // by client
}

// nodeSide counts the streams of one node.
type nodeSide struct{ asking, counted int }

// watched is a client.
type watched struct {
	name    string
	node    string
	asking  bool
	counted bool
	count   int // if counted
	last    time.Time
	byEvent bool     // the count has become wrong by an event of the client, not by a change of the truth
	wrong   Interval // without its end; zero: the count is right
}

// truth returns the smallest and the largest true count for clients of a node.
func (w *watcher) truth(node string) (low, high int) {
	alone := slices.Contains(w.apart, node)
	for other, s := range w.sides {
		if other == node || !alone && !slices.Contains(w.apart, other) {
			low += s.counted
			high += s.counted + s.asking
		}
	}
	return low, high
}

func (w *watcher) step(s step) {
	c := w.watched[s.Client]
	switch {
	case s.Kind == Phase:
		w.change(s)
	case s.asks:
		w.ask(s)
	case c == nil:
	case s.Kind == Closed, s.Kind == Event && s.Event == "goodbye":
		w.end(c, s.At)
	case s.Kind == Event && s.Event == "user count":
		w.count(c, s)
	}
}

// change begins a phase, or changes which nodes are apart.
func (w *watcher) change(s step) {
	w.judgeAll(s.At, false) // adds the time up to now to the old phase
	defer w.judgeAll(s.At, false)
	w.phase, w.apart, w.paused = 0, s.Apart, s.Paused
	if s.Phase == "" {
		return
	}
	i := slices.IndexFunc(w.all, func(all Stale) bool { return all.Phase == s.Phase })
	if i < 0 {
		w.all = append(w.all, Stale{Phase: s.Phase})
		i = len(w.all) - 1
	}
	w.phase = i + 1
}

func (w *watcher) ask(s step) {
	c := w.watched[s.Client]
	if c == nil {
		c = &watched{name: s.Client}
		w.watched[s.Client] = c
	}
	w.end(c, s.At)
	c.node, c.asking = s.Node, true
	if w.sides[c.node] == nil {
		w.sides[c.node] = &nodeSide{}
	}
	w.sides[c.node].asking++
	w.judgeAll(s.At, false)
}

func (w *watcher) count(c *watched, s step) {
	n := 0
	if _, err := fmt.Sscan(string(s.Data), &n); err != nil || !c.asking && !c.counted {
		return
	}
	w.judge(c, s.At, true)
	c.count = n
	if c.asking {
		c.asking, c.counted, c.last = false, true, s.At
		w.sides[c.node].asking--
		w.sides[c.node].counted++
		w.judgeAll(s.At, false)
	}
	w.judge(c, s.At, true)
}

// end ends the stream of a client.
func (w *watcher) end(c *watched, at time.Time) {
	side := w.sides[c.node]
	switch {
	case c.asking:
		side.asking--
	case c.counted:
		w.judge(c, at, true)
		w.right(c, at)
		side.counted--
	default:
		return
	}
	c.asking, c.counted = false, false
	w.judgeAll(at, false)
}

func (w *watcher) judgeAll(at time.Time, byEvent bool) {
	for _, c := range w.watched {
		w.judge(c, at, byEvent)
	}
}

// judge compares the count of a client with the truth.
func (w *watcher) judge(c *watched, at time.Time, byEvent bool) {
	if !c.counted {
		return
	}
	if w.phase == 0 || slices.Contains(w.paused, c.node) {
		c.wrong, c.last = Interval{}, at
		return
	}
	w.all[w.phase-1].Watched += at.Sub(c.last)
	c.last = at
	low, high := w.truth(c.node)
	wrong := c.count < low || c.count > high
	switch {
	case wrong && c.wrong.Since.IsZero():
		c.byEvent = byEvent
		c.wrong = Interval{Client: c.name, Node: c.node, Since: at, Count: c.count, Low: low, High: high}
	case !wrong && c.byEvent && !byEvent && at.Sub(c.wrong.Since) < early:
		c.wrong = Interval{}
	case !wrong:
		w.right(c, at)
	}
}

// right ends the interval in which the count of a client is wrong, if there is one.
func (w *watcher) right(c *watched, at time.Time) {
	if c.wrong.Since.IsZero() {
		return
	}
	c.wrong.Until = at
	all := &w.all[w.phase-1]
	all.Times = append(all.Times, c.wrong.length())
	if c.wrong.length() > all.Longest.length() {
		all.Longest = c.wrong
	}
	c.wrong = Interval{}
}
