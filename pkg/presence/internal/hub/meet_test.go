package hub

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/room"
)

// A label has 1 to 64 printable characters without blanks. A heartbeat with another label counts,
// but the label does not.
func TestLabels(t *testing.T) {
	long := strings.Repeat("é", maxLabel)
	for label, want := range map[string]bool{
		"eu-1": true, "web.example.com:1": true, long: true, "日本": true,
		"": false, long + "x": false, "a b": false, "a\u00a0b": false, "a\nb": false, "a\x00": false, "a\u200bb": false, "a\ufffd": false, "a\xff": false,
	} {
		if got := IsLabel(label); got != want {
			t.Errorf("IsLabel(%q): got %v, want %v", label, got, want)
		}
		b, err := parseHeartbeat(encodeFrame(heartbeat{V: 1, From: "a", Label: label}))
		if err != nil || (b.Label != "") != want {
			t.Errorf("heartbeat with label %q: got %q, %v", label, b.Label, err)
		}
	}
}

// announcing returns the peers of a node with a label and settings.
func announcing(self room.NodeID, label string, values ...string) *peers {
	p := newPeers(self, peerTime(0))
	var settings []Setting
	for i, value := range values {
		settings = append(settings, Setting{fmt.Sprint("s", i), value})
	}
	p.announce(label, settings)
	return p
}

// Of two nodes, the one with the lower id reports each difference once, also after the lease of the
// other has ended. A node that announces no settings, or more, differs in nothing.
func TestDifferences(t *testing.T) {
	a, b := announcing("a", "eu-1", "x", "5s", "1"), announcing("b", "eu-2", "x", "7s")
	beat, _ := b.beat(peerTime(0))
	a.renew("b", peerTime(0))
	for i, want := range []string{"[{{s1 5s} 7s}]", "[]"} {
		if differ, twin := a.meet(beat, peerTime(0)); fmt.Sprint(differ) != want || twin {
			t.Errorf("heartbeat %d: got %v, twin %v; want %s, false", i, differ, twin, want)
		}
	}
	if label := a.labelOf("b"); label != "eu-2" {
		t.Errorf("got label %q, want eu-2", label)
	}
	a.end(peerTime(leaseTime))
	a.renew("b", peerTime(time.Minute))
	if differ, _ := a.meet(beat, peerTime(time.Minute)); len(differ) > 0 || a.labelOf("b") != "eu-2" {
		t.Errorf("after the lease: got %v and label %q; want none and eu-2", differ, a.labelOf("b"))
	}
	if beat, _ = a.beat(peerTime(0)); len(beat.Settings) != 3 {
		t.Errorf("got %v in the heartbeat, want 3 settings", beat.Settings)
	}
	if differ, _ := b.meet(beat, peerTime(0)); len(differ) > 0 {
		t.Errorf("node with the higher id: got %v, want none", differ)
	}
	for name, settings := range map[string]map[string]string{"none": nil, "of a later version": {"s0": "x", "s1": "5s", "s2": "1", "s3": "2"},
		"long": {"s1": strings.Repeat("7", maxSetting+1)}, "control character": {"s1": "7\n"}} {
		if differ, _ := a.meet(heartbeat{From: "c", Settings: settings}, peerTime(0)); len(differ) > 0 {
			t.Errorf("settings %s: got %v, want no difference", name, differ)
		}
	}
}

// Two nodes with one label are reported once, when each has sent heartbeats for 10 s. The lease of
// an earlier process of the node, which was killed, ends before.
func TestTwin(t *testing.T) {
	a := announcing("a", "eu-1")
	var reports []time.Duration
	hear := func(from, to time.Duration, node room.NodeID) {
		for at := from; at <= to; at += time.Second {
			a.end(peerTime(at))
			a.renew(node, peerTime(at))
			if _, twin := a.meet(heartbeat{From: node, Label: "eu-1"}, peerTime(at)); twin {
				reports = append(reports, at)
			}
		}
	}
	hear(0, 9*time.Second, "b")
	hear(20*time.Second, 29*time.Second, "b") // another lease
	hear(100*time.Second, 200*time.Second, "c")
	hear(300*time.Second, 400*time.Second, "c")
	if want := []time.Duration{110 * time.Second}; !slices.Equal(reports, want) {
		t.Errorf("got reports at %v, want %v", reports, want)
	}
	b := announcing("b", "eu-1")
	b.renew("a", peerTime(0))
	for at := range 60 {
		if _, twin := b.meet(heartbeat{From: "a", Label: "eu-1"}, peerTime(time.Duration(at)*time.Second)); twin {
			t.Error("the node with the higher id reports its twin")
		}
	}
}

// A peer that sends any number of ids, labels and settings fills neither the memory nor the log.
func TestForgedMeetings(t *testing.T) {
	a := announcing("a", "eu-1", "1", "2", "3")
	reports := 0
	for i := range 3000 {
		at := peerTime(time.Duration(i) * 20 * time.Millisecond) // 250 in a lease, and 60 s in all
		a.end(at)
		b := heartbeat{From: room.NodeID(fmt.Sprint("b", i)), Label: fmt.Sprint(i), Settings: map[string]string{}}
		for j := range 100 {
			b.Settings[fmt.Sprint("s", j)] = fmt.Sprint(i)
		}
		if _, ok := a.renew(b.From, at); ok {
			differ, _ := a.meet(b, at)
			reports += len(differ)
		}
	}
	if reports != maxReports || len(a.met) > 2*maxPeers {
		t.Errorf("got %d reports and %d peers; want %d and at most %d", reports, len(a.met), maxReports, 2*maxPeers)
	}
	a.renew("c", peerTime(2*reportTime))
	if differ, _ := a.meet(heartbeat{From: "c", Settings: map[string]string{"s0": "9"}}, peerTime(2*reportTime)); len(differ) != 1 {
		t.Errorf("an hour later: got %v, want one difference", differ)
	}
}
