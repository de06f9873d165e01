package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence/auth"
)

// asFiltered is the environment variable that makes this test binary install a seccomp filter,
// before it executes itself again. It has the program in base64.
const asFiltered = "PRESENCE_TEST_SECCOMP"

func init() {
	program := os.Getenv(asFiltered)
	if program == "" {
		return
	}
	fmt.Fprintln(os.Stderr, "seccomp filter:", executeFiltered(program))
	os.Exit(1)
}

// executeFiltered returns only if it fails.
func executeFiltered(program string) error {
	raw, err := base64.StdEncoding.DecodeString(program)
	if err != nil {
		return err
	}
	code := make([]unix.SockFilter, len(raw)/int(unsafe.Sizeof(unix.SockFilter{})))
	if _, err := binary.Decode(raw, binary.NativeEndian, code); err != nil {
		return err
	}
	runtime.LockOSThread() // the filter is that of the thread that executes the binary
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&filter))); errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	os.Unsetenv(asFiltered)
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

// seccompProfile is a seccomp profile as container runtimes read it: the fields of
// deploy/seccomp.json.
type seccompProfile struct {
	DefaultAction   string
	DefaultErrnoRet int
	Syscalls        []seccompRule
}

// seccompRule applies to a system call that meets all conditions.
type seccompRule struct {
	Names    []string
	Action   string
	ErrnoRet int
	Args     []struct {
		Index           int
		Value, ValueTwo uint32
		Op              string
	}
}

// readProfile reads a profile. An unknown field is an error.
func readProfile(t *testing.T, text []byte) (p seccompProfile) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatal(err)
	}
	return p
}

// The layout of struct seccomp_data, see seccomp(2).
const (
	seccompNumber    = 0
	seccompArguments = 16
)

// compile returns the variable that makes a test process use the profile. It compares the lower
// half of arguments only.
func (p seccompProfile) compile(t *testing.T) string {
	t.Helper()
	numbers := syscallNumbers(t, runtime.GOARCH)
	var code []unix.SockFilter
	returns := func(action string, errno int) unix.SockFilter {
		values := map[string]uint32{"SCMP_ACT_ALLOW": unix.SECCOMP_RET_ALLOW, "SCMP_ACT_ERRNO": unix.SECCOMP_RET_ERRNO | uint32(errno)}
		if values[action] == 0 {
			t.Fatalf("unexpected action %q", action)
		}
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: values[action]}
	}
	load := func(offset int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(offset)}
	}
	for _, rule := range p.Syscalls {
		for _, name := range rule.Names {
			number, known := numbers[name]
			if !known {
				continue // of another architecture
			}
			equal := func(value uint32) unix.SockFilter { // Jf is set below
				return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value}
			}
			test := []unix.SockFilter{load(seccompNumber), equal(number)}
			for _, a := range rule.Args {
				test = append(test, load(seccompArguments+8*a.Index))
				switch a.Op {
				case "SCMP_CMP_EQ":
					test = append(test, equal(a.Value))
				case "SCMP_CMP_MASKED_EQ":
					test = append(test, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: a.Value}, equal(a.ValueTwo))
				default:
					t.Fatalf("unexpected comparison %q", a.Op)
				}
			}
			test = append(test, returns(rule.Action, rule.ErrnoRet))
			for i := range test {
				if test[i].Code == unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K {
					test[i].Jf = uint8(len(test) - i - 1) // to the next rule
				}
			}
			code = append(code, test...)
		}
	}
	code = append(code, returns(p.DefaultAction, p.DefaultErrnoRet))
	raw, err := binary.Append(nil, binary.NativeEndian, code)
	if err != nil {
		t.Fatal(err)
	}
	return asFiltered + "=" + base64.StdEncoding.EncodeToString(raw)
}

// syscallNumbers returns the numbers of the system calls of Linux, keyed by their names. They are
// constants of golang.org/x/sys/unix, which has no table.
func syscallNumbers(t *testing.T, arch string) map[string]uint32 {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_"+arch+".go"))
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]uint32{}
	for _, m := range regexp.MustCompile(`(?m)^\s+SYS_(\w+)\s+= (\d+)$`).FindAllStringSubmatch(string(source), -1) {
		n, err := strconv.ParseUint(m[2], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		numbers[strings.ToLower(m[1])] = uint32(n)
	}
	return numbers
}

func deployedProfile(t *testing.T) seccompProfile {
	t.Helper()
	text, err := os.ReadFile("../../deploy/seccomp.json")
	if err != nil {
		t.Fatal(err)
	}
	return readProfile(t, text)
}

// The profile has no misspelled name, because a runtime ignores unknown ones. Of io_uring, it
// allows the two calls that the server makes.
func TestSeccompNames(t *testing.T) {
	t.Parallel()
	known := syscallNumbers(t, "amd64")
	for name := range syscallNumbers(t, "arm64") {
		known[name] = 0
	}
	var rings []string
	for _, rule := range deployedProfile(t).Syscalls {
		if !slices.IsSorted(rule.Names) {
			t.Errorf("names are not sorted: %q", rule.Names)
		}
		for _, name := range rule.Names {
			if _, ok := known[name]; !ok {
				t.Errorf("unknown system call %q", name)
			}
			if strings.HasPrefix(name, "io_") {
				rings = append(rings, name)
			}
		}
	}
	if want := []string{"io_uring_enter", "io_uring_setup"}; !slices.Equal(rings, want) {
		t.Errorf("got %q, want %q", rings, want)
	}
}

