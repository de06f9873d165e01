package main

import (
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// disk is a log file on a disk that can be full.
type disk struct {
	mu   sync.Mutex // guards the fields below
	full bool
	text strings.Builder
}

func (d *disk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full {
		return 0, errors.New("no space left on device")
	}
	return d.text.Write(p)
}

func (d *disk) fill(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// wait waits until all lines are written or lost.
func (q *logQueue) wait() {
	for q.size.Load() > 0 {
		runtime.Gosched()
	}
}

// Lines that could not be written are counted, and the next line that can be written is preceded by
// their number. No other line is lost.
func TestLostLogLines(t *testing.T) {
	for format, want := range map[string][]string{
		"text": {`level=INFO msg=before`, `level=WARN msg="log lines lost: they could not be written" count=8000`, `level=INFO msg=after node=n1 group.n=1`, `level=INFO msg=later`},
		"json": {`"level":"INFO","msg":"before"}`, `"level":"WARN","msg":"log lines lost: they could not be written","count":8000}`, `"level":"INFO","msg":"after","node":"n1","group":{"n":1}}`, `"level":"INFO","msg":"later"}`},
	} {
		var d disk
		log, queue := runningFlags{LogFormat: format, LogLevel: "info"}.logger(&d)
		log.Info("before")
		queue.wait()
		d.fill(true)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 1000 {
					log.Info("lost")
				}
			})
		}
		all.Wait()
		queue.wait()
		d.fill(false)
		log.Debug("not logged at this level")
		log.With("node", "n1").WithGroup("group").Info("after", "n", 1)
		log.Info("later")
		queue.close()
		got := strings.Split(strings.TrimSpace(d.text.String()), "\n")
		for i, line := range got {
			_, got[i], _ = strings.Cut(line, map[string]string{"text": " ", "json": ","}[format])
		}
		if !slices.Equal(got, want) || queue.lost.Load() != 8000 {
			t.Errorf("%s: got %d lost and %q, want 8000 and %q", format, queue.lost.Load(), got, want)
		}
	}
}

// shortDisk is a log file on a disk with little space.
type shortDisk struct {
	free int // in bytes
	text strings.Builder
}

func (d *shortDisk) Write(p []byte) (int, error) {
	n := min(len(p), d.free)
	d.free -= n
	d.text.Write(p[:n])
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

// A line of which only a part could be written does not make the next one unreadable.
func TestBrokenLogLine(t *testing.T) {
	d := shortDisk{free: 30}
	log, queue := runningFlags{LogFormat: "json", LogLevel: "info"}.logger(&d)
	log.Info("broken")
	log.Info("lost")
	queue.wait()
	d.free = 1000
	log.Info("after")
	queue.close()
	lines := strings.Split(d.text.String(), "\n")
	if len(lines) != 4 || len(lines[0]) != 30 || queue.lost.Load() != 2 {
		t.Fatalf("got %d lost and %q, want 2 and a broken line of 30 bytes before two whole ones", queue.lost.Load(), lines)
	}
	for i, want := range []string{`"msg":"log lines lost: they could not be written","count":2}`, `"msg":"after"}`} {
		if got := lines[i+1]; !json.Valid([]byte(got)) || !strings.HasSuffix(got, want) {
			t.Errorf("got the line %s, want valid JSON that ends with %s", got, want)
		}
	}
}

// blocked is a log that nothing reads until release is closed.
type blocked struct {
	release chan struct{}
	text    strings.Builder
}

func (b *blocked) Write(p []byte) (int, error) {
	<-b.release
	return b.text.Write(p)
}

// While the log blocks, the lines beyond the limits of the queue are lost, and the others follow
// later. A line that is as large as the queue is lost too.
func TestLogBlocks(t *testing.T) {
	b := blocked{release: make(chan struct{})}
	log, queue := runningFlags{LogLevel: "info"}.logger(&b)
	log.Info("first")
	for len(queue.lines) > 0 { // until the goroutine is blocked
		runtime.Gosched()
	}
	for range maxLines + 7 {
		log.Info("next")
	}
	log.Info(strings.Repeat("x", maxLineBytes))
	if got := queue.lost.Load(); got != 8 {
		t.Errorf("got %d lost lines, want 8", got)
	}
	close(b.release)
	queue.close()
	lines := strings.Split(b.text.String(), "\n")
	if len(lines) != 1+1+maxLines+1 || !strings.HasSuffix(lines[0], "msg=first") || !strings.HasSuffix(lines[1], `level=WARN msg="log lines lost: they could not be written" count=8`) {
		t.Errorf("got %d lines that begin with %q, want the first, the number of lost ones, and %d", len(lines), lines[:min(3, len(lines))], maxLines)
	}
}
