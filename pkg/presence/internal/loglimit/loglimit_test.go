package loglimit_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/internal/logtest"
)

func TestWarn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := loglimit.New(slog.New(logtest.Handler{Handler: slog.NewTextHandler(&out, nil)}))
		for minute := range 3 {
			for i := range 100 {
				ctx := logtest.WithRequestID(t.Context(), fmt.Sprint(minute, "-", i))
				l.Warn(ctx, "limit reached", "limit", i)
				l.Warn(ctx, "another limit reached")
			}
			time.Sleep(time.Minute - time.Nanosecond)
			l.Warn(t.Context(), "limit reached", "limit", "early")
			time.Sleep(time.Nanosecond)
		}
		for text, want := range map[string]int{
			`msg="limit reached" limit=0 `: 3, `msg="another limit reached" `: 3, "level=WARN": 6, "early": 0,
			"request=0-0": 2, "request=2-0": 2,
		} {
			if got := strings.Count(out.String(), text); got != want {
				t.Errorf("%q is logged %d times, want %d:\n%s", text, got, want, &out)
			}
		}
	})
}

// The limiter remembers a limited number of messages. At the limit, all new messages together are
// logged once per minute, and each remembered message is still logged once per minute.
func TestMessagesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := loglimit.New(slog.New(slog.NewTextHandler(&out, nil)))
		for minute := 1; minute <= 2; minute++ {
			for i := range 1000 {
				l.Warn(t.Context(), fmt.Sprint("minute ", minute, " message ", i))
			}
			if got := strings.Count(out.String(), "\n"); got != 257*minute {
				t.Errorf("got %d lines in %d minutes, want %d", got, minute, 257*minute)
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestErrorLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := loglimit.New(slog.New(slog.NewTextHandler(&out, nil))).ErrorLog()
		for range 3 {
			for range 100 {
				log.Print("http: Accept error: accept tcp: too many open files; retrying in 5ms")
				log.Print("http: TLS handshake error from 192.0.2.1:1: EOF")
				log.Print("timeout waiting for SETTINGS frames from 192.0.2.1:1")
				log.Print("http2: server: error reading preface from client 192.0.2.1:1: bogus greeting")
			}
			log.Print("http: panic serving 192.0.2.1:1: a bug")
			log.Print("http2: panic serving 192.0.2.1:2: a bug")
			time.Sleep(time.Minute)
		}
		for text, want := range map[string]int{"Accept error": 3, "TLS handshake": 3, "preface": 3, "SETTINGS": 3, "panic": 6, "level=WARN": 18} {
			if got := strings.Count(out.String(), text); got != want {
				t.Errorf("%q is logged %d times, want %d", text, got, want)
			}
		}
	})
}
