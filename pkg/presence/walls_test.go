package presence_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The packages of this module, as the walls below speak of them.
const (
	home       = "example.com/presence"
	cmdTree    = home + "/cmd"
	webPkg     = home + "/web"
	facePkg    = home + "/pkg/presence"
	authPkg    = facePkg + "/auth"
	roomPkg    = facePkg + "/room"
	hubPkg     = facePkg + "/internal/hub"
	busPkg     = facePkg + "/backplane"
	streamPkg  = facePkg + "/internal/stream"
	socketPkg  = facePkg + "/internal/socket"
	guardPkg   = facePkg + "/internal/guard"
	inputPkg   = facePkg + "/internal/input"
	limitPkg   = facePkg + "/internal/loglimit"
	compactPkg = facePkg + "/internal/compact"
	clientPkg  = facePkg + "/client"
	natsPkg    = facePkg + "/nats"
	natsModule = "github.com/nats-io"
)

// wall is one rule of who may know whom.
type wall struct {
	why  string                // what would no longer be true; the failure's text
	of   func(p *listed) bool  // the packages that the wall is built around
	bars func(dep string) bool // what must not come through it
	// direct walls look at what a package's own files import, the others at
	// all that a program links with it.
	direct bool
}

var walls = []wall{
	{
		why:  "input is the ground floor: it imports the standard library only",
		of:   is(inputPkg),
		bars: not(standard),
	}, {
		why:  "room knows the standard library and the rules of input only",
		of:   is(roomPkg),
		bars: not(either(standard, oneOf(inputPkg))),
	}, {
		why:    "room is plain data and functions of it: no HTTP, no lock, no goroutine",
		of:     is(roomPkg),
		bars:   oneOf("net/http", "sync", "sync/atomic", "context"),
		direct: true,
	}, {
		why:    "hub takes an authenticated user and a client: it has no HTTP of its own",
		of:     is(hubPkg),
		bars:   either(within("net/http"), within("github.com/go-chi")),
		direct: true,
	}, {
		why:  "hub is below the face: it knows no tokens, requests or routes",
		of:   is(hubPkg),
		bars: oneOf(authPkg, guardPkg, facePkg),
	}, {
		why:  "an engine needs the rooms' names only: backplane knows room and the standard library",
		of:   is(busPkg),
		bars: not(either(standard, oneOf(roomPkg, inputPkg))),
	}, {
		why:  "stream carries bytes and knows no users",
		of:   is(streamPkg),
		bars: oneOf(authPkg, roomPkg, hubPkg, busPkg, facePkg),
	}, {
		why:  "loglimit and compact are tools for all packages, and know none",
		of:   func(p *listed) bool { return p.ImportPath == limitPkg || p.ImportPath == compactPkg },
		bars: within(home),
	}, {
		why:  "socket is below all that serve connections",
		of:   is(socketPkg),
		bars: within(home),
	}, {
		why:  "guard bounds requests: it knows no users, no rooms and no streams",
		of:   is(guardPkg),
		bars: oneOf(authPkg, roomPkg, streamPkg, hubPkg, busPkg, facePkg),
	}, {
		why:  "auth knows no rooms: of this module it imports the rules of input only",
		of:   is(authPkg),
		bars: func(dep string) bool { return within(home)(dep) && dep != authPkg && dep != inputPkg },
	}, {
		why:  "client knows the wire only, as a program on another machine does",
		of:   is(clientPkg),
		bars: within(home),
	}, {
		why:  "web knows nobody: it is files",
		of:   is(webPkg),
		bars: within(home),
	}, {
		why:  "a program that mounts the library does not link the command line or the page",
		of:   is(facePkg),
		bars: either(within(webPkg), either(within(cmdTree), within("github.com/alecthomas/kong"))),
	}, {
		why:  "a program without NATS links no NATS",
		of:   func(p *listed) bool { return p.ImportPath != natsPkg && !slices.Contains(p.Deps, natsPkg) },
		bars: within(natsModule),
	}, {
		why:  "a program without NATS links no NATS: the face says what it needs of a backplane, and knows none but its own",
		of:   is(facePkg),
		bars: within(natsPkg),
	}, {
		why:    "r3labs/sse has quirks, which stream lists and works around: no other package imports it",
		of:     isNot(streamPkg),
		bars:   within("github.com/r3labs/sse/v2"),
		direct: true,
	}, {
		why:    "the router is the face's own affair",
		of:     isNot(facePkg),
		bars:   within("github.com/go-chi/chi/v5"),
		direct: true,
	}, {
		why:    "the command is on top: nobody imports it",
		of:     func(p *listed) bool { return !within(cmdTree)(p.ImportPath) },
		bars:   within(cmdTree),
		direct: true,
	},
}

