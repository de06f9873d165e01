package presence_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"
)

// The maximum number of lines of a function, from func to its closing brace.
const (
	maxLines     = 60
	maxLongLines = 80 // for the functions of longFunctions
)

// longFunctions lists the functions that may exceed maxLines, with the reason. It has at most
// maxLongFunctions entries.
var longFunctions = map[string]string{
	cmdTree + "/presence.serve.Run": "the steps of the startup are in one place and in order",
}

const maxLongFunctions = 2

// No function has more than maxLines lines, in any package and for any system. Test files are
// exempt.
func TestFunctionLength(t *testing.T) {
	t.Parallel()
	if len(longFunctions) > maxLongFunctions {
		t.Errorf("got %d functions in longFunctions (over %d lines), want at most %d", len(longFunctions), maxLines, maxLongFunctions)
	}
	seen := map[string]bool{}
	fset := token.NewFileSet()
	m := loadModule(t)
	for _, p := range m.packages {
		for _, name := range p.sources() {
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for fn, length := range lengths(fset, file) {
				fn = p.ImportPath + "." + fn
				limit := maxLines
				if longFunctions[fn] != "" && length > maxLines {
					seen[fn] = true
					limit = maxLongLines
					t.Logf("%s (%s) has %d lines: %s", fn, name, length, longFunctions[fn])
				}
				if length > limit {
					t.Errorf("%s (%s): got %d lines, want at most %d: move a step into a function of its own", fn, name, length, limit)
				}
			}
		}
	}
	for fn := range longFunctions {
		if !seen[fn] {
			t.Errorf("%s: got no function over %d lines, want one: remove it from longFunctions", fn, maxLines)
		}
	}
}

// lengths returns the number of lines of each function in the file. A function literal counts
// toward the function or variable that contains it.
func lengths(fset *token.FileSet, file *ast.File) map[string]int {
	found := map[string]int{}
	measure := func(name string, node ast.Node) {
		found[name] = fset.Position(node.End()).Line - fset.Position(node.Pos()).Line + 1
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				name = receiver(d.Recv.List[0].Type) + "." + name
			}
			measure(name, d)
		case *ast.GenDecl:
			ast.Inspect(d, func(node ast.Node) bool {
				lit, ok := node.(*ast.FuncLit)
				if ok {
					measure("func at "+fset.Position(lit.Pos()).String(), lit)
				}
				return !ok
			})
		}
	}
	return found
}

// receiver returns the type name of a receiver.
func receiver(typ ast.Expr) string {
	switch t := typ.(type) {
	case *ast.StarExpr:
		return receiver(t.X)
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.IndexListExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	}
	return "?"
}
