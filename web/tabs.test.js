// Tests of `share: true` in a simulated browser. Tabs are opened, closed, killed, hung and kept in
// the back/forward cache, while the connection and the server fail. Every action is a task in a
// queue, and a random seed decides which queue runs next. If the test fails, it prints the seed. To
// repeat that run: `TABS_SEED=7 node --test web/tabs.test.js`. To run all tests: `node --test
// web/*.test.js`.
import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { afterEach, beforeEach, describe, test } from "node:test";
import { join } from "./presence/index.js";
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
 * The simulation, which runs tasks and timers. Tasks of one queue run in order. Tasks of a hung tab
 * wait until the tab resumes. A dead tab has no tasks.
 */
class World {
  now = 0;
  clockOffset = 0; // difference between Date.now() and the simulated time
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

  randomBelow = (n) => Math.floor(this.random() * n);
  pick = (list) => list[this.randomBelow(list.length)];

  /** @param {Tab|null} tab  The tab that runs the task. null means the browser or the server. */
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

  // Runs one task or one timer that is due. Returns false if there is none.
  async step() {
    const ready = [];
    for (const [name, { tab, tasks }] of this.queues) if (tasks.length > 0 && !tab?.hung) ready.push(name);
    // For each tab, only the first timer that is due is ready, because its timers run in order.
    const due = new Map();
    for (const [id, { tab, at }] of this.timers) {
      if (at <= this.now && !tab?.hung && !(at >= this.timers.get(due.get(tab))?.at)) due.set(tab, id);
    }
    ready.push(...due.values());
    if (ready.length === 0) return false;
    const next = this.pick(ready);
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

  async runTasks() {
    await settled();
    for (let tasks = 0; await this.step(); tasks++) {
      if (tasks > 50_000) throw new Error(`more than 50000 tasks: ${[...this.queues.keys()]}`);
    }
  }

  async advance(ms) {
    const end = this.now + ms;
    for (;;) {
      await this.runTasks();
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

  /** Checks that each tab has the state of the server, and that one tab holds the only connection. */
  check() {
    const { server } = this;
    const leaders = this.leaders.map(({ id }) => id);
    if (leaders.length !== 1) this.fault(`leaders: ${leaders}, want one`);
    const conns = [...server.conns].filter(({ tab }) => !tab.hung).map(({ tab }) => tab.id);
    if (conns.length !== 1) this.fault(`connections of tabs: ${conns}, want one`);
    const want = { connection: "open", position: server.position, count: server.count, ...server.snapshot(), received: server.position };
    for (const { id, room, at } of this.live) {
      const { connection, lastEventId: position, count, users } = room.state;
      const members = [...room.members.values()].map(({ id, name, info }) => ({ id, name, info }));
      members.sort((a, b) => (a.id < b.id ? -1 : 1));
      const got = { connection, position, count, users, members, received: at };
      const [g, w] = [JSON.stringify(got), JSON.stringify(want)];
      if (g !== w) this.fault(`tab ${id} has\n${g}, want\n${w}`);
    }
  }

  /** Closes all tabs, and checks that no timer, channel, lock or connection is left. */
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

/** A tab, and the messages and resets that its room has delivered. */
class Tab {
  hung = false;
  page = new EventTarget();
  at = null; // position up to which the tab has received every message since `from`
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
      // A leader that hung while the server restarted may send a reset of the old server, until it
      // has caught up.
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

  /** Kills the tab without notice. Messages that it has posted are still delivered. */
  kill() {
    const { world } = this;
    this.gone();
    for (const [name, { tab }] of world.queues) if (tab === this) world.queues.delete(name);
    for (const [id, { tab }] of world.timers) if (tab === this) world.timers.delete(id);
    for (const channel of world.channels) if (channel.tab === this) world.channels.delete(channel);
    this.hung = this.dead = true; // ignores later tasks
    world.post(`${this.id} to locks`, null, () => world.locks.drop((lock) => lock.tab === this));
    world.post(`${this.id} to server`, null, () => world.server.drop((conn) => conn.tab === this));
  }

  /** Moves the tab to the back/forward cache. */
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

/** Reports whether the messages after position `a` include all messages after position `b`. */
function covers(a, b) {
  const [[epoch, from], [other, to]] = [a.split("-"), b.split("-")];
  return epoch === other && Number(from) <= Number(to);
}

/**
 * A fake of the Web Locks API: https://w3c.github.io/web-locks/. The lock manager belongs to the
 * browser, so requests to it and its replies are tasks.
 */
class Locks {
  held = new Map();
  pending = [];

  constructor(world) {
    this.world = world;
  }

  request(name, options, run) {
    const { world } = this;
    const { signal, steal = false, ifAvailable = false } = options;
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
      lock.refuse = ifAvailable && (() => resolve(run(null)));
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
    return new Promise((resolve) => this.world.post(`locks to ${tab.id}`, tab, () => resolve({ held: [...this.held.values()].map(({ name }) => ({ name })) })));
  }

  add(lock, steal) {
    if (lock.refuse && this.held.has(lock.name)) {
      if (!lock.tab.dead) this.world.post(`locks to ${lock.tab.id}`, lock.tab, lock.refuse);
      return;
    }
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
 * A fake BroadcastChannel. The messages of one tab reach each other tab in order, but at different
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

/** A fake server for one room and one user. It sends the stream that the protocol describes. */
class Server {
  epoch = 1;
  seq = 0;
  history = []; // the kept messages
  maxHistory = 1000;
  maxUnsent = 500; // maximum unsent events per connection
  conns = new Set();
  others = new Map([["bob", { ...bob }]]); // members other than the user
  otherConnections = 0; // number of connections of these members
  down = false;
  requests = []; // requests received, such as "GET /session"
  refusal = null; // status with which every request is rejected, if any

  constructor(world) {
    this.world = world;
    const ping = () => {
      this.each("ping", {}, "");
      world.timer(null, heartbeat * 1000, ping);
    };
    ping();
  }

  get position() {
    return `e${this.epoch}-${this.seq}`;
  }

  get count() {
    return this.conns.size + this.otherConnections;
  }

  covers(id) {
    return covers(`e${this.epoch}-${this.seq - this.history.length}`, id) && covers(id, this.position);
  }

  snapshot() {
    const members = [alice, ...this.others.values()].map(({ id, name, info }) => ({ id, name, info }));
    members.sort((a, b) => (a.id < b.id ? -1 : 1));
    return { users: members.length, members };
  }

  // Replaces the browser's fetch().
  fetch(address, { method = "GET", signal, headers } = {}) {
    const { world } = this;
    const tab = here.getStore();
    const url = new URL(address);
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const req = { tab, id: ++world.last, over: false };
      req.respond = (status, more) => {
        if (tab.dead) return;
        const response = { status, ok: status < 300, statusText: "", headers: new Headers({ "Content-Type": more?.type ?? "application/json" }), ...more };
        world.post(`server to ${tab.id} ${req.id}`, tab, () => (status === 0 ? reject(new TypeError("no response")) : resolve(response)));
      };
      signal?.addEventListener("abort", () => {
        req.over = true;
        reject(signal.reason);
        req.body?.fail(signal.reason);
        world.post(`${tab.id} to server`, null, () => this.drop((conn) => conn === req));
      });
      world.post(`${tab.id} to server`, null, () => {
        this.requests.push(`${method} ${url.pathname} ${headers?.Authorization ?? new Headers(headers).get("Authorization")}`);
        if (this.down) req.respond(0);
        else if (this.refusal) req.respond(this.refusal, { json: async () => ({ title: "no" }) });
        else if (url.pathname === "/session") req.respond(method === "GET" ? 200 : 204, { json: async () => ({ user: { id: "alice" } }) });
        else if (url.pathname === "/events") this.enter(req, url.searchParams.get("last_event_id") ?? "");
        else req.respond(404, { json: async () => ({}) });
      });
    });
  }

  enter(req, held) {
    req.body = new Body();
    req.respond(200, { type: "text/event-stream", body: req.body });
    if (this.world.random() < 0.5) this.write(req, "retry: 1500\n\n");
    this.conns.add(req);
    if (held !== "" && !this.covers(held)) this.emit(req, "reset", { reason: "history" }, this.position);
    else if (held !== "") for (const { name, data, id } of this.history) if (!covers(id, held)) this.emit(req, name, data, id);
    const members = [alice, ...this.others.values()];
    this.emit(req, "sync", { connections: this.count, users: members.length, members, complete: true, heartbeat }, this.position);
    this.sendCount();
  }

  sendCount() {
    this.each("user count", this.count, this.position);
  }

  write(conn, text) {
    const name = `server to ${conn.tab.id} ${conn.id}`;
    if (conn.tab.dead) return;
    const at = this.world.randomBelow(text.length); // the text arrives in two pieces
    for (const piece of [text.slice(0, at), text.slice(at)]) this.world.post(name, conn.tab, () => conn.body.take(piece));
  }

  emit(conn, name, data, id) {
    this.write(conn, `${id ? `id: ${id}\n` : ""}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  each(name, data, id = this.position) {
    const slow = [];
    for (const conn of this.conns) {
      if (this.world.waiting(`server to ${conn.tab.id} ${conn.id}`) > 2 * this.maxUnsent) slow.push(conn);
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
      const name = this.world.pick(["message", "chat message", "__proto__"]);
      const data = { id: this.position, data: this.seq, at: "2026-01-02T03:04:05Z" };
      this.history.push({ name, data, id: this.position });
      if (this.history.length > this.maxHistory) this.history.shift();
      this.each(name, data);
    }
  }

  /** Makes another user join, leave or change its info. */
  changeOther() {
    const id = this.world.pick(["bob", "carol", "__proto__", "dora"]);
    const member = this.others.get(id);
    const n = this.world.randomBelow(100);
    if (!member) {
      this.others.set(id, { id, name: id, info: { n }, connections: 1 });
      this.otherConnections++;
      this.each("join", { id, name: id, info: { n }, connections: this.count, users: this.others.size + 1 });
      this.sendCount();
    } else if (n < 50) {
      this.others.set(id, { ...member, info: { n } });
      this.each("update", { id, info: { n } });
    } else {
      this.others.delete(id);
      this.otherConnections = Math.max(0, this.otherConnections - 1);
      this.each("leave", { id, name: id, info: {}, connections: this.count, users: this.others.size + 1, reason: "closed" });
      this.sendCount();
    }
  }

  /** Removes connections without notifying the tabs. */
  drop(which) {
    const before = this.conns.size;
    for (const conn of this.conns) if (which(conn)) this.conns.delete(conn);
    if (this.conns.size !== before) this.sendCount();
  }

  /** Closes a connection. With `unseen`, the tab does not notice. */
  cut(conn, unseen = false) {
    this.conns.delete(conn);
    const name = `server to ${conn.tab.id} ${conn.id}`;
    if (unseen) this.world.queues.delete(name);
    else if (!conn.tab.dead) this.world.post(name, conn.tab, () => conn.body.fail(new TypeError("network error")));
    this.sendCount();
  }

  goDown() {
    this.down = true;
    for (const conn of [...this.conns]) this.cut(conn);
  }

  restart() {
    for (const conn of [...this.conns]) this.cut(conn);
    this.epoch++;
    this.seq = this.world.randomBelow(3);
    this.history = [];
  }

  goodbye(reason, refusal) {
    this.each("goodbye", { reason }, "");
    this.refusal = refusal;
    for (const conn of [...this.conns]) this.cut(conn);
  }
}

/** A fake response body with the parts that presence.js uses. */
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
  Date.now = () => 1_767_319_445_000 + world.now + world.clockOffset;
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
  AbortSignal.timeout = () => new AbortController().signal; // the fake server always responds in time
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

/** The random actions and their weights. */
const actions = [
  [30, "a message", () => world.server.publish()],
  [3, "messages", () => world.server.publish(1 + world.randomBelow(world.pick([10, 60, 150])))],
  [10, "another user", () => world.server.changeOther()],
  [25, "a short time passes", () => world.advance(world.randomBelow(50))],
  [6, "some time passes", () => world.advance(world.randomBelow(8000))],
  [2, "a long time passes", () => world.advance(world.randomBelow(60_000))],
  [10, "open a tab", () => world.tabs.length < 7 && world.open()],
  [5, "close a tab", () => world.live.length > 0 && world.pick(world.live).close()],
  [2, "close the leader", () => world.leaders[0]?.close()],
  [4, "kill a tab", () => world.tabs.length > 0 && world.pick(world.tabs).kill()],
  [2, "kill the leader", () => world.leaders[0]?.kill()],
  [4, "hang a tab", () => world.live.length > 0 && (world.pick(world.live).hung = true)],
  [3, "hang the leader", () => world.leaders[0] && (world.leaders[0].hung = true)],
  [2, "move a tab to the cache", () => world.live.length > 0 && world.pick(world.live).leave()],
  [9, "resume a tab", () => world.pick(world.tabs.filter(({ hung }) => hung))?.wake()],
  [4, "close a connection", () => world.server.conns.size > 0 && world.server.cut(world.pick([...world.server.conns]))],
  [2, "lose a connection unnoticed", () => world.server.conns.size > 0 && world.server.cut(world.pick([...world.server.conns]), true)],
  [2, "stop the server", () => world.server.goDown()],
  [8, "start the server", () => (world.server.down = false)],
  [2, "restart the server", () => world.server.restart()],
  [1, "set the clock", () => (world.clockOffset += world.pick([-1, 1]) * world.pick([1, 1000, 3_600_000]))],
  [1, "wait and check", () => rest()],
];
const allActions = actions.flatMap(([weight, name, action]) => Array(weight).fill({ name, action }));

async function rest() {
  world.server.down = false;
  if (world.live.length === 0) world.open();
  await world.advance(150_000);
  world.check();
}

async function run(seed) {
  use(seed);
  world.server.maxHistory = world.pick([5, 50, 1000]);
  world.server.maxUnsent = world.pick([40, 500]);
  for (let i = 0; i < steps && world.faults.length === 0; i++) {
    const { name, action } = world.pick(allActions);
    world.note(name);
    await action();
    await settled();
    for (let tasks = world.randomBelow(12); tasks > 0 && (await world.step()); tasks--);
  }
  if (world.faults.length === 0) {
    for (const tab of world.tabs) tab.wake();
    await rest();
  }
  if (world.faults.length === 0) await world.end();
  return world.faults;
}

test("every tab receives all messages once and in order, even if tabs and the server fail", async () => {
  const { TABS_SEED, TABS_RUNS } = process.env;
  const first = Number(TABS_SEED ?? Math.floor(Math.random() * 2 ** 31));
  const last = first + Number(TABS_RUNS ?? (TABS_SEED ? 1 : runs));
  for (let seed = first; seed < last; seed++) {
    const faults = await run(seed);
    assert.deepEqual(faults, [], `TABS_SEED=${seed}:\n${world.trace.join("\n")}`);
  }
});

describe("scenario", () => {
  /** Opens `n` tabs in a new world. The first tab leads. */
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

  async function end() {
    await world.end();
    assert.deepEqual(world.faults, []);
  }

  test("a new tab receives the missed messages from the leader, without a request to the server", async () => {
    const [leader] = await tabs(1);
    world.server.publish(5);
    await world.advance(10);
    const late = world.open();
    const older = world.open({ lastEventId: "e1-3" });
    await world.advance(10);
    assert.deepEqual([leader, late, older].map(({ received }) => received), [[1, 2, 3, 4, 5], [], [4, 5]]);
    world.check();
    assert.deepEqual(world.server.requests, [`GET /events Bearer ${token}`]);
    await end();
  });

  test("a tab takes over if it misses more messages than the leader has kept", async () => {
    const [leader] = await tabs(1);
    world.server.publish(150);
    await world.advance(10);
    const older = world.open({ lastEventId: "e1-10" });
    await world.advance(10);
    assert.deepEqual([older.received.length, older.resets, leader.received.length], [140, 0, 150]);
    assert.deepEqual(roles([leader, older]), ["following", "leading"]);
    world.check();
    await end();
  });

  for (const how of ["close", "kill", "leave"]) {
    test(`a follower takes over immediately: ${how}`, async () => {
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
      await end();
    });
  }

  test("a follower takes over from a leader that hangs, which follows when it resumes", async () => {
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
    await end();
  });

  test("a new tab takes over from a leader that hangs, and no tab loses a message", async () => {
    const [leader, second] = await tabs(2);
    leader.hung = true;
    world.server.publish(3);
    const late = world.open();
    await world.advance(7000);
    world.check();
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
    world.server.changeOther();
    await world.advance(0);
    world.check();
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
    world.check();
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

  test("only the leader renews its token", async () => {
    let n = 0;
    const all = await tabs(3, { token: () => `${token}${++n}` });
    assert.equal(n, 3, "each tab has its own token");
    await world.advance(10_000);
    world.server.each("expiring", { in: 30 }, "");
    await world.advance(0);
    assert.equal(n, 4);
    assert.deepEqual(world.server.requests, [`GET /events Bearer ${token}1`, "POST /session null"]);
    assert.deepEqual(all.map(({ room }) => room.state.expiring), [null, null, null]);
    await end();
  });

  test("without Web Locks, each tab has its own connection", async () => {
    Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true, writable: true });
    const all = await tabs(3);
    world.server.publish();
    await world.advance(0);
    assert.deepEqual([roles(all), conns()], [[null, null, null], all]);
    for (const { received } of all) assert.deepEqual(received, [1]);
    await end();
  });

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
    navigator.locks.request = async () => {
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
