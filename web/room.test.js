// Tests of join() with a fake server and a fake browser. Many tests run over both transports,
// EventSource and fetch. Run with `node --test web/*.test.js`.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { takeSlot } from "./presence/connections.js";
import { join, PresenceError, request } from "./presence/index.js";
import { alice, bob, carol, clock, FakeEventSource, ids, json, opens, problem, settled, sync, useFakes, world } from "./testing.js";

useFakes();

const url = "https://example.com/presence";
const source = () => FakeEventSource.all.at(-1);
const stream = () => world.streams.at(-1);
const requestsTo = (path) => world.requests.filter((req) => new URL(req.url).pathname.endsWith(path));

/** Returns a room whose EventSource has received `sync`. */
async function opened(options = { url, room: "doc-1" }) {
  const room = join(options);
  await settled();
  source().open();
  source().emit("sync", sync, "e1-5");
  return room;
}

/** Returns a room whose fetch() stream has received `sync`. */
async function openedWithToken(options = { url, room: "doc-1", token: "T" }) {
  const room = join(options);
  await settled();
  stream().write("retry: 2000\n\n");
  stream().emit("sync", sync, "e1-5");
  await settled();
  return room;
}

/** The transports, with the operations that many tests use. */
const transports = {
  EventSource: { open: () => opened(), latest: () => source(), count: () => FakeEventSource.all.length },
  fetch: { open: () => openedWithToken(), latest: () => stream(), count: () => world.streams.length },
};

