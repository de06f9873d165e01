package backplanetest

import (
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// Engine describes an engine under test. Each check uses a new engine without rows or messages.
type Engine struct {
	// Nodes contains the handles of the engine, one per node. At least one handle is required; a
	// handle may be repeated.
	Nodes []backplane.Bus

	// Messages is the number of entries per room that the engine is configured to keep, from 5 to
	// 100.
	Messages int

	// Recreate replaces the log with an empty one under a new epoch, as if the engine had lost its
	// disk. Required.
	Recreate func()

	// Drop simulates a lost connection: publications that are sent and entries that are appended
	// while during runs do not reach the subscriptions of Nodes[0]. Calls may fail meanwhile. When
	// Drop returns, the engine is connected again. Required.
	Drop func(during func())

	// Late reports that the servers of the engine learn of a subscription at different times. It
	// may then miss entries and publications for a moment after Subscribe has returned. The checks
	// send probes first, until the subscription receives one.
	Late bool

	// Settle is the time that a check waits before it concludes that nothing more will arrive.
	// Default: 250 ms.
	Settle time.Duration

	// Patient enables the checks that wait for KeyAge. RunInBubble sets it.
	Patient bool
}
