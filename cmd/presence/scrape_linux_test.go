package main

import (
	"fmt"
	"net/http"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// samples holds the values of one scrape by series, such as
//
//	presence_refusals_total{reason="rate"}
//	presence_join_to_count_seconds_count
type samples map[string]float64

// scrape returns the metrics at a URL.
func scrape(t testing.TB, client *http.Client, url string) samples {
	t.Helper()
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: got %s, %v, want 200 and metrics", url, answer.Status, err)
	}
	all := samples{}
	for name, family := range families {
		for _, m := range family.Metric {
			all.add(name, m)
		}
	}
	return all
}

func (s samples) add(name string, m *dto.Metric) {
	labels := ""
	for _, l := range m.Label {
		labels += fmt.Sprintf(",%s=%q", l.GetName(), l.GetValue())
	}
	if labels != "" {
		labels = "{" + labels[1:] + "}"
	}
	switch {
	case m.Histogram != nil:
		s[name+"_count"+labels] = float64(m.Histogram.GetSampleCount())
		s[name+"_sum"+labels] = m.Histogram.GetSampleSum()
	case m.Counter != nil:
		s[name+labels] = m.Counter.GetValue()
	case m.Gauge != nil:
		s[name+labels] = m.Gauge.GetValue()
	}
}
