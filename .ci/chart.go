//go:build ignore

// Command chart draws docs/images/performance.svg from the output of make bench, which it reads
// from a file or from standard input:
//
//	make bench | tee bench.txt
//	make chart
//
// It needs the results of BenchmarkUring, BenchmarkRatio and BenchmarkDelivery/15000 (make bench
// BENCH='Uring|Ratio|Delivery'). If a benchmark has several results, the chart shows the last one.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) > 1 {
		return fmt.Errorf("too many arguments (%d, maximum 1): usage: chart [FILE]", len(args))
	}
	if len(args) == 1 {
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	o, err := parse(in)
	if err != nil {
		return err
	}
	panels, err := o.panels()
	if err != nil {
		return err
	}
	_, err = out.Write(draw(panels, o.caption()))
	return err
}

// output is the parsed output of go test -bench.
type output struct {
	goos, goarch, cpu string
	cores             string                        // GOMAXPROCS
	metrics           map[string]map[string]float64 // by benchmark name and unit
}

// result matches a line such as "BenchmarkDelivery/15000-2   1   7.56 bare-µs/delivery   8.17 …".
// The number after the name is GOMAXPROCS. Go omits it if GOMAXPROCS is 1.
var result = regexp.MustCompile(`^(Benchmark\S*?)(?:-(\d+))?\s+\d+((?:\s+\S+ \S+)+)\s*$`)

