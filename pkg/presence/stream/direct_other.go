//go:build !linux

package stream

import "sync"

// Without epoll each connection has a goroutine.

type loops struct{}

func (loops) open(Config, *inbox[func()], *sync.WaitGroup) {}
func (loops) close()                                       {}

func (s *Streams) direct(*http1) (sink, error) { return nil, nil }

func (h *http1) tune()       {}
func (h *http1) feel() pulse { return pulse{} }
