//go:build unix

package main

import (
	"bytes"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// stubbed runs a shell command with programs that only print their names, arguments and the
// variables NATS_NAME and PRESENCE_NATS. It returns the calls of each program.
func stubbed(t *testing.T, dir, command string, programs ...string) map[string][][]string {
	t.Helper()
	bin, calls := t.TempDir(), filepath.Join(t.TempDir(), "calls")
	for _, p := range programs {
		// One write, because several programs run at the same time.
		script := fmt.Sprintf("#!/bin/sh\nIFS='\t'\nprintf '%%s\\n' \"%s\t$NATS_NAME\t$PRESENCE_NATS\t$*\" >> %s\n", p, calls)
		if p == "openssl" {
			script = "#!/bin/sh\necho 0123456789abcdef0123456789abcdef\n"
		}
		if err := os.WriteFile(filepath.Join(bin, p), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("sh", "-euc", command+"\nwait")
	c.Dir, c.Env = dir, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][][]string{}
	for line := range strings.Lines(string(text)) {
		words := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		all[words[0]] = append(all[words[0]], words[1:])
	}
	return all
}

// The commands in docs/nodes.md for a trial on one machine start three NATS servers that are one
// cluster with JetStream, and three nodes that use them. The proxy and Prometheus reach the nodes.
func TestTrial(t *testing.T) {
	text, err := os.ReadFile("../../docs/nodes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Try it on one machine\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(section, -1)
	if len(blocks) != 4 {
		t.Fatalf("got %d blocks, want 4", len(blocks))
	}
	clone := t.TempDir()
	if out, err := exec.Command("cp", "-R", "../../deploy", clone).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	calls := stubbed(t, clone, blocks[0][1]+blocks[1][1], "make", "go", "openssl", "nats-server", "presence", "caddy", "prometheus")
	t.Chdir(filepath.Join(clone, "trial"))

	out, err := exec.Command("caddy", "adapt", "--config", "Caddyfile").Output()
	if err != nil || !strings.Contains(string(out), `"listen":["127.0.0.1:8080"]`) {
		t.Errorf("caddy adapt: %v, got no listener at 127.0.0.1:8080 alone:\n%s", err, out)
	}
	_, restart, _ := strings.Cut(blocks[3][1], "\npresence ")
	again := strings.Fields(strings.TrimSuffix(restart, " 2>> presence-1.log &\n"))
	if !slices.ContainsFunc(calls["presence"], func(call []string) bool { return slices.Equal(call[2:], again) }) {
		t.Errorf("the restart %q is not the start of a node: %q", again, calls["presence"])
	}
	if !strings.Contains(blocks[0][1], "2>> presence-$i.log") {
		t.Error("a restart would delete the log of a node")
	}

	ports := trialServers(t, calls["nats-server"])
	nodes, metrics := trialNodes(t, calls["presence"], ports)
	for file, want := range map[string][]string{"Caddyfile": nodes, "prometheus.yml": metrics} {
		config, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(string(config), -1); !slices.Equal(got, want) || len(want) != 3 {
			t.Errorf("%s: got addresses %q, want %q", file, got, want)
		}
	}
	if len(calls["caddy"]) != 1 || len(calls["prometheus"]) != 1 || !slices.Contains(calls["prometheus"][0], "--config.file=prometheus.yml") {
		t.Errorf("got calls of caddy %q and prometheus %q", calls["caddy"], calls["prometheus"])
	}
	promtool(t, "check", "config", "prometheus.yml")
	if _, err := os.Stat("alerts.yaml"); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile("secret-1"); err != nil || len(bytes.TrimSpace(text)) < 32 {
		t.Errorf("got a secret of %d bytes, %v", len(text), err)
	}
}

// trialServers checks the NATS servers of the trial, and returns their ports.
func trialServers(t *testing.T, calls [][]string) (ports []string) {
	t.Helper()
	var cluster, routes []string
	dirs := map[string]bool{}
	for _, call := range calls {
		t.Setenv("NATS_NAME", call[0])
		t.Setenv("NATS_PASSWORD", "p")
		t.Setenv("NATS_OBSERVER_PASSWORD", "o")
		none := func() {}
		o, err := server.ConfigureOptions(flag.NewFlagSet("", flag.ContinueOnError), call[2:], none, none, none)
		if err != nil {
			t.Fatalf("nats-server %q: %v", call[2:], err)
		}
		if o.Host != "127.0.0.1" || o.HTTPHost != "127.0.0.1" || o.Cluster.Host != "127.0.0.1" || !o.JetStream || o.Cluster.Name != "presence" {
			t.Errorf("nats-server %q: got hosts %s, %s, %s, JetStream %v, cluster %q", call[2:], o.Host, o.HTTPHost, o.Cluster.Host, o.JetStream, o.Cluster.Name)
		}
		ports = append(ports, fmt.Sprint(o.Port))
		cluster = append(cluster, fmt.Sprint("127.0.0.1:", o.Cluster.Port))
		dirs[o.StoreDir], dirs[o.ServerName], dirs[fmt.Sprint(o.HTTPPort)] = true, true, true
		routes = nil
		for _, r := range o.Routes {
			routes = append(routes, r.Host)
		}
		slices.Sort(routes)
	}
	slices.Sort(ports)
	slices.Sort(cluster)
	if len(ports) != 3 || !slices.Equal(cluster, routes) || len(dirs) != 6 { // the directory is named like the server
		t.Errorf("got ports %q, cluster addresses %q, routes %q, and directories, names and monitoring ports %v", ports, cluster, routes, dirs)
	}
	return ports
}

// trialNodes checks the nodes of the trial, and returns their addresses and those of their metrics.
func trialNodes(t *testing.T, calls [][]string, ports []string) (nodes, metrics []string) {
	t.Helper()
	for _, call := range calls {
		var used []string
		for u := range strings.SplitSeq(call[1], ",") {
			if parsed, err := url.Parse(u); err == nil {
				used = append(used, parsed.Port())
			}
		}
		if !slices.Equal(used, ports) {
			t.Errorf("got NATS servers %q, want those of the ports %q", call[1], ports)
		}
		args := call[2:]
		flags := map[string]string{}
		for i := 1; i+1 < len(args); i += 2 {
			flags[args[i]] = args[i+1]
		}
		nodes, metrics = append(nodes, flags["--listen"]), append(metrics, flags["--metrics-listen"])
		e := env{"PRESENCE_JWT_SECRET_FILE": "secret-1,secret-2"}
		if _, stderr, exit := command(t, e, "serve", "--listen", flags["--listen"], "--metrics-listen", flags["--metrics-listen"], "--check"); exit != 0 || args[0] != "serve" || flags["--node"] == "" {
			t.Errorf("presence %q: exit status %d, %s", args, exit, stderr)
		}
	}
	slices.Sort(nodes)
	slices.Sort(metrics)
	return nodes, metrics
}
