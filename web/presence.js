// presence.js, the browser client of presence. Made by `npm run build` from presence/. License: MIT.
const thisFile = import.meta.url;
const modulesURL = { toString: () => new URL("presence/index.js", thisFile).href };
var longestRetry = 36e5;
function isStream(contentType) {
  return /(^|,)\s*text\/event-stream\s*(;[^,]*)?$/i.test(contentType ?? "");
}
function decode(partial, text) {
  if (text === "") return { partial, events: [] };
  let { line, name, data, id, retry } = partial;
  const events = [];
  let at = partial.cr && text[0] === "\n" ? 1 : 0;
  let cr = text.indexOf("\r", at);
  let lf = text.indexOf("\n", at);
  while (cr !== -1 || lf !== -1) {
    const end = cr === -1 || lf !== -1 && lf < cr ? lf : cr;
    line += text.slice(at, end);
    at = end + (end === cr && lf === cr + 1 ? 2 : 1);
    if (cr !== -1 && cr < at) cr = text.indexOf("\r", at);
    if (lf !== -1 && lf < at) lf = text.indexOf("\n", at);
    if (line === "") {
      if (data !== null) events.push({ name: name || "message", text: data, id });
      name = "";
      data = null;
      continue;
    }
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "data") data = data === null ? value : `${data}
${value}`;
    else if (field === "event") name = value;
    else if (field === "id" && !value.includes("\0")) id = value;
    else if (field === "retry" && /^\d+$/.test(value)) retry = Math.min(Number(value), longestRetry);
    line = "";
  }
  return { partial: { line: line + text.slice(at), cr: text.at(-1) === "\r", name, data, id, retry }, events };
}
function fresh(id = "") {
  return { line: "", cr: false, name: "", data: null, id, retry: null };
}
var PresenceError = class extends Error {
  constructor(problem, options) {
    super(problem.detail || problem.title || `HTTP status ${problem.status}`, options);
    this.name = "PresenceError";
    this.problem = problem;
    this.after = options?.after ?? 0;
  }
};
async function request(method, url, body, options = {}) {
  const headers = new Headers(options.headers);
  if (body !== void 0) headers.set("Content-Type", "application/json");
  const init = { cache: "no-store", ...options, method, headers, body: JSON.stringify(body) };
  const response = await fetch(url, init).catch((cause) => {
    throw noResponse(url, cause);
  });
  if (!response.ok) throw await errorOf(response, url);
  if (response.status === 204) return null;
  const parsed = isJSON(response) ? await response.json().catch(() => void 0) : void 0;
  if (parsed !== void 0) return parsed;
  throw await errorOf(response, url);
}
function noResponse(url, cause) {
  const { origin = "", document: document2, location } = globalThis;
  let target = origin;
  try {
    target = new URL(url, document2?.baseURI ?? location?.href).origin;
  } catch {
  }
  const hidden = cause instanceof TypeError && origin !== "" && target !== origin;
  const detail = `no response from the server${hidden ? `, or this page's origin is not allowed: ${origin}` : ""}`;
  return new PresenceError({ title: "No response", status: 0, detail }, { cause });
}
var isJSON = (response) => /\bjson\b/.test(response.headers.get("Content-Type") ?? "");
async function errorOf(response, url) {
  const { ok, status, statusText, headers } = response;
  const absent = `no presence server at ${url}`;
  if (ok) return new PresenceError({ title: "Unexpected response", status, detail: absent });
  const problem = isJSON(response) ? await response.json().catch(() => null) : null;
  const after = Math.min(1e3 * Number(headers.get("Retry-After") ?? 0) || 0, longestWait);
  const text = `HTTP status ${status}${statusText && ` (${statusText})`}`;
  const detail = status === 404 ? `${absent}: ${text}` : text;
  return new PresenceError({ title: statusText || text, detail, ...problem, status }, { after });
}
var isTransient = ({ status }) => status < 400 || status === 408 || status === 425 || status === 429 || status >= 500;
var problemOf = (error) => error instanceof PresenceError ? error.problem : void 0;
var fromCallback = (error) => problemOf(error) ?? { title: "Token callback failed", status: 0, detail: textOf(error) };
function textOf(error) {
  try {
    return String(error);
  } catch {
    return "unknown error";
  }
}
function report(error) {
  if ("reportError" in globalThis) return reportError(error);
  queueMicrotask(() => {
    throw error;
  });
}
var requestTimeout = 1e4;
var callbackTimeout = 3 * requestTimeout;
var renewalTimeout = callbackTimeout + requestTimeout;
var longestWait = 36e5;
var Credential = class {
  #options;
  #token;
  #renewing = null;
  constructor(options) {
    this.#options = options;
    this.#token = typeof options.token === "string" ? options.token : null;
  }
  get isCookie() {
    return this.#options.token === void 0;
  }
  get renewable() {
    return this.#renewal !== void 0;
  }
  get #renewal() {
    const { token, renew } = this.#options;
    return renew ?? (typeof token === "function" ? token : void 0);
  }
  async fetchOptions() {
    if (this.isCookie) return { credentials: this.#options.withCredentials ? "include" : "same-origin", headers: {} };
    return { credentials: "omit", headers: { Authorization: `Bearer ${await this.token()}` } };
  }
  async token() {
    const { token } = this.#options;
    return this.#token ??= requireToken(typeof token === "function" ? await this.#withTimeout(token()) : token);
  }
  async #withTimeout(result) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("presence: token callback timed out (30 s)")), callbackTimeout);
    });
    return Promise.race([result, late]).finally(() => clearTimeout(timer));
  }
  renew(session, open) {
    this.#renewing ??= this.#renew(session, open).finally(() => this.#renewing = null);
    return this.#renewing;
  }
  async #renew(session, open) {
    const token = await this.#withTimeout(this.#renewal?.());
    const checked = this.isCookie && !token ? null : requireToken(token);
    if (!this.isCookie) this.#token = checked;
    if (!checked || !(open || this.isCookie)) return;
    const credential = await this.fetchOptions();
    await request("POST", session, { token: checked }, { ...credential, signal: AbortSignal.timeout(requestTimeout) });
  }
};
var emptyToken = "token empty: no user is signed in";
function requireToken(token) {
  const text = typeof token === "string" ? token.trim() : "";
  if (text === "") {
    const detail = token === void 0 ? "token missing: the callback returned undefined" : emptyToken;
    throw new PresenceError({ title: "No token", status: 401, detail });
  }
  if (/^[!-~]+$/.test(text)) return text;
  throw new Error("presence: not a token, but text with white space or non-ASCII characters: perhaps an error page");
}
async function userOf(token) {
  try {
    const bytes = Uint8Array.from(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    const { sub } = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof sub === "string") return sub;
  } catch {
  }
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token));
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
var Address = class {
  constructor(options) {
    const { url, room = "lobby", withCredentials = false } = options;
    const here = modulesURL;
    this.url = new URL(url ?? new URL("..", here), globalThis.location?.href);
    if (!this.url.pathname.endsWith("/")) this.url.pathname += "/";
    this.room = room;
    this.withCredentials = withCredentials;
    this.credential = new Credential(options);
  }
  of(path, query) {
    const url = new URL(path, this.url);
    url.search = String(new URLSearchParams({ room: this.room, ...query }));
    return url;
  }
  async request(method, path, { query, body } = {}) {
    const signal = AbortSignal.timeout(requestTimeout);
    return request(method, this.of(path, query), body, { ...await this.credential.fetchOptions(), signal });
  }
  renew(open) {
    return this.credential.renew(new URL("session", this.url), open);
  }
};
function backoff(tries, random = Math.random()) {
  return Math.min(3e4, 1e3 * 2 ** tries) * (1 + random) / 2;
}
var isOffline = () => globalThis.navigator?.onLine === false;
var retryTime = (ms) => isOffline() ? null : Date.now() + ms;
var initial = Object.freeze({ connection: "connecting", reason: null, problem: null, retryAt: null, count: null, connections: null, users: null, members: /* @__PURE__ */ new Map(), complete: false, heartbeat: 15, expiring: null, lastEventId: "", shared: null, renewable: false, waiting: Object.freeze([]) });
var finalReasons = /* @__PURE__ */ new Set(["removed", "signed out", "expired"]);
var longestHeartbeat = 300;
var changes = /* @__PURE__ */ new Set(["join", "leave", "update"]);
var steps = /* @__PURE__ */ new Map([["sync", afterSync], ["user count", (state, count) => ({ ...state, count })], ["join", afterJoin], ["leave", afterLeave], ["update", afterUpdate], ["expiring", (state, { in: seconds }) => ({ ...state, expiring: seconds })], ["goodbye", afterGoodbye]]);
var serverEvents = /* @__PURE__ */ new Set([...steps.keys(), "reset", "ping"]);
var localNames = /* @__PURE__ */ new Set(["count", "state"]);
function apply(state, name, data, id = "") {
  const known = id === "" || id === state.lastEventId || name !== "reset" && reaches(state.lastEventId, id);
  const at = known ? state : { ...state, lastEventId: id };
  if (at.connection !== "open" && changes.has(name)) return { ...at, waiting: [...at.waiting, [name, data]] };
  return steps.get(name)?.(at, data) ?? at;
}
function isNew(state, name, id) {
  return serverEvents.has(name) || !reaches(state.lastEventId, id);
}
function reaches(held, id) {
  const [have, want] = [position(held), position(id)];
  return have !== null && want !== null && have.epoch === want.epoch && have.seq >= want.seq;
}
function position(id) {
  const [, epoch, seq] = /^(.*)-(\d+)$/s.exec(id) ?? [];
  return epoch === void 0 ? null : { epoch, seq: Number(seq) };
}
function connecting(state, reason = state.reason, problem = null, retryAt = null) {
  return { ...state, connection: "connecting", reason, problem, retryAt, expiring: null, waiting: [] };
}
function closed(state, problem = null) {
  return { ...connecting(state, problem && "refused"), connection: "closed", problem };
}
function renewed(state) {
  return { ...state, expiring: null };
}
function seen(state, fetched) {
  const members = new Map(state.members);
  for (const { id, connections, since } of fetched) {
    const member = members.get(id);
    if (member) members.set(id, { ...member, connections, since });
  }
  return { ...state, members };
}
function catchUp(state, log, held) {
  const id = state.lastEventId;
  const events = [];
  if (held !== "" && !reaches(held, id)) {
    const from = log.findIndex(({ event, prev }) => reaches(held, prev) && !reaches(held, event.id));
    if (from !== -1) events.push(...log.slice(from).map((message) => message.event));
    else if (state.connection === "open") events.push(eventOf("reset", { reason: "history" }, id));
  }
  if (state.connection !== "open") return events;
  const { connections, users, members, complete, heartbeat, count } = state;
  const list = complete ? { members: [...members.values()] } : {};
  events.push(eventOf("sync", { connections, users, ...list, complete, heartbeat }, id));
  if (count !== null) events.push(eventOf("user count", count, id));
  return events;
}
var eventOf = (name, data, id) => ({ name, text: JSON.stringify(data), id });
function afterSync(state, { connections, users, members, complete, heartbeat }) {
  const next = { ...state, connection: "open", reason: null, problem: null, retryAt: null, connections, users, members: new Map(complete ? (members ?? []).map((member) => [member.id, member]) : []), complete, heartbeat: heartbeat >= 1 && heartbeat <= longestHeartbeat ? Number(heartbeat) : state.heartbeat, waiting: [] };
  return state.waiting.reduce((state2, [name, data]) => apply(state2, name, data), next);
}
function afterJoin(state, { id, name, info, connections, users }) {
  if (!state.complete) return { ...state, connections, users };
  const member = { connections: 1, ...state.members.get(id), id, name, info };
  return { ...state, connections, users, members: new Map(state.members).set(id, member) };
}
function afterLeave(state, { id, connections, users }) {
  const members = new Map(state.members);
  members.delete(id);
  return { ...state, connections, users, members };
}
function afterUpdate(state, { id, name, info }) {
  const member = state.members.get(id);
  if (!member) return state;
  return { ...state, members: new Map(state.members).set(id, { ...member, name: name ?? member.name, info }) };
}
function afterGoodbye(state, { reason }) {
  const over = finalReasons.has(reason) && !(reason === "expired" && state.renewable);
  return { ...over ? closed(state) : connecting(state), reason };
}
function isRoomName(name) {
  return typeof name === "string" && /^[A-Za-z0-9._-]{1,128}$/.test(name);
}
function dataOf({ text }) {
  try {
    return JSON.parse(text);
  } catch {
    return void 0;
  }
}
var endsToken = (event) => event.name === "goodbye" && dataOf(event)?.reason === "expired";
var silence = ({ heartbeat }) => heartbeat * 2500;
var http1Slots = 5;
var http2Slots = 90;
var retryTime2 = 3e4;
async function takeSlot(url, signal, waiting) {
  const free = await findSlot(url, signal, waiting).catch(() => () => {
  });
  if (!signal.aborted) return free;
  free?.();
  return null;
}
async function findSlot(url, signal, waiting) {
  const locks = await sharedLocks() ?? pageLocks;
  if (signal.aborted) return null;
  let protocol = protocolOf(url.origin);
  let slots = slotsOf(url, protocol);
  let free = await takeFree(locks, slots);
  while (!free && !signal.aborted) {
    if (protocol === "") {
      protocol = await fetchProtocol(url);
      slots = slotsOf(url, protocol);
      free = await takeFree(locks, slots);
      if (free || signal.aborted) break;
    }
    waiting();
    free = await takeNext(locks, slots, signal, protocol === "" ? retryTime2 : null);
  }
  return free;
}
async function sharedLocks() {
  const locks = globalThis.navigator?.locks;
  return locks ? locks.query().then(() => locks, () => null) : null;
}
function slotsOf({ origin }, protocol) {
  const length = /^h[23]/.test(protocol) ? http2Slots : http1Slots;
  return Array.from({ length }, (_, i) => `presence stream ${i} ${origin}`);
}
function take(locks, name, options) {
  return new Promise((resolve, reject) => {
    const granted = (lock) => lock && new Promise((release) => resolve(release));
    locks.request(name, options, granted).then(() => resolve(null), reject);
  });
}
async function takeFree(locks, slots) {
  const { held = [] } = await locks.query();
  const taken = new Set(held.map(({ name }) => name));
  for (const name of slots) {
    const release = taken.has(name) ? null : await take(locks, name, { ifAvailable: true });
    if (release) return release;
  }
  return null;
}
async function takeNext(locks, slots, signal, ms) {
  if (signal.aborted) return null;
  const over = new AbortController();
  const end = () => over.abort();
  signal.addEventListener("abort", end);
  const timer = ms === null ? void 0 : setTimeout(end, ms);
  const waits = slots.map((name) => take(locks, name, { signal: over.signal }));
  const first = await Promise.any(waits).catch((error) => {
    if (!over.signal.aborted) throw error;
    return null;
  });
  signal.removeEventListener("abort", end);
  clearTimeout(timer);
  end();
  for (const wait of waits) wait.then((release) => release === first || release?.(), () => {
  });
  return first;
}
function protocolOf(origin) {
  const entries = ["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type));
  const known = entries.filter(({ name, nextHopProtocol }) => nextHopProtocol && name.startsWith(`${origin}/`));
  return known.at(-1)?.nextHopProtocol ?? "";
}
async function fetchProtocol(url) {
  const known = protocolOf(url.origin);
  if (known !== "" || !globalThis.PerformanceObserver) return known;
  let probe = probes.get(url.origin);
  if (!probe) {
    probe = sendProbe(new URL("healthz", url).href).finally(() => probes.delete(url.origin));
    probes.set(url.origin, probe);
  }
  return probe;
}
var probes = /* @__PURE__ */ new Map();
function sendProbe(href) {
  return new Promise((resolve) => {
    const end = (protocol = "") => {
      observer.disconnect();
      resolve(protocol);
    };
    const observer = new PerformanceObserver((list) => {
      const [entry] = list.getEntriesByName(href);
      if (entry) end(entry.nextHopProtocol);
    });
    observer.observe({ type: "resource" });
    const signal = AbortSignal.timeout(2e3);
    signal.addEventListener("abort", () => end());
    fetch(href, { cache: "no-store", signal }).then((response) => response.text()).catch(() => end());
  });
}
var pageLocks = { async request(name, { ifAvailable = false, signal }, run) {
  const queue = queues.get(name) ?? [];
  if (ifAvailable && queue.length > 0) return run(null);
  queues.set(name, queue);
  await new Promise((resolve, reject) => {
    queue.push(resolve);
    if (queue.length === 1) resolve();
    signal?.addEventListener("abort", () => {
      const i = queue.indexOf(resolve);
      if (i > 0) queue.splice(i, 1);
      reject(signal.reason);
    });
  });
  try {
    return await run({ name });
  } finally {
    queue.shift();
    if (queue.length === 0) queues.delete(name);
    queue[0]?.();
  }
}, async query() {
  return { held: [...queues.keys()].map((name) => ({ name })) };
} };
var queues = /* @__PURE__ */ new Map();
var logLength = 100;
var helloTimeout = 1e3;
var Tabs = class {
  #key;
  #sink;
  #open;
  #shared;
  #id = randomId();
  #channel;
  #term = 0;
  #lead = 0;
  #log = [];
  #asking = false;
  #link = null;
  #release = () => {
  };
  #queueing = new AbortController();
  #stopped = false;
  #timer;
  #starting;
  constructor(key, sink, open, shared) {
    this.#key = key;
    this.#sink = sink;
    this.#open = open;
    this.#shared = shared;
    this.#channel = new BroadcastChannel(key);
    this.#channel.onmessage = ({ data }) => {
      try {
        this.#receive(data);
      } catch {
      }
    };
    this.#queue(false);
    this.#ask();
  }
  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#starting);
    this.#queueing.abort();
    this.#link?.stop();
    this.#channel.close();
    const { reason } = this.#sink.state();
    if (reason === "removed" || reason === "signed out") setTimeout(this.#release, 250);
    else this.#release();
  }
  async #queue(steal) {
    this.#queueing.abort();
    const { signal } = this.#queueing = new AbortController();
    while (!this.#stopped && !signal.aborted) {
      const options = steal ? { steal } : { signal };
      steal = false;
      const end = await navigator.locks.request(this.#key, options, () => this.#onGranted()).catch((error) => error);
      clearTimeout(this.#starting);
      if (end?.name !== "AbortError") return;
      if (this.#link && !this.#stopped) this.#onStolen();
    }
  }
  #onGranted() {
    const held = new Promise((resolve) => this.#release = resolve);
    if (this.#stopped) {
      this.#release();
      return held;
    }
    this.#starting = setTimeout(() => this.#start(), 0);
    return held;
  }
  #start() {
    clearTimeout(this.#timer);
    this.#asking = false;
    this.#announce();
    this.#shared("leading");
    const sink = { state: this.#sink.state, event: (event) => {
      const { lastEventId: prev } = this.#sink.state();
      if (endsToken(event)) this.#handOver("expired");
      else this.#post({ kind: "event", term: this.#lead, prev, event });
      this.#deliver(event, prev);
    }, change: (change) => {
      if (change.to === "closed") this.#handOver("lost");
      else this.#post({ kind: "change", term: this.#lead, change });
      this.#sink.change(change);
    } };
    if (this.#sink.state().connection === "open") sink.change({ to: "connecting", reason: "lost" });
    else this.#dropWaiting();
    if (!this.#stopped) this.#link = this.#open(sink);
  }
  #handOver(reason) {
    this.#post({ kind: "change", term: this.#lead, change: { to: "connecting", reason } });
  }
  #announce() {
    this.#lead = this.#term = Math.max(Math.floor(this.#term) + 1, Date.now()) + Math.random();
    this.#post({ kind: "lead", term: this.#lead });
  }
  #onStolen() {
    this.#link?.stop();
    this.#link = null;
    this.#ask();
  }
  #receive(message) {
    if (this.#stopped || message?.kind !== "hello" && !isTerm(message?.term)) return;
    if (message.kind === "hello") {
      if (this.#link?.alive) this.#welcome(message.from, message.held);
      return;
    }
    if (message.kind === "event" && !serverEvents.has(message.event.name) && this.#follows(message.prev)) {
      this.#deliver(message.event, message.prev);
    }
    const before = this.#term;
    this.#term = Math.max(before, message.term);
    if (this.#link) {
      if (message.term < this.#lead) return;
      this.#wait(250, () => this.#announce());
    } else if (message.kind === "welcome" && message.to === this.#id && message.term >= before) {
      this.#onWelcome(message);
    } else if (message.term > before) {
      this.#ask();
    } else if (message.term === before) {
      const { lastEventId: held } = this.#sink.state();
      const other = message.kind === "event" && message.event.name === "reset" && message.prev !== held;
      const missing = other || message.kind === "event" && !this.#follows(message.prev);
      if (!this.#asking) missing ? this.#ask() : this.#noteActivity();
      if (message.kind === "change") this.#sink.change(message.change);
      else if (message.kind === "event" && !missing) this.#deliver(message.event, message.prev);
    }
  }
  #onWelcome({ held, change, events }) {
    const { lastEventId } = this.#sink.state();
    const lost = events[0]?.name === "reset" ? events[0].id : null;
    if (held !== lastEventId && (lost !== null || !reaches(lastEventId, held))) return this.#ask();
    if (lost !== null && reaches(lost, held)) return this.#wait(0, () => this.#queue(true));
    this.#asking = false;
    this.#noteActivity();
    if (change) this.#sink.change(change);
    for (const event of events) this.#deliver(event, this.#sink.state().lastEventId);
  }
  #follows(prev) {
    const { lastEventId: held } = this.#sink.state();
    return held === prev || reaches(held, prev);
  }
  #deliver(event, prev) {
    if (!isNew(this.#sink.state(), event.name, event.id)) return;
    if (event.name === "reset") this.#log = [];
    if (!serverEvents.has(event.name)) {
      this.#log.push({ event, prev });
      if (this.#log.length > logLength) this.#log.shift();
    }
    this.#sink.event(event);
  }
  #welcome(to, held) {
    const state = this.#sink.state();
    const { connection, reason, problem, retryAt } = state;
    const change = connection === "open" ? null : { to: "connecting", reason, problem: problem ?? void 0, retryAt };
    this.#post({ kind: "welcome", to, held, term: this.#lead, change, events: catchUp(state, this.#log, held) });
  }
  #ask() {
    this.#dropWaiting();
    this.#asking = true;
    this.#shared("following");
    this.#post({ kind: "hello", from: this.#id, held: this.#sink.state().lastEventId });
    this.#wait(helloTimeout * (1 + Math.random()), () => this.#queue(true));
  }
  #dropWaiting() {
    const { connection, reason, problem, retryAt, waiting } = this.#sink.state();
    if (connection !== "connecting" || waiting.length === 0) return;
    this.#sink.change({ to: "connecting", reason, problem: problem ?? void 0, retryAt });
  }
  #noteActivity() {
    this.#wait(silence(this.#sink.state()) + 100, () => this.#ask());
  }
  #wait(ms, then) {
    clearTimeout(this.#timer);
    if (!this.#stopped) this.#timer = setTimeout(then, ms);
  }
  #post(message) {
    if (!this.#stopped) this.#channel.postMessage(message);
  }
};
var isTerm = (term) => Number.isFinite(term) && term < 2 ** 50;
var randomId = () => crypto.getRandomValues(new Uint32Array(4)).join("-");
async function canShare() {
  try {
    const name = `presence ${randomId()}`;
    new BroadcastChannel(name).close();
    const locks = await sharedLocks();
    return locks !== null && await locks.request(name, {}, () => true);
  } catch {
    return false;
  }
}
var lateness = 1e3;
var longestLifetime = 86400;
var Link = class {
  #address;
  #sink;
  #names;
  #stopped = new AbortController();
  #synced = false;
  #everSynced = false;
  #tries = 0;
  #renewals = 0;
  #brief = 0;
  #reported = false;
  #tokenFreshAt = 0;
  #lastActivity = 0;
  #due = Infinity;
  #goodbye = false;
  #suspect = false;
  #source = null;
  #silenceTimer;
  #renewTimer;
  #end = (_) => {
  };
  #wake = () => {
  };
  constructor(address, sink, names) {
    this.#address = address;
    this.#sink = sink;
    this.#names = names;
    const { signal } = this.#stopped;
    globalThis.addEventListener?.("online", () => this.#checkAlive(), { signal });
    globalThis.addEventListener?.("offline", () => this.#wentOffline(), { signal });
    globalThis.document?.addEventListener("visibilitychange", () => document.hidden || this.#checkAlive(), { signal });
    globalThis.document?.addEventListener("resume", () => this.#wasFrozen(), { signal });
    this.#run();
  }
  stop() {
    this.#stopped.abort();
    clearTimeout(this.#renewTimer);
    this.#end({ reason: "stopped" });
    this.#wake();
  }
  get alive() {
    return isOffline() || performance.now() < this.#due;
  }
  listen(name) {
    this.#source?.addEventListener(name, ({ data, lastEventId }) => this.#deliver({ name, text: data, id: lastEventId }));
  }
  async #run() {
    const { signal } = this.#stopped;
    for (let causeUnknown = false; !signal.aborted; ) {
      const end = causeUnknown && await this.#fetchCause() || await this.#attemptInSlot();
      causeUnknown = end.causeUnknown ?? false;
      if (!signal.aborted) await this.#recover(end);
    }
  }
  async #recover({ reason, problem, after = 0, expired = false, causeUnknown }) {
    if (this.#synced) {
      this.#everSynced = true;
      this.#tries = 0;
      this.#renewals = 0;
      this.#brief = Date.now() - this.#tokenFreshAt < 1e3 ? this.#brief + 1 : 0;
      this.#synced = false;
    }
    if (this.#sink.state().connection === "closed") return this.stop();
    const refused = problem?.status === 401 && this.#address.credential.renewable && this.#renewals === 0;
    let final = problem !== void 0 && !isTransient(problem);
    if (expired || refused) {
      const failure = await this.#renew(false);
      if (this.#stopped.signal.aborted) return;
      if (!failure && this.#renewals++ === 0 && this.#brief <= 1) return;
      if (failure) reason = "token";
      problem = failure ?? void 0;
      final = failure?.status === 401;
    }
    if (problem && final) {
      this.#sink.change({ to: "closed", problem });
      return this.stop();
    }
    const wait = Math.max(after, backoff(this.#tries++));
    const askNow = causeUnknown && !this.#everSynced && this.#tries === 1;
    this.#sink.change({ to: "connecting", reason, problem, retryAt: askNow ? null : retryTime(wait) });
    if (askNow) return;
    if (await this.#pause(wait)) this.#tries = 0;
    if (!this.#stopped.signal.aborted) this.#sink.change({ to: "connecting", reason, problem });
  }
  async #attemptInSlot() {
    let waited = false;
    this.#expectWithin(requestTimeout);
    const free = await takeSlot(this.#address.url, this.#stopped.signal, () => {
      if (waited) return;
      waited = true;
      this.#watchTimers();
      this.#sink.change({ to: "connecting", reason: "connections" });
    });
    clearTimeout(this.#silenceTimer);
    if (!free) return { reason: "stopped" };
    if (waited) this.#sink.change({ to: "connecting", reason: null });
    return this.#attempt().finally(free);
  }
  async #attempt() {
    const over = new AbortController();
    const ended = new Promise((resolve2) => this.#end = resolve2);
    const resolve = this.#end;
    this.#goodbye = false;
    this.#noteActivity();
    if (this.#stopped.signal.aborted) resolve({ reason: "stopped" });
    else if (this.#names) this.#viaEventSource(this.#names());
    else this.#viaFetch(over.signal).then(resolve, () => resolve({ reason: "lost" }));
    const end = await ended;
    clearTimeout(this.#silenceTimer);
    over.abort();
    this.#source?.close();
    this.#source = null;
    return end;
  }
  #viaEventSource(names) {
    let source;
    try {
      source = new EventSource(this.#events(), { withCredentials: this.#address.withCredentials });
    } catch {
      return this.#end({ reason: this.#whyNotOpen(), causeUnknown: true });
    }
    this.#source = source;
    let opened = false;
    source.onopen = () => {
      opened = true;
      this.#noteActivity();
    };
    source.onerror = () => {
      const reason = this.#whyNotOpen();
      if (reason === "offline" || source.readyState === EventSource.CLOSED || !opened) return this.#end({ reason, causeUnknown: true });
      opened = this.#goodbye = false;
      this.#noteActivity();
      this.#sink.change({ to: "connecting", reason });
    };
    for (const name of names) this.listen(name);
  }
  async #viaFetch(signal) {
    let bearer;
    try {
      bearer = await this.#address.credential.fetchOptions();
    } catch (error) {
      return { reason: "token", problem: this.#callbackFailed(error) };
    }
    const headers = { ...bearer.headers, Accept: "text/event-stream" };
    const { lastEventId: requested } = this.#sink.state();
    let response;
    try {
      response = await fetch(this.#events(), { ...bearer, headers, cache: "no-store", signal });
    } catch (error) {
      return { reason: this.#whyNotOpen(), problem: noResponse(this.#address.url, error).problem };
    }
    if (response.status !== 200 || !response.body || !isStream(response.headers.get("Content-Type"))) {
      const { problem, after } = await errorOf(response, this.#address.url);
      return { reason: this.#whyNotOpen(), problem, after };
    }
    const text = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let partial = fresh(requested);
    for (; ; ) {
      const { value } = await text.read().catch(() => ({ value: void 0 }));
      if (value === void 0 || signal.aborted) break;
      this.#noteActivity();
      const { events, ...rest } = decode(partial, value);
      partial = rest.partial;
      for (const event of events) {
        const moved = !this.#synced && this.#sink.state().lastEventId !== requested;
        if (event.name === "reset" && moved) return { reason: "lost" };
        if (!signal.aborted) this.#deliver(event);
      }
    }
    return { reason: this.#whyNotOpen(), after: partial.retry ?? 0 };
  }
  #deliver(event) {
    this.#noteActivity();
    try {
      this.#sink.event(event);
    } catch {
      const problem = { title: "Unexpected event", status: 0, detail: `no presence server at ${this.#address.url}` };
      return this.#end({ reason: "lost", problem });
    }
    if (event.name === "goodbye") this.#goodbye = true;
    if (event.name === "sync") {
      this.#synced = true;
      this.#tokenFreshAt = Date.now();
    }
    if (this.#sink.state().connection === "closed") this.#end({ reason: "closed" });
    else if (endsToken(event)) this.#end({ reason: "expired", expired: true });
    else if (event.name === "expiring") this.#prolong(dataOf(event)?.in, Date.now() - this.#tokenFreshAt < 5e3);
  }
  async #fetchCause() {
    this.#expectWithin(requestTimeout + lateness);
    try {
      await this.#address.request("GET", "presence", { query: { limit: "1" } });
      return null;
    } catch (error) {
      const { problem, after } = error;
      return { reason: this.#whyNotOpen(), problem, after, causeUnknown: true };
    }
  }
  #whyNotOpen(why = "lost") {
    const { reason } = this.#sink.state();
    if (isOffline()) return "offline";
    return reason === null || !this.#goodbye ? why : reason;
  }
  #noteActivity() {
    this.#lastActivity = Date.now();
    this.#suspect = false;
    clearTimeout(this.#silenceTimer);
    const limit = silence(this.#sink.state());
    this.#expectWithin(limit);
    this.#silenceTimer = setTimeout(() => this.#end({ reason: this.#whyNotOpen("silent") }), limit);
  }
  #watchTimers() {
    this.#expectWithin(requestTimeout + lateness);
    this.#silenceTimer = setTimeout(() => this.#watchTimers(), requestTimeout);
  }
  #expectWithin(ms) {
    this.#due = performance.now() + ms;
  }
  #checkAlive() {
    this.#wake();
    if (this.#suspect || Date.now() - this.#lastActivity >= silence(this.#sink.state())) this.#end({ reason: "silent" });
  }
  #wasFrozen() {
    this.#suspect = true;
    this.#checkAlive();
  }
  #wentOffline() {
    this.#suspect = true;
    if (this.#sink.state().connection === "open") return;
    this.#end({ reason: "offline" });
    this.#wake();
  }
  async #pause(ms) {
    let timer;
    const woken = await new Promise((resolve) => {
      this.#wake = () => resolve(true);
      if (isOffline()) return;
      this.#expectWithin(ms + lateness);
      timer = setTimeout(resolve, ms, false);
    });
    clearTimeout(timer);
    return woken;
  }
  async #renew(open) {
    this.#tokenFreshAt = Date.now();
    if (!open) this.#expectWithin(renewalTimeout + lateness);
    return this.#address.renew(open).then(() => null, (error) => this.#callbackFailed(error));
  }
  #callbackFailed(error) {
    const problem = fromCallback(error);
    const wasOpen = this.#sink.state().connections !== null;
    const expected = error instanceof PresenceError && (isTransient(problem) || problem.detail === emptyToken);
    const { renewable } = this.#address.credential;
    if (renewable && !wasOpen && !expected && !this.#reported && !this.#stopped.signal.aborted) {
      this.#reported = true;
      report(error);
    }
    return problem;
  }
  async #prolong(remaining, later) {
    if (!this.#address.credential.renewable || this.#stopped.signal.aborted) return;
    const seconds = Math.min(remaining, longestLifetime);
    clearTimeout(this.#renewTimer);
    if (later) {
      this.#renewTimer = setTimeout(() => this.#prolong(seconds / 2, false), seconds * 500);
      return;
    }
    const failure = await this.#renew(true);
    if (this.#stopped.signal.aborted) return;
    if (!failure) this.#sink.change({ to: "renewed" });
    else if (seconds >= 2) this.#prolong(seconds, true);
  }
  #events() {
    const { lastEventId } = this.#sink.state();
    return this.#address.of("events", lastEventId === "" ? {} : { last_event_id: lastEventId });
  }
};
function join(options) {
  return new Room(options);
}
var sendTimeout = 15e3;
var maxQueued = 1e3;
var Room = class {
  #options;
  #address;
  #state;
  #listeners = /* @__PURE__ */ new Map();
  #source = null;
  #sink = null;
  #closing = new AbortController();
  #paused = false;
  #away = false;
  #sending = Promise.resolve();
  #queued = 0;
  #info = null;
  #me = null;
  #settingState = Promise.resolve();
  constructor(options = {}) {
    const { room = "lobby", lastEventId = "" } = options;
    if (!isRoomName(room)) {
      throw new TypeError(`presence: invalid room name ${JSON.stringify(room)} (1 to 128 characters of A-Z a-z 0-9 . _ -)`);
    }
    this.#options = options;
    this.#address = new Address(options);
    const { renewable } = this.#address.credential;
    this.#state = Object.freeze({ ...initial, members: /* @__PURE__ */ new Map(), lastEventId, renewable });
    const { signal } = this.#closing;
    globalThis.addEventListener?.("pagehide", () => this.#setAway(true), { signal });
    globalThis.addEventListener?.("pageshow", ({ persisted }) => persisted && this.#setAway(false), { signal });
    globalThis.document?.addEventListener("freeze", () => this.#setAway(true), { signal });
    globalThis.document?.addEventListener("resume", () => this.#setAway(false), { signal });
    globalThis.document?.addEventListener("prerenderingchange", () => this.#enter(), { signal });
    this.#enter();
  }
  get url() {
    return this.#address.url;
  }
  get name() {
    return this.#address.room;
  }
  get state() {
    return this.#state;
  }
  get count() {
    return this.#state.count;
  }
  get connections() {
    return this.#state.connections;
  }
  get users() {
    return this.#state.users;
  }
  get members() {
    return this.#state.members;
  }
  get lastEventId() {
    return this.#state.lastEventId;
  }
  on(name, fn) {
    if (name === "open" || name === "error") throw new TypeError(`presence: reserved event name "${name}" (listen for "state")`);
    let fns = this.#listeners.get(name);
    if (!fns) {
      this.#listeners.set(name, fns = /* @__PURE__ */ new Set());
      if (!serverEvents.has(name) && !localNames.has(name)) this.#source?.listen?.(name);
    }
    const listener = (data) => fn(data);
    fns.add(listener);
    return () => void fns.delete(listener);
  }
  async send(data, { event, id = randomId() } = {}) {
    if (event !== void 0 && localNames.has(event)) throw new TypeError(`presence: reserved event name "${event}"`);
    if (this.#queued >= maxQueued) throw new PresenceError({ title: `Send queue full (${maxQueued} messages)`, status: 0 });
    this.#queued++;
    const sent = this.#sending.then(() => this.#send({ event, id, data: data ?? null })).finally(() => this.#queued--);
    this.#sending = sent.then(() => {
    }, () => {
    });
    return sent;
  }
  async #send(body) {
    if (isPrerendering()) await new Promise((resolve) => document.addEventListener("prerenderingchange", resolve));
    const end = performance.now() + sendTimeout;
    for (let tries = 0; ; tries++) {
      await this.#awaitStream(end);
      try {
        return await this.#request("POST", "messages", { body });
      } catch (error) {
        if (!(error instanceof PresenceError) || !isTransient(error.problem)) throw error;
        const wait = Math.max(error.after, backoff(tries));
        if (performance.now() + wait > end) throw error;
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
  }
  async #awaitStream(end) {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, end - performance.now());
      const check = () => {
        const { connection, reason } = this.#state;
        if (connection === "connecting" && reason !== "connections" && reason !== "paused") return;
        off();
        clearTimeout(timer);
        resolve();
      };
      const off = this.on("state", check);
      check();
    });
  }
  setState(info) {
    this.#info = { info: info ?? null, accepted: false, stands: true };
    return this.#putState(this.#info);
  }
  #putState(info) {
    const done = this.#settingState.then(async () => {
      await this.#opened();
      if (info !== this.#info) return;
      await this.#request("PUT", "state", { body: info.info });
      info.accepted = true;
      this.#me ??= await this.#user().catch(() => null);
    });
    this.#settingState = done.catch(() => {
    });
    return done;
  }
  #opened() {
    return new Promise((resolve, reject) => {
      const check = () => {
        const { connection, problem } = this.#state;
        if (connection === "connecting") return;
        off();
        if (connection === "open") resolve();
        else reject(new PresenceError(problem ?? { title: "Room closed", status: 0 }));
      };
      const off = this.on("state", check);
      check();
    });
  }
  async refresh(limit = 1e3) {
    const page = await this.#request("GET", "presence", { query: { limit: String(limit) } });
    this.#set(seen(this.#state, page.members));
  }
  async history({ limit = 50, before } = {}) {
    const query = { limit: String(limit), ...before && { before } };
    const page = await this.#request("GET", "messages", { query });
    return { messages: page.messages, next: page.next ?? null, lastEventId: page.last_event_id };
  }
  pause() {
    this.#paused = true;
    this.#leave();
  }
  resume() {
    if (!this.#paused) return;
    this.#paused = false;
    this.#change({ to: "connecting", reason: null });
    this.#enter();
  }
  close() {
    if (this.#state.connection !== "closed") this.#set(closed(this.#state));
    this.#source = null;
  }
  #enter() {
    if (this.#source || this.#paused || this.#away || isPrerendering() || this.#state.connection === "closed") return;
    const sink = { state: () => this.#state, event: (event) => this.#sink === sink && this.#event(event), change: (change) => this.#sink === sink && this.#change(change) };
    this.#sink = sink;
    if (this.#options.share) this.#share(sink);
    else this.#source = this.#link(sink);
  }
  #link(sink) {
    const receivesAll = !this.#address.credential.isCookie || !globalThis.EventSource;
    return new Link(this.#address, sink, receivesAll ? null : () => this.#names());
  }
  #names() {
    const names = /* @__PURE__ */ new Set([...serverEvents, ...this.#listeners.keys()]);
    for (const name of localNames) names.delete(name);
    return names;
  }
  async #share(sink) {
    const abort = new AbortController();
    const pending = { stop: () => abort.abort() };
    this.#source = pending;
    const user = await canShare() ? await this.#awaitUser(abort.signal) : null;
    if (this.#source !== pending) return;
    this.#me = user;
    if (user === null) {
      this.#source = this.#link(sink);
      return;
    }
    const shared = (role) => {
      if (role !== this.#state.shared) this.#set({ ...this.#state, shared: role });
    };
    const open = (sink2) => new Link(this.#address, sink2, null);
    const tabs = new Tabs(`presence 2 ${this.url.href} ${this.name} ${user}`, sink, open, shared);
    if (this.#source === pending) this.#source = tabs;
    else tabs.stop();
  }
  async #awaitUser(signal) {
    for (let tries = 0, renewed2 = false; !signal.aborted; tries++) {
      try {
        const user = await this.#user();
        if (user !== null || renewed2 || !this.#address.credential.renewable) return user;
        await this.#address.renew(false);
        renewed2 = true;
      } catch (error) {
        const problem = problemOf(error);
        if (problem && !isTransient(problem)) return null;
        if (signal.aborted) return null;
        if (!problem && tries === 0) report(error);
        const change = { to: "connecting", reason: problem ? "lost" : "token", problem: fromCallback(error) };
        const wait = backoff(tries);
        this.#change({ ...change, retryAt: retryTime(wait) });
        await pause(wait, signal);
        if (!signal.aborted) this.#change(change);
      }
    }
    return null;
  }
  async #user() {
    const { credential } = this.#address;
    if (!credential.isCookie) return userOf(await credential.token());
    return (await this.#address.request("GET", "session"))?.user?.id ?? null;
  }
  #setAway(away) {
    this.#away = away;
    if (away) this.#leave();
    else this.#enter();
  }
  #leave() {
    this.#sink = null;
    this.#source?.stop();
    this.#source = null;
    if (this.#state.connection === "closed") return;
    this.#set({ ...connecting(this.#state, this.#paused ? "paused" : "lost"), shared: null });
  }
  #event(event) {
    const { name, id } = event;
    const before = this.#state;
    if (before.connection === "closed" || !isNew(before, name, id)) return;
    const data = dataOf(event);
    if (data === void 0) return;
    this.#set(apply(before, name, data, id));
    if (name === "user count") this.#emit("count", data);
    if (!localNames.has(name)) this.#emit(name, data);
    this.#keepInfo(name, data, before.connection !== "open" && this.#state.connection === "open");
  }
  #keepInfo(name, data, opened) {
    const mine = this.#info;
    if (!mine?.accepted) return;
    if (name === "update" && data.id === this.#me) mine.stands = same(data.info, mine.info);
    const known = this.#me === null ? void 0 : this.#state.members.get(this.#me);
    if (opened && mine.stands && !(known && same(known.info, mine.info))) this.#putState(mine).catch(() => {
    });
  }
  #change(change) {
    if (this.#state.connection === "closed") return;
    if (change.to === "connecting") this.#set(connecting(this.#state, change.reason, change.problem, change.retryAt));
    else if (change.to === "closed") this.#set(closed(this.#state, change.problem));
    else this.#set(renewed(this.#state));
  }
  #set(state) {
    if (state === this.#state) return;
    this.#state = Object.freeze(state);
    if (state.connection === "closed") {
      this.#closing.abort();
      this.#source?.stop();
    }
    this.#emit("state", state);
  }
  #emit(name, data) {
    for (const fn of [...this.#listeners.get(name) ?? []]) {
      try {
        fn(data);
      } catch (error) {
        report(error);
      }
    }
  }
  async #request(method, path, options) {
    const send = () => this.#address.request(method, path, options);
    return send().catch(async (error) => {
      if (problemOf(error)?.status !== 401 || !this.#address.credential.renewable) throw error;
      await this.#address.renew(false);
      return send();
    });
  }
};
async function pause(ms, signal) {
  const over = new AbortController();
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    const end = () => {
      clearTimeout(timer);
      resolve();
    };
    if (signal.aborted) end();
    signal.addEventListener("abort", end, { signal: over.signal });
    globalThis.addEventListener?.("online", end, { signal: over.signal });
  });
  over.abort();
}
var same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
var isPrerendering = () => Boolean(globalThis.document?.prerendering);
export { PresenceError, Room, apply, backoff, catchUp, closed, connecting, decode, fresh, initial, isNew, isRoomName, join, randomId, reaches, renewed, request, seen };
