package hub

import (
	"context"
	"encoding/json"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// retryTime is the time between two attempts of an update.
const retryTime = 50 * time.Millisecond

// Update replaces the info of a member until the member leaves. info must be one compact JSON
// value. The error is [ErrNotInRoom], [ErrOverloaded], [ErrDraining], or a backplane error. After a
// backplane error the info may have been replaced.
//
// An update that has succeeded wins over every earlier one that has, whichever nodes were asked,
// because
//
//   - all its records have one version, its stamp: a node with a higher record does not change it,
//     and reports its version. Then Update starts again with a higher stamp;
//   - it succeeds only when all live nodes have answered. So every node has seen the stamp, and
//     draws higher ones from then on; and
//   - a command that is repeated or late changes nothing, because a later update has a higher
//     stamp.
//
// Therefore Update waits for all live nodes, although one of them is enough to find the user.
//
// A node that has just started may need a few attempts. If a record has a counter that this node
// cannot exceed, which no node uses by itself, Update returns [backplane.ErrUnavailable].
func (h *Hub) Update(ctx context.Context, name room.Name, user room.UserID, info json.RawMessage) error {
	if h.closing.Load() {
		return ErrDraining
	}
	if err := h.Overloaded(name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, commandTime, backplane.ErrUnavailable) // for all attempts
	defer cancel()
	for {
		found, draining, overtaken, unreached := false, false, false, false
		stamp := h.stamp()
		if stamp.Counter >= maxCounter { // the next stamp would not be higher
			return backplane.ErrUnavailable
		}
		err := h.ask(ctx, command{Update: &update{memberID{name, user}, info, stamp}}, func(a answer) bool {
			found, draining = found || a.Found, draining || a.Draining
			if a.Record.Compare(stamp) > 0 {
				overtaken = true
				unreached = unreached || !h.witness(a.Record.Counter)
			}
			return overtaken
		})
		switch {
		case err != nil:
			return err
		case !found && draining: // the user reconnects to another node
			return backplane.ErrUnavailable
		case !found:
			return ErrNotInRoom
		case !overtaken:
			return nil
		case unreached:
			return backplane.ErrUnavailable
		}
		pause(ctx, h.config.Clock, retryTime)
	}
}

// stamp returns the version of a new record. A node without peers needs none.
func (h *Hub) stamp() room.Version {
	if !h.isShared() {
		return room.Version{}
	}
	return h.peers.stamp()
}
