package main

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.yaml.in/yaml/v4"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/nats"
)

// composed is the part of compose.yaml that this test reads.
type composed struct {
	Services map[string]struct {
		Environment map[string]string `yaml:"environment"`
		Volumes     []string          `yaml:"volumes"`
		Ports       []string          `yaml:"ports"`
		DependsOn   any               `yaml:"depends_on"`
		Sysctls     map[string]int    `yaml:"sysctls"`
		Ulimits     map[string]int    `yaml:"ulimits"`
	} `yaml:"services"`
	Networks map[string]struct {
		IPAM struct {
			Config []struct{ Subnet string }
		} `yaml:"ipam"`
	} `yaml:"networks"`
	Volumes map[string]any `yaml:"volumes"`
}

// readCompose returns compose.yaml, and its text.
func readCompose(t *testing.T) (c composed, text []byte) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c, text
}

// secretFiles returns a directory with the secrets that the deployments read.
func secretFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "secret-1", secret)
	write(t, dir, "secret-2", secret)
	return dir
}

// Each variable in compose.yaml belongs to a flag and has a valid value. Each host, volume and file
// exists.
func TestCompose(t *testing.T) {
	data, err := os.ReadFile("../../deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c composed
	if err := yaml.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	keys := secretFiles(t)
	nodes, hosts := 0, regexp.MustCompile(`@([a-z0-9-]+):4222`)
	for name, s := range c.Services {
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if _, isVolume := c.Volumes[source]; isVolume || source == "./secrets" { // a user creates it
				continue
			}
			if _, err := os.Stat(filepath.Join("../../deploy", source)); err != nil {
				t.Errorf("%s: volume %s: %v", name, v, err)
			}
		}
		if !strings.HasPrefix(name, "presence-") {
			continue
		}
		nodes++
		e := env{}
		for variable, value := range s.Environment {
			value = strings.ReplaceAll(value, "/etc/presence", keys)
			e[variable] = regexp.MustCompile(`\$\{NATS_PASSWORD[^}]*\}`).ReplaceAllString(value, "p")
		}
		for _, host := range hosts.FindAllStringSubmatch(e["PRESENCE_NATS"], -1) {
			if _, ok := c.Services[host[1]]; !ok {
				t.Errorf("%s: no service %s", name, host[1])
			}
		}
		for _, address := range strings.Split(e["PRESENCE_NATS"], ",") {
			if err := nats.CheckURL(address); err != nil {
				t.Errorf("%s: PRESENCE_NATS: %v", name, err)
			}
		}
		if e["PRESENCE_METRICS_LISTEN"] != ":9090" || len(s.Ports) != 0 {
			t.Errorf("%s: got metrics on %q and published ports %q, want :9090 and none", name, e["PRESENCE_METRICS_LISTEN"], s.Ports)
		}
		maps.DeleteFunc(e, func(variable, _ string) bool { // no such host here
			return strings.HasPrefix(variable, "PRESENCE_N")
		})
		if _, stderr, exit := command(t, e, "serve", "--check"); exit != 0 || stderr != "" {
			t.Errorf("%s: exit status %d, and on standard error: %s", name, exit, stderr)
		}
	}
	if nodes != 3 {
		t.Errorf("got %d nodes, want 3", nodes)
	}
	if p := c.Services["proxy"]; p.Sysctls["net.ipv4.tcp_retries2"] != 5 || p.Ulimits["nofile"] < 2*12000 {
		t.Errorf("proxy: got sysctls %v and ulimits %v", p.Sysctls, p.Ulimits)
	}
}

