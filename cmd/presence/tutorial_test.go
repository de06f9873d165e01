//go:build unix

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// replaced returns text with each old string replaced by the new string that follows it. It fails
// the test if the text does not contain an old string.
func replaced(t *testing.T, text string, oldnew ...string) string {
	t.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			t.Fatalf("the document does not contain %q", oldnew[i])
		}
	}
	return strings.NewReplacer(oldnew...).Replace(text)
}

// The site in docs/tutorial.md shows the count, the members and a message to two users. The test
// changes only the ports in its code.
func TestTutorial(t *testing.T) {
	t.Parallel()
	heavy(t)
	blocks := documentBlocks(t, "tutorial.md")
	dir := t.TempDir()
	write(t, dir, "secret", secret+"\n")
	write(t, dir, "app.mjs", replaced(t, blocks["app.mjs"], `.listen(3000, "localhost")`,
		`.listen(0, "localhost", function () { console.log("port " + this.address().port); })`))
	_, port, _ := strings.Cut(startIn(t, dir, "", "node", "app.mjs").find(t, "port "), "port ")
	site := "http://localhost:" + port
	_, addr := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--listen=127.0.0.1:0", "--cors-origin="+site)
	write(t, dir, "index.html", replaced(t, blocks["index.html"], "http://localhost:8080", "http://"+addr))

	ann := browser(t, "/favicon.ico")
	bob, closeBob := tab(t, ann)
	defer closeBob()
	shows := func(n int, names string) string {
		return fmt.Sprintf(`document.querySelector("#count")?.textContent === "%d" &&
			document.querySelector("#members").textContent.split(", ").sort().join() === %q`, n, names)
	}
	if err := chromedp.Do(ann, chromedp.Navigate(site+"/?user=ann")); err != nil {
		t.Fatal(err)
	}
	see(t, ann, shows(1, "ann"))
	if err := chromedp.Do(bob, chromedp.Navigate(site+"/?user=bob")); err != nil {
		t.Fatal(err)
	}
	see(t, ann, shows(2, "ann,bob"))
	see(t, bob, shows(2, "ann,bob"))
	if err := chromedp.Do(bob, chromedp.SendKeys("input", "hello"), chromedp.Click("button")); err != nil {
		t.Fatal(err)
	}
	for _, page := range []context.Context{ann, bob} {
		see(t, page, `document.querySelector("#messages").textContent === "bob: hello"`)
	}
}

// tokenPrograms has a program for each function in docs/tokens.md. It prints the token of a user.
// The shell command runs in the directory of the block and of the driver.
var tokenPrograms = map[string]struct{ file, driver, command string }{
	"token.mjs": {"print.mjs", `import { token } from "./token.mjs";
		console.log(token({ id: 7, name: "Zoë \"Z\" 🎉", session: "phone" }));`, "node print.mjs"},
	"presence_token.py": {"print.py", `from presence_token import token
print(token({"id": 7, "name": 'Zoë "Z" 🎉', "session": "phone"}))`, "python3 print.py"},
	"token.php": {"print.php", `<?php require "token.php";
		echo token(["id" => 7, "name" => 'Zoë "Z" 🎉', "session" => "phone"]), "\n";`, "php print.php"},
	"token.go": {"main.go", `package main
		import "fmt"
		func main() { fmt.Println(token("7", "Zoë \"Z\" 🎉", "phone")) }`, "./token"},
}

// The functions in docs/tokens.md create tokens that the server accepts, with the claims of the
// user. Their secret file ends with a line break.
func TestTokenDocument(t *testing.T) {
	t.Parallel()
	heavy(t)
	blocks := documentBlocks(t, "tokens.md")
	_, addr := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--listen=127.0.0.1:0")
	for name, block := range blocks {
		program, known := tokenPrograms[name]
		if !known {
			t.Errorf("no test for %s", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "secret", secret+"\r\n")
			write(t, dir, name, block)
			write(t, dir, program.file, program.driver)
			if name == "token.go" { // this directory is in the module, which has the library
				if out, err := exec.Command("go", "build", "-o", dir+"/token", dir+"/token.go", dir+"/main.go").CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
			began := time.Now().Truncate(time.Second)
			token, _, _ := strings.Cut(startIn(t, dir, "", "sh", "-c", program.command).find(t, "."), " ") // Go prints the error after it
			page := &website{client: through(t, addr, false), server: "http://presence.example", headers: []string{"Authorization", "Bearer " + token}}
			resp := ask(t, t.Context(), page.client, "GET", page.server+"/session", "", page.headers...)
			var got struct {
				User struct {
					ID, Name string
					Expires  time.Time
				}
			}
			if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("got %s, %v", resp.Status, err)
			}
			if got.User.ID != "7" || got.User.Name != `Zoë "Z" 🎉` {
				t.Errorf("got user %+v", got.User)
			}
			if life := got.User.Expires.Sub(began); life < 15*time.Minute || life > 15*time.Minute+patience {
				t.Errorf("the token lives for %v, want 15 m", life)
			}
			for room, want := range map[string]int{"lobby": http.StatusOK, "doc-1": http.StatusOK, "other": http.StatusForbidden} {
				if got := page.get(t, "/presence?room="+room); got != want {
					t.Errorf("room %s: got %d, want %d", room, got, want)
				}
			}
			payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
			if err != nil || !strings.Contains(strings.ReplaceAll(string(payload), " ", ""), `"sid":"phone"`) {
				t.Errorf("got claims %s, %v", payload, err)
			}
		})
	}
	for name := range tokenPrograms {
		if blocks[name] == "" {
			t.Errorf("docs/tokens.md has no %s", name)
		}
	}
}
