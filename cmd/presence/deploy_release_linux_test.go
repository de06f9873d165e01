package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// makeRelease runs make release in the directory and returns the directory of the files.
func makeRelease(t *testing.T, dir, platforms string) string {
	t.Helper()
	dist := t.TempDir()
	// These files are of an earlier release.
	for _, old := range []string{"presence_v0_linux_amd64.tar.gz", "SHA256SUMS"} {
		if err := os.WriteFile(filepath.Join(dist, old), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A link must be replaced, not followed.
	if err := os.Symlink(filepath.Join(t.TempDir(), "other"), filepath.Join(dist, "presence_v1.2.3_linux_"+runtime.GOARCH+".tar.gz")); err != nil {
		t.Fatal(err)
	}
	command := exec.Command("make", "release", "VERSION=v1.2.3", "SOURCE_DATE_EPOCH=1790000000", "PLATFORMS="+platforms, "DIST="+dist)
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("make release: %v\n%s", err, out)
	}
	return dist
}

// unpackTar returns the content of the files in a tar archive, by name. It checks their owner and
// time.
func unpackTar(t *testing.T, r io.Reader, seconds int64) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		} else if err != nil {
			t.Fatal(err)
		}
		executable := strings.HasSuffix(h.Name, "presence") || h.Typeflag == tar.TypeDir
		if mode := map[bool]int64{true: 0o755, false: 0o644}[executable]; h.Mode != mode || h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != seconds {
			t.Errorf("%s: got mode %o, owner %d:%d, time %d; want %o, 0:0, %d", h.Name, h.Mode, h.Uid, h.Gid, h.ModTime.Unix(), mode, seconds)
		}
		if h.Typeflag == tar.TypeReg {
			if files[h.Name], err = io.ReadAll(archive); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// unpackGzip decompresses and unpacks a tar archive.
func unpackGzip(t *testing.T, b []byte) map[string][]byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return unpackTar(t, r, 1790000000)
}

