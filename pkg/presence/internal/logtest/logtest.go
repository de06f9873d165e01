// Package logtest has the log of an embedding program, for tests. Only tests may import it.
package logtest

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
)

// requestID is the context key under which the embedding program stores its request ids.
type requestID struct{}

// WithRequestID returns ctx with the id of its request.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestID{}, id)
}

// Handler is the [slog.Handler] of an embedding program. To each line, it adds the request id in
// the context. If the context is done, it adds the error of the context: a handler that sends lines
// over the network would drop such a line.
type Handler struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h Handler) Handle(ctx context.Context, r slog.Record) error {
	if id, ok := ctx.Value(requestID{}).(string); ok {
		r.Add("request", id)
	}
	if err := ctx.Err(); err != nil {
		r.Add("context", err)
	}
	return h.Handler.Handle(ctx, r)
}

// Buffer is the output of a log. Its methods are safe for concurrent use.
type Buffer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

// Write implements [io.Writer].
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns the text.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Take returns the text, and removes it.
func (b *Buffer) Take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.text.Reset()
	return b.text.String()
}
