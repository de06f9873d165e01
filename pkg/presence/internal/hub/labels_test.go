package hub_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/hub"
)

// named sets the label and the settings of a node, and its log.
func named(label string, log *logBuffer, settings ...hub.Setting) func(*hub.Config) {
	return func(c *hub.Config) {
		log.use(c)
		c.Label, c.Settings = label, func() []hub.Setting { return settings }
	}
}

// Each pair of nodes with different settings has one warning for each setting, with both labels and
// both values, however often the nodes lose their contact.
func TestDifferentSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, lines := sharedMemory(), &logBuffer{}
		linger := func(value string) []hub.Setting {
			return []hub.Setting{{Name: "count", Value: "users"}, {Name: "linger", Value: value}}
		}
		lossy := &lossyBus{Bus: bus}
		openNode(t, bus, named("eu-1", lines, linger("5s")...))
		openNode(t, bus, named("eu-2", lines, linger("5s")...))
		openNode(t, lossy, named("eu-3", lines, linger("7s")...))
		openNode(t, bus, named("old", lines)) // of an earlier version
		time.Sleep(3 * time.Second)
		for range 2 {
			lossy.change(func() { lossy.deaf, lossy.silent = true, true })
			time.Sleep(10 * time.Second)
			lossy.change(func() { lossy.deaf, lossy.silent = false, false })
			time.Sleep(10 * time.Second)
		}
		var pairs []string
		for _, line := range lines.lines("setting differs") {
			for _, want := range []string{"setting=linger", "=5s", "=7s", "=eu-3"} {
				if !strings.Contains(line, want) {
					t.Errorf("got %q, want %s in it", line, want)
				}
			}
			for _, label := range []string{"eu-1", "eu-2"} {
				if strings.Contains(line, "="+label) {
					pairs = append(pairs, label)
				}
			}
		}
		if slices.Sort(pairs); !slices.Equal(pairs, []string{"eu-1", "eu-2"}) {
			t.Errorf("got warnings about eu-3 and %q, want one for eu-1 and one for eu-2: %q", pairs, lines.lines("setting"))
		}
		if found := lines.lines("peer node found"); len(found) < 12 || strings.Contains(strings.Join(found, " "), `label=""`) {
			t.Errorf("got %q, want the label of each peer", found)
		}
		if dead := lines.lines("peer node dead"); len(dead) == 0 || strings.Contains(strings.Join(dead, " "), `label=""`) {
			t.Errorf("got %q, want the label of each peer", dead)
		}
	})
}

// Two nodes with one label have true counts, and one warning. A node that replaces one that was
// killed or has shut down has none.
func TestSameLabel(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(n *node, bus *lossyBus)
		want int
	}{
		{"both live", func(*node, *lossyBus) {}, 1},
		{"killed", func(_ *node, b *lossyBus) { b.change(func() { b.silent = true }) }, 0},
		{"shut down", func(n *node, _ *lossyBus) { n.Close(n.t.Context()) }, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus, lines := sharedMemory(), &logBuffer{}
				other := openNode(t, bus, named("eu-2", lines))
				lossy := &lossyBus{Bus: bus}
				ownLines := lines
				if test.name == "killed" {
					ownLines = &logBuffer{} // no line of a process that is gone counts
				}
				first := openNode(t, lossy, named("eu-1", ownLines))
				time.Sleep(time.Minute)
				carol := other.join("lobby", "carol", hub.Lease{}, "")
				first.join("lobby", "alice", hub.Lease{}, "")
				test.end(first, lossy)
				second := openNode(t, bus, named("eu-1", lines))
				second.join("lobby", "bob", hub.Lease{}, "")
				time.Sleep(time.Minute)
				if got := lines.lines("same label"); len(got) != test.want || test.want > 0 && !strings.Contains(got[0], "label=eu-1") {
					t.Errorf("got %q, want %d lines with the label eu-1", got, test.want)
				}
				carol.mu.Lock()
				defer carol.mu.Unlock()
				if want := 2 + test.want; carol.view.count != want {
					t.Errorf("got user count %d, want %d", carol.view.count, want)
				}
			})
		})
	}
}
