/**
 * A simulated browser with its tabs, and a simulated server, for the tests of `share: true`. Every
 * action is a task in a queue, and a random seed decides which queue runs next. It models the
 * behaviour of browsers on which presence.js relies:
 *
 * - Tabs close, crash, hang, freeze, are discarded or prerendered, or enter the back/forward cache.
 * - In a frozen tab, timers and network reads do not run. Other tasks do: messages of other tabs,
 *   granted locks and events of the document. A stream with data that was not read then is stuck.
 * - Web Locks and BroadcastChannel connect the tabs, asynchronously.
 * - Over HTTP/1.1, six requests per host are active. A stream is active until it ends. Further
 *   requests wait in the browser.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { setMaxListeners } from "node:events";
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { afterEach, beforeEach } from "node:test";
import { fileURLToPath } from "node:url";
import { Script } from "node:vm";
import { build } from "esbuild";
import { alice, bob } from "./testing.js";

export const heartbeat = 15;
export const token = `.${btoa(JSON.stringify({ sub: "alice" }))}.`;

/**
 * Bundles the modules of presence/. Returns a function that evaluates them, and returns their
 * exports. Each page evaluates them once, because pages share no variables.
 *
 * @param {(file: string, text: string) => string} [edit]  Changes the text of a module.
 * @returns {Promise<() => {join: Function}>}
 */
export async function loader(edit = (_, text) => text) {
  const edits = {
    name: "edits",
    setup: ({ onLoad }) => onLoad({ filter: /\.js$/ }, async ({ path }) => ({ contents: edit(basename(path), await readFile(path, "utf8")) })),
  };
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("presence/index.js", import.meta.url))],
    bundle: true,
    format: "iife",
    globalName: "presence",
    define: { "import.meta.url": '""' },
    plugins: [edits],
    write: false,
    logLevel: "silent",
  });
  const script = new Script(`(() => { ${outputFiles[0].text}; return presence; })()`);
  return () => script.runInThisContext();
}

const { setImmediate } = globalThis;
export const settled = () => new Promise((resolve) => setImmediate(resolve));

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

/** The simulation, which runs tasks and timers. Tasks of one queue run in order. */
export class World {
  now = 0;
  clockOffset = 0; // difference between Date.now() and the simulated time
  queues = new Map();
  timers = new Map();
  last = 0;
  tabs = [];
  discarded = []; // the pages of discarded tabs, which the user may open again
  channels = new Set();
  faults = [];
  trace = [];

  /**
   * @param {number} seed
   * @param {() => {join: Function}} load  Evaluates the client: see loader().
   */
  constructor(seed, load) {
    this.random = randomOf(seed);
    this.load = load;
    this.locks = new Locks(this);
    this.server = new Server(this);
    this.network = new Network(this);
  }

  randomBelow = (n) => Math.floor(this.random() * n);
  pick = (list) => list[this.randomBelow(list.length)];

  /**
   * Adds a task to a queue.
   *
   * @param {string} name  The name of the queue.
   * @param {Tab|null} tab  The tab that runs the task. null means the browser or the server.
   * @param {() => void} fn
   * @param {boolean} [isRead]  Whether the tasks of the queue are network reads.
   */
  post(name, tab, fn, isRead = false) {
    let queue = this.queues.get(name);
    if (!queue) this.queues.set(name, (queue = { tab, isRead, tasks: [] }));
    queue.tasks.push(fn);
  }

  waiting = (name) => this.queues.get(name)?.tasks.length ?? 0;

  /** @param {boolean} [ofBrowser]  Whether the browser itself keeps the timer, not the page. */
  timer(tab, ms, fn, ofBrowser = false) {
    this.timers.set(++this.last, { tab, at: this.now + Math.max(0, ms), fn, ofBrowser });
    return this.last;
  }

