package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const asNATS = "PRESENCE_TEST_AS_NATS"

func init() {
	file := os.Getenv(asNATS)
	if file == "" {
		return
	}
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s, err := server.NewServer(options)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s.Start()
	s.WaitForShutdown()
	os.Exit(0)
}

type natsProcess struct {
	process    *exec.Cmd
	url        string
	monitoring string
}

func startNATS(t testing.TB) *natsProcess {
	t.Helper()
	dir := t.TempDir()
	file := dir + "/nats.conf"
	text := fmt.Sprintf("listen: 127.0.0.1:-1\nhttp: 127.0.0.1:-1\njetstream { store_dir: %q }\nports_file_dir: %q\n", dir+"/data", dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &natsProcess{process: exec.Command(executable(t))}
	p.process.Env = []string{asNATS + "=" + file}
	p.process.Stderr = os.Stderr
	if err := p.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.process.Process.Kill(); p.process.Wait() })
	p.read(t, dir)
	return p
}

func (p *natsProcess) read(t testing.TB, dir string) {
	t.Helper()
	if !poll(10*time.Millisecond, patience, func() bool { p.url, p.monitoring = natsPorts(dir); return p.url != "" }) {
		t.Fatal("no ports file")
	}
}

func natsPorts(dir string) (url, monitoring string) {
	files, _ := filepath.Glob(dir + "/*.ports")
	if len(files) == 0 {
		return "", ""
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		return "", ""
	}
	var ports server.Ports
	if json.Unmarshal(b, &ports) != nil || len(ports.Nats) == 0 {
		return "", ""
	}
	return ports.Nats[0], ports.Monitoring[0]
}
