// join(): one room, over each of the two ways to a stream, in a world of the tests' own. Run with: node --test web/*.test.js
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { join, PresenceError, request } from "./presence.js";
import { alice, bob, carol, clock, FakeEventSource, ids, json, opens, problem, settled, sync, useWorld, world } from "./testing.js";

useWorld();

const url = "https://example.com/presence";
const source = () => FakeEventSource.all.at(-1);
const stream = () => world.streams.at(-1);
const asked = (path) => world.asked.filter((ask) => new URL(ask.url).pathname.endsWith(path));

/** A room with an EventSource that has told its sync. */
function opened(options = { url, room: "doc-1" }) {
  const room = join(options);
  source().open();
  source().tell("sync", sync, "e1-5");
  return room;
}

/** The same by fetch(). */
async function openedWithToken(options = { url, room: "doc-1", token: "T" }) {
  const room = join(options);
  await settled();
  stream().say("retry: 2000\n\n");
  stream().tell("sync", sync, "e1-5");
  await settled();
  return room;
}

/** The two ways, as far as tests need not tell them apart. */
const ways = {
  EventSource: { open: async () => opened(), told: () => source(), count: () => FakeEventSource.all.length },
  fetch: { open: () => openedWithToken(), told: () => stream(), count: () => world.streams.length },
};

