// Tests of share: true in a simulated browser. Tabs are opened, closed, killed, hung, and kept in
// the back/forward cache, and the server fails in as many ways. Every action is a task in a queue.
// A random seed decides which queue runs next. A failure prints the seed; to repeat it, run
// `TABS_SEED=7 node --test web/tabs.test.js`. Run all tests with `node --test web/*.test.js`.
import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { afterEach, beforeEach, describe, test } from "node:test";
import { join } from "./presence.js";
import { alice, bob } from "./testing.js";

const runs = 300;
const steps = 100;
const heartbeat = 15;

const token = `.${btoa(JSON.stringify({ sub: "alice" }))}.`;

const { setImmediate } = globalThis;
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** The tab whose code is running. */
const here = new AsyncLocalStorage();

/** Returns a Mulberry32 generator of numbers from 0 to 1. */
function randomOf(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * The simulation: tasks and time. Tasks of one queue keep their order. Tasks of a hung tab wait. A
 * dead tab has none.
 */
class World {
  now = 0;
  put = 0; // offset of the wall clock
  queues = new Map();
  timers = new Map();
  last = 0;
  tabs = [];
  channels = new Set();
  faults = [];
  trace = [];

  constructor(seed) {
    this.seed = seed;
    this.random = randomOf(seed);
    this.locks = new Locks(this);
    this.server = new Server(this);
  }

  below = (n) => Math.floor(this.random() * n);
  one = (list) => list[this.below(list.length)];

  /** @param {Tab|null} tab  The tab that runs it. null: the browser or the server. */
  post(name, tab, fn) {
    let queue = this.queues.get(name);
    if (!queue) this.queues.set(name, (queue = { tab, tasks: [] }));
    queue.tasks.push(fn);
  }

  waiting = (name) => this.queues.get(name)?.tasks.length ?? 0;

  timer(tab, ms, fn) {
    this.timers.set(++this.last, { tab, at: this.now + Math.max(0, ms), fn });
    return this.last;
  }

  // Runs one task or due timer. Returns false if there is none.
  async step() {
    const ready = [];
    for (const [name, { tab, tasks }] of this.queues) if (tasks.length > 0 && !tab?.hung) ready.push(name);
    const due = new Map(); // a tab's timers keep their order
    for (const [id, { tab, at }] of this.timers) {
      if (at <= this.now && !tab?.hung && !(at >= this.timers.get(due.get(tab))?.at)) due.set(tab, id);
    }
    ready.push(...due.values());
    if (ready.length === 0) return false;
    const next = this.one(ready);
    if (typeof next === "number") {
      const { tab, fn } = this.timers.get(next);
      this.timers.delete(next);
      here.run(tab, fn);
    } else {
      const { tab, tasks } = this.queues.get(next);
      const fn = tasks.shift();
      if (tasks.length === 0) this.queues.delete(next);
      here.run(tab, fn);
    }
    await settled();
    return true;
  }

  async calm() {
    await settled();
    for (let tasks = 0; await this.step(); tasks++) {
      if (tasks > 50_000) throw new Error(`more than 50000 tasks: ${[...this.queues.keys()]}`);
    }
  }

  async advance(ms) {
    const end = this.now + ms;
    for (;;) {
      await this.calm();
      let at = Infinity;
      for (const timer of this.timers.values()) if (!timer.tab?.hung) at = Math.min(at, timer.at);
      if (at > end) break;
      this.now = at;
    }
    this.now = end;
  }

  note(...words) {
    this.trace.push([this.now, ...words].join(" "));
  }

  fault(...words) {
    this.note("FAULT", ...words);
    this.faults.push(words.join(" "));
  }

  get live() {
    return this.tabs.filter((tab) => !tab.hung);
  }

  get leaders() {
    return this.live.filter(({ room }) => room.state.shared === "leading");
  }

  open(options) {
    const tab = new Tab(this, options);
    this.tabs.push(tab);
    return tab;
  }

  /** Checks the state that all tabs and the server must have at rest. */
  check() {
    const { server } = this;
    const leaders = this.leaders.map(({ id }) => id);
    if (leaders.length !== 1) this.fault(`leaders: ${leaders}, want one`);
    const conns = [...server.conns].filter(({ tab }) => !tab.hung).map(({ tab }) => tab.id);
    if (conns.length !== 1) this.fault(`connections of tabs: ${conns}, want one`);
    const want = { connection: "open", place: server.place, count: server.count, ...server.snapshot(), received: server.place };
    for (const { id, room, at } of this.live) {
      const { connection, lastEventId: place, count, users } = room.state;
      const members = [...room.members.values()].map(({ id, name, info }) => ({ id, name, info }));
      members.sort((a, b) => (a.id < b.id ? -1 : 1));
      const got = { connection, place, count, users, members, received: at };
      const [g, w] = [JSON.stringify(got), JSON.stringify(want)];
      if (g !== w) this.fault(`tab ${id} has\n${g}, want\n${w}`);
    }
  }

  /** Closes all tabs, and checks that nothing is left. */
  async end() {
    for (const tab of [...this.tabs]) {
      tab.wake();
      tab.close();
    }
    await this.advance(1000);
    const timers = [...this.timers.values()].filter(({ tab }) => tab).length;
    const { channels, locks, server } = this;
    const left = { timers, channels: channels.size, held: locks.held.size, pending: locks.pending.length, connections: server.conns.size };
    const want = { timers: 0, channels: 0, held: 0, pending: 0, connections: 0 };
    if (JSON.stringify(left) !== JSON.stringify(want)) this.fault("left behind:", JSON.stringify(left));
  }
}

/** A tab, with the messages and resets that its room has delivered. */
class Tab {
  hung = false;
  page = new EventTarget();
  at = null; // position up to which it has received every message since `from`
  from = null;
  received = [];
  resets = 0;

  constructor(world, options) {
    this.world = world;
    this.id = ++world.last;
    here.run(this, () => {
      this.room = join({ url: "https://example.com/", share: true, token, ...options });
      const listen = (name) => this.room.on(name, (message) => this.receive(message));
      listen("message");
      listen("chat message");
      listen("__proto__");
      this.room.on("sync", () => (this.at ??= this.from = this.room.lastEventId));
      this.room.on("reset", () => this.reset());
    });
  }

  receive({ id, data }) {
    const [, epoch, seq] = /^(.*)-(\d+)$/.exec(id);
    const { at, world } = this;
    if (at !== null && id !== `${at.split("-")[0]}-${Number(at.split("-")[1]) + 1}`) world.fault(`tab ${this.id} received ${id} after ${at}`);
    this.from ??= `${epoch}-${seq - 1}`;
    this.at = id;
    this.received.push(data);
  }

  reset() {
    const { at, world, room } = this;
    this.resets++;
    world.note(`tab ${this.id} at ${at} receives reset ${room.lastEventId}`);
    if (at !== null) {
      const [leader] = world.leaders;
      const has = leader !== this && leader?.from && covers(leader.from, at) && covers(room.lastEventId, leader.at);
      // A leader that hung during a server restart may report on the earlier server, until it
      // catches up.
      const restarted = at.split("-")[0] !== room.lastEventId.split("-")[0];
      if (!restarted && (world.server.covers(at) || has)) world.fault(`tab ${this.id} at ${at} received a needless reset`);
    }
    this.at = this.from = room.lastEventId;
  }

  run(fn) {
    return here.run(this, fn);
  }

  close() {
    this.run(() => this.room.close());
    this.gone();
  }

  gone() {
    this.world.tabs.splice(this.world.tabs.indexOf(this), 1);
  }

  /** Ends without notice. Messages that it has sent are still delivered. */
  kill() {
    const { world } = this;
    this.gone();
    for (const [name, { tab }] of world.queues) if (tab === this) world.queues.delete(name);
    for (const [id, { tab }] of world.timers) if (tab === this) world.timers.delete(id);
    for (const channel of world.channels) if (channel.tab === this) world.channels.delete(channel);
    this.hung = this.dead = true; // ignore later tasks
    world.post(`${this.id} to locks`, null, () => world.locks.drop((lock) => lock.tab === this));
    world.post(`${this.id} to server`, null, () => world.server.drop((conn) => conn.tab === this));
  }

  /** Moves to the back/forward cache. */
  leave() {
    this.dispatch("pagehide");
    this.hung = this.kept = true;
  }

  wake() {
    this.hung = false;
    if (this.kept) this.dispatch("pageshow");
    this.kept = false;
  }

  dispatch(name) {
    this.run(() => this.page.dispatchEvent(Object.assign(new Event(name), { persisted: true })));
  }
}

/** Reports whether a client with the messages from position `a` on has those after position `b`. */
function covers(a, b) {
  const [[epoch, from], [other, to]] = [a.split("-"), b.split("-")];
  return epoch === other && Number(from) <= Number(to);
}

/**
 * Web Locks: https://w3c.github.io/web-locks/. The lock manager belongs to the browser: requests to
 * it and its replies are tasks.
 */
class Locks {
  held = new Map();
  pending = [];

  constructor(world) {
    this.world = world;
  }

  request(name, options, run) {
    const { world } = this;
    const { signal, steal = false } = options;
    const tab = here.getStore();
    const toLocks = (fn) => world.post(`${tab.id} to locks`, null, fn);
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const lock = { tab, name, granted: false, aborted: false };
      signal?.addEventListener("abort", () => {
        if (lock.granted) return;
        lock.aborted = true;
        reject(signal.reason);
        toLocks(() => this.drop((other) => other === lock));
      });
      lock.stolen = () => reject(new DOMException("stolen", "AbortError"));
      lock.grant = async () => {
        if (lock.aborted) return;
        lock.granted = true;
        await Promise.resolve(run({ name })).then(resolve, reject);
        toLocks(() => this.drop((other) => other === lock));
      };
      toLocks(() => this.add(lock, steal));
    });
  }

  query() {
    const tab = here.getStore();
    return new Promise((resolve) => this.world.post(`locks to ${tab.id}`, tab, () => resolve({ held: [], pending: [] })));
  }

  add(lock, steal) {
    const holder = steal ? this.held.get(lock.name) : undefined;
    if (holder) {
      this.held.delete(lock.name);
      if (!holder.tab.dead) this.world.post(`locks to ${holder.tab.id}`, holder.tab, holder.stolen);
    }
    if (steal) this.pending.unshift(lock);
    else this.pending.push(lock);
    this.serve();
  }

  drop(which) {
    this.pending = this.pending.filter((lock) => !which(lock));
    for (const [name, lock] of this.held) if (which(lock)) this.held.delete(name);
    this.serve();
  }

  serve() {
    this.pending = this.pending.filter((lock) => {
      if (this.held.has(lock.name)) return true;
      this.held.set(lock.name, lock);
      if (!lock.tab.dead) this.world.post(`locks to ${lock.tab.id}`, lock.tab, lock.grant);
      return false;
    });
  }
}

