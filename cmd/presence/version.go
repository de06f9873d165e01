package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// version is the version of the release. The build sets it with -ldflags "-X main.version=v1.2.3".
var version string

// versionLine is the command that prints the version.
type versionLine struct{}

// versionFlag is the --version flag, which prints the same line.
type versionFlag bool

// BeforeReset prints the version and stops the parsing, as --help does.
func (versionFlag) BeforeReset(app *kong.Kong, p *process) error {
	err := versionLine{}.Run(p)
	app.Exit(0)
	return err
}

// Help returns the example that --help prints.
func (versionLine) Help() string { return "Example:\n\n    presence version" }

// Run prints the versions of presence and of Go.
func (versionLine) Run(p *process) error {
	_, err := fmt.Fprintln(p.stdout, "presence", buildVersion(), runtime.Version())
	return err
}

// buildVersion returns the version of the release, or that of the module if the build set none.
func buildVersion() string {
	info, _ := debug.ReadBuildInfo()
	return cmp.Or(version, info.Main.Version)
}
