package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"
)

// natsNode is a NATS server in a process of its own. It has the same address and the same store in
// each run. It does not send its clients the addresses of the other servers, so that they keep to
// the addresses that a test gives them.
type natsNode struct {
	t       testing.TB
	name    string
	addr    string
	routes  string // address for the other servers
	file    string // configuration
	process *exec.Cmd
}

// startNATSNodes starts n NATS servers with JetStream, which are a cluster if n > 1. It returns
// when JetStream can store streams with n replicas.
func startNATSNodes(t testing.TB, n int) (nodes []*natsNode) {
	t.Helper()
	for i := range n {
		nodes = append(nodes, &natsNode{t: t, name: fmt.Sprintf("nats-%d", i+1), addr: freeAddr(t), routes: freeAddr(t)})
	}
	for _, s := range nodes {
		dir := t.TempDir()
		s.file = filepath.Join(dir, "nats.conf")
		text := fmt.Sprintf("server_name: %s\nlisten: %q\njetstream { store_dir: %q }\n", s.name, s.addr, filepath.Join(dir, "data"))
		if n > 1 {
			var routes []string
			for _, other := range nodes {
				routes = append(routes, "nats://"+other.routes)
			}
			text += fmt.Sprintf("cluster { name: test, listen: %q, no_advertise: true, routes: [%s] }\n", s.routes, strings.Join(routes, ", "))
		}
		if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.start()
	}
	js := jetStream(t, nodes)
	var err error
	accepts := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "probe", Subjects: []string{"probe"}, Replicas: n}); err == nil {
			err = js.DeleteStream(ctx, "probe")
		}
		return err == nil
	}
	if !poll(50*time.Millisecond, patience, accepts) {
		t.Fatalf("JetStream does not accept a stream: %v", err)
	}
	return nodes
}

// freeAddr returns an address of loopback that no socket listens on.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.3.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *natsNode) url() string { return "nats://" + s.addr }

// start starts the server.
func (s *natsNode) start() {
	s.t.Helper()
	process := exec.Command(executable(s.t))
	process.Env = []string{asNATS + "=" + s.file}
	process.Stderr = os.Stderr
	if err := process.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.process = process
	s.t.Cleanup(func() { process.Process.Kill(); process.Wait() })
}

// kill ends the server with SIGKILL. It returns when the process has ended.
func (s *natsNode) kill() {
	s.t.Helper()
	if err := s.process.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	s.process.Wait()
}

// sendSignal sends a signal to a process.
func sendSignal(t testing.TB, process *exec.Cmd, s unix.Signal) {
	t.Helper()
	if err := process.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// jetStream connects the test to NATS servers.
func jetStream(t testing.TB, nodes []*natsNode) jetstream.JetStream {
	t.Helper()
	var urls []string
	for _, s := range nodes {
		urls = append(urls, s.url())
	}
	conn, err := natsgo.Connect(strings.Join(urls, ","), natsgo.RetryOnFailedConnect(true), natsgo.MaxReconnects(-1), natsgo.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// streamLeader waits for the leader of a stream, and returns it with the other servers.
func streamLeader(t testing.TB, js jetstream.JetStream, nodes []*natsNode, stream string) (leader *natsNode, others []*natsNode) {
	t.Helper()
	var info *jetstream.StreamInfo
	var err error
	elected := func() bool {
		info, err = streamInfo(t, js, stream)
		return err == nil && info.Cluster != nil && info.Cluster.Leader != ""
	}
	if !poll(50*time.Millisecond, patience, elected) {
		t.Fatalf("stream %s has no leader: %v", stream, err)
	}
	for _, s := range nodes {
		if s.name == info.Cluster.Leader {
			leader = s
		} else {
			others = append(others, s)
		}
	}
	return leader, others
}

func streamInfo(t testing.TB, js jetstream.JetStream, stream string) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}
