package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// asCommand is the environment variable that makes this test binary run the presence command.
const asCommand = "PRESENCE_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	flag.Parse()
	flag.Set("test.parallel", "48") // parallel tests wait most of the time; see heavy
	heavySlots = make(chan struct{}, sized(2, 1, 1)*runtime.GOMAXPROCS(0))
	chosen := func(name string) bool { return flag.Lookup("test."+name).Value.String() != "" }
	if testing.Short() && !chosen("run") && !chosen("skip") {
		flag.Set("test.skip", notShort())
	}
	goleak.VerifyTestMain(ending{m})
}

// notShort returns the pattern of the tests that -short leaves out, because they keep the machine
// busy for minutes: those of several processes, of the examples and of the release, and those in a
// browser except for browser_test.go.
func notShort() string {
	files, err := filepath.Glob("browser_*_test.go")
	if err != nil || len(files) == 0 {
		log.Fatalf("no browser_*_test.go in the working directory (%v)", err)
	}
	names := []string{"Cluster.*", "Fault.*", "Examples", "ExampleCaddy", "Release", "Troubleshooting"}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			log.Fatal(err)
		}
		for _, test := range regexp.MustCompile(`(?m)^func Test(\w+)`).FindAllSubmatch(source, -1) {
			names = append(names, string(test[1]))
		}
	}
	return "^Test(" + strings.Join(names, "|") + ")$"
}

// heavySlots limits how many parallel tests keep a core busy at the same time. With -short there
// are two slots for each core, because the tests then wait for most of their time.
var heavySlots chan struct{}

// heavy acquires a slot until the end of the test. A parallel test must call it first if it does
// more than wait. If it has parallel subtests, they must call heavy in its place: a test that keeps
// its slot while its subtests wait to start can block all tests. heavy logs the waiting time, which
// .ci/test.go parses and subtracts.
func heavy(t *testing.T) {
	takeSlot(t)
	t.Cleanup(func() { <-heavySlots })
}

// idle releases the slot of the test while wait runs. wait must not keep a core busy.
func idle(t *testing.T, wait func()) {
	<-heavySlots
	defer takeSlot(t)
	wait()
}

func takeSlot(t *testing.T) {
	began := time.Now()
	heavySlots <- struct{}{}
	t.Logf("waited %.1fs for a slot", time.Since(began).Seconds())
}

// ending runs all tests and then stops the shared Chromium.
type ending struct{ *testing.M }

func (m ending) Run() int {
	status := m.M.Run()
	if err := endShared(); err != nil {
		fmt.Fprintln(os.Stderr, "Chromium not stopped:", err)
		return 1
	}
	return status
}

const secret = "a secret of at least 32 bytes, for tests"

// patience is the timeout for an expected event. It is long because a busy machine may be slow, and
// a passing test does not wait for it.
const patience = time.Minute

// eventually waits until the condition holds. It fails the test if this takes longer than within.
func eventually(t *testing.T, within time.Duration, condition string, holds func() bool) {
	t.Helper()
	if !poll(100*time.Millisecond, within, holds) {
		t.Fatalf("not true within %v: %s", within, condition)
	}
}