for (const [transport, { open, latest, count }] of Object.entries(transports)) {
  describe(`by ${transport}`, () => {
    test("opens the stream below the mount point, and resumes from a position", async () => {
      const token = transport === "fetch" ? "T" : undefined;
      const room = join({ url, room: "doc-1", lastEventId: "e1-4", token });
      await settled();
      assert.equal(latest().url, "https://example.com/presence/events?room=doc-1&last_event_id=e1-4");
      assert.deepEqual([room.name, room.url.href, room.state.connection], ["doc-1", "https://example.com/presence/", "connecting"]);
      room.close();
    });

    test("calls the listeners of the state first, then those of the event", async () => {
      const room = await open();
      const received = [];
      room.on("state", (state) => received.push(["state", state.count]));
      room.on("count", (n) => received.push(["count", n, room.count]));
      room.on("user count", (n) => received.push(["user count", n]));
      const off = room.on("message", ({ data }) => received.push(["message", data]));
      room.on("chat message", ({ data }) => received.push(["chat message", data])); // added while the stream is open
      latest().emit("user count", 7, "e1-5");
      latest().emit("message", { data: "hello" }, "e1-6");
      latest().emit("chat message", { data: { any: "JSON" } }, "e1-7");
      await settled();
      off();
      off();
      latest().emit("message", { data: "no listener" }, "e1-8");
      await settled();
      assert.deepEqual(received, [
        ["state", 7], ["count", 7, 7], ["user count", 7],
        ["state", 7], ["message", "hello"],
        ["state", 7], ["chat message", { any: "JSON" }],
        ["state", 7],
      ]);
      assert.deepEqual([room.count, room.connections, room.users, room.lastEventId], [7, 3, 2, "e1-8"]);
      assert.deepEqual(ids(room), ["alice", "bob"]);
      room.close();
    });

    test("a message is delivered once", async () => {
      const room = await open();
      const received = [];
      room.on("message", ({ data }) => received.push(data));
      for (const [data, id] of [[5, "e1-5"], [6, "e1-6"], [6, "e1-6"], [4, "e1-4"], [7, "e1-7"], [1, "e2-1"]]) latest().emit("message", { data }, id);
      await settled();
      assert.deepEqual(received, [6, 7, 1]);
      room.close();
    });

    test("reset is delivered, and sets the new position", async () => {
      const room = await open();
      const received = [];
      room.on("reset", ({ reason }) => received.push(reason, room.lastEventId));
      latest().emit("reset", { reason: "history" }, "e2-3");
      await settled();
      assert.deepEqual(received, ["history", "e2-3"]);
      room.close();
    });

    test("a message named count or state is not delivered", async () => {
      const room = await open();
      const received = [];
      for (const name of ["count", "state"]) room.on(name, (data) => received.push(data));
      for (const name of ["count", "state"]) latest().emit(name, { data: 999 }, "e1-6");
      await settled();
      assert.ok(received.every((data) => data.connection === "open"), "received only the state of the room");
      for (const event of ["count", "state"]) await assert.rejects(room.send(1, { event }), TypeError);
      room.close();
    });

    test("a listener that throws does not affect other listeners", async () => {
      const room = await open();
      const received = [];
      room.on("ping", () => { throw new Error("mine"); });
      room.on("ping", () => received.push("ping"));
      latest().emit("ping", {});
      await settled();
      assert.deepEqual([received, world.reported], [["ping"], ["mine"]]);
      room.close();
    });

    test("data that is not JSON is not delivered", async () => {
      const room = await open();
      if (transport === "fetch") latest().write("data: <html>\nevent: sync\n\n");
      else latest().dispatchEvent(Object.assign(new Event("sync"), { data: "<html>", lastEventId: "" }));
      await settled();
      assert.deepEqual([room.state.connection, ids(room)], ["open", ["alice", "bob"]]);
      room.close();
    });

    test("an event with data of another form ends the attempt, with a longer wait each time", async () => {
      const forms = [["sync", null], ["sync", { ...sync, members: [null] }], ["sync", { ...sync, members: "alice" }], ["join", null]];
      for (const [name, data] of forms) {
        world.streams = [];
        FakeEventSource.all = [];
        const room = join({ url, token: transport === "fetch" ? "T" : undefined });
        await settled();
        for (let i = 1; i <= 4; i++) {
          assert.equal(count(), i, `${name} ${JSON.stringify(data)}`);
          latest().emit(name, data, "e1-5");
          if (name !== "sync") latest().emit("sync", sync, "e1-5");
          await settled();
          assert.deepEqual([room.state.connection, room.state.reason, room.state.problem?.title], ["connecting", "lost", "Unexpected event"]);
          await clock.advance(1000 * 2 ** (i - 1));
        }
        latest().emit("sync", sync, "e1-5");
        await settled();
        assert.deepEqual([room.state.connection, room.state.problem], ["open", null]);
        for (const event of ["join", "leave", "update", "expiring", "goodbye"]) {
          latest().emit(event, null, "e1-5");
          await settled();
          assert.equal(room.state.connection, "connecting", event);
          await clock.advance(1000);
          latest().emit("sync", sync, "e1-5");
          await settled();
          assert.equal(room.state.connection, "open");
        }
        room.close();
      }
    });

    test("a heartbeat that no server has is ignored", async () => {
      const room = await open();
      latest().emit("sync", { ...sync, heartbeat: 4 }, "e1-5");
      for (const heartbeat of [0, -1, 301, 1e12, "x", null, {}]) latest().emit("sync", { ...sync, heartbeat }, "e1-5");
      await settled();
      assert.equal(room.state.heartbeat, 4);
      await clock.advance(9999);
      assert.deepEqual([count(), room.state.connection], [1, "open"]);
      await clock.advance(1);
      assert.equal(room.state.reason, "silent");
      room.close();
    });

    test("a connection without data for two and a half heartbeats counts as lost", async () => {
      const room = await open();
      latest().emit("sync", { ...sync, heartbeat: 4 }, "e1-5");
      await settled();
      for (let i = 0; i < 10; i++) {
        await clock.advance(9000);
        latest().emit("ping", {});
        await settled();
      }
      assert.equal(count(), 1);
      const first = latest();
      await clock.advance(9999);
      assert.equal(room.state.connection, "open");
      await clock.advance(1);
      assert.deepEqual([room.state.connection, room.state.reason], ["connecting", "silent"]);
      assert.ok(first.closed ?? first.readyState === 2);
      await clock.advance(1000);
      assert.equal(count(), 2);
      assert.match(latest().url, /last_event_id=e1-5/);
      room.close();
    });

    test("a server that accepts the connection and sends nothing is retried", async () => {
      const room = join({ url, token: transport === "fetch" ? "T" : undefined });
      await settled();
      for (let i = 1; i <= 3; i++) {
        assert.equal(count(), i);
        await clock.advance(37_500 + 1000 * 2 ** (i - 1));
      }
      assert.equal(count(), 4);
      room.close();
    });

    test("a final goodbye closes the room", async () => {
      for (const reason of ["removed", "signed out", "expired"]) {
        const room = await open();
        const first = latest();
        const before = count();
        first.emit("goodbye", { reason });
        await settled();
        assert.ok(first.closed ?? first.readyState === 2, "otherwise the browser would reconnect");
        assert.deepEqual([room.state.connection, room.state.reason, room.state.problem], ["closed", reason, null]);
        await clock.advance(3_600_000);
        assert.equal(count(), before);
        assert.equal(clock.timers.size, 0);
        room.close();
        assert.equal(room.state.reason, reason, "close() does not change the reason of a closed room");
      }
    });

    test("sends nothing while offline, and reconnects immediately when online", async () => {
      const room = await open();
      world.online = false;
      world.dispatch("offline");
      assert.equal(room.state.connection, "open", "an open stream may survive");
      latest().fail(0);
      await settled();
      assert.deepEqual([room.state.connection, room.state.reason], ["connecting", "offline"]);
      await clock.advance(3_600_000);
      assert.deepEqual([count(), world.requests.length], [1, transport === "fetch" ? 1 : 0]);
      world.online = true;
      world.dispatch("online");
      await settled();
      assert.equal(count(), 2);
      room.close();
    });

    test("a stream without data since the browser was offline counts as lost", async () => {
      const room = await open();
      world.dispatch("offline");
      latest().emit("ping", {});
      await settled();
      world.dispatch("online");
      await settled();
      assert.equal(room.state.connection, "open", "data arrived in the meantime");
      world.dispatch("offline");
      world.dispatch("online");
      await settled();
      assert.deepEqual([room.state.connection, room.state.reason], ["connecting", "silent"]);
      room.close();
    });

    test("reconnects immediately when the page becomes visible", async () => {
      const room = await open();
      clock.now += 60_000; // as if the timers had been suspended
      document.hidden = true;
      world.dispatch("visibilitychange");
      await settled();
      assert.equal(room.state.connection, "open");
      document.hidden = false;
      world.dispatch("visibilitychange");
      await settled();
      assert.equal(room.state.connection, "connecting");
      world.dispatch("resume"); // ends the backoff, too
      await settled();
      assert.equal(count(), 2);
      room.close();
    });

    test("a page leaves the room at its end and in the back/forward cache", async () => {
      for (const persisted of [false, true]) {
        const room = await open();
        const [before, left] = [count(), latest()];
        world.dispatch("pagehide", { persisted });
        await settled();
        assert.ok(left.closed ?? left.readyState === 2, `persisted: ${persisted}`);
        assert.equal(clock.timers.size, 0);
        if (persisted) {
          world.dispatch("pageshow", { persisted });
          await settled();
          assert.equal(count(), before + 1);
          assert.match(latest().url, /last_event_id=e1-5/);
        }
        room.close();
      }
    });

    test("close() stops all timers and streams at any time", async () => {
      const moments = {
        connecting: async () => {
          const room = join({ url, token: transport === "fetch" ? "T" : undefined });
          await settled();
          return room;
        },
        "before connecting": async () => join({ url, token: transport === "fetch" ? "T" : undefined }),
        open,
        lost: async () => {
          const room = await open();
          latest().fail(0);
          await settled();
          return room;
        },
        waiting: async () => {
          const room = await open();
          await clock.advance(37_500);
          return room;
        },
        offline: async () => {
          const room = await open();
          world.online = false;
          latest().fail(0);
          await settled();
          world.online = true;
          return room;
        },
        "called by a listener": async () => {
          const room = await open();
          room.on("state", () => room.close());
          latest().emit("user count", 1);
          await settled();
          return room;
        },
        "with a token that cannot be renewed": async () => {
          const room = transport === "fetch"
            ? await openedWithToken({ url, token: "T", renew: () => Promise.reject(new Error("no")) })
            : await opened({ url, renew: () => Promise.reject(new Error("no")) });
          latest().emit("expiring", { in: 30 });
          await settled();
          return room;
        },
      };
      for (const [moment, make] of Object.entries(moments)) {
        FakeEventSource.all = [];
        world.streams = [];
        const room = await make();
        room.close();
        room.close();
        await settled();
        assert.equal(clock.timers.size, 0, moment);
        await clock.advance(3_600_000);
        assert.ok(count() <= 1, moment);
        assert.ok(FakeEventSource.all.every(({ readyState }) => readyState === 2), moment);
        assert.ok(world.streams.every(({ closed }) => closed), moment);
        assert.deepEqual([room.state.connection, room.state.reason], ["closed", null], moment);
      }
    });

    test("leaves the room while the page is frozen or in the back/forward cache", async () => {
      for (const [away, back] of [["freeze", "resume"], ["pagehide", "pageshow"]]) {
        const room = await open();
        const before = count();
        world.dispatch(away, { persisted: true });
        await settled();
        assert.ok(transport === "fetch" ? latest().closed : latest().readyState === 2, away);
        assert.deepEqual([room.state.connection, room.state.reason, room.members.size], ["connecting", "lost", 2]);
        await clock.advance(3_600_000);
        assert.deepEqual([count(), clock.timers.size], [before, 0], away);
        world.dispatch(back, { persisted: true });
        world.dispatch(back, { persisted: true });
        await settled();
        assert.equal(count(), before + 1, back);
        assert.match(latest().url, /last_event_id=e1-5$/);
        room.close();
        await settled();
      }
    });

    test("a page that was frozen without a freeze event reconnects", async () => {
      const room = await open();
      world.dispatch("resume");
      await settled();
      assert.deepEqual([room.state.connection, room.state.reason], ["connecting", "silent"]);
      await clock.advance(1000);
      assert.equal(count(), 2);
      room.close();
    });

    test("pause leaves the room, and resume enters it from the last position", async () => {
      const room = await open();
      room.pause();
      await settled();
      assert.deepEqual([room.state.connection, room.state.reason], ["connecting", "paused"]);
      for (const name of ["pagehide", "freeze", "resume", "pageshow", "online", "visibilitychange"]) {
        world.dispatch(name, { persisted: true });
        assert.equal(room.state.reason, "paused", name);
      }
      await room.send("while paused");
      await clock.advance(60_000);
      assert.equal(count(), 1);
      room.resume();
      room.resume();
      assert.equal(room.state.reason, null);
      const sent = room.send("after the pause");
      await settled();
      assert.equal(count(), 2);
      assert.match(latest().url, /last_event_id=e1-5$/);
      assert.equal(requestsTo("/messages").length, 1); // send waits for the stream
      if (transport === "EventSource") source().open();
      latest().emit("sync", sync, "e1-5");
      await sent;
      room.close();
      room.pause();
      room.resume();
      assert.deepEqual([room.state.connection, count()], ["closed", 2]);
    });

    test("resume does not enter the room while the page is frozen or in the back/forward cache", async () => {
      for (const [away, back] of [["freeze", "resume"], ["pagehide", "pageshow"]]) {
        const room = await open();
        const before = count();
        room.pause();
        world.dispatch(away, { persisted: true });
        room.resume(); // a handler of messages, which runs in a frozen page
        await settled();
        assert.deepEqual([count(), room.state.connection], [before, "connecting"], away);
        world.dispatch(back, { persisted: true });
        await settled();
        assert.equal(count(), before + 1, back);
        room.close();
        await settled();
      }
    });

    test("a room that a listener pauses receives no more events", async () => {
      const room = await open();
      const received = [];
      for (const name of ["reset", "message", "sync"]) room.on(name, () => received.push(name));
      room.on("reset", () => room.pause());
      if (transport === "fetch") {
        stream().write(["reset", "message", "sync"].map((name) => `event: ${name}\nid: e2-1\ndata: ${JSON.stringify(name === "sync" ? sync : {})}\n\n`).join(""));
      } else {
        for (const name of ["reset", "message", "sync"]) source().emit(name, name === "sync" ? sync : {}, "e2-1");
      }
      await settled();
      assert.deepEqual([received, room.state.connection, room.state.reason], [["reset"], "connecting", "paused"]);
      room.close();
      await settled();
    });

    test("a prerendered page sends nothing until the user opens it", async () => {
      document.prerendering = true;
      let asked = 0;
      const token = transport === "fetch" ? () => `T${++asked}` : undefined;
      const room = join({ url, token });
      const sent = room.send("hello");
      for (const name of ["pageshow", "resume"]) world.dispatch(name, { persisted: true });
      await settled();
      await clock.advance(60_000);
      assert.deepEqual([count(), world.requests.length, asked, clock.timers.size], [0, 0, 0, 0]);
      assert.deepEqual([room.state.connection, room.state.reason], ["connecting", null]);
      document.prerendering = false;
      world.dispatch("prerenderingchange");
      await settled();
      assert.deepEqual([count(), requestsTo("/messages").length], [1, 0]);
      if (transport === "EventSource") source().open();
      latest().emit("sync", sync, "e1-5");
      await sent;
      assert.equal(requestsTo("/messages").length, 1);
      room.close();
    });

    test("five rooms of a page have a stream, and the others wait for a connection", async () => {
      const rooms = Array.from({ length: 7 }, (_, i) => join({ url, room: `r${i}`, token: transport === "fetch" ? "T" : undefined }));
      const elsewhere = join({ url: "https://other.example/", token: transport === "fetch" ? "T" : undefined });
      await settled();
      const states = () => rooms.map(({ state }) => state.reason ?? state.connection);
      assert.deepEqual(states(), [...Array(5).fill("connecting"), "connections", "connections"]);
      assert.equal(count(), 6, "another host has its own connections");
      await rooms[6].send("without a stream");
      assert.equal(requestsTo("/messages").length, 1);
      rooms[1].close();
      rooms[5].close();
      await settled();
      assert.match(latest().url, /room=r6$/);
      assert.deepEqual(states(), ["connecting", "closed", "connecting", "connecting", "connecting", "closed", "connecting"]);
      for (const room of [...rooms, elsewhere]) room.close();
      await settled();
      assert.equal(clock.timers.size, 0);
      const again = join({ url, token: transport === "fetch" ? "T" : undefined });
      await settled();
      assert.equal(count(), 8);
      again.close();
    });

    test("a room that is closed as soon as it waits for a connection leaves nothing", async () => {
      const rooms = Array.from({ length: 5 }, (_, i) => join({ url, room: `r${i}`, token: transport === "fetch" ? "T" : undefined }));
      await settled();
      const timers = clock.timers.size;
      const sixth = join({ url, token: transport === "fetch" ? "T" : undefined });
      sixth.on("state", ({ reason }) => reason === "connections" && sixth.close());
      await settled();
      assert.deepEqual([sixth.state.connection, clock.timers.size], ["closed", timers]);
      for (const room of rooms) room.close();
      await settled();
    });

    test("a room opens its stream if the browser does not provide locks or timings", async () => {
      const fail = () => {
        throw new Error("not here");
      };
      const held = [0, 1, 2, 3, 4].map((i) => ({ name: `presence stream ${i} https://example.com` }));
      for (const [what, replace] of Object.entries({
        "no timings": () => (performance.getEntriesByType = undefined),
        "no observer": () => (PerformanceObserver.prototype.observe = fail),
        "no query": () => (navigator.locks = { query: async () => navigator.locks.queried ? fail() : ((navigator.locks.queried = true), {}), request: fail }),
        "no lock": () => (navigator.locks = { query: async () => ({}), request: async () => fail() }),
        "no lock to wait for": () => (navigator.locks = { query: async () => ({ held }), request: async () => fail() }),
      })) {
        const { getEntriesByType } = performance;
        const { observe } = PerformanceObserver.prototype;
        replace();
        const before = count();
        const rooms = Array.from({ length: 6 }, (_, i) => join({ url, room: `r${i}`, token: transport === "fetch" ? "T" : undefined }));
        await settled();
        assert.equal(count(), before + 6, what);
        for (const room of rooms) room.close();
        await settled();
        performance.getEntriesByType = getEntriesByType;
        PerformanceObserver.prototype.observe = observe;
        delete navigator.locks;
      }
    });

    test("over HTTP/2, ninety rooms of a page have a stream", async () => {
      world.protocol = "h2"; // unknown to the page until a response has arrived
      const rooms = Array.from({ length: 91 }, (_, i) => join({ url, room: `r${i}`, token: transport === "fetch" ? "T" : undefined }));
      for (let i = 0; count() < 90 && i < 100; i++) await settled();
      await settled();
      assert.deepEqual([count(), rooms.filter(({ state }) => state.reason === "connections").length], [90, 1]);
      assert.equal(requestsTo("/healthz").length, 1);
      rooms[0].close();
      await settled();
      assert.equal(count(), 91);
      for (const room of rooms) room.close();
      await settled();
    });

    test("the protocol is also known if the browser keeps no more timings", async () => {
      world.protocol = "h2";
      performance.getEntriesByType = () => [];
      const rooms = Array.from({ length: 6 }, (_, i) => join({ url, room: `r${i}`, token: transport === "fetch" ? "T" : undefined }));
      for (let i = 0; i < 3; i++) await settled();
      assert.deepEqual([count(), rooms[5].state.reason], [6, null]);
      for (const room of rooms) room.close();
      await settled();
    });

    test("setState waits for the room, sends the last info, and sends it again after a reconnect", async () => {
      const room = join({ url, room: "doc-1", token: transport === "fetch" ? "T" : undefined });
      const calls = [room.setState({ n: 1 }), room.setState({ n: 2 })];
      await settled();
      assert.equal(requestsTo("/state").length, 0);
      if (transport === "EventSource") source().open();
      latest().emit("sync", sync, "e1-5");
      await settled();
      await Promise.all(calls);
      assert.deepEqual(requestsTo("/state").map(({ method, body }) => [method, JSON.parse(body)]), [["PUT", { n: 2 }]]);
      await room.setState(undefined);
      assert.equal(requestsTo("/state").at(-1).body, "null");
      latest().fail(0);
      await settled();
      await clock.advance(transport === "fetch" ? 2000 : 0);
      latest().emit("sync", sync, "e1-5");
      await settled();
      assert.deepEqual(requestsTo("/state").map(({ body }) => JSON.parse(body)), [{ n: 2 }, null, null]);
      // The room is now over the member limit. The info of its members is not listed, but not lost.
      latest().emit("sync", { ...sync, complete: false }, "e1-5");
      await settled();
      assert.equal(requestsTo("/state").length, 3);
      const late = room.setState({ n: 3 });
      await late;
      latest().fail(0);
      await settled();
      const never = room.setState({ n: 4 });
      never.catch(() => {});
      await settled();
      room.close();
      await assert.rejects(never, PresenceError);
      assert.equal(requestsTo("/state").length, 4);
    });
  });
}

