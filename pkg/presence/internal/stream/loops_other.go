//go:build !linux

package stream

// loops is empty on this system, which has no epoll. Each connection has its own goroutine instead.
type loops struct{}

func openLoops(int, *resources) loops { return loops{} }

func (loops) close() {}

func (loops) tallies() []*tally { return nil }

func (loops) direct(*http1) (sink, error) { return nil, nil }
