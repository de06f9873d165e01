/**
 * A simulated environment for tests of presence.js: streams, a server, a clock, and the network and
 * page events of a browser. Only a test causes events in it.
 */
import assert from "node:assert/strict";
import { afterEach, beforeEach } from "node:test";

export const alice = { id: "alice", name: "Alice", info: {}, connections: 2, since: "2026-01-02T03:04:05Z" };
export const bob = { id: "bob", name: "Bob", info: { status: "away" }, connections: 1, since: "2026-01-02T03:04:06Z" };
export const sync = { connections: 3, users: 2, members: [alice, bob], complete: true, heartbeat: 15 };
export const carol = { id: "carol", name: "Carol", info: {}, connections: 4, users: 3 }; // as in a join event
export const bobLeft = { id: "bob", name: "Bob", info: {}, connections: 2, users: 1, reason: "closed" };

export const ids = (state) => [...state.members.keys()].sort();

/** A fake EventSource with the parts that presence.js uses. `all` contains every instance. */
export class FakeEventSource extends EventTarget {
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

  emit(name, data, lastEventId = "") {
    assert.notEqual(this.readyState, 2, "emit on a closed EventSource");
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

/** A fake stream that was opened with fetch(). */
class FakeStream {
  #controller;
  #text = new TextEncoder();
  closed = false; // whether the client or the server has closed it

  constructor(url, { signal, headers, credentials }) {
    this.url = String(url);
    this.headers = new Headers(headers);
    this.credentials = credentials;
    const body = new ReadableStream({
      start: (controller) => (this.#controller = controller),
      cancel: () => (this.closed = true),
    });
    signal?.addEventListener("abort", () => {
      if (this.closed) return;
      this.closed = true;
      this.#controller.error(signal.reason);
    });
    this.response = new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  }

  write(text) {
    this.#controller.enqueue(this.#text.encode(text));
  }

  emit(name, data, id) {
    this.write(`${id ? `id: ${id}\n` : ""}data: ${JSON.stringify(data)}\nevent: ${name}\n\n`);
  }

  end() {
    this.closed = true;
    this.#controller.close();
  }

  fail() {
    this.closed = true;
    this.#controller.error(new TypeError("network error"));
  }
}

/** A fake PerformanceObserver of resource timings. `all` contains the active instances. */
class FakePerformanceObserver {
  static all = new Set();

  constructor(callback) {
    this.entry = (name) => callback({ getEntriesByName: (wanted) => (wanted === name ? [{ name, nextHopProtocol: world.protocol }] : []) });
  }

  observe() {
    FakePerformanceObserver.all.add(this);
  }

  disconnect() {
    FakePerformanceObserver.all.delete(this);
  }
}

export const clock = {
  now: 0,
  timers: new Map(),
  last: 0,
  set(fn, ms = 0, ...args) {
    const delay = ms > 0 && ms < 2 ** 31 ? ms : 0; // a longer delay overflows, as in browsers
    clock.timers.set(++clock.last, { fn: () => fn(...args), at: clock.now + delay });
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

const { setImmediate } = globalThis;

/** Runs all tasks that are ready. */
export const settled = async () => {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
};

export const json = (status, body, type = "application/json", headers = {}) =>
  new Response(JSON.stringify(body), { status, headers: { "Content-Type": type, ...headers } });

export const problem = (status, detail, headers) =>
  json(status, { type: "about:blank", title: "T", status, detail }, "application/problem+json", headers);

/**
 * The requests to the fake server, and its responses, which are successful by default. `streams`
 * contains the streams that were opened with fetch(), and `reported` the texts of reported errors.
 * `entries` are the resource timings of the requests with a response, over `protocol`.
 *
 * @type {{requests: Array<any>, respond: (req: any) => any, streams: FakeStream[], reported: string[], entries: any[], protocol: string, online: boolean}}
 */
export const world = { requests: [], respond: () => {}, streams: [], reported: [], entries: [], protocol: "http/1.1", online: true };

/** Opens a stream as the response to a fetch() request. */
export function opens(req) {
  const stream = new FakeStream(req.url, req);
  world.streams.push(stream);
  return stream.response;
}

/** Replaces the browser's globals with the simulated environment, for each test of the file. */
export function useFakes() {
  const names = ["EventSource", "setTimeout", "clearTimeout", "fetch", "addEventListener", "document", "reportError", "performance", "PerformanceObserver"];
  const real = Object.fromEntries(names.map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]));
  const navigator = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  const { random } = Math;
  const { now } = Date;

  beforeEach(() => {
    FakeEventSource.all = [];
    Object.assign(clock, { now: 0, last: 0 });
    clock.timers.clear();
    Object.assign(world, { requests: [], streams: [], reported: [], entries: [], protocol: "http/1.1", online: true });
    world.respond = (req) => {
      const { pathname } = new URL(req.url);
      if (pathname.endsWith("/events")) return opens(req);
      if (pathname.endsWith("/messages")) return json(202, { id: "e1-6" });
      if (pathname.endsWith("/presence")) return json(200, { members: [] });
      return new Response(null, { status: 204 });
    };
    Math.random = () => 1; // makes every backoff the longest
    Date.now = () => clock.now;
    const page = new EventTarget();
    const document = Object.assign(new EventTarget(), { hidden: false, prerendering: false });
    Object.assign(globalThis, {
      EventSource: FakeEventSource,
      setTimeout: clock.set,
      clearTimeout: clock.clear,
      addEventListener: page.addEventListener.bind(page),
      document,
      reportError: (error) => world.reported.push(error.message),
      fetch: async (url, options) => {
        const req = { ...options, url: String(url) };
        world.requests.push(req);
        const response = await world.respond(req);
        if (response.headers.get("Content-Type") !== "text/event-stream") {
          world.entries.push({ name: req.url, nextHopProtocol: world.protocol });
          setImmediate(() => FakePerformanceObserver.all.forEach((observer) => observer.entry(req.url)));
        }
        return response;
      },
      performance: { now: () => clock.now, getEntriesByType: (type) => (type === "resource" ? world.entries : []) },
      PerformanceObserver: FakePerformanceObserver,
    });
    Object.defineProperty(globalThis, "navigator", { configurable: true, value: { get onLine() { return world.online; } } });
    world.dispatch = (name, more) => {
      const target = ["visibilitychange", "freeze", "resume", "prerenderingchange"].includes(name) ? document : page;
      target.dispatchEvent(Object.assign(new Event(name), more));
    };
  });

  afterEach(() => {
    Math.random = random;
    Date.now = now;
    for (const name of names) {
      if (real[name]) Object.defineProperty(globalThis, name, real[name]);
      else delete globalThis[name];
    }
    if (navigator) Object.defineProperty(globalThis, "navigator", navigator);
    else delete globalThis.navigator;
  });
}