  // Runs one task or one timer that is due. Returns false if there is none.
  async step() {
    const ready = [];
    for (const [name, { tab, isRead, tasks }] of this.queues) {
      if (tasks.length > 0 && !tab?.hung && !(isRead && tab.frozen)) ready.push(name);
    }
    // For each tab, only the first timer that is due is ready, because its timers run in order.
    const due = new Map();
    for (const [id, { tab, at }] of this.timers) {
      if (at <= this.now && !tab?.hung && !tab?.frozen && !(at >= this.timers.get(due.get(tab))?.at)) due.set(tab, id);
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
      for (const timer of this.timers.values()) if (!timer.tab?.hung && !timer.tab?.frozen) at = Math.min(at, timer.at);
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

  /** The tabs that run their code. */
  get live() {
    return this.tabs.filter(({ hung, frozen, document }) => !hung && !frozen && !document.prerendering);
  }

  /** The rooms of these tabs that should be open. */
  get clients() {
    return this.live.flatMap(({ clients }) => clients.filter(({ paused }) => !paused));
  }

  get leaders() {
    return this.clients.filter(({ room }) => room.state.shared === "leading");
  }

  /** The room in which tabs are by default. */
  get lobby() {
    return this.server.room("lobby");
  }

  open(page) {
    const tab = new Tab(this, page);
    this.tabs.push(tab);
    return tab;
  }
}

/** A tab with one page, which has joined one room or several. */
class Tab {
  hung = false; // whether it runs no code, as in an endless loop
  frozen = false; // whether it runs no timers and no network reads
  kept = false; // whether its page is in the back/forward cache
  dead = false;
  window = new EventTarget();
  document = Object.assign(new EventTarget(), { hidden: false, prerendering: false });
  resources = new Resources(this);
  clients = [];

  /**
   * @param {World} world
   * @param {{rooms?: string[], prerendering?: boolean, lastEventIds?: Record<string, string>}} page
   *   Its other properties are options of join().
   */
  constructor(world, page = {}) {
    const { rooms = ["lobby"], prerendering = false, lastEventIds = {}, ...options } = page;
    this.world = world;
    this.page = page;
    this.id = ++world.last;
    this.document.prerendering = prerendering;
    setMaxListeners(0, this.window, this.document);
    this.run(() => {
      this.join = world.load().join;
      for (const room of rooms) this.clients.push(new Client(this, { room, lastEventId: lastEventIds[room], ...options }));
    });
  }

  // The first room and its messages, for tabs with one room.
  get room() {
    return this.clients[0].room;
  }

  get received() {
    return this.clients[0].received;
  }

  get resets() {
    return this.clients[0].resets;
  }

  run(fn) {
    return here.run(this, fn);
  }

  close() {
    this.run(() => this.clients.forEach(({ room }) => room.close()));
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
    world.network.kill(this);
  }

  /** Discards the tab, as browsers do to save memory. The user may open it again. */
  discard() {
    const lastEventIds = Object.fromEntries(this.clients.map(({ name, room }) => [name, room.lastEventId]));
    this.kill();
    this.world.discarded.push({ ...this.page, lastEventIds, prerendering: false });
  }

  /**
   * Moves the page to the back/forward cache.
   *
   * @param {number} [tasks]  Tasks that run before the page is frozen.
   */
  async leave(tasks = 0) {
    this.dispatch("pagehide");
    this.show(false);
    for (; tasks > 0 && (await this.world.step()); tasks--);
    this.freeze();
    this.hung = this.kept = true;
  }

  freeze() {
    this.happens("freeze");
    this.frozen = "freeze";
  }

  /** Freezes the tab without an event. */
  stall() {
    this.frozen = "stall";
  }

  /** Ends each state in which the tab does not run its code. */
  wake() {
    const { frozen, kept, world } = this;
    this.hung = this.frozen = this.kept = false;
    if (frozen) world.network.thaw(this);
    if (frozen === "freeze" || (frozen && world.random() < 0.5)) this.happens("resume");
    if (kept) this.dispatch("pageshow");
    this.show(true);
  }

  /** Activates a prerendered page. */
  activate() {
    this.document.prerendering = false;
    this.happens("prerenderingchange");
  }

  /** @param {boolean} visible  Whether the tab becomes visible. */
  show(visible) {
    if (this.document.hidden === !visible) return;
    this.document.hidden = !visible;
    this.happens("visibilitychange");
  }

  /** Dispatches an event of the document. It bubbles to the window. */
  happens(name) {
    this.run(() => this.document.dispatchEvent(new Event(name)));
    this.run(() => this.window.dispatchEvent(new Event(name)));
  }

  dispatch(name) {
    this.run(() => this.window.dispatchEvent(Object.assign(new Event(name), { persisted: true })));
  }
}

/** A room that a page has joined, and the messages and resets that the room has delivered. */
class Client {
  received = [];
  resets = 0;
  unsettled = 0; // calls of send() without a result
  failed = null; // the error of the last call with a result, if it failed
  paused = false;
  from; // the client has received every message after this position, up to `at`
  at;

  constructor(tab, { room: name, lastEventId, ...options }) {
    this.tab = tab;
    this.world = tab.world;
    this.name = name;
    this.shares = options.share ?? true;
    this.at = this.from = lastEventId || null;
    this.room = tab.join({ url: "https://example.com/", room: name, share: true, token, lastEventId, ...options });
    for (const name of ["message", "chat message", "__proto__"]) this.room.on(name, (message) => this.receive(message));
    this.room.on("sync", () => (this.at ??= this.from = this.room.lastEventId));
    this.room.on("reset", () => this.reset());
  }

  toString() {
    return `tab ${this.tab.id} ${this.name}`;
  }

  receive({ id, data }) {
    const [, epoch, seq] = /^(.*)-(\d+)$/.exec(id);
    const { at, world } = this;
    if (at !== null && id !== `${at.split("-")[0]}-${Number(at.split("-")[1]) + 1}`) world.fault(`${this} received ${id} after ${at}`);
    this.from ??= `${epoch}-${seq - 1}`;
    this.at = id;
    this.received.push(data);
  }

  reset() {
    const { at, world, room } = this;
    this.resets++;
    world.note(`${this} at ${at} receives reset ${room.lastEventId}`);
    if (at !== null) {
      const leader = world.leaders.find(({ name }) => name === this.name);
      const has = this.shares && leader !== this && leader?.from && covers(leader.from, at) && covers(room.lastEventId, leader.at);
      // A leader that hung while the server restarted may send a reset of the old server, until it
      // has caught up.
      const restarted = at.split("-")[0] !== room.lastEventId.split("-")[0];
      if (!restarted && (world.server.room(this.name).covers(at) || has)) world.fault(`${this} at ${at} received a needless reset`);
    }
    this.at = this.from = room.lastEventId;
  }

  pause() {
    this.paused = true;
    this.tab.run(() => this.room.pause());
  }

  resume() {
    this.paused = false;
    this.tab.run(() => this.room.resume());
  }

  /** Sends a message. It does not wait for the result. */
  send(data) {
    this.unsettled++;
    const done = (failed) => {
      this.unsettled--;
      this.failed = failed;
    };
    this.tab.run(() => this.room.send(data).then(() => done(null), done));
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
    if (tab.document.prerendering) world.fault(`tab ${tab.id} requests the lock ${name} while it is prerendered`);
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
      lock.grant = async (granted) => {
        if (lock.aborted) return;
        lock.granted = true;
        await Promise.resolve(run(granted)).then(resolve, reject);
        toLocks(() => this.drop((other) => other === lock));
      };
      toLocks(() => this.add(lock, steal, ifAvailable));
    });
  }

