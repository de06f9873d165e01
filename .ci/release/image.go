package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// image makes the image of the last stage. built has the files of the build stage by their paths.
func (d *dockerfile) image(p platform, vars []string, at time.Time, built map[string]file) (v1.Image, error) {
	image := v1.Image(empty.Image)
	config := v1.Config{
		Env:    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, // as docker build
		Labels: map[string]string{}, ExposedPorts: map[string]struct{}{},
	}
	lex, env := shell.NewLex('\\'), shell.EnvsFromSlice(vars)
	for _, instruction := range d.stages[1].Commands {
		text := fmt.Sprint(instruction)
		if c, ok := instruction.(instructions.SupportsSingleWordExpansion); ok {
			if err := c.Expand(func(word string) (string, error) {
				expanded, _, err := lex.ProcessWord(word, env)
				return expanded, err
			}); err != nil {
				return nil, fmt.Errorf("%s: %w", text, err)
			}
		}
		c, ok := instruction.(*instructions.CopyCommand)
		if !ok {
			if err := configure(&config, instruction); err != nil {
				return nil, fmt.Errorf("%s: %w", text, err)
			}
			continue
		}
		layer, err := copied(c, at, built)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		if image, err = mutate.Append(image, mutate.Addendum{
			Layer: layer, History: v1.History{CreatedBy: text, Created: v1.Time{Time: at}},
		}); err != nil {
			return nil, err
		}
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created, file.Config = p.os, p.arch, v1.Time{Time: at}, config
	return mutate.ConfigFile(image, file)
}

// configure applies an instruction that changes only the configuration.
func configure(config *v1.Config, instruction instructions.Command) error {
	switch c := instruction.(type) {
	case *instructions.ArgCommand:
	case *instructions.LabelCommand:
		for _, label := range c.Labels {
			config.Labels[label.Key] = label.Value
		}
	case *instructions.UserCommand:
		config.User = c.User
	case *instructions.ExposeCommand:
		for _, port := range c.Ports {
			config.ExposedPorts[port+"/tcp"] = struct{}{}
		}
	case *instructions.HealthCheckCommand:
		config.Healthcheck = &v1.HealthConfig{
			Test: c.Health.Test, Interval: c.Health.Interval, Timeout: c.Health.Timeout,
			StartPeriod: c.Health.StartPeriod, Retries: c.Health.Retries,
		}
	case *instructions.EntrypointCommand:
		config.Entrypoint = c.CmdLine
	case *instructions.CmdCommand:
		config.Cmd = c.CmdLine
	default:
		return errors.New("unknown instruction")
	}
	return nil
}

// copied returns the layer of a COPY from the build stage: the files and their directories.
func copied(c *instructions.CopyCommand, at time.Time, built map[string]file) (v1.Layer, error) {
	var files []file
	for _, source := range c.SourcePaths {
		f, ok := built[source]
		if !ok || c.From == "" {
			return nil, fmt.Errorf("unknown file of the build stage: %s", source)
		}
		f.name = strings.TrimPrefix(c.DestPath, "/")
		if strings.HasSuffix(c.DestPath, "/") {
			f.name += path.Base(source)
		}
		for i, letter := range f.name {
			if letter == '/' {
				files = append(files, file{name: f.name[:i+1], mode: 0o755})
			}
		}
		files = append(files, f)
	}
	var b bytes.Buffer
	if err := writeTar(tar.NewWriter(&b), files, at); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
}

// writeImage writes an archive with one image and manifest.json, the format of docker save. All
// releases of Docker and Podman load it. An OCI layout can have both architectures, but a Docker
// engine without the containerd image store cannot load it. Therefore each platform has an archive.
func (r release) writeImage(to string, image v1.Image) error {
	tag, err := name.NewTag("presence:" + r.version)
	if err != nil {
		return err
	}
	fmt.Println(to)
	return tarball.WriteToFile(filepath.Join(r.dist, to), tag, image)
}

// certificates returns the root certificates of Mozilla in the release that go.mod names, so that
// they do not depend on the machine. It omits roots with a constraint, such as a date after which
// Mozilla rejects new certificates, because a file of certificates cannot express it.
func certificates() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
		}
	}
	return b.Bytes()
}
