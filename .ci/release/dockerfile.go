package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// dockerfile is a Dockerfile of two stages: one builds the files, and one is the image.
type dockerfile struct{ stages []instructions.Stage }

// readDockerfile reads the Dockerfile and checks the form of its stages.
func readDockerfile(path string) (*dockerfile, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	parsed, err := parser.Parse(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil, err
	}
	if len(stages) != 2 || stages[1].BaseName != "scratch" {
		return nil, errors.New("the Dockerfile must have two stages, and the second must be FROM scratch")
	}
	return &dockerfile{stages}, nil
}

// build runs the commands of the build stage in the directory of the project. It replaces the root
// directory of the stage by the directory root: /presence becomes root/presence. Installed programs
// are in the directory bin, which several builds can share.
func (d *dockerfile) build(project, root, bin string, vars []string) error {
	for _, instruction := range d.stages[0].Commands {
		c, ok := instruction.(*instructions.RunCommand)
		if !ok {
			continue // WORKDIR, COPY, ARG: the command runs in the project
		}
		line := strings.Join(c.CmdLine, " ")
		if line == "go mod download" {
			continue // it only makes a layer; go build downloads the modules of the binary
		}
		words, err := shell.NewLex('\\').ProcessWords(line, shell.EnvsFromSlice(vars))
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		if err := runCommand(project, root, bin, words); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
	}
	return nil
}

// runCommand runs a command that may begin with variables: A=1 B=2 go build.
func runCommand(project, root, bin string, words []string) error {
	// These variables change a binary.
	env := append(os.Environ(), "GOFLAGS=-mod=readonly", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=",
		"GOFIPS140=off", "GOWORK=off", "GOOS=", "GOARCH=", "GOBIN="+bin)
	first := slices.IndexFunc(words, func(word string) bool { return !strings.Contains(word, "=") })
	if first < 0 {
		return errors.New("no command")
	}
	for i, word := range words[first:] {
		if strings.HasPrefix(word, "/") {
			words[first+i] = filepath.Join(root, word)
		}
	}
	name := words[first]
	if installed := filepath.Join(bin, name); exists(installed) {
		name = installed
	}
	command := exec.Command(name, words[first+1:]...)
	command.Dir, command.Env = project, append(env, words[:first]...)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// portable removes the checksums of the program that made the SBOM, because they depend on the
// machine.
func portable(sbom []byte) ([]byte, error) {
	var document struct {
		Metadata struct {
			Tools []map[string]any `json:"tools"`
		} `json:"metadata"`
	}
	all := map[string]any{}
	if err := errors.Join(json.Unmarshal(sbom, &document), json.Unmarshal(sbom, &all)); err != nil {
		return nil, err
	}
	if len(document.Metadata.Tools) != 1 {
		return nil, fmt.Errorf("the SBOM names %d programs, want 1", len(document.Metadata.Tools))
	}
	delete(document.Metadata.Tools[0], "hashes")
	all["metadata"].(map[string]any)["tools"] = document.Metadata.Tools
	b, err := json.MarshalIndent(all, "", "  ")
	return append(b, '\n'), err
}
