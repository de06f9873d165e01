package client_test

import (
	"io"
	"iter"
	"math"
	"math/big"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/client"
)

// standard decodes a stream exactly as the standard describes (WHATWG HTML, sections 9.2.5 and
// 9.2.6): it decodes the whole stream, splits it into lines and processes each line. It shares no
// code with the decoder.
func standard(stream string) (events []client.Event, lastID string, retry time.Duration) {
	lines := lineEnd.Split(decodeUTF8(strings.TrimPrefix(stream, "\xef\xbb\xbf")), -1)
	var data, eventType, idBuffer string
	for _, line := range lines[:len(lines)-1] { // a line without an end is discarded
		if line == "" {
			lastID = idBuffer
			if data != "" {
				data = strings.TrimSuffix(data, "\n")
				if eventType == "" {
					eventType = "message"
				}
				events = append(events, client.Event{ID: lastID, Name: eventType, Data: []byte(data)})
			}
			data, eventType = "", ""
			continue
		}
		m := field.FindStringSubmatch(line)
		if m == nil {
			continue // a comment
		}
		switch name, value := m[1], m[2]; name {
		case "event":
			eventType = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.ContainsRune(value, 0) {
				idBuffer = value
			}
		case "retry":
			if digits.MatchString(value) {
				ms, _ := new(big.Int).SetString(value, 10)
				if !ms.IsInt64() || ms.Int64() > math.MaxUint32 {
					ms.SetInt64(math.MaxUint32) // the client's limit
				}
				retry = time.Duration(ms.Int64()) * time.Millisecond
			}
		}
	}
	return events, lastID, retry
}

var (
	lineEnd = regexp.MustCompile(`\r\n|\n|\r`)
	field   = regexp.MustCompile(`(?s)^([^:]+)(?:: ?(.*))?$`)
	digits  = regexp.MustCompile(`^[0-9]+$`)
)

// decodeUTF8 implements the UTF-8 decoder of WHATWG Encoding, section 8.1.1. It replaces each error
// with U+FFFD.
func decodeUTF8(stream string) string {
	var out strings.Builder
	var codePoint rune
	var seen, needed int
	lower, upper := byte(0x80), byte(0xbf)
	for i := 0; i < len(stream); i++ {
		b := stream[i]
		if needed == 0 {
			switch {
			case b <= 0x7f:
				out.WriteByte(b)
			case b >= 0xc2 && b <= 0xdf:
				needed, codePoint = 1, rune(b&0x1f)
			case b >= 0xe0 && b <= 0xef:
				if b == 0xe0 {
					lower = 0xa0
				}
				if b == 0xed {
					upper = 0x9f
				}
				needed, codePoint = 2, rune(b&0xf)
			case b >= 0xf0 && b <= 0xf4:
				if b == 0xf0 {
					lower = 0x90
				}
				if b == 0xf4 {
					upper = 0x8f
				}
				needed, codePoint = 3, rune(b&0x7)
			default:
				out.WriteString("\ufffd")
			}
			continue
		}
		if b < lower || b > upper {
			codePoint, seen, needed, lower, upper = 0, 0, 0, 0x80, 0xbf
			out.WriteString("\ufffd")
			i-- // "restore byte to ioQueue"
			continue
		}
		lower, upper = 0x80, 0xbf
		codePoint = codePoint<<6 | rune(b&0x3f)
		if seen++; seen == needed {
			out.WriteRune(codePoint)
			codePoint, seen, needed = 0, 0, 0
		}
	}
	if needed > 0 {
		out.WriteString("\ufffd")
	}
	return out.String()
}

// chunked is a stream that arrives in pieces: each read ends at the next position in cuts, which
// must be in ascending order.
type chunked struct {
	stream string
	cuts   []int
	at     int
	waits  func(at int) // called before each read
}

func (c *chunked) Read(p []byte) (int, error) {
	if c.waits != nil {
		c.waits(c.at)
	}
	if c.at == len(c.stream) {
		return 0, io.EOF
	}
	end := len(c.stream)
	if len(c.cuts) > 0 {
		end = c.cuts[0]
	}
	n := copy(p, c.stream[c.at:end])
	if c.at += n; c.at == end && len(c.cuts) > 0 {
		c.cuts = c.cuts[1:]
	}
	return n, nil
}

// inChunks decodes a stream that is cut into pieces and compares the result with want. complete may
// be nil. Otherwise it returns the number of events in the first n bytes, and inChunks checks that
// the decoder has emitted these events before it reads more.
func inChunks(t *testing.T, stream string, cuts []int, want string, complete func(n int) int) {
	t.Helper()
	var events []client.Event
	r := &chunked{stream: stream, cuts: cuts}
	if complete != nil {
		r.waits = func(at int) {
			if want := complete(at); len(events) != want {
				t.Errorf("%.400q cut at %v: got %d events from the first %d bytes, want %d", stream, cuts, len(events), at, want)
			}
		}
	}
	id, retry, err := client.DecodeEach(r, func(e client.Event) { events = append(events, e) })
	if got := format(events, id, retry); got != want || err != io.EOF {
		t.Errorf("%.400q cut at %v: got\n%.400s\n%v, want\n%.400s\nEOF", stream, cuts, got, err, want)
	}
}