describe("the user's info", () => {
  // Returns a room in which Alice has set the info {"n":1}.
  async function roomWithInfo() {
    const { respond } = world;
    world.respond = (req) => (req.url.endsWith("/session?room=doc-1") ? json(200, { user: { id: "alice" } }) : respond(req));
    const room = await opened();
    await room.setState({ n: 1 });
    await settled();
    return room;
  }
  // Reconnects, and sends a sync in which Alice has the given info. Returns all info that the room
  // has sent so far.
  async function reconnectWith(info) {
    source().fail(0);
    await settled();
    source().open();
    source().emit("sync", { ...sync, members: [{ ...alice, info }, bob] }, "e1-5");
    await settled();
    return requestsTo("/state").map(({ body }) => JSON.parse(body));
  }

  test("is sent again if the room has lost it", async () => {
    const room = await roomWithInfo();
    source().emit("update", { id: "alice", info: { n: 1 } }, "e1-5");
    source().emit("update", { id: "bob", info: { n: 2 } }, "e1-5");
    assert.deepEqual(await reconnectWith({}), [{ n: 1 }, { n: 1 }]);
    room.close();
  });

  test("is not sent again if the room has it", async () => {
    const room = await roomWithInfo();
    assert.deepEqual(await reconnectWith({ n: 1 }), [{ n: 1 }]);
    room.close();
  });

  test("is not sent over newer info from another tab of the user", async () => {
    const room = await roomWithInfo();
    source().emit("update", { id: "alice", info: { n: 1 } }, "e1-5");
    source().emit("update", { id: "alice", info: { n: 2 } }, "e1-5");
    assert.deepEqual(await reconnectWith({}), [{ n: 1 }]);
    source().emit("update", { id: "alice", info: { n: 1 } }, "e1-5"); // the same info again, from any tab
    assert.deepEqual(await reconnectWith({}), [{ n: 1 }, { n: 1 }]);
    room.close();
  });
});

