package presence_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Each Go block of docs/go.md is part of an example, which the compiler checks.
func TestGoDocument(t *testing.T) {
	var examples string
	for _, name := range []string{"example_test.go", "example_harden_test.go", "nats/example_test.go"} {
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