for (const [way, { open, told, count }] of Object.entries(ways)) {
  describe(`by ${way}`, () => {
    test("opens a stream below the mount, of the room, and takes up from a place", async () => {
      const token = way === "fetch" ? "T" : undefined;
      const room = join({ url, room: "doc-1", lastEventId: "e1-4", token });
      await settled();
      assert.equal(told().url, "https://example.com/presence/events?room=doc-1&last_event_id=e1-4");
      assert.deepEqual([room.name, room.url.href, room.state.connection], ["doc-1", "https://example.com/presence/", "connecting"]);
      room.close();
    });

    test("tells of states and events, in that order", async () => {
      const room = await open();
      const heard = [];
      room.on("state", (state) => heard.push(["state", state.count]));
      room.on("count", (n) => heard.push(["count", n, room.count]));
      room.on("user count", (n) => heard.push(["user count", n]));
      const off = room.on("message", ({ data }) => heard.push(["message", data]));
      room.on("chat message", ({ data }) => heard.push(["chat message", data])); // while it is open
      told().tell("user count", 7, "e1-5");
      told().tell("message", { data: "hello" }, "e1-6");
      told().tell("chat message", { data: { any: "JSON" } }, "e1-7");
      await settled();
      off();
      off();
      told().tell("message", { data: "unheard" }, "e1-8");
      await settled();
      assert.deepEqual(heard, [
        ["state", 7], ["count", 7, 7], ["user count", 7],
        ["state", 7], ["message", "hello"],
        ["state", 7], ["chat message", { any: "JSON" }],
        ["state", 7],
      ]);
      assert.deepEqual([room.count, room.connections, room.users, room.lastEventId], [7, 3, 2, "e1-8"]);
      assert.deepEqual(ids(room), ["alice", "bob"]);
      room.close();
    });

    test("a message is heard once", async () => {
      const room = await open();
      const heard = [];
      room.on("message", ({ data }) => heard.push(data));
      for (const [data, id] of [[5, "e1-5"], [6, "e1-6"], [6, "e1-6"], [4, "e1-4"], [7, "e1-7"], [1, "e2-1"]]) told().tell("message", { data }, id);
      await settled();
      assert.deepEqual(heard, [6, 7, 1]);
      room.close();
    });

    test("reset is told, and the place is the new one", async () => {
      const room = await open();
      const heard = [];
      room.on("reset", ({ reason }) => heard.push(reason, room.lastEventId));
      told().tell("reset", { reason: "history" }, "e2-3");
      await settled();
      assert.deepEqual(heard, ["history", "e2-3"]);
      room.close();
    });

    test("nobody can be told what a stranger calls count or state", async () => {
      const room = await open();
      const heard = [];
      for (const name of ["count", "state"]) room.on(name, (data) => heard.push(data));
      for (const name of ["count", "state"]) told().tell(name, { data: 999 }, "e1-6");
      await settled();
      assert.ok(heard.every((data) => data.connection === "open"), "only the room's own states");
      for (const event of ["count", "state"]) await assert.rejects(room.send(1, { event }), TypeError);
      room.close();
    });

    test("a listener that throws holds up nobody", async () => {
      const room = await open();
      const heard = [];
      const reported = [];
      globalThis.reportError = (error) => reported.push(error.message);
      room.on("ping", () => { throw new Error("mine"); });
      room.on("ping", () => heard.push("ping"));
      told().tell("ping", {});
      await settled();
      delete globalThis.reportError;
      assert.deepEqual([heard, reported], [["ping"], ["mine"]]);
      room.close();
    });

    test("what is not JSON is of no presence server, and is not heard", async () => {
      const room = await open();
      if (way === "fetch") told().say("data: <html>\nevent: sync\n\n");
      else told().dispatchEvent(Object.assign(new Event("sync"), { data: "<html>", lastEventId: "" }));
      await settled();
      assert.deepEqual([room.state.connection, ids(room)], ["open", ["alice", "bob"]]);
      room.close();
    });

    test("two and a half heartbeats of silence are a lost connection", async () => {
      const room = await open();
      told().tell("sync", { ...sync, heartbeat: 4 }, "e1-5");
      await settled();
      for (let i = 0; i < 10; i++) {
        await clock.advance(9000);
        told().tell("ping", {});
        await settled();
      }
      assert.equal(count(), 1);
      const first = told();
      await clock.advance(9999);
      assert.equal(room.state.connection, "open");
      await clock.advance(1);
      assert.deepEqual([room.state.connection, room.state.reason], ["connecting", "silent"]);
      assert.ok(first.cut ?? first.readyState === 2);
      await clock.advance(1000);
      assert.equal(count(), 2);
      assert.match(told().url, /last_event_id=e1-5/);
      room.close();
    });

    test("a server that takes the connection and says nothing is tried again", async () => {
      const room = join({ url, token: way === "fetch" ? "T" : undefined });
      await settled();
      for (let i = 1; i <= 3; i++) {
        assert.equal(count(), i);
        await clock.advance(37_500 + 1000 * 2 ** (i - 1));
      }
      assert.equal(count(), 4);
      room.close();
    });

    test("a final goodbye is the end", async () => {
      for (const reason of ["removed", "signed out", "expired"]) {
        const room = await open();
        const first = told();
        const before = count();
        first.tell("goodbye", { reason });
        await settled();
        assert.ok(first.cut ?? first.readyState === 2, "else the browser would come back");
        assert.deepEqual([room.state.connection, room.state.reason, room.state.problem], ["closed", reason, null]);
        await clock.advance(3_600_000);
        assert.equal(count(), before);
        assert.equal(clock.timers.size, 0);
        room.close();
        assert.equal(room.state.reason, reason, "it had been closed");
      }
    });

    test("offline it is quiet, and back at once when there is a network", async () => {
      const room = await open();
      world.online = false;
      world.dispatch("offline");
      assert.equal(room.state.connection, "open", "what is open may go on");
      told().fail(0);
      await settled();
      assert.deepEqual([room.state.connection, room.state.reason], ["connecting", "offline"]);
      await clock.advance(3_600_000);
      assert.deepEqual([count(), world.asked.length], [1, way === "fetch" ? 1 : 0]);
      world.online = true;
      world.dispatch("online");
      await settled();
      assert.equal(count(), 2);
      room.close();
    });

    test("a stream that outlived its network is not trusted", async () => {
      const room = await open();
      world.dispatch("offline");
      told().tell("ping", {});
      await settled();
      world.dispatch("online");
      await settled();
      assert.equal(room.state.connection, "open", "it spoke meanwhile");
      world.dispatch("offline");
      world.dispatch("online");
      await settled();
      assert.deepEqual([room.state.connection, room.state.reason], ["connecting", "silent"]);
      room.close();
    });

    test("a page that comes into sight does not wait for its timers", async () => {
      const room = await open();
      clock.now += 60_000; // they slept
      document.hidden = true;
      world.dispatch("visibilitychange");
      await settled();
      assert.equal(room.state.connection, "open");
      document.hidden = false;
      world.dispatch("visibilitychange");
      await settled();
      assert.equal(room.state.connection, "connecting");
      world.dispatch("resume"); // nor for the wait
      await settled();
      assert.equal(count(), 2);
      room.close();
    });

    test("a page kept for the way back is not here", async () => {
      const room = await open();
      const first = told();
      world.dispatch("pagehide", { persisted: false });
      assert.equal(room.state.connection, "open");
      world.dispatch("pagehide", { persisted: true });
      await settled();
      assert.ok(first.cut ?? first.readyState === 2);
      assert.equal(clock.timers.size, 0);
      world.dispatch("pageshow", { persisted: true });
      await settled();
      assert.equal(count(), 2);
      assert.match(told().url, /last_event_id=e1-5/);
      room.close();
    });

    test("close() in any moment leaves nothing running", async () => {
      const moments = {
        connecting: async () => {
          const room = join({ url, token: way === "fetch" ? "T" : undefined });
          await settled();
          return room;
        },
        "not even that": async () => join({ url, token: way === "fetch" ? "T" : undefined }),
        open,
        lost: async () => {
          const room = await open();
          told().fail(0);
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
          told().fail(0);
          await settled();
          world.online = true;
          return room;
        },
        "told by a listener": async () => {
          const room = await open();
          room.on("state", () => room.close());
          told().tell("user count", 1);
          await settled();
          return room;
        },
        "with a token that nobody renews": async () => {
          const room = way === "fetch"
            ? await openedWithToken({ url, token: "T", renew: () => Promise.reject(new Error("no")) })
            : opened({ url, renew: () => Promise.reject(new Error("no")) });
          told().tell("expiring", { in: 30 });
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
        assert.ok(world.streams.every(({ cut }) => cut), moment);
        assert.deepEqual([room.state.connection, room.state.reason], ["closed", null], moment);
      }
    });

    test("setState waits for the room, says the last one, and again after a loss", async () => {
      const room = join({ url, room: "doc-1", token: way === "fetch" ? "T" : undefined });
      const said = [room.setState({ n: 1 }), room.setState({ n: 2 })];
      await settled();
      assert.equal(asked("/state").length, 0);
      if (way === "EventSource") source().open();
      told().tell("sync", sync, "e1-5");
      await settled();
      await Promise.all(said);
      assert.deepEqual(asked("/state").map(({ method, body }) => [method, JSON.parse(body)]), [["PUT", { n: 2 }]]);
      await room.setState(undefined);
      assert.equal(asked("/state").at(-1).body, "null");
      told().fail(0);
      await settled();
      await clock.advance(way === "fetch" ? 2000 : 0);
      told().tell("sync", sync, "e1-5");
      await settled();
      assert.deepEqual(asked("/state").map(({ body }) => JSON.parse(body)), [{ n: 2 }, null, null]);
      told().tell("sync", { ...sync, complete: false }, "e1-5"); // the room has become too large: nothing was lost
      await settled();
      assert.equal(asked("/state").length, 3);
      const late = room.setState({ n: 3 });
      await late;
      told().fail(0);
      await settled();
      const never = room.setState({ n: 4 });
      never.catch(() => {});
      await settled();
      room.close();
      await assert.rejects(never, PresenceError);
      assert.equal(asked("/state").length, 4);
    });
  });
}

describe("what was said of the user", () => {
  // Alice's room, in which she has said {"n":1}; each loss is followed by that sync.
  async function said() {
    const { answer } = world;
    world.answer = (ask) => (ask.url.endsWith("/session?room=doc-1") ? json(200, { user: { id: "alice" } }) : answer(ask));
    const room = opened();
    await room.setState({ n: 1 });
    await settled();
    return room;
  }
  async function lost(info) {
    source().fail(0);
    await settled();
    source().tell("sync", { ...sync, members: [{ ...alice, info }, bob] }, "e1-5");
    await settled();
    return asked("/state").map(({ body }) => JSON.parse(body));
  }

  test("is said again if the room has lost it", async () => {
    const room = await said();
    source().tell("update", { id: "alice", info: { n: 1 } }, "e1-5");
    source().tell("update", { id: "bob", info: { n: 2 } }, "e1-5");
    assert.deepEqual(await lost({}), [{ n: 1 }, { n: 1 }]);
    room.close();
  });

  test("is not said again if the room has it", async () => {
    const room = await said();
    assert.deepEqual(await lost({ n: 1 }), [{ n: 1 }]);
    room.close();
  });

  test("is not said over what another tab of the user's has said since", async () => {
    const room = await said();
    source().tell("update", { id: "alice", info: { n: 1 } }, "e1-5");
    source().tell("update", { id: "alice", info: { n: 2 } }, "e1-5");
    assert.deepEqual(await lost({}), [{ n: 1 }]);
    source().tell("update", { id: "alice", info: { n: 1 } }, "e1-5"); // now it is so again, whoever said it
    assert.deepEqual(await lost({}), [{ n: 1 }, { n: 1 }]);
    room.close();
  });
});

test("who shares asks who it is until somebody answers, and not after the end", async () => {
  Object.defineProperty(globalThis, "navigator", { configurable: true, value: { onLine: true, locks: { query: async () => ({}) } } });
  world.answer = () => problem(503, "later");
  const room = join({ url, share: true });
  await settled();
  assert.deepEqual([asked("/session").length, room.state.connection, room.state.reason], [1, "connecting", "lost"]);
  await clock.advance(1000);
  assert.equal(asked("/session").length, 2);
  world.dispatch("online"); // nor longer than there is no network
  await settled();
  assert.equal(asked("/session").length, 3);
  room.close();
  assert.equal(clock.timers.size, 0);
  await clock.advance(3_600_000);
  assert.equal(world.asked.length, 3);
});

describe("by EventSource alone", () => {
  test("a lost connection is the browser's to get back", async () => {
    const room = opened();
    source().fail(0);
    assert.deepEqual([room.state.connection, room.state.reason, room.members.size], ["connecting", "lost", 2]);
    for (let i = 0; i < 100; i++) {
      await clock.advance(3000); // `retry` is the browser's
      source().fail(0);
    }
    assert.deepEqual([FakeEventSource.all.length, world.asked.length], [1, 0]);
    source().open();
    source().tell("join", carol, "e1-5");
    assert.equal(room.members.size, 2, "waits for sync");
    source().tell("sync", { ...sync, members: [alice] }, "e1-5");
    assert.deepEqual(ids(room), ["alice", "carol"]);
    room.close();
  });

  test("given up by the browser, it asks why after a wait, and comes back with the last id", async () => {
    const room = opened();
    source().tell("ping", {}, "e1-6"); // of a message that nobody listened for
    source().fail(2);
    await settled();
    assert.equal(room.state.connection, "connecting");
    await clock.advance(999);
    assert.equal(world.asked.length, 0);
    await clock.advance(1);
    assert.equal(world.asked[0].url, "https://example.com/presence/presence?room=doc-1&limit=1");
    assert.equal(FakeEventSource.all.length, 2);
    assert.equal(source().url, "https://example.com/presence/events?room=doc-1&last_event_id=e1-6");
    room.close();
  });

  test("closed while it asks why, it opens nothing", async () => {
    let answer;
    world.answer = () => new Promise((resolve) => (answer = resolve));
    const room = join({ url });
    source().fail(2);
    await settled();
    room.close();
    answer(json(200, { members: [] }));
    await settled();
    assert.deepEqual([FakeEventSource.all.length, clock.timers.size], [1, 0]);
  });

  test("refused at the first try, it asks at once", async () => {
    world.answer = () => problem(403, "not this room");
    const room = join({ url });
    source().fail(2);
    await settled();
    assert.deepEqual([room.state.connection, room.state.reason, room.state.problem.detail], ["closed", "refused", "not this room"]);
  });

  test("waits longer each time, up to half a minute, until it was let in", async () => {
    const room = opened();
    world.answer = () => new Response("Bad Gateway", { status: 502 });
    source().fail(2);
    await settled();
    const waits = [];
    for (let asks = 1, from = clock.now; asks <= 8; asks++, from = clock.now) {
      while (world.asked.length < asks) await clock.advance(100);
      waits.push((clock.now - from) / 1000);
    }
    assert.deepEqual(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    world.answer = () => json(200, { members: [] });
    await clock.advance(30_000);
    assert.equal(FakeEventSource.all.length, 2);
    source().open();
    source().tell("sync", sync, "e1-5");
    source().fail(2);
    await settled();
    await clock.advance(1000);
    assert.equal(FakeEventSource.all.length, 3, "sync makes the next wait short again");
    room.close();
  });

  test("no answer, 429 and 5xx are asked again; another refusal is the end", async () => {
    for (const [status, end] of [[0, false], [429, false], [500, false], [503, false], [400, true], [401, true], [403, true], [404, true]]) {
      world.answer = () => {
        if (status === 0) throw new TypeError("Failed to fetch");
        return problem(status, "why");
      };
      const room = opened();
      source().fail(2);
      await clock.advance(0);
      await settled();
      await clock.advance(1000);
      const { state } = room;
      if (end) {
        assert.deepEqual([state.connection, state.reason, state.problem.status, state.problem.detail], ["closed", "refused", status, "why"]);
        assert.equal(clock.timers.size, 0, String(status));
      } else {
        assert.deepEqual([state.connection, state.problem, clock.timers.size], ["connecting", null, 1], String(status));
      }
      room.close();
      await settled();
    }
  });

  test("another goodbye leaves the coming back to the browser, and its reason stays to be seen", async () => {
    for (const reason of ["draining", "full", "slow"]) {
      const room = opened();
      const first = source();
      first.tell("goodbye", { reason });
      first.fail(0);
      await clock.advance(30_000);
      assert.deepEqual([room.state.connection, room.state.reason], ["connecting", reason]);
      assert.equal(source(), first);
      assert.equal(first.readyState, 0);
      first.tell("sync", sync, "e1-5");
      assert.equal(room.state.reason, null);
      room.close();
    }
  });

  test("a new token is handed in when the old one is about to end", async () => {
    const given = ["T2"];
    const room = opened({ url, renew: async () => given.shift() });
    await clock.advance(10_000);
    source().tell("expiring", { in: 30 });
    assert.equal(room.state.expiring, 30);
    await settled();
    const [{ method, url: at, body, credentials }] = asked("/session");
    assert.deepEqual([method, at, JSON.parse(body), credentials], ["POST", "https://example.com/presence/session", { token: "T2" }, "same-origin"]);
    assert.equal(room.state.expiring, null);
    await clock.advance(10_000);
    source().tell("expiring", { in: 30 });
    await settled();
    assert.equal(asked("/session").length, 1, "it saw to the cookie itself");
    assert.equal(room.state.expiring, null);
    room.close();
  });

  test("an expired cookie is renewed, and the room entered again", async () => {
    const room = opened({ url, renew: () => "T2" });
    source().tell("goodbye", { reason: "expired" });
    await settled();
    assert.equal(asked("/session").length, 1);
    assert.equal(FakeEventSource.all.length, 2);
    assert.deepEqual([room.state.connection, room.state.reason], ["connecting", "expired"]);
    room.close();
  });

  test("another origin gets the cookie if asked to", async () => {
    const room = opened({ url, withCredentials: true });
    await room.refresh();
    assert.deepEqual([source().options, world.asked[0].credentials], [{ withCredentials: true }, "include"]);
    room.close();
  });

  test("by default the mount is where the file came from, and the room is the lobby", () => {
    const room = join();
    assert.deepEqual([room.url.href, room.name], [new URL(".", import.meta.url).href, "lobby"]);
    room.close();
  });

  test("without an EventSource, as in some workers, fetch does", async () => {
    delete globalThis.EventSource;
    const room = join({ url });
    await settled();
    assert.deepEqual([stream().credentials, stream().headers.get("Authorization")], ["same-origin", null]);
    room.close();
  });
});

describe("by fetch alone", () => {
  test("bears the token, and no cookie", async () => {
    const room = await openedWithToken();
    assert.deepEqual([stream().headers.get("Authorization"), stream().credentials], ["Bearer T", "omit"]);
    await room.send("x");
    assert.deepEqual([asked("/messages")[0].headers.get("Authorization"), asked("/messages")[0].credentials], ["Bearer T", "omit"]);
    room.close();
  });

  test("comes back after the time that the server named", async () => {
    const room = await openedWithToken();
    stream().end();
    await settled();
    assert.deepEqual([room.state.connection, room.state.reason], ["connecting", "lost"]);
    await clock.advance(1999);
    assert.equal(world.streams.length, 1);
    await clock.advance(1);
    assert.equal(world.streams.length, 2);
    stream().say("retry: 17562\n\n");
    stream().tell("goodbye", { reason: "full" });
    stream().end();
    await settled();
    assert.equal(room.state.reason, "full");
    await clock.advance(17_561);
    assert.equal(world.streams.length, 2);
    await clock.advance(1);
    assert.equal(world.streams.length, 3);
    room.close();
  });

  test("Retry-After is heeded", async () => {
    world.answer = () => problem(503, "full", { "Retry-After": "12" });
    const room = join({ url, token: "T" });
    await settled();
    await clock.advance(11_999);
    assert.equal(world.asked.length, 1);
    await clock.advance(1);
    assert.equal(world.asked.length, 2);
    room.close();
  });

  test("another refusal is the end, and what is no stream is not", async () => {
    world.answer = () => problem(403, "why");
    const refused = join({ url, token: "T" });
    await settled();
    assert.deepEqual([refused.state.connection, refused.state.problem.detail], ["closed", "why"]);
    world.answer = () => new Response("<h1>Sign in to this network</h1>", { headers: { "Content-Type": "text/html" } });
    const portal = join({ url, token: "T" });
    await settled();
    assert.equal(portal.state.connection, "connecting");
    portal.close();
  });

  test("a token's callback is asked once, and again when the token is refused or about to end", async () => {
    let n = 0;
    const room = await openedWithToken({ url, token: async () => `T${++n}` });
    await room.send("x");
    assert.equal(n, 1);
    await clock.advance(10_000);
    stream().tell("expiring", { in: 30 });
    await settled();
    assert.deepEqual(asked("/session").map(({ body, credentials }) => [JSON.parse(body), credentials]), [[{ token: "T2" }, "omit"]]);
    assert.equal(room.state.expiring, null);
    stream().tell("goodbye", { reason: "expired" });
    await settled();
    assert.equal(stream().headers.get("Authorization"), "Bearer T3");
    assert.equal(asked("/session").length, 1, "there is no stream to go on");
    stream().tell("sync", sync, "e1-5");
    await settled();
    world.answer = (ask) => {
      const good = ask.headers.get?.("Authorization") ?? ask.headers.Authorization;
      return good === "Bearer T4" ? (ask.url.includes("/events") ? opens(ask) : json(202, { id: "e1-9" })) : problem(401, "no");
    };
    assert.deepEqual(await room.send("again"), { id: "e1-9" });
    assert.equal(n, 4);
    room.close();
  });

  test("a token that lives for less than the warning is renewed half way, over and over", async () => {
    const times = [];
    const room = await openedWithToken({ url, token: () => (times.push(clock.now / 1000), "T") });
    for (let i = 0; i < 4; i++) {
      stream().tell("expiring", { in: 20 });
      await clock.advance(10_000);
      await settled();
    }
    assert.deepEqual(times, [0, 10, 20, 30, 40]);
    assert.equal(asked("/session").length, 4);
    room.close();
  });

  test("a warning of the new token that comes before the answer is heeded", async () => {
    const times = [];
    const room = await openedWithToken({ url, token: () => (times.push(clock.now / 1000), "T") });
    stream().tell("expiring", { in: 20 });
    await settled();
    const { answer } = world;
    let late;
    world.answer = (ask) => (ask.url.includes("/session") ? new Promise((resolve) => (late = resolve)) : answer(ask));
    await clock.advance(10_000);
    stream().tell("expiring", { in: 20 });
    await settled();
    late(new Response(null, { status: 204 }));
    world.answer = answer;
    await settled();
    await clock.advance(10_000);
    assert.deepEqual(times, [0, 10, 20]);
    room.close();
  });

  test("a callback that never answers has failed, and is asked again", async () => {
    let n = 0;
    const room = await openedWithToken({ url, token: "T", renew: () => (n++ === 0 ? new Promise(() => {}) : "T2") });
    stream().tell("goodbye", { reason: "expired" });
    await settled();
    assert.deepEqual([n, room.state.reason], [1, "expired"]);
    world.answer = (ask) => (ask.headers.Authorization === "Bearer T2" ? opens(ask) : problem(401, "no"));
    await clock.advance(32_000);
    assert.deepEqual([n, stream().headers.get("Authorization"), room.state.connection], [2, "Bearer T2", "connecting"]);
    room.close();
    await settled();
    assert.equal(clock.timers.size, 0);
  });

  test("a renewal that fails is tried again while there is time", async () => {
    const times = [];
    const renew = () => {
      times.push(clock.now / 1000);
      throw new Error("down");
    };
    const room = await openedWithToken({ url, token: "T", renew });
    await clock.advance(10_000);
    const from = clock.now / 1000;
    stream().tell("expiring", { in: 30 });
    await settled();
    await clock.advance(31_000);
    assert.deepEqual(times.map((t) => t - from), [0, 15, 22.5, 26.25, 28.125]);
    assert.equal(room.state.expiring, 30);
    room.close();
  });

  test("a token that is warned of on two connections is renewed once at a time, and no more after close()", async () => {
    let renewals = 0;
    const renew = () => {
      renewals++;
      throw new Error("down");
    };
    const room = await openedWithToken({ url, token: "T", renew });
    await clock.advance(10_000);
    stream().tell("expiring", { in: 30 });
    await settled();
    assert.equal(renewals, 1);
    stream().end();
    await settled();
    await clock.advance(2000);
    stream().tell("sync", sync, "e1-5");
    stream().tell("expiring", { in: 28 });
    await settled();
    await clock.advance(13_900); // the first chain would have tried
    assert.equal(renewals, 1);
    await clock.advance(100);
    assert.equal(renewals, 2);
    room.close();
    await settled();
    assert.equal(clock.timers.size, 0);
    await clock.advance(60_000);
    assert.equal(renewals, 2);
  });

  test("a callback that fails once after a refusal is asked again", async () => {
    const answers = [() => "T1", () => Promise.reject(new Error("down")), () => "T3"];
    const room = join({ url, token: () => answers.shift()() });
    const { answer } = world;
    world.answer = (ask) => (new Headers(ask.headers).get("Authorization") === "Bearer T3" ? answer(ask) : problem(401, "expired"));
    await settled();
    assert.deepEqual([room.state.connection, room.state.reason], ["connecting", "token"]);
    await clock.advance(1000);
    stream().tell("sync", sync, "e1-5");
    await settled();
    assert.equal(room.state.connection, "open");
    room.close();
  });

  test("streams that end as expired, whatever the token, are not opened without a pause", async () => {
    let streams = 0;
    world.answer = (ask) => {
      streams++;
      const answer = opens(ask);
      stream().tell("goodbye", { reason: "expired" });
      return streams < 20 ? answer : problem(403, "enough");
    };
    const room = join({ url, token: () => "T" });
    await settled();
    room.close();
    assert.equal(streams, 2);
  });

  test("a token that stays refused is the end; a callback that fails is not", async () => {
    world.answer = () => problem(401, "no");
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

  test("posts the message, with an id, and a name if given", async () => {
    const r = await openedWithToken(at);
    assert.deepEqual(await r.send("hello"), { id: "e1-6" });
    await r.send({ x: 1 }, { event: "chat message", id: "mine-1" });
    await r.send(undefined);
    const [first, ...rest] = asked("/messages");
    assert.deepEqual([first.url, first.method, first.headers.get("Content-Type")], ["https://example.com/p/messages?room=doc-1", "POST", "application/json"]);
    const { id, ...body } = JSON.parse(first.body);
    assert.deepEqual(body, { data: "hello" });
    assert.match(id, /^[\d-]{7,64}$/);
    assert.deepEqual(JSON.parse(rest[0].body), { event: "chat message", id: "mine-1", data: { x: 1 } });
    assert.equal(JSON.parse(rest[1].body).data, null);
    r.close();
  });

  test("keeps messages in order, and sends one again under its id", async () => {
    const r = await openedWithToken(at);
    const taken = [];
    let failures = 3;
    world.answer = ({ body }) => {
      const { id, data } = JSON.parse(body);
      taken.push([data, id]);
      if (data !== 2 || failures-- <= 0) return json(202, { id: "e1-6" });
      if (failures === 2) throw new TypeError("Failed to fetch");
      return failures === 1 ? problem(503, "later", { "Retry-After": "2" }) : problem(429, "slower");
    };
    const sent = [1, 2, 3].map((n) => r.send(n));
    await settled();
    assert.deepEqual(taken.map(([n]) => n), [1, 2]);
    await clock.advance(1000); // a backoff
    await clock.advance(2000); // Retry-After
    await clock.advance(4000); // a third backoff
    await Promise.all(sent);
    assert.deepEqual(taken.map(([n]) => n), [1, 2, 2, 2, 2, 3]);
    assert.equal(new Set(taken.map(([, id]) => id)).size, 3);
    r.close();
  });

  for (const [way, { told }] of Object.entries(ways)) {
    test(`by ${way}, waits for the first sync, so that its sender hears it`, async () => {
      const r = join(way === "fetch" ? at : { ...at, token: undefined });
      const sent = r.send("hello");
      await settled();
      if (way === "EventSource") told().open();
      await settled();
      assert.equal(asked("/messages").length, 0);
      told().tell("sync", sync, "e1-5");
      assert.deepEqual(await sent, { id: "e1-6" });
      r.close();
    });
  }

  test("does not wait for a stream that is refused", async () => {
    world.answer = ({ url }) => (new URL(url).pathname.endsWith("/events") ? problem(403, "not yours") : json(202, { id: "e1-6" }));
    const r = join(at);
    assert.deepEqual(await r.send("hello"), { id: "e1-6" });
    assert.equal(r.state.connection, "closed");
    r.close();
  });

  test("waits for a stream that is sought again, as its sender would not hear it else", async () => {
    const r = await openedWithToken();
    stream().fail();
    await settled();
    const sent = r.send("kept");
    await settled();
    assert.equal(asked("/messages").length, 0);
    await clock.advance(2000); // `retry`
    stream().tell("reset", { reason: "history" }, "e2-0");
    stream().tell("sync", sync, "e2-0");
    await settled();
    assert.deepEqual(await sent, { id: "e1-6" });
    stream().fail();
    await settled();
    const late = r.send("not for ever");
    await settled();
    await clock.advance(14_999);
    assert.equal(asked("/messages").length, 1);
    await clock.advance(1);
    await late;
    assert.equal(asked("/messages").length, 2);
    r.close();
  });

  test("gives up after 15 s, and the next one has its own", async () => {
    const r = await openedWithToken(at);
    world.answer = () => problem(503, "later");
    const first = r.send(1);
    const second = r.send(2);
    first.catch(() => {});
    second.catch(() => {});
    await settled();
    await clock.advance(15_000);
    await assert.rejects(first, { message: "later", problem: { type: "about:blank", title: "T", status: 503, detail: "later" } });
    world.answer = () => json(202, { id: "e1-7" });
    await clock.advance(2000);
    assert.deepEqual(await second, { id: "e1-7" });
    r.close();
  });

  test("a refusal throws the problem at once", async () => {
    const r = await openedWithToken(at);
    world.answer = () => problem(413, "too large");
    await assert.rejects(r.send("x"), (error) => error instanceof PresenceError && error instanceof Error && error.problem.status === 413);
    await assert.rejects(r.send(1n), TypeError);
    world.answer = () => json(202, { id: "e1-6" });
    assert.deepEqual(await r.send("y"), { id: "e1-6" }, "and holds up nobody");
    r.close();
  });

  test("no more than a thousand wait", async () => {
    const r = await openedWithToken(at);
    let answer;
    world.answer = () => new Promise((resolve) => (answer = resolve));
    const all = Array.from({ length: 1000 }, (_, n) => r.send(n));
    await assert.rejects(r.send(1000), PresenceError);
    await settled();
    world.answer = () => json(202, { id: "e1-6" });
    answer(json(202, { id: "e1-6" }));
    assert.equal((await Promise.all(all)).length, 1000);
    assert.deepEqual(await r.send(1000), { id: "e1-6" });
    r.close();
  });
});

test("bad input is refused where it is given", () => {
  for (const room of ["", "a b", "ä", "x".repeat(129), "a/b", "<script>"]) assert.throws(() => join({ url, room }), TypeError, room);
  assert.throws(() => join({ url: "http://[" }), TypeError);
  const room = join({ url });
  for (const name of ["open", "error"]) assert.throws(() => room.on(name, () => {}), TypeError, "an EventSource's own events are no messages");
  room.close();
});

test("refresh brings what the stream does not tell", async () => {
  const room = opened();
  world.answer = () => json(200, { members: [{ ...alice, connections: 7 }, { ...bob, id: "unknown" }] });
  await room.refresh();
  assert.equal(world.asked[0].url, "https://example.com/presence/presence?room=doc-1&limit=1000");
  assert.equal(room.members.get("alice").connections, 7);
  assert.deepEqual(ids(room), ["alice", "bob"]);
  room.close();
});

test("request answers null to 204, refuses what is of another server, and throws what the server says", async () => {
  assert.equal(await request("DELETE", "https://example.com/session"), null);
  assert.equal(world.asked[0].body, undefined);
  world.answer = () => new Response("<h1>Bad Gateway</h1>", { status: 502, statusText: "Bad Gateway", headers: { "Content-Type": "text/html" } });
  await assert.rejects(request("GET", url), { message: "Bad Gateway", problem: { title: "Bad Gateway", status: 502 } });
  world.answer = () => new Response("{", { status: 500, headers: { "Content-Type": "application/problem+json" } });
  await assert.rejects(request("GET", url), { message: "HTTP status 500" });
  world.answer = () => {
    throw new TypeError("Failed to fetch");
  };
  await assert.rejects(request("GET", url), { message: "The server did not answer.", problem: { title: "No answer", status: 0, detail: "The server did not answer." } });
});
