package main

import (
	"context"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v4"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/backplane"
)

// timeSeries is a time series that a server exposes. A histogram has several, such as those whose
// names end in _bucket.
type timeSeries struct {
	name    string
	labels  map[string]string
	counter bool // its value only grows
}

var exposed struct {
	once   sync.Once
	series []timeSeries
}

// exposedSeries returns all time series that presence serve can expose: those of a single node, and
// those of one of several nodes, both with a certificate and a JWK Set. Other systems than Linux
// lack some metrics of the process.
func exposedSeries(t *testing.T) []timeSeries {
	t.Helper()
	exposed.once.Do(func() { exposed.series = gatherSeries(t) })
	if len(exposed.series) == 0 {
		t.Fatal("no time series")
	}
	return exposed.series
}

func gatherSeries(t *testing.T) (all []timeSeries) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	chain, key := pair(t, 1, time.Hour)
	write(t, dir, "cert", chain)
	write(t, dir, "key", key)
	cert, err := listenFlags{TLSCert: dir + "/cert", TLSKey: dir + "/key"}.certificate()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keyFlags{JWKSURL: "http://127.0.0.1:1/keys"}.open(ctx, log) // no server has this port
	if err != nil {
		t.Fatal(err)
	}
	shared := backplane.NewMemory(backplane.MemoryConfig{Messages: 1, Age: time.Minute, Bytes: 1 << 20, Shared: true})
	defer shared.Close()
	families := map[string]*dto.MetricFamily{}
	for _, bus := range []backplane.Bus{nil, shared} {
		m := newMeasured(log, newReloader(log, keys, cert), keys.jwt, new(logQueue))
		server, err := presence.New(presence.Config{Authenticator: keys.jwt, Observer: m.server.Observer(), Backplane: bus, MaxConnections: 1000, Logger: log})
		if err != nil {
			t.Fatal(err)
		}
		m.server.Watch(server)
		answer := httptest.NewRecorder()
		m.handler.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
		shutDownNow(ctx, server)
		parser := expfmt.NewTextParser(model.UTF8Validation)
		scraped, err := parser.TextToMetricFamilies(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		for name, family := range scraped {
			families[name] = family
		}
	}
	for name, family := range families {
		for _, m := range family.Metric {
			all = append(all, seriesOf(name, m)...)
		}
	}
	return all
}

// seriesOf returns the time series of one metric.
func seriesOf(name string, m *dto.Metric) []timeSeries {
	labels := map[string]string{}
	for _, l := range m.Label {
		labels[l.GetName()] = l.GetValue()
	}
	if m.Histogram == nil {
		return []timeSeries{{name, labels, m.Counter != nil}}
	}
	all := []timeSeries{{name + "_sum", labels, true}, {name + "_count", labels, true}}
	for _, b := range m.Histogram.Bucket {
		all = append(all, timeSeries{name + "_bucket", map[string]string{"le": strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64)}, true})
	}
	return all
}

// metricNames returns the names of all time series that a server can expose.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, s := range exposedSeries(t) {
		names[s.name] = true
	}
	return names
}

