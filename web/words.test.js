// Tests of the page's texts. Run with `node --test web/*.test.js`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { PresenceError, initial } from "./presence/index.js";
import { titleWords } from "./title.js";
import {
  called, dataText, nameError, namesakes, peopleWords, refusalWords, retryWords, returnWords, signedOut, sinceWords, stateWords, statusOf,
  tabsWords, tooLongWords, unsentWords, visited,
} from "./words.js";

test("stateWords describes each state of the connection", () => {
  const words = (state) => stateWords({ ...initial, ...state });
  assert.equal(words({}), "Connecting…");
  assert.equal(words({ connection: "open" }), "Live");
  assert.equal(words({ connection: "open", expiring: 30 }), "Live, but your token is about to expire");
  for (const [reason, part] of [["draining", "restarting"], ["full", "Full"], ["slow", "slow"], ["offline", "offline"], ["lost", "lost"], ["connections", "Too many tabs"]]) {
    assert.match(words({ reason }), new RegExp(part));
  }
  assert.equal(words({ connection: "closed" }), "Not connected");
  const failed = (problem) => words({ reason: "lost", problem });
  assert.equal(failed({ title: "No response", status: 0 }), "Cannot reach the server");
  assert.equal(failed({ title: "Unexpected event", status: 0 }), "The answer is not from a presence server");
  assert.equal(failed({ title: "Unexpected response", status: 200 }), "The answer is not from a presence server");
  assert.equal(failed({ title: "Bad Gateway", status: 502 }), "The server does not answer (502)");
  assert.equal(failed({ title: "Too Many Requests", status: 429 }), "The server is busy (429)");
  assert.equal(words({ reason: "offline", problem: { title: "No response", status: 0 } }), "You are offline");
  assert.equal(words({ connection: "closed", reason: "removed" }), "Removed");
  const refused = (status) => words({ connection: "closed", reason: "refused", problem: { title: "", status } });
  assert.equal(refused(401), "Signed out");
  assert.equal(refused(403), "Not allowed");
  assert.equal(refused(400), "Not let in");
  assert.equal(words({ connection: "closed", reason: "refused", problem: { title: "", status: 403, until: "2026-11-27T23:41:18Z" } }), "Removed");
  assert.equal(words({ reason: "constructor" }), "Connecting…", "the reason is unknown");
});

test("retryWords counts down to the next attempt", () => {
  const words = (state, now = 0) => retryWords({ ...initial, ...state }, now);
  const waits = { reason: "lost", retryAt: 8000 };
  assert.deepEqual([0, 1, 7000, 7999, 8000, 9500].map((now) => words(waits, now)), [8, 8, 1, 1, 1, 1].map((s) => `, trying again in ${s} s`));
  assert.equal(words({ reason: "lost" }), ", trying again…", "an attempt runs");
  assert.equal(words({ reason: "draining" }), ", one moment…", "the browser reconnects");
  assert.equal(words({ reason: "draining", retryAt: 2000 }), ", trying again in 2 s");
  for (const reason of [null, "offline", "connections", "paused"]) assert.equal(words({ reason }), "", `${reason}`);
  assert.equal(words({ connection: "open" }), "");
  assert.equal(words({ connection: "closed", reason: "removed" }), "");
});

test("refusalWords distinguishes a ban, a room that is not allowed, and other refusals", () => {
  const removed = { heading: "You were removed from this room", text: "", title: "Removed from" };
  assert.deepEqual(refusalWords(null), removed);
  assert.deepEqual(refusalWords({ title: "Forbidden", status: 403, detail: "banned", until: "2026-11-27T23:41:18Z" }), removed);
  assert.deepEqual(refusalWords({ title: "Forbidden", status: 403, detail: "no right" }), { heading: "You are not allowed in this room", text: "No right.", title: "Not allowed in" });
  assert.deepEqual(refusalWords({ title: "Bad Request", status: 400 }), { heading: "This room cannot be opened", text: "Bad Request.", title: "Not connected to" });
});

