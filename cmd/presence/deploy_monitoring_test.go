package main

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// promtool runs promtool, which must succeed.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %q: %v\n%s", args, err, out)
	}
}

// Prometheus accepts the alerts and their unit tests pass. Each alert has a test in which it fires,
// a severity, and all annotations.
func TestAlerts(t *testing.T) {
	t.Parallel()
	heavy(t)
	promtool(t, "check", "rules", "--lint-fatal", "../../deploy/alerts.yaml")
	promtool(t, "test", "rules", "../../deploy/alerts_test.yaml")

	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	var tests struct {
		Tests []struct {
			Cases []struct {
				Alert  string           `yaml:"alertname"`
				Expect []map[string]any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	for file, into := range map[string]any{"alerts.yaml": &rules, "alerts_test.yaml": &tests} {
		text, err := os.ReadFile("../../deploy/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	fires := map[string]bool{}
	for _, test := range tests.Tests {
		for _, c := range test.Cases {
			fires[c.Alert] = fires[c.Alert] || len(c.Expect) > 0
		}
	}
	headings := anchors(readOperations(t))
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			if !fires[rule.Alert] {
				t.Errorf("%s: no test in which it fires", rule.Alert)
			}
			if s := rule.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("%s: got severity %q, want critical or warning", rule.Alert, s)
			}
			if keys := slices.Sorted(maps.Keys(rule.Annotations)); !slices.Equal(keys, []string{"description", "runbook", "summary"}) {
				t.Errorf("%s: got annotations %q, want description, runbook and summary", rule.Alert, keys)
			}
			anchor, ok := strings.CutPrefix(rule.Annotations["runbook"], "docs/operations.md#")
			if !ok || !headings[anchor] {
				t.Errorf("%s: no such runbook: %s", rule.Alert, rule.Annotations["runbook"])
			}
		}
	}
}

// dashboard is the part of grafana.json that the test reads.
type dashboard struct {
	Annotations struct {
		List []struct{ Name, Expr string }
	}
	Templating struct {
		List []struct{ Name string }
	}
	Panels []struct {
		ID         int
		Type       string
		Title      string
		Datasource struct{ UID string }
		GridPos    struct{ X, Y, W, H int }
		Targets    []struct {
			Expr, RefID string
			Datasource  struct{ UID string }
		}
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// expressions returns the PromQL expressions of the dashboard, keyed by the title of the panel.
func (d dashboard) expressions() map[string][]string {
	all := map[string][]string{}
	for _, a := range d.Annotations.List {
		all[a.Name] = append(all[a.Name], a.Expr)
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all[p.Title] = append(all[p.Title], target.Expr)
		}
	}
	return all
}

// Each panel of the dashboard takes its data source from the variable, and no two panels overlap.
func TestDashboard(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	var variables, rows []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
	}
	if want := []string{"datasource", "job", "instance"}; !slices.Equal(variables, want) {
		t.Errorf("got variables %q, want %q", variables, want)
	}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("panel %q: id %d is used twice", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				cell := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, taken := cells[cell]; taken || cell[0] >= 24 {
					t.Fatalf("panels %q and %q overlap at %v, or the second is too wide", other, p.Title, cell)
				}
				cells[cell] = p.Title
			}
		}
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		for _, target := range p.Targets {
			if p.Datasource.UID != "${datasource}" || target.Datasource.UID != "${datasource}" {
				t.Errorf("panel %q: data source is not the variable", p.Title)
			}
		}
	}
	if want := []string{"Clients", "Messages", "Refusals", "Cluster", "Process"}; !slices.Equal(rows, want) {
		t.Errorf("got rows %q, want %q", rows, want)
	}
}

// Prometheus scrapes all nodes of compose.yaml, and Grafana reads from Prometheus.
func TestComposeMonitoring(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "config", "../../deploy/prometheus.yml")
	var c composed
	var config struct {
		Scrape []struct {
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	var source struct {
		Datasources []struct{ Type, URL string }
	}
	for file, into := range map[string]any{"compose.yaml": &c, "prometheus.yml": &config, "grafana/datasource.yaml": &source} {
		text, err := os.ReadFile("../../deploy/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, into); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	var want []string
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		if strings.HasPrefix(name, "presence-") {
			want = append(want, name+c.Services[name].Environment["PRESENCE_METRICS_LISTEN"])
		}
	}
	if len(config.Scrape) != 1 || !slices.Equal(config.Scrape[0].Static[0].Targets, want) {
		t.Errorf("got scrape configurations %v, want the targets %q", config.Scrape, want)
	}
	if len(source.Datasources) != 1 || source.Datasources[0].URL != "http://prometheus:9090" || c.Services["prometheus"].Volumes == nil {
		t.Errorf("got data sources %v, want the service prometheus", source.Datasources)
	}
}
