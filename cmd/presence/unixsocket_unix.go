//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxPath is the maximum length of the path of a Unix socket, in bytes. A zero byte follows it.
const maxPath = len(unix.RawSockaddrUnix{}.Path) - 1

// backlog is the maximum length of the accept queue. The system limits it further. It is long,
// because a connect to a Unix socket fails if the queue is full.
const backlog = 65535

// listenUnix listens on a Unix socket. A socket file on which no process accepts is replaced. Any
// other file is an error. The listener removes the file when it closes.
//
// The file has the mode before the first client can connect: the kernel refuses connections between
// bind and listen. The umask of the process could restrict the mode too, but it would apply to the
// files of all goroutines.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	defer lock(filepath.Dir(path))()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	syscall.ForkLock.RLock()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close() // the listener has its own descriptor
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	l, err := listenBound(file, path, mode)
	if err != nil {
		os.Remove(path)
		return nil, err
	}
	return l, nil
}

// listenBound listens on a socket that is bound to path.
func listenBound(file *os.File, path string, mode fs.FileMode) (net.Listener, error) {
	if err := os.Chmod(path, mode); err != nil {
		return nil, err
	}
	if err := unix.Listen(int(file.Fd()), backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	l, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	return &unixListener{Listener: l, path: path, info: info}, nil
}

// unixListener removes its socket file when it closes.
type unixListener struct {
	net.Listener
	path string
	info fs.FileInfo // of the file
}

// Close closes the listener, and removes the file unless another server has replaced it.
func (l *unixListener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.info) {
		os.Remove(l.path)
	}
	return l.Listener.Close()
}

// lock locks a directory, so that of two servers that start at the same time, one finds the socket
// of the other. The lock is advice: any process that can read the directory can hold it, and this
// process may not be able to read the directory. So lock waits at most lockTime, and then continues
// without the lock.
func lock(dir string) (unlock func()) {
	d, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	for end := time.Now().Add(lockTime); ; time.Sleep(lockTime / 200) {
		if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK || time.Now().After(end) {
			return func() { d.Close() } // releases the lock
		}
	}
}

// lockTime is the maximum time to wait for the lock of a directory.
const lockTime = 2 * time.Second

// removeStale removes the socket file of a server that has ended.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("file exists and is not a socket")
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return errors.New("address in use")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) { // such as EAGAIN of a server with a full accept queue
		return fmt.Errorf("address in use or not accessible: %w", err)
	}
	return os.Remove(path)
}

// accepts returns an error unless the socket is a listening stream socket.
func accepts(socket *os.File) error {
	kind, err := unix.GetsockoptInt(int(socket.Fd()), unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return fmt.Errorf("passed file is not a socket: %w", err)
	}
	listening, err := unix.GetsockoptInt(int(socket.Fd()), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || kind != unix.SOCK_STREAM || listening == 0 {
		return errors.New("passed socket is not a listening stream socket (ListenStream=, Accept=no)")
	}
	return nil
}