// refusing returns a profile that lets one system call fail.
func refusing(name string, errno syscall.Errno) seccompProfile {
	return seccompProfile{DefaultAction: "SCMP_ACT_ALLOW", Syscalls: []seccompRule{
		{Names: []string{name}, Action: "SCMP_ACT_ERRNO", ErrnoRet: int(errno)}}}
}

// setupError returns the error of io_uring_setup(2) on this machine, or nil.
func setupError() error {
	params := [30]uint32{2: 1 << 7} // struct io_uring_params with IORING_SETUP_SUBMIT_ALL
	ring, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return os.NewSyscallError("io_uring_setup", errno)
	}
	unix.Close(int(ring))
	return nil
}

// A server uses io_uring exactly if --io-uring and the kernel allow it. One line of the log and the
// metric report the way of sending, and a room works with each.
func TestIOUring(t *testing.T) {
	t.Parallel()
	machine, denied, missing := setupError(), os.NewSyscallError("io_uring_setup", unix.EPERM), os.NewSyscallError("io_uring_setup", unix.ENOSYS)
	for name, c := range map[string]struct {
		flag    string
		profile *seccompProfile // may be nil
		failed  error
	}{
		"auto":               {flag: "auto", failed: machine},
		"auto, with profile": {flag: "auto", failed: machine, profile: new(deployedProfile(t))},
		"auto, with EPERM":   {flag: "auto", failed: denied, profile: new(refusing("io_uring_setup", unix.EPERM))},
		"auto, with ENOSYS":  {flag: "auto", failed: missing, profile: new(refusing("io_uring_setup", unix.ENOSYS))},
		"off":                {flag: "off"},
		"off, with EPERM":    {flag: "off", profile: new(refusing("io_uring_setup", unix.EPERM))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			variables := []string{"GOMAXPROCS=1"} // one loop, so that the room is large in it
			if c.profile != nil {
				variables = append(variables, c.profile.compile(t))
			}
			_, log, addr := serveProcessIn(t, variables, "--io-uring="+c.flag)
			sendToRoom(t, addr)
			want, metric := ringLine{Msg: "io_uring is in use for sends to rooms with many clients"}, 1.0
			switch {
			case c.flag == "off":
				want, metric = ringLine{Msg: "io_uring is off, so all sends use write"}, 0
			case c.failed != nil:
				want, metric = ringLine{"io_uring is not available, so all sends use write", c.failed.Error()}, 0
			}
			if got := ringLines(t, log); !slices.Equal(got, []ringLine{want}) {
				t.Errorf("got %+v, want only %+v", got, want)
			}
			if got, ok := scrape(t, through(t, addr, false), "http://"+addr+"/metrics")["presence_io_uring"]; !ok || got != metric {
				t.Errorf("got presence_io_uring %v, want %v", got, metric)
			}
		})
	}
}

// ringLine is a line of the log about io_uring.
type ringLine struct{ Msg, Error string }

// ringLines returns the lines of the log about io_uring.
func ringLines(t *testing.T, log *lines) (found []ringLine) {
	t.Helper()
	for line := range strings.Lines(log.String()) {
		var l ringLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if strings.Contains(l.Msg, "io_uring") {
			found = append(found, l)
		}
	}
	return found
}

// sendToRoom connects 40 clients to a room, which all receive the count and two messages, then
// disconnects half of them, which the others see.
func sendToRoom(t *testing.T, addr string) {
	t.Helper()
	const clients = 40
	token, err := auth.Mint([]byte(secret), auth.Claims{Sub: "alice", Join: []string{"lobby"}, Send: []string{"lobby"}})
	if err != nil {
		t.Fatal(err)
	}
	client, url := through(t, addr, false), "http://"+addr
	var streams []stream
	for range clients {
		streams = append(streams, opened(t, ask(t, t.Context(), client, "GET", url+"/events", "", "Authorization", "Bearer "+token), 1))
	}
	for _, s := range streams {
		s.until(t, "user count", strconv.Itoa(clients))
	}
	for _, text := range []string{"first", "second"} {
		resp := ask(t, t.Context(), client, "POST", url+"/messages", text, "Authorization", "Bearer "+token, "Content-Type", "text/plain")
		if resp.StatusCode != 202 {
			t.Fatalf("POST /messages: got %s, want 202", resp.Status)
		}
		for _, s := range streams {
			s.until(t, "message", text)
		}
	}
	for _, s := range streams[clients/2:] {
		s.Close()
	}
	for _, s := range streams[:clients/2] {
		s.until(t, "user count", strconv.Itoa(clients/2))
	}
}
