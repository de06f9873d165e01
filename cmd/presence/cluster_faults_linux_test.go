package main

// The tests in this file run presence nodes and NATS servers as processes, and make them fail. The
// full durations need PRESENCE_TEST_LONG=1 (make test-long).

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startFaultNode starts node i with the given NATS servers.
func startFaultNode(t *testing.T, i int, urls []string, replicas int, args ...string) *clusterNode {
	t.Helper()
	n := &clusterNode{t: t}
	args = append(args, fmt.Sprintf("--nats-replicas=%d", replicas), fmt.Sprintf("--listen=127.0.1.%d:0", i+1), "--message-rate=0")
	for _, url := range urls {
		args = append(args, "--nats="+url)
	}
	n.process, n.log, n.addr = serveProcess(t, args...)
	go func() { // ends when the log is closed
		for range n.log.next { // otherwise a long log blocks the process
		}
	}()
	n.awaitReady()
	return n
}

func natsURLs(servers []*natsNode) (urls []string) {
	for _, s := range servers {
		urls = append(urls, s.url())
	}
	return urls
}

// logs prints the logs of nodes if the test has failed.
func logs(t *testing.T, nodes ...*clusterNode) {
	t.Cleanup(func() {
		if t.Failed() {
			for i, n := range nodes {
				t.Logf("node %d, %s:\n%s", i, n.addr, n.log)
			}
		}
	})
}

// A node that is killed is out of the counts of the other nodes within 6 s, and its users leave with
// reason node. A node that is paused is right within 3 s after it continues.
func TestFaultNode(t *testing.T) {
	t.Parallel()
	heavy(t)
	pause := sized(7*time.Second, 7*time.Second, 15*time.Second)
	servers := startNATSNodes(t, 1)
	var nodes []*clusterNode
	var clients [][]*bookClient
	b := newBook(t, "faults")
	for i := range 3 {
		nodes = append(nodes, startFaultNode(t, i, natsURLs(servers), 1))
		clients = append(clients, b.clients(4, fmt.Sprintf("n%d", i), nodes[i].addr))
	}
	logs(t, nodes...)
	both := b.client("both-0", "both", nodes[0].addr) // its user is on two nodes
	all := append(append(append([]*bookClient{both}, clients[0]...), clients[1]...), clients[2]...)
	all = append(all, b.client("both-1", "both", nodes[1].addr))
	idle(t, func() { b.quiet("start", all, time.Now(), patience) })
	posting := b.post(20, anyOf(nodes[1].addr, nodes[2].addr))

	rest := all[5:]
	sendSignal(t, nodes[0].process, unix.SIGKILL)
	killed := time.Now()
	idle(t, func() {
		b.awaitView("node killed", rest, len(rest), users(rest), killed, 6*time.Second)
	})
	for _, c := range rest {
		c.mu.Lock()
		for _, gone := range clients[0] {
			if got := c.left[gone.user]; got != "node" {
				t.Errorf("client %s: user %s left with reason %q, want node", c.name, gone.user, got)
			}
		}
		if got, left := c.left["both"]; left {
			t.Errorf("client %s: user both left with reason %q, but has a connection", c.name, got)
		}
		c.mu.Unlock()
	}
	for i, c := range all[:5] {
		c.move(nodes[1+i%2].addr)
	}
	idle(t, func() { b.quiet("clients resumed on other nodes", all, time.Now(), 5*time.Second) })

	sendSignal(t, nodes[1].process, unix.SIGSTOP)
	paused := time.Now()
	var other []*bookClient
	for _, c := range all {
		if c.addr == nodes[2].addr {
			other = append(other, c)
		}
	}
	idle(t, func() {
		b.awaitView("node paused", other, len(other), users(other), paused, 6*time.Second)
		until(t, paused.Add(pause))
	})
	sendSignal(t, nodes[1].process, unix.SIGCONT)
	idle(t, func() { b.quiet("node continued", all, time.Now(), 3*time.Second) })
	posting.end()
	idle(t, func() { until(t, time.Now().Add(2*time.Second)) })
	if r := b.check(); r.Resets > 0 || r.Epochs != 1 {
		t.Errorf("got %d resets and %d epochs, want no reset and one epoch", r.Resets, r.Epochs)
	}
}
