package web_test

import (
	"io/fs"
	"os"
	"path"
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
	"away.js", "composer.js", "dom.js", "history.js", "links.js", "messages.js", "page.js", "people.js", "plot.js",
	"refused.js", "removal.js", "rooms.js", "status.js", "title.js", "words.js",
	"presence/connections.js", "presence/eventstream.js", "presence/index.js", "presence/link.js", "presence/request.js", "presence/room.js",
	"presence/state.js", "presence/tabs.js",
}

func TestFiles(t *testing.T) {
	var got []string
	err := fs.WalkDir(web.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			got = append(got, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	want := append([]string{"icon.svg", "index.html", "llms.txt", "page.css", "presence.js"}, modules...)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("files are %q, want %q", got, want)
	}
}

// The package embeds no directory, because a file that a tool leaves there would be served, and
// would be in the binary of a release.
func TestEmbedsNoDirectory(t *testing.T) {
	source, err := os.ReadFile("web.go")
	if err != nil {
		t.Fatal(err)
	}
	patterns := 0
	for _, line := range regexp.MustCompile(`(?m)^//go:embed (.*)$`).FindAllStringSubmatch(string(source), -1) {
		for pattern := range strings.FieldsSeq(line[1]) {
			if patterns++; path.Ext(pattern) == "" {
				t.Errorf("web.go embeds %q, want files with an extension", pattern)
			}
		}
	}
	if patterns < 10 {
		t.Errorf("found %d patterns, want 10 or more", patterns)
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
		for _, m := range regexp.MustCompile(`(?m)^(?:import|export|}) .*from "([^"]*)";$`).FindAllStringSubmatch(read(t, name), -1) {
			if !slices.Contains(modules, path.Join(path.Dir(name), m[1])) {
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

var (
	operationOf = regexp.MustCompile("`([A-Z]+) (/[a-z/{}]*)")
	listItem    = regexp.MustCompile(`^- \[[^\]]+\]\(([^)]+)\): \S`)
)

// operations returns the operations in docs/openapi.yaml, such as "GET /events".
func operations(t *testing.T) map[string]bool {
	t.Helper()
	document, err := os.ReadFile("../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all, path := map[string]bool{}, ""
	for _, m := range regexp.MustCompile(`(?m)^(?:  (/\S*)|    (get|post|put|patch|delete)):$`).FindAllStringSubmatch(string(document), -1) {
		if m[1] != "" {
			path = m[1]
		} else {
			all[strings.ToUpper(m[2])+" "+path] = true
		}
	}
	return all
}

// llms.txt has the format of https://llmstxt.org: a title, a summary in a quote, text without
// headings, and then sections with lists of files. Each file and each operation that it names
// exists, and it names all operations of docs/openapi.yaml that clients use.
func TestLLMs(t *testing.T) {
	text := read(t, "llms.txt")
	if !strings.HasPrefix(text, "# presence\n\n> ") {
		t.Errorf("begins with %.20q, want a title and a summary", text)
	}
	about, lists, _ := strings.Cut(text, "\n## ")
	if n := strings.Count(about, "\n#"); n > 0 {
		t.Errorf("%d headings before the lists, want none", n)
	}
	files := 0
	for line := range strings.SplitSeq(lists, "\n") {
		m := listItem.FindStringSubmatch(line)
		switch {
		case m != nil:
			files++
			if info, err := os.Stat("../" + m[1]); err != nil || info.IsDir() {
				t.Errorf("%s is not a file of the repository: %v", m[1], err)
			}
		case strings.HasPrefix(line, "- "):
			t.Errorf("not a link with a description: %s", line)
		}
	}
	if files < 15 {
		t.Errorf("got %d files, want 15 or more", files)
	}
	exist, named := operations(t), map[string]bool{"GET /metrics": true} // of operators
	for _, m := range operationOf.FindAllStringSubmatch(about, -1) {
		operation := m[1] + " " + m[2]
		if named[operation] = true; !exist[operation] {
			t.Errorf("no such operation in openapi.yaml: %s", operation)
		}
	}
	for operation := range exist {
		if !named[operation] {
			t.Errorf("operation of openapi.yaml missing: %s", operation)
		}
	}
	if len(exist) < 13 {
		t.Errorf("got %d operations in openapi.yaml, want 13 or more", len(exist))
	}
}
