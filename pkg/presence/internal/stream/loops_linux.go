package stream

import (
	"cmp"
	"net"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// loops holds the loops of a process. If it is empty, each connection has its own goroutine.
type loops []*loop

// openLoops opens n loops, or fewer if the process reaches its open-file limit.
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

// tallies returns the tally of each loop.
func (ls loops) tallies() (all []*tally) {
	for _, l := range ls {
		all = append(all, &l.fanOuts.tally)
	}
	return all
}

// duplicating is held while a descriptor is duplicated. The kernel needs milliseconds to enlarge
// the descriptor table. Without the lock, each goroutine that waits for the kernel would cost a
// thread, and Go never frees threads: a burst of 15,000 joins, 200 at a time, left 130 threads.
var duplicating sync.Mutex

// direct returns a sink for a plain TCP or Unix connection. For any other connection, it returns a
// nil sink, because a type that wraps a connection may not allow direct use of its descriptor. It
// returns [ErrFull] if the process is at its open-file limit.
func (ls loops) direct(h *http1) (sink, error) {
	if len(ls) == 0 {
		return nil, nil
	}
	var raw syscall.RawConn
	var err error
	switch c := h.conn.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	default:
		return nil, nil
	}
	if err != nil {
		return nil, nil
	}
	fd := -1
	var failed error
	err = raw.Control(func(original uintptr) {
		// Duplicate the descriptor, because package net never releases its own. For a moment, the
		// connection has two descriptors.
		duplicating.Lock()
		defer duplicating.Unlock()
		fd, failed = unix.FcntlInt(original, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err != nil { // the connection was closed meanwhile
		return nil, nil
	}
	if failed != nil {
		return nil, ErrFull
	}
	smallest := slices.MinFunc(ls, func(a, b *loop) int { return cmp.Compare(a.size.Load(), b.size.Load()) })
	c := newDirect(smallest, fd, h)
	h.conn.Close() // closes the original descriptor
	return c, nil
}
