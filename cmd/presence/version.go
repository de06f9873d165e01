package main

import (
	"cmp"
	"fmt"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// version is set with -ldflags "-X main.version=v1.2.3".
var version string

// versionLine prints the version.
type versionLine struct{}

// versionFlag is --version, which prints the version too.
type versionFlag bool

// BeforeReset prints the version and ends the parsing, as --help does.
func (versionFlag) BeforeReset(app *kong.Kong, p *process) error {
	err := versionLine{}.Run(p)
	app.Exit(0)
	return err
}

// Help returns the example of --help.
func (versionLine) Help() string { return "Example:\n\n    presence version" }

// Run prints the version of presence and the version of Go.
func (versionLine) Run(p *process) error {
	info, _ := debug.ReadBuildInfo()
	_, err := fmt.Fprintln(p.stdout, "presence", cmp.Or(version, info.Main.Version), info.GoVersion)
	return err
}
