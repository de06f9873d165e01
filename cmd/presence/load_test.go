package main

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"example.com/presence/cmd/presence/internal/load"
)

// runLoad runs presence load, and returns its report and its exit status.
func runLoad(t *testing.T, e env, args ...string) (r load.Report, exit int) {
	t.Helper()
	args = append([]string{"load", "--json", "--clients=60", "--ramp=200ms", "--duration=2s", "--rate=40"}, args...)
	stdout, stderr, exit := command(t, e, args...)
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("presence %q: %v in %s%s", args, err, stdout, stderr)
	}
	if !strings.Contains(stderr, " connected, ") {
		t.Errorf("got no progress: %s", stderr)
	}
	return r, exit
}

// counterOf returns the value of a counter of a server.
func counterOf(t *testing.T, addr, name string) int64 {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(text)
	if line == nil {
		t.Fatalf("no counter %s in %s", name, text)
	}
	n, err := strconv.ParseFloat(string(line[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return int64(n)
}

// TestLoad runs a load with churn, slow and stopped clients against a real server. Its figures must
// be those of the server.
func TestLoad(t *testing.T) {
	t.Parallel()
	e := env{"PRESENCE_JWT_SECRET": secret}
	_, addr := serving(t, e, "--listen=127.0.0.1:0")
	r, exit := runLoad(t, e, "--url=http://"+addr, "--rooms=3", "--churn=20", "--slow=0.1", "--stopped=0.1", "--size=2000")
	if exit != 0 || r.Err() != nil {
		t.Errorf("got exit status %d, %+v", exit, r)
	}
	if r.Connected != 60 || r.Clients != 60 || r.Rooms != 3 || r.Churned < 1 || len(r.Failed)+len(r.Ended)+len(r.Refused) > 0 {
		t.Errorf("got %+v, want 60 connected clients, some churned, and no failure", r)
	}
	if *r.Counts != (load.Counts{Right: 60, Least: 20, Most: 20}) || r.JoinToCount.Number != 60 || r.SendToReceipt.Number == 0 {
		t.Errorf("got the counts %+v, and %+v, %+v, want 20 everywhere and 60 joins", *r.Counts, r.JoinToCount, r.SendToReceipt)
	}
	if got, want := r.Accepted, counterOf(t, addr, "presence_messages_total"); got != want || got == 0 {
		t.Errorf("got %d accepted messages, the server has %d", got, want)
	}
	if r.Deliveries != 20*r.Accepted {
		t.Errorf("got %d deliveries of %d messages, want each at 20 clients", r.Deliveries, r.Accepted)
	}
	if got, want := int64(r.Connections), int64(60+r.Churned); got != want {
		t.Errorf("got %d connections, want %d", got, want)
	}
}

// TestLoadTokens runs a load with each kind of credential.
func TestLoadTokens(t *testing.T) {
	t.Parallel()
	e := env{"PRESENCE_JWT_SECRET": secret}
	_, addr := serving(t, e, "--dev", "--listen=127.0.0.1:0")
	one := must(t, e, "token", "--sub=one", "--join=*", "--send=*")
	two := must(t, e, "token", "--sub=two", "--join=*", "--send=*")
	file := write(t, t.TempDir(), "tokens", one+"\n\n"+two+"\n")
	for name, args := range map[string][]string{
		"guests": nil,
		"one":    {"--token=" + one},
		"file":   {"--tokens=" + file},
	} {
		r, exit := runLoad(t, env{}, append(args, "--url=http://"+addr)...)
		if exit != 0 || r.Connected != 60 || r.Accepted == 0 {
			t.Errorf("%s: got exit status %d, %+v", name, exit, r)
		}
	}
}

// TestLoadFails checks the results of loads that the server refuses.
func TestLoadFails(t *testing.T) {
	t.Parallel()
	e := env{"PRESENCE_JWT_SECRET": secret}
	_, addr := serving(t, e, "--listen=127.0.0.1:0", "--full-status=503", "--max-connections=10")
	r, exit := runLoad(t, env{"PRESENCE_JWT_SECRET": secret + "x"}, "--url=http://"+addr)
	if exit != 1 || r.Connected != 0 || r.Failed["status 401"] != 60 || !strings.HasPrefix(r.Details["status 401"], "invalid token: ") {
		t.Errorf("wrong secret: got exit status %d, %d connected, failed %v, want 60 times the status 401 and its detail", exit, r.Connected, []any{r.Failed, r.Details})
	}
	stdout, stderr, exit := command(t, e, "load", "--url=http://"+addr, "--clients=3", "--duration=100ms", "--room=bad room")
	if exit != 1 || !strings.Contains(stdout, "3 (3 status 400)") || !strings.Contains(stdout, "status 400: room ") || !strings.Contains(stderr, "presence: 3 clients not connected at the end\n") {
		t.Errorf("bad room: got exit status %d\n%s%s", exit, stdout, stderr)
	}
	stdout, stderr, exit = command(t, e, "load", "--url=http://127.0.0.1:1", "--clients=3")
	if exit != 1 || stdout != "" || !strings.Contains(stderr, "connection refused\n") {
		t.Errorf("no server: got exit status %d\n%s%s", exit, stdout, stderr)
	}
}