// deployTexts returns the texts that name metrics, keyed by the file: those in deploy/ and
// docs/operations.md.
func deployTexts(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{"../../docs/operations.md": readOperations(t)}
	err := filepath.WalkDir("../../deploy", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json", ".tpl"}, filepath.Ext(path)) {
			return err
		}
		text, err := os.ReadFile(path)
		texts[path] = strings.ReplaceAll(string(text), `\"`, `"`) // the quotes of a query in JSON
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// Each metric in the dashboard, the alerts and the manifests exists.
func TestDeployMetricNames(t *testing.T) {
	t.Parallel()
	names, name, used := metricNames(t), regexp.MustCompile(`\b(presence|go|process)_[a-z_]+`), 0
	for path, text := range deployTexts(t) {
		if !strings.Contains(path, "/deploy/") {
			continue // TestOperationsMetrics checks it
		}
		for _, found := range name.FindAllString(text, -1) {
			if used++; !names[found] {
				t.Errorf("%s: no such metric: %s", path, found)
			}
		}
	}
	if used < 100 {
		t.Errorf("got %d names of metrics, want 100 or more", used)
	}
}

var (
	selector = regexp.MustCompile(`\b((?:presence|go|process)_[a-z_]+)\{([^{}]*)\}`)
	matcher  = regexp.MustCompile(`^\s*(\w+)\s*(?:(=~|!~|!=|=)\s*"([^"]*)")?\s*$`)
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right) \(([^()]*)\)`)
	template = regexp.MustCompile(`\{\{ *(?:\$labels\.)?(\w+) *\}\}|\$labels\.(\w+)`)
)

// targetLabels are the labels that Prometheus adds to all time series of a node.
var targetLabels = []string{"job", "instance", "namespace"}

// Each label in a selector exists for its metric, and the metric can have the value of the label.
// The test reads all selectors in deploy/ and in docs/operations.md. The series in the tests of
// alerts have all labels of their metric.
func TestDeployLabels(t *testing.T) {
	t.Parallel()
	values, labels := map[[2]string][]string{}, map[string]int{} // by metric and label; by metric
	for _, s := range exposedSeries(t) {
		labels[s.name] = len(s.labels)
		for label, value := range s.labels {
			values[[2]string{s.name, label}] = append(values[[2]string{s.name, label}], value)
		}
	}
	checked := 0
	for path, text := range deployTexts(t) {
		for _, found := range selector.FindAllStringSubmatch(text, -1) {
			own := 0
			for m := range strings.SplitSeq(found[2], ",") {
				parts := matcher.FindStringSubmatch(m)
				if parts == nil {
					t.Errorf("%s: %s: cannot parse %q", path, found[0], m)
					continue
				}
				if slices.Contains(targetLabels, parts[1]) {
					continue
				}
				own++
				possible := values[[2]string{found[1], parts[1]}]
				if possible == nil {
					t.Errorf("%s: %s: no label %s", path, found[0], parts[1])
				}
				if parts[2] == "" { // a label without a value, in the tables of the document
					continue
				}
				for value := range strings.SplitSeq(parts[3], "|") {
					if checked++; !slices.Contains(possible, value) {
						t.Errorf("%s: %s: %s is never %q, only one of %q", path, found[0], parts[1], value, possible)
					}
				}
			}
			if strings.HasSuffix(path, "/alerts_test.yaml") && own != labels[found[1]] {
				t.Errorf("%s: %s: got %d labels of the metric, want %d", path, found[0], own, labels[found[1]])
			}
		}
	}
	if checked < 60 {
		t.Errorf("got %d values of labels, want 60 or more", checked)
	}
}

// Each label by which an alert or a panel groups exists, and each label in its texts.
func TestDeployTextLabels(t *testing.T) {
	t.Parallel()
	labels := map[string]bool{"le": true}
	for _, s := range exposedSeries(t) {
		for label := range s.labels {
			labels[label] = true
		}
	}
	for _, label := range targetLabels {
		labels[label] = true
	}
	texts, checked := deployTexts(t), 0
	for _, file := range []string{"alerts.yaml", "grafana.json"} {
		text, ok := texts["../../deploy/"+file]
		if !ok {
			t.Fatalf("no %s", file)
		}
		var used []string
		for _, found := range grouping.FindAllStringSubmatch(text, -1) {
			for label := range strings.SplitSeq(found[1], ",") {
				used = append(used, strings.TrimSpace(label))
			}
		}
		for _, found := range template.FindAllStringSubmatch(text, -1) {
			used = append(used, found[1]+found[2])
		}
		for _, label := range used {
			if checked++; label != "" && !labels[label] {
				t.Errorf("%s: no such label: %s", file, label)
			}
		}
	}
	if checked < 100 {
		t.Errorf("got %d labels, want 100 or more", checked)
	}
}

// comparison is the condition at the end of a query, such as > 0.
var comparison = regexp.MustCompile(` (?:==|<=|<|>) (?:[0-9.e]+|time\(\))$`)

// returnData checks that Prometheus can evaluate the queries, and that each has a result if all
// time series of a node exist. A condition at the end of a query is omitted. A query without a
// result has a wrong name, or combines metrics with different labels.
func returnData(t *testing.T, queries []string) {
	t.Helper()
	type input struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	}
	type sample struct {
		Labels string `yaml:"labels"`
		Value  int    `yaml:"value"`
	}
	type expectation struct {
		Expr string   `yaml:"expr"`
		At   string   `yaml:"eval_time"`
		Want []sample `yaml:"exp_samples"`
	}
	inputs := []input{{`up{job="presence", instance="node"}`, "1+0x20"}}
	for _, s := range exposedSeries(t) {
		series := s.name + `{job="presence", instance="node"`
		for label, value := range s.labels {
			series += ", " + label + "=" + strconv.Quote(value)
		}
		values := "1+0x20"
		if s.counter {
			values = "0+60x20"
		}
		inputs = append(inputs, input{series + "}", values})
	}
	var expectations []expectation
	for _, q := range queries {
		q = strings.NewReplacer("$__rate_interval", "5m", "$job", "presence", "$instance", ".*", "absent(", "(").Replace(q)
		q = "count(" + comparison.ReplaceAllString(q, "") + ") > bool 0"
		expectations = append(expectations, expectation{q, "20m", []sample{{"{}", 1}}})
	}
	file := filepath.Join(t.TempDir(), "test.yaml")
	content, err := yaml.Marshal(map[string]any{"evaluation_interval": "1m", "tests": []any{map[string]any{
		"interval": "1m", "input_series": inputs, "promql_expr_test": expectations}}})
	if err == nil {
		err = os.WriteFile(file, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	promtool(t, "test", "rules", file)
}

// Each query of the dashboard has a result if all metrics exist.
func TestDashboardQueries(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	var queries []string
	for title, expressions := range d.expressions() {
		for _, e := range expressions {
			if !strings.Contains(e, `job="$job", instance=~"$instance"`) && !strings.Contains(e, "ALERTS{") {
				t.Errorf("panel %q: %s does not select by job and instance", title, e)
			}
			queries = append(queries, e)
		}
	}
	if len(queries) < 60 {
		t.Errorf("got %d queries, want 60 or more", len(queries))
	}
	returnData(t, queries)
}