test("returnWords has the local time of the end of a ban, and the seconds of the last minute", () => {
  const now = new Date(2026, 10, 27, 22, 30).getTime();
  const words = (ms) => returnWords(now + ms, now, "en-GB");
  assert.equal(words(71 * 60_000 + 18_000), "You can come back at 23:41.");
  assert.equal(words(2 * 3_600_000), "You can come back on 28 November at 00:30.");
  assert.equal(words(60_000), "You can come back at 22:31.");
  assert.equal(words(59_999), "You can come back in 60 s.");
  assert.equal(words(1), "You can come back in 1 s.");
  assert.equal(words(0), "You can come back in a moment.");
  assert.equal(returnWords(null, now), "");
});

test("nameError accepts a visible name of at most 128 bytes", () => {
  for (const name of ["", " ", "\u200b", "\u2800"]) assert.equal(nameError(name), "Enter a name", JSON.stringify(name));
  for (const name of ["x".repeat(129), "\u{1f600}".repeat(33)]) assert.equal(nameError(name), "Enter a shorter name");
  for (const name of ["A", "x".repeat(128), "\u{1f600}".repeat(32)]) assert.equal(nameError(name), "");
  assert.equal(nameError("a\tb"), "Enter a name without control characters");
});

test("signedOut reports whether the user must sign in again", () => {
  const is = (state) => signedOut({ ...initial, ...state });
  for (const reason of ["expired", "signed out"]) assert.ok(is({ connection: "closed", reason }));
  assert.ok(is({ connection: "closed", reason: "refused", problem: { title: "", status: 401 } }));
  assert.ok(!is({ connection: "closed", reason: "refused", problem: { title: "", status: 403 } }));
  assert.ok(!is({ connection: "closed", reason: "removed" }));
  assert.ok(!is({ connection: "connecting", reason: "expired" }), "the token is being renewed");
});

test("one person and one tab are singular", () => {
  assert.deepEqual([0, 1, 2].map(peopleWords), ["0 people", "1 person", "2 people"]);
  assert.deepEqual([0, 1, 2].map(tabsWords), ["leaving…", "1 tab", "2 tabs"]);
});

test("durations are rounded down to minutes, hours or days", () => {
  const ago = (minutes) => sinceWords(0, minutes * 60_000);
  assert.deepEqual([-5, 0.9, 1, 59.9, 60, 60 * 23.9, 60 * 24, 60 * 50].map(ago), [
    "just joined",
    "just joined",
    "here 1 min",
    "here 59 min",
    "here 1 h",
    "here 23 h",
    "here 1 day",
    "here 2 days",
  ]);
});

test("a status that is not a string is ignored", () => {
  for (const info of [null, undefined, 1, "away", [], {}, { status: 1 }, { status: { a: 1 } }]) assert.equal(statusOf(info), "");
  assert.equal(statusOf({ status: " in a call " }), "in a call");
});

test("a string is shown unchanged, and other data as JSON", () => {
  assert.deepEqual(dataText('{"a":1}'), { text: '{"a":1}', json: false, note: "" });
  assert.deepEqual(dataText({ a: 1 }), { text: '{"a":1}', json: true, note: "" });
  assert.deepEqual(dataText(null), { text: "null", json: true, note: "" });
  assert.equal(dataText({ long: "x".repeat(60) }).text.split("\n").length, 3);
});

