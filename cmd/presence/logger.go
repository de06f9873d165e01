package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

// logger returns the logger that writes to w, and its queue. The caller must close the queue.
func (f runningFlags) logger(w io.Writer) (*slog.Logger, *logQueue) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(f.LogLevel)) // kong has already validated the value
	options := &slog.HandlerOptions{Level: level}
	handler := func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, options) }
	if f.LogFormat == "json" {
		options.ReplaceAttr = durationText
		handler = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, options) }
	}
	q := startLogQueue(w, handler)
	return slog.New(handler(q)), q
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
// one. Its Write is not safe for concurrent use.
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

const (
	// maxLines and maxLineBytes limit the lines in a logQueue, and their size.
	maxLines     = 4096
	maxLineBytes = 4 << 20
	// flushTime is how long the end of the process waits for the log.
	flushTime = time.Second
)

// logQueue writes the lines of the log on a goroutine of its own. A reader of the log that stops,
// or a slow disk, therefore delays no client. If the queue is full, or a line cannot be written, it
// counts the line as lost. Before the next line that it can write, it writes one with the number of
// lost lines. Its methods are safe for concurrent use.
type logQueue struct {
	lines chan []byte
	size  atomic.Int64 // bytes of lines, and of the one that is being written
	stop  chan struct{}
	done  chan struct{} // closed when the goroutine has ended

	lost       atomic.Uint64 // total
	unreported atomic.Uint64

	// Only the goroutine uses these fields.
	out    wholeLines
	report slog.Handler // writes to text
	text   bytes.Buffer
}

// startLogQueue starts a queue that writes to w. handler returns a handler of the log's format.
func startLogQueue(w io.Writer, handler func(io.Writer) slog.Handler) *logQueue {
	q := &logQueue{lines: make(chan []byte, maxLines), stop: make(chan struct{}), done: make(chan struct{}), out: wholeLines{Writer: w}}
	q.report = handler(&q.text)
	go q.run() // ends with close, if w does not block
	return q
}

// Write adds a line. It never blocks, and returns no error.
func (q *logQueue) Write(line []byte) (int, error) {
	n := int64(len(line))
	if q.size.Add(n) <= maxLineBytes {
		select {
		case q.lines <- bytes.Clone(line):
			return len(line), nil
		default:
		}
	}
	q.size.Add(-n)
	q.lose()
	return len(line), nil
}

func (q *logQueue) lose() {
	q.lost.Add(1)
	q.unreported.Add(1)
}

// run writes the lines until close, and then those that are left.
func (q *logQueue) run() {
	defer close(q.done)
	for open := true; open; {
		select {
		case line := <-q.lines:
			q.write(line)
		case <-q.stop:
			open = false
		}
	}
	for len(q.lines) > 0 {
		q.write(<-q.lines)
	}
	q.reportLost()
}

func (q *logQueue) write(line []byte) {
	defer q.size.Add(-int64(len(line)))
	q.reportLost()
	if _, err := q.out.Write(line); err != nil {
		q.lose()
	}
}

// reportLost writes the line about the lost lines. If it cannot be written, they remain to be
// reported.
func (q *logQueue) reportLost() {
	n := q.unreported.Load()
	if n == 0 {
		return
	}
	line := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines lost: they could not be written", 0)
	line.Add("count", n)
	q.text.Reset()
	q.report.Handle(context.Background(), line) // a buffer has no error
	if _, err := q.out.Write(q.text.Bytes()); err == nil {
		q.unreported.Add(-n)
	}
}

// close writes the lines in the queue, for at most flushTime. Later lines are dropped.
func (q *logQueue) close() {
	close(q.stop)
	select {
	case <-q.done:
	case <-time.After(flushTime):
	}
}
