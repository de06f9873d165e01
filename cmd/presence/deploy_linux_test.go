package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// systemd accepts the units, and rates the sandbox as at most 1.2 of 10. The rest is the network,
// which a server needs.
func TestSystemdUnits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var units []string
	for _, name := range []string{"presence.service", "presence.socket"} {
		text, err := os.ReadFile("../../deploy/" + name)
		if err != nil {
			t.Fatal(err)
		}
		// systemd-analyze checks that the program exists.
		unit := filepath.Join(dir, name)
		if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/presence", self)), 0o600); err != nil {
			t.Fatal(err)
		}
		units = append(units, unit)
	}
	for _, args := range [][]string{
		append([]string{"verify", "--man=no", "--recursive-errors=no"}, units...),
		{"security", "--offline=true", "--no-pager", "--threshold=12", units[0]},
	} {
		out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %q: %v\n%s", args, err, out)
		}
	}
}

// The command line and the variables of the unit are valid, and the shutdown has time to finish.
func TestSystemdCommand(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/presence.service")
	if err != nil {
		t.Fatal(err)
	}
	setting, e, keys := map[string]string{}, env{}, secretFiles(t)
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		setting[key] = value
		if name, value, _ := strings.Cut(value, "="); key == "Environment" {
			e[name] = strings.ReplaceAll(value, "/etc/presence", keys)
		}
	}
	args := strings.Fields(setting["ExecStart"])[1:]
	if _, stderr, exit := command(t, e, append(args, "--check")...); exit != 0 || stderr != "" || len(e) != 2 {
		t.Errorf("presence %q with %v: exit status %d, %s", args, e, exit, stderr)
	}
	const grace = 8 * time.Second // default of --shutdown-grace
	if stop, err := time.ParseDuration(setting["TimeoutStopSec"]); stop <= grace || err != nil {
		t.Errorf("got TimeoutStopSec=%s, want more than %s", setting["TimeoutStopSec"], grace)
	}
}