  query() {
    const tab = here.getStore();
    const names = (locks) => locks.map(({ name }) => ({ name, mode: "exclusive" }));
    return new Promise((resolve) => {
      this.world.post(`${tab.id} to locks`, null, () => {
        const answer = { held: names([...this.held.values()]), pending: names(this.pending) };
        this.world.post(`locks to ${tab.id}`, tab, () => resolve(answer));
      });
    });
  }

  add(lock, steal, ifAvailable) {
    const { name } = lock;
    const holder = steal ? this.held.get(name) : undefined;
    if (holder) {
      this.held.delete(name);
      this.#reply(holder, holder.stolen);
    }
    if (ifAvailable && (this.held.has(name) || this.pending.some((other) => other.name === name))) {
      return this.#reply(lock, () => lock.grant(null));
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
      this.#reply(lock, () => lock.grant({ name: lock.name }));
      return false;
    });
  }

  #reply({ tab }, fn) {
    if (!tab.dead) this.world.post(`locks to ${tab.id}`, tab, fn);
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

/** The browser's connections to the host of the server. Each carries one request at a time. */
class Network {
  protocol = "http/1.1";
  online = true;
  requests = new Set(); // the requests of pages that have not ended
  active = new Set();
  waiting = [];

  constructor(world) {
    this.world = world;
  }

