package hub_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	runMutants   = flag.Bool("mutants", false, "TestMutants runs the simulation with each bug of its list")
	onlyMutant   = flag.String("mutant", "", "run only the mutants whose name matches this `regexp`")
	mutantsSeeds = flag.Int("mutant-seeds", 2000, "number of seeds in which the simulation must find each bug")
)

// mutant is a deliberate bug: a replacement of text in one file.
type mutant struct {
	name string
	file string   // relative to this directory
	edit []string // old and new text, in pairs; each old text stands in the file once
}

// mutants are bugs in the exchange between nodes that the simulation must find. They show that it
// is not blind.
var mutants = []mutant{
	{"a frame with changes is not repeated", "own.go",
		[]string{"if o.changedAt.IsZero() || empty", "if true || empty"}},
	{"the lower version of a record wins", "../../room/presence.go",
		[]string{"cmp.Compare(v.Counter, w.Counter)", "cmp.Compare(w.Counter, v.Counter)"}},
	{"an update is not repeated with a higher stamp", "update.go",
		[]string{"case !overtaken:", "default:"}},
	{"a lease uses the clock of another node", "cluster.go",
		[]string{"now := h.config.Clock.Now()\n\th.witness", "now := time.Now()\n\th.witness"}},
	{"a gap in the numbers is ignored", "parts.go",
		[]string{"f.Number > p.number+1 ||", "", "case f.Number == p.number+1:", "case f.Number > p.number:",
			"!f.More && f.Number >= p.mixed && (users", "false && (users"}},
	{"a late frame is applied", "parts.go",
		[]string{"case f.Number < p.number || f.Number == p.number && len(changed) > 0:\n\t\treturn", "case false:\n\t\treturn",
			"case f.Number == p.number+1:", "case len(changed) > 0:", "!f.More && f.Number >= p.mixed && (users", "false && (users"}},
	{"a ban is not looked up when a connection joins", "join.go",
		[]string{"if err := c.shared.bans.check(c.name, conn.user, now); err != nil {", "if err := error(nil); err != nil {"}},
	{"a ban does not mask the parts of other nodes", "../../room/merge.go",
		[]string{"banned := ps.bans[u].After(now)", "banned := false"}},
	{"a ban that is lifted stays", "ban.go",
		[]string{"h.bans.remove(b.Room, b.User)", ""}},
	{"a ban that is lifted masks the parts of other nodes until its end", "ban.go",
		[]string{"h.note(l, l.lift(b.User))", "_ = l"}},
	{"a node announces at once that a user has left", "frame.go",
		[]string{"if left := p.Until.Sub(now); p.Connections == 0 && left > 0 {", "if left := p.Until.Sub(now); p.Connections == 0 && left > 1<<62 {"}},
	{"grace periods have no margin", "exchange.go",
		[]string{"graceMargin = 500 * time.Millisecond", "graceMargin = 0 * time.Millisecond"}},
	{"a node does not adopt the better record", "../../room/merge.go",
		[]string{"if own == nil || own.ended(now) {", "if true {"}},
	{"the connections of a dead node stay", "parts.go",
		[]string{"c.room.Drop(node, until, why, now)", ""}},
	{"a room that is opened again counts frames from 0", "counter.go",
		[]string{"newExchange(s.floor.get())", "newExchange(0)"}},
	{"frames that arrive during a pull are dropped, and the pull counts as whole", "parts.go",
		[]string{"for _, f := range held {", "for _, f := range held {\n\t\tp.number = max(p.number, f.Number)\n\t\tcontinue"}},
	{"the latest start of a member wins", "../../room/merge.go",
		[]string{"s.Since.Before(since)", "s.Since.After(since)"}},
	{"connections on several nodes count once", "../../room/merge.go",
		[]string{"connections += s.Connections", "connections = max(connections, s.Connections)"}},
	{"a partial room stays partial", "parts.go",
		[]string{"c.room.SetPartial(false)", ""}},
	{"a node that was cut off does not ask for repeats", "cluster.go",
		[]string{"h.greet(allNodes, now)\n\th.repeatAll(now)", ""}},
	{"an evicted room ends the repeats of its totals", "deliver.go",
		[]string{"if c.room.OwnUsers() == 0 && c.settled == nil { //", "if false { //"}},
	{"the hooks keep the members of a room without clients", "flush.go",
		[]string{"if serves == x.serves ||", "if serves == x.serves || !serves ||"}},
	{"a pull keeps the users that have left", "../../room/merge.go",
		[]string{"for _, u := range slices.Sorted(maps.Keys(gone)) {", "for _, u := range slices.Sorted(maps.Keys(gone))[len(gone):] {"}},
	{"the first repeat comes after 2.5 s", "own.go",
		[]string{"{500 * time.Millisecond, time.Second, 2 * time.Second,", "{2500 * time.Millisecond, 3 * time.Second, 3500 * time.Millisecond,"}},
	{"a pull whose request was lost is not repeated soon", "pull.go",
		[]string{"again: repeatedAt[:1]", "again: repeatedAt[:0]"}},
	{"a lease lasts 1.5 s longer", "peers.go",
		[]string{"leaseTime = 5 * time.Second", "leaseTime = 6500 * time.Millisecond"}},
	{"a pull ends with the first piece", "pulled.go",
		[]string{"a.more = p.More && len(p.Entries) > 0", "a.more = false"}},
}

// TestMutants checks that each text to replace stands in its file once. With -mutants it runs the
// simulation with each bug, and fails if the simulation does not find the bug:
//
//	go test -run TestMutants -mutants -timeout 2h
func TestMutants(t *testing.T) {
	match := regexp.MustCompile(*onlyMutant)
	for _, m := range mutants {
		changed, err := m.apply()
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if *runMutants && match.MatchString(m.name) {
			t.Run(m.name, func(t *testing.T) { m.run(t, changed) })
		}
	}
}

// apply returns the changed text of the file.
func (m mutant) apply() ([]byte, error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(m.edit); i += 2 {
		if n := bytes.Count(text, []byte(m.edit[i])); n != 1 {
			return nil, fmt.Errorf("%d times in %s: %q; want 1", n, m.file, m.edit[i])
		}
		text = bytes.Replace(text, []byte(m.edit[i]), []byte(m.edit[i+1]), 1)
	}
	return text, nil
}

// run builds the tests with the bug, and runs the simulation.
func (m mutant) run(t *testing.T, changed []byte) {
	dir := t.TempDir()
	path, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	replacement, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {path: replacement}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{replacement: changed, overlay: list} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "hub.test")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("the mutant does not build: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), binary, "-test.run", "^TestSimulate(Moves)?$",
		"-test.failfast", "-noshrink", "-seeds", fmt.Sprint(*mutantsSeeds), "-moves", "2000").CombinedOutput()
	if err == nil {
		t.Errorf("the simulation does not find the bug in %d seeds", *mutantsSeeds)
		return
	}
	t.Log(strings.TrimSpace(string(out[max(0, len(out)-600):])))
}
