package uring

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// These values are from include/uapi/linux/io_uring.h of Linux.
const (
	setupSubmitAll = 1 << 7     // IORING_SETUP_SUBMIT_ALL: an invalid entry does not end a submission
	singleMap      = 1 << 0     // IORING_FEAT_SINGLE_MMAP: one mapping holds both queues
	offsetQueues   = 0          // IORING_OFF_SQ_RING
	offsetEntries  = 0x10000000 // IORING_OFF_SQES
	opSend         = 26         // IORING_OP_SEND
)

// params is struct io_uring_params.
type params struct {
	entries, results, flags, cpu, idle, features, workers uint32
	_                                                     [3]uint32
	sq                                                    struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, entry, flags, _ uint32
		_                                                    uint64
	}
}

// entry is struct io_uring_sqe of a send.
type entry struct {
	op, flags uint8
	_         uint16
	fd        int32
	_         uint64
	address   uint64
	length    uint32
	send      uint32 // MSG_ flags of send(2)
	id        uint64 // copied to the result
	_         [3]uint64
}

// result is struct io_uring_cqe.
type result struct {
	id    uint64
	value int32 // number of bytes, or a negative errno
	_     uint32
}

// queues is the memory that the process shares with the kernel: a queue of entries and a queue of
// results. The kernel uses it only during io_uring_enter(2). The number of results is at most that
// of entries, and there is room for twice as many.
type queues struct {
	fd     int
	memory [2][]byte // the mappings

	entries []entry
	tail    *uint32 // number of entries put so far; the kernel reads it

	results        []result
	head, produced *uint32 // numbers of results taken and made so far; the kernel writes produced
}

// openQueues makes queues for the given number of entries, a power of two.
func openQueues(entries int) (q *queues, err error) {
	var p params
	p.flags = setupSubmitAll
	fd, _, failed := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(&p)), 0)
	if failed != 0 {
		return nil, os.NewSyscallError("io_uring_setup", failed)
	}
	q = &queues{fd: int(fd)}
	defer func() {
		if err != nil {
			q.close()
		}
	}()
	if p.features&singleMap == 0 {
		return nil, fmt.Errorf("io_uring_setup: the kernel is too old: features %#x", p.features)
	}
	size := max(uintptr(p.sq.array)+uintptr(p.entries)*unsafe.Sizeof(uint32(0)),
		uintptr(p.cq.entry)+uintptr(p.results)*unsafe.Sizeof(result{}))
	for i, m := range []struct{ offset, size uintptr }{{offsetQueues, size}, {offsetEntries, uintptr(p.entries) * unsafe.Sizeof(entry{})}} {
		q.memory[i], err = unix.Mmap(q.fd, int64(m.offset), int(m.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			return nil, os.NewSyscallError("mmap", err)
		}
	}
	at := func(offset uint32) unsafe.Pointer { return unsafe.Pointer(&q.memory[0][offset]) }
	q.tail, q.head, q.produced = (*uint32)(at(p.sq.tail)), (*uint32)(at(p.cq.head)), (*uint32)(at(p.cq.tail))
	q.results = unsafe.Slice((*result)(at(p.cq.entry)), p.results)
	q.entries = unsafe.Slice((*entry)(unsafe.Pointer(&q.memory[1][0])), p.entries)
	indexes := unsafe.Slice((*uint32)(at(p.sq.array)), p.entries) // the kernel takes the entries in this order
	for i := range indexes {
		indexes[i] = uint32(i)
		q.entries[i] = entry{op: opSend, send: unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL}
	}
	return q, nil
}

// put adds a send to the queue of entries, which must have space. The caller keeps b reachable
// until the kernel has handled the entry.
func (q *queues) put(fd int32, b []byte, id int) {
	tail := *q.tail // only this process writes it
	e := &q.entries[tail%uint32(len(q.entries))]
	e.fd, e.id, e.length = fd, uint64(id), uint32(len(b))
	e.address = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	atomic.StoreUint32(q.tail, tail+1)
}

// retract removes the last n entries, which the kernel has not taken.
func (q *queues) retract(n int) { atomic.StoreUint32(q.tail, *q.tail-uint32(n)) }

// take removes the next result.
func (q *queues) take() (r result, ok bool) {
	head := *q.head // only this process writes it
	if head == atomic.LoadUint32(q.produced) {
		return result{}, false
	}
	r = q.results[head%uint32(len(q.results))]
	atomic.StoreUint32(q.head, head+1)
	return r, true
}

func (q *queues) close() {
	for _, m := range q.memory {
		if m != nil {
			unix.Munmap(m)
		}
	}
	unix.Close(q.fd)
}

// enter makes the kernel handle the next n entries of the queues with the descriptor fd. It returns
// the number of entries that the kernel has taken. It does not wait for results.
func enter(fd, n int) (taken int, err error) {
	r, _, failed := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(fd), uintptr(n), 0, 0, 0, 0)
	if failed != 0 {
		return 0, failed
	}
	return int(r), nil
}
