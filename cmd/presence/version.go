package main

import (
	"cmp"
	"fmt"
	"runtime/debug"
)

// version is set with -ldflags "-X main.version=v1.2.3".
var version string

// versionLine prints the version.
type versionLine struct{}

// Run prints the version and that of Go.
func (versionLine) Run(p *process) error {
	info, _ := debug.ReadBuildInfo()
	_, err := fmt.Fprintln(p.stdout, "presence", cmp.Or(version, info.Main.Version), info.GoVersion)
	return err
}
