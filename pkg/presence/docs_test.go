package presence_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/internal/refusal"
)

// Each Go block of docs/go.md is part of an example, which the compiler checks.
func TestGoDocument(t *testing.T) {
	var examples string
	for _, name := range []string{"example_test.go", "example_harden_test.go", "nats/example_test.go", "metrics/example_test.go"} {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		examples += string(source)
	}
	document, err := os.ReadFile("../../docs/go.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(string(document), -1)
	if len(blocks) < 4 {
		t.Fatalf("got %d Go blocks, want at least 4", len(blocks))
	}
	for _, block := range blocks {
		if !strings.Contains(examples, block[1]) {
			t.Errorf("no example contains this block of docs/go.md:\n%s", block[1])
		}
	}
}

// The tables of docs/operations.md have a row for each cause of a refusal and for each reason of a
// failed authentication, and no other rows.
func TestOperationsDocument(t *testing.T) {
	document, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	causes := map[string]bool{}
	for _, c := range refusal.Causes() {
		causes[string(c)] = true
	}
	reasons := map[string]bool{}
	for _, r := range auth.Reasons {
		reasons[r] = true
	}
	for heading, want := range map[string]map[string]bool{"### Causes": causes, "### Reasons of invalid tokens": reasons} {
		_, section, _ := strings.Cut(string(document), "\n"+heading+"\n")
		section, _, _ = strings.Cut(section, "\n#")
		got := map[string]bool{}
		for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
			got[row[1]] = true
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: got rows %q, want %q", heading, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
	}
}