// The nodes of compose.yaml trust the network of the containers, which is the same in all of them.
// The command for a token runs in the container of a node.
func TestComposeAccess(t *testing.T) {
	t.Parallel()
	c, text := readCompose(t)
	network := c.Networks["default"].IPAM.Config
	if len(network) != 1 || len(c.Networks) != 1 {
		t.Fatalf("got networks %v, want one subnet", c.Networks)
	}
	keys := secretFiles(t)
	command := regexp.MustCompile(`(?m)^#   docker compose -f deploy/compose.yaml exec -T (\S+) /presence (token .*)$`).FindStringSubmatch(string(text))
	if command == nil {
		t.Fatal("no command for a token")
	}
	for name, s := range c.Services {
		if !strings.HasPrefix(name, "presence-") {
			continue
		}
		if got := s.Environment["PRESENCE_TRUSTED_PROXIES"]; got != network[0].Subnet {
			t.Errorf("%s: got trusted proxies %s, want %s", name, got, network[0].Subnet)
		}
		e := env{}
		for variable, value := range s.Environment {
			e[variable] = strings.ReplaceAll(value, "/etc/presence", keys)
		}
		if name == command[1] {
			must(t, e, strings.Fields(command[2])...)
		}
	}
	if _, found := c.Services[command[1]]; !found {
		t.Errorf("no service %s", command[1])
	}
	image, err := os.ReadFile("../../Dockerfile")
	if err != nil || !strings.Contains(string(image), `ENTRYPOINT ["/presence"]`) {
		t.Errorf("the image has no command /presence: %v", err)
	}
}

// Each variable in the manifests for Kubernetes belongs to a flag and has a valid value.
func TestManifests(t *testing.T) {
	keys := secretFiles(t)
	for _, file := range []string{"single.yaml", "cluster.yaml"} {
		text, err := os.ReadFile("../../deploy/kubernetes/" + file)
		if err != nil {
			t.Fatal(err)
		}
		var deployment struct {
			Spec struct {
				Template struct {
					Spec struct {
						Containers []struct {
							Args []string
							Env  []struct{ Name, Value string }
						}
					}
				}
			}
		}
		// The file is a comment, the Deployment, and other objects.
		if err := yaml.Unmarshal([]byte(strings.Split(string(text), "\n---\n")[1]), &deployment); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		containers := deployment.Spec.Template.Spec.Containers
		if len(containers) != 1 {
			t.Fatalf("%s: got %d containers, want 1", file, len(containers))
		}
		e := env{}
		for _, v := range containers[0].Env {
			e[v.Name] = strings.ReplaceAll(v.Value, "/etc/presence/keys", keys)
		}
		maps.DeleteFunc(e, func(variable, _ string) bool { // no such host here
			return strings.HasPrefix(variable, "PRESENCE_N")
		})
		if _, stderr, exit := command(t, e, append(containers[0].Args, "--check")...); exit != 0 || stderr != "" || len(e) < 5 {
			t.Errorf("%s: exit status %d with %d variables, and on standard error: %s", file, exit, len(e), stderr)
		}
	}
}

// Caddy accepts the configuration of the proxy.
func TestComposeProxy(t *testing.T) {
	out, err := exec.Command("caddy", "validate", "--adapter", "caddyfile", "--config", "../../deploy/Caddyfile").CombinedOutput()
	if err != nil {
		t.Errorf("caddy validate: %v\n%s", err, out)
	}
}