// poll checks a condition at intervals, at once and until it holds. It returns false if it does not
// hold within this time.
func poll(every, within time.Duration, holds func() bool) bool {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for end := time.Now().Add(within); !holds(); <-ticks.C {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// sized returns the size of a test: short with -short, long with PRESENCE_TEST_LONG=1 (make
// test-long), and usual otherwise.
func sized[T any](short, usual, long T) T {
	switch {
	case testing.Short():
		return short
	case os.Getenv("PRESENCE_TEST_LONG") == "1":
		return long
	}
	return usual
}

// env is an environment: the values of variables by name.
type env map[string]string

func (e env) get(name string) string { return e[name] }

func (e env) list() (all []string) {
	for name, value := range e {
		all = append(all, name+"="+value)
	}
	return all
}

// process returns a process with this environment.
func (e env) process(stdin string, stdout, stderr io.Writer) *process {
	return &process{getenv: e.get, environ: e.list, stdin: strings.NewReader(stdin), stdout: stdout, stderr: stderr}
}

// command runs a command line until it completes.
func command(t *testing.T, e env, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	var out, errs bytes.Buffer
	err := run(t.Context(), args, e.process("from stdin\n", &out, &errs))
	return out.String(), errs.String(), status(err)
}

// must runs a command line that must succeed, and returns its output.
func must(t *testing.T, e env, args ...string) string {
	t.Helper()
	stdout, stderr, exit := command(t, e, args...)
	if exit != 0 {
		t.Fatalf("presence %q: got exit status %d, %s", args, exit, stderr)
	}
	return strings.TrimSuffix(stdout, "\n")
}

// background is a command that runs in the background.
type background struct {
	stdout *lines
	stderr *lines
	end    context.CancelFunc // stops the command like a signal
	exit   func() int         // waits for the command and returns its exit status
}

// start starts a command in the background. The command stops no later than when the test ends.
func start(t *testing.T, e env, args ...string) *background {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	b := &background{stdout: newLines(), stderr: newServerLog(t), end: end}
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = run(ctx, args, e.process("", b.stdout, b.stderr))
		b.stdout.Close()
		b.stderr.Close()
	}()
	b.exit = func() int { <-done; return status(err) }
	t.Cleanup(func() { end(); b.exit() })
	return b
}

// serving starts a server, waits until it listens, and returns it with its address.
func serving(t *testing.T, e env, args ...string) (server *background, addr string) {
	t.Helper()
	server = start(t, e, append([]string{"serve", "--log-format=json", "--log-level=debug"}, args...)...)
	var line struct{ Addr string }
	if err := json.Unmarshal([]byte(server.stderr.find(t, `"msg":"listening"`)), &line); err != nil || line.Addr == "" {
		t.Fatalf("no address in the log: %v", err)
	}
	return server, line.Addr
}

// quietPorts has the ports that quietPort has returned.
var quietPorts sync.Map

// quietPort returns a free port on localhost, and each port only once. It is outside of the range
// of outgoing connections, so that it stays free while a program is stopped and started again.
func quietPort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := fmt.Sprint(20_000 + rand.IntN(10_000))
		if _, returned := quietPorts.LoadOrStore(port, true); returned {
			continue
		}
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}

// serveProcess starts a server in a separate process, on a free port unless args set --listen. The
// process is killed when the test ends.
func serveProcess(t testing.TB, args ...string) (server *exec.Cmd, log *lines, addr string) {
	t.Helper()
	return serveProcessIn(t, nil, args...)
}

// serveProcessIn is serveProcess with further variables.
func serveProcessIn(t testing.TB, variables []string, args ...string) (server *exec.Cmd, log *lines, addr string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log = newServerLog(t)
	server = exec.Command(self, append([]string{"serve", "--dev", "--log-format=json"}, args...)...)
	server.Env = append([]string{asCommand + "=1", "PRESENCE_LISTEN=127.0.0.1:0", "PRESENCE_JWT_SECRET=" + secret}, variables...)
	server.Stderr = log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait(); log.Close() })
	var line struct{ Addr string }
	if err := json.Unmarshal([]byte(log.find(t, `"listening"`)), &line); err != nil {
		t.Fatal(err)
	}
	return server, log, line.Addr
}

// lines is a writer that splits its input into lines, so that a test can wait for one of them.
type lines struct {
	*io.PipeWriter
	next chan string // closed after the last line

	mu  sync.Mutex // guards all
	all []string
}

func newLines() *lines {
	r, w := io.Pipe()
	// A server at level debug writes thousands of lines, and must not wait for the test.
	l := &lines{PipeWriter: w, next: make(chan string, 100_000)}
	go func() { // ends when w is closed
		defer close(l.next)
		for s := bufio.NewScanner(r); s.Scan(); {
			l.mu.Lock()
			l.all = append(l.all, s.Text())
			l.mu.Unlock()
			l.next <- s.Text()
		}
	}()
	return l
}

