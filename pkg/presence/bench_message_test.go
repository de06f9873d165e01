//go:build linux && !race

package presence_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
)

// BenchmarkMessage measures the CPU time per message, in µs, from Publish to the frame that is
// ready for the sockets. The room has no clients, so the time covers the message log, the encoding
// and the goroutines of the shared stream. Run it with
//
//	make bench BENCH=Message
func BenchmarkMessage(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		b.Run(fmt.Sprint(size, "B"), func(b *testing.B) {
			key, err := auth.Secret(secret)
			if err != nil {
				b.Fatal(err)
			}
			authenticator, err := auth.New(auth.Config{Keys: []auth.Key{key}})
			if err != nil {
				b.Fatal(err)
			}
			server, err := presence.New(presence.Config{Authenticator: authenticator, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			defer server.Shutdown(context.Background())
			const messages = 50_000
			data := strings.Repeat("x", size)
			publish := func(n int) {
				for range n {
					if _, err := server.Publish(b.Context(), "lobby", "", data); err != nil {
						b.Fatal(err)
					}
				}
			}
			publish(messages / 10)
			before := processTime(b)
			publish(messages)
			b.ReportMetric(float64((processTime(b)-before).Nanoseconds())/messages/1000, "µs/message")
		})
	}
}

// processTime returns the CPU time of this process, user and system.
func processTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
