package stream

import (
	"encoding/binary"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// bell is how a goroutine that has work all the time lets others run, those included that wait for
// the network. [runtime.Gosched] runs those alone that are ready: the scheduler asks the network
// when it has nothing else to run, or every 10 ms, and so late a request would be seen while each
// core has a loop in a long pass. The bell is a descriptor that the network poller watches and that
// is rung before the goroutine waits for it: it goes on when the network has been asked.
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

// yield returns when the network was asked, and what was ready has run. Each write is an event for
// the poller, though nobody reads; the counter of 64 bits does not end.
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
