package main

import (
	"encoding/json"
	"errors"
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

// Lines that could not be written are counted, and the next line that can be written is preceded by
// their number. No other line is lost.
func TestLostLogLines(t *testing.T) {
	for format, want := range map[string][]string{
		"text": {`level=INFO msg=before`, `level=WARN msg="log lines lost: they could not be written" count=8000`, `level=INFO msg=after node=n1 group.n=1`, `level=INFO msg=later`},
		"json": {`"level":"INFO","msg":"before"}`, `"level":"WARN","msg":"log lines lost: they could not be written","count":8000}`, `"level":"INFO","msg":"after","node":"n1","group":{"n":1}}`, `"level":"INFO","msg":"later"}`},
	} {
		var d disk
		log, lost := runningFlags{LogFormat: format, LogLevel: "info"}.logger(&d)
		log.Info("before")
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
		d.fill(false)
		log.Debug("not logged at this level")
		log.With("node", "n1").WithGroup("group").Info("after", "n", 1)
		log.Info("later")
		got := strings.Split(strings.TrimSpace(d.text.String()), "\n")
		for i, line := range got {
			_, got[i], _ = strings.Cut(line, map[string]string{"text": " ", "json": ","}[format])
		}
		if !slices.Equal(got, want) || lost.total.Load() != 8000 {
			t.Errorf("%s: got %d lost and %q, want 8000 and %q", format, lost.total.Load(), got, want)
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
	log, lost := runningFlags{LogFormat: "json", LogLevel: "info"}.logger(&d)
	log.Info("broken")
	log.Info("lost")
	d.free = 1000
	log.Info("after")
	lines := strings.Split(d.text.String(), "\n")
	if len(lines) != 4 || len(lines[0]) != 30 || lost.total.Load() != 2 {
		t.Fatalf("got %d lost and %q, want 2 and a broken line of 30 bytes before two whole ones", lost.total.Load(), lines)
	}
	for i, want := range []string{`"msg":"log lines lost: they could not be written","count":2}`, `"msg":"after"}`} {
		if got := lines[i+1]; !json.Valid([]byte(got)) || !strings.HasSuffix(got, want) {
			t.Errorf("got the line %s, want valid JSON that ends with %s", got, want)
		}
	}
}
