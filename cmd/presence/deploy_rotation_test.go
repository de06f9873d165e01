//go:build unix

package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// rotatable checks that a secret can be rotated if PRESENCE_JWT_SECRET_FILE has this value: it
// names two files. It returns their directory.
func rotatable(t *testing.T, value string) string {
	t.Helper()
	files := strings.Split(value, ",")
	dir := filepath.Dir(files[0])
	if value != dir+"/secret-1,"+dir+"/secret-2" || !filepath.IsAbs(dir) {
		t.Errorf("got PRESENCE_JWT_SECRET_FILE=%s, want secret-1 and secret-2 in one directory", value)
	}
	return dir
}

// The nodes of compose.yaml read their secrets from a mounted directory. A file that is mounted
// alone, or a variable, could not be rotated.
func TestComposeRotation(t *testing.T) {
	t.Parallel()
	c, text := readCompose(t)
	nodes := 0
	for name, s := range c.Services {
		if !strings.HasPrefix(name, "presence-") {
			continue
		}
		nodes++
		dir := rotatable(t, s.Environment["PRESENCE_JWT_SECRET_FILE"])
		if want := "./secrets:" + dir + ":ro"; len(s.Volumes) != 1 || s.Volumes[0] != want {
			t.Errorf("%s: got volumes %q, want %q", name, s.Volumes, want)
		}
		if _, fixed := s.Environment["PRESENCE_JWT_SECRET"]; fixed {
			t.Errorf("%s: the secret is in a variable", name)
		}
		if !strings.Contains(string(text), "kill -s HUP") || !strings.Contains(string(text), " "+name) {
			t.Errorf("%s: no command that sends SIGHUP to it", name)
		}
	}
	if nodes != 3 {
		t.Errorf("got %d nodes, want 3", nodes)
	}
}

// The unit for systemd reads its secrets from files, not from credentials, which stay the same
// until a restart.
func TestSystemdRotation(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/presence.service")
	if err != nil {
		t.Fatal(err)
	}
	value := regexp.MustCompile(`(?m)^Environment=PRESENCE_JWT_SECRET_FILE=(.*)$`).FindSubmatch(text)
	if value == nil {
		t.Fatal("no PRESENCE_JWT_SECRET_FILE")
	}
	if dir := rotatable(t, string(value[1])); dir != "/etc/presence" {
		t.Errorf("got directory %s, want /etc/presence", dir)
	}
	if credential := regexp.MustCompile(`(?m)^(Load|Set|Import)Credential.*`).Find(text); credential != nil {
		t.Errorf("got %s", credential)
	}
	if !regexp.MustCompile(`(?m)^ExecReload=.*kill -HUP \$MAINPID$`).Match(text) {
		t.Error("no ExecReload= that sends SIGHUP")
	}
}

// The commands in docs/tokens.md rotate a secret of a running server, and no token of a user is
// rejected before its secret is gone.
func TestRotationCommands(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/tokens.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Rotate a secret\n")
	section, _, _ = strings.Cut(section, "\n## ")
	find := func(pattern string) string {
		t.Helper()
		found := regexp.MustCompile(pattern).FindStringSubmatch(section)
		if found == nil {
			t.Fatalf("docs/tokens.md: no match of %s", pattern)
		}
		return strings.Join(strings.Fields(found[1]), " ")
	}
	dir, programs := t.TempDir(), t.TempDir()
	// The test needs no OpenSSL.
	write(t, programs, "openssl", "#!/bin/sh\n[ \"$*\" = 'rand -hex 32' ] && od -An -tx1 -N32 /dev/urandom | tr -d ' \\n'\n")
	if err := os.Chmod(programs+"/openssl", 0o700); err != nil {
		t.Fatal(err)
	}
	shell := func(command string) {
		t.Helper()
		c := exec.Command("sh", "-ec", command)
		c.Dir, c.Env = dir, append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"))
		if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	token := func(file string) string {
		return must(t, env{}, "token", "--sub=alice", "--jwt-secret-file="+dir+"/"+file)
	}
	shell(find("```sh\n([^\n]*openssl rand [^\n]*)\n"))
	shell(find("```sh\n[^\n]*\n(cp [^\n]*)\n"))
	server, log, addr := serveProcess(t, "--jwt-secret-file="+dir+"/secret-1", "--jwt-secret-file="+dir+"/secret-2")
	by := anyCertificate(t, false)
	status := func(want int, token string) {
		t.Helper()
		if resp := request(t, by, "GET", "http://"+addr+"/presence", token, ""); resp.StatusCode != want {
			t.Errorf("got %s, want %d", resp.Status, want)
		}
	}
	before := token("secret-1")
	status(http.StatusOK, before)

	shell(find("1\\. [^`]*`([^`]*)`"))
	hangUp(t, server, log)
	after := token("secret-2")
	status(http.StatusOK, before)
	status(http.StatusOK, after)
	if token("secret-1") == after {
		t.Error("both files have the same secret")
	}

	shell(find("5\\. [^`]*`([^`]*)`"))
	hangUp(t, server, log)
	status(http.StatusUnauthorized, before)
	status(http.StatusOK, after)
	status(http.StatusOK, token("secret-1"))
}
