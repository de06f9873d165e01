//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// openFiles is how many files the process may have open, which Go has raised as
// far as it may be; 0 if that cannot be said.
func openFiles() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur)
}

// denied adds to a permission error the file's mode and owner, the user of this process, and the
// remedy. In a container that user is not root and does not own the file.
func denied(err error) error {
	var open *fs.PathError
	if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &open) {
		return err
	}
	uid := os.Geteuid()
	file, failed := os.Stat(open.Path)
	if failed != nil {
		return fmt.Errorf("%w: this process runs as uid %d, which may not search a directory above the file", err, uid)
	}
	owner := ""
	if stat, ok := file.Sys().(*syscall.Stat_t); ok {
		owner = fmt.Sprintf(" and owner uid %d", stat.Uid)
	}
	return fmt.Errorf("%w: the file has mode %04o%s, this process runs as uid %d: chown it to %[4]d, or give it a group of this process and mode 0640; a container's secret can be mounted with that uid",
		err, file.Mode().Perm(), owner, uid)
}
