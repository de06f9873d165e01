//go:build !linux

package stream

import (
	"errors"
	"runtime"
)

// yielder lets other goroutines run while its own goroutine always has work.
type yielder struct{}

func openYielder() (*yielder, error) { return nil, errors.ErrUnsupported }

// yield runs the ready goroutines.
func (y *yielder) yield() { runtime.Gosched() }

func (y *yielder) close() {}
