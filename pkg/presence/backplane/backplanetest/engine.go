package backplanetest

import (
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// Engine is an engine under test. Run opens one per check, without rows or messages.
type Engine struct {
	// Nodes are handles of the engine, one per node. At least one; a handle may be repeated.
	Nodes []backplane.Bus

	// Messages is the number of entries per room that the engine is configured to keep: 5 to 100.
	Messages int

	// Recreate replaces the log with an empty one under another epoch, as if its disk was lost.
	// Required.
	Recreate func()

	// Drop simulates a lost connection: no subscription of Nodes[0] receives a publication or an
	// entry that is sent or appended while during runs. Calls may fail meanwhile. When Drop
	// returns, the engine is connected again. Required.
	Drop func(during func())

	// Settle is the time to wait before a check concludes that nothing more arrives. Default: 250
	// ms.
	Settle time.Duration

	// Patient runs the checks that wait for KeyAge too. RunInBubble sets it.
	Patient bool
}
