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

// modules are those of the page, each of which it names so that all are fetched
// at once.
var modules = []string{
	"away.js", "composer.js", "dom.js", "messages.js", "page.js", "people.js", "plot.js", "presence.js", "rooms.js", "words.js",
}

func TestFilesAreThePageAndNothingElse(t *testing.T) {
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

// The default policy of package presence allows nothing else, and a mount
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
	for _, name := range modules {
		if got := strings.Count(page, `"`+name+`"`); got != 1 {
			t.Errorf("index.html names %s %d times, want once", name, got)
		}
		for _, m := range regexp.MustCompile(`(?m)^(?:import|} from) [^;]*?"([^"]*)";`).FindAllStringSubmatch(read(t, name), -1) {
			if !slices.Contains(modules, strings.TrimPrefix(m[1], "./")) {
				t.Errorf("%s imports %s, which is none of the modules", name, m[1])
			}
		}
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

// The modules find their elements by id, as a test in a browser does.
func TestEveryIDThatTheScriptsNameIsOnThePage(t *testing.T) {
	page := read(t, "index.html")
	found := 0
	for _, name := range modules {
		for _, m := range regexp.MustCompile(`(?:\$|copy)\("([^"]+)"\)`).FindAllStringSubmatch(read(t, name), -1) {
			if found++; strings.Count(page, `id="`+m[1]+`"`) != 1 {
				t.Errorf("%s: index.html has no one element #%s", name, m[1])
			}
		}
	}
	if found < 50 {
		t.Fatalf("found %d ids in the modules: have they another way now?", found)
	}
}
