package stream

import (
	"cmp"
	"net"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// loops are the loops of a process. Without any, connections have goroutines.
type loops []*loop

// openLoops opens n loops, or fewer if the process has no descriptor left.
func openLoops(n int, r *resources) (ls loops) {
	for range n {
		if l, err := openLoop(r); err == nil {
			ls = append(ls, l)
		}
	}
	return ls
}

func (ls loops) close() {
	for _, l := range ls {
		l.close()
	}
}

// duplicating is held while a descriptor is duplicated. The kernel needs milliseconds to enlarge
// the table of descriptors, and each goroutine that waits for it would hold a thread, for ever: 130
// in a storm of 15,000 joins, 200 at a time.
var duplicating sync.Mutex

// direct returns a sink for a connection that is TCP and nothing else: a type around one may not
// allow its descriptor to be used. It returns nil for any other, and [ErrFull] without a
// descriptor.
func (ls loops) direct(h *http1) (sink, error) {
	tcp, ok := h.conn.(*net.TCPConn)
	if !ok || len(ls) == 0 {
		return nil, nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, nil
	}
	fd := -1
	var failed error
	err = raw.Control(func(original uintptr) {
		// For a moment there are two: net gives no descriptor away.
		duplicating.Lock()
		defer duplicating.Unlock()
		fd, failed = unix.FcntlInt(original, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err != nil { // it was closed meanwhile
		return nil, nil
	}
	if failed != nil {
		return nil, ErrFull
	}
	smallest := slices.MinFunc(ls, func(a, b *loop) int { return cmp.Compare(a.size.Load(), b.size.Load()) })
	c := newDirect(smallest, fd, h)
	h.conn.Close() // the first of the two
	return c, nil
}
