package hub_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
)

func sharedMemory() *backplane.Memory {
	return backplane.NewMemory(backplane.MemoryConfig{Messages: 100, Age: time.Minute, Bytes: 1 << 20, Shared: true})
}

// Clients of all nodes of a room receive the same counts and members.
func TestNodesCountTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := sharedMemory()
		a, b := openNode(t, bus), openNode(t, bus)
		time.Sleep(2 * time.Second)
		alice := a.join("lobby", "alice", hub.Lease{}, "")
		start := time.Now()
		bob := b.join("lobby", "bob", hub.Lease{}, "")
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("join took %v", d)
		}
		fmt.Println("bob:", bob.take())
		time.Sleep(time.Second)
		fmt.Println("alice:", alice.take())
		fmt.Println("bob:", bob.take())
		bob.Drop(stream.Closed)
		time.Sleep(time.Second)
		fmt.Println("alice:", alice.take())
		time.Sleep(10 * time.Second)
		fmt.Println("alice:", alice.take())
		id := b.send("lobby", "alice", "1")
		fmt.Println("alice:", alice.take(), id)
		c := openNode(t, bus)
		bob = c.join("lobby", "bob", hub.Lease{}, "")
		fmt.Println("bob:", bob.take(), time.Since(start))
		time.Sleep(time.Second)
		fmt.Println("alice:", alice.take())
		c.Close(t.Context())
		time.Sleep(time.Second)
		fmt.Println("alice:", alice.take())
		time.Sleep(6 * time.Second)
		fmt.Println("alice:", alice.take())
	})
}
