package presence_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The files of a package form layers: types and rules at the bottom, the functions that use them
// above. The tests below type-check each package of the module as it is built for linux/amd64, and
// build a graph of the uses between its files. Test files are excluded.
//
// A file uses another file if it names a package-level object, a method or a struct field that the
// other file defines. A file with methods also uses the file that defines their receiver type.
//
// To print the layers of every package, and its cycles if it has any:
//
//	go test -v -run TestNoCycles ./pkg/presence

// cyclic lists the packages that may still have cycles between files.
var cyclic = []string{guardPkg}

// pairs lists, per package, the only files that are allowed to use each other.
var pairs = map[string][]string{
	streamPkg: {"direct_linux.go", "loop_linux.go"},
}

// layered lists the packages whose doc.go lists their files from bottom to top. The list is in the
// package comment. In pkg/presence it is in a comment after the package clause, because importers
// do not need it.
var layered = []string{presencePkg, hubPkg, doctorPkg}

// TestNoCycles fails if the files of a package use each other in a cycle.
func TestNoCycles(t *testing.T) {
	m := loadModule(t)
	for _, p := range m.packages {
		t.Run(p.ImportPath, func(t *testing.T) {
			g := m.graph(t, p)
			for i, layer := range g.layers() {
				t.Logf("layer %d: %s", i+1, strings.Join(layer, " "))
			}
			report := t.Errorf
			if slices.Contains(cyclic, p.ImportPath) {
				report = t.Logf
			}
			for _, cycle := range g.cycles() {
				if !subset(cycle, pairs[p.ImportPath]) {
					report("%s", g.describe(cycle))
				}
			}
		})
	}
	for _, pkg := range slices.Concat(cyclic, slices.Collect(maps.Keys(pairs)), layered) {
		m.find(t, pkg)
	}
}

// TestLayers fails unless the doc.go of each layered package names its files from bottom to top.
func TestLayers(t *testing.T) {
	m := loadModule(t)
	for _, pkg := range layered {
		g := m.graph(t, m.find(t, pkg))
		if faults := g.unordered(); len(faults) > 0 {
			t.Errorf("%s: got these faults in the list of files in doc.go:\n  %s\nwant this order, from bottom to top:\n%s",
				pkg, strings.Join(faults, "\n  "), g.order())
		}
	}
}

// TestUses checks the graph, its layers and its cycles for packages with known uses.
func TestUses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		files  map[string]string
		layers string
		cycles string
		faults []string
	}{{
		name: "methods, fields and functions",
		files: map[string]string{
			"doc.go":  "// Package p has a.go, then b.go.\n//\n// And d.go, c.go, a.go.\npackage p",
			"a.go":    "package p; type A struct{ n int }",
			"b.go":    "package p; func (a *A) Add() { println() }",
			"c.go":    "package p; func c() int { return d().n }",
			"d.go":    "package p; func d() (a struct{ A }) { a.Add(); return }",
			"else.go": "package p; var x = struct{ n int }{n: 1}.n",
		},
		layers: "a.go doc.go else.go | b.go | d.go | c.go",
		faults: []string{"a.go is named 2 times", "else.go is not named"},
	}, {
		name: "a method below its receiver",
		files: map[string]string{
			"doc.go": "// Package p: m.go, t.go, old.go.\npackage p",
			"m.go":   "package p; func (T) M() {}",
			"t.go":   "package p; type T struct{}",
		},
		layers: "doc.go t.go | m.go",
		faults: []string{"old.go does not exist", "m.go is named before t.go, which it uses: m.go:1 uses T (t.go:1)"},
	}, {
		name: "a cycle of three through a generic type, and an interface that cuts another",
		files: map[string]string{
			"doc.go":  "// Package p: i.go, impl.go, x.go, y.go, z.go.\npackage p",
			"i.go":    "package p; type I interface{ F() }; func call(i I) { i.F() }",
			"impl.go": "package p; type impl struct{}; func (impl) F() { call(impl{}) }",
			"x.go":    "package p; type X[T any] struct{ v T }; func x() { y() }",
			"y.go":    "package p\n\nfunc y() { z(); z() }",
			"z.go":    "package p; func z() { _ = X[int]{}.v; call(nil) }",
		},
		layers: "doc.go i.go | impl.go x.go y.go z.go",
		cycles: "x.go y.go z.go",
		faults: []string{
			"x.go is named before y.go, which it uses: x.go:1 uses y (y.go:3)",
			"y.go is named before z.go, which it uses: y.go:3 uses z (z.go:1)",
		},
	}} {
		t.Run(tc.name, func(t *testing.T) {
			fset := token.NewFileSet()
			var files []*ast.File
			for _, name := range slices.Sorted(maps.Keys(tc.files)) {
				file, err := parser.ParseFile(fset, name, tc.files[name], parser.ParseComments)
				if err != nil {
					t.Fatal(err)
				}
				files = append(files, file)
			}
			g, err := newGraph(fset, "p", files, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := joined(g.layers()); got != tc.layers {
				t.Errorf("layers: got %s, want %s", got, tc.layers)
			}
			if got := joined(g.cycles()); got != tc.cycles {
				t.Errorf("cycles: got %s, want %s", got, tc.cycles)
			}
			if got := g.unordered(); !slices.Equal(got, tc.faults) {
				t.Errorf("faults of the package comment:\n got %q\nwant %q", got, tc.faults)
			}
		})
	}
}

