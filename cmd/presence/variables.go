package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// unknownVariable is an environment variable that has the prefix of the flags' variables but
// belongs to no flag. It does not store the value, because a variable with a misspelled name may
// hold a secret.
type unknownVariable struct {
	name  string
	meant string // the known variable with the most similar name, or empty if none is similar
}

func (v unknownVariable) String() string {
	s := "unknown environment variable " + v.name
	if v.meant != "" {
		s += ", did you mean " + v.meant + "?"
	}
	return s
}

// foreign matches the names of variables that belong to other programs, without the prefix:
//
//   - Variables of a Kubernetes service whose name begins with presence. Docker's links set the
//     same variables.
//   - Variables of this module's tests.
var foreign = regexp.MustCompile(`^(([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)|TEST_.*|BENCH_.*|SCREENSHOTS)$`)

// foreignPort reports whether a variable is the PORT variable of a Kubernetes service, whose value
// is a URL. It checks the value because the name is ambiguous: an operator may use the same name
// for the port to listen on.
func foreignPort(name, value string) bool {
	return strings.HasSuffix("_"+name, "_PORT") && strings.Contains(value, "://")
}

// unknownVariables returns the variables in environ that have the prefix of the flags' variables
// but belong to no flag of any command, sorted by name. An empty variable counts as unset.
func unknownVariables(app *kong.Application, environ []string) (unknown []unknownVariable) {
	known := map[string]bool{}
	for _, command := range app.Leaves(true) {
		for _, flag := range command.Flags {
			known[envName(flag.Name)] = true
		}
	}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		rest, ours := strings.CutPrefix(name, envName(""))
		if !ours || value == "" || known[name] || foreign.MatchString(rest) || foreignPort(rest, value) {
			continue
		}
		unknown = append(unknown, unknownVariable{name, nearest(name, known)})
	}
	slices.SortFunc(unknown, func(a, b unknownVariable) int { return strings.Compare(a.name, b.name) })
	return unknown
}

// nearest returns the known name with the fewest edits from name. Of several such names, it returns
// the alphabetically first. It returns "" if the number of edits exceeds 3, or a third of the
// length of the flag.
func nearest(name string, known map[string]bool) (best string) {
	for candidate := range known {
		flag := len(candidate) - len(envName(""))
		d := edits(name, candidate)
		if d > min(3, flag/3) {
			continue
		}
		if least := edits(name, best); best == "" || d < least || d == least && candidate < best {
			best = candidate
		}
	}
	return best
}

// edits returns the Levenshtein distance between a and b: the minimum number of letters to insert,
// delete or replace.
func edits(a, b string) int {
	row := make([]int, len(b)+1) // distances of the first i letters of a to each prefix of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
