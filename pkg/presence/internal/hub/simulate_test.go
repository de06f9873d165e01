package hub_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// The flags of the simulation. The command go test has flags of its own, so pass these after -args:
//
//	go test ./pkg/presence/internal/hub -run 'Simulate$' -args -seed 7 -trace
var (
	simSeed    = flag.Int64("seed", -1, "run TestSimulate with this seed only")
	simTrace   = flag.Bool("trace", false, "print a trace of the simulation")
	simSeeds   = flag.Int("seeds", usualSeeds, "number of seeds of TestSimulate; with -short at most 40")
	simFirst   = flag.Int64("first", 1, "first seed of TestSimulate")
	simAll     = flag.Bool("all", false, "go on after a seed that fails")
	noShrink   = flag.Bool("noshrink", false, "do not shorten a script that fails")
	simSteps   = flag.Int("steps", 200, "number of steps per seed of TestSimulate")
	weathers   = flag.String("weather", "clear,calm,lossy,drops,cuts,blocks,deaths,logs,everything", "kinds of faults of TestSimulate")
	scriptFile = flag.String("script", "", "run TestSimulate with the script in this file only")
	simNodes   = flag.Int("nodes", 5, "number of nodes of TestSimulate")
)

// TestSimulate runs random scripts on several nodes. The clients of the nodes open, close and move
// connections, change their state, and send messages; the engine delays and loses frames; and nodes
// are cut off, stopped, and end. After each quiet moment, all nodes and all clients must agree with
// a plain model. A script that fails is shortened and printed.
func TestSimulate(t *testing.T) {
	if *scriptFile != "" {
		simulateFile(t, *scriptFile)
		return
	}
	if *simSeed >= 0 {
		simulateSeed(t, uint64(*simSeed))
		return
	}
	seeds := int64(*simSeeds)
	if testing.Short() {
		seeds = min(seeds, 40)
	}
	collect := debug.SetGCPercent(800) // the heap is small, and a third of the time would be spent on it
	t.Cleanup(func() { debug.SetGCPercent(collect) })
	var next atomic.Int64
	next.Store(*simFirst - 1)
	end := *simFirst + seeds
	for i := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint("worker", i), func(t *testing.T) {
			t.Parallel()
			for seed := next.Add(1); seed < end && (*simAll || !t.Failed()); seed = next.Add(1) {
				simulateSeed(t, uint64(seed))
				if seed%1000 == 0 {
					t.Logf("seed %d has ended", seed) // go test -v prints it at once
				}
			}
		})
	}
}

func simulateSeed(t *testing.T, seed uint64) {
	t.Helper()
	s := drawScript(seed, strings.Split(*weathers, ","), *simNodes, *simSteps)
	failures, kinds := simulate(t, s, *simTrace)
	if len(failures) == 0 {
		return
	}
	t.Errorf("seed %d:\n%s", seed, strings.Join(failures, "\n"))
	if !*simTrace && !*noShrink {
		short, failures := shrinkScript(t, s, kinds)
		t.Errorf("%d steps are enough:\n%s\n%v", len(short.Steps), strings.Join(failures, "\n"), short)
	}
}

// simulate runs a script. It returns its failures and their kinds.
func simulate(t *testing.T, s simScript, trace bool) (failures []string, kinds map[string]bool) {
	synctest.Test(t, func(t *testing.T) {
		r := newSimRun(t, s, trace)
		r.run()
		failures, kinds = r.failures, r.kinds
	})
	return failures, kinds
}

// TestSimulateCorpus runs the scripts that have failed once.
func TestSimulateCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/simulate/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			simulateFile(t, file)
		})
	}
}

func simulateFile(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s simScript
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	if failures, _ := simulate(t, s, *simTrace); len(failures) > 0 {
		t.Errorf("%s", strings.Join(failures, "\n"))
	}
}
