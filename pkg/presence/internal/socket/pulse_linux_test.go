package socket

import "testing"

// Feel runs for every connection, whether anything happens or not: its garbage would be all that a
// quiet server makes.
func TestFeelDoesNotAllocate(t *testing.T) {
	own, _ := pair(t)
	if _, err := own.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	Of(own).Control(func(fd uintptr) {
		var p Pulse
		if n := testing.AllocsPerRun(100, func() { p = Feel(fd) }); n != 0 {
			t.Errorf("%v allocations per call", n)
		}
		if p.Written != 5 {
			t.Errorf("got %+v, want 5 bytes written", p)
		}
	})
}
