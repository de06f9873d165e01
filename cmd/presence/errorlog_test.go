package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestErrorLogIsSparing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := errorLog(slog.New(slog.NewTextHandler(&out, nil)))
		for range 3 {
			for range 100 {
				log.Print("http: Accept error: accept tcp: too many open files; retrying in 5ms")
			}
			log.Print("http: TLS handshake error")
			time.Sleep(time.Minute)
		}
		for what, want := range map[string]int{"Accept error": 3, "TLS handshake": 3, "level=WARN": 6} {
			if got := strings.Count(out.String(), what); got != want {
				t.Errorf("%q stands there %d times, want %d", what, got, want)
			}
		}
	})
}
