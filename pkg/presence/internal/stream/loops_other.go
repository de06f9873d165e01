//go:build !linux

package stream

// loops need epoll. Without, connections have goroutines.
type loops struct{}

func openLoops(int, *resources) loops { return loops{} }

func (loops) close() {}

func (loops) direct(*http1) (sink, error) { return nil, nil }
