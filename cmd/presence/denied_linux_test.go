package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The error for an unreadable file states the file's mode and owner, the user of the process and
// the remedy. A typical cause is a file of mode 0600 that does not belong to the container's user.
func TestDeniedFileIsExplained(t *testing.T) {
	dir, err := os.MkdirTemp("", "presence") // other users cannot enter the directories of t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	certificate(t, cert, key)
	file := write(t, dir, "secret", secret)
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	hidden := write(t, closed, "secret", secret)

	// Root can read every file. Therefore, if the test runs as root, it runs the command as the
	// user of the image. Otherwise, it runs the command as the same user, and gives the file a mode
	// without read permission.
	uid := os.Getuid()
	mode := os.FileMode(0o600)
	attr := &syscall.SysProcAttr{}
	if uid == 0 {
		uid = 65532
		attr.Credential = &syscall.Credential{Uid: 65532, Gid: 65532}
	} else {
		mode = 0o200
	}
	for path, mode := range map[string]os.FileMode{dir: 0o755, file: mode, cert: mode, key: mode, closed: mode &^ 0o100} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	defer os.Chmod(closed, 0o700)
	for _, args := range []string{
		"serve --check --jwt-secret-file " + file,
		"serve --check --jwt-public-key " + cert,
		"serve --check --dev --tls-cert " + cert + " --tls-key " + key,
		"token --sub alice --jwt-secret-file " + file,
		"token --sub alice --jwt-secret-file " + hidden,
	} {
		c := exec.Command("/proc/self/exe", strings.Fields(args)...) // the path of the test binary may be inaccessible to that user
		c.Env = []string{asCommand + "=1"}
		c.Dir = "/"
		c.SysProcAttr = attr
		out, _ := c.CombinedOutput()
		want := fmt.Sprintf("permission denied (file mode %04o, owner uid %d, process uid %d): chown the file to %[3]d, or set its mode to 0640 and its group to one of this process", mode, os.Getuid(), uid)
		if strings.Contains(args, hidden) {
			want = fmt.Sprintf("permission denied: parent directory not searchable (process uid %d)", uid)
		}
		if exit := c.ProcessState.ExitCode(); exit != 2 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), want) {
			t.Errorf("presence %s: exit status %d\n%s\nwant one line with %q", args, exit, out, want)
		}
	}
}
