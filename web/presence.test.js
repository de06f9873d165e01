// Run with: node --test web/*.test.js
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { apply, closed, connecting, initial, Presence, PresenceError, request, seen } from "./presence.js";

const alice = { id: "alice", name: "Alice", info: {}, connections: 2, since: "2026-01-02T03:04:05Z" };
const bob = { id: "bob", name: "Bob", info: { status: "away" }, connections: 1, since: "2026-01-02T03:04:06Z" };
const sync = { connections: 3, users: 2, members: [alice, bob], complete: true, heartbeat: 15 };
const carol = { id: "carol", name: "Carol", info: {}, connections: 4, users: 3 }; // as join tells it
const bobLeft = { id: "bob", name: "Bob", info: {}, connections: 2, users: 1, reason: "closed" };

/** The state after a list of [name, data]. */
const after = (...events) => events.reduce((state, [name, data]) => apply(state, name, data), connecting(initial));

const ids = (state) => [...state.members.keys()].sort();

/** All orders of a list. */
function* orders(list) {
  if (list.length === 0) yield [];
  for (const [i, first] of list.entries()) {
    for (const rest of orders(list.toSpliced(i, 1))) yield [first, ...rest];
  }
}

describe("apply", () => {
  test("sync opens, and tells everything but the count", () => {
    const state = after(["sync", sync]);
    assert.equal(state.connection, "open");
    assert.deepEqual([state.connections, state.users, state.count, state.complete], [3, 2, null, true]);
    assert.deepEqual(ids(state), ["alice", "bob"]);
  });

  test("the user count is the last one told, before sync as well", () => {
    assert.equal(after(["user count", 7]).count, 7);
    assert.equal(after(["sync", sync], ["user count", 3], ["user count", 2]).count, 2);
  });

  test("join, leave and update", () => {
    const state = after(["sync", sync], ["join", carol], ["update", { id: "alice", info: { status: "busy" } }], ["leave", bobLeft]);
    assert.deepEqual(ids(state), ["alice", "carol"]);
    assert.deepEqual(state.members.get("alice"), { ...alice, info: { status: "busy" } });
    assert.deepEqual(state.members.get("carol"), { id: "carol", name: "Carol", info: {}, connections: 1 });
    assert.deepEqual([state.connections, state.users], [2, 1]);
  });

  test("in every order, sync and what may come before it end the same", () => {
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

  test("those who wait for sync are applied in their own order", () => {
    const joinBob = ["join", { ...bobLeft, connections: 3, users: 2 }];
    assert.deepEqual(ids(after(["leave", bobLeft], joinBob, ["sync", sync])), ["alice", "bob"]);
    assert.deepEqual(ids(after(joinBob, ["leave", bobLeft], ["sync", sync])), ["alice"]);
  });

  test("a join of who is in sync already keeps what sync knew", () => {
    const state = after(["join", { id: "alice", name: "Alice", info: {}, connections: 3, users: 2 }], ["sync", sync]);
    assert.deepEqual(state.members.get("alice"), alice);
  });

  test("leave and update of someone unknown change no member", () => {
    const state = after(["sync", sync], ["leave", { ...bobLeft, id: "nobody" }], ["update", { id: "nobody", info: 1 }]);
    assert.deepEqual(ids(state), ["alice", "bob"]);
  });

  test("ids chosen by strangers", () => {
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

  test("events named by strangers are messages, whatever they are called", () => {
    const state = after(["sync", sync]);
    for (const name of ["message", "chat message", "constructor", "__proto__", "toString", "reset", "ping"]) {
      assert.equal(apply(state, name, { reason: "history" }), state, name);
    }
  });

  test("a room too large to tell has counts and no members", () => {
    const crowd = { connections: 900, users: 700, complete: false, heartbeat: 15 };
    let state = after(["sync", sync], ["sync", crowd], ["user count", 900]);
    assert.deepEqual([state.members, state.complete, state.count, state.connection], [null, false, 900, "open"]);
    state = apply(apply(state, "join", carol), "leave", bobLeft); // none should come
    assert.deepEqual([state.members, state.users], [null, 1]);
    assert.deepEqual(ids(apply(state, "sync", sync)), ["alice", "bob"]);
  });

  test("goodbye: some end it, after the others the browser comes back", () => {
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
      assert.deepEqual([state.connection, state.reason, state.synced], [connection, reason, false]);
      assert.deepEqual([state.count, state.members.size], [3, 2], "what was last known stays to be seen");
      assert.equal(apply(state, "sync", sync).reason, null);
    }
  });

  test("a warning of the token's end goes with the connection", () => {
    const state = after(["sync", sync], ["expiring", { in: 30 }]);
    assert.equal(state.expiring, 30);
    assert.equal(connecting(state).expiring, null);
  });

  test("after a lost connection, changes wait for the next sync", () => {
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

test("seen brings connections up to date and adds or takes away nobody", () => {
  const state = seen(after(["sync", sync]), [{ ...alice, connections: 5 }, { ...carol, connections: 1 }]);
  assert.deepEqual(ids(state), ["alice", "bob"]);
  assert.deepEqual([state.members.get("alice").connections, state.members.get("bob").connections], [5, 1]);
  assert.equal(seen(initial, [alice]), initial);
});

// The stream, its server and the clock, as far as the class can tell.

class FakeEventSource extends EventTarget {
  static CLOSED = 2;
  static all = [];
  readyState = 0;

  constructor(url, options) {
    super();
    this.url = String(url);
    this.options = options;
    FakeEventSource.all.push(this);
  }

  open() {
    this.readyState = 1;
    this.onopen?.();
  }

  tell(name, data, lastEventId = "") {
    assert.notEqual(this.readyState, 2, "a closed EventSource hears nothing");
    this.dispatchEvent(Object.assign(new Event(name), { data: JSON.stringify(data), lastEventId }));
  }

  fail(readyState) {
    this.readyState = readyState;
    this.onerror?.();
  }

  close() {
    this.readyState = 2;
  }
}

const clock = {
  now: 0,
  timers: new Map(),
  last: 0,
  set(fn, ms) {
    clock.timers.set(++clock.last, { fn, at: clock.now + ms });
    return clock.last;
  },
  clear(id) {
    clock.timers.delete(id);
  },
  async advance(ms) {
    const end = clock.now + ms;
    for (;;) {
      const [id, timer] = [...clock.timers].sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
      if (!timer || timer.at > end) break;
      clock.now = timer.at;
      clock.timers.delete(id);
      timer.fn();
      await settled();
    }
    clock.now = end;
  },
};

const settled = () => new Promise((resolve) => setImmediate(resolve));
const json = (status, body, type = "application/json") =>
  new Response(JSON.stringify(body), { status, headers: { "Content-Type": type } });
const problem = (status, detail) => json(status, { type: "about:blank", title: "T", status, detail }, "application/problem+json");

describe("Presence", () => {
  const real = { setTimeout, clearTimeout, fetch, random: Math.random };
  let asked, answer;

  beforeEach(() => {
    FakeEventSource.all = [];
    Object.assign(clock, { now: 0, last: 0 });
    clock.timers.clear();
    asked = [];
    answer = () => json(200, { members: [] });
    Math.random = () => 1; // the longest wait
    Object.assign(globalThis, {
      EventSource: FakeEventSource,
      setTimeout: clock.set,
      clearTimeout: clock.clear,
      fetch: async (url, options) => {
        asked.push({ url: String(url), ...options });
        return answer(options);
      },
    });
  });

  afterEach(() => {
    Math.random = real.random;
    delete globalThis.EventSource;
    Object.assign(globalThis, { setTimeout: real.setTimeout, clearTimeout: real.clearTimeout, fetch: real.fetch });
  });

  const stream = () => FakeEventSource.all.at(-1);

  function opened(options = { url: "https://example.com/presence", room: "doc-1" }) {
    const presence = new Presence(options);
    presence.open();
    stream().open();
    stream().tell("sync", sync, "e1-5");
    return presence;
  }

  test("opens a stream below the mount, of the room", () => {
    const presence = new Presence({ url: "https://example.com/presence", room: "doc-1" });
    assert.equal(FakeEventSource.all.length, 0, "nothing before open()");
    presence.open();
    presence.open();
    assert.equal(FakeEventSource.all.length, 1, "once");
    assert.equal(stream().url, "https://example.com/presence/events?room=doc-1");
    assert.equal(presence.state.connection, "connecting");
    presence.close();
  });

  test("by default the mount is where the file came from", () => {
    assert.equal(new Presence().url.href, new URL(".", import.meta.url).href);
    assert.equal(new Presence().room, "lobby");
  });

  test("tells subscribers of states and listeners of events", () => {
    const presence = new Presence({ url: "https://example.com/" });
    const states = [];
    const heard = [];
    const end = presence.subscribe((state) => states.push(state.connection));
    presence.on("user count", (n) => heard.push(n));
    const off = presence.on("message", ({ data }) => heard.push(data));
    presence.open();
    presence.on("chat message", ({ data }) => heard.push(data)); // while it is open
    stream().open();
    stream().tell("sync", sync);
    stream().tell("user count", 3);
    stream().tell("message", { data: "hello" });
    stream().tell("chat message", { data: { any: "JSON" } });
    off();
    stream().tell("message", { data: "unheard" });
    end();
    presence.close();
    assert.deepEqual(states, ["connecting", "open", "open"]);
    assert.deepEqual(heard, [3, "hello", { any: "JSON" }]);
  });

  test("an EventSource's own events are no messages", () => {
    for (const name of ["open", "error"]) assert.throws(() => new Presence().on(name, () => {}), TypeError);
  });

  test("a lost connection is the browser's to get back", async () => {
    const presence = opened();
    stream().fail(0);
    assert.equal(presence.state.connection, "connecting");
    assert.equal(presence.state.members.size, 2);
    await clock.advance(3_600_000);
    assert.equal(FakeEventSource.all.length, 1);
    stream().open();
    stream().tell("join", carol);
    assert.equal(presence.state.members.size, 2, "waits for sync");
    stream().tell("sync", { ...sync, members: [alice] });
    assert.deepEqual(ids(presence.state), ["alice", "carol"]);
    presence.close();
  });

  test("given up by the browser, it comes back after a wait, with the last id", async () => {
    const presence = opened();
    stream().tell("message", { data: 1 }); // nobody listens, but the id is the stream's
    stream().tell("ping", {}, "e1-6");
    stream().fail(2);
    assert.equal(presence.state.connection, "connecting");
    await clock.advance(999);
    assert.equal(asked.length, 0);
    await clock.advance(1);
    assert.equal(asked[0].url, "https://example.com/presence/presence?room=doc-1&limit=1");
    assert.equal(FakeEventSource.all.length, 2);
    assert.equal(stream().url, "https://example.com/presence/events?room=doc-1&last_event_id=e1-6");
    presence.close();
  });

  test("waits longer each time, up to half a minute, until it was let in", async () => {
    const presence = opened();
    answer = () => new Response("Bad Gateway", { status: 502 });
    stream().fail(2);
    const waits = [];
    for (let asks = 1, from = clock.now; asks <= 8; asks++, from = clock.now) {
      while (asked.length < asks) await clock.advance(100);
      waits.push((clock.now - from) / 1000);
    }
    assert.deepEqual(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    answer = () => json(200, { members: [] });
    await clock.advance(30_000);
    assert.equal(FakeEventSource.all.length, 2);
    stream().open();
    stream().tell("sync", sync);
    stream().fail(2);
    await clock.advance(1000);
    assert.equal(FakeEventSource.all.length, 3, "sync makes the next wait short again");
    presence.close();
  });

  test("the wait is drawn at random, and never short of a half", async () => {
    Math.random = () => 0;
    const presence = opened();
    stream().fail(2);
    await clock.advance(499);
    assert.equal(asked.length, 0);
    await clock.advance(1);
    assert.equal(asked.length, 1);
    presence.close();
  });

  test("no answer, 429 and 5xx are asked again; another refusal is the end", async () => {
    for (const [status, end] of [[0, false], [429, false], [500, false], [503, false], [400, true], [401, true], [403, true], [404, true]]) {
      answer = () => {
        if (status === 0) throw new TypeError("Failed to fetch");
        return problem(status, "why");
      };
      const presence = opened();
      stream().fail(2);
      await clock.advance(1000);
      const { state } = presence;
      if (end) {
        assert.deepEqual([state.connection, state.reason, state.problem.status, state.problem.detail], ["closed", "refused", status, "why"]);
        assert.equal(clock.timers.size, 0, String(status));
      } else {
        assert.deepEqual([state.connection, state.problem, clock.timers.size], ["connecting", null, 1], String(status));
      }
      presence.close();
    }
  });

  test("a final goodbye closes the stream, and open() takes up again", async () => {
    for (const reason of ["removed", "signed out", "expired"]) {
      const presence = opened();
      const first = stream();
      first.tell("goodbye", { reason });
      assert.equal(first.readyState, 2, "else the browser would come back");
      assert.deepEqual([presence.state.connection, presence.state.reason], ["closed", reason]);
      await clock.advance(3_600_000);
      assert.equal(stream(), first);
      assert.equal(asked.length, 0);
      presence.open();
      assert.deepEqual([presence.state.connection, presence.state.reason], ["connecting", null]);
      assert.match(stream().url, /last_event_id=e1-5/);
      presence.close();
    }
  });

  test("another goodbye leaves the coming back to the browser", async () => {
    for (const reason of ["draining", "full", "slow"]) {
      const presence = opened();
      const first = stream();
      first.tell("goodbye", { reason });
      first.fail(0);
      assert.deepEqual([presence.state.connection, presence.state.reason], ["connecting", reason]);
      await clock.advance(60_000);
      assert.equal(stream(), first);
      assert.equal(first.readyState, 0);
      presence.close();
    }
  });

  test("two and a half heartbeats of silence are a lost connection", async () => {
    const presence = new Presence({ url: "https://example.com/" });
    presence.open();
    stream().open();
    stream().tell("sync", { ...sync, heartbeat: 4 });
    for (let i = 0; i < 10; i++) {
      await clock.advance(9000);
      stream().tell("ping", {});
    }
    assert.equal(FakeEventSource.all.length, 1);
    const first = stream();
    await clock.advance(10_000);
    assert.equal(first.readyState, 2);
    assert.equal(presence.state.connection, "connecting");
    await clock.advance(1000);
    assert.equal(FakeEventSource.all.length, 2);
    presence.close();
  });

  test("close() in any moment leaves nothing running", async () => {
    const moments = {
      "before open": () => new Presence({ url: "https://example.com/" }),
      connecting: () => {
        const presence = new Presence({ url: "https://example.com/" });
        presence.open();
        return presence;
      },
      open: opened,
      "coming back by itself": () => {
        const presence = opened();
        stream().fail(0);
        return presence;
      },
      waiting: () => {
        const presence = opened();
        stream().fail(2);
        return presence;
      },
      asking: async () => {
        const presence = opened();
        answer = ({ signal }) => new Promise((_, fail) => signal.addEventListener("abort", () => fail(signal.reason)));
        stream().fail(2);
        await clock.advance(1000);
        assert.equal(asked.length, 1);
        return presence;
      },
      "told by a subscriber": () => {
        const presence = opened();
        presence.subscribe(() => presence.close());
        stream().tell("user count", 1);
        return presence;
      },
    };
    for (const [moment, make] of Object.entries(moments)) {
      asked = [];
      FakeEventSource.all = [];
      const presence = await make();
      const streams = FakeEventSource.all.length;
      presence.close();
      presence.close();
      await settled();
      assert.equal(clock.timers.size, 0, moment);
      assert.equal(FakeEventSource.all.length, streams, moment);
      assert.ok(FakeEventSource.all.every(({ readyState }) => readyState === 2), moment);
      assert.deepEqual([presence.state.connection, presence.state.reason], ["closed", null], moment);
    }
  });

  test("send posts the message, with an id and a name if given", async () => {
    answer = () => json(202, { id: "e1-6" });
    const presence = new Presence({ url: "https://example.com/p/", room: "doc-1" });
    assert.deepEqual(await presence.send("hello"), { id: "e1-6" });
    await presence.send({ x: 1 }, { event: "chat message", id: "mine-1" });
    await presence.send(undefined);
    assert.equal(asked[0].url, "https://example.com/p/messages?room=doc-1");
    assert.deepEqual([asked[0].method, asked[0].credentials], ["POST", "same-origin"]);
    assert.deepEqual(asked[0].headers, { "Content-Type": "application/json" });
    assert.deepEqual(asked.map(({ body }) => JSON.parse(body)), [
      { data: "hello" },
      { event: "chat message", id: "mine-1", data: { x: 1 } },
      { data: null },
    ]);
  });

  test("a refusal throws the problem", async () => {
    const presence = new Presence({ url: "https://example.com/" });
    answer = () => problem(429, "20 messages a second");
    await assert.rejects(presence.send("x"), (error) => {
      assert.ok(error instanceof PresenceError && error instanceof Error);
      assert.equal(error.message, "20 messages a second");
      assert.deepEqual(error.problem, { type: "about:blank", title: "T", status: 429, detail: "20 messages a second" });
      return true;
    });
    answer = () => new Response("<h1>Bad Gateway</h1>", { status: 502, statusText: "Bad Gateway", headers: { "Content-Type": "text/html" } });
    await assert.rejects(presence.send("x"), { message: "Bad Gateway", problem: { title: "Bad Gateway", status: 502 } });
    answer = () => new Response("{", { status: 500, headers: { "Content-Type": "application/problem+json" } });
    await assert.rejects(presence.send("x"), { message: "HTTP status 500" });
    answer = () => {
      throw new TypeError("Failed to fetch");
    };
    await assert.rejects(presence.send("x"), { message: "The server did not answer.", problem: { title: "No answer", status: 0, detail: "The server did not answer." } });
  });

  test("refresh asks how many connections each has", async () => {
    const presence = opened();
    answer = () => json(200, { members: [{ ...alice, connections: 7 }] });
    await presence.refresh();
    assert.equal(asked[0].url, "https://example.com/presence/presence?room=doc-1&limit=1000");
    assert.equal(presence.state.members.get("alice").connections, 7);
    presence.close();
  });

  test("another origin gets the cookie if asked to", async () => {
    const presence = new Presence({ url: "https://other.example/", withCredentials: true });
    presence.open();
    await presence.refresh();
    assert.deepEqual([stream().options, asked[0].credentials], [{ withCredentials: true }, "include"]);
    presence.close();
  });

  test("request answers null without JSON", async () => {
    answer = () => new Response(null, { status: 204 });
    assert.equal(await request("DELETE", "https://example.com/session"), null);
    assert.equal(asked[0].body, undefined);
  });
});
