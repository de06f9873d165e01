// Tests of the page's texts. Run with `node --test web/*.test.js`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { PresenceError, initial } from "./presence/index.js";
import { titleWords } from "./title.js";
import {
  brief, called, countWords, dataText, emptyWords, isGuest, knownWords, nameError, namesakes, partWords, peopleWords, proposedRoom, refusalWords,
  returnWords, roomError, secondsWords, sentWords, signedOut, sinceWords, stateWords, statusOf, stillWords, tabsWords, tokenWords, tooLongWords, unsentWords,
  visited, waitingWords, wholeWords,
} from "./words.js";

test("stateWords describes each state of the connection", () => {
  const words = (state) => stateWords({ ...initial, ...state });
  assert.equal(words({}), "Connecting…");
  assert.equal(words({ connection: "open" }), "Live");
  const five = new Date(2026, 10, 27, 9, 5).getTime();
  assert.match(stateWords({ ...initial, connection: "open" }, five, "en-US"), /^Live, your access ends at 9:05\sAM$/);
  assert.equal(knownWords(five, "en-GB"), "last known at 09:05");
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

test("secondsWords counts down to the next attempt, and to the end of the token", () => {
  const words = (state, now = 0, ends = null) => secondsWords({ ...initial, ...state }, now, ends);
  const waits = { reason: "lost", retryAt: 8000 };
  assert.deepEqual([0, 1, 7000, 7999, 8000, 9500].map((now) => words(waits, now)), [8, 8, 1, 1, 1, 1].map((s) => `, trying again in ${s} s`));
  assert.equal(words({ reason: "lost" }), ", trying again…", "an attempt runs");
  assert.equal(words({ reason: "draining" }), ", one moment…", "the browser reconnects");
  assert.equal(words({ reason: "draining", retryAt: 2000 }), ", trying again in 2 s");
  for (const reason of [null, "offline", "connections", "paused"]) assert.equal(words({ reason }), "", `${reason}`);
  assert.equal(words({ connection: "open" }), "");
  assert.equal(words({ connection: "closed", reason: "removed" }), "");
  assert.deepEqual([60_000, 59_999, 1, 0, -1000].map((ends) => words({ connection: "open" }, 0, ends)), ["", ", in 60 s", ", in 1 s", "", ""]);
  assert.equal(words(waits, 0, 5000), ", trying again in 8 s", "the connection is lost");
});

test("countWords shows that the numbers of connections and of people differ", () => {
  assert.deepEqual(countWords(3, 3), { unit: "connected", persons: "3 people" });
  assert.deepEqual(countWords(4, 3), { unit: "connections", persons: "of 3 people" });
  assert.deepEqual(countWords(2, 1), { unit: "connections", persons: "of 1 person" });
  assert.deepEqual(countWords(700, 600, false), { unit: "connections", persons: "of about 600 people" });
  assert.deepEqual(countWords(0, 1), { unit: "connected", persons: "1 person" }, "grace period");
  assert.deepEqual(countWords(1, 0), { unit: "connected", persons: "0 people" });
  assert.deepEqual(countWords(null, null), { unit: "", persons: "" });
  assert.deepEqual(countWords(4, null), { unit: "connected", persons: "" });
});

test("emptyWords describes a room without a connection", () => {
  const words = (state) => emptyWords({ ...initial, ...state });
  assert.deepEqual(words({ connection: "open" }), { people: "", messages: "" });
  assert.deepEqual(words({}), { people: "Connecting…", messages: "Connecting…" });
  assert.deepEqual(words({ reason: "lost" }), { people: "Not connected yet.", messages: "Not connected yet." });
  assert.match(words({ reason: "connections" }).people, /^This browser has reached its limit of open tabs/);
  assert.match(words({ reason: "connections" }).messages, /another tab/);
});

test("refusalWords distinguishes a ban, a room that is not allowed, and other refusals", () => {
  const words = (problem) => refusalWords(problem, "studio");
  const removed = { heading: "You were removed from this room", text: "An admin removed you.", title: "Removed from" };
  assert.deepEqual(words(null), removed);
  assert.deepEqual(words({ title: "Forbidden", status: 403, detail: "banned", until: "2026-11-27T23:41:18Z" }), removed);
  const heading = "You are not allowed in this room";
  assert.deepEqual(words({ title: "Forbidden", status: 403, detail: 'token lacks the required right for room "studio"' }), { heading, text: "Your token does not open the room “studio”.", title: "Not allowed in" });
  assert.deepEqual(words({ title: "Forbidden", status: 403, detail: "cross-origin" }), { heading, text: "Cross-origin.", title: "Not allowed in" });
  assert.deepEqual(words({ title: "Bad Request", status: 400 }), { heading: "This room cannot be opened", text: "Bad Request.", title: "Not connected to" });
});

test("returnWords has the local time of the end of a ban, and the seconds of the last minute", () => {
  const now = new Date(2026, 10, 27, 22, 30).getTime();
  const words = (ms) => returnWords(now + ms, now, "en-GB");
  assert.equal(words(71 * 60_000 + 18_000), "You come back automatically at 23:41.");
  assert.equal(words(2 * 3_600_000), "You come back automatically on 28 November at 00:30.");
  assert.equal(words(60_000), "You come back automatically at 22:31.");
  assert.equal(words(59_999), "You come back automatically in 60 s (22:30).");
  assert.equal(words(1), "You come back automatically in 1 s (22:30).");
  assert.equal(words(0), "You come back automatically in a moment.");
  assert.equal(returnWords(null, now), "");
  assert.match(returnWords(new Date(2026, 10, 27, 23, 1).getTime(), now, "en-US"), /at 11:01.PM\.$/);
  assert.match(returnWords(new Date(2026, 10, 28, 1, 1).getTime(), now, "en-US"), /at 1:01.AM\.$/, "the hour has no leading zero");
});

test("stillWords has the remaining time of a ban", () => {
  assert.deepEqual([null, 0, 1, 59_000, 60_000, 89 * 60_000, 23.5 * 3_600_000].map((ms) => stillWords(ms, 0)), [
    "Nothing has changed yet.",
    "Still a moment to go.",
    "Still 1 s to go.",
    "Still 59 s to go.",
    "Still 1 min to go.",
    "Still 89 min to go.",
    "Still 24 h to go.",
  ]);
});

test("nameError accepts a visible name of at most 128 bytes", () => {
  for (const name of ["", " ", "\u200b", "\u2800"]) assert.equal(nameError(name), "Enter a name.", JSON.stringify(name));
  for (const name of ["x".repeat(129), "\u{1f600}".repeat(33)]) assert.equal(nameError(name), "Enter a shorter name.");
  for (const name of ["A", "x".repeat(128), "\u{1f600}".repeat(32)]) assert.equal(nameError(name), "");
  assert.equal(nameError("a\tb"), "Enter a name without control characters.");
});

test("tokenWords describes why a token was not accepted", () => {
  const words = (problem) => tokenWords(new PresenceError(problem));
  assert.equal(words({ title: "", status: 401, detail: "invalid token: expired" }), "This token has expired. Ask for a new one.");
  assert.equal(words({ title: "", status: 401, detail: "invalid token: not a JWT" }), "That is not a complete token. Copy it again.");
  assert.equal(words({ title: "", status: 401, detail: "invalid token: contains characters that are not allowed in a token" }), "That is not a complete token. Copy it again.");
  assert.equal(words({ title: "", status: 401, detail: "wrong audience" }), "The server does not accept this token. Wrong audience.");
  assert.equal(words({ title: "", status: 503, detail: "keys unavailable" }), "Keys unavailable.");
});

test("a guest has an id of the server", () => {
  assert.deepEqual(["guest-1f", "ada"].map(isGuest), [true, false]);
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
  assert.deepEqual([sinceWords(0, 0, false), sinceWords(0, 60_000, false)], ["here < 1 min", "here 1 min"], "without a connection, nobody has just joined");
});

test("a status that is not a string is ignored", () => {
  for (const info of [null, undefined, 1, "away", [], {}, { status: 1 }, { status: { a: 1 } }]) assert.equal(statusOf(info), "");
  assert.equal(statusOf({ status: " in a call " }), "in a call");
});

test("a string is shown unchanged, and other data as JSON", () => {
  const whole = { short: null, size: 0, note: "" };
  assert.deepEqual(dataText('{"a":1}'), { text: '{"a":1}', json: false, ...whole });
  assert.deepEqual(dataText({ a: 1 }), { text: '{"a":1}', json: true, ...whole });
  assert.deepEqual(dataText(null), { text: "null", json: true, ...whole });
  assert.equal(dataText({ long: "x".repeat(60) }).text.split("\n").length, 3);
});

test("only the beginning of a long message is shown at first, whether it is text or JSON", () => {
  const nested = (depth, wide) => JSON.parse(`${"[".repeat(depth)}${"0,".repeat(wide)}0${"]".repeat(depth)}`);
  for (const data of ["x".repeat(60_000), `Z${"\u{1f600}".repeat(16_000)}`, `Z${"\u0301".repeat(32_000)}`, nested(1500, 28_500), nested(1000, 2)]) {
    const { text, short, size, note } = dataText(data);
    assert.ok(short.length <= 601, `${short.length}`);
    assert.ok(short.isWellFormed?.() ?? true, "no unpaired surrogate");
    assert.ok(text.startsWith(short.slice(0, -1)) && note === "");
    assert.equal(size, new TextEncoder().encode(text).length);
  }
  assert.equal(dataText("x".repeat(800)).short, null);
  assert.equal(dataText("x".repeat(801)).short, `${"x".repeat(600)}…`);
  assert.equal(dataText("1\n2\n3\n4\n5\n6\n7\n8\n9\n10").short, null);
  assert.equal(dataText("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11").short, "1\n2\n3\n4\n5\n6\n7\n8…");
  const { text, note, short } = dataText("x".repeat(100_000));
  assert.deepEqual([text.length, note, short.length], [65_537, "Only the beginning is shown (100 KB in total).", 601]);
  assert.deepEqual([wholeWords(5000), wholeWords(900), partWords(5499)], ["Show all (5 KB)", "Show all (900 bytes)", "Only the beginning is shown (5 KB in total)."]);
  const deep = dataText(nested(100_000, 0));
  assert.deepEqual([deep.short, deep.note], [null, "This is nested too deeply to be shown."]);
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

test("roomError names the first invalid character, and proposedRoom replaces it", () => {
  const rule = "Use letters from A to Z, digits, dots, underscores and hyphens.";
  for (const [name, error, proposal] of [
    ["", "Enter a room name.", "lobby"],
    ["no room", `“no room” cannot be a room name: it has a space. ${rule}`, "no-room"],
    [" Café!\t", `“ Café!\t” cannot be a room name: it has a space. ${rule}`, "Cafe"],
    ["é", `“é” cannot be a room name: it has “é”. ${rule}`, "e"],
    ["a\u{1f600}b", `“a\u{1f600}b” cannot be a room name: it has “\u{1f600}”. ${rule}`, "a-b"],
    ["a\u200bb", `“a\u200bb” cannot be a room name: it has an invisible character. ${rule}`, "a-b"],
    ["日本", `“日本” cannot be a room name: it has “日”. ${rule}`, "lobby"],
    ["x".repeat(129), `“${"x".repeat(100)}…” cannot be a room name: it has 129 characters, and 128 is the maximum.`, "x".repeat(128)],
    ["a.b_c-9", "", "a.b_c-9"],
  ]) {
    assert.equal(roomError(name), error, name);
    assert.equal(proposedRoom(name), proposal, name);
    assert.equal(roomError(proposedRoom(name)), "", name);
  }
  assert.equal(brief("x".repeat(100)), "x".repeat(100));
});

test("sentWords warns in a tab without messages", () => {
  assert.equal(sentWords({ ...initial, reason: "connections" }), "Sent. This tab shows no messages of others until another tab is closed.");
  for (const state of [{ connection: "open" }, { reason: "lost" }, { reason: null }]) assert.equal(sentWords({ ...initial, ...state }), "");
});

test("unsentWords describes why a message was not sent", () => {
  const words = (problem, after) => unsentWords(new PresenceError(problem, { after }), 70 * 1024);
  assert.equal(words({ title: "", status: 413, detail: "body too large (maximum 65536 bytes)" }), "Not sent: the message is too long (70 KB, at most 64 KB).");
  assert.equal(words({ title: "", status: 413, detail: "no" }), "Not sent: the message is too long.");
  assert.equal(words({ title: "", status: 429 }, 2400), "Not sent: you are sending too fast. Try again in 3 s.");
  assert.equal(words({ title: "", status: 429 }), "Not sent: you are sending too fast. Try again in 1 s.");
  assert.equal(words({ title: "", status: 403, detail: "forbidden" }), "Not sent: you may not send messages to this room. Ask an admin for the right to send.");
  assert.match(words({ title: "", status: 0, detail: "no response" }), /^Perhaps not sent: the server did not answer\. .* only once\.$/);
  assert.match(words({ title: "", status: 503 }), /^Perhaps not sent: the server cannot take messages right now \(503\)\. .* only once\.$/);
  assert.match(unsentWords(new PresenceError({ title: "", status: 0 }), 1, false), /^Perhaps not sent: .* twice\.$/);
  assert.equal(words({ title: "", status: 400, detail: "bad" }), "Not sent: bad.");
  assert.equal(unsentWords(new Error("odd"), 1), "Not sent: odd.");
  assert.equal(tooLongWords(65_540, 65_536), "Not sent: the message is too long (65540 bytes, at most 65536).");
  assert.equal(tooLongWords(900, 100), "Not sent: the message is too long (900 bytes, at most 100).");
});

test("the title begins with the number of unread messages", () => {
  assert.deepEqual([0, 3, 99, 100].map((n) => titleWords("5 in lobby – presence", n)), [
    "5 in lobby – presence",
    "(3) 5 in lobby – presence",
    "(99) 5 in lobby – presence",
    "(99+) 5 in lobby – presence",
  ]);
});

test("waitingWords describes what happens to a message without a connection", () => {
  const words = (connection, reason) => waitingWords({ ...initial, connection, reason });
  assert.equal(words("connecting", "lost"), "Not connected. A message is sent if the connection returns within 15 s, else you can try again.");
  for (const state of [["open", null], ["connecting", null], ["connecting", "connections"], ["closed", "removed"]]) assert.equal(words(...state), "");
});
