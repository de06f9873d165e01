// Command test runs go test with the given arguments, and then lists the time of each package and
// the ten slowest tests. Its exit status is that of go test.
//
//	go run .ci/test.go -race -shuffle=on ./...
//
// For a package that passes, it prints the seed of the shuffle and one line. For a package that
// fails, it prints the whole output, except for the logs of tests that passed.
//
// The time of a test excludes the time of its sequential subtests, because they are listed
// separately. It also excludes the waiting times in log lines such as "waited 1.5s for a slot".
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const slowest = 10

func main() {
	command := exec.Command("go", append([]string{"test", "-json"}, os.Args[1:]...)...)
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "test:", err)
		os.Exit(1)
	}
	read := report(out, os.Stdout)
	err = command.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode())
	case err != nil || read != nil:
		fmt.Fprintln(os.Stderr, "test:", errors.Join(err, read))
		os.Exit(1)
	}
}

// event is a line of go test -json. See go doc cmd/test2json.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64 // in seconds
}

// test is the result of one test.
type test struct {
	pkg, name       string
	elapsed, waited float64
	passed          bool // or skipped
	parallel        bool
}

// run holds the test results and the output of one package.
type run struct {
	tests   map[string]*test
	output  []event // in order
	elapsed float64
}

// report writes the results to w as the events arrive, and the times at the end.
func report(events io.Reader, w io.Writer) error {
	runs := map[string]*run{}
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadString('\n')
		var e event
		switch bad := json.Unmarshal([]byte(line), &e); {
		case line == "":
		case bad != nil:
			fmt.Fprint(w, line) // not from go test
		case e.Package == "":
			fmt.Fprint(w, e.Output) // from the build
		default:
			r := runs[e.Package]
			if r == nil {
				r = &run{tests: map[string]*test{}}
				runs[e.Package] = r
			}
			r.add(e)
			if e.Test == "" && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
				r.print(w, e.Action == "fail")
			}
		}
		if errors.Is(err, io.EOF) {
			for _, r := range runs {
				r.print(w, true) // for a package that did not complete
			}
			times(w, runs)
			return nil
		} else if err != nil {
			return err
		}
	}
}

var waited = regexp.MustCompile(`waited ([\d.]+)s for a slot`)

func (r *run) add(e event) {
	t := r.tests[e.Test]
	if t == nil {
		t = &test{pkg: e.Package, name: e.Test}
		r.tests[e.Test] = t
	}
	switch e.Action {
	case "output":
		r.output = append(r.output, e)
		if m := waited.FindStringSubmatch(e.Output); m != nil {
			seconds, _ := strconv.ParseFloat(m[1], 64)
			t.waited += seconds
		}
	case "pause":
		t.parallel = true
	case "pass", "skip":
		t.passed = true
		t.elapsed = e.Elapsed
	case "fail":
		t.elapsed = e.Elapsed
	}
	if e.Test == "" {
		r.elapsed = e.Elapsed
	}
}

// print writes the package's output and then discards it. It writes the name of a test before the
// lines of the test.
func (r *run) print(w io.Writer, failed bool) {
	before := ""
	for _, e := range r.output {
		of := e.Test
		switch verbose := strings.HasPrefix(e.Output, "    ") || strings.HasPrefix(e.Output, "--- "); {
		case strings.HasPrefix(e.Output, "=== "):
			continue
		case of == "" && !failed && e.Output == "PASS\n", of != "" && !failed:
			continue
		case of != "" && r.tests[of].passed && verbose: // written by package testing, not by the test
			continue
		case of != before && of != "":
			fmt.Fprintf(w, "=== %s\n", of)
		}
		before = of
		fmt.Fprint(w, e.Output)
	}
	r.output = nil
}

// times writes the times of the packages that have tests, and of the slowest tests.
func times(w io.Writer, runs map[string]*run) {
	var packages []string
	var tests []*test
	for pkg, r := range runs {
		if len(r.tests) > 1 { // the package itself has an entry too
			packages = append(packages, pkg)
		}
		for name, t := range r.tests {
			if i := strings.LastIndex(name, "/"); i >= 0 && !t.parallel {
				if parent := r.tests[name[:i]]; parent != nil {
					parent.waited += t.elapsed
				}
			}
			if name != "" && t.elapsed > 0 {
				tests = append(tests, t)
			}
		}
	}
	slices.SortFunc(packages, func(a, b string) int {
		return cmp.Or(cmp.Compare(runs[b].elapsed, runs[a].elapsed), cmp.Compare(a, b))
	})
	own := func(t *test) float64 { return t.elapsed - t.waited }
	slices.SortFunc(tests, func(a, b *test) int {
		return cmp.Or(cmp.Compare(own(b), own(a)), cmp.Compare(a.pkg+a.name, b.pkg+b.name))
	})
	if len(packages) == 0 {
		return
	}
	fmt.Fprintln(w, "\nseconds by package:")
	for _, pkg := range packages {
		fmt.Fprintf(w, "%8.1f  %s\n", runs[pkg].elapsed, pkg)
	}
	fmt.Fprintln(w, "\nseconds of the slowest tests:")
	for _, t := range tests[:min(slowest, len(tests))] {
		fmt.Fprintf(w, "%8.1f  %s %s\n", own(t), t.pkg, t.name)
	}
}
