package stream

import (
	"encoding/binary"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// bell lets other goroutines run while this one always has work, including goroutines that wait for
// the network. [runtime.Gosched] runs ready goroutines only: the scheduler polls the network when it
// has nothing else to run, or every 10 ms, which would delay each request while every core has a
// loop in a long pass. The bell is an eventfd that the runtime's network poller watches. The goroutine
// writes to it and waits for it, so it resumes only after the network was polled.
type bell struct {
	file *os.File
	raw  syscall.RawConn
	rung bool
}

func openBell() (*bell, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	b := &bell{file: os.NewFile(uintptr(fd), "eventfd")}
	if b.raw, err = b.file.SyscallConn(); err != nil {
		b.file.Close()
		return nil, err
	}
	return b, nil
}

// yield returns after the network was polled and the ready goroutines have run. The poller is
// edge-triggered: each write is an event, though the counter, of 64 bits, is never read.
func (b *bell) yield() {
	if b == nil {
		runtime.Gosched()
		return
	}
	b.rung = false
	b.raw.Read(func(fd uintptr) (done bool) {
		if b.rung {
			return true
		}
		b.rung = true
		_, err := unix.Write(int(fd), binary.NativeEndian.AppendUint64(nil, 1))
		return err != nil
	})
}

func (b *bell) close() {
	if b != nil {
		b.file.Close()
	}
}
