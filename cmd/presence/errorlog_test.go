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
				log.Print("http: TLS handshake error from 192.0.2.1:1: EOF")
				log.Print("timeout waiting for SETTINGS frames from 192.0.2.1:1")
				log.Print("http2: server: error reading preface from client 192.0.2.1:1: bogus greeting")
			}
			log.Print("http: panic serving 192.0.2.1:1: a bug")
			log.Print("http: panic serving 192.0.2.1:2: a bug")
			time.Sleep(time.Minute)
		}
		for what, want := range map[string]int{"Accept error": 3, "TLS handshake": 3, "preface": 3, "SETTINGS": 3, "panic": 6, "level=WARN": 18} {
			if got := strings.Count(out.String(), what); got != want {
				t.Errorf("%q stands there %d times, want %d", what, got, want)
			}
		}
	})
}
