package socket

import "testing"

// ReadPulse runs for every connection, including idle ones. Nothing else allocates on a quiet
// server.
func TestReadPulseDoesNotAllocate(t *testing.T) {
	own, _ := pair(t)
	if _, err := own.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	Of(own).Control(func(fd uintptr) {
		var p Pulse
		if n := testing.AllocsPerRun(100, func() { p = ReadPulse(fd) }); n != 0 {
			t.Errorf("got %v allocations per call, want 0", n)
		}
		if p.Written != 5 {
			t.Errorf("got %+v, want 5 bytes written", p)
		}
	})
}
