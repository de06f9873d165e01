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

// "Arrows point down" holds inside a package too: types and rules lie at the bottom, the verbs that
// use them above. The tests below type-check each package of the module as built for linux/amd64
// and draw the graph of its files by use. A file uses the file that defines a package-level object,
// a method or a struct field which it names, and the methods of a type use the file of the type.
// Test files are left out.
//
// To see the floors of every package, and its cycles if it has any:
//
//	go test -v -run TestNoCycles ./pkg/presence

// knotted lists the packages that may still have cycles; all others may not.
var knotted = []string{guardPkg}

// pairs lists, for each package that needs it, the only files that may use each other.
var pairs = map[string][]string{
	streamPkg: {"direct_linux.go", "loop_linux.go"},
}

// layered lists the packages whose doc.go names their files from bottom to top: in the package comment,
// or, as importers of the face need no list of files, in a comment behind the package clause.
var layered = []string{facePkg, hubPkg}

// TestNoCycles asks every package for a graph of files without a cycle.
func TestNoCycles(t *testing.T) {
	m := loadModule(t)
	for _, p := range m.packages {
		t.Run(p.ImportPath, func(t *testing.T) {
			g := m.graph(t, p)
			for i, floor := range g.floors() {
				t.Logf("floor %d: %s", i+1, strings.Join(floor, " "))
			}
			report := t.Errorf
			if slices.Contains(knotted, p.ImportPath) {
				report = t.Logf
			}
			for _, knot := range g.knots() {
				if !subset(knot, pairs[p.ImportPath]) {
					report("%s", g.describe(knot))
				}
			}
		})
	}
	for _, pkg := range slices.Concat(knotted, slices.Collect(maps.Keys(pairs)), layered) {
		m.find(t, pkg)
	}
}

// TestLayers asks the doc.go of each layered package for its files, bottom to top.
func TestLayers(t *testing.T) {
	m := loadModule(t)
	for _, pkg := range layered {
		g := m.graph(t, m.find(t, pkg))
		if faults := g.unordered(); len(faults) > 0 {
			t.Errorf("%s: the package comment must name the files from bottom to top:\n  %s\nin order, by floor:\n%s",
				pkg, strings.Join(faults, "\n  "), g.order())
		}
	}
}

// TestUses shows what the lister finds in a package whose uses are known.
func TestUses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		files  map[string]string
		floors string
		knots  string
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
		floors: "a.go doc.go else.go | b.go | d.go | c.go",
		faults: []string{"a.go is named 2 times", "else.go is not named"},
	}, {
		name: "a method below its receiver",
		files: map[string]string{
			"doc.go": "// Package p: m.go, t.go, old.go.\npackage p",
			"m.go":   "package p; func (T) M() {}",
			"t.go":   "package p; type T struct{}",
		},
		floors: "doc.go t.go | m.go",
		faults: []string{"no file is called old.go", "m.go stands before t.go, which it uses: m.go:1 uses T (t.go:1)"},
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
		floors: "doc.go i.go | impl.go x.go y.go z.go",
		knots:  "x.go y.go z.go",
		faults: []string{
			"x.go stands before y.go, which it uses: x.go:1 uses y (y.go:3)",
			"y.go stands before z.go, which it uses: y.go:3 uses z (z.go:1)",
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
			if got := joined(g.floors()); got != tc.floors {
				t.Errorf("floors = %s, want %s", got, tc.floors)
			}
			if got := joined(g.knots()); got != tc.knots {
				t.Errorf("knots = %s, want %s", got, tc.knots)
			}
			if got := g.unordered(); !slices.Equal(got, tc.faults) {
				t.Errorf("faults of the package comment:\n got %q\nwant %q", got, tc.faults)
			}
		})
	}
}

// use is one use of an object by a file of the same package.
type use struct {
	from, to token.Position // of the use and of the definition
	name     string         // of the object, with its receiver
}