func parse(r io.Reader) (*output, error) {
	o := &output{cores: "1", metrics: map[string]map[string]float64{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		key, value, _ := strings.Cut(line, ": ")
		switch key {
		case "goos":
			o.goos = value
		case "goarch":
			o.goarch = value
		case "cpu":
			o.cpu = value
		}
		if strings.HasPrefix(line, "go test ") && strings.Contains(line, " -short") {
			return nil, errors.New("benchmarks ran with -short (a tenth of the clients): run them without it")
		}
		m := result.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if m[2] != "" {
			o.cores = m[2]
		}
		metrics := map[string]float64{}
		pairs := strings.Fields(m[3])
		for i := 0; i < len(pairs); i += 2 {
			v, err := strconv.ParseFloat(pairs[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: invalid number %q", m[1], pairs[i])
			}
			metrics[pairs[i+1]] = v
		}
		o.metrics[m[1]] = metrics
	}
	return o, lines.Err()
}

// metric returns the value of a metric. A missing metric, and a value that is not a positive
// number, are errors.
func (o *output) metric(benchmark, unit string) (float64, error) {
	metrics, there := o.metrics[benchmark]
	if !there {
		return 0, fmt.Errorf("no result of %s in the input: run make bench", benchmark)
	}
	v, there := metrics[unit]
	switch {
	case !there:
		return 0, fmt.Errorf("%s: metric %s missing", benchmark, unit)
	case !(v > 0) || math.IsInf(v, 0):
		return 0, fmt.Errorf("%s: metric %s not positive (%v)", benchmark, unit, v)
	}
	return v, nil
}

// caption returns the lines below the chart: the machine and the command that draws the chart.
func (o *output) caption() []string {
	machine := strings.Trim(fmt.Sprintf("%s, GOMAXPROCS %s, %s/%s", o.cpu, o.cores, o.goos, o.goarch), " ,/")
	return []string{machine, "make bench | tee bench.txt; go run .ci/chart.go bench.txt"}
}

// panel is a part of the chart: a heading and one bar per server.
type panel struct {
	title, note string
	bars        []bar
	floor       float64 // value of the bare loop, drawn as a line; 0 means no line
	format      func(float64) string
}

type bar struct {
	label, color string
	value        float64
}

func (o *output) panels() ([]panel, error) {
	var failed error
	get := func(benchmark, unit string) float64 {
		v, err := o.metric(benchmark, unit)
		if failed == nil {
			failed = err
		}
		return v
	}
	const ratio, delivery = "BenchmarkRatio", "BenchmarkDelivery/15000"
	bare := get(delivery, "bare-µs/delivery")
	const plain = "presence, plain HTTP"
	bars := func(direct, goroutine, r3labs float64) []bar {
		return []bar{
			{plain, "#0550ae", direct},
			{"presence, a goroutine per client", "#218bff", goroutine},
			{"r3labs/sse, a subscriber per client", "#6e7781", r3labs},
		}
	}
	write := bar{plain + ", no io_uring", "#0969da", get("BenchmarkUring", "write/bare-reading-15000")}
	p := []panel{
		{
			title:  "CPU per delivery, relative to a bare write(2) loop",
			note:   "15,000 clients, one message at a time; plain HTTP: median of pairs in turns",
			floor:  1,
			format: func(v float64) string { return fmt.Sprintf("%.2f", v) },
			bars: slices.Insert(bars(get(ratio, "direct/bare-15000"),
				get(delivery, "goroutine-µs/delivery")/bare, get(delivery, "r3labs-µs/delivery")/bare), 1, write),
		},
		{
			title:  "Memory per connection, in bytes",
			note:   "resident set of the server; 15,000 idle clients, after a garbage collection",
			format: grouped,
			bars:   bars(get(delivery, "direct-B/conn"), get(delivery, "goroutine-B/conn"), get(delivery, "r3labs-B/conn")),
		},
	}
	return p, failed
}

// grouped formats a number with a comma between groups of three digits.
func grouped(v float64) string {
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

const title = "Cost of a delivery and of a connection"

// draw returns the chart as SVG. A white background makes it legible on dark pages too.
func draw(panels []panel, caption []string) []byte {
	const (
		width, left, right = 740, 24, 270 // bars begin at right
		longest            = 370
		thick, step        = 22, 30
	)
	var body bytes.Buffer
	var words []string // sentences of the description
	y := 36
	text := func(x, size int, style, s string) {
		fmt.Fprintf(&body, `  <text x="%d" y="%d" font-size="%d"%s>%s</text>`+"\n", x, y, size, style, html.EscapeString(s))
	}
	const bold, faint = ` font-weight="600"`, ` fill="#59636e"`
	text(left, 17, bold, title)
	for _, p := range panels {
		y += 36
		text(left, 14, bold, p.title)
		y += 18
		text(left, 12, faint, p.note)
		y += 12
		top, most := y, 0.0
		for _, b := range p.bars {
			most = max(most, b.value)
		}
		var figures []string
		for _, b := range p.bars {
			length := b.value / most * longest
			figure := p.format(b.value)
			figures = append(figures, b.label+" "+figure)
			fmt.Fprintf(&body, `  <rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", right, y, length, thick, b.color)
			y += 16
			text(left, 13, "", b.label)
			text(right+int(length)+8, 13, bold, figure)
			y += step - 16
		}
		if p.floor > 0 {
			x := right + p.floor/most*longest
			fmt.Fprintf(&body, `  <path d="M%.1f %dV%d" stroke="#bc4c00" stroke-width="1.5" stroke-dasharray="3 3"/>`+"\n", x, top-4, y-step+thick+4)
			y += 8
			text(int(x), 12, faint+` text-anchor="middle"`, "bare write(2) loop: "+p.format(p.floor))
		}
		words = append(words, p.title+" ("+p.note+"): "+strings.Join(figures, "; ")+".")
	}
	y += 6
	for _, line := range caption {
		y += 18
		text(left, 12, faint, line)
	}
	height := y + 20

	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-labelledby="title desc" `+
		`font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif" fill="#1f2328">`+"\n", width, height, width, height)
	fmt.Fprintf(&svg, "  <title id=\"title\">%s</title>\n", title)
	fmt.Fprintf(&svg, "  <desc id=\"desc\">%s</desc>\n", html.EscapeString(strings.Join(append(words, caption...), "\n")))
	fmt.Fprintf(&svg, `  <rect x="0.5" y="0.5" width="%d" height="%d" rx="8" fill="#ffffff" stroke="#d1d9e0"/>`+"\n", width-1, height-1)
	svg.Write(body.Bytes())
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}
