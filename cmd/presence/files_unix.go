//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// openFiles returns the open-file limit of the process, which Go has raised as far as the system
// allows; 0 if it is unknown.
func openFiles() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur)
}

// denied adds the file's mode and owner, the user of this process, and the remedy to a permission
// error. In a container that user is not root and does not own the file.
func denied(err error) error {
	var open *fs.PathError
	if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &open) {
		return err
	}
	uid := os.Geteuid()
	file, failed := os.Stat(open.Path)
	if failed != nil {
		return fmt.Errorf("%w: uid %d of this process has no search permission on a directory above the file", err, uid)
	}
	owner := ""
	if stat, ok := file.Sys().(*syscall.Stat_t); ok {
		owner = fmt.Sprintf(" and owner uid %d", stat.Uid)
	}
	return fmt.Errorf("%w: the file has mode %04o%s, this process has uid %d: chown the file to %[4]d, or give it mode 0640 and a group of this process; a container's secret can be mounted with that uid",
		err, file.Mode().Perm(), owner, uid)
}
