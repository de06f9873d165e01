package main

import (
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/operations.md has a row for each metric of the server, and names no metric that does not
// exist.
func TestOperationsMetrics(t *testing.T) {
	t.Parallel()
	text, series := readOperations(t), metricNames(t)
	metrics := map[string]bool{}
	for name := range series {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if !series[base+"_bucket"] {
			base = name
		}
		metrics[base] = true
	}
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		if strings.HasPrefix(name, "presence_") && !regexp.MustCompile("(?m)^\\| `"+name+"[{`]").MatchString(text) {
			t.Errorf("no row for %s", name)
		}
	}
	used := regexp.MustCompile(`\b(?:presence|go|process)_[a-z_]*[a-z]\b`).FindAllString(text, -1)
	for _, name := range used {
		if !metrics[name] && !series[name] {
			t.Errorf("no such metric: %s", name)
		}
	}
	if len(used) < 100 {
		t.Errorf("got %d names of metrics, want 100 or more", len(used))
	}
}

// Each query in docs/operations.md has a result if all metrics exist. Queries are the lines of
// promql blocks, and the code in the lines that begin with Query.
func TestOperationsQueries(t *testing.T) {
	t.Parallel()
	var queries []string
	promql := false
	for line := range strings.SplitSeq(readOperations(t), "\n") {
		line = strings.TrimSpace(line)
		switch query, isQuery := strings.CutPrefix(line, "- **Query:**"); {
		case strings.HasPrefix(line, "```"):
			promql = line == "```promql"
		case promql:
			queries = append(queries, line)
		case isQuery:
			for _, code := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(query, -1) {
				if !strings.HasPrefix(code[1], "curl ") && code[1] != "timeout" {
					queries = append(queries, code[1])
				}
			}
		}
	}
	if len(queries) < 30 {
		t.Errorf("got %d queries, want 30 or more", len(queries))
	}
	returnData(t, queries)
}

// The table of the ends of streams has a row for each reason that a server can expose, and no other
// rows.
func TestOperationsStreamEnds(t *testing.T) {
	t.Parallel()
	_, section, _ := strings.Cut(readOperations(t), "\n### Ends of streams\n")
	section, _, _ = strings.Cut(section, "\n#")
	var rows, reasons []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
		rows = append(rows, row[1])
	}
	for _, s := range exposedSeries(t) {
		if s.name == "presence_streams_ended_total" {
			reasons = append(reasons, s.labels["reason"])
		}
	}
	slices.Sort(rows)
	slices.Sort(reasons)
	if !slices.Equal(rows, reasons) {
		t.Errorf("got rows %q, want %q", rows, reasons)
	}
}

// The command in docs/operations.md that counts refusals adds the counts of the log lines.
func TestOperationsRefusalSums(t *testing.T) {
	t.Parallel()
	text := readOperations(t)
	found := regexp.MustCompile(`(?m)^   journalctl -u presence --since -1h -o cat (\| grep .*awk .*)$`).FindStringSubmatch(text)
	_, section, _ := strings.Cut(text, "\n## Why was a client refused?\n")
	section, _, _ = strings.Cut(section, "\n#")
	lines := regexp.MustCompile(`(?m)^level=WARN msg="request refused" .*\n`).FindAllString(section, -1)
	if found == nil || len(lines) < 2 {
		t.Fatalf("got command %q and %d lines", found, len(lines))
	}
	shell := exec.Command("sh", "-c", "cat "+found[1]+" | sort")
	shell.Stdin = strings.NewReader(strings.Repeat(strings.Join(lines, ""), 2))
	out, err := shell.CombinedOutput()
	want := "2 cause=rate \n24 cause=token reason=signature \n"
	if err != nil || string(out) != want {
		t.Errorf("got %v, %s; want %s", err, out, want)
	}
}

// The command in docs/operations.md prints the fingerprint of a secret file, as the log has it.
func TestOperationsFingerprint(t *testing.T) {
	t.Parallel()
	line := regexp.MustCompile(`(?m)^ *(\(printf 'presence key fingerprint.*)$`).FindStringSubmatch(readOperations(t))
	if line == nil {
		t.Fatal("no command")
	}
	command := exec.Command("sh", "-c", line[1])
	command.Dir = t.TempDir()
	write(t, command.Dir, "secret", secret+"\r\n")
	if out, err := command.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != secretID {
		t.Errorf("%s: got %q, %v; want %q", line[1], out, err, secretID)
	}
}
