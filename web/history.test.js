// Tests of the order in which earlier messages are loaded. Run with `node --test web/*.test.js`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Earlier } from "./history.js";
import { PresenceError } from "./presence/index.js";

/** Returns an Earlier whose requests the test answers, and its view. */
function setUp() {
  const asked = []; // requests without a response, oldest first
  const filled = []; // ids of the messages that were shown
  const messages = {
    get count() { return new Set(filled).size; },
    fill: (list) => filled.push(...list.map(({ id }) => id)),
    rest: (text) => (button.rest = text),
  };
  const button = { hidden: true, rest: null };
  const note = { textContent: "" };
  const ask = (options) => new Promise((resolve, reject) => asked.push({ options, resolve, reject }));
  const earlier = new Earlier({ log: { focus() {} }, button, note }, messages, ask, new Set(["message"]));
  globalThis.document = { activeElement: null, body: {} };
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  const answer = async (ids, next) => {
    asked.shift().resolve({ messages: ids.map((id) => ({ id, event: id.startsWith("x") ? "other" : "message" })), next });
    await settled();
  };
  earlier.clear();
  return { earlier, asked, filled, button, note, answer, settled };
}

test("each page begins where the previous one ended", async () => {
  const { earlier, asked, filled, button, answer } = setUp();
  earlier.synced("me");
  assert.deepEqual(asked[0].options, { limit: 50 });
  await answer(["e-3", "e-4"], "e-3");
  assert.equal(button.hidden, false);
  earlier.more("me");
  earlier.more("me"); // while the first request has no response
  assert.deepEqual(asked.map(({ options }) => options), [{ limit: 50, before: "e-3" }]);
  await answer(["x-2"], "x-2"); // nothing to show, so the next page follows
  assert.deepEqual(asked[0].options, { limit: 50, before: "x-2" });
  await answer(["e-1"]);
  assert.deepEqual(filled, ["e-3", "e-4", "e-1"]);
  assert.equal(button.hidden, true);
  earlier.synced("me");
  assert.equal(asked.length, 0, "the history is known");
  earlier.missed();
  earlier.synced("me");
  assert.deepEqual(asked[0].options, { limit: 200 });
});

test("a response does not leave a hole if rows were removed meanwhile", async () => {
  const { earlier, asked, filled, button, answer } = setUp();
  earlier.synced("me");
  earlier.trimmed("e-100");
  await answer(["e-1", "e-99"]);
  assert.deepEqual(filled, []);
  assert.equal(button.hidden, false);
  earlier.more("me");
  assert.equal(asked[0].options.before, "e-100");
});

test("the messages of a gap are shown, also in a list that is full", async () => {
  const { earlier, filled, button, answer } = setUp();
  earlier.synced("me");
  await answer(["e-1"], "e-1");
  earlier.missed();
  earlier.synced("me");
  earlier.trimmed("e-2"); // a new message has replaced the oldest one
  await answer(["d-1", "e-1", "e-3", "e-10"], "d-1");
  assert.deepEqual([filled, button.hidden], [["e-1", "d-1", "e-3", "e-10"], false]);
});

test("pages that the list has already are skipped", async () => {
  const { earlier, asked, filled, button, note, answer } = setUp();
  earlier.synced("me");
  await answer(["e-5", "e-6"], "e-5");
  earlier.missed();
  earlier.synced("me");
  await answer(["e-7", "e-8"], "e-7");
  earlier.more("me");
  await answer(["e-5", "e-6"], "e-5");
  assert.deepEqual([note.textContent, asked[0].options.before], ["", "e-5"]);
  await answer(["e-4"], "e-4");
  assert.deepEqual([filled.at(-1), note.textContent, button.hidden], ["e-4", "", false]);
  earlier.more("me");
  await answer([]);
  assert.deepEqual([note.textContent, button.hidden], ["No earlier messages.", true]);
});

test("a response for the previous room is ignored", async () => {
  const { earlier, filled, button, answer } = setUp();
  earlier.synced("me");
  earlier.clear();
  await answer(["e-1"], "e-1");
  assert.deepEqual([filled, button.hidden, button.rest], [[], true, null]);
});

test("a server without a history is asked once", async () => {
  const { earlier, asked, button, settled } = setUp();
  earlier.synced("me");
  asked.shift().reject(new PresenceError({ title: "", status: 405 }));
  await settled();
  assert.deepEqual([button.hidden, button.rest], [true, "Messages appear here."]);
  earlier.trimmed("e-9");
  assert.equal(button.hidden, true);
  earlier.clear();
  earlier.synced("me");
  assert.equal(asked.length, 0);
});

test("after an error, the button tries again", async () => {
  const { earlier, asked, button, settled } = setUp();
  earlier.synced("me");
  asked.shift().reject(new PresenceError({ title: "", status: 503 }));
  await settled();
  assert.equal(button.hidden, false);
  earlier.more("me");
  assert.deepEqual(asked[0].options, { limit: 50 });
});
