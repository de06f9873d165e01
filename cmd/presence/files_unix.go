//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// openFiles returns the open-file limit of the process, or 0 if it is unknown. At startup, Go
// raises the limit as far as the system allows.
func openFiles() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur)
}

// denied adds the cause and the remedy to a permission error: the file's mode and owner, and the
// user of this process. In a container, that user is usually neither root nor the owner of the
// file.
func denied(err error) error {
	var open *fs.PathError
	if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &open) {
		return err
	}
	uid := os.Geteuid()
	file, failed := os.Stat(open.Path)
	if failed != nil {
		return fmt.Errorf("%w: parent directory not searchable (process uid %d)", err, uid)
	}
	owner := ""
	if stat, ok := file.Sys().(*syscall.Stat_t); ok {
		owner = fmt.Sprintf(", owner uid %d", stat.Uid)
	}
	return fmt.Errorf("%w (file mode %04o%s, process uid %d): chown the file to %[4]d, or set its mode to 0640 and its group to one of this process; a container secret can be mounted with that uid",
		err, file.Mode().Perm(), owner, uid)
}
