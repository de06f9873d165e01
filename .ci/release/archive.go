package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// file is a file of an archive or of an image. A directory has a name that ends with a slash.
type file struct {
	name    string
	content []byte
	mode    fs.FileMode
}

// archive writes the archive of a platform: a zip archive for Windows, else tar with gzip. All
// files are in one directory that has the name of the archive.
func (r release) archive(name string, p platform, binary []byte) error {
	files := []file{{name: name + "/", mode: 0o755}}
	add := func(path string, b []byte, mode fs.FileMode) {
		files = append(files, file{name: name + "/" + path, content: b, mode: mode})
	}
	program := "presence"
	if p.os == "windows" {
		program += ".exe"
	}
	add(program, binary, 0o755)
	texts := []string{"LICENSE", "README.md"}
	if p.os == "linux" {
		add("deploy/", nil, 0o755)
		texts = append(texts, "deploy/presence.service", "deploy/presence.socket", "deploy/seccomp.json")
	}
	for _, text := range texts {
		b, err := os.ReadFile(filepath.Join(r.root, text))
		if err != nil {
			return err
		}
		add(text, b, 0o644)
	}
	licences, err := r.licences(p)
	if err != nil {
		return err
	}
	add("THIRD-PARTY-LICENSES", licences, 0o644)

	var b bytes.Buffer
	if p.os == "windows" {
		err = writeZip(zip.NewWriter(&b), files, r.time)
		return errors.Join(err, r.write(name+".zip", b.Bytes()))
	}
	compressed, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := errors.Join(writeTar(tar.NewWriter(compressed), files, r.time), compressed.Close()); err != nil {
		return err
	}
	return r.write(name+".tar.gz", b.Bytes())
}

// writeTar writes the files with one time, and with root as their owner.
func writeTar(w *tar.Writer, files []file, at time.Time) error {
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.content)), Mode: int64(f.mode), ModTime: at, Format: tar.FormatUSTAR}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(f.content); err != nil {
			return err
		}
	}
	return w.Close()
}

// writeZip writes the files with one time.
func writeZip(w *zip.Writer, files []file, at time.Time) error {
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: at}
		h.SetMode(f.mode)
		if strings.HasSuffix(f.name, "/") {
			h.Method = zip.Store
			h.SetMode(f.mode | fs.ModeDir)
		}
		into, err := w.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := into.Write(f.content); err != nil {
			return err
		}
	}
	return w.Close()
}

// module is a module of which the binary has packages.
type module struct{ Path, Version, Dir string }

var licence = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// licences returns the licences of all modules in the binary, and of Go. Each of them requires that
// a binary comes with its text. The Mozilla Public License also requires the way to the sources.
func (r release) licences(p platform) ([]byte, error) {
	command := exec.Command("go", "list", "-deps", "-json=Dir,Module", "./cmd/presence")
	command.Dir, command.Stderr = r.root, os.Stderr
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOWORK=off")
	listed, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	texts := map[module]map[string]bool{} // the files of each module
	for packages := json.NewDecoder(bytes.NewReader(listed)); ; {
		var p struct {
			Dir    string
			Module *struct {
				module
				Main bool
			}
		}
		if err := packages.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		if p.Module == nil || p.Module.Main {
			continue
		}
		m := p.Module.module
		if texts[m] == nil {
			texts[m] = map[string]bool{}
		}
		for dir := p.Dir; strings.HasPrefix(dir, m.Dir); dir = filepath.Dir(dir) {
			if err := find(dir, texts[m]); err != nil {
				return nil, err
			}
		}
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	std := module{Path: "Go and its standard library", Dir: strings.TrimSpace(string(root))}
	texts[std] = map[string]bool{}
	if err := find(std.Dir, texts[std]); err != nil {
		return nil, err
	}
	return concatenate(texts)
}

// find adds the licences in the directory to files.
func find(dir string, files map[string]bool) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Type().IsRegular() && licence.MatchString(e.Name()) && filepath.Ext(e.Name()) != ".go" {
			files[filepath.Join(dir, e.Name())] = true
		}
	}
	return err
}

// concatenate writes the texts of all modules in the order of their paths.
func concatenate(texts map[module]map[string]bool) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintln(&b, "The binary has code of these modules. To get the unchanged sources of one of them, run\n"+
		"go mod download -json MODULE@VERSION, which prints their directory.")
	sorted := func(a, b module) int { return cmp.Compare(a.Path, b.Path) }
	for _, m := range slices.SortedFunc(maps.Keys(texts), sorted) {
		if len(texts[m]) == 0 {
			return nil, fmt.Errorf("module without a licence: %s", m.Path)
		}
		for _, path := range slices.Sorted(maps.Keys(texts[m])) {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			name, err := filepath.Rel(m.Dir, path)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&b, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80),
				strings.Join(strings.Fields(m.Path+" "+m.Version+" "+filepath.ToSlash(name)), " "), bytes.TrimSpace(text))
		}
	}
	return b.Bytes(), nil
}
