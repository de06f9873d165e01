// Tests of the pure functions of presence.js. Run with `node --test web/*.test.js`.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  apply, backoff, catchUp, closed, connecting, initial, isNew, isRoomName, reaches, seen,
} from "./presence/index.js";

const alice = { id: "alice", name: "Alice", info: {}, connections: 2, since: "2026-01-02T03:04:05Z" };
const bob = { id: "bob", name: "Bob", info: { status: "away" }, connections: 1, since: "2026-01-02T03:04:06Z" };
const sync = { connections: 3, users: 2, members: [alice, bob], complete: true, heartbeat: 15 };
const carol = { id: "carol", name: "Carol", info: {}, connections: 4, users: 3 }; // as in a join event
const bobLeft = { id: "bob", name: "Bob", info: {}, connections: 2, users: 1, reason: "closed" };

/** Returns the state after a list of events, each a pair [name, data]. */
const after = (...events) => events.reduce((state, [name, data]) => apply(state, name, data), connecting(initial));

const ids = (state) => [...state.members.keys()].sort();

/** Yields all permutations of a list. */
function* orders(list) {
  if (list.length === 0) yield [];
  for (const [i, first] of list.entries()) {
    for (const rest of orders(list.toSpliced(i, 1))) yield [first, ...rest];
  }
}

