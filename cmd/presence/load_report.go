package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"example.com/presence/cmd/presence/internal/load"
)

// progress shows the state of a load: a bar on a terminal, and a line per second otherwise.
type progress struct {
	out io.Writer
	bar *progressbar.ProgressBar // nil without a terminal
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		p.bar = progressbar.NewOptions(1000, progressbar.OptionSetWriter(out), progressbar.OptionSetWidth(10),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false), progressbar.OptionClearOnFinish())
	}
	return p
}

func (p *progress) show(now load.Progress) {
	text := fmt.Sprintf("%s %d connected", now.Phase, now.Connected)
	if now.P99 > 0 {
		text += ", p99 " + milliseconds(float64(now.P99)/1e6)
	}
	if now.Lost > 0 {
		text += fmt.Sprintf(", %d lost", now.Lost)
	}
	if p.bar == nil {
		fmt.Fprintf(p.out, "%4.0f s %s, %d deliveries\n", now.Elapsed.Seconds(), text, now.Deliveries)
		return
	}
	p.bar.Describe(text)
	_ = p.bar.Set(min(999, int(1000*now.Share))) // an error of the terminal does not matter
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}

// printReport prints the result as a table.
func printReport(out io.Writer, r *load.Report) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, values ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, values...))
	}
	row("target", "%s %s", r.Target, printable(r.URL))
	row("connected", "%d of %d clients, rooms %d, ramp %.1f s, steady %.1f s", r.Connected, r.Clients, r.Rooms, r.Ramp, r.Steady)
	row("connections", "%d, of them churned %d, resumed %d", r.Connections, r.Churned, r.Resumed)
	row("failed", "%s", reasons(r.Failed))
	for _, reason := range slices.Sorted(maps.Keys(r.Details)) {
		row("", "%s: %s", printable(reason), printable(r.Details[reason]))
	}
	row("ended", "%s", reasons(r.Ended))
	row("messages", "%d accepted (%.1f per second), %d unsure, failed requests: %s", r.Accepted, r.PerSecond, r.Unsure, reasons(r.Refused))
	row("deliveries", "%d (%.0f per second)", r.Deliveries, r.Delivered)
	row("lost", "%d, resets %d", r.Lost, r.Resets)
	row("duplicated", "%d", r.Duplicated)
	row("out of order", "%d", r.OutOfOrder)
	if r.Strays > 0 {
		row("other rooms", "%d messages", r.Strays)
	}
	if r.Counts != nil {
		row("user counts", "%d right, %d wrong, %d to %d", r.Counts.Right, r.Counts.Wrong, r.Counts.Least, r.Counts.Most)
	}
	for _, d := range []struct {
		name string
		load.Distribution
	}{{"join to open", r.JoinToOpen}, {"join to count", r.JoinToCount}, {"send to receipt", r.SendToReceipt}} {
		if d.Number == 0 {
			row(d.name, "none")
			continue
		}
		row(d.name, "p50 %s, p99 %s, max %s (%d)", milliseconds(d.P50), milliseconds(d.P99), milliseconds(d.Max), d.Number)
	}
	row("bytes", "%d received, %d per client", r.Bytes, r.Bytes/int64(r.Clients))
	if r.ServerGone != "" {
		row("server process", "ended: %s", printable(r.ServerGone))
	}
	for _, u := range []struct {
		name string
		*load.Usage
	}{{"load process", r.Load}, {"server process", r.Server}} {
		if u.Usage != nil {
			row(u.name, "CPU %.2f s ramp (%.0f µs per client), %.2f s steady (%.2f µs per delivery), %.1f MB (%+d bytes per client)",
				u.Ramp, u.PerJoin, u.Steady, u.PerDelivery, float64(u.Memory)/1e6, u.PerConnection)
		}
	}
	return w.Flush()
}

func milliseconds(ms float64) string {
	if ms < 10 {
		return fmt.Sprintf("%.2f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// reasons returns the numbers by reason, the largest first.
func reasons(numbers map[string]int) string {
	keys := slices.SortedFunc(maps.Keys(numbers), func(a, b string) int {
		return max(-1, min(1, 2*(numbers[b]-numbers[a])+strings.Compare(a, b)))
	})
	if len(keys) == 0 {
		return "none"
	}
	total, parts := 0, []string(nil)
	for _, key := range keys {
		total += numbers[key]
		parts = append(parts, fmt.Sprintf("%d %s", numbers[key], printable(key)))
	}
	return fmt.Sprintf("%d (%s)", total, strings.Join(parts, ", "))
}
