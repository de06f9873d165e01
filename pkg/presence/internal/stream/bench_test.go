package stream_test

import (
	"fmt"
	"strings"
	"testing"

	"example.com/presence/pkg/presence/internal/stream"
)

// BenchmarkPublish measures the path from Publish to a frame, through r3labs/sse, for a stream
// without connections.
func BenchmarkPublish(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			streams := stream.Open(stream.Config{})
			defer streams.Close()
			shared := streams.Stream("lobby")
			e := stream.Event{ID: "5f1c0a9e4b-17", Name: "message", Data: []byte(strings.Repeat("x", size))}
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := shared.Reserve(b.Context()); err != nil {
					b.Fatal(err)
				}
				shared.Publish(e, stream.Reserved)
			}
			streams.Drain()
		})
	}
}