// find waits for the next line that contains text.
func (l *lines) find(t testing.TB, text string) string {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case line, ok := <-l.next:
			if strings.Contains(line, text) {
				return line
			} else if ok {
				continue
			}
		case <-late:
		}
		t.Fatalf("no line contains %q:\n%s", text, l)
	}
}

// newServerLog returns the lines that a server writes to stderr. At the end of the test, after the
// later cleanup functions, it closes them. It fails the test if the server or one of its handlers
// panicked, or if the race detector found a race in the process of the server.
func newServerLog(t testing.TB) *lines {
	l := newLines()
	t.Cleanup(func() {
		l.Close()
		for range l.next {
		}
		if at := serverCrash.FindStringIndex(l.String()); at != nil {
			t.Errorf("the server failed:\n%.10000s", l.String()[at[0]:])
		}
	})
	return l
}

var serverCrash = regexp.MustCompile(`(?m)^(panic: |fatal error: |WARNING: DATA RACE)|http2?: panic `)

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

// The help of each command begins with a one-sentence summary, the usage and an example.
func TestHelp(t *testing.T) {
	for args, want := range map[string][]string{
		"":               {"serve", "--version"},
		"--help":         {"Self-hosted presence server: ", "Usage: presence <command>", "serve", "token", "watch", "send", "load", "health", "doctor", "version"},
		"serve --help":   {"Run the server ", "Usage: presence serve", "Examples:", "Listening", "Tokens", "($PRESENCE_JWT_SECRET_FILE)", "Browsers", "Presence", "--heartbeat=15s", "Messages", "Limits", "Running"},
		"token --help":   {"Print a token ", "Usage: presence token --sub=USER", "Example:"},
		"watch --help":   {"Print the events ", "Usage: presence watch", "Example:"},
		"send -h":        {"Send a message ", "Usage: presence send <message>", "Example:", "<message>", "($PRESENCE_TOKEN)"},
		"load --help":    {"Open many connections", "Usage: presence load", "exit status is 1", "Example:", "--ramp=5s"},
		"health --help":  {"Check that ", "Usage: presence health", "Examples:"},
		"doctor --help":  {"Find the faults ", "Usage: presence doctor <url>", "Examples:", "--watch=40s", "($PRESENCE_JWT_SECRET_FILE)"},
		"version --help": {"Print the versions ", "Usage: presence version", "Example:"},
	} {
		stdout, stderr, exit := command(t, env{"PRESENCE_HEARTBEAT": "nonsense"}, strings.Fields(args)...)
		if exit != 0 || stderr != "" {
			t.Errorf("%s: exit status %d, %s", args, exit, stderr)
		}
		rest := stdout
		for _, w := range want {
			_, after, ok := strings.Cut(rest, w)
			if !ok {
				t.Errorf("presence %s: no %q, or not in this order, in\n%s", args, w, stdout)
				break
			}
			rest = after
		}
		if args != "" && !strings.HasPrefix(stdout, want[0]) {
			t.Errorf("presence %s: help does not begin with %q:\n%s", args, want[0], stdout)
		}
	}
}

func TestVersion(t *testing.T) {
	if got := must(t, env{"PRESENCE_HELP": "1"}, "version"); !strings.HasPrefix(got, "presence ") || !strings.Contains(got, " go1.") {
		t.Errorf("got %q", got)
	}
	version = "v1.2.3"
	defer func() { version = "" }()
	for _, args := range []string{"version", "--version", "-v", "serve --version", "send -v"} {
		if got := must(t, nil, strings.Fields(args)...); !strings.HasPrefix(got, "presence v1.2.3 go1.") || strings.Contains(got, "\n") {
			t.Errorf("presence %s: got %q", args, got)
		}
	}
}

