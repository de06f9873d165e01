package backplanetest

import (
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// Engine is an engine under test. Run opens one per check, without rows or messages.
type Engine struct {
	// Nodes are handles of the engine, as each node has one. At least one; the same one may be
	// there more than once.
	Nodes []backplane.Bus

	// Messages is how many entries of a room the engine was opened to keep: 5 to 100.
	Messages int

	// Recreate makes the log anew, as if its disk was lost: with another epoch, and empty.
	Recreate func()

	// Drop loses publications: of those that are sent while during runs, and of entries that are
	// appended, no subscription of Nodes[0] receives one. Calls may fail meanwhile. When Drop
	// returns, the engine has contact again.
	Drop func(during func())

	// Settle is how long nothing arrives that arrives at all. Default: 250 ms.
	Settle time.Duration

	// Patient has the checks run that wait for KeyAge. RunInBubble sets it.
	Patient bool
}
