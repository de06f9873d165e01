package uring

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Send is a send to one socket.
type Send struct {
	Socket int32  // descriptor
	Bytes  []byte // at least one

	// Ring.Send sets the fields below.

	N   int   // number of bytes that the socket accepted, 0 if it is full; or NotSent, Failed or Unknown
	Err error // with Failed: the error of write(2), such as ECONNRESET. A socket reports it only once.
}

// Values of Send.N.
const (
	NotSent = -1 // the kernel has not tried the send, for example because it has no memory; use write
	Failed  = -2 // the socket returned Err and accepted no byte
	Unknown = -3 // the ring has failed, and the socket may have accepted bytes
)

// Enter makes the kernel handle the next entries of a ring. It returns the number of entries taken.
// Tests replace it to inject faults.
type Enter func(ring, entries int) (taken int, err error)

// Ring is an instance of io_uring(7). It must be used by one goroutine at a time.
type Ring struct {
	queues *queues
	enter  Enter
	sends  []Send // of the current call of Send; keeps their bytes reachable
}

// Open makes a ring, and tests it with sends to a socket of its own. entries is the largest number
// of sends for one system call, a power of two up to 32,768. replaced is used in place of
// io_uring_enter(2) after that; it is nil except in tests.
func Open(entries int, replaced Enter) (*Ring, error) {
	q, err := openQueues(entries)
	if err != nil {
		return nil, err
	}
	r := &Ring{queues: q, enter: enter}
	if err := r.test(); err != nil {
		r.Close()
		return nil, err
	}
	if replaced != nil {
		r.enter = replaced
	}
	return r, nil
}

// test sends until a socket is full. Each result must be that of a write.
func (r *Ring) test() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 1)
	sends := []Send{{Socket: int32(pair[0]), Bytes: make([]byte, 1)}}
	for range 1000 {
		if err := r.Send(sends); err != nil {
			return err
		}
		if sends[0].N != 1 {
			break
		}
	}
	if sends[0].N != 0 {
		return fmt.Errorf("io_uring: send to a full socket returned %d, want 0", sends[0].N)
	}
	return nil
}

// Close closes the ring. Further calls of Close do nothing.
func (r *Ring) Close() {
	if r.queues != nil {
		r.queues.close()
		r.queues = nil
	}
}

// retries is the maximum number of system calls in a row in which the kernel takes no entry.
const retries = 3

// Send sends to each socket, in this order, and sets Send.N. It does not block. The error is not
// nil if the ring has failed. The caller must then close the ring, and end each connection whose
// result is Unknown, with shutdown(2), because the kernel may still hold the send.
func (r *Ring) Send(sends []Send) error {
	r.sends = sends
	defer func() { r.sends = nil }()
	for i := range sends {
		sends[i].N, sends[i].Err = NotSent, nil
	}
	for done, idle := 0, 0; done < len(sends) && idle <= retries; {
		n := min(len(sends)-done, len(r.queues.entries))
		for i := done; i < done+n; i++ {
			r.queues.put(sends[i].Socket, sends[i].Bytes, i)
		}
		taken, err := r.enter(r.queues.fd, n)
		if taken < 0 || taken > n {
			r.unknown(done, n)
			return fmt.Errorf("%w: %d of %d", errCount, taken, n)
		}
		r.queues.retract(n - taken)
		if err := r.results(done, taken); err != nil {
			return err
		}
		switch err {
		case nil, unix.EINTR:
		case unix.EAGAIN, unix.EBUSY, unix.ENOMEM:
			return nil // the kernel has no memory at the moment
		default:
			return os.NewSyscallError("io_uring_enter", err)
		}
		if done += taken; taken == 0 {
			idle++
		} else {
			idle = 0
		}
	}
	return nil
}

// results reads the results of n sends that the kernel has taken. It returns an error unless each
// of these sends has one valid result.
func (r *Ring) results(first, n int) error {
	taken := r.unknown(first, n)
	for range n {
		res, ok := r.queues.take()
		if !ok {
			return errIncomplete
		}
		i := res.id - uint64(first)
		if i >= uint64(n) || taken[i].N != Unknown || int(res.value) > len(taken[i].Bytes) {
			return fmt.Errorf("io_uring: result %d for send %d, one of %d from %d", res.value, res.id, n, first)
		}
		taken[i].N = int(res.value)
		if res.value < 0 {
			taken[i].N, taken[i].Err = failure(unix.Errno(-res.value))
		}
	}
	return nil
}

// failure returns Send.N and Send.Err for the error of a send.
func failure(errno unix.Errno) (int, error) {
	switch errno {
	case unix.EAGAIN:
		return 0, nil
	case unix.EINTR, unix.ENOMEM, unix.ENOBUFS, unix.EINVAL, unix.EOPNOTSUPP, unix.ECANCELED: // not of the socket
		return NotSent, nil
	}
	return Failed, errno
}

// unknown returns n sends, and sets their results to Unknown.
func (r *Ring) unknown(first, n int) []Send {
	sends := r.sends[first : first+n]
	for i := range sends {
		sends[i].N = Unknown
	}
	return sends
}

var (
	// errIncomplete means that the kernel has not finished a send during the system call.
	errIncomplete = errors.New("io_uring_enter: a send has no result")
	// errCount means that the kernel has taken an impossible number of entries.
	errCount = errors.New("io_uring_enter: wrong number of entries")
)