/**
 * A BroadcastChannel. The messages of one tab reach each other tab in order, but at different
 * times.
 */
class Channel {
  onmessage = null;

  constructor(name) {
    this.name = name;
    this.tab = here.getStore();
    this.world = this.tab.world;
    this.id = ++this.world.last;
    this.world.channels.add(this);
  }

  postMessage(data) {
    if (!this.world.channels.has(this)) throw new DOMException("closed", "InvalidStateError");
    for (const other of this.world.channels) {
      if (other === this || other.name !== this.name) continue;
      const copy = structuredClone(data);
      this.world.post(`${this.id} to channel ${other.id}`, other.tab, () => {
        if (this.world.channels.has(other)) other.onmessage?.({ data: copy });
      });
    }
  }

  close() {
    this.world.channels.delete(this);
  }
}

/** The server, as the protocol describes a room's stream, for one room and one user. */
class Server {
  epoch = 1;
  seq = 0;
  history = []; // its messages
  most = 1000;
  unsent = 500; // events
  conns = new Set();
  others = new Map([["bob", { ...bob }]]); // members
  elsewhere = 0; // their connections
  down = false;
  asked = []; // "GET /session"
  refusal = null; // a status

  constructor(world) {
    this.world = world;
    const ping = () => {
      this.each("ping", {}, "");
      world.timer(null, heartbeat * 1000, ping);
    };
    ping();
  }

