package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// logger returns the logger that writes to w, and the number of lines that w has not accepted.
func (f runningFlags) logger(w io.Writer) (*slog.Logger, *lostLines) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(f.LogLevel)) // kong has already validated the value
	options := &slog.HandlerOptions{Level: level}
	lost := new(lostLines)
	w = &wholeLines{Writer: w}
	if f.LogFormat == "json" {
		options.ReplaceAttr = durationText
		return slog.New(newLossHandler(slog.NewJSONHandler(w, options), lost)), lost
	}
	return slog.New(newLossHandler(slog.NewTextHandler(w, options), lost)), lost
}

// durationText formats a duration as text, such as 8s, because [slog.JSONHandler] would write it in
// nanoseconds.
func durationText(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// wholeLines begins a new line after a write that wrote only a part, as to a disk that is full from
// then on. Otherwise the next line, the one about the lost lines, would be the rest of a broken
// one.
// Its Write is not safe for concurrent use: a handler of [slog] calls it for one line at a time.
type wholeLines struct {
	io.Writer
	cut bool // the last line is incomplete
}

func (w *wholeLines) Write(line []byte) (int, error) {
	if w.cut {
		if _, err := w.Writer.Write([]byte("\n")); err != nil {
			return 0, err
		}
		w.cut = false
	}
	n, err := w.Writer.Write(line)
	w.cut = n > 0 && n < len(line)
	return n, err
}

// lostLines counts the lines of the log that could not be written, for example because the disk is
// full. It is safe for concurrent use.
type lostLines struct {
	total atomic.Uint64

	mu         sync.Mutex // held while the line about unreported is written
	unreported atomic.Uint64
}

// lossHandler counts the lines that its Handler cannot write, because [slog.Logger] ignores that
// error. Before the first line that can be written again, it writes one with the number of lost
// lines.
type lossHandler struct {
	slog.Handler
	root slog.Handler // Handler without the attributes of a logger
	lost *lostLines
}

func newLossHandler(h slog.Handler, lost *lostLines) slog.Handler { return lossHandler{h, h, lost} }

func (h lossHandler) Handle(ctx context.Context, r slog.Record) error {
	if h.lost.unreported.Load() > 0 {
		h.report(ctx)
	}
	err := h.Handler.Handle(ctx, r)
	if err != nil {
		h.lost.total.Add(1)
		h.lost.unreported.Add(1)
	}
	return err
}

// report writes the line about the lost lines. If it cannot be written, they remain to be reported.
func (h lossHandler) report(ctx context.Context) {
	h.lost.mu.Lock()
	defer h.lost.mu.Unlock()
	n := h.lost.unreported.Load()
	if n == 0 {
		return
	}
	line := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines lost: they could not be written", 0)
	line.Add("count", n)
	if h.root.Handle(ctx, line) == nil {
		h.lost.unreported.Add(-n)
	}
}

func (h lossHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lossHandler{h.Handler.WithAttrs(attrs), h.root, h.lost}
}

func (h lossHandler) WithGroup(name string) slog.Handler {
	return lossHandler{h.Handler.WithGroup(name), h.root, h.lost}
}