  get max() {
    return this.protocol === "h2" ? 100 : 6;
  }

  /** The streams that presence.js opens at most, so that a connection is free for requests. */
  get maxStreams() {
    return this.protocol === "h2" ? 90 : 5;
  }

  /** The streams that pages hold open. The server may have ended some of them without notice. */
  get streams() {
    return [...this.requests].filter(({ path }) => path === "/events");
  }

  // Replaces the browser's fetch().
  fetch(address, { method = "GET", signal, headers, body } = {}) {
    const { world } = this;
    const tab = here.getStore();
    const url = new URL(address);
    const path = url.pathname;
    if (tab.document.prerendering) world.fault(`tab ${tab.id} sends ${method} ${path} while it is prerendered`);
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const authorization = new Headers(headers).get("Authorization");
      const req = { tab, id: ++world.last, method, url, path, authorization, content: body };
      this.requests.add(req);
      const streams = this.streams.length;
      if (streams > this.maxStreams) world.fault(`tab ${tab.id} sends ${method} ${path} beside ${streams} streams, want ${this.maxStreams}`);
      req.respond = (status, more) => {
        const response = { status, ok: status < 300, statusText: "", headers: new Headers({ "Content-Type": more?.type ?? "application/json" }), ...more };
        this.read(req, () => (status === 0 ? reject(new TypeError("no response")) : resolve(response)));
        if (!more?.body) this.end(req, status > 0);
      };
      signal?.addEventListener("abort", () => {
        this.requests.delete(req);
        reject(signal.reason);
        req.body?.fail(signal.reason);
        world.post(`browser to request ${req.id}`, null, () => this.drop((other) => other === req));
      });
      world.post(`browser to request ${req.id}`, null, () => {
        if (this.requests.has(req)) this.waiting.push(req);
        this.serve();
      });
    });
  }

  serve() {
    while (this.active.size < this.max && this.waiting.length > 0) {
      const req = this.waiting.shift();
      this.active.add(req);
      this.world.post(`browser to request ${req.id}`, null, () => {
        if (!this.active.has(req)) return;
        if (this.online) this.world.server.receive(req);
        else req.respond(0);
      });
    }
  }

  /** Connects the device to the network, or disconnects it. The browser notifies all tabs. */
  connect(online) {
    if (this.online === online) return;
    this.online = online;
    if (!online) this.world.server.cutAll();
    for (const tab of this.world.tabs) this.world.post(`network to ${tab.id}`, tab, () => tab.dispatch(online ? "online" : "offline"));
  }

  /** Posts a read of the response to the page. */
  read({ tab, id, stuck }, fn) {
    if (!tab.dead && !stuck) this.world.post(`request ${id} to ${tab.id}`, tab, fn, true);
  }

  unread({ tab, id }) {
    return this.world.waiting(`request ${id} to ${tab.id}`);
  }

  /** Frees the connection of a request that has ended. */
  end(req, answered = true) {
    this.requests.delete(req);
    if (!this.active.delete(req)) return;
    const { tab, url } = req;
    // The entry is added after the page has received the response.
    this.read(req, () => tab.resources.add({ name: String(url), nextHopProtocol: answered ? this.protocol : "" }));
    this.serve();
  }

  /** Drops requests that pages have aborted, also those that wait. */
  drop(which) {
    this.waiting = this.waiting.filter((req) => !which(req));
    for (const req of this.active) if (which(req)) this.active.delete(req);
    this.world.server.drop(which);
    this.serve();
  }

  /** Resumes a frozen tab. In Chromium, its streams deliver no more data if data is unread. */
  thaw(tab) {
    for (const req of this.requests) {
      if (req.tab !== tab || req.path !== "/events" || this.unread(req) === 0) continue;
      req.stuck = true;
      this.world.queues.delete(`request ${req.id} to ${tab.id}`);
    }
  }

  /** Drops the requests of a tab that was killed. */
  kill(tab) {
    for (const req of this.requests) if (req.tab === tab) this.requests.delete(req);
    this.world.post(`${tab.id} to network`, null, () => this.drop((req) => req.tab === tab));
  }
}

