package main

import (
	"strings"
	"testing"
)

// A bad NATS flag is a usage error that names the flag. A password in a URL is not printed.
func TestClusterFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--nats nats://u:pass%ss@host:4222":                     "--nats is a URL",
		"--nats http://host:4222":                               "--nats is a URL",
		"--nats nonsense":                                       "--nats is a URL",
		"--nats nats://":                                        "--nats is a URL",
		"--nats nats://host --nats-ca /nope":                    "--nats-ca: ",
		"--nats nats://host --nats-credentials /nope":           "--nats-credentials: ",
		"--nats nats://host --nats-cert /nope":                  "--nats-cert and --nats-key must be set together",
		"--nats nats://host --nats-cert /nope --nats-key /nope": "--nats-",
		"--nats nats://host --nats-replicas 6":                  "--nats-replicas is 1 to 5, not 6",
		"--nats nats://host --nats-prefix a.b":                  `--nats-prefix is 1 to 64 of A-Z a-z 0-9 _ -, not "a.b"`,
		"--nats-ca main.go":                                     "--nats-ca requires --nats",
	} {
		_, stderr, exit := command(t, env{"PRESENCE_JWT_SECRET": secret}, append([]string{"serve"}, strings.Fields(args)...)...)
		if exit != 2 || !strings.Contains(stderr, want) || strings.Contains(stderr, "pass") {
			t.Errorf("%s: exit status %d, %s; want 2 and %q", args, exit, stderr, want)
		}
	}
}
