package web_test

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.com/presence/web"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := fs.ReadFile(web.Files, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFilesAreThePageAndNothingElse(t *testing.T) {
	got, err := fs.Glob(web.Files, "*")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"icon.svg", "index.html", "page.css", "page.js", "presence.js"}
	if !slices.Equal(got, want) {
		t.Errorf("files are %q, want %q", got, want)
	}
}

// The policy in the package comment lets nothing else through, and a mount
// under a prefix has no other root.
func TestPageFitsTheStrictPolicy(t *testing.T) {
	page := read(t, "index.html")
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		read(t, m[1]) // relative, and there
	}
	for what, re := range map[string]string{
		"an inline script":    `<script(?:\s[^>]*)?>\s*[^<\s]`,
		"an inline style":     `(?i)<style|\sstyle=`,
		"an inline handler":   `(?i)\son[a-z]+=`,
		"a form's own action": `(?i)\saction=`,
		"a base address":      `(?i)<base`,
	} {
		if got := regexp.MustCompile(re).FindString(page); got != "" {
			t.Errorf("index.html holds %s: %q", what, got)
		}
	}
	for _, name := range []string{"page.js", "presence.js"} {
		for _, word := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "cssText"} {
			if strings.Contains(read(t, name), word) {
				t.Errorf("%s uses %s: text goes through textContent", name, word)
			}
		}
	}
	if got := regexp.MustCompile(`url\(|@import`).FindString(read(t, "page.css")); got != "" {
		t.Errorf("page.css fetches something: %q", got)
	}
}

// page.js finds its elements by id, as a test in a browser does.
func TestEveryIDThatTheScriptNamesIsOnThePage(t *testing.T) {
	page := read(t, "index.html")
	ids := regexp.MustCompile(`\$\("([^"]+)"\)`).FindAllStringSubmatch(read(t, "page.js"), -1)
	if len(ids) < 10 {
		t.Fatalf("found %d ids in page.js: has it another way now?", len(ids))
	}
	for _, m := range ids {
		if strings.Count(page, `id="`+m[1]+`"`) != 1 {
			t.Errorf("index.html has no one element #%s", m[1])
		}
	}
}