  get place() {
    return `e${this.epoch}-${this.seq}`;
  }

  get count() {
    return this.conns.size + this.elsewhere;
  }

  covers(id) {
    return covers(`e${this.epoch}-${this.seq - this.history.length}`, id) && covers(id, this.place);
  }

  snapshot() {
    const members = [alice, ...this.others.values()].map(({ id, name, info }) => ({ id, name, info }));
    members.sort((a, b) => (a.id < b.id ? -1 : 1));
    return { users: members.length, members };
  }

  // The fetch() of the browser.
  fetch(address, { method = "GET", signal, headers } = {}) {
    const { world } = this;
    const tab = here.getStore();
    const url = new URL(address);
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const ask = { tab, id: ++world.last, over: false };
      ask.answer = (status, more) => {
        if (tab.dead) return;
        const answer = { status, ok: status < 300, statusText: "", headers: new Headers({ "Content-Type": more?.type ?? "application/json" }), ...more };
        world.post(`server to ${tab.id} ${ask.id}`, tab, () => (status === 0 ? reject(new TypeError("no answer")) : resolve(answer)));
      };
      signal?.addEventListener("abort", () => {
        ask.over = true;
        reject(signal.reason);
        ask.body?.fail(signal.reason);
        world.post(`${tab.id} to server`, null, () => this.drop((conn) => conn === ask));
      });
      world.post(`${tab.id} to server`, null, () => {
        this.asked.push(`${method} ${url.pathname} ${headers?.Authorization ?? new Headers(headers).get("Authorization")}`);
        if (this.down) ask.answer(0);
        else if (this.refusal) ask.answer(this.refusal, { json: async () => ({ title: "no" }) });
        else if (url.pathname === "/session") ask.answer(method === "GET" ? 200 : 204, { json: async () => ({ user: { id: "alice" } }) });
        else if (url.pathname === "/events") this.enter(ask, url.searchParams.get("last_event_id") ?? "");
        else ask.answer(404, { json: async () => ({}) });
      });
    });
  }

  enter(ask, held) {
    ask.body = new Body();
    ask.answer(200, { type: "text/event-stream", body: ask.body });
    if (this.world.random() < 0.5) this.write(ask, "retry: 1500\n\n");
    this.conns.add(ask);
    if (held !== "" && !this.covers(held)) this.emit(ask, "reset", { reason: "history" }, this.place);
    else if (held !== "") for (const { name, data, id } of this.history) if (!covers(id, held)) this.emit(ask, name, data, id);
    const members = [alice, ...this.others.values()];
    this.emit(ask, "sync", { connections: this.count, users: members.length, members, complete: true, heartbeat }, this.place);
    this.counted();
  }

  counted() {
    this.each("user count", this.count, this.place);
  }

  write(conn, text) {
    const name = `server to ${conn.tab.id} ${conn.id}`;
    if (conn.tab.dead) return;
    const at = this.world.below(text.length); // it arrives in pieces
    for (const piece of [text.slice(0, at), text.slice(at)]) this.world.post(name, conn.tab, () => conn.body.take(piece));
  }

  emit(conn, name, data, id) {
    this.write(conn, `${id ? `id: ${id}\n` : ""}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  each(name, data, id = this.place) {
    const slow = [];
    for (const conn of this.conns) {
      if (this.world.waiting(`server to ${conn.tab.id} ${conn.id}`) > 2 * this.unsent) slow.push(conn);
      else this.emit(conn, name, data, id);
    }
    for (const conn of slow) {
      this.emit(conn, "goodbye", { reason: "slow" });
      this.cut(conn);
    }
  }

  publish(n = 1) {
    for (; n > 0; n--) {
      this.seq++;
      const name = this.world.one(["message", "chat message", "__proto__"]);
      const data = { id: this.place, data: this.seq, at: "2026-01-02T03:04:05Z" };
      this.history.push({ name, data, id: this.place });
      if (this.history.length > this.most) this.history.shift();
      this.each(name, data);
    }
  }

  /** Another user joins, leaves, or changes its info. */
  stir() {
    const id = this.world.one(["bob", "carol", "__proto__", "dora"]);
    const member = this.others.get(id);
    const n = this.world.below(100);
    if (!member) {
      this.others.set(id, { id, name: id, info: { n }, connections: 1 });
      this.elsewhere++;
      this.each("join", { id, name: id, info: { n }, connections: this.count, users: this.others.size + 1 });
      this.counted();
    } else if (n < 50) {
      this.others.set(id, { ...member, info: { n } });
      this.each("update", { id, info: { n } });
    } else {
      this.others.delete(id);
      this.elsewhere = Math.max(0, this.elsewhere - 1);
      this.each("leave", { id, name: id, info: {}, connections: this.count, users: this.others.size + 1, reason: "closed" });
      this.counted();
    }
  }

  /** Ends these connections on the server's side. */
  drop(which) {
    const before = this.conns.size;
    for (const conn of this.conns) if (which(conn)) this.conns.delete(conn);
    if (this.conns.size !== before) this.counted();
  }

  /** Ends the connection on both sides. With `unseen` the tab does not notice. */
  cut(conn, unseen = false) {
    this.conns.delete(conn);
    const name = `server to ${conn.tab.id} ${conn.id}`;
    if (unseen) this.world.queues.delete(name);
    else if (!conn.tab.dead) this.world.post(name, conn.tab, () => conn.body.fail(new TypeError("network error")));
    this.counted();
  }

  fall() {
    this.down = true;
    for (const conn of [...this.conns]) this.cut(conn);
  }

  restart() {
    for (const conn of [...this.conns]) this.cut(conn);
    this.epoch++;
    this.seq = this.world.below(3);
    this.history = [];
  }

  goodbye(reason, refusal) {
    this.each("goodbye", { reason }, "");
    this.refusal = refusal;
    for (const conn of [...this.conns]) this.cut(conn);
  }
}

/** A response body, as far as presence.js reads it. */
class Body {
  chunks = [];
  error = null;
  wait = null;

  pipeThrough() {
    return { getReader: () => ({ read: () => this.read() }) };
  }

  read() {
    return new Promise((resolve, reject) => {
      if (this.chunks.length > 0) resolve({ value: this.chunks.shift() });
      else if (this.error) reject(this.error);
      else this.wait = { resolve, reject };
    });
  }

  take(text) {
    if (this.error) return;
    if (this.wait) this.wait.resolve({ value: text });
    else this.chunks.push(text);
    this.wait = null;
  }

  fail(error) {
    this.error ??= error;
    this.wait?.reject(error);
    this.wait = null;
  }
}

let world;
const real = {};

function use(seed) {
  world = new World(seed);
  Math.random = world.random;
  Date.now = () => 1_767_319_445_000 + world.now + world.put;
  return world;
}

beforeEach(() => {
  for (const name of ["setTimeout", "clearTimeout", "fetch", "BroadcastChannel", "navigator", "addEventListener", "EventSource"]) {
    real[name] = Object.getOwnPropertyDescriptor(globalThis, name);
  }
  Object.assign(real, { random: Math.random, now: Date.now, timeout: AbortSignal.timeout });
  const fakes = {
    setTimeout: (fn, ms = 0, ...args) => world.timer(here.getStore(), ms, () => fn(...args)),
    clearTimeout: (id) => world.timers.delete(id),
    fetch: (url, options) => world.server.fetch(url, options),
    BroadcastChannel: Channel,
    navigator: { onLine: true, locks: { request: (...args) => world.locks.request(...args), query: () => world.locks.query() } },
    addEventListener: (...args) => here.getStore().page.addEventListener(...args),
    EventSource: undefined,
  };
  for (const [name, value] of Object.entries(fakes)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  AbortSignal.timeout = () => new AbortController().signal; // this server never responds late
});

afterEach(() => {
  const { random, now, timeout, ...globals } = real;
  Math.random = random;
  Date.now = now;
  AbortSignal.timeout = timeout;
  for (const [name, descriptor] of Object.entries(globals)) {
    if (descriptor) Object.defineProperty(globalThis, name, descriptor);
    else delete globalThis[name];
  }
});

/** The random actions, with their weights. */
const moves = [
  [30, "a message", () => world.server.publish()],
  [3, "messages", () => world.server.publish(1 + world.below(world.one([10, 60, 150])))],
  [10, "somebody else", () => world.server.stir()],
  [25, "time", () => world.advance(world.below(50))],
  [6, "more time", () => world.advance(world.below(8000))],
  [2, "much time", () => world.advance(world.below(60_000))],
  [10, "open", () => world.tabs.length < 7 && world.open()],
  [5, "close", () => world.live.length > 0 && world.one(world.live).close()],
  [2, "close the leader", () => world.leaders[0]?.close()],
  [4, "kill", () => world.tabs.length > 0 && world.one(world.tabs).kill()],
  [2, "kill the leader", () => world.leaders[0]?.kill()],
  [4, "hang", () => world.live.length > 0 && (world.one(world.live).hung = true)],
  [3, "hang the leader", () => world.leaders[0] && (world.leaders[0].hung = true)],
  [2, "leave", () => world.live.length > 0 && world.one(world.live).leave()],
  [9, "wake", () => world.one(world.tabs.filter(({ hung }) => hung))?.wake()],
  [4, "cut", () => world.server.conns.size > 0 && world.server.cut(world.one([...world.server.conns]))],
  [2, "cut unseen", () => world.server.conns.size > 0 && world.server.cut(world.one([...world.server.conns]), true)],
  [2, "down", () => world.server.fall()],
  [8, "up", () => (world.server.down = false)],
  [2, "restart", () => world.server.restart()],
  [1, "the clock is put", () => (world.put += world.one([-1, 1]) * world.one([1, 1000, 3_600_000]))],
  [1, "rest", () => rest()],
];
const allMoves = moves.flatMap(([weight, name, move]) => Array(weight).fill({ name, move }));

async function rest() {
  world.server.down = false;
  if (world.live.length === 0) world.open();
  await world.advance(150_000);
  world.check();
}

async function run(seed) {
  use(seed);
  world.server.most = world.one([5, 50, 1000]);
  world.server.unsent = world.one([40, 500]);
  for (let i = 0; i < steps && world.faults.length === 0; i++) {
    const { name, move } = world.one(allMoves);
    world.note(name);
    await move();
    await settled();
    for (let tasks = world.below(12); tasks > 0 && (await world.step()); tasks--);
  }
  if (world.faults.length === 0) {
    for (const tab of world.tabs) tab.wake();
    await rest();
  }
  if (world.faults.length === 0) await world.end();
  return world.faults;
}

test("every tab receives all messages once and in order, under any faults", async () => {
  const { TABS_SEED, TABS_RUNS } = process.env;
  const first = Number(TABS_SEED ?? Math.floor(Math.random() * 2 ** 31));
  const last = first + Number(TABS_RUNS ?? (TABS_SEED ? 1 : runs));
  for (let seed = first; seed < last; seed++) {
    const faults = await run(seed);
    assert.deepEqual(faults, [], `TABS_SEED=${seed}:\n${world.trace.join("\n")}`);
  }
});

describe("a scenario with", () => {
  /** Returns `n` tabs in a new world. All follow the first one. */
  async function tabs(n, options) {
    use(1);
    const all = [];
    for (; n > 0; n--) {
      all.push(world.open(options));
      await world.advance(100);
    }
    return all;
  }

  const roles = (all) => all.map(({ room }) => room.state.shared);
  const conns = () => [...world.server.conns].map(({ tab }) => tab);

  async function over() {
    await world.end();
    assert.deepEqual(world.faults, []);
  }

  test("a late tab, which gets the missed messages without a request to the server", async () => {
    const [leader] = await tabs(1);
    world.server.publish(5);
    await world.advance(10);
    const late = world.open();
    const older = world.open({ lastEventId: "e1-3" });
    await world.advance(10);
    assert.deepEqual([leader, late, older].map(({ received }) => received), [[1, 2, 3, 4, 5], [], [4, 5]]);
    world.check();
    assert.deepEqual(world.server.asked, [`GET /events Bearer ${token}`]);
    await over();
  });

  test("a tab behind the leader's kept messages: it takes over, as the server has the rest", async () => {
    const [leader] = await tabs(1);
    world.server.publish(150);
    await world.advance(10);
    const older = world.open({ lastEventId: "e1-10" });
    await world.advance(10);
    assert.deepEqual([older.received.length, older.resets, leader.received.length], [140, 0, 150]);
    assert.deepEqual(roles([leader, older]), ["following", "leading"]);
    world.check();
    await over();
  });

  for (const how of ["close", "kill", "leave"]) {
    test(`a follower that takes over at once: ${how}`, async () => {
      const [leader, next, last] = await tabs(3);
      world.server.publish(2);
      await world.advance(0);
      leader[how]();
      world.server.publish(2);
      await world.advance(0);
      world.server.publish(2);
      await world.advance(0);
      assert.deepEqual(roles([next, last]), ["leading", "following"]);
      for (const { received, resets } of [next, last]) assert.deepEqual([received, resets], [[1, 2, 3, 4, 5, 6], 0]);
      assert.deepEqual(conns(), [next]);
      world.check();
      leader.wake();
      await world.advance(0);
      await over();
    });
  }

  test("a leader that hangs and resumes", async () => {
    const [leader, second, third] = await tabs(3);
    leader.hung = true;
    world.server.publish(3);
    await world.advance(heartbeat * 2500 + 6000);
    assert.equal(conns().length, 2);
    world.check();
    assert.deepEqual([second.received, third.received], [[1, 2, 3], [1, 2, 3]]);
    leader.wake();
    await world.advance(300);
    assert.deepEqual([leader.received, leader.room.state.shared], [[1, 2, 3], "following"]);
    world.check();
    await over();
  });

  test("a new tab next to a leader that hangs: it takes over, and other tabs lose nothing", async () => {
    const [leader, second] = await tabs(2);
    leader.hung = true;
    world.server.publish(3);
    const late = world.open();
    await world.advance(7000);
    world.check();
    assert.deepEqual([second.received, second.resets, late.resets], [[1, 2, 3], 0, 0]);
    await over();
  });

  test("a hung tab that got the lock and lost it without noticing", async () => {
    const [leader, second, third] = await tabs(3);
    second.hung = true;
    leader.kill();
    await world.advance(heartbeat * 2500 + 6000);
    assert.deepEqual(roles([third]), ["leading"]);
    second.wake(); // it acts as leader
    await world.advance(1000);
    world.server.stir();
    await world.advance(0);
    world.check();
    assert.deepEqual(conns(), [third]);
    await over();
  });

  test("leads that begin in one millisecond, and a clock that is set back", async () => {
    const all = await tabs(5);
    world.put = -3_600_000;
    for (const tab of all.slice(0, 3)) {
      tab.close();
      for (let tasks = 8; tasks > 0; tasks--) await world.step();
    }
    await world.advance(500);
    world.check();
    await over();
  });

  test("a final goodbye: all tabs close, and none takes over", async () => {
    for (const reason of ["removed", "signed out"]) {
      const all = await tabs(4);
      world.server.goodbye(reason, 403);
      await world.advance(60_000);
      for (const { room } of all) assert.deepEqual([room.state.connection, room.state.reason], ["closed", reason]);
      assert.equal(world.server.asked.length, 1);
      await over();
    }
  });

  test("a token that expires or is rejected: that tab closes, and another tries its own token", async () => {
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
    await over();
  });

  test("one renewal of the token for all tabs", async () => {
    let n = 0;
    const all = await tabs(3, { token: () => `${token}${++n}` });
    assert.equal(n, 3, "each has its own");
    await world.advance(10_000);
    world.server.each("expiring", { in: 30 }, "");
    await world.advance(0);
    assert.equal(n, 4);
    assert.deepEqual(world.server.asked, [`GET /events Bearer ${token}1`, "POST /session null"]);
    assert.deepEqual(all.map(({ room }) => room.state.expiring), [null, null, null]);
    await over();
  });

  test("a browser without locks: each tab has its own connection", async () => {
    Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true, writable: true });
    const all = await tabs(3);
    world.server.publish();
    await world.advance(0);
    assert.deepEqual([roles(all), conns()], [[null, null, null], all]);
    for (const { received } of all) assert.deepEqual(received, [1]);
    await over();
  });

  test("a listener that closes the room at the first state", async () => {
    for (const role of ["leading", "following", null]) {
      await tabs(1);
      if (role === "leading") world.one(world.tabs).close();
      await world.advance(0);
      const tab = world.open();
      tab.room.on("state", ({ shared }) => shared === role && tab.room.close());
      await world.advance(100);
      assert.equal(tab.room.state.connection, role === null ? "open" : "closed");
      await over();
    }
  });

  test("an inactive document: its lock requests fail, and are not repeated", async () => {
    const [tab] = await tabs(1);
    let asked = 0;
    navigator.locks.request = async () => {
      asked++;
      throw new DOMException("not active", "InvalidStateError");
    };
    const late = world.open();
    late.run(() => {});
    await world.advance(100);
    assert.equal(asked, 1);
    assert.equal(tab.room.state.connection, "open");
    await over();
  });
});
