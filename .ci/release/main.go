// Command release makes the files of a release without a Docker engine. The Makefile runs it: make
// release. For each platform it makes
//
//   - an archive with the binary and the licences, and on Linux the units of systemd;
//   - an SBOM of the binary;
//   - on Linux an image archive for docker load and podman load.
//
// SHA256SUMS has the checksums of all files. The same sources, version and time give the same bytes
// on any machine.
//
// The Dockerfile is the only description of the build and of the image. The tool runs the commands
// of its build stage, and reads the content and the configuration of the image from its last stage.
// It fails if it finds an instruction that it does not know.
package main

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// release is the input of a release.
type release struct {
	root    string    // directory of the project
	dist    string    // directory of the files
	version string    // version of the binary, and part of each file name
	time    time.Time // time of all files and of the images
	bin     string    // directory of the programs that the build needs
}

// platform is an operating system and an architecture, in the terms of Go.
type platform struct{ os, arch string }

// validVersion matches a valid tag of an image, because the version is one.
var validVersion = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run() error {
	r := release{}
	flag.StringVar(&r.root, "root", "../..", "directory of the project")
	flag.StringVar(&r.dist, "dist", "", "directory of the files; presence_* and SHA256SUMS in it are replaced")
	flag.StringVar(&r.version, "version", "", "version of the release")
	seconds := flag.Int64("time", 0, "time of all files, in seconds since 1970")
	platforms := flag.String("platforms", "", "platforms such as linux/amd64, separated by blanks")
	flag.Parse()
	if r.dist == "" || *platforms == "" {
		return errors.New("-dist and -platforms are required")
	}
	if !validVersion.MatchString(r.version) {
		return fmt.Errorf("version %q is not a valid tag of an image", r.version)
	}
	// The earliest time of a zip archive is in 1980.
	r.time = time.Unix(max(*seconds, time.Date(1980, 1, 2, 0, 0, 0, 0, time.UTC).Unix()), 0).UTC()

	if err := r.clean(); err != nil {
		return err
	}
	docker, err := readDockerfile(filepath.Join(r.root, "Dockerfile"))
	if err != nil {
		return err
	}
	if r.bin, err = os.MkdirTemp("", "presence-release-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.bin)
	for name := range strings.FieldsSeq(*platforms) {
		goos, goarch, ok := strings.Cut(name, "/")
		if !ok {
			return fmt.Errorf("platform %q is not OS/ARCHITECTURE", name)
		}
		if err := r.build(docker, platform{goos, goarch}); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return r.sum()
}

// clean creates the directory, and removes the files of an earlier release from it.
func (r release) clean() error {
	if err := os.MkdirAll(r.dist, 0o755); err != nil {
		return err
	}
	old, err := r.files()
	if err != nil {
		return err
	}
	for _, name := range append(old, "SHA256SUMS") {
		if err := os.Remove(filepath.Join(r.dist, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// files returns the sorted names of the files of the release in the directory, without SHA256SUMS.
func (r release) files() ([]string, error) {
	entries, err := os.ReadDir(r.dist)
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "presence_") && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, err
}

// sum writes SHA256SUMS.
func (r release) sum() error {
	names, err := r.files()
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(r.dist, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(b), name)
	}
	return r.write("SHA256SUMS", []byte(sums.String()))
}

// write writes one file of the release.
func (r release) write(name string, b []byte) error {
	fmt.Println(name)
	return os.WriteFile(filepath.Join(r.dist, name), b, 0o644)
}

// build makes the files for one platform.
func (r release) build(docker *dockerfile, p platform) error {
	stage, err := os.MkdirTemp("", "presence-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	vars := []string{"VERSION=" + r.version, "TARGETOS=" + p.os, "TARGETARCH=" + p.arch}
	if err := docker.build(r.root, stage, r.bin, vars); err != nil {
		return err
	}
	binary, err := os.ReadFile(filepath.Join(stage, "presence"))
	if err != nil {
		return err
	}
	sbom, err := os.ReadFile(filepath.Join(stage, "presence.cdx.json"))
	if err != nil {
		return err
	}
	if sbom, err = portable(sbom); err != nil {
		return err
	}
	name := fmt.Sprintf("presence_%s_%s_%s", r.version, p.os, p.arch)
	if err := r.write(name+".cdx.json", sbom); err != nil {
		return err
	}
	if err := r.archive(name, p, binary); err != nil || p.os != "linux" {
		return err
	}
	image, err := docker.image(p, vars, r.time, map[string]file{
		"/presence":                          {content: binary, mode: 0o755},
		"/presence.cdx.json":                 {content: sbom, mode: 0o644},
		"/etc/ssl/certs/ca-certificates.crt": {content: certificates(), mode: 0o644},
	})
	if err != nil {
		return err
	}
	return r.writeImage(fmt.Sprintf("presence_%s_image_%s_%s.tar", r.version, p.os, p.arch), image)
}