// use is one use of an object by a file of the same package.
type use struct {
	from, to token.Position // positions of the use and of the definition
	name     string         // name of the object, with its receiver type
}

func (u use) String() string {
	return fmt.Sprintf("%s uses %s (%s)", position(u.from), u.name, position(u.to))
}

func position(p token.Position) string {
	return fmt.Sprintf("%s:%d", filepath.Base(p.Filename), p.Line)
}

// graph holds the uses between the files of a package.
type graph struct {
	comment string   // the package comment, and the comment after the package clause
	files   []string // sorted base names, files for other systems included
	empty   []string // the files that declare nothing
	// uses[a][b] holds the uses of file b by file a, one for each object, sorted by position.
	uses map[string]map[string][]use
}

// newGraph type-checks a package. The files must be parsed with comments and have base names.
func newGraph(fset *token.FileSet, path string, files []*ast.File, imp types.Importer) (*graph, error) {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: imp, Sizes: types.SizesFor("gc", "amd64")}
	pkg, err := conf.Check(path, fset, files, info)
	if err != nil {
		return nil, err
	}
	g := &graph{uses: map[string]map[string][]use{}}
	for _, file := range files {
		name := fset.File(file.Pos()).Name()
		g.files = append(g.files, name)
		g.uses[name] = map[string][]use{}
		g.comment += file.Doc.Text()
		if file.Doc != nil { // the list may be in a comment after the package clause
			for _, c := range file.Comments {
				if c.Pos() > file.Name.End() && len(file.Decls) == 0 {
					g.comment += c.Text()
				}
			}
		}
		if len(file.Decls) == 0 {
			g.empty = append(g.empty, name)
		}
	}
	var all []use
	for id, obj := range info.Uses {
		if obj.Pkg() == pkg {
			all = append(all, use{fset.Position(id.Pos()), fset.Position(obj.Pos()), nameOf(obj)})
		}
	}
	slices.SortFunc(all, func(a, b use) int {
		return cmp.Or(cmp.Compare(a.from.Filename, b.from.Filename), cmp.Compare(a.from.Offset, b.from.Offset))
	})
	for _, u := range all {
		from, to := u.from.Filename, u.to.Filename
		same := func(v use) bool { return v.to == u.to }
		if from != to && !slices.ContainsFunc(g.uses[from][to], same) {
			g.uses[from][to] = append(g.uses[from][to], u)
		}
	}
	slices.Sort(g.files)
	return g, nil
}

// nameOf returns the name of an object. The name of a method starts with its receiver type, as in
// T.M.
func nameOf(obj types.Object) string {
	fn, ok := obj.(*types.Func)
	if !ok || fn.Signature().Recv() == nil {
		return obj.Name()
	}
	typ := fn.Signature().Recv().Type()
	if ptr, ok := typ.(*types.Pointer); ok {
		typ = ptr.Elem()
	}
	if named, ok := typ.(*types.Named); ok {
		return named.Obj().Name() + "." + fn.Name()
	}
	return fn.Name()
}

// reached returns the files that a file uses, directly or indirectly.
func (g *graph) reached(file string) map[string]bool {
	seen := map[string]bool{}
	var visit func(string)
	visit = func(f string) {
		for to := range g.uses[f] {
			if !seen[to] {
				seen[to] = true
				visit(to)
			}
		}
	}
	visit(file)
	return seen
}

// cycles returns the strongly connected components of more than one file, each sorted.
func (g *graph) cycles() [][]string {
	reached := map[string]map[string]bool{}
	for _, f := range g.files {
		reached[f] = g.reached(f)
	}
	var cycles [][]string
	seen := map[string]bool{}
	for _, f := range g.files {
		if seen[f] || !reached[f][f] {
			continue
		}
		var cycle []string
		for _, to := range g.files {
			if reached[f][to] && reached[to][f] {
				cycle = append(cycle, to)
				seen[to] = true
			}
		}
		cycles = append(cycles, cycle)
	}
	return cycles
}

// describe lists the edges of a cycle and explains how to break the cycle.
func (g *graph) describe(cycle []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d files use each other in a cycle: %s\n", len(cycle), strings.Join(cycle, " "))
	for _, from := range cycle {
		for _, to := range cycle {
			uses := g.uses[from][to]
			if len(uses) == 0 {
				continue
			}
			fmt.Fprintf(&b, "  %s → %s: %s", from, to, uses[0])
			for _, u := range uses[1:] {
				fmt.Fprintf(&b, ", %s", u.name)
			}
			b.WriteByte('\n')
		}
	}
	b.WriteString("Cut the edge with the fewest uses: move the named objects into the file that uses them or into\n" +
		"a file below both, pass them as a value or a func, or declare an interface in the lower file.")
	return b.String()
}

