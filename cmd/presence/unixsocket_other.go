//go:build !unix

package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
)

// maxPath is the maximum length of the path of a Unix socket, in bytes.
const maxPath = 107

func listenUnix(string, fs.FileMode) (net.Listener, error) { return nil, errors.ErrUnsupported }

func accepts(*os.File) error { return nil }
