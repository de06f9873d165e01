package hub

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// poll asks nodes a command until each of them has answered. All fields but command and each are
// optional.
type poll struct {
	command command
	topic   room.Name     // of the request; the zero value: all nodes. Repeats to known nodes go to all nodes.
	nodes   []room.NodeID // the nodes that must answer; nil: all live nodes
	// listed returns the nodes that must answer, once one has answered. If it is set, nodes is nil.
	listed func() []room.NodeID
	again  []time.Duration // times since the start at which the command is repeated
	// each handles an answer. The answer counts if ok is set; otherwise the node must answer again.
	// If enough is set, the poll ends. each is called once for each node whose answer counts.
	each func(answer) (ok, enough bool)
}

// run runs the poll on a cluster. It ends when an answer is enough, when no answer is missing, when
// the topic has no subscription that could answer, or when ctx ends. isComplete reports that one of
// the first three is the case, or that ctx has ended and every node that this node knows has
// answered.
//
// A node that does not know all its peers yet cannot know whether an answer is missing. It waits
// until it does, or until ctx ends.
func (p poll) run(ctx context.Context, h *Hub) (isComplete bool, err error) {
	var asks sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer asks.Wait() // each ask ends with ctx
	defer cancel()
	answers, ended := make(chan answer), make(chan error)
	answered, again := map[room.NodeID]bool{}, append([]time.Duration{0}, p.again...)
	for start := time.Now(); ; {
		missing, settled := p.missing(h, answered)
		if len(missing) == 0 && settled {
			return true, nil
		}
		if len(again) > 0 && time.Since(start) >= again[0] {
			again = again[1:]
			topic, known := p.topic, p.nodes != nil || settled && len(answered) > 0
			if known {
				p.command.Of = missing
			}
			if known && time.Since(start) >= repeatedAt[0] {
				topic = backplane.Nodes // the nodes may have dropped the room, or are just opening it
			}
			request, err := p.command.encode()
			if err != nil {
				return false, err
			}
			asks.Go(func() { h.askOnce(ctx, topic, request, answers, ended) })
		}
		select {
		case a := <-answers:
			if answered[a.From] {
				continue
			}
			ok, enough := p.each(a)
			if enough {
				return true, nil
			}
			if ok {
				answered[a.From] = true
			}
		case err := <-ended:
			switch {
			case errors.Is(err, backplane.ErrNoSubscription) && p.nodes != nil: // the repeat goes to all nodes
			case errors.Is(err, backplane.ErrNoSubscription) && p.topic != backplane.Nodes:
				return true, nil
			case errors.Is(err, backplane.ErrNoSubscription): // not even this node receives the requests
				return false, backplane.ErrUnavailable
			case err != nil:
				return false, engineError(err)
			}
		case <-time.After(pollTime):
		case <-ctx.Done():
			return len(missing) == 0 && (settled || p.listed == nil), nil
		}
	}
}

// missing returns the nodes that must still answer. settled reports whether there can be no other.
func (p poll) missing(h *Hub, answered map[room.NodeID]bool) (nodes []room.NodeID, settled bool) {
	nodes, settled = p.nodes, true
	if p.listed != nil {
		nodes, settled = p.listed(), len(answered) > 0
	} else if nodes == nil {
		nodes, settled = h.peers.live(), h.peers.settled(h.config.Clock.Now())
		if !h.closing.Load() { // a node that closes may not answer any more
			nodes = append(nodes, h.node)
		}
	}
	missing := make([]room.NodeID, 0, len(nodes))
	for _, node := range nodes {
		if !answered[node] {
			missing = append(missing, node)
		}
	}
	return missing, settled
}

// askOnce asks the nodes of a topic, and passes on each answer until ctx ends. If the call ends
// before, askOnce passes on its error. An answer renews the lease of its node.
func (h *Hub) askOnce(ctx context.Context, topic room.Name, request []byte, answers chan<- answer, ended chan<- error) {
	err := h.config.Bus.Ask(ctx, topic, request, func(data []byte) (more bool) {
		a, err := parseAnswer(data)
		if err != nil {
			h.warnFrame(err)
			return true
		}
		if a.From != h.node && !h.renew(a.From, "", h.config.Clock.Now()) {
			return true
		}
		select {
		case answers <- a:
			return true
		case <-ctx.Done():
			return false
		}
	})
	select {
	case ended <- err:
	case <-ctx.Done():
	}
}

// askParts asks nodes for pieces of the parts of a room, at once and at the times in again, and
// calls each once for every node that answers. It ends when each returns false, when these nodes
// have answered, when no node has the room, or when ctx ends.
func (h *Hub) askParts(ctx context.Context, of partsOf, nodes []room.NodeID, again []time.Duration, each func(answer) (more bool)) {
	c := command{V: frameVersion, From: h.node, Parts: &of}
	poll{command: c, topic: of.Room, nodes: nodes, again: again,
		each: func(a answer) (ok, enough bool) { return true, !each(a) }}.run(ctx, h)
}

// ask sends the command to all nodes, including this one, and calls each once for every node that
// answers. It returns when all live nodes have answered or when an answer is enough. The error is
// [backplane.ErrUnavailable] if a live node has not answered within commandTime, or if this node is
// cut off.
func (h *Hub) ask(ctx context.Context, c command, each func(answer) (enough bool)) error {
	c.V, c.From = frameVersion, h.node
	if !h.isShared() {
		return h.askSelf(ctx, c, each)
	}
	if h.isCut() {
		return backplane.ErrUnavailable
	}
	ctx, cancel := context.WithTimeoutCause(ctx, commandTime, backplane.ErrUnavailable)
	defer cancel()
	p := poll{command: c, again: repeatedAt, each: func(a answer) (ok, enough bool) { return true, each(a) }}
	isComplete, err := p.run(ctx, h)
	switch {
	case err != nil || isComplete && !h.isCut():
		return err
	case isComplete:
		return backplane.ErrUnavailable
	}
	return context.Cause(ctx)
}

// askSelf sends the command to this node, which is alone on the backplane.
func (h *Hub) askSelf(ctx context.Context, c command, each func(answer) (enough bool)) error {
	request, err := c.encode()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	answered := false
	err = h.config.Bus.Ask(ctx, backplane.Nodes, request, func(data []byte) (more bool) {
		var a answer
		if json.Unmarshal(data, &a) != nil {
			return true
		}
		answered = true
		return !each(a)
	})
	if err == nil && !answered {
		err = backplane.ErrUnavailable
	}
	return engineError(err)
}
