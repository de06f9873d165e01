package main

import (
	"bytes"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	fencedBlock = regexp.MustCompile("(?ms)^```[^\n]*\n.*?^```$")
	namedBlock  = regexp.MustCompile("(?ms)^```[a-z]+ (\\S+)\n(.*?)^```$")
	heading     = regexp.MustCompile(`(?m)^#+ (.+)$`)
	link        = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// documentBlocks returns the fenced code blocks of a document that name a file, keyed by the name
// of the file.
func documentBlocks(t *testing.T, document string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + document)
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]string{}
	for _, block := range namedBlock.FindAllStringSubmatch(string(text), -1) {
		blocks[block[1]] = block[2]
	}
	return blocks
}

// readOperations returns docs/operations.md.
func readOperations(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// anchors returns the anchors that GitHub generates for a document's headings: lower case, hyphens
// instead of spaces, no punctuation.
func anchors(document string) map[string]bool {
	all := map[string]bool{}
	for _, h := range heading.FindAllStringSubmatch(fencedBlock.ReplaceAllString(document, ""), -1) {
		kept := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(h[1]), "")
		all[strings.ReplaceAll(kept, " ", "-")] = true
	}
	return all
}

// Each relative link in a document points to a file or directory of the repository, and each anchor
// to a heading.
func TestDocumentLinks(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(documents) < 10 {
		t.Fatalf("got %d documents: %v", len(documents), err)
	}
	examples, err := filepath.Glob("../../docs/examples/*/README.md")
	if err != nil || len(examples) < 5 {
		t.Fatalf("got %d pages of examples: %v", len(examples), err)
	}
	documents = append(documents, examples...)
	for _, document := range append(documents, "../../docs/examples/README.md", "../../README.md", "../../CHANGELOG.md", "../../web/README.md") {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, l := range link.FindAllStringSubmatch(fencedBlock.ReplaceAllString(string(text), ""), -1) {
			to, err := url.Parse(l[1])
			if err != nil {
				t.Errorf("%s: %v", document, err)
				continue
			}
			if to.IsAbs() {
				continue
			}
			target := document
			if to.Path != "" {
				target = filepath.Join(filepath.Dir(document), to.Path)
			}
			content, err := os.ReadFile(target)
			if info, statErr := os.Stat(target); statErr == nil && info.IsDir() && to.Fragment == "" {
				continue
			}
			if err != nil {
				t.Errorf("%s links to %s: %v", document, l[1], err)
			} else if to.Fragment != "" && !anchors(string(content))[to.Fragment] {
				t.Errorf("%s links to %s, but %s has no such heading", document, l[1], to.Path)
			}
		}
	}
}

// docs/images/performance.svg is the chart of the benchmark results in docs/images/performance.txt.
func TestChart(t *testing.T) {
	t.Parallel()
	const images = "../../docs/images/"
	want, err := os.ReadFile(images + "performance.svg")
	if err != nil {
		t.Fatal(err)
	}
	got, err := exec.Command("go", "run", "../../.ci/chart.go", images+"performance.txt").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("performance.svg has %d bytes, the chart of performance.txt %d: run make chart RESULTS=docs/images/performance.txt", len(want), len(got))
	}
}