// Every flag can be set by an environment variable, and its help text names the variable and the
// default.
func TestEveryFlagHasItsVariable(t *testing.T) {
	flags := 0
	for _, args := range [][]string{{"serve"}, {"token"}, {"watch"}, {"send", "hi"}, {"load"}, {"health"}, {"doctor", "http://127.0.0.1"}} {
		e := env{"PRESENCE_SUB": "alice"} // token requires it
		parser, err := newParser(t.Context(), &process{getenv: e.get}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range parser.Model.Leaves(true) {
			if node.Name != args[0] {
				continue
			}
			for _, flag := range node.Flags {
				flags++
				name := "PRESENCE_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
				before := e[name]
				e[name] = "1"
				_, err := parser.Parse(args)
				got := fmt.Sprint(flag.Target.Interface())
				if err != nil && !strings.Contains(err.Error(), "--"+flag.Name) || err == nil && got != "1" && got != "true" && got != "[1]" {
					t.Errorf("%s %s=1: got %s, %v", args[0], name, got, err)
				}
				if help := helpLine(flag.Value); !strings.HasSuffix(help, "($"+name+")") {
					t.Errorf("%s --help does not name %s: %s", args[0], name, help)
				}
				byDefault := "Default: "
				switch {
				case flag.Required:
					byDefault = "Required."
				case flag.HasDefault:
					byDefault += flag.Default + "."
				}
				if !strings.Contains(flag.Help, byDefault) {
					t.Errorf("%s --help does not state %q for --%s: %s", args[0], byDefault, flag.Name, flag.Help)
				}
				e[name] = before
			}
		}
	}
	if flags < 40 {
		t.Errorf("got %d flags, want at least 40", flags)
	}
}

// For an error in the command line, the command prints one line that names the flag and exits with
// status 2.
func TestUsage(t *testing.T) {
	dir := t.TempDir()
	short, long := write(t, dir, "short", "too short\n"), write(t, dir, "long", secret)
	cert, key := dir+"/cert.pem", dir+"/key.pem"
	certificate(t, cert, key)
	for _, tt := range []struct {
		args string
		env  env
		want string
	}{
		{"--dev", nil, "unknown flag --dev"},
		{"fly", nil, "unexpected argument fly"},
		{"serve --fly", nil, "unknown flag --fly"},
		{"serve --dev --listn :1", nil, `unknown flag --listn, did you mean "--listen"?`},
		{"serve", nil, "no token verification key: set --jwt-secret-file, --jwt-secret, --jwt-public-key or --jwks-url, or use --dev to try the server"},
		{"serve --listen 8080", nil, `--listen: "8080"`},
		{"serve --listen :http", nil, `--listen: ":http"`},
		{"serve --listen :65536", nil, `--listen: ":65536"`},
		{"serve --listen unix:", nil, "--listen: unix: requires the path"},
		{"serve --listen unix:@presence", nil, "--listen: unix:@presence is an abstract socket"},
		{"serve --listen unix:/" + strings.Repeat("x", 107), nil, "--listen: path of the Unix socket too long (108 bytes, maximum 107)"},
		{"serve --dev --listen unix:/none/s --listen-mode 0888", nil, `--listen-mode is an octal file mode from 0 to 0777, not "0888"`},
		{"serve --dev --listen unix:/none/s --listen-mode 1777", nil, `--listen-mode is an octal file mode from 0 to 0777, not "1777"`},
		{"serve --dev --listen-mode 0600", nil, "--listen-mode requires --listen unix:PATH"},
		{"serve --dev --proxy-protocol", nil, "--proxy-protocol requires --trusted-proxies"},
		{"serve --dev --trusted-proxies 10.0.0.1/8", nil, `--trusted-proxies: "10.0.0.1/8" has host bits beyond its length: use 10.0.0.0/8 or 10.0.0.1`},
		{"serve --dev", env{"PRESENCE_TRUSTED_PROXIES": "10.0.0.0/8,proxy"}, `--trusted-proxies: "proxy" is not an address or prefix`},
		{"serve --dev --trusted-proxies ::ffff:10.0.0.0/104", nil, `--trusted-proxies: "::ffff:10.0.0.0/104" is an IPv4 address in IPv6 form`},
		{"serve --dev --trusted-proxies fe80::1%eth0", nil, `--trusted-proxies: "fe80::1%eth0" is not an address`},
		{"serve --dev --h2c --tls-cert " + cert + " --tls-key " + key, nil, "--h2c requires plain HTTP"},
		{"serve", env{"PORT": "http"}, `$PORT: ":http"`},
		{"serve --dev --tls-cert " + cert, nil, "--tls-cert and --tls-key"},
		{"serve --dev --tls-key " + key, nil, "--tls-cert and --tls-key"},
		{"serve --dev --tls-cert " + key + " --tls-key " + cert, nil, "--tls-cert and --tls-key"},
		{"serve --jwt-secret short", nil, "--jwt-secret: "},
		{"serve --jwt-secret-file " + short, nil, "--jwt-secret-file: " + short + ": auth: secret too short (9 bytes, minimum 32)"},
		{"serve --jwt-secret-file " + long + " --jwt-secret-file " + short, nil, "--jwt-secret-file: " + short + ": "},
		{"serve", env{"PRESENCE_JWT_SECRET_FILE": long + "," + short}, "--jwt-secret-file: " + short + ": "},
		{"serve --jwt-secret short --jwt-secret-file " + long, nil, "--jwt-secret: "},
		{"serve" + strings.Repeat(" --jwt-secret-file "+long, 17), nil, "--jwt-secret-file, --jwt-public-key: auth: too many keys (17, maximum 16)"},
		{"serve --jwt-secret-file " + long + " --jwks-url ftp://example.com", nil, "--jwks-url: "},
		{"serve --jwt-secret-file " + dir + "/none", nil, "--jwt-secret-file: "},
		{"serve --jwt-public-key " + dir + "/none", nil, "--jwt-public-key: "},
		{"serve --jwt-public-key " + key, nil, "--jwt-public-key: " + key + ": auth: "},
		{"serve --jwt-public-key " + cert + " --jwt-public-key " + key, nil, "--jwt-public-key: " + key + ": auth: "},
		{"serve --jwks-url ftp://example.com", nil, "--jwks-url: "},
		{"serve --dev --jwt-public-key " + cert, nil, "--dev requires a secret to sign guest tokens, not --jwt-public-key: "},
		{"serve --dev --jwks-url https://example.com/keys", nil, "to sign guest tokens, not --jwks-url: "},
		{"serve --dev --query-token=perhaps", nil, "--query-token: "},
		{"serve --dev --cookie-samesite some", nil, "--cookie-samesite must be one of"},
		{"serve --dev --cookie-samesite none", nil, "--cookie-samesite none"},
		{"serve --cookie-samesite none --cookie-insecure", env{"PRESENCE_JWT_SECRET": secret}, "--cookie-samesite none"},
		{"serve --dev --cookie-path presence", nil, `--cookie-path is a path of at most 1024 bytes that starts with /, with special characters percent-encoded, not "presence"`},
		{"serve --dev --listen a/b:80", nil, `--listen "a/b" is not a host name or an IP address, without a port`},
		{"serve --dev --cookie-domain a/b", nil, `--cookie-domain "a/b" is not a domain`},
		{"serve --dev --cors-origin example.com", nil, `--cors-origin "example.com" is not scheme://host`},
		{"serve --dev", env{"PRESENCE_CORS_ORIGIN": "*,https://example.com"}, "--cors-origin"},
		{"serve --dev --count people", nil, "--count must be one of"},
		{"serve --dev --coalesce 50", nil, "--coalesce: "},
		{"serve --dev --coalesce 0s", nil, "--coalesce is 1ms to 750ms, not 0s"},
		{"serve --dev --coalesce 751ms", nil, "--coalesce is 1ms to 750ms, not 751ms"},
		{"serve --dev --linger=-1s", nil, "--linger is 0s to 5m, not -1s"},
		{"serve --dev --linger 1h", nil, "--linger is 0s to 5m, not 1h"},
		{"serve --dev --heartbeat 0s", nil, "--heartbeat is 1s to 5m, not 0s"},
		{"serve --dev", env{"PRESENCE_HEARTBEAT": "100ms"}, "--heartbeat is 1s to 5m, not 100ms"},
		{"serve --dev --member-limit 0", nil, "--member-limit is at least 1, not 0"},
		{"serve --dev --history=-1", nil, "--history is at least 0, not -1"},
		{"serve --dev --history-age 0s", nil, "--history-age is 1s to 24h, not 0s"},
		{"serve --dev --history-age 25h", nil, "--history-age is 1s to 24h, not 25h"},
		{"serve --dev --history-bytes 0", nil, `--history-bytes: "0" is not a size from 1 to 2047MiB`},
		{"serve --dev --history-bytes 3GiB", nil, `--history-bytes: "3GiB" is not a size from 1 to 2047MiB`},
		{"serve --dev --message-rate=-1", nil, "--message-rate is a number of at least 0, not -1"},
		{"serve --dev --message-rate=NaN", nil, "--message-rate is a number of at least 0, not NaN"},
		{"serve --dev --message-rate=Inf", nil, "--message-rate is a number of at least 0, not +Inf"},
		{"serve --dev --message-burst 0", nil, "--message-burst is at least 1, not 0"},
		{"serve --dev --message-burst=-1", nil, "--message-burst is at least 1, not -1"},
		{"serve --dev --max-connections=-1", nil, "--max-connections is at least 0, not -1"},
		{"serve --dev --max-connections-per-user=-1", nil, "--max-connections-per-user is at least 0, not -1"},
		{"serve --dev --max-idle-connections=-1", nil, "--max-idle-connections is at least 0, not -1"},
		{"serve --dev --max-connections-per-address=-1", nil, "--max-connections-per-address is at least 0, not -1"},
		{"serve --dev --max-rooms 0", nil, "--max-rooms is at least 1, not 0"},
		{"serve --dev --max-rooms-per-user=-1", nil, "--max-rooms-per-user is at least 0, not -1"},
		{"serve --dev --max-rooms=-1", nil, "--max-rooms is at least 1, not -1"},
		{"serve --dev --full-status 404", nil, "--full-status"},
		{"serve --dev --member-limit=-1", nil, "--member-limit is at least 1, not -1"},
		{"serve --dev --member-limit many", nil, "--member-limit: "},
		{"serve --dev --max-message 0", nil, `--max-message: "0" is not a size from 1 to 1MiB, such as`},
		{"serve --dev --max-message=-1", nil, `--max-message: "-1" is not a size from 1 to 1MiB, such as`},
		{"serve --dev --max-unsent 0", nil, `--max-unsent: "0" is not a size from four times --max-message to 2047MiB`},
		{"serve --dev --max-message 2MiB", nil, "--max-message is 1 byte to 1 MiB, not 2097152"},
		{"serve --dev --max-message 64KiB --max-unsent 64KiB", nil, "--max-unsent is at least four times --max-message (262144), not 65536"},
		{"serve --dev --shutdown-grace 0s", nil, "--shutdown-grace is more than 0s, not 0s"},
		{"serve --dev --shutdown-grace=-1s", nil, "--shutdown-grace is more than 0s, not -1s"},
		{"serve --dev --log-format xml", nil, "--log-format must be one of"},
		{"serve --dev --log-level loud", nil, "--log-level must be one of"},
		{"serve --dev extra", nil, "unexpected argument extra"},
		{"token --jwt-secret " + strings.Repeat("x", 32), nil, "--sub"},
		{"token --sub alice", nil, "no signing secret: set --jwt-secret-file or --jwt-secret"},
		{"token --sub alice --jwt-secret short", nil, "--jwt-secret: "},
		{"token --sub alice --jwt-secret-file x", env{"PRESENCE_JWT_SECRET": secret}, "--jwt-secret-file: open x: "},
		{"token --sub=", env{"PRESENCE_JWT_SECRET": secret}, "--sub must not be empty"},
		{"token --sub alice --info {", env{"PRESENCE_JWT_SECRET": secret}, "--info must be JSON"},
		{"token --sub alice --ttl=-1s", env{"PRESENCE_JWT_SECRET": secret}, "--ttl is at least 0s, not -1s"},
		{"token --sub " + strings.Repeat("a", 257), env{"PRESENCE_JWT_SECRET": secret}, "--sub must be at most"},
		{"token --sub a\u200b", env{"PRESENCE_JWT_SECRET": secret}, "--sub must be at most 256 bytes of UTF-8 without U+FFFD, control characters and " +
			"format characters (U+200C and U+200D are allowed between non-ASCII characters)"},
		{"token --sub a --name " + strings.Repeat("a", 129), env{"PRESENCE_JWT_SECRET": secret}, "--name must be at most"},
		{"token --sub a --join bad$room", env{"PRESENCE_JWT_SECRET": secret}, `--join is 1 to 128 characters of A-Z a-z 0-9 . _ - and *, not "bad$room"`},
		{"token --sub a --join * --send *é", env{"PRESENCE_JWT_SECRET": secret}, `--send is 1 to 128 characters of A-Z a-z 0-9 . _ - and *, not "*é"`},
		{"token --sub a --send " + strings.Repeat("a", 129), env{"PRESENCE_JWT_SECRET": secret}, "--send is 1 to 128 characters of"},
		{"token --sub a", env{"PRESENCE_JWT_SECRET": secret, "PRESENCE_JOIN": "bad room"}, `not "bad room"`},
		{"token --sub a --join=", env{"PRESENCE_JWT_SECRET": secret}, `--join is 1 to 128 characters of A-Z a-z 0-9 . _ - and *, not ""`},
		{"watch --url example.com", nil, "--url must be"},
		{"watch", env{"PRESENCE_TOKEN": "to\nken"}, "--token must not"},
		{"send", nil, "expected \"<message>\""},
		{"send --json {", nil, "--json: message is not valid JSON"},
		{"load --url example.com", nil, `--url is http://HOST or https://HOST, not "example.com"`},
		{"load --url unix:", nil, "--url: unix: requires the path"},
		{"load --target redis", nil, `--target is presence, mercure, centrifugo, nchan or generic, not "redis"`},
		{"load --target generic", nil, "--stream-url is required for the target generic"},
		{"load --target generic --stream-url http://127.0.0.1:8080/x", nil, "--publish-url is required for the target generic, unless the rate is 0"},
		{"load --publish-url http://example.com/", nil, `--publish-url begins with http://127.0.0.1:8080, not "http://example.com/"`},
		{"load --clients 0", nil, "--clients is at least 1, not 0"},
		{"load --clients 100000000", nil, "--clients is at most "},
		{"load --clients 5 --rooms 6", nil, "--rooms is 1 to the number of clients, 5, not 6"},
		{"load --ramp=-1s", nil, "--ramp is at least 0s, not -1s"},
		{"load --duration=-1s", nil, "--duration is at least 0s, not -1s"},
		{"load --rate=-1", nil, "--rate is 0, or 0.0001 to 1000000, not -1"},
		{"load --size 63", nil, "--size is 64 to 16777216, not 63"},
		{"load --size 0", nil, `--size: "0" is not a size from 64 to 16MiB`},
		{"load --senders 0", nil, "--senders is at least 1, not 0"},
		{"load --churn=-1", nil, "--churn is 0, or 0.0001 to 1000000, not -1"},
		{"load --slow 2", nil, "--slow is 0 to 1, not 2"},
		{"load --slow 0.5 --stopped 0.6", nil, "--stopped is 0 to 1, together with the slow clients, not 0.6"},
		{"load --slow-rate 9", nil, "--slow-rate is at least 10, not 9"},
		{"load --pid=-1", nil, "--pid "},
		{"load --token a --tokens b", nil, "--token, --tokens and a secret exclude each other"},
		{"load --tokens " + dir + "/none", nil, "--tokens: open "},
		{"load --tokens " + write(t, dir, "empty", " \n\n"), nil, "--tokens: no token in "},
		{"load", env{"PRESENCE_TOKEN": "to\nken"}, "--token, --tokens and --publish-token must not contain"},
		{"load --jwt-secret short", nil, "--jwt-secret: "},
		{"health --url example.com", nil, "--url: "},
		{"doctor", nil, "expected \"<url>\""},
		{"doctor example.com", nil, `URL must be http://host or https://host, not "example.com"`},
		{"doctor http://a:b@example.com", nil, "URL must have no user, query or fragment"},
		{"doctor http://example.com --watch 100ms", nil, "--watch must be 1s to 1h, not 100ms"},
		{"doctor http://example.com --origin https://app.example/", nil, `--origin must be scheme://host[:port] without a path, not "https://app.example/"`},
		{"doctor http://example.com --room a/b", nil, "--room must be 1 to 128 characters"},
		{"doctor http://example.com", env{"PRESENCE_TOKEN": "to\nken"}, "--token must contain no control characters"},
		{"doctor http://example.com --jwt-secret short", nil, "--jwt-secret: "},
		{"doctor http://example.com --ca " + key, nil, "--ca: " + key + ": no PEM certificate"},
		{"doctor http://example.com --ca none", nil, "--ca: open none: "},
		{"health", env{"PRESENCE_LISTEN": "unix:"}, "--listen: unix: requires the path"},
		{"health", env{"PRESENCE_LISTEN": "8080"}, `--listen: "8080"`},
	} {
		stdout, stderr, exit := command(t, tt.env, strings.Fields(tt.args)...)
		if exit != 2 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "presence: ") || !strings.Contains(stderr, tt.want) {
			t.Errorf("presence %s %v: exit status %d\n%s%swant one line with %q", tt.args, tt.env, exit, stdout, stderr, tt.want)
		}
	}
}