/** The entries of resource timing of a tab, with the parts that presence.js uses. */
class Resources {
  entries = [];
  observers = new Set();

  constructor(tab) {
    this.tab = tab;
  }

  add(entry) {
    this.entries.push(entry);
    const { world, id } = this.tab;
    for (const notify of this.observers) world.post(`resources to ${id}`, this.tab, () => this.observers.has(notify) && notify(entry));
  }

  getEntriesByType = (type) => (type === "resource" ? [...this.entries] : []);
}

class FakePerformanceObserver {
  constructor(notify) {
    this.resources = here.getStore().resources;
    this.notify = (entry) => notify({ getEntriesByName: (name) => [entry].filter((entry) => entry.name === name) });
  }

  observe() {
    this.resources.observers.add(this.notify);
  }

  disconnect() {
    this.resources.observers.delete(this.notify);
  }
}

/** A fake server for one user. It sends the streams that the protocol describes. */
class Server {
  epoch = 1;
  rooms = new Map();
  maxHistory = 1000;
  maxUnsent = 500; // maximum unsent events per connection
  down = false;
  requests = []; // requests received, such as "GET /session null"
  refusal = null; // status with which every request is rejected, if any
  cookie = true; // whether the browser has the user's cookie

  constructor(world) {
    this.world = world;
    const ping = () => {
      for (const room of this.rooms.values()) room.each("ping", {}, "");
      world.timer(null, heartbeat * 1000, ping);
    };
    ping();
  }

  room(name) {
    if (!this.rooms.has(name)) this.rooms.set(name, new ServerRoom(this, name));
    return this.rooms.get(name);
  }

  /** All connections. */
  get conns() {
    return [...this.rooms.values()].flatMap(({ conns }) => [...conns]);
  }

  receive(req) {
    const { method, path, url, authorization } = req;
    const answer = (status, value) => req.respond(status, { json: async () => value, text: async () => JSON.stringify(value) });
    this.requests.push(`${method} ${path} ${authorization}`);
    if (this.down) return req.respond(0);
    if (this.refusal) return answer(this.refusal, { title: "no" });
    if (path === "/healthz") return answer(200, {});
    if (path === "/session") {
      if (method === "POST") this.cookie = true;
      return answer(method === "GET" ? 200 : 204, { user: this.cookie ? { id: "alice" } : null });
    }
    const room = this.room(url.searchParams.get("room"));
    if (path === "/events") room.enter(req, url.searchParams.get("last_event_id") ?? "");
    else if (path === "/messages") answer(202, { id: room.accept(JSON.parse(req.content)) });
    else answer(404, {});
  }

  /** Removes connections without notifying the tabs. */
  drop(which) {
    for (const room of this.rooms.values()) room.drop(which);
  }

  cutAll() {
    for (const room of this.rooms.values()) for (const conn of [...room.conns]) room.cut(conn);
  }

  goDown() {
    this.down = true;
    this.cutAll();
  }

  restart() {
    this.cutAll();
    this.epoch++;
    for (const room of this.rooms.values()) room.restart();
  }

  goodbye(reason, refusal) {
    for (const room of this.rooms.values()) room.each("goodbye", { reason }, "");
    this.refusal = refusal;
    this.cutAll();
  }
}

/** A room of the fake server. */
class ServerRoom {
  seq = 0;
  history = []; // the kept messages
  accepted = new Map(); // the positions of sent messages by idempotency key
  conns = new Set();
  others = new Map([["bob", { ...bob }]]); // members other than the user
  otherConnections = 0; // number of connections of these members

  constructor(server, name) {
    this.server = server;
    this.world = server.world;
    this.name = name;
  }

  get position() {
    return `e${this.server.epoch}-${this.seq}`;
  }

  get count() {
    return this.conns.size + this.otherConnections;
  }

  covers(id) {
    return covers(`e${this.server.epoch}-${this.seq - this.history.length}`, id) && covers(id, this.position);
  }