// TestWalls holds the packages to the picture of who may know whom.
func TestWalls(t *testing.T) {
	packages := listPackages(t)
	for _, w := range walls {
		stands := false
		for _, p := range packages {
			if !w.of(p) {
				continue
			}
			stands = true
			deps, verb := p.Deps, "links"
			if w.direct {
				deps, verb = p.Imports, "imports"
			}
			for _, dep := range deps {
				if w.bars(dep) {
					t.Errorf("%s %s %s, but: %s", p.ImportPath, verb, dep, w.why)
				}
			}
		}
		if !stands {
			t.Errorf("no package is left behind this wall (moved? renamed?): %s", w.why)
		}
	}
}

// TestPackageComments asks every package for its comment: one, in one file,
// that begins as go doc expects it. The files of other systems are read too.
func TestPackageComments(t *testing.T) {
	for _, p := range listPackages(t) {
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command " + path.Base(p.ImportPath) + " "
		}
		entries, err := os.ReadDir(p.Dir)
		if err != nil {
			t.Fatal(err)
		}
		var in []string
		for _, entry := range entries {
			name := entry.Name()
			if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			comment := file.Doc.Text()
			if comment == "" {
				continue
			}
			in = append(in, name)
			if !strings.HasPrefix(comment, want) {
				first, _, _ := strings.Cut(comment, "\n")
				t.Errorf("%s: the package comment in %s begins %q, want %q", p.ImportPath, name, first, want+"…")
			}
		}
		if len(in) != 1 {
			t.Errorf("%s: package comments in %d files %v, want one", p.ImportPath, len(in), in)
		}
	}
}

// listed is what go list says of a package.
type listed struct {
	ImportPath, Name, Dir string
	Imports               []string // of its own files, tests left out
	Deps                  []string // and of all that those import, sorted
}

// listPackages returns the packages of this module, without their tests.
func listPackages(t *testing.T) []*listed {
	t.Helper()
	var stderr bytes.Buffer
	list := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Name,Dir,Imports,Deps", home+"/...")
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var packages []*listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(listed)
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
}

func is(pkg string) func(*listed) bool {
	return func(p *listed) bool { return p.ImportPath == pkg }
}

func isNot(pkgs ...string) func(*listed) bool {
	return func(p *listed) bool { return !slices.Contains(pkgs, p.ImportPath) }
}

func oneOf(deps ...string) func(string) bool {
	return func(dep string) bool { return slices.Contains(deps, dep) }
}

// within bars a package and all that lie below it.
func within(root string) func(string) bool {
	return func(dep string) bool { return dep == root || strings.HasPrefix(dep, root+"/") }
}

func either(a, b func(string) bool) func(string) bool {
	return func(dep string) bool { return a(dep) || b(dep) }
}

func not(f func(string) bool) func(string) bool {
	return func(dep string) bool { return !f(dep) }
}

// standard knows the standard library as go itself does: the first element of
// its paths has no dot.
func standard(dep string) bool {
	first, _, _ := strings.Cut(dep, "/")
	return !strings.Contains(first, ".")
}
