package hub_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// simScript is a simulation as data: the settings of the nodes, and the steps that clients, faults
// and operators take. The seed is that of the engine's dice and of the reactions of the clients.
// Every part of the list of steps is a valid list, because a step that is impossible at its time
// does nothing.
type simScript struct {
	Seed        uint64    `json:"seed"`
	Nodes       int       `json:"nodes"`
	Rooms       int       `json:"rooms"`
	Users       int       `json:"users"`
	Linger      simMillis `json:"linger"`
	MemberLimit int       `json:"member_limit"`
	CountUsers  bool      `json:"count_users"`
	RoomAge     simMillis `json:"room_age"`
	MaxDelay    simMillis `json:"max_delay"`  // of the engine
	MaxOffset   simMillis `json:"max_offset"` // of the clocks of the nodes, in either direction
	Messages    int       `json:"messages"`   // kept per room by the engine
	MaxRooms    int       `json:"max_rooms"`  // per node; 0: none
	Steps       []simStep `json:"steps"`
}

// simMillis is a duration in milliseconds.
type simMillis int

func (m simMillis) time() time.Duration { return time.Duration(m) * time.Millisecond }

// simStep is one step. Each kind of step uses the fields that it needs.
type simStep struct {
	N      int         `json:"n"`               // number in the list as it was drawn
	After  simMillis   `json:"after,omitempty"` // time since the step before
	Do     string      `json:"do"`
	Node   int         `json:"node"`
	Room   int         `json:"room,omitempty"`
	User   int         `json:"user,omitempty"`
	Tab    int         `json:"tab,omitempty"` // number of the step that opened the tab
	For    simMillis   `json:"for,omitempty"` // duration of a ban or lease, or the time until a tab reconnects
	Kind   int         `json:"kind,omitempty"`
	Faults *simWeather `json:"faults,omitempty"`
}

// The kinds of steps.
const (
	doOpen    = "open"    // User opens Tab on Node in Room, with a token that expires after For
	doClose   = "close"   // Tab closes its connection; Kind is an index in simReasons
	doMove    = "move"    // Tab closes its connection, and resumes on Node after For
	doPut     = "put"     // Node replaces the info of User in Room
	doSend    = "send"    // User sends a message to Room over Node; Kind 1: with an idempotency key
	doKick    = "kick"    // Node bans User from Room for the time For; Kind 1: also if it is not there
	doUnban   = "unban"   // Node lifts the ban of User from Room
	doRenew   = "renew"   // Node renews the tokens of User's session Kind for the time For
	doSignOut = "signout" // Node signs User's session Kind out
	doQuiet   = "quiet"   // wait until nothing changes, and compare; Kind 1: during grace periods
	doWeather = "weather" // replaces the faults of the engine
	doCut     = "cut"     // Node loses its connection to the engine
	doMend    = "mend"    // Node is connected again
	doFreeze  = "freeze"  // the process of Node is stopped
	doThaw    = "thaw"    // the process of Node continues
	doBlock   = "block"   // publications of Node block for the time For; Kind 1: they then fail
	doCrash   = "crash"   // Node ends without a word
	doStop    = "stop"    // Node shuts down
	doStart   = "start"   // a node that has ended starts again
	doEpoch   = "epoch"   // the log is created anew
	doStep    = "step"    // the wall clock of Node jumps by For, which may be negative
)

// simWeather are the faults of the engine that need no step each.
type simWeather struct {
	Loss           float64   `json:"loss,omitempty"`
	LossesInRow    int       `json:"losses_in_row,omitempty"` // at most; 0: simLossesInRow
	Duplicates     float64   `json:"duplicates,omitempty"`
	EntryLoss      float64   `json:"entry_loss,omitempty"`
	AppendTimeouts float64   `json:"append_timeouts,omitempty"`
	ReadFaults     float64   `json:"read_faults,omitempty"`
	TableLag       simMillis `json:"table_lag,omitempty"`
}

