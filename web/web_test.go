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

// modules lists the JavaScript modules of the page. The page preloads each of them, so that the
// browser fetches all modules at the same time.
var modules = []string{
	"away.js", "composer.js", "dom.js", "messages.js", "page.js", "people.js", "plot.js", "presence.js", "rooms.js", "words.js",
}

func TestFiles(t *testing.T) {
	got, err := fs.Glob(web.Files, "*")
	if err != nil {
		t.Fatal(err)
	}
	want := append([]string{"icon.svg", "index.html", "page.css"}, modules...)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("files are %q, want %q", got, want)
	}
}

// The page works with the default Content-Security-Policy of package presence, and under a prefix,
// because its addresses are relative.
func TestPageFitsDefaultPolicy(t *testing.T) {
	page := read(t, "index.html")
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		read(t, m[1]) // fails unless the address is relative and the file exists
	}
	for kind, re := range map[string]string{
		"an inline script":  `<script(?:\s[^>]*)?>\s*[^<\s]`,
		"an inline style":   `(?i)<style|\sstyle=`,
		"an inline handler": `(?i)\son[a-z]+=`,
		"a form action":     `(?i)\saction=`,
		"a base address":    `(?i)<base`,
	} {
		if got := regexp.MustCompile(re).FindString(page); got != "" {
			t.Errorf("index.html has %s: %q", kind, got)
		}
	}
	for _, name := range modules {
		if got := strings.Count(page, `"`+name+`"`); got != 1 {
			t.Errorf("index.html names %s %d times, want once", name, got)
		}
		for _, m := range regexp.MustCompile(`(?m)^(?:import|} from) [^;]*?"([^"]*)";`).FindAllStringSubmatch(read(t, name), -1) {
			if !slices.Contains(modules, strings.TrimPrefix(m[1], "./")) {
				t.Errorf("%s imports %s, which is not a module of the page", name, m[1])
			}
		}
		for _, word := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "cssText"} {
			if strings.Contains(read(t, name), word) {
				t.Errorf("%s uses %s, want textContent", name, word)
			}
		}
	}
	if got := regexp.MustCompile(`url\(|@import`).FindString(read(t, "page.css")); got != "" {
		t.Errorf("page.css loads a resource: %q", got)
	}
}

// Modules and browser tests find elements by id, so each id must be on the page exactly once.
func TestElementIDs(t *testing.T) {
	page := read(t, "index.html")
	found := 0
	for _, name := range modules {
		for _, m := range regexp.MustCompile(`(?:\$|copy)\("([^"]+)"\)`).FindAllStringSubmatch(read(t, name), -1) {
			if found++; strings.Count(page, `id="`+m[1]+`"`) != 1 {
				t.Errorf("%s: index.html does not have exactly one element #%s", name, m[1])
			}
		}
	}
	if found < 50 {
		t.Fatalf("found %d element ids in the modules, want 50 or more", found)
	}
}
