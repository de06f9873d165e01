package hub

import (
	"context"
	"maps"
	"sync"
	"time"

	"example.com/presence/pkg/presence/room"
)

const (
	// pullTime is how long a pull waits for the answers of the peers.
	pullTime = time.Second
	// maxPieces is the maximum number of pieces of one part.
	maxPieces = 4096
	// partTime is how long the first attempt of a pull reads the pieces of a part. Each further
	// attempt has twice the time, up to maxPartTime: a large part may need it if the way to its
	// node is long. A room waits for the slowest part before it uses the others.
	partTime    = 5 * time.Second
	maxPartTime = 40 * time.Second
)

// pullTimes are the times between the attempts of a pull that has failed.
var pullTimes = []time.Duration{100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}

// pull reads the stale parts of a room from its peers until none is stale, or no peer with a stale
// part lives. A peer that does not answer is asked again. A hub that shuts down ends its pulls.
// pull does not block.
func (h *Hub) pull(l *live) {
	go func() { // ends with the peers, with the room, or when no part is stale
		defer h.running.Done()
		for attempt := 0; ; attempt++ {
			nodes := l.toPull(h.stopping.Err() != nil)
			if len(nodes) == 0 {
				return
			}
			answers := h.readParts(l.name, nodes, min(partTime<<min(attempt, 3), maxPartTime))
			h.note(l, l.pulled(nodes, answers))
			if len(answers) == len(nodes) {
				attempt = 0
			}
			pause(h.stopping, h.config.Clock, pullTimes[min(attempt, len(pullTimes)-1)])
		}
	}()
}

// readParts asks the nodes for their parts of a room, and returns the parts that it has read
// completely. It ends when all of these nodes have answered, or after pullTime; a part in pieces
// may take longer, up to the time long. The request is repeated once, and the caller repeats the
// pull of a part that it lacks.
//
// If the list is nil, a client waits. Then the live peers must answer, the request is repeated
// twice, and the further pieces must arrive within pullTime too. If this node does not know all its
// peers yet, it waits for the whole time.
func (h *Hub) readParts(name room.Name, nodes []room.NodeID, long time.Duration) map[room.NodeID]*pulledPart {
	rest, cancelRest := context.WithTimeout(h.stopping, long)
	defer cancelRest()
	ctx, cancel := context.WithTimeout(rest, pullTime)
	defer cancel()
	again := repeatedAt[:1]
	if nodes == nil {
		rest, again = ctx, repeatedAt
	}
	parts := map[room.NodeID]*pulledPart{}
	var reading sync.WaitGroup
	h.askParts(ctx, partsOf{Room: name}, nodes, again, func(a answer) bool {
		if a.Part != nil && a.From != h.node && parts[a.From] == nil {
			part := &pulledPart{}
			part.add(*a.Part, h.config.Clock.Now())
			parts[a.From] = part
			reading.Go(func() { h.readPieces(rest, name, a.From, part, again) }) // does not wait for other nodes
		}
		return true
	})
	reading.Wait()
	maps.DeleteFunc(parts, func(_ room.NodeID, part *pulledPart) bool { return part.more || part.failed })
	return parts
}

// readPieces reads the further pieces of a part. It ends when a piece does not arrive within
// pullTime, or when ctx ends, and the part then has more. It also ends when the part has failed.
func (h *Hub) readPieces(ctx context.Context, name room.Name, node room.NodeID, part *pulledPart, again []time.Duration) {
	for range maxPieces {
		if !part.more {
			break
		}
		arrived := false
		once, cancel := context.WithTimeout(ctx, pullTime)
		h.askParts(once, partsOf{Room: name, After: part.after()}, []room.NodeID{node}, again, func(a answer) bool {
			if a.Part == nil || a.From != node {
				return true
			}
			part.add(*a.Part, h.config.Clock.Now())
			arrived = true
			return false
		})
		cancel()
		if !arrived {
			break
		}
	}
	h.witness(highest(part.entries))
}
