package load

import (
	"strings"
	"testing"
	"time"
)

func TestMessage(t *testing.T) {
	prefix := prefixOf("0123abcd")
	for _, m := range []message{{0, 1, 0}, {12, 123456789, 10 * time.Minute}, {99999, 1<<53 - 1, 24 * time.Hour}} {
		for _, size := range []int{MinSize, 100, 5000} {
			text := m.text(prefix, size)
			if len(text) != size || strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789.") != "" {
				t.Errorf("%v: got a text of %d bytes, want %d of harmless characters: %s", m, len(text), size, text)
			}
			got, rest, ok := findMessage([]byte(`{"data":"`+text+`","x":"`+text+`"}`), prefix)
			again, _, both := findMessage(rest, prefix)
			if !ok || !both || got != m || again != m {
				t.Errorf("got %v %v and %v %v, want %v twice", got, ok, again, both, m)
			}
		}
	}
	for _, text := range []string{"", "load.0123abcd.", "load.0123abcd.1.2.3", "load.0123abcd.1.2.x.", "load.0123abcd..2.3.", "load.ffffffff.1.2.3.", "load.0123abcd.1.2.1234567890123456789.", "load.0123abcd.-1.2.3."} {
		if m, _, ok := findMessage([]byte(text), prefix); ok {
			t.Errorf("%q: got %v, want no message", text, m)
		}
	}
}