// String returns the script as JSON with one step per line.
func (s simScript) String() string {
	var b strings.Builder
	steps := s.Steps
	s.Steps = nil
	head, _ := json.Marshal(s) // has no value that cannot be encoded
	fmt.Fprintf(&b, "%s[\n", strings.TrimSuffix(string(head), "null}"))
	for i, step := range steps {
		line, _ := json.Marshal(step)
		fmt.Fprintf(&b, "%s%s\n", line, map[bool]string{true: ","}[i < len(steps)-1])
	}
	return b.String() + "]}\n"
}

// drawScript draws a script of n steps on the given number of nodes.
func drawScript(seed uint64, weathers []string, nodes, n int) simScript {
	d := &simDraw{rnd: rand.New(rand.NewPCG(seed, 2)), own: rand.New(rand.NewPCG(seed, 8)), tabs: map[int]simStep{}, ended: map[int]bool{}}
	s := simScript{Seed: seed, Nodes: nodes, Rooms: 1 + d.rnd.IntN(3), Users: 3 + d.rnd.IntN(6),
		Linger: pick(d.rnd, simMillis(0), 1000, 5000, 5000), MemberLimit: pick(d.rnd, 500, 500, 3, 5),
		CountUsers: d.rnd.IntN(3) == 0, RoomAge: pick(d.rnd, simMillis(60_000), 60_000, 4000),
		MaxDelay: pick(d.rnd, simMillis(2), 50, 200), Messages: pick(d.rnd, 100, 100, 8),
		MaxOffset: pick(d.rnd, simMillis(0), 50, 3_600_000)}
	if own := rand.New(rand.NewPCG(seed, 6)); s.Rooms > 1 && own.IntN(3) == 0 { // leaves the other draws as they are
		s.MaxRooms = s.Rooms - 1
	}
	d.script, d.weather = s, pick(d.rnd, weathers...)
	for i := range n {
		step := d.step()
		step.N = i + 1
		switch step.Do {
		case doOpen:
			step.Tab = step.N
			d.tabs[step.N] = step
		case doClose:
			delete(d.tabs, step.Tab)
		}
		s.Steps = append(s.Steps, step)
	}
	return s
}

func pick[T any](rnd *rand.Rand, values ...T) T { return values[rnd.IntN(len(values))] }

// simDraw draws steps.
type simDraw struct {
	rnd     *rand.Rand
	script  simScript
	weather string
	tabs    map[int]simStep // open tabs, by their number
	ended   map[int]bool    // nodes that have crashed or were stopped
	quiet   int             // steps since the last quiet moment

	own    *rand.Rand // of the bans, so that the other draws stay as they are
	banned simStep    // the last ban
	lift   int        // number of the step that lifts it, counted from now; 0: none does
}

// The weather is the kind of faults of a script.
const (
	simClear      = "clear"      // only delays
	simCalm       = "calm"       // only delays, and clients that act fast
	simLossy      = "lossy"      // publications are lost and doubled
	simDrops      = "drops"      // publications are lost and doubled, and the next one arrives
	simCuts       = "cuts"       // partitions and stopped processes
	simBlocks     = "blocks"     // publications that block
	simDeaths     = "deaths"     // nodes that end and start
	simLogs       = "logs"       // faults of the log and the table
	simClocks     = "clocks"     // wall clocks that jump by an hour; not in everything
	simEverything = "everything" // all of these
)

func (d *simDraw) step() simStep {
	if d.lift--; d.lift == 0 {
		return simStep{After: simMillis(d.own.IntN(500)), Do: doUnban, Node: d.own.IntN(d.script.Nodes), Room: d.banned.Room, User: d.banned.User}
	}
	d.quiet++
	step := simStep{After: d.wait(), Node: d.rnd.IntN(d.script.Nodes), Room: d.rnd.IntN(d.script.Rooms), User: d.rnd.IntN(d.script.Users)}
	if d.quiet > 12 && d.rnd.IntN(12) == 0 {
		d.quiet = 0
		return simStep{After: step.After, Do: doQuiet, Kind: d.rnd.IntN(2)}
	}
	if d.rnd.IntN(100) < 12 && d.fault(&step) {
		return step
	}
	d.act(&step)
	return step
}