test("with share, requests the user until there is a response or close() is called", async () => {
  Object.defineProperty(globalThis, "navigator", { configurable: true, value: { onLine: true, locks: { query: async () => ({}), request: async (name, options, run) => run({}) } } });
  world.respond = () => problem(503, "later");
  const room = join({ url, share: true });
  await settled();
  assert.deepEqual([requestsTo("/session").length, room.state.connection, room.state.reason], [1, "connecting", "lost"]);
  await clock.advance(1000);
  assert.equal(requestsTo("/session").length, 2);
  world.dispatch("online"); // ends the wait
  await settled();
  assert.equal(requestsTo("/session").length, 3);
  room.close();
  assert.equal(clock.timers.size, 0);
  await clock.advance(3_600_000);
  assert.equal(world.requests.length, 3);
});

describe("by EventSource alone", () => {
  test("after a lost connection the browser reconnects", async () => {
    const room = await opened();
    source().fail(0);
    assert.deepEqual([room.state.connection, room.state.reason, room.members.size], ["connecting", "lost", 2]);
    assert.equal(room.state.retryAt, null, "only the browser knows the time");
    for (let i = 0; i < 100; i++) {
      await clock.advance(3000); // the browser itself waits for `retry`
      source().open();
      source().fail(0);
    }
    assert.deepEqual([FakeEventSource.all.length, world.requests.length], [1, 0]);
    source().open();
    source().emit("join", carol, "e1-5");
    assert.equal(room.members.size, 2, "the join waits for sync");
    source().emit("sync", { ...sync, members: [alice] }, "e1-5");
    assert.deepEqual(ids(room), ["alice", "carol"]);
    room.close();
  });

  test("requests the cause after the browser failed to reconnect, and the reason of the goodbye ends", async () => {
    world.respond = () => Promise.reject(new TypeError("Load failed"));
    const room = await opened();
    const states = [];
    room.on("state", ({ reason, problem, retryAt }) => states.push([reason, problem?.title ?? null, retryAt]));
    source().emit("goodbye", { reason: "draining" });
    source().fail(0); // the end of the stream
    await clock.advance(2000);
    assert.deepEqual([room.state.reason, FakeEventSource.all.length, world.requests.length], ["draining", 1, 0]);
    states.length = 0;
    source().fail(0); // nothing listens on the port
    await settled();
    assert.equal(source().readyState, FakeEventSource.CLOSED);
    await clock.advance(1000);
    await clock.advance(1999);
    assert.deepEqual(states, [["lost", null, 3000], ["lost", null, null], ["lost", "No response", 5000]]);
    world.respond = () => json(200, { members: [] });
    await clock.advance(1);
    assert.deepEqual([room.state.retryAt, FakeEventSource.all.length], [null, 2]);
    source().open();
    source().emit("sync", sync, "e1-5");
    assert.deepEqual([room.state.connection, room.state.reason, room.state.retryAt], ["open", null, null]);
    room.close();
  });

  test("requests the cause after the browser gives up, and resumes from the last id", async () => {
    const room = await opened();
    source().emit("ping", {}, "e1-6"); // the id of a message that has no listener
    source().fail(2);
    await settled();
    assert.equal(room.state.connection, "connecting");
    await clock.advance(999);
    assert.equal(world.requests.length, 0);
    await clock.advance(1);
    assert.equal(world.requests[0].url, "https://example.com/presence/presence?room=doc-1&limit=1");
    assert.equal(FakeEventSource.all.length, 2);
    assert.equal(source().url, "https://example.com/presence/events?room=doc-1&last_event_id=e1-6");
    room.close();
  });

  test("close() during the request for the cause prevents a reconnect", async () => {
    let answer;
    world.respond = () => new Promise((resolve) => (answer = resolve));
    const room = join({ url });
    await settled();
    source().fail(2);
    await settled();
    room.close();
    answer(json(200, { members: [] }));
    await settled();
    assert.deepEqual([FakeEventSource.all.length, clock.timers.size], [1, 0]);
  });

  test("requests the cause immediately if the first attempt fails", async () => {
    world.respond = () => problem(403, "not this room");
    const room = join({ url });
    await settled();
    source().fail(2);
    await settled();
    assert.deepEqual([room.state.connection, room.state.reason, room.state.problem.detail], ["closed", "refused", "not this room"]);
  });

  test("an EventSource that the policy of the page forbids is retried, and the state has the cause", async () => {
    globalThis.EventSource = class {
      constructor() {
        throw new DOMException("The operation is insecure.", "SecurityError");
      }
    };
    world.respond = () => Promise.reject(new TypeError("Load failed"));
    const room = join({ url });
    await settled();
    assert.deepEqual([room.state.connection, room.state.reason, room.state.problem?.title], ["connecting", "lost", "No response"]);
    globalThis.EventSource = FakeEventSource;
    world.respond = () => json(200, { members: [] });
    await clock.advance(2000);
    assert.equal(FakeEventSource.all.length, 1);
    room.close();
  });

  test("doubles the wait up to 30 s, until a sync", async () => {
    const room = await opened();
    world.respond = () => new Response("Bad Gateway", { status: 502 });
    source().fail(2);
    await settled();
    const waits = [];
    for (let attempts = 1, from = clock.now; attempts <= 8; attempts++, from = clock.now) {
      while (world.requests.length < attempts) await clock.advance(100);
      waits.push((clock.now - from) / 1000);
    }
    assert.deepEqual(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    world.respond = () => json(200, { members: [] });
    await clock.advance(30_000);
    assert.equal(FakeEventSource.all.length, 2);
    source().open();
    source().emit("sync", sync, "e1-5");
    source().fail(2);
    await settled();
    await clock.advance(1000);
    assert.equal(FakeEventSource.all.length, 3, "sync resets the wait");
    room.close();
  });

  test("no response, 429 and 5xx are retried; any other rejection closes the room", async () => {
    for (const [status, end] of [[0, false], [429, false], [500, false], [503, false], [400, true], [401, true], [403, true], [404, true]]) {
      world.respond = () => {
        if (status === 0) throw new TypeError("Failed to fetch");
        return problem(status, "why");
      };
      const room = await opened();
      source().fail(2);
      await clock.advance(0);
      await settled();
      await clock.advance(1000);
      const { state } = room;
      if (end) {
        assert.deepEqual([state.connection, state.reason, state.problem.status, state.problem.detail], ["closed", "refused", status, "why"]);
        assert.equal(clock.timers.size, 0, String(status));
      } else {
        assert.deepEqual([state.connection, state.problem.status, clock.timers.size], ["connecting", status, 1], String(status));
      }
      room.close();
      await settled();
    }
  });

  test("after any other goodbye, the browser reconnects and the reason remains", async () => {
    for (const reason of ["draining", "full", "slow"]) {
      const room = await opened();
      const first = source();
      first.emit("goodbye", { reason });
      first.fail(0);
      await clock.advance(30_000);
      assert.deepEqual([room.state.connection, room.state.reason], ["connecting", reason]);
      assert.equal(source(), first);
      assert.equal(first.readyState, 0);
      first.emit("sync", sync, "e1-5");
      assert.equal(room.state.reason, null);
      room.close();
    }
  });

  test("sends a new token when the old one is about to expire", async () => {
    const given = ["T2"];
    const room = await opened({ url, renew: async () => given.shift() });
    await clock.advance(10_000);
    source().emit("expiring", { in: 30 });
    assert.equal(room.state.expiring, 30);
    await settled();
    const [{ method, url: at, body, credentials, headers }] = requestsTo("/session");
    assert.deepEqual([method, at, JSON.parse(body), credentials], ["POST", "https://example.com/presence/session", { token: "T2" }, "same-origin"]);
    assert.equal(headers.get("Authorization"), null);
    assert.equal(room.state.expiring, null);
    await clock.advance(10_000);
    source().emit("expiring", { in: 30 });
    await settled();
    assert.equal(requestsTo("/session").length, 1, "the callback set the cookie itself");
    assert.equal(room.state.expiring, null);
    room.close();
  });

  test("renews an expired cookie and rejoins the room", async () => {
    const room = await opened({ url, renew: () => "T2" });
    source().emit("goodbye", { reason: "expired" });
    await settled();
    assert.equal(requestsTo("/session").length, 1);
    assert.equal(FakeEventSource.all.length, 2);
    assert.deepEqual([room.state.connection, room.state.reason], ["connecting", "expired"]);
    room.close();
  });

  test("withCredentials sends the cookie to another origin", async () => {
    const room = await opened({ url, withCredentials: true });
    await room.refresh();
    assert.deepEqual([source().options, world.requests[0].credentials], [{ withCredentials: true }, "include"]);
    room.close();
  });

  test("the default url is the directory of the file, and the default room is lobby", async () => {
    const room = join();
    assert.deepEqual([room.url.href, room.name], [new URL(".", import.meta.url).href, "lobby"]);
    room.close();
  });

  test("uses fetch if there is no EventSource, as in some workers", async () => {
    delete globalThis.EventSource;
    const room = join({ url });
    await settled();
    assert.deepEqual([stream().credentials, stream().headers.get("Authorization")], ["same-origin", null]);
    room.close();
  });
});

describe("by fetch alone", () => {
  test("sends the token, and no cookie", async () => {
    const room = await openedWithToken();
    assert.deepEqual([stream().headers.get("Authorization"), stream().credentials], ["Bearer T", "omit"]);
    await room.send("x");
    assert.deepEqual([requestsTo("/messages")[0].headers.get("Authorization"), requestsTo("/messages")[0].credentials], ["Bearer T", "omit"]);
    room.close();
  });

  test("reconnects after the server's retry time", async () => {
    const room = await openedWithToken();
    stream().end();
    await settled();
    assert.deepEqual([room.state.connection, room.state.reason], ["connecting", "lost"]);
    await clock.advance(1999);
    assert.equal(world.streams.length, 1);
    await clock.advance(1);
    assert.equal(world.streams.length, 2);
    stream().write("retry: 17562\n\n");
    stream().emit("goodbye", { reason: "full" });
    stream().end();
    await settled();
    assert.equal(room.state.reason, "full");
    await clock.advance(17_561);
    assert.equal(world.streams.length, 2);
    await clock.advance(1);
    assert.equal(world.streams.length, 3);
    room.close();
  });

  test("waits for Retry-After", async () => {
    world.respond = () => problem(503, "full", { "Retry-After": "12" });
    const room = join({ url, token: "T" });
    await settled();
    await clock.advance(11_999);
    assert.equal(world.requests.length, 1);
    await clock.advance(1);
    assert.equal(world.requests.length, 2);
    room.close();
  });

  test("403 closes the room, but a response that is not a stream does not", async () => {
    world.respond = () => problem(403, "why");
    const refused = join({ url, token: "T" });
    await settled();
    assert.deepEqual([refused.state.connection, refused.state.problem.detail], ["closed", "why"]);
    world.respond = () => new Response("<h1>Sign in to this network</h1>", { headers: { "Content-Type": "text/html" } });
    const portal = join({ url, token: "T" });
    await settled();
    assert.equal(portal.state.connection, "connecting");
    portal.close();
  });

  test("the token callback runs once, and again when the token is rejected or about to expire", async () => {
    let n = 0;
    const room = await openedWithToken({ url, token: async () => `T${++n}` });
    await room.send("x");
    assert.equal(n, 1);
    await clock.advance(10_000);
    stream().emit("expiring", { in: 30 });
    await settled();
    assert.deepEqual(requestsTo("/session").map(({ body, credentials }) => [JSON.parse(body), credentials]), [[{ token: "T2" }, "omit"]]);
    assert.equal(room.state.expiring, null);
    stream().emit("goodbye", { reason: "expired" });
    await settled();
    assert.equal(stream().headers.get("Authorization"), "Bearer T3");
    assert.equal(requestsTo("/session").length, 1, "there is no stream to continue");
    stream().emit("sync", sync, "e1-5");
    await settled();
    world.respond = (req) => {
      const good = req.headers.get?.("Authorization") ?? req.headers.Authorization;
      return good === "Bearer T4" ? (req.url.includes("/events") ? opens(req) : json(202, { id: "e1-9" })) : problem(401, "no");
    };
    assert.deepEqual(await room.send("again"), { id: "e1-9" });
    assert.equal(n, 4);
    room.close();
  });

  test("a token that lives for less than the warning time is renewed halfway, each time", async () => {
    const times = [];
    const room = await openedWithToken({ url, token: () => (times.push(clock.now / 1000), "T") });
    for (let i = 0; i < 4; i++) {
      stream().emit("expiring", { in: 20 });
      await clock.advance(10_000);
      await settled();
    }
    assert.deepEqual(times, [0, 10, 20, 30, 40]);
    assert.equal(requestsTo("/session").length, 4);
    const { credentials, headers } = requestsTo("/session")[0]; // the server sees that the page does not use the cookie
    assert.deepEqual([credentials, headers.get("Authorization")], ["omit", "Bearer T"]);
    room.close();
  });

  test("a warning about the new token may arrive before the response to the renewal", async () => {
    const times = [];
    const room = await openedWithToken({ url, token: () => (times.push(clock.now / 1000), "T") });
    stream().emit("expiring", { in: 20 });
    await settled();
    const { respond } = world;
    let late;
    world.respond = (req) => (req.url.includes("/session") ? new Promise((resolve) => (late = resolve)) : respond(req));
    await clock.advance(10_000);
    stream().emit("expiring", { in: 20 });
    await settled();
    late(new Response(null, { status: 204 }));
    world.respond = respond;
    await settled();
    await clock.advance(10_000);
    assert.deepEqual(times, [0, 10, 20]);
    room.close();
  });

  test("a callback without a result within 30 s has failed, and is retried", async () => {
    let n = 0;
    const room = await openedWithToken({ url, token: "T", renew: () => (n++ === 0 ? new Promise(() => {}) : "T2") });
    stream().emit("goodbye", { reason: "expired" });
    await settled();
    assert.deepEqual([n, room.state.reason], [1, "expired"]);
    world.respond = (req) => (req.headers.Authorization === "Bearer T2" ? opens(req) : problem(401, "no"));
    await clock.advance(32_000);
    assert.deepEqual([n, stream().headers.get("Authorization"), room.state.connection], [2, "Bearer T2", "connecting"]);
    room.close();
    await settled();
    assert.equal(clock.timers.size, 0);
  });

  test("a failed renewal is retried until the token is about to expire", async () => {
    const times = [];
    const renew = () => {
      times.push(clock.now / 1000);
      throw new Error("down");
    };
    const room = await openedWithToken({ url, token: "T", renew });
    await clock.advance(10_000);
    const from = clock.now / 1000;
    stream().emit("expiring", { in: 30 });
    await settled();
    await clock.advance(31_000);
    assert.deepEqual(times.map((t) => t - from), [0, 15, 22.5, 26.25, 28.125]);
    assert.equal(room.state.expiring, 30);
    room.close();
  });

  test("warnings on two connections cause one renewal at a time, and none after close()", async () => {
    let renewals = 0;
    const renew = () => {
      renewals++;
      throw new Error("down");
    };
    const room = await openedWithToken({ url, token: "T", renew });
    await clock.advance(10_000);
    stream().emit("expiring", { in: 30 });
    await settled();
    assert.equal(renewals, 1);
    stream().end();
    await settled();
    await clock.advance(2000);
    stream().emit("sync", sync, "e1-5");
    stream().emit("expiring", { in: 28 });
    await settled();
    await clock.advance(13_900); // the timer of the first connection would have fired
    assert.equal(renewals, 1);
    await clock.advance(100);
    assert.equal(renewals, 2);
    room.close();
    await settled();
    assert.equal(clock.timers.size, 0);
    await clock.advance(60_000);
    assert.equal(renewals, 2);
  });

  test("a callback that fails once after a rejection is retried", async () => {
    const answers = [() => "T1", () => Promise.reject(new Error("down")), () => "T3"];
    const room = join({ url, token: () => answers.shift()() });
    const { respond } = world;
    world.respond = (req) => (new Headers(req.headers).get("Authorization") === "Bearer T3" ? respond(req) : problem(401, "expired"));
    await settled();
    assert.deepEqual([room.state.connection, room.state.reason], ["connecting", "token"]);
    await clock.advance(1000);
    stream().emit("sync", sync, "e1-5");
    await settled();
    assert.equal(room.state.connection, "open");
    room.close();
  });

  test("waits before the next attempt if a stream with a new token expires immediately", async () => {
    let streams = 0;
    world.respond = (req) => {
      streams++;
      const answer = opens(req);
      stream().emit("goodbye", { reason: "expired" });
      return streams < 20 ? answer : problem(403, "enough");
    };
    const room = join({ url, token: () => "T" });
    await settled();
    room.close();
    assert.equal(streams, 2);
  });

  test("waits before the next attempt if streams expire at once after their sync", async () => {
    const times = [];
    world.respond = (req) => {
      const answer = opens(req);
      stream().emit("sync", sync, "e1-5");
      stream().emit("goodbye", { reason: "expired" });
      return times.length < 1000 ? answer : problem(403, "enough");
    };
    const room = join({ url, token: () => (times.push(clock.now / 1000), "T") });
    await settled();
    for (let i = 0; i < 8; i++) await clock.advance(500);
    assert.deepEqual([times, room.state.reason], [[0, 0, 0, 1, 2, 3, 4], "expired"]);
    room.close();
  });

  test("failed renewals of a token with an endless lifetime are not repeated without a wait", async () => {
    let n = 0;
    const room = await openedWithToken({ url, token: () => (n++ === 0 || n > 100 ? "T" : Promise.reject(new Error("down"))) });
    stream().write('event: expiring\ndata: {"in":1e999}\n\n');
    for (let i = 0; i < 10; i++) await clock.advance(1000);
    room.close();
    await settled();
    assert.deepEqual([n, clock.timers.size], [1, 0]);
  });

  test("a listener of the warning that pauses the room prevents the renewal", async () => {
    let n = 0;
    const room = await openedWithToken({ url, token: () => `T${++n}` });
    room.on("expiring", () => room.pause());
    stream().emit("expiring", { in: 20 });
    await settled();
    await clock.advance(20_000);
    assert.deepEqual([n, clock.timers.size], [1, 0]);
    room.close();
  });

  test("a renewed token that is rejected closes the room, but a failed callback does not", async () => {
    world.respond = () => problem(401, "no");
    let n = 0;
    const refused = join({ url, token: () => `T${++n}` });
    await settled();
    assert.deepEqual([n, refused.state.connection, refused.state.problem.status], [2, "closed", 401]);
    const none = join({ url, token: () => "" });
    await settled();
    assert.deepEqual([none.state.connection, none.state.problem.status], ["closed", 401]);
    const down = join({ url, token: () => Promise.reject(new Error("down")) });
    await settled();
    assert.deepEqual([down.state.connection, down.state.reason], ["connecting", "token"]);
    down.close();
  });
});

describe("send", () => {
  const at = { url: "https://example.com/p/", room: "doc-1", token: "T" };

  test("posts the message with an id, and with a name if given", async () => {
    const r = await openedWithToken(at);
    assert.deepEqual(await r.send("hello"), { id: "e1-6" });
    await r.send({ x: 1 }, { event: "chat message", id: "mine-1" });
    await r.send(undefined);
    const [first, ...rest] = requestsTo("/messages");
    assert.deepEqual([first.url, first.method, first.headers.get("Content-Type")], ["https://example.com/p/messages?room=doc-1", "POST", "application/json"]);
    const { id, ...body } = JSON.parse(first.body);
    assert.deepEqual(body, { data: "hello" });
    assert.match(id, /^[\d-]{7,64}$/);
    assert.deepEqual(JSON.parse(rest[0].body), { event: "chat message", id: "mine-1", data: { x: 1 } });
    assert.equal(JSON.parse(rest[1].body).data, null);
    r.close();
  });

  test("keeps messages in order, and retries a message with the same id", async () => {
    const r = await openedWithToken(at);
    const taken = [];
    let failures = 3;
    world.respond = ({ body }) => {
      const { id, data } = JSON.parse(body);
      taken.push([data, id]);
      if (data !== 2 || failures-- <= 0) return json(202, { id: "e1-6" });
      if (failures === 2) throw new TypeError("Failed to fetch");
      return failures === 1 ? problem(503, "later", { "Retry-After": "2" }) : problem(429, "slower");
    };
    const sent = [1, 2, 3].map((n) => r.send(n));
    await settled();
    assert.deepEqual(taken.map(([n]) => n), [1, 2]);
    await clock.advance(1000); // the first backoff
    await clock.advance(2000); // Retry-After
    await clock.advance(4000); // the third backoff
    await Promise.all(sent);
    assert.deepEqual(taken.map(([n]) => n), [1, 2, 2, 2, 2, 3]);
    assert.equal(new Set(taken.map(([, id]) => id)).size, 3);
    r.close();
  });

  for (const [transport, { latest }] of Object.entries(transports)) {
    test(`by ${transport}, waits for the first sync, so that the sender receives the message`, async () => {
      const r = join(transport === "fetch" ? at : { ...at, token: undefined });
      const sent = r.send("hello");
      await settled();
      if (transport === "EventSource") latest().open();
      await settled();
      assert.equal(requestsTo("/messages").length, 0);
      latest().emit("sync", sync, "e1-5");
      assert.deepEqual(await sent, { id: "e1-6" });
      r.close();
    });
  }

  test("does not wait for a stream that was rejected", async () => {
    world.respond = ({ url }) => (new URL(url).pathname.endsWith("/events") ? problem(403, "not yours") : json(202, { id: "e1-6" }));
    const r = join(at);
    assert.deepEqual(await r.send("hello"), { id: "e1-6" });
    assert.equal(r.state.connection, "closed");
    r.close();
  });

  test("waits for a reconnect, so that the sender receives the message", async () => {
    const r = await openedWithToken();
    stream().fail();
    await settled();
    const sent = r.send("kept");
    await settled();
    assert.equal(requestsTo("/messages").length, 0);
    await clock.advance(2000); // the server's `retry` time
    stream().emit("reset", { reason: "history" }, "e2-0");
    stream().emit("sync", sync, "e2-0");
    await settled();
    assert.deepEqual(await sent, { id: "e1-6" });
    stream().fail();
    await settled();
    const late = r.send("late");
    await settled();
    await clock.advance(14_999);
    assert.equal(requestsTo("/messages").length, 1);
    await clock.advance(1);
    await late;
    assert.equal(requestsTo("/messages").length, 2);
    r.close();
  });

  test("gives up after 15 s, and the next message has its own 15 s", async () => {
    const r = await openedWithToken(at);
    world.respond = () => problem(503, "later");
    const first = r.send(1);
    const second = r.send(2);
    first.catch(() => {});
    second.catch(() => {});
    await settled();
    await clock.advance(15_000);
    await assert.rejects(first, { message: "later", problem: { type: "about:blank", title: "T", status: 503, detail: "later" } });
    world.respond = () => json(202, { id: "e1-7" });
    await clock.advance(2000);
    assert.deepEqual(await second, { id: "e1-7" });
    r.close();
  });

  test("gives up after 15 s if the clock of the computer is set meanwhile", async () => {
    const now = Date.now;
    for (const day of [-86_400_000, 86_400_000]) {
      const r = await openedWithToken(at);
      world.respond = () => problem(503, "later");
      let failed = 0;
      const start = clock.now;
      r.send(1).catch(() => (failed = clock.now - start));
      await settled();
      Date.now = () => clock.now + day;
      for (let i = 0; i < 20; i++) await clock.advance(1000);
      assert.ok(failed > 5000 && failed <= 15_000, `failed after ${failed} ms`);
      Date.now = now;
      world.respond = opens;
      r.close();
    }
  });

  test("throws the problem immediately if the server rejects the message", async () => {
    const r = await openedWithToken(at);
    world.respond = () => problem(413, "too large");
    await assert.rejects(r.send("x"), (error) => error instanceof PresenceError && error instanceof Error && error.problem.status === 413);
    await assert.rejects(r.send(1n), TypeError);
    world.respond = () => json(202, { id: "e1-6" });
    assert.deepEqual(await r.send("y"), { id: "e1-6" }, "later messages are sent");
    r.close();
  });

  test("the send queue holds at most 1000 messages", async () => {
    const r = await openedWithToken(at);
    let answer;
    world.respond = () => new Promise((resolve) => (answer = resolve));
    const all = Array.from({ length: 1000 }, (_, n) => r.send(n));
    await assert.rejects(r.send(1000), PresenceError);
    await settled();
    world.respond = () => json(202, { id: "e1-6" });
    answer(json(202, { id: "e1-6" }));
    assert.equal((await Promise.all(all)).length, 1000);
    assert.deepEqual(await r.send(1000), { id: "e1-6" });
    r.close();
  });
});

test("rooms that are closed at once take no slots, as in the StrictMode of React", async () => {
  const requested = [];
  navigator.locks = {
    query: async () => ({}),
    request: async (name, _, run) => {
      requested.push(name);
      return run({});
    },
  };
  join({ url }).close();
  const room = join({ url });
  await settled();
  room.close();
  assert.deepEqual(requested, ["presence stream 0 https://example.com"]);
});

test("a wait for a slot that ends during the request for the protocol is not announced", async () => {
  const server = new URL(url);
  const held = await Promise.all([1, 2, 3, 4, 5].map(() => takeSlot(server, new AbortController().signal, () => {})));
  const end = new AbortController();
  let announced = 0;
  const slot = takeSlot(server, end.signal, () => announced++);
  world.respond = (req) => {
    end.abort();
    return json(200, {});
  };
  const got = await slot;
  for (const free of held) free();
  assert.deepEqual([got, announced, requestsTo("/healthz").length], [null, 0, 1]);
});

test("a broken token callback is reported, and the state has its error", async () => {
  for (const [token, detail] of [
    [() => Promise.reject(new Error("/token: 500")), "Error: /token: 500"],
    [() => Promise.reject(Object.create(null)), "unknown error"],
    [() => "<!doctype html> Not Found", "Error: presence: not a token, but text with white space or non-ASCII characters: perhaps an error page"],
  ]) {
    for (const share of [false, true]) {
      world.reported = [];
      const room = join({ url, token, share });
      await settled();
      assert.deepEqual(room.state.problem, { title: "Token callback failed", status: 0, detail });
      assert.deepEqual([room.state.connection, room.state.reason, world.reported.length], ["connecting", "token", 1]);
      assert.equal(world.streams.length, 0);
      room.close();
      await settled();
    }
  }
});

test("an empty token closes the room, and only undefined is reported", async () => {
  for (const [token, detail, reported] of [
    [() => "", "token empty: no user is signed in", []],
    [() => null, "token empty: no user is signed in", []],
    [() => {}, "token missing: the callback returned undefined", ["token missing: the callback returned undefined"]],
  ]) {
    world.reported = [];
    const room = join({ url, token });
    await settled();
    assert.deepEqual([room.state.connection, room.state.problem], ["closed", { title: "No token", status: 401, detail }]);
    assert.deepEqual(world.reported, reported);
  }
});

test("a broken token callback is reported once, until the room was open", async () => {
  const fail = () => Promise.reject(new Error("/token: 500"));
  const broken = join({ url, token: fail });
  await settled();
  for (let i = 0; i < 10; i++) await clock.advance(30_000);
  assert.deepEqual(world.reported, ["/token: 500"]);
  broken.close();

  world.reported = [];
  world.respond = (req) => (req.url.endsWith("/session") ? problem(503, "down") : problem(401, "no cookie"));
  const temporary = join({ url, renew: () => "T" });
  await settled();
  source().fail(2);
  await settled();
  assert.deepEqual([temporary.state.reason, temporary.state.problem.status, world.reported], ["token", 503, []]);
  temporary.close();

  world.respond = opens;
  const given = [() => "T1", fail];
  const room = await openedWithToken({ url, token: () => given.shift()() });
  world.dispatch("freeze");
  world.respond = () => problem(401, "expired");
  world.dispatch("resume");
  await settled();
  assert.deepEqual([room.state.reason, world.reported], ["token", []]);
  room.close();
});

test("a renewed cookie is not replaced with text that is no token", async () => {
  world.respond = () => problem(401, "no token");
  const room = join({ url, renew: () => "<!doctype html> Not Found" });
  await settled();
  source().fail(2);
  await settled();
  assert.deepEqual([room.state.connection, room.state.reason, room.state.problem.title], ["connecting", "token", "Token callback failed"]);
  assert.equal(requestsTo("/session").length, 0);
  room.close();
});

test("the state has the time of the next attempt, and none while the browser is offline or an attempt runs", async () => {
  const room = await openedWithToken();
  world.respond = () => problem(503, "later", { "Retry-After": "8" });
  stream().end();
  await settled();
  assert.deepEqual([room.state.reason, room.state.retryAt], ["lost", 2000]);
  await clock.advance(2000);
  assert.deepEqual([room.state.problem.status, room.state.retryAt], [503, 10_000]);
  let answer;
  world.respond = () => new Promise((resolve) => (answer = resolve));
  await clock.advance(8000);
  assert.deepEqual([room.state.reason, room.state.problem.status, room.state.retryAt], ["lost", 503, null], "the attempt runs");
  world.online = false;
  answer(problem(503, "later"));
  await settled();
  assert.deepEqual([room.state.reason, room.state.retryAt], ["offline", null]);
  room.close();
  assert.equal(room.state.retryAt, null);
});

test("a wait for the next attempt has no end once the browser is offline", async () => {
  const room = await openedWithToken();
  world.respond = () => (world.online ? problem(503, "later", { "Retry-After": "8" }) : Promise.reject(new TypeError("offline")));
  stream().end();
  await settled();
  await clock.advance(2000);
  assert.deepEqual([room.state.reason, room.state.retryAt], ["lost", 10_000]);
  world.online = false;
  world.dispatch("offline");
  await settled();
  assert.deepEqual([room.state.reason, room.state.retryAt], ["offline", null]);
  const { length } = world.requests;
  await clock.advance(3_600_000);
  assert.equal(world.requests.length, length);
  world.online = true;
  world.dispatch("online");
  await settled();
  assert.equal(world.requests.length, length + 1);
  room.close();
});

test("the end of a ban is a part of the problem", async () => {
  const until = "2026-11-27T23:41:18Z";
  world.respond = () => json(403, { title: "Forbidden", status: 403, detail: "banned", until }, "application/problem+json");
  const room = join({ url, token: "T" });
  await settled();
  assert.deepEqual([room.state.connection, room.state.problem.until, room.state.retryAt], ["closed", until, null]);
  await assert.rejects(request("GET", url), ({ problem }) => problem.until === until);
});

test("the state has the cause of the last failed attempt", async () => {
  const page = () => new Response("<h1>My application</h1>", { headers: { "Content-Type": "text/html" } });
  let token = () => Promise.reject(new Error("/token: status 500"));
  world.respond = page;
  const room = join({ url, token: () => token() });
  await settled();
  assert.deepEqual([room.state.reason, room.state.problem.status], ["token", 0]);
  token = () => "T";
  for (const [respond, want] of [
    [page, { title: "Unexpected response", status: 200, detail: "no presence server at https://example.com/presence/" }],
    [() => new Response("", { status: 502 }), { title: "HTTP status 502", status: 502, detail: "HTTP status 502" }], // as over HTTP/2
    [() => problem(503, "too many rooms"), { type: "about:blank", title: "T", status: 503, detail: "too many rooms" }],
  ]) {
    world.respond = respond;
    await clock.advance(30_000);
    assert.deepEqual([room.state.reason, room.state.problem], ["lost", want]);
  }
  room.close();
});

test("a token callback that fails after the room was closed is not reported", async () => {
  const room = join({ url, token: () => new Promise(() => {}) });
  await settled();
  room.close();
  await clock.advance(30_000);
  assert.deepEqual([world.reported, clock.timers.size], [[], 0]);
});

test("white space around a token is removed", async () => {
  const room = await openedWithToken({ url, token: () => "T\n" });
  assert.equal(stream().headers.get("Authorization"), "Bearer T");
  room.close();
});

test("without a response from another origin, the error names the origin of the page", async () => {
  try {
    const refuse = () => {
      throw new TypeError("Failed to fetch");
    };
    world.respond = refuse;
    const none = "no response from the server";
    const hidden = `${none}, or this page's origin is not allowed: `;
    for (const [origin, baseURI, detail] of [
      ["https://app.example", "https://app.example/a", `${hidden}https://app.example`],
      ["https://example.com", "https://example.com/a", none],
      ["null", "https://example.com/a", `${hidden}null`], // in a sandbox
      ["https://example.com", "about:srcdoc", none],
    ]) {
      Object.assign(globalThis, { origin, location: new URL(baseURI) });
      document.baseURI = baseURI;
      await assert.rejects(request("GET", "//["), { name: "PresenceError", message: none });
      await assert.rejects(request("GET", "https://example.com/presence/healthz"), { message: detail });
      world.respond = () => {
        throw new DOMException("timed out", "TimeoutError");
      };
      await assert.rejects(request("GET", "https://example.com/presence/healthz"), { message: none });
      world.respond = refuse;
      const room = join({ url, token: "T" });
      await settled();
      assert.deepEqual([room.state.reason, room.state.problem.detail], ["lost", detail]);
      room.close();
    }
  } finally {
    delete globalThis.origin;
    delete globalThis.location;
  }
});

test("a wait that the server asks for is at most an hour", async () => {
  world.respond = () => problem(503, "full", { "Retry-After": "9".repeat(400) });
  const room = join({ url, token: "T" });
  await settled();
  assert.equal(world.requests.length, 1);
  await clock.advance(3_599_999);
  assert.equal(world.requests.length, 1);
  await clock.advance(1);
  assert.equal(world.requests.length, 2);
  room.close();
});

test("invalid arguments throw a TypeError", async () => {
  for (const room of ["", "a b", "ä", "x".repeat(129), "a/b", "<script>"]) assert.throws(() => join({ url, room }), TypeError, room);
  assert.throws(() => join({ url: "http://[" }), TypeError);
  const room = join({ url });
  for (const name of ["open", "error"]) assert.throws(() => room.on(name, () => {}), TypeError, "EventSource has these events itself");
  room.close();
});

test("a room that the server has closed has no listeners on the page", async () => {
  const aborts = [];
  const add = document.addEventListener.bind(document);
  document.addEventListener = (name, fn, options) => {
    aborts.push(options.signal);
    add(name, fn, options);
  };
  world.respond = () => problem(403, "not this room");
  const room = join({ url, token: "T" });
  await settled();
  assert.equal(room.state.connection, "closed");
  assert.ok(aborts.length > 0 && aborts.every(({ aborted }) => aborted));
});

test("refresh fetches values that the stream does not send", async () => {
  const room = await opened();
  world.respond = () => json(200, { members: [{ ...alice, connections: 7 }, { ...bob, id: "unknown" }] });
  await room.refresh();
  assert.equal(world.requests[0].url, "https://example.com/presence/presence?room=doc-1&limit=1000");
  assert.equal(room.members.get("alice").connections, 7);
  assert.deepEqual(ids(room), ["alice", "bob"]);
  room.close();
});

test("history fetches a page of earlier messages", async () => {
  const room = await opened();
  const messages = [
    { id: "e1-3", event: "message", from: { id: "bob", name: "Bob" }, data: 1, at: "2026-01-02T03:04:05Z" },
    { id: "e1-4", event: "saved", data: null, at: "2026-01-02T03:04:05Z" },
  ];
  world.respond = () => json(200, { room: "doc-1", messages, last_event_id: "e1-4", next: "e1-3" });
  assert.deepEqual(await room.history(), { messages, next: "e1-3", lastEventId: "e1-4" });
  assert.equal(world.requests[0].url, "https://example.com/presence/messages?room=doc-1&limit=50");
  world.respond = () => json(200, { room: "doc-1", messages: [], last_event_id: "e1-4" });
  assert.deepEqual(await room.history({ limit: 7, before: "e1-3" }), { messages: [], next: null, lastEventId: "e1-4" });
  assert.equal(world.requests[1].url, "https://example.com/presence/messages?room=doc-1&limit=7&before=e1-3");
  await room.history({ before: null });
  assert.equal(world.requests[2].url, "https://example.com/presence/messages?room=doc-1&limit=50");
  assert.deepEqual([room.lastEventId, room.state.connection], ["e1-5", "open"], "the stream is not affected");
  world.respond = () => problem(403, "you are banned");
  await assert.rejects(room.history(), (error) => error.problem.status === 403 && error.message === "you are banned");
  room.close();
});

test("history renews an expired token once", async () => {
  const room = await opened({ token: undefined, renew: async () => "T2" });
  world.respond = ({ method }) => {
    if (method === "POST") return new Response(null, { status: 204 });
    return world.requests.filter((r) => r.method === "POST").length > 0
      ? json(200, { messages: [], last_event_id: "e1-5" })
      : problem(401, "token expired");
  };
  assert.deepEqual(await room.history(), { messages: [], next: null, lastEventId: "e1-5" });
  assert.deepEqual(world.requests.map((r) => r.method), ["GET", "POST", "GET"]);
  room.close();
});

test("request returns null for 204, rejects responses of other servers, and throws the server's problem", async () => {
  assert.equal(await request("DELETE", "https://example.com/session"), null);
  assert.equal(world.requests[0].body, undefined);
  world.respond = () => new Response("<h1>Bad Gateway</h1>", { status: 502, statusText: "Bad Gateway", headers: { "Content-Type": "text/html" } });
  await assert.rejects(request("GET", url), { message: "HTTP status 502 (Bad Gateway)", problem: { title: "Bad Gateway", status: 502, detail: "HTTP status 502 (Bad Gateway)" } });
  world.respond = () => new Response("Not found", { status: 404, statusText: "Not Found" });
  await assert.rejects(request("GET", url), { message: `no presence server at ${url}: HTTP status 404 (Not Found)` });
  world.respond = () => problem(404, "no resource");
  await assert.rejects(request("GET", url), { message: "no resource" });
  world.respond = () => new Response("{", { status: 500, headers: { "Content-Type": "application/problem+json" } });
  await assert.rejects(request("GET", url), { message: "HTTP status 500" });
  world.respond = () => {
    throw new TypeError("Failed to fetch");
  };
  await assert.rejects(request("GET", url), { message: "no response from the server", problem: { title: "No response", status: 0, detail: "no response from the server" } });
});
