//go:build !linux

package stream

import "time"

// Without epoll each connection has a goroutine.

type loops struct{}

func (loops) open(Config, *inbox[func()]) {}
func (loops) close()                      {}

func (s *Streams) open(h *http1) (sink, error) { return newWriter(h, s.config), nil }

func (h *http1) tune(time.Duration) {}
func (h *http1) answers() bool      { return false }