test("only the beginning of a long message is shown, whether it is text or JSON", () => {
  const nested = (depth, wide) => JSON.parse(`${"[".repeat(depth)}${"0,".repeat(wide)}0${"]".repeat(depth)}`);
  for (const data of ["x".repeat(60_000), "\u{1f600}".repeat(16_000), `Z${"\u0301".repeat(32_000)}`, nested(1500, 28_500), nested(190, 2)]) {
    const { text, note } = dataText(data);
    assert.ok(text.length <= 8001, `${text.length}`);
    assert.ok(text.isWellFormed?.() ?? true, "no unpaired surrogate");
    if (JSON.stringify(data).length > 4002) assert.match(note, /\d+ KB in total/);
  }
  assert.deepEqual(dataText("x".repeat(4000)), { text: "x".repeat(4000), json: false, note: "" });
  assert.equal(dataText("x".repeat(4001)).text, `${"x".repeat(4000)}…`);
  assert.match(dataText(nested(100_000, 0)).note, /too deeply/);
});

test("a user whose name is invisible is shown by id", () => {
  for (const name of ["", " ", "\u200b", "\u2800\u200d", "\u0301", "\u3164"]) assert.equal(called({ id: "x", name }), "x", JSON.stringify(name));
  for (const name of ["A", "é", "\u{1f600}", " a "]) assert.equal(called({ id: "x", name }), name);
});

test("namesakes are users with the same visible name", () => {
  const members = ["Alice", "alice", "Ali\u200bce", "Bob", "", "Ｃ", "C"].map((name, i) => ({ id: `${i}`, name }));
  assert.deepEqual([...namesakes(members)].sort(), ["0", "1", "2", "5", "6"]);
  assert.deepEqual([...namesakes([{ id: "Bob", name: "" }, ...members])].sort(), ["0", "1", "2", "3", "5", "6", "Bob"], "the id of a user may be the name of another one");
});

test("visited keeps the last ten rooms with a valid name, newest first and without duplicates", () => {
  assert.deepEqual(visited(["a", "b"], "b"), ["b", "a"]);
  assert.deepEqual(visited(["<b>", 7, "a"], "c"), ["c", "a"]);
  assert.deepEqual(visited("nonsense", "c"), ["c"]);
  assert.deepEqual(visited(null, undefined), []);
  assert.equal(visited(Array.from({ length: 20 }, (_, i) => `room-${i}`), "c").length, 10);
});

test("unsentWords describes why a message was not sent", () => {
  const words = (problem, after) => unsentWords(new PresenceError(problem, { after }), 70 * 1024);
  assert.equal(words({ title: "", status: 413, detail: "body too large (maximum 65536 bytes)" }), "Not sent: the message is too long (70 KB, at most 64 KB)");
  assert.equal(words({ title: "", status: 413, detail: "no" }), "Not sent: the message is too long.");
  assert.equal(words({ title: "", status: 429 }, 2400), "Not sent: you are sending too fast. Try again in 3 s.");
  assert.equal(words({ title: "", status: 429 }), "Not sent: you are sending too fast. Try again in 1 s.");
  assert.equal(words({ title: "", status: 403, detail: "forbidden" }), "Not sent: you may not send messages to this room.");
  assert.match(words({ title: "", status: 0, detail: "no response" }), /^Perhaps not sent: the server did not answer\. .* only once\.$/);
  assert.match(words({ title: "", status: 503 }), /^Perhaps not sent: the server cannot take messages right now \(503\)\. .* only once\.$/);
  assert.match(unsentWords(new PresenceError({ title: "", status: 0 }), 1, false), /^Perhaps not sent: .* twice\.$/);
  assert.equal(words({ title: "", status: 400, detail: "bad" }), "Not sent: bad");
  assert.equal(unsentWords(new Error("odd"), 1), "Not sent: odd");
  assert.equal(tooLongWords(65_540, 65_536), "Not sent: the message is too long (65540 bytes, at most 65536)");
  assert.equal(tooLongWords(900, 100), "Not sent: the message is too long (900 bytes, at most 100)");
});

test("the title begins with the number of unread messages", () => {
  assert.deepEqual([0, 3, 99, 100].map((n) => titleWords("5 in lobby – presence", n)), [
    "5 in lobby – presence",
    "(3) 5 in lobby – presence",
    "(99) 5 in lobby – presence",
    "(99+) 5 in lobby – presence",
  ]);
});
