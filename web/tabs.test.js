// Tests of `share: true` in a simulated browser: see browser.fake.js and tabs.model.js. If the
// random test fails, it prints the seed. To repeat that run: `TABS_SEED=7 node --test
// web/tabs.test.js`. To run all tests: `node --test web/*.test.js`.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { heartbeat, loader, token, use, useBrowser, world } from "./browser.fake.js";
import { check, endAll, run } from "./tabs.model.js";

const runs = 300;
const load = await loader();

useBrowser();

test("every tab receives all messages once and in order, even if tabs and the server fail", async () => {
  const { TABS_SEED, TABS_RUNS } = process.env;
  const first = Number(TABS_SEED ?? Math.floor(Math.random() * 2 ** 31));
  const last = first + Number(TABS_RUNS ?? (TABS_SEED ? 1 : runs));
  for (let seed = first; seed < last; seed++) {
    const faults = await run(seed, load);
    assert.deepEqual(faults, [], `TABS_SEED=${seed}:\n${world.trace.join("\n")}`);
  }
});

describe("scenario", () => {
  /** Opens `n` tabs in a new world. The first tab leads. */
  async function tabs(n, options, seed = 1) {
    use(seed, load);
    const all = [];
    for (; n > 0; n--) {
      all.push(world.open(options));
      await world.advance(100);
    }
    return all;
  }

  const roles = (all) => all.map(({ room }) => room.state.shared);
  const conns = () => [...world.server.conns].map(({ tab }) => tab);

  /** Publishes a message per second, for `ms` milliseconds. */
  async function messages(ms) {
    for (; ms > 0; ms -= 1000) {
      world.lobby.publish();
      await world.advance(Math.min(ms, 1000));
    }
  }

  async function end() {
    await endAll();
    assert.deepEqual(world.faults, []);
  }

  test("a new tab receives the missed messages from the leader, without a request to the server", async () => {
    const [leader] = await tabs(1);
    world.lobby.publish(5);
    await world.advance(10);
    const late = world.open();
    const older = world.open({ lastEventIds: { lobby: "e1-3" } });
    await world.advance(10);
    assert.deepEqual([leader, late, older].map(({ received }) => received), [[1, 2, 3, 4, 5], [], [4, 5]]);
    check();
    assert.deepEqual(world.server.requests, [`GET /events Bearer ${token}`]);
    await end();
  });

  test("a tab takes over if it misses more messages than the leader has kept", async () => {
    const [leader] = await tabs(1);
    world.lobby.publish(150);
    await world.advance(10);
    const older = world.open({ lastEventIds: { lobby: "e1-10" } });
    await world.advance(10);
    assert.deepEqual([older.received.length, older.resets, leader.received.length], [140, 0, 150]);
    assert.deepEqual(roles([leader, older]), ["following", "leading"]);
    check();
    await end();
  });

  test("a frozen tab takes over only after it resumes", async () => {
    const [leader] = await tabs(1);
    world.lobby.publish(150);
    await world.advance(10);
    const older = world.open({ lastEventIds: { lobby: "e1-10" } });
    older.stall();
    await world.advance(60_000);
    assert.deepEqual(roles([leader, older]), ["leading", "following"]);
    older.wake();
    await world.advance(1000);
    assert.deepEqual([older.received.length, older.resets, older.room.state.shared], [140, 0, "leading"]);
    check();
    await end();
  });

  for (const how of ["close", "kill", "leave"]) {
    test(`a follower takes over immediately: ${how}`, async () => {
      const [leader, next, last] = await tabs(3);
      world.lobby.publish(2);
      await world.advance(0);
      await leader[how]();
      world.lobby.publish(2);
      await world.advance(0);
      world.lobby.publish(2);
      await world.advance(0);
      assert.deepEqual(roles([next, last]), ["leading", "following"]);
      for (const { received, resets } of [next, last]) assert.deepEqual([received, resets], [[1, 2, 3, 4, 5, 6], 0]);
      assert.deepEqual(conns(), [next]);
      check();
      leader.wake();
      await world.advance(0);
      await end();
    });
  }

  test("a follower takes over from a leader that hangs, which follows when it resumes", async () => {
    const [leader, second, third] = await tabs(3);
    leader.hung = true;
    world.lobby.publish(3);
    await world.advance(heartbeat * 2500 + 6000);
    assert.equal(conns().length, 2);
    check();
    assert.deepEqual([second.received, third.received], [[1, 2, 3], [1, 2, 3]]);
    leader.wake();
    await world.advance(300);
    assert.deepEqual([leader.received, leader.room.state.shared], [[1, 2, 3], "following"]);
    check();
    await end();
  });

  test("a follower takes over from a frozen leader immediately", async () => {
    const [leader, second, third] = await tabs(3);
    leader.freeze();
    world.lobby.publish(3);
    await world.advance(0);
    assert.deepEqual([conns(), leader.room.state.connection], [[second], "connecting"]);
    assert.deepEqual([second.received, third.received], [[1, 2, 3], [1, 2, 3]]);
    leader.wake();
    await world.advance(100);
    assert.deepEqual([leader.received, leader.room.state.shared], [[1, 2, 3], "following"]);
    check();
    await end();
  });

  test("a follower takes over from a leader that is frozen without an event", async () => {
    const [leader, second] = await tabs(2);
    leader.stall();
    await messages(heartbeat * 2500 + 3000);
    const { seq } = world.lobby;
    assert.equal(second.received.at(-1), seq);
    check();
    leader.wake();
    await world.advance(1000);
    assert.deepEqual([leader.received.length, leader.room.state.shared], [seq, "following"]);
    check();
    await end();
  });

  test("a frozen tab to which the browser grants the lock does not lead", async () => {
    const [leader, second, third] = await tabs(3);
    second.stall();
    leader.kill();
    await messages(heartbeat * 2500 + 3000);
    const { seq } = world.lobby;
    assert.deepEqual([third.received.length, third.room.state.shared], [seq, "leading"]);
    check();
    second.wake();
    await world.advance(1000);
    assert.deepEqual([second.received.length, second.room.state.shared], [seq, "following"]);
    check();
    await end();
  });

  test("all tabs have the time of the leader's next attempt, also a tab that opens later", async () => {
    const all = await tabs(2);
    world.server.goDown();
    await world.advance(20_000);
    const times = () => all.map(({ room }) => room.state.retryAt);
    for (let i = 0; i < 1000 && !(times()[0] > Date.now() + 5000); i++) await world.advance(100);
    all.push(world.open());
    await world.advance(100);
    assert.ok(times()[0] > Date.now(), `${times()}`);
    assert.equal(new Set(times()).size, 1, `${times()}`);
    await world.advance(times()[0] - Date.now() - 1);
    assert.equal(new Set(times()).size, 1, `${times()}`);
    world.server.down = false;
    await world.advance(31_000);
    assert.deepEqual(times(), [null, null, null]);
    check();
    await end();
  });

  test("no tab takes over from a leader that is offline", async () => {
    const all = await tabs(3);
    const seen = new Set();
    all.forEach(({ room }, i) => room.on("state", ({ shared }) => seen.add(`${i} ${shared}`)));
    world.network.connect(false);
    await world.advance(600_000);
    assert.deepEqual([...seen].sort(), ["0 leading", "1 following", "2 following"]);
    for (const { room } of all) assert.equal(room.state.reason, "offline");
    world.network.connect(true);
    await world.advance(100);
    check();
    assert.equal(world.server.requests.length, 2);
    await end();
  });

  test("a new tab takes over from a leader that was frozen long ago without an event", async () => {
    const [leader] = await tabs(1);
    leader.stall();
    await messages(heartbeat * 2500 + 3000);
    const late = world.open({ lastEventIds: { lobby: "e1-0" } });
    await world.advance(6000);
    assert.deepEqual([late.received.length, late.resets], [world.lobby.seq, 0]);
    check();
    await end();
  });

  test("a frozen tab leaves the room and joins it again, also without `share`", async () => {
    const all = await tabs(2, { share: false });
    all[0].freeze();
    world.lobby.publish();
    await world.advance(60_000);
    assert.deepEqual([conns(), all[0].received, all[1].room.count], [[all[1]], [], 1]);
    all[0].wake();
    await world.advance(100);
    assert.deepEqual([all[0].received, all[1].room.count], [[1], 2]);
    check();
    await end();
  });

  for (const share of [true, false]) {
    test(`a prerendered tab joins when it is activated: share ${share}`, async () => {
      const [first] = await tabs(1);
      const tabs2 = [1, 2].map(() => world.open({ share, prerendering: true }));
      world.lobby.publish();
      await world.advance(60_000);
      assert.deepEqual([world.faults, conns(), first.room.count], [[], [first], 1]);
      assert.deepEqual(tabs2.map(({ room }) => room.state.connection), ["connecting", "connecting"]);
      tabs2[0].activate();
      tabs2[1].kill();
      await world.advance(100);
      assert.equal(first.room.count, share ? 1 : 2);
      check();
      await end();
    });
  }

  test("a discarded tab that is opened again receives the missed messages", async () => {
    const [leader, second] = await tabs(2);
    world.lobby.publish(2);
    await world.advance(10);
    leader.discard();
    world.lobby.publish(2);
    await world.advance(10);
    const again = world.open(world.discarded.pop());
    await world.advance(10);
    assert.deepEqual([second.received, again.received, again.resets], [[1, 2, 3, 4], [3, 4], 0]);
    check();
    await end();
  });

  const names = ["a", "b", "c", "d", "e", "f", "g"];
  const states = () => world.clients.map(({ room }) => room.state.reason ?? room.state.connection).sort();

  const pages = {
    "seven tabs": (share) => names.map((name) => world.open({ rooms: [name], share })),
    "one tab with seven rooms": (share) => [world.open({ rooms: names, share })],
  };
  for (const [layout, openPages] of Object.entries(pages)) {
    for (const share of [true, false]) {
      test(`over HTTP/1.1, five rooms are open, and the next opens when one closes: ${layout}, share ${share}`, async () => {
        use(1, load);
        openPages(share);
        await world.advance(60_000);
        assert.deepEqual(states(), ["connections", "connections", ...Array(5).fill("open")]);
        const [client] = world.clients.filter(({ room }) => room.state.connection === "open");
        for (const { room } of world.clients) {
          let sent = false;
          client.tab.run(() => room.send("hello").then(() => (sent = true)));
          await world.advance(1000);
          assert.ok(sent, `room ${room.name} is ${room.state.connection}`);
        }
        client.room.close();
        client.tab.clients.splice(client.tab.clients.indexOf(client), 1);
        await world.advance(100);
        assert.deepEqual(states(), ["connections", ...Array(5).fill("open")]);
        check();
        await end();
      });
    }
  }

  test("over HTTP/2, all rooms are open", async () => {
    use(1, load);
    world.network.protocol = "h2";
    for (const name of names) world.open({ rooms: [name] });
    await world.advance(10_000);
    assert.deepEqual(states(), Array(7).fill("open"));
    check();
    await end();
  });

  test("over HTTP/2, all rooms are open, even if the request for the protocol failed", async () => {
    use(1, load);
    world.network.protocol = "h2";
    world.open({ rooms: names.slice(2) });
    await world.advance(1000);
    world.server.down = true;
    world.open({ rooms: names });
    await world.advance(1000);
    world.server.down = false;
    await world.advance(30_000);
    assert.deepEqual(states(), Array(12).fill("open"));
    check();
    await end();
  });

  test("a follower takes over from a frozen leader that waits for a connection", async () => {
    use(1, load);
    world.open({ rooms: names.slice(2) });
    await world.advance(1000);
    const [leader, second] = [1, 2].map(() => world.open({ rooms: ["a"] }));
    await world.advance(1000);
    leader.stall();
    await world.advance(heartbeat * 2500 + 3000);
    assert.equal(second.room.state.shared, "leading");
    check();
    await end();
  });

  test("without Web Locks, the rooms of a page share the connections", async () => {
    Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true, writable: true });
    use(1, load);
    const tab = world.open({ rooms: names });
    await world.advance(60_000);
    assert.deepEqual(states(), ["connections", "connections", ...Array(5).fill("open")]);
    const [{ room }] = tab.clients;
    tab.run(() => room.close());
    await world.advance(100);
    assert.deepEqual(states(), ["closed", "connections", ...Array(5).fill("open")]);
    await end();
  });

  test("a paused room does not share a connection", async () => {
    const [leader, next] = await tabs(2);
    leader.run(() => leader.room.pause());
    await world.advance(100);
    assert.deepEqual(roles([leader, next]), [null, "leading"]);
    leader.run(() => leader.room.resume());
    await world.advance(100);
    assert.deepEqual(roles([leader, next]), ["following", "leading"]);
    check();
    await end();
  });

  test("messages that another script posts to the tabs do no harm", async () => {
    const [leader, next] = await tabs(2);
    const [{ name }] = world.channels;
    const script = leader.run(() => new BroadcastChannel(name));
    const posted = [
      null, 1, "x", {}, { kind: "hello" }, { kind: "event", term: 1 }, { kind: "event", term: 1, event: null },
      { kind: "event", term: 1, prev: "", event: { name: "x" } }, { kind: "change", term: 2e12 }, { kind: "change", term: 2e12, change: null },
      { kind: "welcome", term: 3e12, to: "x" }, ...[NaN, Infinity, -Infinity, 1e300].map((term) => ({ kind: "lead", term })),
    ];
    for (const message of posted) script.postMessage(message);
    script.close();
    await world.advance(heartbeat * 2500 + 3000);
    const leaders = () => [leader, next].filter(({ room }) => room.state.shared === "leading");
    assert.equal(leaders().length, 1);
    const [before] = leaders();
    await messages(10_000);
    assert.deepEqual(leaders(), [before]);
    for (const tab of [leader, next]) assert.deepEqual([tab.received.length, tab.resets], [10, 0]);
    check();
    await end();
  });

  test("a new tab takes over from a leader that hangs, and no tab loses a message", async () => {
    const [leader, second] = await tabs(2);
    leader.hung = true;
    world.lobby.publish(3);
    const late = world.open();
    await world.advance(7000);
    check();
    assert.deepEqual([second.received, second.resets, late.resets], [[1, 2, 3], 0, 0]);
    await end();
  });

  test("a hung tab that lost the lock without noticing stops leading when it resumes", async () => {
    const [leader, second, third] = await tabs(3);
    second.hung = true;
    leader.kill();
    await world.advance(heartbeat * 2500 + 6000);
    assert.deepEqual(roles([third]), ["leading"]);
    second.wake(); // the tab now acts as leader
    await world.advance(1000);
    world.lobby.changeOther();
    await world.advance(0);
    check();
    assert.deepEqual(conns(), [third]);
    await end();
  });

  test("one tab leads after several takeovers in one millisecond, with a clock that was set back", async () => {
    const all = await tabs(5);
    world.clockOffset = -3_600_000;
    for (const tab of all.slice(0, 3)) {
      tab.close();
      for (let tasks = 8; tasks > 0; tasks--) await world.step();
    }
    await world.advance(500);
    check();
    await end();
  });

  test("after a final goodbye, all tabs close and none takes over", async () => {
    for (const reason of ["removed", "signed out"]) {
      const all = await tabs(4);
      world.server.goodbye(reason, 403);
      await world.advance(60_000);
      for (const { room } of all) assert.deepEqual([room.state.connection, room.state.reason], ["closed", reason]);
      assert.equal(world.server.requests.length, 1);
      await end();
    }
  });

  test("a tab whose token expires or is rejected closes, and another tab tries its own token", async () => {
    const all = await tabs(4);
    const [leader] = world.leaders;
    world.server.goodbye("expired", null);
    await world.advance(1000);
    assert.deepEqual([leader.room.state.connection, leader.room.state.reason], ["closed", "expired"]);
    assert.deepEqual(all.map(({ room }) => room.state.connection).sort(), ["closed", "open", "open", "open"]);
    world.server.goodbye("expired", 401);
    await world.advance(60_000);
    const ends = all.map(({ room }) => `${room.state.connection} ${room.state.reason} ${room.state.problem?.status ?? ""}`).sort();
    assert.deepEqual(ends, ["closed expired ", "closed expired ", "closed refused 401", "closed refused 401"]);
    await end();
  });

  test("a tab with a valid token keeps trying after the token of another tab has expired", async () => {
    for (let seed = 1; seed <= 10; seed++) {
      const all = await tabs(2, {}, seed);
      world.server.goodbye("expired", null);
      world.server.down = true;
      await world.advance(60_000);
      world.server.down = false;
      await world.advance(60_000);
      assert.deepEqual(all.map(({ room }) => room.state.connection), ["closed", "open"]);
      await end();
    }
  });

  test("only the leader renews its token", async () => {
    let n = 0;
    const all = await tabs(3, { token: () => `${token}${++n}` });
    assert.equal(n, 3, "each tab has its own token");
    await world.advance(10_000);
    world.lobby.each("expiring", { in: 30 }, "");
    await world.advance(0);
    assert.equal(n, 4);
    assert.deepEqual(world.server.requests, [`GET /events Bearer ${token}1`, `POST /session Bearer ${token}4`]);
    assert.deepEqual(all.map(({ room }) => room.state.expiring), [null, null, null]);
    await end();
  });

  test("a tab that takes over does not apply earlier changes to the new sync", async () => {
    const [script] = await tabs(1, { rooms: ["other"] });
    const key = "presence 2 https://example.com/ lobby alice";
    script.run(() => navigator.locks.request(key, {}, () => new Promise(() => {})).catch(() => {}));
    await world.advance(10);
    const tab = world.open();
    await world.advance(10);
    const leave = { name: "leave", text: JSON.stringify({ id: "bob", name: "Bob", info: {}, connections: 1, users: 1, reason: "closed" }), id: "" };
    const channel = script.run(() => new BroadcastChannel(key));
    script.run(() => {
      channel.postMessage({ kind: "lead", term: Date.now() });
      channel.postMessage({ kind: "event", term: Date.now(), prev: "", event: leave });
    });
    await world.advance(10);
    assert.deepEqual([tab.room.state.connection, tab.room.state.waiting.length], ["connecting", 1]);
    await world.advance(3000);
    assert.deepEqual([tab.room.state.shared, tab.room.members.has("bob")], ["leading", true]);
    script.run(() => channel.close());
    await end();
  });

  test("tabs without a cookie share the connection after the callback has renewed it", async () => {
    use(1, load);
    world.server.cookie = false;
    const all = [];
    for (let i = 0; i < 3; i++) {
      all.push(world.open({ token: undefined, renew: () => token }));
      await world.advance(100);
    }
    assert.deepEqual(roles(all), ["leading", "following", "following"]);
    assert.deepEqual(world.server.requests.filter((request) => request.startsWith("POST /session")).length, 1);
    check();
    await end();
  });

  test("without Web Locks, each tab has its own connection", async () => {
    Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true, writable: true });
    const all = await tabs(3);
    world.lobby.publish();
    await world.advance(0);
    assert.deepEqual([roles(all), conns()], [[null, null, null], all]);
    for (const { received } of all) assert.deepEqual(received, [1]);
    await end();
  });

  for (const [what, replace] of Object.entries({
    "each lock": () => {
      const locks = { query: async () => ({}), request: () => Promise.reject(new DOMException("no access", "SecurityError")) };
      Object.defineProperty(globalThis, "navigator", { value: { onLine: true, locks }, configurable: true });
    },
    "each channel": () => {
      globalThis.BroadcastChannel = class {
        constructor() {
          throw new DOMException("no access", "SecurityError");
        }
      };
    },
  })) {
    test(`if the browser rejects ${what}, each tab has its own connection`, async () => {
      replace();
      const all = await tabs(3);
      assert.deepEqual([roles(all), conns()], [[null, null, null], all]);
      await end();
    });
  }

  test("a listener may close the room at the first state", async () => {
    for (const role of ["leading", "following", null]) {
      await tabs(1);
      if (role === "leading") world.pick(world.tabs).close();
      await world.advance(0);
      const tab = world.open();
      tab.room.on("state", ({ shared }) => shared === role && tab.room.close());
      await world.advance(100);
      assert.equal(tab.room.state.connection, role === null ? "open" : "closed");
      await end();
    }
  });

  test("a lock request that fails in an inactive document is not repeated", async () => {
    const [tab] = await tabs(1);
    let requests = 0;
    const { request } = navigator.locks;
    navigator.locks.request = async (name, ...args) => {
      if (!name.startsWith("presence 2 ")) return request(name, ...args);
      requests++;
      throw new DOMException("not active", "InvalidStateError");
    };
    const late = world.open();
    late.run(() => {});
    await world.advance(100);
    assert.equal(requests, 1);
    assert.equal(tab.room.state.connection, "open");
    await end();
  });
});
