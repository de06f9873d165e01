/**
 * presence.js: who is in a room, how many, and what they say, live.
 *
 *     import { Presence } from "./presence.js";
 *
 *     const lobby = new Presence({ room: "lobby" });
 *     lobby.subscribe((state) => console.log(state.count, state.members));
 *     lobby.on("message", ({ from, data }) => console.log(from?.name, data));
 *     lobby.open();
 *     await lobby.send("hello");
 *
 * The first half are pure functions from a state and an event to the next state; the second is one class that feeds
 * them from an EventSource. Neither touches the page. The credential is the cookie that POST session or POST login set.
 *
 * @typedef {object} Member   Someone who is in the room.
 * @property {string} id
 * @property {string} name
 * @property {*} info
 * @property {number} connections   Open streams; 0 while the room waits for a return. Told in `sync` only: see refresh.
 * @property {string} [since]       RFC 3339; not known of a member who came after `sync`.
 *
 * @typedef {object} Message  What `message`, or an event of the sender's own name, carries.
 * @property {string} id   Its place in the room's messages.
 * @property {{id: string, name: string}} [from]  None: the server itself.
 * @property {*} data
 * @property {string} at   RFC 3339.
 *
 * @typedef {object} Problem  RFC 9457. `status` is 0 if there was no answer at all.
 * @property {string} [type]
 * @property {string} title
 * @property {number} status
 * @property {string} [detail]
 *
 * @typedef {object} State  Never changed in place: another state is another object.
 * @property {"connecting"|"open"|"closed"} connection  Open from `sync` on. Closed stays so until open() is called.
 * @property {?string} reason      Why it is not open: that of the last `goodbye`, or "refused"; else null.
 * @property {?Problem} problem    With "refused": what the server answered.
 * @property {?number} count       The last `user count`. The one number that is always kept up to date.
 * @property {?number} connections As the last `sync`, `join` or `leave` told.
 * @property {?number} users       The same.
 * @property {?Map<string, Member>} members  By id. null: not known, before `sync` or in a room too large to tell.
 * @property {boolean} complete    Whether the last `sync` held the members.
 * @property {number} heartbeat    Seconds between two pings.
 * @property {?number} expiring    Seconds that the token had left when the server warned of its end.
 * @property {boolean} synced      Whether this connection has had its `sync`.
 * @property {Array<[string, *]>} waiting  Events that came before it.
 */

/** @type {State} */
export const initial = Object.freeze({
  connection: "closed",
  reason: null,
  problem: null,
  count: null,
  connections: null,
  users: null,
  members: null,
  complete: false,
  heartbeat: 15,
  expiring: null,
  synced: false,
  waiting: [],
});

// After these a return would only be refused, or would be against somebody's will.
const final = new Set(["removed", "signed out", "expired"]);

// These change what `sync` tells, so they mean nothing without it.
const changes = new Set(["join", "leave", "update"]);

// A Map, as names of events are chosen by strangers: there is no `constructor` in it.
const steps = new Map([
  ["sync", sync],
  ["user count", (state, count) => ({ ...state, count })],
  ["join", join],
  ["leave", leave],
  ["update", update],
  ["expiring", (state, { in: seconds }) => ({ ...state, expiring: seconds })],
  ["goodbye", (state, { reason }) => ({ ...(final.has(reason) ? closed(state) : connecting(state)), reason })],
]);

/** The events of the server's own, `message` aside. */
const own = [...steps.keys(), "reset", "ping"];

/**
 * The state after an event of the stream. The same object if nothing changed, as after a message, `reset` or `ping`.
 *
 * @param {State} state
 * @param {string} name
 * @param {*} data   The event's data, parsed.
 * @returns {State}
 */
export function apply(state, name, data) {
  if (!state.synced && changes.has(name)) return { ...state, waiting: [...state.waiting, [name, data]] };
  return steps.get(name)?.(state, data) ?? state;
}

/** The state while a connection is sought. Who was here stays to be seen until the next `sync`. */
export function connecting(state) {
  return { ...state, connection: "connecting", problem: null, expiring: null, synced: false, waiting: [] };
}

/** The state when no connection is sought any more, with the server's answer if that is the reason. */
export function closed(state, problem = null) {
  return { ...connecting(state), connection: "closed", reason: problem && "refused", problem };
}

/**
 * The state with what GET presence told of members. It may be older or newer than the stream, which alone says who
 * came and went: nobody is added or taken away.
 *
 * @param {State} state
 * @param {Member[]} told
 */
