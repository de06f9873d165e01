package input_test

import (
	"strings"
	"testing"

	"example.com/presence/pkg/presence/internal/input"
)

func TestPlain(t *testing.T) {
	for s, want := range map[string]bool{
		"": true, "a b": true, "é\u2028\u200b": true, "\ufffd": true, "😀": true,
		"a\nb": false, "\r": false, "\x00": false, "\x7f": false, "\u0085": false, "\xff": false, "\xc3": false,
	} {
		if got := input.PlainBytes(s, 100); got != want {
			t.Errorf("PlainBytes(%q): got %v, want %v", s, got, want)
		}
		if got := input.PlainChars(s, 100); got != want {
			t.Errorf("PlainChars(%q): got %v, want %v", s, got, want)
		}
	}
}

func TestLimitsAreOfBytesOrCharacters(t *testing.T) {
	for _, tt := range []struct {
		s            string
		max          int
		bytes, chars bool
	}{
		{"", 0, true, true},
		{"a", 0, false, false},
		{"ab", 2, true, true},
		{"é", 1, false, true},
		{"é", 2, true, true},
		{strings.Repeat("😀", 4), 4, false, true},
		{strings.Repeat("😀", 5), 4, false, false},
	} {
		if got := input.PlainBytes(tt.s, tt.max); got != tt.bytes {
			t.Errorf("PlainBytes(%q, %d): got %v, want %v", tt.s, tt.max, got, tt.bytes)
		}
		if got := input.PlainChars(tt.s, tt.max); got != tt.chars {
			t.Errorf("PlainChars(%q, %d): got %v, want %v", tt.s, tt.max, got, tt.chars)
		}
		if got := input.Chars(tt.s, tt.max); got != tt.chars {
			t.Errorf("Chars(%q, %d): got %v, want %v", tt.s, tt.max, got, tt.chars)
		}
	}
	if !input.Chars("\n\xff", 2) || input.Chars("\n\xff", 1) {
		t.Error("Chars does not count a control character and an invalid byte as one each")
	}
}

func TestExact(t *testing.T) {
	for s, want := range map[string]bool{"": true, "a\n": true, "\ufffd": false, "a\ufffdb": false, "\xff": false} {
		if got := input.Exact(s); got != want {
			t.Errorf("Exact(%q): got %v, want %v", s, got, want)
		}
	}
}
