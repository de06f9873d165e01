// Tests of the links in messages. Run with `node --test web/*.test.js`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { links } from "./links.js";

/** Returns the addresses of the links in a text. */
const found = (text, complete) => links(text, complete).filter(({ href }) => href !== undefined).map(({ text }) => text);

test("addresses with http and https become links", () => {
  assert.deepEqual(links("see https://example.com/a?b=c#d and HTTP://LOCALHOST:8080."), [
    { text: "see " },
    { text: "https://example.com/a?b=c#d", href: "https://example.com/a?b=c#d" },
    { text: " and " },
    { text: "HTTP://LOCALHOST:8080", href: "http://localhost:8080/" },
    { text: "." },
  ]);
  assert.deepEqual(found("http://[::1]:80/ http://127.0.0.1 https://xn--bcher-kva.example/ü"), ["http://[::1]:80/", "http://127.0.0.1", "https://xn--bcher-kva.example/ü"]);
  assert.deepEqual(links("none"), [{ text: "none" }]);
  assert.deepEqual(links(""), []);
});

test("punctuation and brackets around an address do not belong to it", () => {
  for (const [text, address] of [
    ["(https://example.com)", "https://example.com"],
    ["[https://example.com/a], and", "https://example.com/a"],
    ["https://example.com/a_(b)", "https://example.com/a_(b)"],
    ["(https://example.com/a_(b)).", "https://example.com/a_(b)"],
    ["<https://example.com/a>", "https://example.com/a"],
    ['"https://example.com/a"', "https://example.com/a"],
    ["https://example.com/a!?…", "https://example.com/a"],
    ["*https://example.com/a*", "https://example.com/a"],
    ["「https://example.com/a」。", "https://example.com/a"],
    ["https://example.com/a\nhttps", "https://example.com/a"],
    ["https://example.com/a-", "https://example.com/a-"],
    ["https://example.com/?q=https://example.org/", "https://example.com/?q=https://example.org/"],
  ]) {
    assert.deepEqual(found(text), [address], text);
  }
});

test("hostile text remains text", () => {
  for (const text of [
    "javascript:alert(1)",
    "JaVaScRiPt://example.com/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "ftp://example.com file:///etc/passwd mailto:a@example.com //example.com example.com",
    "https://",
    "http:///example.com",
    "http:/example.com http:\\\\example.com https:example.com",
    "https://bank.example@evil.example/",
    "https://bank.example:80@evil.example/",
    "https://bank.example\\@evil.example/",
    "https://аррӏе.com/",
    "https://example.com。evil.example/",
    "https://exam\u200bple.com.evil.example@/",
    "https://%65vil.example/",
    "https://[::1/",
    "https://example.com:99999/",
    "xhttps://example.com",
    "_https://example.com",
    `https://example.com/${"a".repeat(3000)}`,
  ]) {
    const parts = links(text);
    assert.equal(parts.map(({ text }) => text).join(""), text);
    // An invisible character ends the address, and the part before it may be a link.
    if (text.includes("\u200b")) assert.deepEqual(found(text), ["https://exam"]);
    else assert.deepEqual(found(text), [], text);
  }
  assert.deepEqual(found("https://example.com/\u202egpj.exe"), ["https://example.com/"], "a bidi override is not part of a link");
  assert.deepEqual(found("javascript:https://example.com/"), ["https://example.com/"], "only the address is the link");
  assert.deepEqual(found('https://example.com/"onclick="alert(1)'), ["https://example.com/"]);
});

test("the last address of a text that was cut is not a link", () => {
  assert.deepEqual(found("https://example.com/a https://example.com/b…", false), ["https://example.com/a"]);
  assert.deepEqual(found("https://example.com/a and…", false), ["https://example.com/a"]);
});

test("a text has at most 50 links", () => {
  const text = "http://a ".repeat(400);
  assert.equal(found(text).length, 50);
  assert.equal(links(text).map(({ text }) => text).join(""), text);
});

test("the time grows with the length of the text only", () => {
  for (const text of ["http://", "https://a", "(", "http://a.b)", "http://a.b ", "https://a@", "）", "http://[", "h"]) {
    const long = text.repeat(Math.ceil(400_000 / text.length));
    const start = performance.now();
    assert.equal(links(`http://a.b/${long}`).map(({ text }) => text).join(""), `http://a.b/${long}`);
    const took = performance.now() - start;
    assert.ok(took < 2000, `${JSON.stringify(text)} repeated: ${took} ms`);
  }
});
