//go:build !race

package main

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The guests of one node must be valid on the others, so --dev with --nats requires a secret.
// Blanks around a URL in the environment do not matter.
func TestClusterDev(t *testing.T) {
	nats := startNATS(t)
	for _, c := range []struct {
		e    env
		exit int
		want string
	}{
		{env{"PRESENCE_NATS": nats.url}, 2, "--dev with --nats requires --jwt-secret"},
		{env{"PRESENCE_NATS": " " + nats.url + ", " + nats.url, "PRESENCE_NATS_REPLICAS": "1", "PRESENCE_JWT_SECRET": secret}, 0, "configuration is valid"},
	} {
		stdout, stderr, exit := command(t, c.e, "serve", "--dev", "--check")
		if exit != c.exit || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("%v: exit status %d, %s%s; want %d and %q", c.e, exit, stdout, stderr, c.exit, c.want)
		}
	}
}

// With --check, the NATS servers must be reachable, and their settings must match. Nothing is
// created, also not by flags that are rejected.
func TestClusterCheck(t *testing.T) {
	nats := startNATS(t)
	conn, err := natsgo.Connect(nats.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	e := env{"PRESENCE_JWT_SECRET": secret}
	check := func(args ...string) (string, int) {
		stdout, stderr, exit := command(t, e, append([]string{"serve", "--check", "--nats-replicas=1"}, args...)...)
		return stdout + stderr, exit
	}
	for args, want := range map[string]string{
		"--nats " + nats.url + " --history-age 48h":  "2 --history-age is 1s to 24h",
		"--nats " + nats.url + " --nats-replicas 3":  "1 3 replicas require a cluster of NATS servers",
		"--nats " + nats.url + " --max-message 1MiB": "1 raise max_payload of the NATS servers",
		"--nats nats://127.0.0.1:1":                  "1 nats: connect: ",
		"--nats " + nats.url:                         "0 configuration is valid",
	} {
		out, exit := check(strings.Fields(args)...)
		if status, text, _ := strings.Cut(want, " "); strconv.Itoa(exit) != status || !strings.Contains(out, text) || strings.Count(out, "\n") != 1 {
			t.Errorf("%s: exit status %d, %s; want %s, one line", args, exit, out, want)
		}
	}
	if _, err := js.Stream(t.Context(), "presence"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("stream after --check: got %v, want none", err)
	}
	nodes, _ := startClusterNodes(t, 1, nats.url)
	nodes[0].awaitReady()
	if out, exit := check("--nats="+nats.url, "--history-age=10m"); exit != 1 || !strings.Contains(out, "--history-age") {
		t.Errorf("another age: exit status %d, %s; want 1 and the flag", exit, out)
	}
	if out, exit := check("--nats=" + nats.url); exit != 0 || out != "configuration is valid\n" {
		t.Errorf("the same settings: exit status %d, %s; want 0", exit, out)
	}
}
