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

// The import paths in the rules below.
const (
	home        = "example.com/presence"
	cmdTree     = home + "/cmd"
	webPkg      = home + "/web"
	presencePkg = home + "/pkg/presence"
	authPkg     = presencePkg + "/auth"
	roomPkg     = presencePkg + "/room"
	hubPkg      = presencePkg + "/internal/hub"
	busPkg      = presencePkg + "/backplane"
	streamPkg   = presencePkg + "/internal/stream"
	socketPkg   = presencePkg + "/internal/socket"
	guardPkg    = presencePkg + "/internal/guard"
	inputPkg    = presencePkg + "/internal/input"
	limitPkg    = presencePkg + "/internal/loglimit"
	redactPkg   = presencePkg + "/internal/redact"
	refusalPkg  = presencePkg + "/internal/refusal"
	logtestPkg  = presencePkg + "/internal/logtest"
	compactPkg  = presencePkg + "/internal/compact"
	indexPkg    = presencePkg + "/internal/index"
	fairPkg     = presencePkg + "/internal/fair"
	ratesPkg    = presencePkg + "/internal/rates"
	clientPkg   = presencePkg + "/client"
	natsPkg     = presencePkg + "/nats"
	doctorPkg   = cmdTree + "/presence/internal/doctor"
	natsModule  = "github.com/nats-io"
)

// wall is a rule that forbids dependencies of packages.
type wall struct {
	reason  string                // the reason and the rule, for the failure message
	of      func(p *listed) bool  // reports whether the rule applies to a package
	forbids func(dep string) bool // reports whether the rule forbids a dependency
	// direct limits the rule to the imports of the package's own files. Otherwise the rule applies
	// to all packages that a program links with the package.
	direct bool
}

var walls = []wall{
	{
		reason:  "input is the lowest package: it may depend only on the standard library",
		of:      is(inputPkg),
		forbids: not(standard),
	}, {
		reason:  "room may depend only on the standard library, on input and on index",
		of:      is(roomPkg),
		forbids: not(either(standard, oneOf(inputPkg, indexPkg))),
	}, {
		reason:  "room is plain data and functions on it: it must not use HTTP, locks or goroutines",
		of:      is(roomPkg),
		forbids: oneOf("net/http", "sync", "sync/atomic", "context"),
		direct:  true,
	}, {
		reason:  "hub receives an authenticated user and a client from its caller: it must not import HTTP",
		of:      is(hubPkg),
		forbids: either(within("net/http"), within("github.com/go-chi")),
		direct:  true,
	}, {
		reason:  "hub is below pkg/presence: it must not depend on tokens, requests or routes",
		of:      is(hubPkg),
		forbids: oneOf(authPkg, guardPkg, presencePkg),
	}, {
		reason:  "an engine needs only the names of rooms and users: backplane may depend only on room, index, fair and the standard library",
		of:      is(busPkg),
		forbids: not(either(standard, oneOf(roomPkg, inputPkg, indexPkg, fairPkg))),
	}, {
		reason:  "stream transports bytes: it must not depend on users or rooms",
		of:      is(streamPkg),
		forbids: oneOf(authPkg, roomPkg, hubPkg, busPkg, presencePkg),
	}, {
		reason: "loglimit, redact, refusal, compact, fair, index, rates and logtest are used by several packages: they must not depend on any of this module",
		of: func(p *listed) bool {
			return slices.Contains([]string{limitPkg, redactPkg, refusalPkg, compactPkg, fairPkg, indexPkg, ratesPkg, logtestPkg}, p.ImportPath)
		},
		forbids: within(home),
	}, {
		reason:  "logtest is for tests: no package may import it",
		of:      isNot(logtestPkg),
		forbids: oneOf(logtestPkg),
	}, {
		reason:  "socket is below all packages that serve connections: it must not depend on any of this module",
		of:      is(socketPkg),
		forbids: within(home),
	}, {
		reason:  "guard limits requests: it must not depend on users, rooms or streams",
		of:      is(guardPkg),
		forbids: oneOf(authPkg, roomPkg, streamPkg, hubPkg, busPkg, presencePkg),
	}, {
		reason:  "auth does not handle rooms: of this module it may depend only on input and redact",
		of:      is(authPkg),
		forbids: func(dep string) bool { return within(home)(dep) && !oneOf(authPkg, inputPkg, redactPkg)(dep) },
	}, {
		reason:  "client depends only on the wire format, like a program on another machine: it must not depend on any package of this module",
		of:      is(clientPkg),
		forbids: within(home),
	}, {
		reason: "doctor examines a server from outside, like a client: of this module it may depend only on auth, which signs its tokens, and on room",
		of:     is(doctorPkg),
		forbids: func(dep string) bool {
			return within(home)(dep) && !oneOf(doctorPkg, authPkg, roomPkg, inputPkg, indexPkg, redactPkg)(dep)
		},
	}, {
		reason:  "web only embeds files: it must not depend on any package of this module",
		of:      is(webPkg),
		forbids: within(home),
	}, {
		reason:  "a program that mounts the library must not link the command line or the page",
		of:      is(presencePkg),
		forbids: either(within(webPkg), either(within(cmdTree), within("github.com/alecthomas/kong"))),
	}, {
		reason:  "a program without NATS must not link NATS",
		of:      func(p *listed) bool { return p.ImportPath != natsPkg && !slices.Contains(p.Deps, natsPkg) },
		forbids: within(natsModule),
	}, {
		reason:  "a program without NATS must not link NATS: pkg/presence takes any backplane.Bus and may link only the default engine",
		of:      is(presencePkg),
		forbids: within(natsPkg),
	}, {
		reason:  "r3labs/sse has quirks that stream lists and works around: no other package may import it",
		of:      isNot(streamPkg),
		forbids: within("github.com/r3labs/sse/v2"),
		direct:  true,
	}, {
		reason:  "the router is internal to pkg/presence: no other package may import chi",
		of:      isNot(presencePkg),
		forbids: within("github.com/go-chi/chi/v5"),
		direct:  true,
	}, {
		reason:  "the command is the top package: no other package may import it",
		of:      func(p *listed) bool { return !within(cmdTree)(p.ImportPath) },
		forbids: within(cmdTree),
		direct:  true,
	},
}