// layers returns the files by layer, lowest layer first. A file is above all files that it uses.
// The files of a cycle share a layer.
func (g *graph) layers() [][]string {
	of := map[string][]string{} // the cycle of a file, or the file alone
	for _, f := range g.files {
		of[f] = []string{f}
	}
	for _, cycle := range g.cycles() {
		for _, f := range cycle {
			of[f] = cycle
		}
	}
	level := map[string]int{}
	var climb func(string) int
	climb = func(file string) int {
		if level[file] > 0 {
			return level[file]
		}
		height := 1
		for _, f := range of[file] {
			for to := range g.uses[f] {
				if !slices.Contains(of[file], to) {
					height = max(height, climb(to)+1)
				}
			}
		}
		level[file] = height
		return height
	}
	var layers [][]string
	for _, f := range g.files {
		for len(layers) < climb(f) {
			layers = append(layers, nil)
		}
		layers[level[f]-1] = append(layers[level[f]-1], f)
	}
	return layers
}

// order returns the layers as lines for a package comment.
func (g *graph) order() string {
	var b strings.Builder
	for _, layer := range g.layers() {
		layer = slices.DeleteFunc(layer, func(f string) bool { return slices.Contains(g.empty, f) })
		fmt.Fprintf(&b, "//\t%s\n", strings.Join(layer, ", "))
	}
	return b.String()
}

var goFile = regexp.MustCompile(`[\w./-]*\w\.go\b`)

// unordered returns the errors in the list of files in doc.go. The list must name each file that
// declares something exactly once, and after all files that it uses. It may also name test files
// and files of other directories.
func (g *graph) unordered() []string {
	var faults, named []string
	for _, name := range goFile.FindAllString(g.comment, -1) {
		switch {
		case strings.Contains(name, "/") || strings.HasSuffix(name, "_test.go"):
		case !slices.Contains(g.files, name):
			faults = append(faults, name+" does not exist")
		default:
			named = append(named, name)
		}
	}
	for _, f := range g.files {
		if n := count(named, f); n > 1 {
			faults = append(faults, fmt.Sprintf("%s is named %d times", f, n))
		} else if n == 0 && !slices.Contains(g.empty, f) {
			faults = append(faults, f+" is not named")
		}
	}
	for _, from := range g.files {
		for _, to := range g.files {
			uses := g.uses[from][to]
			at, below := slices.Index(named, from), slices.Index(named, to)
			if len(uses) > 0 && at >= 0 && at < below {
				faults = append(faults, fmt.Sprintf("%s is named before %s, which it uses: %s", from, to, uses[0]))
			}
		}
	}
	return faults
}

func count(list []string, s string) (n int) {
	for _, e := range list {
		if e == s {
			n++
		}
	}
	return n
}

func subset(list, of []string) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return !slices.Contains(of, s) })
}

func joined(lists [][]string) string {
	var parts []string
	for _, l := range lists {
		parts = append(parts, strings.Join(l, " "))
	}
	return strings.Join(parts, " | ")
}

// module holds the packages of this module, and an importer for the export data of their
// dependencies.
type module struct {
	packages []*built
	fset     *token.FileSet
	imports  types.Importer
}

// built is a package in the output of go list -export.
type built struct {
	ImportPath, Dir, Export string
	GoFiles, IgnoredGoFiles []string
	Module                  *struct{ Main bool }
}

// sources returns the sorted names of the package's files for all systems, without test files.
func (p *built) sources() []string {
	files := slices.Concat(p.GoFiles, p.IgnoredGoFiles)
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "_test.go") })
	slices.Sort(files)
	return files
}

var loadOnce = sync.OnceValues(func() (*module, error) {
	list := exec.Command("go", "list", "-deps", "-export",
		"-json=ImportPath,Dir,Export,GoFiles,IgnoredGoFiles,Module", home+"/...")
	list.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64")
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, &stderr)
	}
	m := &module{fset: token.NewFileSet()}
	exports := map[string]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(built)
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		exports[p.ImportPath] = p.Export
		if p.Module != nil && p.Module.Main {
			m.packages = append(m.packages, p)
		}
	}
	m.imports = importer.ForCompiler(m.fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	return m, nil
})

// loadModule loads the packages of the module. The go command compiles the packages that its cache
// lacks.
func loadModule(t *testing.T) *module {
	t.Helper()
	m, err := loadOnce()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *module) find(t *testing.T, pkg string) *built {
	t.Helper()
	i := slices.IndexFunc(m.packages, func(p *built) bool { return p.ImportPath == pkg })
	if i < 0 {
		t.Fatalf("got no package %s, want it (was it moved or renamed?)", pkg)
	}
	return m.packages[i]
}

// graph returns the graph of a package. It includes files for other systems, but not their uses.
func (m *module) graph(t *testing.T, p *built) *graph {
	t.Helper()
	var files []*ast.File
	for _, name := range p.GoFiles {
		src, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(m.fset, name, src, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	g, err := newGraph(m.fset, p.ImportPath, files, m.imports)
	if err != nil {
		t.Fatal(err)
	}
	g.files = p.sources()
	return g
}