describe("apply", () => {
  test("sync opens the room and sets every field except the count", () => {
    const state = after(["sync", sync]);
    assert.equal(state.connection, "open");
    assert.deepEqual([state.connections, state.users, state.count, state.complete], [3, 2, null, true]);
    assert.deepEqual(ids(state), ["alice", "bob"]);
  });

  test("the count is that of the last user count, even before sync", () => {
    assert.equal(after(["user count", 7]).count, 7);
    assert.equal(after(["sync", sync], ["user count", 3], ["user count", 2]).count, 2);
  });

  test("join, leave and update change the members", () => {
    const state = after(["sync", sync], ["join", carol], ["update", { id: "alice", info: { status: "busy" } }], ["leave", bobLeft]);
    assert.deepEqual(ids(state), ["alice", "carol"]);
    assert.deepEqual(state.members.get("alice"), { ...alice, info: { status: "busy" } });
    assert.deepEqual(state.members.get("carol"), { id: "carol", name: "Carol", info: {}, connections: 1 });
    assert.deepEqual([state.connections, state.users], [2, 1]);
  });

  test("update changes the name if it has one", () => {
    const state = after(["sync", sync], ["update", { id: "alice", name: "Alicia", info: { n: 1 } }]);
    assert.deepEqual(state.members.get("alice"), { ...alice, name: "Alicia", info: { n: 1 } });
  });

  test("the order of sync and earlier events does not change the result", () => {
    const events = [
      ["sync", sync],
      ["join", carol],
      ["update", { id: "alice", info: { n: 1 } }],
      ["user count", 4],
      ["ping", {}],
      ["message", { id: "m", from: alice, data: 1, at: "" }],
    ];
    const want = after(...events);
    let tried = 0;
    for (const order of orders(events)) {
      assert.deepEqual(after(...order), want, order.map(([name]) => name).join(", "));
      tried++;
    }
    assert.equal(tried, 720);
    assert.equal(want.members.size, 3);
    assert.equal(want.waiting.length, 0);
  });

  test("changes before sync are applied in their order", () => {
    const joinBob = ["join", { ...bobLeft, connections: 3, users: 2 }];
    assert.deepEqual(ids(after(["leave", bobLeft], joinBob, ["sync", sync])), ["alice", "bob"]);
    assert.deepEqual(ids(after(joinBob, ["leave", bobLeft], ["sync", sync])), ["alice"]);
  });

  test("a join of a member that sync has listed keeps the values from sync", () => {
    const state = after(["join", { id: "alice", name: "Alice", info: {}, connections: 3, users: 2 }], ["sync", sync]);
    assert.deepEqual(state.members.get("alice"), alice);
  });

  test("leave and update of an unknown user do not change the members", () => {
    const state = after(["sync", sync], ["leave", { ...bobLeft, id: "nobody" }], ["update", { id: "nobody", info: 1 }]);
    assert.deepEqual(ids(state), ["alice", "bob"]);
  });

  test("user ids may be the names of object properties", () => {
    const names = ["__proto__", "constructor", "toString", "hasOwnProperty", ""];
    let state = after(["sync", { ...sync, members: names.map((id) => ({ ...alice, id })) }]);
    assert.deepEqual(ids(state), [...names].sort());
    for (const id of names) {
      state = apply(state, "update", { id, info: { seen: id } });
      assert.deepEqual(state.members.get(id).info, { seen: id });
      state = apply(state, "leave", { ...bobLeft, id });
      state = apply(state, "join", { ...carol, id });
    }
    assert.deepEqual(ids(state), [...names].sort());
    assert.equal({}.info, undefined);
  });

  test("an event with a custom name does not change the state, whatever the name", () => {
    const state = after(["sync", sync]);
    for (const name of ["message", "chat message", "constructor", "__proto__", "toString", "reset", "ping"]) {
      assert.equal(apply(state, name, { reason: "history" }), state, name);
    }
  });

  test("a room over the member limit has counts, but no members", () => {
    const crowd = { connections: 900, users: 700, complete: false, heartbeat: 15 };
    let state = after(["sync", sync], ["sync", crowd], ["user count", 900]);
    assert.deepEqual([ids(state), state.complete, state.count, state.connection], [[], false, 900, "open"]);
    state = apply(apply(state, "join", carol), "leave", bobLeft); // the server does not send these here
    assert.deepEqual([ids(state), state.users], [[], 1]);
    assert.deepEqual(ids(apply(state, "sync", sync)), ["alice", "bob"]);
  });

  test("goodbye closes the room or makes it reconnect, depending on the reason", () => {
    for (const [reason, connection] of [
      ["removed", "closed"],
      ["signed out", "closed"],
      ["expired", "closed"],
      ["draining", "connecting"],
      ["full", "connecting"],
      ["slow", "connecting"],
      ["of tomorrow", "connecting"],
    ]) {
      const state = after(["sync", sync], ["user count", 3], ["goodbye", { reason }]);
      assert.deepEqual([state.connection, state.reason], [connection, reason]);
      assert.deepEqual([state.count, state.members.size], [3, 2], "the count and the members remain");
      assert.equal(apply(state, "sync", sync).reason, null);
    }
  });

  test("expired does not close a room with a renewable token", () => {
    const state = apply({ ...after(["sync", sync]), renewable: true }, "goodbye", { reason: "expired" });
    assert.deepEqual([state.connection, state.reason], ["connecting", "expired"]);
    for (const reason of ["removed", "signed out"]) {
      assert.equal(apply({ ...state, renewable: true }, "goodbye", { reason }).connection, "closed");
    }
  });

  test("the position is the last id, and an empty id does not change it", () => {
    let state = apply(initial, "sync", sync, "e1-5");
    assert.equal(state.lastEventId, "e1-5");
    assert.equal(apply(state, "ping", {}, "e1-5"), state);
    assert.equal(apply(state, "goodbye", { reason: "slow" }).lastEventId, "e1-5");
    state = apply(state, "message", { data: 1 }, "e1-6");
    for (const name of ["user count", "sync", "ping", "message"]) assert.equal(apply(state, name, sync, "e1-4").lastEventId, "e1-6", "only reset moves the position back");
    assert.equal(apply(state, "reset", { reason: "history" }, "e1-4").lastEventId, "e1-4", "reset moves the position back");
    state = apply(state, "reset", { reason: "history" }, "e2-0");
    assert.equal(state.lastEventId, "e2-0");
    assert.equal(apply(connecting(initial), "join", carol, "e1-7").lastEventId, "e1-7", "a change before sync moves the position");
  });

  test("an expiry warning is cleared when the connection ends", () => {
    const state = after(["sync", sync], ["expiring", { in: 30 }]);
    assert.equal(state.expiring, 30);
    assert.equal(connecting(state).expiring, null);
  });

  test("changes after a lost connection are applied at the next sync", () => {
    const lost = connecting(after(["sync", sync]));
    const state = apply(lost, "join", carol);
    assert.deepEqual(ids(state), ["alice", "bob"]);
    assert.deepEqual(ids(apply(state, "sync", { ...sync, members: [bob] })), ["bob", "carol"]);
  });

  test("no state is changed in place", () => {
    const state = after(["sync", sync]);
    const before = structuredClone(state);
    for (const event of [["join", carol], ["leave", bobLeft], ["update", { id: "bob", info: 1 }], ["user count", 9]]) {
      assert.notEqual(apply(state, ...event), state);
    }
    seen(state, [{ ...alice, connections: 9 }]);
    closed(state);
    assert.deepEqual(state, before);
  });
});

test("seen updates connections, but adds or removes no member", () => {
  const state = seen(after(["sync", sync]), [{ ...alice, connections: 5 }, { ...carol, connections: 1 }]);
  assert.deepEqual(ids(state), ["alice", "bob"]);
  assert.deepEqual([state.members.get("alice").connections, state.members.get("bob").connections], [5, 1]);
  assert.deepEqual(ids(seen(initial, [alice])), []);
});

