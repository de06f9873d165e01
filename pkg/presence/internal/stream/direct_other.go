//go:build !linux

package stream

import (
	"sync"

	"example.com/presence/pkg/presence/internal/socket"
)

// Without epoll each connection has a goroutine.

type loops struct{}

func (loops) open(Config, *inbox[func()], *sync.WaitGroup, *socket.Ender) {}
func (loops) close()                                                      {}

func (s *Streams) direct(*http1) (sink, error) { return nil, nil }
