package socket

import "testing"

// ReadLiveness must not allocate, because it runs for every connection, including idle ones. It
// would be the only allocation of an idle server.
func TestReadLivenessDoesNotAllocate(t *testing.T) {
	own, _ := pair(t)
	if _, err := own.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	Of(own).Control(func(fd uintptr) {
		var p Liveness
		if n := testing.AllocsPerRun(100, func() { p = ReadLiveness(fd) }); n != 0 {
			t.Errorf("got %v allocations per call, want 0", n)
		}
		if p.Written != 5 {
			t.Errorf("got %+v, want 5 bytes written", p)
		}
	})
}
