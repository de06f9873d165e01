package main

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// envName is the environment variable of a flag.
func envName(flag string) string {
	return "PRESENCE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// flagOnly reports whether a flag has no variable.
func flagOnly(flag string) bool { return flag == "help" || flag == "version" }

// environment fills the flags that are not given from getenv. Kong's own env
// tags read the environment of the process only.
func environment(getenv func(string) string) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if v := getenv(envName(flag.Name)); v != "" && !flagOnly(flag.Name) {
			return v, nil
		}
		return nil, nil
	})
}

// helpLine is what --help says of a flag or an argument.
func helpLine(v *kong.Value) string {
	if v.Flag == nil || flagOnly(v.Name) {
		return v.Help
	}
	return v.Help + " ($" + envName(v.Name) + ")"
}

// verbatim takes a string as it is. Kong's own way is through JSON, which puts
// U+FFFD for what is not UTF-8: a secret would become another one.
func verbatim(ctx *kong.DecodeContext, target reflect.Value) error {
	t, err := ctx.Scan.PopValue("string")
	if err == nil {
		target.SetString(t.String())
	}
	return err
}

// size is a number of bytes, at least 1, such as 65536, 64KiB or 1MiB; 0 if
// the flag was not given.
type size int

// sizeOf reads a size. The error states the range of the flag, which its tag gives.
func sizeOf(ctx *kong.DecodeContext, target reflect.Value) error {
	t, err := ctx.Scan.PopValue("size")
	if err != nil {
		return err
	}
	s, ok := parseSize(t.String())
	if !ok {
		return fmt.Errorf("%q is not a size from %s, such as 65536, 64KiB or 1MiB", t.String(), ctx.Value.Tag.Get("range"))
	}
	target.SetInt(int64(s))
	return nil
}

// parseSize returns the size that text is; ok is false if it is none.
func parseSize(text string) (s size, ok bool) {
	digits, shift := text, 0
	for unit, n := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if rest, ok := strings.CutSuffix(digits, unit); ok {
			digits, shift = rest, n
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 31-shift)
	if err != nil || n == 0 {
		return 0, false
	}
	return size(n << shift), true
}