  snapshot() {
    const members = [alice, ...this.others.values()].map(({ id, name, info }) => ({ id, name, info }));
    members.sort((a, b) => (a.id < b.id ? -1 : 1));
    return { users: members.length, members };
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
    const at = this.world.randomBelow(text.length); // the text arrives in two pieces
    for (const piece of [text.slice(0, at), text.slice(at)]) this.world.network.read(conn, () => conn.body.take(piece));
  }

  emit(conn, name, data, id) {
    this.write(conn, `${id ? `id: ${id}\n` : ""}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  each(name, data, id = this.position) {
    const slow = [];
    for (const conn of this.conns) {
      if (this.world.network.unread(conn) > 2 * this.server.maxUnsent) slow.push(conn);
      else this.emit(conn, name, data, id);
    }
    for (const conn of slow) {
      this.emit(conn, "goodbye", { reason: "slow" });
      this.cut(conn);
    }
  }

  publish(n = 1) {
    for (; n > 0; n--) this.append(this.world.pick(["message", "chat message", "__proto__"]), this.seq + 1);
  }

  /** Publishes the message of a client, unless it is a repetition. Returns its position. */
  accept({ event = "message", data, id }) {
    if (!this.accepted.has(id)) this.accepted.set(id, this.append(event, data));
    return this.accepted.get(id);
  }

  append(name, content) {
    this.seq++;
    const data = { id: this.position, data: content, at: "2026-01-02T03:04:05Z" };
    this.history.push({ name, data, id: this.position });
    if (this.history.length > this.server.maxHistory) this.history.shift();
    this.each(name, data);
    return this.position;
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

  drop(which) {
    const before = this.conns.size;
    for (const conn of this.conns) if (which(conn)) this.conns.delete(conn);
    if (this.conns.size !== before) this.sendCount();
  }

  /** Closes a connection. With `unseen`, neither the browser nor the tab notices. */
  cut(conn, unseen = false) {
    const { network, queues } = this.world;
    this.conns.delete(conn);
    if (unseen) {
      queues.delete(`request ${conn.id} to ${conn.tab.id}`);
    } else {
      network.read(conn, () => conn.body.fail(new TypeError("network error")));
      network.end(conn);
    }
    this.sendCount();
  }

  restart() {
    this.seq = this.world.randomBelow(3);
    this.history = [];
    this.accepted.clear();
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

/** @type {World} */
export let world;

/** Starts a new simulation. */
export function use(seed, load) {
  world = new World(seed, load);
  Math.random = world.random;
  return world;
}

/** Replaces the browser's globals with those of the simulated browser, for each test of the file. */
export function useBrowser() {
  const timeout = (ms) => {
    const controller = new AbortController();
    const expire = () => controller.abort(new DOMException("timed out", "TimeoutError"));
    world.timer(here.getStore(), ms, expire, true);
    return controller.signal;
  };
  const values = {
    setTimeout: (fn, ms = 0, ...args) => world.timer(here.getStore(), ms, () => fn(...args)),
    clearTimeout: (id) => world.timers.delete(id),
    fetch: (url, options) => world.network.fetch(url, options),
    BroadcastChannel: Channel,
    navigator: { get onLine() { return world.network.online; }, locks: { request: (...args) => world.locks.request(...args), query: () => world.locks.query() } },
    performance: { now: () => world.now, getEntriesByType: (type) => here.getStore().resources.getEntriesByType(type) },
    PerformanceObserver: FakePerformanceObserver,
    addEventListener: (...args) => here.getStore().window.addEventListener(...args),
    EventSource: undefined,
    reportError: (error) => world.fault(error.stack),
  };
  const fakes = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, { value, writable: true }]));
  fakes.document = { get: () => here.getStore()?.document };
  const real = Object.keys(fakes).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
  const { random } = Math;
  const { now } = Date;
  const { timeout: realTimeout } = AbortSignal;

  beforeEach(() => {
    for (const [name, fake] of Object.entries(fakes)) Object.defineProperty(globalThis, name, { ...fake, configurable: true });
    Date.now = () => 1_767_319_445_000 + world.now + world.clockOffset;
    AbortSignal.timeout = timeout;
  });

  afterEach(() => {
    Object.assign(Math, { random });
    Object.assign(Date, { now });
    AbortSignal.timeout = realTimeout;
    for (const [name, descriptor] of real) {
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
      else delete globalThis[name];
    }
  });
}
