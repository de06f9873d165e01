package main

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// metricNames returns the names of all time series that a server can expose, including the
// _bucket, _sum and _count of histograms.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	const plain = `
		presence_connections presence_users presence_rooms presence_bans presence_peers
		presence_backplane_up presence_draining presence_connections_limit presence_rooms_limit
		presence_idle_connections presence_idle_connections_limit presence_history_bytes
		presence_history_bytes_limit presence_idempotency_keys presence_unsent_snapshots
		presence_unsent_snapshot_bytes presence_backlogged_connections presence_backlog_bytes
		presence_hook_queue_bytes presence_certificate_expiry_timestamp_seconds
		presence_jwks_last_success_timestamp_seconds presence_config_last_reload_successful
		presence_config_last_reload_success_timestamp_seconds presence_build_info
		presence_joins_total presence_leaves_total presence_reloads_absorbed_total
		presence_messages_total presence_counts_total presence_counts_coalesced_total
		presence_snapshots_total presence_deliveries_total presence_sent_bytes_total
		presence_streams_opened_total presence_streams_ended_total presence_replays_total
		presence_replayed_messages_total presence_resets_total presence_history_evictions_total
		presence_rooms_evicted_total presence_refusals_total presence_auth_failures_total
		presence_hook_calls_dropped_total presence_accept_failures_total
		presence_log_write_failures_total presence_jwks_fetch_failures_total
		go_goroutines go_memstats_sys_bytes go_memstats_heap_released_bytes go_gc_gomemlimit_bytes
		process_open_fds process_max_fds process_start_time_seconds process_cpu_seconds_total
		process_resident_memory_bytes`
	const histograms = `presence_join_to_count_seconds presence_loop_pass_seconds
		presence_backplane_round_trip_seconds`
	names := map[string]bool{}
	for _, name := range strings.Fields(plain) {
		names[name] = true
	}
	for _, name := range strings.Fields(histograms) {
		names[name+"_bucket"], names[name+"_sum"], names[name+"_count"] = true, true, true
	}
	return names
}

// Each metric in the dashboard, the alerts and the manifests exists.
func TestDeployMetricNames(t *testing.T) {
	t.Parallel()
	names, name, used := metricNames(t), regexp.MustCompile(`\b(presence|go|process)_[a-z_]+`), 0
	err := filepath.WalkDir("../../deploy", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json", ".tpl"}, filepath.Ext(path)) {
			return err
		}
		text, err := os.ReadFile(path)
		for _, found := range name.FindAllString(string(text), -1) {
			if used++; !names[found] {
				t.Errorf("%s: no such metric: %s", path, found)
			}
		}
		return err
	})
	if err != nil || used < 100 {
		t.Errorf("got %d names of metrics, %v", used, err)
	}
}

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
	// Until docs/operations.md exists, the test checks only the form of the annotation.
	runbooks, err := os.ReadFile("../../docs/operations.md")
	headings := anchors(string(runbooks))
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
			if !ok || err == nil && !headings[anchor] {
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

// Prometheus can parse each expression of the dashboard. Each panel takes its data source and node
// from the variables, and no two panels overlap.
func TestDashboard(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
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

	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	type group struct {
		Name  string `yaml:"name"`
		Rules []rule `yaml:"rules"`
	}
	var groups []group
	for title, expressions := range d.expressions() {
		g := group{Name: title}
		for _, e := range expressions {
			if !strings.Contains(e, `job="$job", instance=~"$instance"`) && !strings.Contains(e, "ALERTS{") {
				t.Errorf("panel %q: %s does not select by job and instance", title, e)
			}
			g.Rules = append(g.Rules, rule{"panel", strings.ReplaceAll(e, "$__rate_interval", "5m")})
		}
		groups = append(groups, g)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	content, err := yaml.Marshal(map[string]any{"groups": groups})
	if err == nil {
		err = os.WriteFile(file, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", "--lint=none", file)
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
