package main

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// envName returns the name of a flag's environment variable.
func envName(flag string) string {
	return "PRESENCE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// flagOnly reports whether a flag has no environment variable.
func flagOnly(flag string) bool { return flag == "help" || flag == "version" }

// environment returns a resolver that takes the flags missing from the command line from getenv. It
// replaces Kong's own env tags, which can read only the environment of the process.
func environment(getenv func(string) string) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if v := getenv(envName(flag.Name)); v != "" && !flagOnly(flag.Name) {
			return v, nil
		}
		return nil, nil
	})
}

// printHelp prints the help of a command: a one-sentence summary, the usage, an example and the
// flags. It wraps Kong's own printer, which would begin with the usage.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	command := ctx.Selected()
	if command == nil {
		command = ctx.Model.Node
	}
	if _, err := fmt.Fprintf(ctx.Stdout, "%s\n\n", command.Help); err != nil {
		return err
	}
	command.Help = ""
	return kong.DefaultHelpPrinter(options, ctx)
}

// helpLine returns the help text of a flag or an argument. For a flag, it appends the environment
// variable.
func helpLine(v *kong.Value) string {
	if v.Flag == nil || flagOnly(v.Name) {
		return v.Help
	}
	return v.Help + " ($" + envName(v.Name) + ")"
}

// verbatim decodes a string flag byte for byte. Kong's own decoder would change a secret that is
// not valid UTF-8, because it uses JSON, which replaces invalid bytes with U+FFFD.
func verbatim(ctx *kong.DecodeContext, target reflect.Value) error {
	t, err := ctx.Scan.PopValue("string")
	if err == nil {
		target.SetString(t.String())
	}
	return err
}

// size is the value of a flag that sets a number of bytes, such as 65536, 64KiB or 1MiB. It is 0 if
// the flag is not set, and at least 1 otherwise.
type size int

// sizeOf decodes a size. Its error states the range from the tag of the flag.
func sizeOf(ctx *kong.DecodeContext, target reflect.Value) error {
	t, err := ctx.Scan.PopValue("size")
	if err != nil {
		return err
	}
	s, ok := parseSize(t.String())
	if !ok || s == 0 && !ctx.Value.Tag.Has("zero") {
		return fmt.Errorf("%q is not a size from %s, such as 65536, 64KiB or 1MiB", t.String(), ctx.Value.Tag.Get("range"))
	}
	target.SetInt(int64(s))
	return nil
}

// parseSize parses a size. ok is false if text is not a valid size.
func parseSize(text string) (s size, ok bool) {
	digits, shift := text, 0
	for unit, n := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if rest, ok := strings.CutSuffix(digits, unit); ok {
			digits, shift = rest, n
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 31-shift)
	if err != nil {
		return 0, false
	}
	return size(n << shift), true
}