// inEveryChunking decodes a stream with the standard's algorithm. It then decodes the stream with
// the decoder for each set of cuts that chunkings returns.
func inEveryChunking(t *testing.T, stream, want string) {
	t.Helper()
	if got := format(standard(stream)); got != want {
		t.Errorf("%.400q by the standard: got\n%.400s, want\n%.400s", stream, got, want)
	}
	complete := completed(stream)
	if len(stream) > 10_000 {
		complete = nil // takes quadratic time
	}
	for cuts := range chunkings(len(stream)) {
		if inChunks(t, stream, cuts, want, complete); t.Failed() {
			return // one failure is enough
		}
	}
}

// completed returns a function that returns the number of events in the first n bytes, according to
// the standard.
func completed(stream string) func(n int) int {
	counts := make(map[int]int)
	return func(n int) int {
		n = strings.LastIndexAny(stream[:n], "\r\n") + 1 // only a line end completes an event
		if _, ok := counts[n]; !ok {
			events, _, _ := standard(stream[:n])
			counts[n] = len(events)
		}
		return counts[n]
	}
}

// chunkings returns sets of positions at which to cut a stream of n bytes:
//
//	up to 14 bytes         every set
//	up to 100 bytes        no cut; a cut after each byte; every single cut; every pair of cuts
//	up to 10,000 bytes     no cut; a cut after each byte; every single cut
//	more bytes             no cut; a cut after each byte
func chunkings(n int) iter.Seq[[]int] {
	return func(yield func([]int) bool) {
		if n <= 14 {
			for mask := range 1 << max(n-1, 0) {
				var cuts []int
				for i := 1; i < n; i++ {
					if mask>>(i-1)&1 == 1 {
						cuts = append(cuts, i)
					}
				}
				if !yield(cuts) {
					return
				}
			}
			return
		}
		var all []int
		for i := 1; i < n; i++ {
			all = append(all, i)
		}
		if !yield(nil) || !yield(all) || n > 10_000 {
			return
		}
		for i := 1; i < n; i++ {
			if !yield([]int{i}) {
				return
			}
			for j := i + 1; j < n && n <= 100; j++ {
				if !yield([]int{i, j}) {
					return
				}
			}
		}
	}
}

