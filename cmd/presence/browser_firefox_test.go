package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// workerPage is a page whose worker holds the stream. It passes on the events of the page, because
// a worker receives none when the browser puts its page into the back/forward cache.
const workerPage = `<b id="count">–</b>
<script type="module">
  window.worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => (document.querySelector("#count").textContent = data);
  addEventListener("pagehide", () => worker.postMessage("pause"));
  addEventListener("pageshow", () => worker.postMessage("resume"));
</script>`

const workerScript = `import { join } from "/presence/presence.js";
const room = join({ token: async () => (await fetch("/token")).text() });
room.on("count", (count) => postMessage(count));
onmessage = ({ data }) => room[data]();`

// presence.js and the examples of docs/browser.md work in Firefox. Each case in web/firefox.js has
// its own server, because the tabs of a browser share the connections to a server.
func TestFirefox(t *testing.T) {
	t.Parallel()
	heavy(t)
	e := env{"PRESENCE_JWT_SECRET": secret}
	type given struct {
		Server string            `json:"server"`
		Site   string            `json:"site"`           // passes requests to the server, and has pages of its own
		Room   string            `json:"room,omitempty"` // of these pages; default: lobby
		Tokens map[string]string `json:"tokens"`
	}
	cases := map[string]given{}
	for _, name := range []string{"cookie", "token", "share", "tabs", "rooms"} {
		_, addr := serving(t, e, "--dev", "--listen=127.0.0.1:0", "--message-rate=1000", "--message-burst=1000")
		cases[name] = given{Server: "http://" + addr}
	}
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certificate(t, cert, key)
	_, addr := serving(t, e, "--dev", "--listen=127.0.0.1:0", "--tls-cert="+cert, "--tls-key="+key)
	cases["http2"] = given{Server: "https://" + addr}
	document, err := os.ReadFile("../../docs/browser.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?ms)^```html (\\S+)\n(.*?)^```$").FindAllSubmatch(document, -1) {
		write(t, dir, string(block[1]), string(block[2]))
	}
	write(t, dir, "worker.html", workerPage)
	write(t, dir, "worker.js", workerScript)
	for _, name := range []string{"event source", "example", "worker"} {
		site, server := application(t, dir, "1h")
		cases[name] = given{Server: server, Site: site}
	}
	_, addr = serving(t, e, "--dev", "--listen=127.0.0.1:0")
	cases["shared worker"] = given{Server: "http://" + addr, Site: fixtures(t, addr), Room: "r"}
	tokens := map[string]string{
		"ann": must(t, e, "token", "--sub=ann", "--name=Ann", "--join=*", "--send=*"),
		"bob": must(t, e, "token", "--sub=bob", "--name=Bob", "--join=*", "--send=*"),
	}
	for name, c := range cases {
		c.Tokens = tokens
		cases[name] = c
	}
	input, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	firefox, address := startFirefox(t, ctx)
	program := exec.CommandContext(ctx, "node", "../../web/firefox.js", address, string(input))
	program.Stderr = &bytes.Buffer{}
	out, err := program.Output()
	if err != nil {
		cancel() // otherwise the program has stopped Firefox
		t.Errorf("web/firefox.js: %v\n%s", err, program.Stderr)
	}
	if err := firefox.Wait(); err != nil {
		t.Errorf("Firefox: %v", err)
	}
	for line := range bytes.Lines(out) {
		var result struct{ Name, Error string }
		if err := json.Unmarshal(line, &result); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if result.Error != "" {
			t.Errorf("%s: %s", result.Name, result.Error)
		}
		delete(cases, result.Name)
	}
	for name := range cases {
		t.Errorf("%s: no result", name)
	}
}

// startFirefox starts Firefox with a new profile, and returns it with the address at which it can
// be controlled. The end of ctx kills it, and its child processes end with it.
func startFirefox(t *testing.T, ctx context.Context) (firefox *exec.Cmd, address string) {
	t.Helper()
	path, err := exec.LookPath("firefox-esr")
	if err != nil {
		path, err = exec.LookPath("firefox")
	}
	if err != nil {
		t.Fatal("Firefox is required (make test installs it on Debian as root): ", err)
	}
	profile := t.TempDir()
	// The proxy refuses Firefox's own requests to servers of Mozilla. Firefox does not use it for
	// 127.0.0.1.
	write(t, profile, "user.js", `
		user_pref("network.proxy.type", 1);
		user_pref("network.proxy.http", "127.0.0.1");
		user_pref("network.proxy.http_port", 9);
		user_pref("network.proxy.ssl", "127.0.0.1");
		user_pref("network.proxy.ssl_port", 9);`)
	firefox = exec.CommandContext(ctx, path, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port=0")
	firefox.Env = append(os.Environ(), "HOME="+profile)
	firefox.WaitDelay = patience
	log := newLines()
	firefox.Stderr = log
	if err := firefox.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		firefox.Wait()
		log.Close()
		if t.Failed() {
			t.Logf("standard error of Firefox:\n%s", log)
		}
	})
	_, address, _ = strings.Cut(log.find(t, "WebDriver BiDi listening on "), "listening on ")
	return firefox, address + "/session"
}
