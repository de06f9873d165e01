package main

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// statesSize checks that the documents state the size of the binary in MB, up to 1 MB, because it
// depends on the platform. The other files of the image have less than 0.3 MB.
func statesSize(t *testing.T, size int) {
	t.Helper()
	stated := regexp.MustCompile(`(?:static\s+binary\s+of|list\s+of\s+(?:the\s+)?modules,)\s+([0-9.]+) MB`)
	found := 0
	for _, file := range []string{"../../README.md", "../../docs/deployment.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, figure := range stated.FindAllSubmatch(text, -1) {
			found++
			if mb, err := strconv.ParseFloat(string(figure[1]), 64); err != nil || math.Abs(mb-float64(size)/1e6) > 1 {
				t.Errorf("%s: got %q, but the binary has %.1f MB", file, figure[0], float64(size)/1e6)
			}
		}
	}
	if found != 3 {
		t.Errorf("got %d figures, want 3", found)
	}
}

// sources returns a new directory with a copy of the files that a build or a release reads.
func sources(t *testing.T) string {
	t.Helper()
	other := t.TempDir()
	if err := os.Mkdir(filepath.Join(other, "web"), 0o700); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob("../../web/*.*") // without node_modules
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"web/presence", "go.mod", "go.sum", "cmd", "pkg", "deploy", ".ci", "Makefile", "Dockerfile", "LICENSE", "README.md"} {
		paths = append(paths, "../../"+path)
	}
	for _, path := range paths {
		into := filepath.Join(other, strings.TrimPrefix(path, "../../"))
		if out, err := exec.Command("cp", "-R", path, into).CombinedOutput(); err != nil {
			t.Fatalf("cp %s: %v %s", path, err, out)
		}
	}
	return other
}

// The Dockerfile and the Makefile build the command with the same flags, and these give the same
// bytes in another directory.
func TestReproducibleBuild(t *testing.T) {
	t.Parallel()
	heavy(t)
	line := regexp.MustCompile(`go build (-trimpath .*) -ldflags "(.*) -X main.version=\$[({]?VERSION[)}]?" -o \S*presence \./cmd/presence`)
	var flags []string
	for _, file := range []string{"../../Dockerfile", "../../Makefile"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := line.FindStringSubmatch(string(text))
		if found == nil {
			t.Fatalf("%s: no go build", file)
		}
		flags = append(flags, found[1]+" | "+found[2])
	}
	if flags[0] != flags[1] {
		t.Errorf("got flags %q in the Dockerfile and %q in the Makefile", flags[0], flags[1])
	}

	other := sources(t)
	general, link, _ := strings.Cut(flags[0], " | ")
	var binaries [][]byte
	for _, dir := range []string{"../..", other} {
		file := filepath.Join(t.TempDir(), "presence")
		build := exec.Command("go", append(append([]string{"build"}, strings.Fields(general)...), "-ldflags", link+" -X main.version=v1", "-o", file, "./cmd/presence")...)
		build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		binary, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		binaries = append(binaries, binary)
	}
	if !bytes.Equal(binaries[0], binaries[1]) {
		t.Error("two builds of the same sources differ")
	}
	statesSize(t, len(binaries[0]))
}
