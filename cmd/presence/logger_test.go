package main

import (
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
		"text": {`level=INFO msg=before`, `level=WARN msg="log lines lost: they could not be written" count=8000`, `level=INFO msg=after node=n1 group.n=1`},
		"json": {`"level":"INFO","msg":"before"}`, `"level":"WARN","msg":"log lines lost: they could not be written","count":8000}`, `"level":"INFO","msg":"after","node":"n1","group":{"n":1}}`},
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
		got := strings.Split(strings.TrimSpace(d.text.String()), "\n")
		for i, line := range got {
			_, got[i], _ = strings.Cut(line, map[string]string{"text": " ", "json": ","}[format])
		}
		if !slices.Equal(got, want) || lost.total.Load() != 8000 {
			t.Errorf("%s: got %d lost and %q, want 8000 and %q", format, lost.total.Load(), got, want)
		}
	}
}