export function seen(state, told) {
  if (!state.members) return state;
  const members = new Map(state.members);
  for (const { id, connections, since } of told) {
    if (members.has(id)) members.set(id, { ...members.get(id), connections, since });
  }
  return { ...state, members };
}

function sync(state, { connections, users, members, complete, heartbeat }) {
  const next = {
    ...state,
    connection: "open",
    reason: null,
    problem: null,
    connections,
    users,
    members: complete ? new Map((members ?? []).map((member) => [member.id, member])) : null,
    complete,
    heartbeat: heartbeat ?? state.heartbeat,
    synced: true,
    waiting: [],
  };
  return state.waiting.reduce((state, [name, data]) => apply(state, name, data), next);
}

function join(state, { id, name, info, connections, users }) {
  const member = { connections: 1, ...state.members?.get(id), id, name, info };
  return { ...state, connections, users, members: state.members && new Map(state.members).set(id, member) };
}

function leave(state, { id, connections, users }) {
  const members = state.members && new Map(state.members);
  members?.delete(id);
  return { ...state, connections, users, members };
}

function update(state, { id, info }) {
  const member = state.members?.get(id);
  return member ? { ...state, members: new Map(state.members).set(id, { ...member, info }) } : state;
}

/** An answer that is a refusal, or none at all. `message` is fit to be shown. */
export class PresenceError extends Error {
  /**
   * @param {Problem} problem
   * @param {ErrorOptions} [options]
   */
  constructor(problem, options) {
    super(problem.detail || problem.title || `HTTP status ${problem.status}`, options);
    this.name = "PresenceError";
    /** @type {Problem} */
    this.problem = problem;
  }
}

/**
 * Sends a request, with a body of JSON unless it is undefined.
 *
 * @param {string} method
 * @param {URL|string} url
 * @param {*} [body]
 * @param {RequestInit} [options]
 * @returns {Promise<*>}   The answer's JSON; null if it has none.
 * @throws {PresenceError} On any status but 2xx, and with status 0 without an answer.
 */
export async function request(method, url, body, options) {
  const json = body === undefined ? {} : { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(url, { method, cache: "no-store", ...json, ...options });
  } catch (cause) {
    throw new PresenceError({ title: "No answer", status: 0, detail: "The server did not answer." }, { cause });
  }
  const told = /\bjson\b/.test(answer.headers.get("Content-Type")) ? await answer.json().catch(() => null) : null;
  if (answer.ok) return told;
  throw new PresenceError({ title: answer.statusText, ...told, status: answer.status });
}

// Milliseconds: the first wait of our own before coming back, and the longest.
const firstWait = 1000;
const longestWait = 30_000;

/** One room, as seen from here. It opens nothing before open() and leaves nothing running after close(). */
export class Presence {
  #state = initial;
  #listeners = new Map(); // name of an event → Set of functions
  #subscribers = new Set();
  #source = null; // the EventSource
  #lastEventId = "";
  #waits = 0; // how often in a row we waited to come back
  #timer; // the end of such a wait, or of the stream's silence
  #asking = null; // aborts the question why the stream was refused

