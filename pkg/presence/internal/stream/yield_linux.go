package stream

import (
	"encoding/binary"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// yielder lets other goroutines run while its own goroutine always has work. This includes
// goroutines that wait for the network. [runtime.Gosched] is not enough, because it runs only
// goroutines that are ready. The scheduler polls the network if it has nothing else to run, or
// every 10 ms. Without a yielder, each request would be delayed while every core runs a loop in a
// long fan-out.
//
// A yielder is an eventfd that the runtime's network poller watches. The goroutine writes to the
// eventfd and waits for it, so that it resumes only after the network was polled.
type yielder struct {
	file    *os.File
	raw     syscall.RawConn
	written bool
}

func openYielder() (*yielder, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	y := &yielder{file: os.NewFile(uintptr(fd), "eventfd")}
	if y.raw, err = y.file.SyscallConn(); err != nil {
		y.file.Close()
		return nil, err
	}
	return y, nil
}

// yield returns after the network was polled and the ready goroutines have run. The poller is
// edge-triggered, so each write is an event, although the 64-bit counter is never read. A nil
// yielder only runs the ready goroutines.
func (y *yielder) yield() {
	if y == nil {
		runtime.Gosched()
		return
	}
	y.written = false
	y.raw.Read(func(fd uintptr) (done bool) {
		if y.written {
			return true
		}
		y.written = true
		_, err := unix.Write(int(fd), binary.NativeEndian.AppendUint64(nil, 1))
		return err != nil
	})
}

func (y *yielder) close() {
	if y != nil {
		y.file.Close()
	}
}