// wait draws the time before a step.
func (d *simDraw) wait() simMillis {
	k := d.rnd.IntN(100)
	switch {
	case d.weather == simCalm && k < 70, k < 35:
		return simMillis(d.rnd.IntN(50))
	case k < 85:
		return simMillis(d.rnd.IntN(500))
	case k < 96:
		return simMillis(500 + d.rnd.IntN(1500))
	}
	return simMillis(2000 + d.rnd.IntN(5000))
}

// act draws a step of a client or an operator.
func (d *simDraw) act(step *simStep) {
	k := d.rnd.IntN(100)
	tab, has := d.tab()
	switch {
	case has && (k < 18 || len(d.tabs) > 16 && k < 45):
		*step = simStep{After: step.After, Do: doClose, Tab: tab, Kind: d.rnd.IntN(len(simReasons))}
	case has && k < 36:
		*step = simStep{After: step.After, Do: doMove, Tab: tab, Node: step.Node, For: simMillis(d.rnd.IntN(1 + int(d.script.Linger)*5/4))}
	case k < 62:
		step.Do, step.Kind = doOpen, d.rnd.IntN(2)
		if d.rnd.IntN(4) == 0 {
			step.For = simMillis(3000 + d.rnd.IntN(60_000))
		}
	case k < 74:
		step.Do = doPut
	case k < 92:
		step.Do, step.Kind = doSend, d.rnd.IntN(2)
	case k < 95:
		step.Do, step.For = doKick, simMillis(1000+d.rnd.IntN(8000))
		step.Kind = d.own.IntN(2)
		d.banned, d.lift = *step, pick(d.own, 0, 1, 3, 6)
	case k < 98:
		step.Do, step.Kind, step.For = doRenew, d.rnd.IntN(2), simMillis(10_000+d.rnd.IntN(60_000))
	default:
		step.Do, step.Kind = doSignOut, d.rnd.IntN(2)
	}
}

// tab draws an open tab.
func (d *simDraw) tab() (n int, ok bool) {
	if len(d.tabs) == 0 {
		return 0, false
	}
	return pick(d.rnd, slices.Sorted(maps.Keys(d.tabs))...), true
}

// fault draws a fault of the script's weather. It returns false if the weather has none.
func (d *simDraw) fault(step *simStep) bool {
	weather := d.weather
	if weather == simEverything {
		weather = pick(d.rnd, simLossy, simDrops, simCuts, simBlocks, simDeaths, simLogs)
	}
	switch *step = (simStep{After: step.After, Node: step.Node}); weather {
	case simLossy:
		step.Do = doWeather
		step.Faults = &simWeather{Loss: d.rnd.Float64() * 0.5, Duplicates: d.rnd.Float64() * 0.3}
	case simDrops:
		step.Do = doWeather
		step.Faults = &simWeather{Loss: d.rnd.Float64(), LossesInRow: 1, Duplicates: d.rnd.Float64() * 0.3}
	case simLogs:
		if step.Do = doWeather; d.rnd.IntN(6) == 0 {
			step.Do = doEpoch
		}
		step.Faults = &simWeather{EntryLoss: d.rnd.Float64() * 0.3, AppendTimeouts: d.rnd.Float64() * 0.3,
			ReadFaults: d.rnd.Float64() * 0.3, TableLag: simMillis(d.rnd.IntN(2000))}
	case simCuts:
		if step.Do = pick(d.rnd, doCut, doMend, doMend, doFreeze, doThaw, doThaw, doBlock); step.Do == doBlock {
			d.block(step)
		}
	case simBlocks:
		d.block(step)
	case simDeaths:
		d.death(step)
	case simClocks:
		step.Do, step.For = doStep, pick(d.rnd, simMillis(-3_600_000), 3_600_000)
	default:
		return false
	}
	return true
}

// block draws a time in which publications block.
func (d *simDraw) block(step *simStep) {
	step.Do, step.For, step.Kind = doBlock, simMillis(200+d.rnd.IntN(2800)), d.rnd.IntN(2)
}

// death draws the end or the start of a node.
func (d *simDraw) death(step *simStep) {
	if d.ended[step.Node] {
		step.Do = doStart
	} else {
		step.Do = pick(d.rnd, doCrash, doStop)
	}
	d.ended[step.Node] = !d.ended[step.Node]
}