  /**
   * @param {object} [options]
   * @param {URL|string} [options.url]   Where the server is mounted; by default where this file was served from.
   * @param {string} [options.room]      1–128 of A-Z a-z 0-9 . _ -
   * @param {boolean} [options.withCredentials]  Send the cookie to another origin, too.
   */
  constructor({ url = new URL(".", import.meta.url), room = "lobby", withCredentials = false } = {}) {
    this.url = new URL(url, globalThis.location?.href);
    if (!this.url.pathname.endsWith("/")) this.url.pathname += "/";
    this.room = room;
    this.withCredentials = withCredentials;
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /**
   * Calls fn(state) after each change of the state.
   *
   * @param {(state: State) => void} fn
   * @returns {() => void}  Ends that.
   */
  subscribe(fn) {
    this.#subscribers.add(fn);
    return () => this.#subscribers.delete(fn);
  }

  /**
   * Calls fn(data) at each event of that name, after it has changed the state: one of the server's own, `message`, or
   * a sender's. An EventSource hears only the names it was asked for, so there is none that stands for all.
   *
   * @param {string} name
   * @param {(data: *) => void} fn
   * @returns {() => void}  Ends that.
   */
  on(name, fn) {
    // An EventSource's own events, which the server lets no message be called.
    if (name === "open" || name === "error") throw new TypeError(`presence: no event is called ${name}; see subscribe`);
    if (!this.#listeners.has(name)) {
      this.#listeners.set(name, new Set());
      if (this.#source && !own.includes(name)) this.#hear(name);
    }
    this.#listeners.get(name).add(fn);
    return () => this.#listeners.get(name).delete(fn);
  }

  /** Opens the stream; after close(), or when it has ended for good, it takes up where it was. */
  open() {
    if (this.#state.connection !== "closed") return;
    this.#waits = 0;
    this.#set({ ...connecting(this.#state), reason: null });
    this.#connect();
  }

  /** Ends the stream, and all waiting for it. */
  close() {
    this.#stop();
    if (this.#state.connection !== "closed") this.#set(closed(this.#state));
  }

  /**
   * Sends a message to the room. A failure may have been taken all the same.
   *
   * @param {*} data   Any JSON.
   * @param {{event?: string, id?: string}} [options]
   * @returns {Promise<{id: string}>}
   * @throws {PresenceError}
   */
  send(data, { event, id } = {}) {
    return this.#request("POST", "messages", {}, { event, id, data: data ?? null });
  }

  /**
   * Asks how many connections each member has, and brings the state up to date: the stream tells that a user came and
   * went, but not of a second tab.
   *
   * @param {number} [limit]  Of how many members; at most 1000.
   * @throws {PresenceError}  401 without a token, 403 with one that may not join the room.
   */
  async refresh(limit = 1000) {
    const { members } = await this.#request("GET", "presence", { limit });
    const next = seen(this.#state, members);
    if (next !== this.#state) this.#set(next);
  }

  #at(path, query) {
    const url = new URL(path, this.url);
    url.search = new URLSearchParams({ room: this.room, ...query });
    return url;
  }

  #request(method, path, query, body, signal) {
    const credentials = this.withCredentials ? "include" : "same-origin";
    return request(method, this.#at(path, query), body, { credentials, signal });
  }

  #set(state) {
    this.#state = state;
    for (const fn of this.#subscribers) fn(state);
  }

  #connect() {
    const url = this.#at("events", this.#lastEventId && { last_event_id: this.#lastEventId });
    const source = new EventSource(url, { withCredentials: this.withCredentials });
    this.#source = source;
    source.onopen = () => this.#listen();
    source.onerror = () => {
      // CLOSED: it was answered with something else than a stream, and gives up for good. Else it comes back by itself,
      // after the time that the server named in `retry:`.
      if (source.readyState === EventSource.CLOSED) return this.#comeBack();
      clearTimeout(this.#timer);
      this.#set(connecting(this.#state));
    };
    for (const name of new Set([...own, ...this.#listeners.keys()])) this.#hear(name);
  }

  #hear(name) {
    this.#source.addEventListener(name, ({ data, lastEventId }) => {
      if (lastEventId) this.#lastEventId = lastEventId;
      const value = JSON.parse(data);
      const next = apply(this.#state, name, value);
      if (name === "sync") this.#waits = 0;
      if (next.connection === "closed") this.#stop();
      else this.#listen();
      if (next !== this.#state) this.#set(next);
      for (const fn of this.#listeners.get(name) ?? []) fn(value);
    });
  }

  // A peer that vanished without a word looks to an EventSource like one that has nothing to say; but the server pings.
  #listen() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#comeBack(), this.#state.heartbeat * 2500);
  }

  // Waits, longer each time and never as long as the others do, then asks what an EventSource does not tell: why.
  #comeBack() {
    this.#stop();
    const most = Math.min(longestWait, firstWait * 2 ** this.#waits++);
    this.#timer = setTimeout(() => this.#ask(), (most * (1 + Math.random())) / 2);
    this.#set(connecting(this.#state));
  }

  async #ask() {
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    const problem = await this.#request("GET", "presence", { limit: 1 }, undefined, signal).then(
      () => null,
      (error) => error.problem,
    );
    if (signal.aborted) return;
    if (!problem) return this.#connect();
    if (problem.status < 400 || problem.status === 429 || problem.status >= 500) return this.#comeBack();
    this.#stop();
    this.#set(closed(this.#state, problem));
  }

  #stop() {
    clearTimeout(this.#timer);
    this.#asking?.abort();
    this.#source?.close();
    this.#source = null;
  }
}
