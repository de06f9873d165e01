package ledger_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/presence/cmd/presence/internal/ledger"
)

// timed turns lines into a ledger. Each line begins with a time in seconds (phase "-": no name):
//
//	1.5 phase NAME [apart NODE…] [paused NODE…]    1.5 a opened NODE BEGAN
//	1.5 a count 3                                  1.5 a goodbye    1.5 a closed
func timed(t *testing.T, text string) (records []ledger.Record) {
	start := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	at := func(seconds string) time.Time {
		f, err := strconv.ParseFloat(seconds, 64)
		if err != nil {
			t.Fatal(err)
		}
		return start.Add(time.Duration(f * float64(time.Second)))
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		r := ledger.Record{At: at(f[0]), Client: f[1]}
		switch {
		case f[1] == "phase":
			r.Kind, r.Client, r.Phase = ledger.Phase, "", strings.Trim(f[2], "-")
			list := &r.Apart
			for _, word := range f[3:] {
				switch word {
				case "apart":
				case "paused":
					list = &r.Paused
				default:
					*list = append(*list, word)
				}
			}
		case f[2] == "opened":
			r.Kind, r.Node, r.Began = ledger.Opened, f[3], at(f[4])
		case f[2] == "closed":
			r.Kind = ledger.Closed
		case f[2] == "count":
			r.Kind, r.Event, r.Data = ledger.Event, "user count", json.RawMessage(f[3])
		default:
			r.Kind, r.Event, r.Data = ledger.Event, f[2], json.RawMessage("{}")
		}
		records = append(records, r)
	}
	return records
}

// Staleness measures how long each client had a wrong count.
func TestStaleness(t *testing.T) {
	const two = `
		1 a opened n1 1
		1 b opened n2 1
		1 a count 2
		1 b count 2
		2 phase health`
	for name, c := range map[string]struct {
		story string
		want  string // phases with the times in milliseconds, and the watched time
	}{
		"right all the time":     {two + "\n4 phase end", "health [] 4s, end [] 0s"},
		"late after a leave":     {two + "\n3 b closed\n3.5 a count 1\n4 phase end", "health [500] 3s, end [] 0s"},
		"late after a join":      {two + "\n3 c opened n1 2.5\n3.2 c count 3\n3.3 a count 3\n3.4 b count 3\n4 phase end", "health [100 200] 4.8s, end [] 0s"},
		"counted before its own": {two + "\n2.6 a count 3\n2.7 b count 3\n3 c opened n1 2.5\n3.2 c count 3\n4 phase end", "health [] 4.8s, end [] 0s"},
		"a leave seen early":     {two + "\n2.95 a count 1\n3 b closed\n4 phase end", "health [] 3s, end [] 0s"},
		"a leave seen too early": {two + "\n2.5 a count 1\n3 b closed\n4 phase end", "health [500] 3s, end [] 0s"},
		"goodbye ends a stream":  {two + "\n3 b goodbye\n3.5 a count 1\n4 b closed\n4 phase end", "health [500] 3s, end [] 0s"},
		"refused with goodbye":   {two + "\n3 c opened n1 3\n3 c goodbye\n3.1 c closed\n4 phase end", "health [] 4s, end [] 0s"},
		"wrong at its own end":   {two + "\n3 b closed\n3.5 a closed\n4 phase end", "health [500] 2.5s, end [] 0s"},
		"wrong from the first count": {`
			1 phase health
			1 a opened n1 1
			2 a count 5
			3 a count 1
			4 phase end`, "health [1000] 2s, end [] 0s"},
		"phase of the end": {two + "\n3 b closed\n4 phase end\n4.5 a count 1\n5 phase health", "health [] 3s, end [1500] 1s"},
		"not measured":     {two + "\n3 b closed\n4 phase -\n5 phase rest\n5.5 a count 1\n6 phase end", "health [] 3s, rest [500] 1s, end [] 0s"},
		"apart": {two + `
			3 phase cut apart n2
			8 a count 1
			9 b count 1
			10 phase cut
			10.5 a count 2
			11 b count 2
			12 phase end`, "health [] 2s, cut [500 1000 5000 6000] 18s, end [] 0s"},
		"paused": {two + `
			3 phase pause apart n2 paused n2
			8 a count 1
			10 phase pause
			10.5 a count 2
			12 phase end`, "health [] 2s, pause [500 5000] 11s, end [] 0s"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, s := range ledger.Staleness(timed(t, c.story)) {
				times := []int64{}
				for _, d := range s.Times {
					times = append(times, d.Milliseconds())
				}
				got = append(got, fmt.Sprintf("%s %v %v", s.Phase, times, s.Watched))
			}
			if got := strings.Join(got, ", "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// The longest interval is that of the first client whose count was wrong for so long.
func TestLongest(t *testing.T) {
	stale := ledger.Staleness(timed(t, `
		1 a opened n1 1
		1 b opened n2 1
		1 c opened n2 1
		1 a count 3
		1 b count 3
		1 c count 3
		2 phase health
		3 c closed
		3.2 a count 2
		3.7 b count 2
		4 b closed
		4.1 a count 1
		5 phase end`))
	all := ledger.Merge([]ledger.Stale{{Phase: "health"}}, stale)
	const want = "client b at node n2 had the count 3 from 15:04:08.000 to 15:04:08.700, want 2 to 2"
	if got := all[0].Longest.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Quantiles are those of the nearest rank, and merged phases have the times of both.
func TestStale(t *testing.T) {
	var s ledger.Stale
	if got := s.Quantile(0.5); got != 0 {
		t.Errorf("no times: got %v, want 0", got)
	}
	for i := range 100 {
		s.Times = append(s.Times, time.Duration(i+1)*time.Second)
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.01: 1, 0.5: 50, 0.505: 51, 0.99: 99, 1: 100} {
		if got := s.Quantile(q); got != want*time.Second {
			t.Errorf("quantile %v: got %v, want %v s", q, got, int64(want))
		}
	}
	a := []ledger.Stale{{Phase: "health", Times: []time.Duration{time.Second}, Watched: time.Minute}}
	b := []ledger.Stale{
		{Phase: "cut", Times: []time.Duration{3 * time.Second}, Watched: time.Minute},
		{Phase: "health", Times: []time.Duration{time.Millisecond}, Watched: time.Minute},
	}
	all := ledger.Merge(ledger.Merge(nil, a), b)
	if len(all) != 2 || !slices.Equal(all[0].Times, []time.Duration{time.Millisecond, time.Second}) || all[0].Watched != 2*time.Minute {
		t.Errorf("merged: got %v", all)
	}
	want := "| health | 2 | 0.00 s | 1.00 s | 1.00 s | 0.8 % |\n| cut | 1 | 3.00 s | 3.00 s | 3.00 s | 5.0 % |\n"
	if got := ledger.Table(all); !strings.HasSuffix(got, "--:|\n"+want) {
		t.Errorf("got the table\n%s\nwant the rows\n%s", got, want)
	}
	if a[0].Times[0] != time.Second {
		t.Error("Merge changed its argument")
	}
}