// released returns the content of a file of the release.
func released(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// holds checks the names of the files.
func holds(t *testing.T, archive string, files map[string][]byte, want ...string) {
	t.Helper()
	var got []string
	for name := range files {
		got = append(got, name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", archive, got, want)
	}
}

// make release makes archives, SBOMs and images that are complete, and whose checksums are right.
// Another directory gives the same bytes.
func TestRelease(t *testing.T) {
	t.Parallel()
	heavy(t)
	platforms := sized("linux/"+runtime.GOARCH, "linux/"+runtime.GOARCH+" windows/amd64", "linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64")
	dist := makeRelease(t, "../..", platforms)
	check := exec.Command("sha256sum", "--strict", "--check", "SHA256SUMS")
	check.Dir = dist
	out, err := check.CombinedOutput()
	if err != nil {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	entries, err := os.ReadDir(dist)
	if err != nil {
		t.Fatal(err)
	}
	if sums := strings.Count(string(out), ": OK\n"); sums != len(entries)-1 {
		t.Errorf("got %d checksums of %d files", sums, len(entries)-1)
	}
	for platform := range strings.FieldsSeq(platforms) {
		goos, goarch, _ := strings.Cut(platform, "/")
		name := "presence_v1.2.3_" + goos + "_" + goarch
		var binary []byte
		if goos == "windows" {
			binary = zipHolds(t, filepath.Join(dist, name+".zip"), name)
		} else {
			binary = tarHolds(t, filepath.Join(dist, name+".tar.gz"), name, goos == "linux")
		}
		sbom := released(t, dist, name+".cdx.json")
		sbomDescribes(t, sbom, binary)
		if goos == "linux" {
			imageHolds(t, filepath.Join(dist, "presence_v1.2.3_image_linux_"+goarch+".tar"), goarch, binary, sbom)
		}
	}
	installs(t, dist)

	again := makeRelease(t, sources(t), platforms)
	if first, second := released(t, dist, "SHA256SUMS"), released(t, again, "SHA256SUMS"); !bytes.Equal(first, second) {
		t.Errorf("two runs differ:\n%s\n%s", first, second)
	}
}

// installs runs the commands of the README that install an archive, up to presence version, and
// the server as the next command does.
func installs(t *testing.T, dist string) {
	t.Helper()
	text := string(released(t, "../../README.md"))
	_, text, _ = strings.Cut(text, "\n## Install\n")
	_, text, _ = strings.Cut(text, "\n```sh\n")
	commands, rest, found := strings.Cut(text, "\npresence serve --dev ")
	if !found || !strings.Contains(rest, "\n```\n") {
		t.Fatal("README.md: no commands that install an archive")
	}
	bin := t.TempDir()
	commands = strings.NewReplacer("VERSION", "v1.2.3", "amd64", runtime.GOARCH, "sudo ", "", "/usr/local/bin", bin).Replace(commands)
	shell := exec.Command("bash", "-ec", commands)
	shell.Dir, shell.Env = dist, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := shell.CombinedOutput()
	if want := "\npresence v1.2.3 " + runtime.Version() + "\n"; err != nil || !strings.HasSuffix(string(out), want) {
		t.Fatalf("%s: got %q %v, want %q at its end", commands, out, err, want)
	}
	out, err = exec.Command(filepath.Join(bin, "presence"), "serve", "--dev", "--check").CombinedOutput()
	if err != nil {
		t.Errorf("presence serve --dev --check: got %q %v", out, err)
	}
}

// tarHolds checks the files of an archive and returns the binary.
func tarHolds(t *testing.T, path, name string, units bool) []byte {
	t.Helper()
	files := unpackGzip(t, released(t, path))
	want := []string{name + "/presence", name + "/LICENSE", name + "/README.md", name + "/THIRD-PARTY-LICENSES"}
	if units {
		want = append(want, name+"/deploy/presence.service", name+"/deploy/presence.socket", name+"/deploy/seccomp.json")
	}
	holds(t, path, files, want...)
	licensed(t, files[name+"/THIRD-PARTY-LICENSES"])
	return files[name+"/presence"]
}

// zipHolds does the same for Windows.
func zipHolds(t *testing.T, path, name string) []byte {
	t.Helper()
	archive, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	files := map[string][]byte{}
	for _, f := range archive.File {
		if f.Mode().IsDir() {
			continue
		}
		if files[f.Name], err = fs.ReadFile(archive, f.Name); err != nil {
			t.Fatal(err)
		}
	}
	holds(t, path, files, name+"/presence.exe", name+"/LICENSE", name+"/README.md", name+"/THIRD-PARTY-LICENSES")
	licensed(t, files[name+"/THIRD-PARTY-LICENSES"])
	return files[name+"/presence.exe"]
}

// licensed checks that the text has licences of three kinds, and the way to the sources.
func licensed(t *testing.T, text []byte) {
	t.Helper()
	for _, want := range []string{
		"go mod download -json MODULE@VERSION",
		"\ngithub.com/r3labs/sse/v2 v2.10.0 LICENSE\n\nMozilla Public License",
		"\ngithub.com/go-chi/chi/v5 v", "\nGo and its standard library LICENSE\n",
	} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("the licences do not have %q", want)
		}
	}
}

// sbomDescribes checks the version, the binary and one module in an SBOM.
func sbomDescribes(t *testing.T, sbom, binary []byte) {
	t.Helper()
	var got struct {
		BOMFormat string `json:"bomFormat"`
		Metadata  struct {
			Component  struct{ Name, Version string }
			Properties []struct{ Name, Value string }
		}
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(sbom, &got); err != nil {
		t.Fatal(err)
	}
	if got.BOMFormat != "CycloneDX" || got.Metadata.Component.Name != "example.com/presence" || got.Metadata.Component.Version != "v1.2.3" {
		t.Errorf("SBOM: got %s of %+v", got.BOMFormat, got.Metadata.Component)
	}
	hash := struct{ Name, Value string }{"cdx:gomod:binary:hash:SHA-256", fmt.Sprintf("%x", sha256.Sum256(binary))}
	if !slices.Contains(got.Metadata.Properties, hash) {
		t.Errorf("SBOM: no %v in %v", hash, got.Metadata.Properties)
	}
	if module := (struct{ Name, Version string }{"github.com/r3labs/sse/v2", "v2.10.0"}); !slices.Contains(got.Components, module) {
		t.Errorf("SBOM: no %v in %v", module, got.Components)
	}
}

// imageHolds checks the configuration and the content of an image archive.
func imageHolds(t *testing.T, path, goarch string, binary, sbom []byte) {
	t.Helper()
	files := unpackTar(t, bytes.NewReader(released(t, path)), 0)
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil || len(manifest) != 1 || !slices.Equal(manifest[0].RepoTags, []string{"presence:v1.2.3"}) {
		t.Fatalf("got manifest %s %v", files["manifest.json"], err)
	}
	var image struct {
		Architecture, OS string
		Config           map[string]any
	}
	if err := json.Unmarshal(files[manifest[0].Config], &image); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"Entrypoint": []any{"/presence"}, "Cmd": []any{"serve"}, "User": "65532:65532",
		"Env":          []any{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		"ExposedPorts": map[string]any{"8080/tcp": map[string]any{}},
		"Healthcheck": map[string]any{"Test": []any{"CMD", "/presence", "health"}, "Interval": 10e9, "Timeout": 3e9, "StartPeriod": 5e9,
			"Retries": 3.0},
		"Labels": map[string]any{
			"org.opencontainers.image.title":       "presence",
			"org.opencontainers.image.description": "Self-hosted presence server: live user counts, members and messages over Server-Sent Events",
			"org.opencontainers.image.licenses":    "MIT",
			"org.opencontainers.image.source":      "https://example.com/presence",
			"org.opencontainers.image.version":     "v1.2.3",
		},
	}
	if image.OS != "linux" || image.Architecture != goarch || !reflect.DeepEqual(image.Config, want) {
		t.Errorf("%s: got %s/%s %v, want %v", path, image.OS, image.Architecture, image.Config, want)
	}

	content := map[string][]byte{}
	for _, layer := range manifest[0].Layers {
		for name, b := range unpackGzip(t, files[layer]) {
			content[name] = b
		}
	}
	const roots, list = "etc/ssl/certs/ca-certificates.crt", "usr/share/sbom/presence.cdx.json"
	holds(t, path, content, "presence", roots, list)
	if !bytes.Equal(content["presence"], binary) || !bytes.Equal(content[list], sbom) {
		t.Errorf("%s: binary or SBOM differ from the other files of the release", path)
	}
	certificates := 0
	for rest := content[roots]; ; certificates++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
	}
	if certificates < 100 {
		t.Errorf("%s: got %d certificates, want at least 100", path, certificates)
	}
}