func (u use) String() string {
	return fmt.Sprintf("%s uses %s (%s)", place(u.from), u.name, place(u.to))
}

func place(p token.Position) string { return fmt.Sprintf("%s:%d", filepath.Base(p.Filename), p.Line) }

// graph is the files of a package by use.
type graph struct {
	comment string   // of the package
	files   []string // sorted base names, with those of other systems
	empty   []string // the files that declare nothing
	// uses has, by user and used file, one use of each object, by position.
	uses map[string]map[string][]use
}

// newGraph type-checks a package. The files are parsed with comments and have base names.
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
		if file.Doc != nil { // a list that an importer does not need stands apart, behind the package clause
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

// nameOf returns the name of an object, after its type's if it is a method.
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

// reached returns the files that a file uses, directly or through others.
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

// knots returns the strongly connected components of more than one file, each sorted.
func (g *graph) knots() [][]string {
	reached := map[string]map[string]bool{}
	for _, f := range g.files {
		reached[f] = g.reached(f)
	}
	var knots [][]string
	seen := map[string]bool{}
	for _, f := range g.files {
		if seen[f] || !reached[f][f] {
			continue
		}
		var knot []string
		for _, to := range g.files {
			if reached[f][to] && reached[to][f] {
				knot = append(knot, to)
				seen[to] = true
			}
		}
		knots = append(knots, knot)
	}
	return knots
}

// describe lists the edges of a knot and says how to cut one.
func (g *graph) describe(knot []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d files use each other: %s\n", len(knot), strings.Join(knot, " "))
	for _, from := range knot {
		for _, to := range knot {
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
	b.WriteString("Cut the edge with the fewest uses: move what it names into the file that uses it or into one\n" +
		"below both, pass it in as a value or a func, or let the lower file declare an interface.")
	return b.String()
}

// floors returns the files by floor, lowest first. A file stands above all that it uses; the files
// of a knot share a floor.
func (g *graph) floors() [][]string {
	of := map[string][]string{} // the knot of a file, or the file alone
	for _, f := range g.files {
		of[f] = []string{f}
	}
	for _, knot := range g.knots() {
		for _, f := range knot {
			of[f] = knot
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
	var floors [][]string
	for _, f := range g.files {
		for len(floors) < climb(f) {
			floors = append(floors, nil)
		}
		floors[level[f]-1] = append(floors[level[f]-1], f)
	}
	return floors
}

// order returns the floors as lines for a package comment.
func (g *graph) order() string {
	var b strings.Builder
	for _, floor := range g.floors() {
		floor = slices.DeleteFunc(floor, func(f string) bool { return slices.Contains(g.empty, f) })
		fmt.Fprintf(&b, "//\t%s\n", strings.Join(floor, ", "))
	}
	return b.String()
}

var goFile = regexp.MustCompile(`[\w./-]*\w\.go\b`)

// unordered returns the faults in the package comment's list of files. It must name each file that
// declares something once, and none before a file that it uses. Files of tests and of other
// directories may be named as well.
func (g *graph) unordered() []string {
	var faults, named []string
	for _, name := range goFile.FindAllString(g.comment, -1) {
		switch {
		case strings.Contains(name, "/") || strings.HasSuffix(name, "_test.go"):
		case !slices.Contains(g.files, name):
			faults = append(faults, "no file is called "+name)
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
				faults = append(faults, fmt.Sprintf("%s stands before %s, which it uses: %s", from, to, uses[0]))
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

// module is the packages of this module and the export data of all that they link.
type module struct {
	packages []*built
	fset     *token.FileSet
	imports  types.Importer
}

// built is a package as go list -export describes it.
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

// loadModule lists the module's packages. The go command compiles those that its cache lacks.
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
		t.Fatalf("no package %s (moved? renamed?)", pkg)
	}
	return m.packages[i]
}

// graph returns the files of a package by use. Those of other systems have no uses.
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
