//go:build !linux

package load

import "errors"

// direct reports whether this system has an epoll instance.
const direct = false

func newEpoll(*loop, int) (sockets, error) { return nil, errors.ErrUnsupported }