// The decoder passes the Web Platform Tests eventsource/format-*.any.js and .window.js. Each case
// has the name of its test, the stream and the expected result. TestEventsFormat contains the cases
// for requests and the Content-Type.
func TestDecodeFormat(t *testing.T) {
	long := strings.Repeat("x", 2<<10)
	for _, tt := range []struct{ name, stream, want string }{
		{"format-bom", "\xef\xbb\xbfdata:1\n\n\xef\xbb\xbfdata:2\n\ndata:3\n\n", "message#=1\nmessage#=3\n" + `id "" retry 0s`},
		{"format-bom-2", "\xef\xbb\xbf\xef\xbb\xbfdata:1\n\ndata:2\n\ndata:3\n\n", "message#=2\nmessage#=3\n" + `id "" retry 0s`},
		{"format-comments", "data:1\r:\x00\n:\r\ndata:2\n:" + long + "\rdata:3\n:data:fail\r:" + long + "\ndata:4\n\n", "message#=1\n2\n3\n4\n" + `id "" retry 0s`},
		{"format-data-before-final-empty-line", "retry:1000\ndata:test1\n\nid:test\ndata:test2\n", "message#=test1\n" + `id "" retry 1s`},
		{"format-field-data", "data:\n\ndata\ndata\n\ndata:test\n\n", "message#=\nmessage#=\n\nmessage#=test\n" + `id "" retry 0s`},
		{"format-field-event", "event:test\ndata:x\n\ndata:y\n\n", "test#=x\nmessage#=y\n" + `id "" retry 0s`},
		{"format-field-event-empty", "event: \ndata:data\n\n", "message#=data\n" + `id "" retry 0s`},
		{"format-field-id", "id: …\nretry: 200\ndata: hello\n\n", "message#…=hello\n" + `id "…" retry 200ms`},
		{"format-field-id-2", "id: …\nretry: 200\ndata: hello\n\ndata: …\n\ndata: …\n\n", "message#…=hello\nmessage#…=…\nmessage#…=…\n" + `id "…" retry 200ms`},
		{"format-field-id-3, persists", "id: 1\ndata: 1\n\ndata: 2\n\nid: 2\ndata: 3\n\ndata: 4\n\n", "message#1=1\nmessage#1=2\nmessage#2=3\nmessage#2=4\n" + `id "2" retry 0s`},
		{"format-field-id-3, resets", "id: 1\ndata: 1\n\nid:\ndata: 2\n\ndata: 3\n\n", "message#1=1\nmessage#=2\nmessage#=3\n" + `id "" retry 0s`},
		{"format-field-id-3, resets without a colon", "id: 1\ndata: 1\n\nid\ndata: 2\n\ndata: 3\n\n", "message#1=1\nmessage#=2\nmessage#=3\n" + `id "" retry 0s`},
		{"format-field-id-null, twice", "id: \x00\x00\ndata: hello\n\n", "message#=hello\n" + `id "" retry 0s`},
		{"format-field-id-null, last", "id: x\x00\ndata: hello\n\n", "message#=hello\n" + `id "" retry 0s`},
		{"format-field-id-null, first", "id: \x00x\ndata: hello\n\n", "message#=hello\n" + `id "" retry 0s`},
		{"format-field-id-null, between", "id: x\x00x\ndata: hello\n\n", "message#=hello\n" + `id "" retry 0s`},
		{"format-field-id-null, after a blank", "id:  \x00\ndata: hello\n\n", "message#=hello\n" + `id "" retry 0s`},
		{"format-field-id-null, the id before", "id: 1\nid: x\x00\ndata: hello\n\n", "message#1=hello\n" + `id "1" retry 0s`},
		{"format-field-parsing", "data:\x00\ndata:  2\rData:1\ndata\x00:2\ndata:1\r\x00data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n", "message#=\x00\n 2\n1\n3\n\n4\n" + `id "" retry 0s`},
		{"format-field-retry", "retry:03000\ndata:x\n\n", "message#=x\n" + `id "" retry 3s`},
		{"format-field-retry-bogus", "retry:3000\nretry:1000x\ndata:x\n\n", "message#=x\n" + `id "" retry 3s`},
		{"format-field-retry-empty", "retry:3000\nretry\ndata:test\n\n", "message#=test\n" + `id "" retry 3s`},
		{"format-field-unknown", "data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n", "message#=test\n\ntest\n" + `id "" retry 0s`},
		{"format-leading-space", "data:\ttest\rdata: \ndata:test\n\n", "message#=\ttest\n\ntest\n" + `id "" retry 0s`},
		{"format-newlines", "data:test\r\ndata\ndata:test\r\n\r", "message#=test\n\ntest\n" + `id "" retry 0s`},
		{"format-newlines, and LF", "data:test\r\ndata\ndata:test\r\n\r\n", "message#=test\n\ntest\n" + `id "" retry 0s`},
		{"format-null-character", "data:\x00\n\n\n\n", "message#=\x00\n" + `id "" retry 0s`},
		{"format-utf-8", "data:ok…\n\n", "message#=ok…\n" + `id "" retry 0s`},
	} {
		t.Run(tt.name, func(t *testing.T) { inEveryChunking(t, tt.stream, tt.want) })
	}
}

// The decoder returns the same result as the standard's algorithm for 3,000 random streams with
// random cuts.
func TestDecodeRandomStreams(t *testing.T) {
	words := []string{
		"data", "data:", "data: ", "\ndata:", "\rdata: ", "\r\ndata", "\ndata: ", "\nid: ", "event:", "event: ", "id:", "id: ", "id", "retry:", "retry: ", ":", ": ", " ",
		"\n", "\n", "\n\n", "\r", "\r", "\r\r", "\r\n", "\r\n", "\r\n\r\n", "\n\r",
		"x", "0", "17", "é", "€", "😀", "\x00", "\t", "\xef\xbb\xbf",
		"\xef\xbb", "\xbf", "\x80", "\xc0\xaf", "\xc3", "\xe2\x82", "\xed\xa0\x80", "\xf0\x9f\x98", "\xf4\x90", "\xff\xfe",
	}
	seed, events := rand.Uint64(), 0
	for i := range 3000 {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		var b strings.Builder
		if random.IntN(4) == 0 {
			b.WriteString("\xef\xbb\xbf")
		}
		for range random.IntN(120) {
			b.WriteString(words[random.IntN(len(words))])
		}
		stream, often := b.String(), 1+random.IntN(20)
		var cuts []int
		for at := 1; at < len(stream); at++ {
			if random.IntN(often) == 0 {
				cuts = append(cuts, at)
			}
		}
		found, id, retry := standard(stream)
		events += len(found)
		complete := completed(stream)
		if i%5 > 0 {
			complete = nil // to save time
		}
		if inChunks(t, stream, cuts, format(found, id, retry), complete); t.Failed() {
			t.Fatalf("stream %d of seed %d", i, seed)
		}
	}
	if events < 3000 {
		t.Errorf("got %d events in the streams of seed %d, want at least 3000", events, seed)
	}
}
