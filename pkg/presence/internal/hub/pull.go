package hub

import (
	"context"
	"maps"
	"slices"
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
			release := h.pulls.take() // before toPull, which holds the frames of the peers
			nodes := l.toPull(h.stopping.Err() != nil)
			if len(nodes) == 0 {
				release()
				return
			}
			answers := h.readParts(l.name, nodes, min(partTime<<min(attempt, 3), maxPartTime))
			release()
			h.note(l, l.pulled(nodes, answers))
			if len(answers) == len(nodes) {
				attempt = 0
			}
			pause(h.stopping, h.config.Clock, pullTimes[min(attempt, len(pullTimes)-1)])
		}
	}()
}

// readParts asks the nodes for their parts of a room, and returns the parts that it has
// read completely. It ends when all of these nodes have answered, or after pullTime; a part in
// pieces may take longer, up to the time long. The request is repeated once, and the caller repeats
// the pull of a part that it lacks.
func (h *Hub) readParts(name room.Name, nodes []room.NodeID, long time.Duration) map[room.NodeID]*pulledPart {
	rest, cancelRest := context.WithTimeout(h.stopping, long)
	defer cancelRest()
	ctx, cancel := context.WithTimeout(rest, pullTime)
	defer cancel()
	r := partsReader{hub: h, name: name, again: repeatedAt[:1], parts: map[room.NodeID]*pulledPart{}}
	h.askParts(ctx, partsOf{Room: name}, nodes, r.again, func(a answer) bool {
		r.add(rest, a)
		return true
	})
	return r.wait()
}

// readRoom asks the nodes that have the room for their parts, because the first client of the room
// waits. Only they receive the request. Each answer lists the other nodes that have the room, so
// readRoom ends when all of these have answered, when the engine reports that no node has the room,
// or after pullTime. The request is repeated twice, to all nodes if a listed node has not answered:
// it may have dropped the room, or may be opening it too.
//
// missing are the live peers that may have a part and have not answered: the listed ones, or all if
// none has answered. A peer that has missed two heartbeats is missing as well: while it has no
// contact, the engine does not know that it has the room.
func (h *Hub) readRoom(name room.Name) (parts map[room.NodeID]*pulledPart, missing []room.NodeID) {
	ctx, cancel := context.WithTimeout(h.stopping, pullTime)
	defer cancel()
	r := partsReader{hub: h, name: name, again: repeatedAt, parts: map[room.NodeID]*pulledPart{}}
	listed := map[room.NodeID]bool{}
	live := func() []room.NodeID {
		return slices.DeleteFunc(h.peers.live(), func(node room.NodeID) bool { return !listed[node] })
	}
	whole, _ := poll{
		command: command{V: frameVersion, From: h.node, Parts: &partsOf{Room: name}},
		topic:   name, again: repeatedAt, listed: live,
		each: func(a answer) (ok, enough bool) {
			if a.From == h.node { // the room was dropped, and its subscription has not ended yet
				return false, false
			}
			r.add(ctx, a)
			if a.Part != nil {
				listed[a.From] = true
				for _, node := range a.Part.Peers {
					listed[node] = true
				}
			}
			return true, false
		},
	}.run(ctx, h)
	parts = r.wait()
	switch {
	case len(listed) > 0:
		missing = live()
	case !whole:
		missing = h.peers.live()
	}
	missing = slices.Concat(missing, h.peers.silent(h.config.Clock.Now()))
	slices.Sort(missing)
	missing = slices.Compact(missing)
	return parts, slices.DeleteFunc(missing, func(node room.NodeID) bool { return parts[node] != nil })
}

// partsReader reads the parts of a room from the answers of its nodes.
type partsReader struct {
	hub     *Hub
	name    room.Name
	again   []time.Duration // times at which the request for a further piece is repeated
	parts   map[room.NodeID]*pulledPart
	reading sync.WaitGroup
}

// add begins to read the part of a node with its first piece. It does not wait: each node is read
// for itself.
func (r *partsReader) add(ctx context.Context, a answer) {
	if a.Part == nil || a.From == r.hub.node || r.parts[a.From] != nil {
		return
	}
	part := &pulledPart{}
	part.add(*a.Part, r.hub.config.Clock.Now())
	r.parts[a.From] = part
	r.reading.Go(func() { r.hub.readPieces(ctx, r.name, a.From, part, r.again) })
}

// wait returns the parts that were read completely.
func (r *partsReader) wait() map[room.NodeID]*pulledPart {
	r.reading.Wait()
	maps.DeleteFunc(r.parts, func(_ room.NodeID, part *pulledPart) bool { return part.more || part.failed })
	return r.parts
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
