//go:build unix

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

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

// The program in docs/tokens.md creates a token that the server accepts, with the claims of the
// user.
func TestTokenDocument(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "token.mjs", documentBlocks(t, "tokens.md")["token.mjs"])
	write(t, dir, "print.mjs", fmt.Sprintf(`import { token } from "./token.mjs";
		console.log("token " + token(%q, { id: "alice", name: "Alice", info: { color: "teal" } }));`, secret))
	_, token, _ := strings.Cut(startIn(t, dir, "", "node", "print.mjs").find(t, "token "), "token ")

	_, addr := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--listen=127.0.0.1:0")
	watch := start(t, env{}, "watch", "--url=http://"+addr, "--token="+token, "--room=doc-1")
	watch.stdout.find(t, `"id":"alice","name":"Alice","info":{"color":"teal"}`)
}
