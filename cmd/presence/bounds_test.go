package main

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	gotoken "go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// boundsFiles is the open-file limit of the table of all bounds.
const boundsFiles = 20_000

// unlisted lists the flags that bound something, and are not in the table of all bounds.
var unlisted = map[string]string{
	"--max-connections-per-user":    "no limit by default; part of --max-connections",
	"--max-connections-per-address": "no limit by default; bounds the clients of one address",
	"--max-rooms-per-user":          "no limit by default; part of --max-rooms",
	"--max-unsent":                  "bounds one connection; part of --max-unsent-total",
	"--message-rate":                "limits CPU, and no memory",
	"--message-burst":               "limits CPU, and no memory",
	"--cost-rate":                   "limits CPU, and no memory",
	"--cost-burst":                  "limits CPU, and no memory",
	"--history-rate":                "limits a share of --history-bytes",
	"--history":                     "part of --history-bytes",
	"--history-age":                 "part of --history-bytes",
}

// TestBounds compares the table of all bounds in docs/architecture.md with the defaults of the
// flags and with the constants of the code, and adds it up. Each flag that bounds something is in
// it.
func TestBounds(t *testing.T) {
	rows := boundsTable(t)
	values, named, sum := boundValues(t), map[string]bool{}, 0
	for _, row := range rows[:len(rows)-1] {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			named[name[1]] = true
		}
		number, each, most := parseNumber(t, row[2]), parseNumber(t, row[3]), parseNumber(t, strings.TrimSuffix(row[4], " MiB"))
		if got := evaluate(t, row[1], values); got != number {
			t.Errorf("%s: %s is %d in the code, but %d in the table", row[0], row[1], got, number)
		}
		if want := (number*each + 1<<20 - 1) >> 20; want != most {
			t.Errorf("%s: %d × %d bytes are %d MiB, but %d in the table", row[0], number, each, want, most)
		}
		sum += most
	}
	if last := rows[len(rows)-1]; last[0] != "**sum**" || parseNumber(t, strings.TrimSuffix(last[4], " MiB")) != sum {
		t.Errorf("got the last row %q, want the sum %d MiB", last, sum)
	}
	for flag := range flagDefaults(t) {
		bounds := regexp.MustCompile(`^--(max-.*|history.*|.*-(bytes|rate|burst))$`).MatchString(flag)
		if listed := named[flag] || unlisted[flag] != ""; bounds && !listed {
			t.Errorf("%s is not in the table of all bounds", flag)
		}
		if named[flag] && unlisted[flag] != "" {
			t.Errorf("%s is in the table, and in unlisted", flag)
		}
	}
}

// boundsTable returns the cells of the table, without its head.
func boundsTable(t *testing.T) (rows [][]string) {
	t.Helper()
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(document), "\n### All bounds\n")
	if !found {
		t.Fatal("docs/architecture.md has no section All bounds")
	}
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "## ") {
			break
		}
		if cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|"); strings.HasPrefix(line, "|") {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			if len(cells) != 6 {
				t.Fatalf("%q has %d cells, want 6", line, len(cells))
			}
			rows = append(rows, cells)
		}
	}
	if len(rows) < 10 {
		t.Fatalf("the table has %d lines", len(rows))
	}
	return rows[2:]
}

func parseNumber(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.ReplaceAll(text, ",", ""))
	if err != nil {
		t.Fatalf("%q is not a number", text)
	}
	return n
}

// evaluate computes an expression of numbers, names of flags and constants, + and ×.
func evaluate(t *testing.T, expression string, values map[string]int) int {
	t.Helper()
	text := regexp.MustCompile("`([^`]+)`").ReplaceAllStringFunc(expression, func(name string) string {
		value, known := values[strings.Trim(name, "`")]
		if !known {
			t.Fatalf("%s is neither a flag nor a constant", name)
		}
		return strconv.Itoa(value)
	})
	result, err := types.Eval(gotoken.NewFileSet(), nil, gotoken.NoPos, strings.ReplaceAll(text, "×", "*"))
	if err != nil {
		t.Fatalf("%q: %v", expression, err)
	}
	n, _ := constant.Int64Val(result.Value)
	return int(n)
}

// boundValues returns the defaults of the flags, and the integer constants of the packages as
// package.name.
func boundValues(t *testing.T) map[string]int {
	t.Helper()
	values := map[string]int{}
	for flag, value := range flagDefaults(t) {
		if s, ok := parseSize(value); ok {
			values[flag] = int(s)
		}
	}
	streams, idle, err := limitFlags{}.connections(boundsFiles)
	if err != nil {
		t.Fatal(err)
	}
	values["--max-connections"], values["--max-idle-connections"] = streams, idle
	for _, dir := range []string{"", "backplane", "internal/hub", "internal/stream", "internal/guard", "internal/rates"} {
		dir = filepath.Join("..", "..", "pkg", "presence", dir)
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		names = slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
		for name, value := range intConstants(t, names) {
			values[filepath.Base(dir)+"."+name] = value
		}
	}
	return values
}

// intConstants returns the integer constants of the files of a package. It ignores type errors: the
// imports of the files are not resolved.
func intConstants(t *testing.T, names []string) map[string]int {
	t.Helper()
	set := gotoken.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	config := types.Config{Error: func(error) {}, IgnoreFuncBodies: true}
	pkg, _ := config.Check(files[0].Name.Name, set, files, nil)
	found := map[string]int{}
	for _, name := range pkg.Scope().Names() {
		if c, ok := pkg.Scope().Lookup(name).(*types.Const); ok && c.Val().Kind() == constant.Int {
			if n, exact := constant.Int64Val(c.Val()); exact {
				found[name] = int(n)
			}
		}
	}
	return found
}

// flagDefaults returns the flags of the command serve with their defaults.
func flagDefaults(t *testing.T) map[string]string {
	t.Helper()
	parser, err := newParser(t.Context(), &process{getenv: func(string) string { return "" }}, nil)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, command := range parser.Model.Leaves(true) {
		if command.Name == "serve" {
			for _, flag := range command.Flags {
				found["--"+flag.Name] = fmt.Sprint(flag.Default)
			}
		}
	}
	return found
}
