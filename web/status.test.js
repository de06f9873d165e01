// Tests of the user's own status. Run with `node --test web/*.test.js`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { PresenceError } from "./presence/index.js";
import { unsetWords, withStatus } from "./status.js";

test("a status replaces the previous one and keeps the other fields", () => {
  assert.deepEqual(withStatus({ desk: 4, status: "a" }, "b"), { desk: 4, status: "b" });
  assert.deepEqual(withStatus({ desk: 4, status: "a" }, ""), { desk: 4 });
  for (const info of [undefined, null, "text", [1], 7]) assert.deepEqual(withStatus(info, "b"), { status: "b" });
});

test("unsetWords describes why a status was not set", () => {
  const words = (problem, after) => unsetWords(new PresenceError(problem, { after }));
  assert.match(words({ title: "", status: 413, detail: "info too large (maximum 1024 bytes)" }), /more than 1024 bytes/);
  assert.match(words({ title: "", status: 429 }, 1500), /Try again in 2 s/);
  assert.match(words({ title: "", status: 0 }), /did not answer/);
  assert.equal(words({ title: "", status: 409, detail: "not in room" }), "Not set: not in room.");
});
