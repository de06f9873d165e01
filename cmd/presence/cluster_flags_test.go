package main

import (
	"strings"
	"testing"
)

// A bad NATS flag is a usage error that names the flag. A password in a URL is not printed.
func TestClusterFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--nats nats://u:hunter%ss@host:4222":                       "--nats: URL 1 of 1: must be like nats://",
		"--nats http://host:4222":                                   "--nats: URL 1 of 1: must be like nats://",
		"--nats nats://host --nats nonsense":                        "--nats: URL 2 of 2: must be like nats://",
		"--nats nats://":                                            "--nats: URL 1 of 1: must be like nats://",
		"--nats nats://u:p@hunter#w/rd@host:4222":                   "--nats: URL 1 of 1: must end after the port",
		"--nats nats://host:4222/hunter":                            "--nats: URL 1 of 1: must end after the port",
		"--nats nats://host --nats-ca /nope":                        "--nats-ca: ",
		"--nats nats://host --nats-credentials /nope":               "--nats-credentials: ",
		"--nats nats://host --nats-cert /nope":                      "--nats-cert and --nats-key must be set together",
		"--nats nats://host --nats-cert /nope --nats-key /nope":     "--nats-",
		"--nats nats://host --nats-replicas 6":                      "--nats-replicas is 1 to 5, not 6",
		"--nats nats://host --nats-prefix a.b":                      `--nats-prefix is 1 to 64 of A-Z a-z 0-9 _ -, not "a.b"`,
		"--nats nats://host --nats-ca main.go":                      "--nats-ca: main.go contains no certificate",
		"--nats nats://host --nats-credentials main.go":             "--nats-credentials: ",
		"--nats nats://host --nats-cert main.go --nats-key main.go": "--nats-cert and --nats-key: ",
		"--nats-ca main.go":                                         "--nats-ca requires --nats",
		"--nats-cert main.go --nats-key main.go":                    "--nats-cert requires --nats",
		"--nats-credentials main.go":                                "--nats-credentials requires --nats",
		"--nats-prefix a":                                           "--nats-prefix requires --nats",
		"--nats-replicas 1":                                         "--nats-replicas requires --nats",
		"--ready-needs-backplane":                                   "--ready-needs-backplane requires --nats",
		"--node a":                                                  "--node requires --nats",
		"--nats nats://host --node a\u200bb":                        "--node is 1 to 64 printable characters",
	} {
		_, stderr, exit := command(t, env{"PRESENCE_JWT_SECRET": secret}, append([]string{"serve"}, strings.Fields(args)...)...)
		if exit != 2 || !strings.Contains(stderr, want) || strings.Contains(stderr, "hunter") {
			t.Errorf("%s: exit status %d, %s; want 2 and %q", args, exit, stderr, want)
		}
	}
}