test("a position reaches earlier positions of its own epoch", () => {
  for (const [held, id, want] of [
    ["e1-5", "e1-5", true],
    ["e1-10", "e1-9", true],
    ["e1-9", "e1-10", false],
    ["e1-9", "e2-1", false],
    ["a-b-9", "a-b-8", true], // an epoch may contain any character
    ["", "e1-1", false],
    ["e1-1", "", false],
    ["e1-", "e1-0", false],
    ["x", "x", false],
  ]) {
    assert.equal(reaches(held, id), want, `${held} ${id}`);
  }
});

test("a repeated message is not new; any other event is", () => {
  const state = apply(initial, "sync", sync, "e1-5");
  for (const name of ["message", "chat message", "constructor"]) {
    assert.deepEqual(["e1-4", "e1-5", "e1-6", "e2-1", ""].map((id) => isNew(state, name, id)), [false, false, true, true, true], name);
  }
  for (const name of ["sync", "user count", "join", "leave", "update", "reset", "expiring", "goodbye", "ping"]) {
    assert.ok(isNew(state, name, "e1-5"), name);
  }
});

describe("catchUp", () => {
  const message = (seq) => ({ name: "message", text: JSON.stringify({ data: seq }), id: `e1-${seq}` });
  const kept = [4, 5, 6].map((seq) => ({ event: message(seq), prev: `e1-${seq - 1}` }));
  const state = after(["sync", sync], ["user count", 3]);
  const at = { ...state, lastEventId: "e1-6" };
  const names = (events) => events.map(({ name, text }) => (name === "message" ? JSON.parse(text).data : name));

  test("returns the events that move a tab to the state", () => {
    const events = catchUp({ ...at, members: new Map(at.members).set("carol", { ...carol, connections: 1 }) }, kept, "");
    assert.deepEqual(names(events), ["sync", "user count"]);
    const followed = events.reduce((state, { name, text, id }) => apply(state, name, JSON.parse(text), id), connecting(initial));
    assert.deepEqual([ids(followed), followed.count, followed.lastEventId], [["alice", "bob", "carol"], 3, "e1-6"]);
  });

  test("replays missed messages, or returns reset if they are not available", () => {
    for (const [held, want] of [
      ["", []],
      ["e1-6", []],
      ["e1-7", []], // the tab is ahead of the state
      ["e1-5", [6]],
      ["e1-3", [4, 5, 6]],
      ["e1-2", ["reset"]],
      ["e0-6", ["reset"]],
      ["rubbish", ["reset"]],
    ]) {
      assert.deepEqual(names(catchUp(at, kept, held)), [...want, "sync", "user count"], held);
    }
    assert.deepEqual(catchUp(at, [], "e1-5")[0], { name: "reset", text: '{"reason":"history"}', id: "e1-6" });
  });

  test("returns no snapshot before sync", () => {
    assert.deepEqual(names(catchUp(connecting(at), kept, "e1-5")), [6]);
    assert.deepEqual(names(catchUp(initial, [], "")), []);
  });

  test("returns no reset before sync", () => {
    for (const state of [initial, connecting(at)]) assert.deepEqual(names(catchUp(state, kept, "e2-1")), []);
  });

  test("returns no members in a room over the member limit", () => {
    const [event] = catchUp(apply(at, "sync", { connections: 900, users: 700, complete: false, heartbeat: 9 }, "e1-6"), kept, "");
    assert.deepEqual(JSON.parse(event.text), { connections: 900, users: 700, complete: false, heartbeat: 9 });
  });
});

test("isRoomName accepts 1 to 128 of the allowed characters", () => {
  for (const name of ["lobby", "A.b_c-9", "x".repeat(128)]) assert.ok(isRoomName(name), name);
  for (const name of ["", "x".repeat(129), "a b", "ä", "<b>", "a/b", "a\n", null, undefined, 7]) assert.ok(!isRoomName(name), String(name));
});

test("the bound of the backoff doubles up to 30 s, and the wait is at least half of the bound", () => {
  assert.deepEqual([0, 1, 2, 3, 4, 5, 6, 2000].map((tries) => backoff(tries, 1)), [1, 2, 4, 8, 16, 30, 30, 30].map((s) => s * 1000));
  assert.equal(backoff(1, 0), 1000);
  for (let i = 0; i < 1000; i++) assert.ok(backoff(3) >= 4000 && backoff(3) <= 8000);
});
