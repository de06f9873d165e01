//go:build unix

package load

import "syscall"

// smallBuffer limits the receive buffer of a socket to slowBuffer, before it connects.
func smallBuffer(_, _ string, socket syscall.RawConn) error {
	var err error
	if failed := socket.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, slowBuffer)
	}); failed != nil {
		return failed
	}
	return err
}
