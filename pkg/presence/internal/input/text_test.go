package input_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

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

func TestClean(t *testing.T) {
	for s, want := range map[string]string{
		"": "", "alice": "alice", "a b~ ": "a b~ ", "é\u00a0\u2028": "é\u00a0\u2028",
		"a\x00b\x1f\x7f\u0085c":        "abc",
		"\ufffda\xff\xc3b\xed\xa0\x80": "ab", // with invalid UTF-8
		"so\u00adft\u061c\u180e":       "soft",
		"\u200ba\u200e\u200fb\ufeff":   "ab",
		"\u202aa\u202eb\u2060\u2064c":  "abc",
		"\u2066a\u2069\u206a\u206fb":   "ab",
		"\ufff9é\ufffb":                "é",

		// Joiners remain only inside of text that is not ASCII.
		"\u200c": "", "\u200d": "", "\u200cé": "é", "é\u200d": "é",
		"a\u200cb": "ab", "a\u200dé": "aé", "é\u200da": "éa", "a\u200d\u200cb": "ab",
		"é\u200cé": "é\u200cé", "é\u200d\u200cé": "é\u200d\u200cé", "é\u200c\u200da": "éa",
		"é\u200c\u200b\u200dé": "é\u200c\u200dé", "é\u200b\u200dé": "é\u200dé", "é\u200da\u200dé": "éaé",
		"é\u200d\nb": "éb", "\u200b\u200dé\u200d\u200b": "é",

		"می\u200cخواهم":   "می\u200cخواهم",
		"👨\u200d👩\u200d👧": "👨\u200d👩\u200d👧", "❤\ufe0f\u200d🔥": "❤\ufe0f\u200d🔥", "1\ufe0f\u20e3": "1\ufe0f\u20e3", "👍🏽": "👍🏽",
		"🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f": "🏴",
	} {
		if got := input.Clean(s); got != want {
			t.Errorf("Clean(%q): got %q, want %q", s, got, want)
		}
		if got, want := input.IsUserID(s), s != "" && s == want; got != want {
			t.Errorf("IsUserID(%q): got %v, want %v", s, got, want)
		}
	}
	for max, want := range map[string]bool{
		strings.Repeat("a", 256): true, strings.Repeat("a", 257): false, strings.Repeat("é", 128): true, strings.Repeat("é", 129): false,
	} {
		if got := input.IsUserID(max); got != want {
			t.Errorf("IsUserID of %d bytes: got %v, want %v", len(max), got, want)
		}
	}
}

// Each code point on its own: Clean removes the control and format characters, and no other one. A
// joiner also remains between two non-ASCII characters.
func TestCleanOfEachCodePoint(t *testing.T) {
	for r := range rune(unicode.MaxRune + 1) {
		if !utf8.ValidRune(r) {
			continue
		}
		removed := unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) || r == utf8.RuneError
		isJoiner := r == 0x200c || r == 0x200d
		for s, want := range map[string]string{"a" + string(r) + "b": "ab", "é" + string(r) + "é": "éé"} {
			if !removed || isJoiner && want == "éé" {
				want = s
			}
			if got := input.Clean(s); got != want || input.IsUserID(s) != (want == s) {
				t.Fatalf("%U: got Clean(%q) = %q, IsUserID %v; want %q, %v", r, s, got, input.IsUserID(s), want, want == s)
			}
		}
	}
}

// Plain ASCII, which most names are, is not copied. The compiler may allocate up to 32 bytes on the
// stack, so the text is longer.
func TestCleanAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { input.Clean("Alice, the first user of this name") }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{
		"alice", "a\u200bb", "é\u200d\u200cé", "\u200dé\u200ca", "é\u200d\u200b\u200c\nb", "👨\u200d👩\u200d👧", "می\u200cخواهم", "❤\ufe0f\u200d🔥", "1\ufe0f\u20e3",
		"🏴\U000e0067\U000e007f", "\ufffd\xff", "\u00ad\u061c\u180e\u2060\u2064\ufeff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := input.Clean(s)
		if !input.PlainBytes(got, len(s)) || !input.Exact(got) {
			t.Errorf("Clean(%q): got %q, want plain text of at most %d bytes", s, got, len(s))
		}
		if again := input.Clean(got); again != got {
			t.Errorf("Clean(%q): got %q, and from that %q", s, got, again)
		}
		all := []rune(got)
		for i, r := range all {
			if isJoiner := r == 0x200c || r == 0x200d; unicode.Is(unicode.Cf, r) && !isJoiner ||
				isJoiner && (i == 0 || i == len(all)-1 || all[i-1] < utf8.RuneSelf || all[i+1] < utf8.RuneSelf) {
				t.Errorf("Clean(%q): got %q with %U at %d", s, got, r, i)
			}
		}
		if input.IsUserID(s) != (s != "" && len(s) <= input.MaxUserID && s == got) {
			t.Errorf("IsUserID(%q): got %v", s, input.IsUserID(s))
		}
	})
}