// With nats.conf, presence can do all that it needs, another user of its account cannot change
// anything, and a user of another account reaches nothing.
func TestNATSPermissions(t *testing.T) {
	t.Setenv("NATS_NAME", "nats-1")
	t.Setenv("NATS_PASSWORD", "right")
	t.Setenv("NATS_OBSERVER_PASSWORD", "watch")
	data, err := os.ReadFile("../../deploy/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	// Another account, a free port, and one server instead of three.
	text := strings.Replace(string(data), "accounts {", "accounts {\n  APP { jetstream: enabled, users: [{user: app, password: right}] }", 1)
	text = strings.NewReplacer("port: 4222", "host: 127.0.0.1\nport: -1", "http: 127.0.0.1:8222", "", "/data", t.TempDir()).Replace(text)
	text = regexp.MustCompile(`(?ms)^cluster \{.*?^\}`).ReplaceAllString(text, "")
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	options.NoSigs, options.NoLog = true, true
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer func() {
		s.Shutdown()
		s.WaitForShutdown()
	}()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server did not start within 10 s")
	}
	url := func(user string) string {
		password := "right"
		if user == "observer" {
			password = "watch"
		}
		return fmt.Sprintf("nats://%s:%s@%s", user, password, s.Addr())
	}
	if conn, err := natsgo.Connect(fmt.Sprintf("nats://presence:watch@%s", s.Addr())); err == nil {
		conn.Close()
		t.Error("the password of the observer is also that of presence")
	}

	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	bus, err := nats.Open(t.Context(), nats.Config{URLs: []string{url("presence")}, Replicas: 1, Messages: 100, Age: time.Minute, Bytes: 1 << 20, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	received := make(chan string, 16)
	cancel, err := bus.Subscribe("lobby", backplane.Handler{
		Message: func(data []byte) { received <- "message " + string(data) },
		Entry:   func(e backplane.Entry) { received <- "entry " + string(e.Data) },
		Ask:     func(data []byte) []byte { return data },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	if _, _, err := bus.Append(t.Context(), "lobby", "key", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Last(t.Context(), "lobby"); err != nil {
		t.Error(err)
	}
	if entries, complete, err := bus.Read(t.Context(), "lobby", 0); len(entries) != 1 || !complete || err != nil {
		t.Errorf("Read: got %d entries, %v, %v", len(entries), complete, err)
	}
	for i := range 50 { // so many that they are read in batches
		if _, _, err := bus.Append(t.Context(), "other", fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	if entries, _, err := bus.Read(t.Context(), "other", 0); len(entries) != 50 || err != nil {
		t.Errorf("Read: got %d entries, %v; want 50", len(entries), err)
	}
	if err := bus.Clear(t.Context(), "lobby"); err != nil {
		t.Error(err)
	}
	rows := make(chan backplane.Row, 16)
	if _, err := bus.Watch(func(r backplane.Row) { rows <- r }); err != nil {
		t.Error(err)
	}
	if err := bus.Put(t.Context(), "ban", nil, time.Hour); err != nil {
		t.Fatal(err) // otherwise the next line would wait
	}
	if r := <-rows; r.Key != "ban" || r.Deleted {
		t.Errorf("got row %+v", r)
	}
	answered := false
	if err := bus.Ask(t.Context(), "lobby", []byte("?"), func([]byte) bool { answered = true; return false }); err != nil || !answered {
		t.Errorf("Ask: %v, answered %v", err, answered)
	}
	<-received // the entry

	for _, user := range []string{"observer", "app"} {
		denied := make(chan error, 16)
		conn, err := natsgo.Connect(url(user), natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) { denied <- err }))
		if err != nil {
			t.Fatal(err)
		}
		for _, subject := range []string{"presence.room.lobby.msg", "presence.log.0123456789.lobby", "$KV.presence_table.ban", "presence.nodes.msg", "presence.ask.nodes"} {
			if err := conn.Publish(subject, []byte("forged")); err != nil {
				t.Error(err)
			}
		}
		if err := conn.Flush(); err != nil {
			t.Error(err)
		}
		if user == "observer" {
			for range 5 {
				if err := <-denied; !strings.Contains(err.Error(), "Permissions Violation for Publish") {
					t.Errorf("observer: got %v", err)
				}
			}
		} else if js, err := jetstream.New(conn); err != nil {
			t.Error(err)
		} else if _, err := js.Stream(t.Context(), "presence"); err == nil {
			t.Error("a user of another account sees the stream of presence")
		}
		conn.Close()
	}
	if err := bus.Publish(t.Context(), "lobby", []byte("last")); err != nil {
		t.Error(err)
	}
	if got := <-received; got != "message last" {
		t.Errorf("got %q, want only the message of presence", got)
	}
	select {
	case r := <-rows:
		t.Errorf("got a row %+v of another user", r)
	default:
	}
	if text, err := os.ReadFile(log.Name()); err != nil || strings.Contains(string(text), "ermission") {
		t.Errorf("presence lacks a permission: %v, %s", err, text)
	}
}
