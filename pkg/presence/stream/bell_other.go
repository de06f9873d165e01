//go:build !linux

package stream

import (
	"errors"
	"runtime"
)

// bell is how a goroutine that has work all the time lets others run.
type bell struct{}

func openBell() (*bell, error) { return nil, errors.ErrUnsupported }

// yield has what is ready run.
func (b *bell) yield() { runtime.Gosched() }

func (b *bell) close() {}