// TestWalls fails if a package has a dependency that a rule forbids.
func TestWalls(t *testing.T) {
	t.Parallel()
	packages := listPackages(t)
	for _, w := range walls {
		found := false
		for _, p := range packages {
			if !w.of(p) {
				continue
			}
			found = true
			deps, verb := p.Deps, "links"
			if w.direct {
				deps, verb = p.Imports, "imports"
			}
			for _, dep := range deps {
				if w.forbids(dep) {
					t.Errorf("got %s, which %s %s; want no such dependency: %s", p.ImportPath, verb, dep, w.reason)
				}
			}
		}
		if !found {
			t.Errorf("got no package for this rule, want one (was it moved or renamed?): %s", w.reason)
		}
	}
}

// TestPackageComments fails unless every package has exactly one package comment, and it begins as
// go doc expects. The test also reads files for other systems.
func TestPackageComments(t *testing.T) {
	t.Parallel()
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
				t.Errorf("%s: package comment in %s: got %q, want %q", p.ImportPath, name, first, want+"…")
			}
		}
		if len(in) != 1 {
			t.Errorf("%s: got package comments in %d files %v, want one", p.ImportPath, len(in), in)
		}
	}
}

// listed is a package in the output of go list.
type listed struct {
	ImportPath, Name, Dir string
	Imports               []string // imports of its own files, without tests
	Deps                  []string // all direct and indirect imports, sorted
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

// within matches a package and all packages below it.
func within(root string) func(string) bool {
	return func(dep string) bool { return dep == root || strings.HasPrefix(dep, root+"/") }
}

func either(a, b func(string) bool) func(string) bool {
	return func(dep string) bool { return a(dep) || b(dep) }
}

func not(f func(string) bool) func(string) bool {
	return func(dep string) bool { return !f(dep) }
}

// standard matches the standard library. Like the go command, it recognizes a standard package by a
// first path element without a dot.
func standard(dep string) bool {
	first, _, _ := strings.Cut(dep, "/")
	return !strings.Contains(first, ".")
}