// The flag overrides the environment, and the environment overrides the default.
func TestPrecedence(t *testing.T) {
	e := env{"PRESENCE_DEV": "true", "PRESENCE_CHECK": "yes", "PRESENCE_HEARTBEAT": "1h"}
	if _, stderr, exit := command(t, e, "serve"); exit != 2 {
		t.Errorf("the environment does not override the default: %s", stderr)
	}
	if _, stderr, exit := command(t, e, "serve", "--heartbeat=20s"); exit != 0 {
		t.Errorf("the flag does not override the environment: %s", stderr)
	}
	delete(e, "PRESENCE_HEARTBEAT")
	if _, stderr, exit := command(t, e, "serve"); exit != 0 {
		t.Errorf("the default is invalid: %s", stderr)
	}
	e["PRESENCE_CORS_ORIGIN"] = "https://a.example,https://b.example"
	must(t, e, "serve")
}

func TestSize(t *testing.T) {
	for text, want := range map[string]size{
		"1": 1, "65536": 65536, "64KiB": 64 << 10, "1MiB": 1 << 20, "1GiB": 1 << 30,
		"": 0, "-1": 0, "1.5MiB": 0, "64kb": 0, "64 KiB": 0, "KiB": 0, "2GiB": 0, "99999999999999999999": 0,
	} {
		if got, ok := parseSize(text); got != want || ok != (want != 0) {
			t.Errorf("%q: got %d, %v, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"0", "0KiB"} {
		if got, ok := parseSize(text); got != 0 || !ok {
			t.Errorf("%q: got %d, %v, want 0 and true", text, got, ok)
		}
	}
}
