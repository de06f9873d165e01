/**
 * The object that join() returns.
 */
import { Link } from "./link.js";
import {
  Address, PresenceError, backoff, fromCallback, isTransient, problemOf, report, retryTime, userOf,
} from "./request.js";
import { apply, closed, connecting, dataOf, initial, isNew, isRoomName, localNames, renewed, seen, serverEvents } from "./state.js";
import { Tabs, canShare, randomId } from "./tabs.js";

/**
 * @import { StreamEvent } from "./eventstream.js"
 * @import { ConnectionChange, Sink } from "./link.js"
 * @import { Options } from "./request.js"
 * @import { Message, MessagePage, RoomEvents, State } from "./state.js"
 */

/**
 * Joins a room. The room reconnects after each lost connection until close() is called. It also
 * closes if the server rejects the request or ends the session: see State.reason.
 *
 * @param {Options} [options]
 * @returns {Room}
 * @throws {TypeError}  If the room name or the URL is invalid.
 * @example
 * async function token() {
 *   const response = await fetch("/token"); // a path of your application
 *   if (!response.ok) throw new Error(`/token: status ${response.status}`);
 *   return response.text();
 * }
 * const room = join({ url: "/presence/", room: "lobby", token });
 * room.on("state", ({ connection, members }) => render(connection, [...members.values()]));
 */
export function join(options) {
  return new Room(options);
}

const sendTimeout = 15_000; // milliseconds for which a message is retried
const maxQueued = 1000; // maximum length of the send queue

/**
 * @typedef {object} Info  The info that setState() has set.
 * @property {any} info
 * @property {boolean} accepted  Whether the server has accepted it.
 * @property {boolean} stands  Whether it is the user's latest info. False if another tab or device
 *   of the user has set other info since.
 */

/**
 * A room that was joined with join(). If a token callback fails during send(), setState(),
 * refresh() or history(), the call rejects with the error of the callback.
 */
export class Room {
  #options;
  #address;
  /** @type {State} */
  #state;
  /** @type {Map<string, Set<(data: any) => void>>} */
  #listeners = new Map();
  /** @type {{stop(): void, listen?(name: string): void}|null} */
  #source = null;
  /** @type {Sink|null} */
  #sink = null; // receives the events since the room was entered, and none after it was left
  #closing = new AbortController();
  #paused = false;
  #away = false; // whether the page is frozen or in the back/forward cache
  #sending = Promise.resolve();
  #queued = 0;
  /** @type {Info|null} */
  #info = null; // the last info that was passed to setState()
  /** @type {string|null} */
  #me = null; // the user's id, once known
  #settingState = Promise.resolve();

  /** @param {Options} [options] */
  constructor(options = {}) {
    const { room = "lobby", lastEventId = "" } = options;
    if (!isRoomName(room)) {
      throw new TypeError(`presence: invalid room name ${JSON.stringify(room)} (1 to 128 characters of A-Z a-z 0-9 . _ -)`);
    }
    this.#options = options;
    this.#address = new Address(options);
    const { renewable } = this.#address.credential;
    this.#state = Object.freeze({ ...initial, members: new Map(), lastEventId, renewable });
    const { signal } = this.#closing;
    // A page leaves the room while it is in the back/forward cache or frozen, because it cannot
    // receive events then. It also leaves at its end: Firefox ESR 153 on a busy machine kept the
    // stream of a page that had ended until the next navigation. A prerendered page enters the room
    // when the user opens it.
    globalThis.addEventListener?.("pagehide", () => this.#setAway(true), { signal });
    globalThis.addEventListener?.("pageshow", ({ persisted }) => persisted && this.#setAway(false), { signal });
    globalThis.document?.addEventListener("freeze", () => this.#setAway(true), { signal });
    globalThis.document?.addEventListener("resume", () => this.#setAway(false), { signal });
    globalThis.document?.addEventListener("prerenderingchange", () => this.#enter(), { signal });
    this.#enter();
  }

  /** URL at which the server is mounted. It ends with a slash. */
  get url() {
    return this.#address.url;
  }

  /** The room name. */
  get name() {
    return this.#address.room;
  }

  /**
   * The current state. The object is frozen: each change creates a new one.
   *
   * @returns {Readonly<State>}
   */
  get state() {
    return this.#state;
  }

  /** The user count: see State.count. */
  get count() {
    return this.#state.count;
  }

  /** Open streams in the room: see State.connections. */
  get connections() {
    return this.#state.connections;
  }

  /** Users in the room: see State.users. */
  get users() {
    return this.#state.users;
  }

  /** Members by id: see State.members. */
  get members() {
    return this.#state.members;
  }

  /** Position up to which all messages were received: see State.lastEventId. */
  get lastEventId() {
    return this.#state.lastEventId;
  }

  /**
   * Adds a listener. `fn` is called for each event of that name, after the event has changed the
   * state.
   *
   * - "state": any change of the state. `fn` receives the State.
   * - "count": the user count, after each `user count` event. `fn` receives the number.
   * - "sync", "user count", "join", "leave", "update", "reset", "expiring", "goodbye", "ping": an
   *   event of the server. `fn` receives its data: see RoomEvents.
   * - "message", or a name that a sender chose: a message. `fn` receives the Message. A message
   *   with the name "count" or "state" is not delivered.
   *
   * An exception in a listener is passed to reportError() and does not affect other listeners.
   *
   * @template {string} N
   * @param {N} name
   * @param {(data: N extends keyof RoomEvents ? RoomEvents[N] : Message) => void} fn
   * @returns {() => void}  A function that removes the listener.
   * @throws {TypeError}  If the name is "open" or "error".
   * @example
   * const off = room.on("chat message", ({ from, data }) => show(from?.name, data));
   * off(); // removes the listener
   */
  on(name, fn) {
    // An EventSource emits events with these names itself. The server rejects messages with these
    // names.
    if (name === "open" || name === "error") throw new TypeError(`presence: reserved event name "${name}" (listen for "state")`);
    let fns = this.#listeners.get(name);
    if (!fns) {
      this.#listeners.set(name, (fns = new Set()));
      if (!serverEvents.has(name) && !localNames.has(name)) this.#source?.listen?.(name);
    }
    const listener = (/** @type {any} */ data) => fn(data); // the same function may be added twice
    fns.add(listener);
    return () => void fns.delete(listener);
  }

  /**
   * Sends a message to the room. It waits until the stream is open, and it sends one message at a
   * time, so that messages keep their order. A message without a response, or with a temporary
   * error (408, 425, 429, 5xx), is retried for up to 15 s. The message has an idempotency key, so
   * the room receives it only once.
   *
   * @param {any} data  Any JSON. undefined is sent as null.
   * @param {{event?: string, id?: string}} [options]  `event`: the event name, 1 to 64 characters
   *   without control or format characters (Unicode category Cf). Default: "message". `id`: the
   *   idempotency key. Default: random. Set it to send the same message again later.
   * @returns {Promise<{id: string}>}  The position in the room's messages.
   * @throws {PresenceError}  If the server rejects the message, if the send queue is full (1000
   *   messages), or if no attempt succeeds within 15 s. In the last case, the server may have
   *   accepted the message if its response was lost.
   * @throws {TypeError}  If the event name is "count" or "state", or if the data is not JSON.
   * @example
   * await room.send("hello");
   * await room.send({ x: 10, y: 20 }, { event: "cursor" }); // received with room.on("cursor", fn)
   */
  async send(data, { event, id = randomId() } = {}) {
    if (event !== undefined && localNames.has(event)) throw new TypeError(`presence: reserved event name "${event}"`);
    if (this.#queued >= maxQueued) throw new PresenceError({ title: `Send queue full (${maxQueued} messages)`, status: 0 });
    this.#queued++;
    const sent = this.#sending.then(() => this.#send({ event, id, data: data ?? null })).finally(() => this.#queued--);
    this.#sending = sent.then(
      () => {},
      () => {},
    );
    return sent;
  }

  /** @param {{event?: string, id: string, data: any}} body */
  async #send(body) {
    if (isPrerendering()) await new Promise((resolve) => document.addEventListener("prerenderingchange", resolve));
    const end = performance.now() + sendTimeout; // on a clock that the user cannot set
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

  /**
   * Waits until the stream is open or closed, at most until `end`. A message that is sent earlier
   * may reach the server before the request for the stream, and its sender would not receive it.
   * After a lost stream, a restarted server has no history from which it could replay the message.
   * It does not wait for a stream that will not open soon.
   *
   * @param {number} end  Milliseconds on the clock of performance.now().
   */
  async #awaitStream(end) {
    await new Promise((/** @type {(value?: any) => void} */ resolve) => {
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

  /**
   * Sets the user's info in this room, such as `{status: "away"}`. It replaces the previous info.
   * The call waits until the room is open. If several calls wait, only the last info is sent, and
   * all calls resolve. If the room loses the info, as it does when the server restarts, the info is
   * sent again. If another tab or device of the user has set other info since, it is not sent.
   *
   * @param {any} info  JSON of at most 1 KiB.
   * @returns {Promise<void>}
   * @throws {PresenceError}  If the server rejects the info, or if the room is closed first.
   * @example
   * document.addEventListener("visibilitychange", () => {
   *   room.setState({ status: document.hidden ? "away" : "here" }).catch(console.error);
   * });
   */
  setState(info) {
    this.#info = { info: info ?? null, accepted: false, stands: true };
    return this.#putState(this.#info);
  }

  /** @param {Info} info */
  #putState(info) {
    const done = this.#settingState.then(async () => {
      await this.#opened();
      if (info !== this.#info) return;
      await this.#request("PUT", "state", { body: info.info });
      info.accepted = true;
      this.#me ??= await this.#user().catch(() => null);
    });
    this.#settingState = done.catch(() => {});
    return done;
  }

  /** @returns {Promise<void>} */
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

  /**
   * Fetches the current `connections` and `since` of the members, and updates the state. The stream
   * does not send these: it reports that a user joined or left, but not that a user opened another
   * tab.
   *
   * @param {number} [limit]  Maximum number of members, in the order of their ids. Default and
   *   upper limit: 1000.
   * @throws {PresenceError}  If the server rejects the request or does not respond.
   */
  async refresh(limit = 1000) {
    const page = await this.#request("GET", "presence", { query: { limit: String(limit) } });
    this.#set(seen(this.#state, page.members));
  }

  /**
   * Fetches earlier messages: a page of those that the server still has. Without `before`, it has
   * the newest. A message that arrives meanwhile may be on the page and in an event too: compare
   * the ids.
   *
   * @param {{limit?: number, before?: string|null}} [options]  `limit`: the maximum number of
   *   messages, 1 to 1000. Default: 50. `before`: the `next` of the page before.
   * @returns {Promise<MessagePage>}
   * @throws {PresenceError}  If the server rejects the request or does not respond.
   * @example
   * const { messages, next } = await room.history();
   * const older = next ? await room.history({ before: next }) : null;
   */
  async history({ limit = 50, before } = {}) {
    const query = { limit: String(limit), ...(before && { before }) };
    const page = await this.#request("GET", "messages", { query });
    return { messages: page.messages, next: page.next ?? null, lastEventId: page.last_event_id };
  }

  /**
   * Leaves the room until resume() is called. The state and the position remain, and resume()
   * receives the messages that were missed. A SharedWorker needs this while all its pages are in
   * the back/forward cache, because a worker has no `pagehide` event.
   */
  pause() {
    this.#paused = true;
    this.#leave();
  }

  /** Enters the room again after pause(). */
  resume() {
    if (!this.#paused) return;
    this.#paused = false;
    this.#change({ to: "connecting", reason: null });
    this.#enter();
  }

  /**
   * Leaves the room permanently. Messages that were passed to send() before are still sent. To join
   * the room again, call join().
   */
  close() {
    if (this.#state.connection !== "closed") this.#set(closed(this.#state));
    this.#source = null;
  }

  // Opens a link, or shares the link of another tab, unless the page must not be in the room now.
  #enter() {
    if (this.#source || this.#paused || this.#away || isPrerendering() || this.#state.connection === "closed") return;
    /** @type {Sink} */
    const sink = {
      state: () => this.#state,
      event: (event) => this.#sink === sink && this.#event(event),
      change: (change) => this.#sink === sink && this.#change(change),
    };
    this.#sink = sink;
    if (this.#options.share) this.#share(sink);
    else this.#source = this.#link(sink);
  }

  /** @param {Sink} sink */
  #link(sink) {
    const receivesAll = !this.#address.credential.isCookie || !globalThis.EventSource;
    return new Link(this.#address, sink, receivesAll ? null : () => this.#names());
  }

  #names() {
    const names = new Set([...serverEvents, ...this.#listeners.keys()]);
    for (const name of localNames) names.delete(name);
    return names;
  }

  /** @param {Sink} sink */
  async #share(sink) {
    const abort = new AbortController();
    const pending = { stop: () => abort.abort() };
    this.#source = pending;
    const user = (await canShare()) ? await this.#awaitUser(abort.signal) : null;
    if (this.#source !== pending) return; // the room was closed or left in the meantime
    this.#me = user;
    if (user === null) {
      this.#source = this.#link(sink);
      return;
    }
    const shared = (/** @type {"leading"|"following"} */ role) => {
      if (role !== this.#state.shared) this.#set({ ...this.#state, shared: role });
    };
    // The number 2 is the version of the messages between tabs. Tabs that were loaded before an
    // upgrade may use another version, so their key must differ. The leader receives all events,
    // because it does not know the event names that other tabs listen for.
    const open = (/** @type {Sink} */ sink) => new Link(this.#address, sink, null);
    const tabs = new Tabs(`presence 2 ${this.url.href} ${this.name} ${user}`, sink, open, shared);
    if (this.#source === pending) this.#source = tabs;
    else tabs.stop(); // a listener has closed the room
  }

  /**
   * Returns the result of #user(), and retries until there is a response. Returns null if the
   * server rejects the request.
   *
   * @param {AbortSignal} signal
   * @returns {Promise<string|null>}
   */
  async #awaitUser(signal) {
    for (let tries = 0, renewed = false; !signal.aborted; tries++) {
      try {
        const user = await this.#user();
        if (user !== null || renewed || !this.#address.credential.renewable) return user;
        await this.#address.renew(false); // there is no cookie yet
        renewed = true;
      } catch (error) {
        const problem = problemOf(error);
        if (problem && !isTransient(problem)) return null;
        if (signal.aborted) return null;
        if (!problem && tries === 0) report(error); // probably an error of the program
        /** @type {ConnectionChange} */
        const change = { to: "connecting", reason: problem ? "lost" : "token", problem: fromCallback(error) };
        const wait = backoff(tries);
        this.#change({ ...change, retryAt: retryTime(wait) });
        await pause(wait, signal);
        if (!signal.aborted) this.#change(change);
      }
    }
    return null;
  }

  /**
   * Returns the user's id, or null if no user is signed in. If the token does not contain an id, it
   * returns another string, which is the same for the same token.
   *
   * @returns {Promise<string|null>}
   */
  async #user() {
    const { credential } = this.#address;
    if (!credential.isCookie) return userOf(await credential.token());
    return (await this.#address.request("GET", "session"))?.user?.id ?? null;
  }

  /** @param {boolean} away */
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

  /** @param {StreamEvent} event */
  #event(event) {
    const { name, id } = event;
    const before = this.#state;
    if (before.connection === "closed" || !isNew(before, name, id)) return;
    const data = dataOf(event);
    if (data === undefined) return;
    this.#set(apply(before, name, data, id));
    if (name === "user count") this.#emit("count", data);
    if (!localNames.has(name)) this.#emit(name, data);
    this.#keepInfo(name, data, before.connection !== "open" && this.#state.connection === "open");
  }

  /**
   * Sends the info again if the room has lost it, for example because the server restarted. If
   * several tabs or devices of the user have set info, the last one wins.
   *
   * @param {string} name
   * @param {any} data
   * @param {boolean} opened  Whether this event has opened the room.
   */
  #keepInfo(name, data, opened) {
    const mine = this.#info;
    if (!mine?.accepted) return;
    if (name === "update" && data.id === this.#me) mine.stands = same(data.info, mine.info);
    const known = this.#me === null ? undefined : this.#state.members.get(this.#me);
    if (opened && mine.stands && !(known && same(known.info, mine.info))) this.#putState(mine).catch(() => {});
  }

  /** @param {ConnectionChange} change */
  #change(change) {
    if (this.#state.connection === "closed") return;
    if (change.to === "connecting") this.#set(connecting(this.#state, change.reason, change.problem, change.retryAt));
    else if (change.to === "closed") this.#set(closed(this.#state, change.problem));
    else this.#set(renewed(this.#state));
  }

  /** @param {State} state */
  #set(state) {
    if (state === this.#state) return;
    this.#state = Object.freeze(state);
    if (state.connection === "closed") {
      this.#closing.abort();
      this.#source?.stop();
    }
    this.#emit("state", state);
  }

  /**
   * @param {string} name
   * @param {any} data
   */
  #emit(name, data) {
    for (const fn of [...(this.#listeners.get(name) ?? [])]) {
      try {
        fn(data);
      } catch (error) {
        report(error); // one listener must not affect another
      }
    }
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {{query?: Record<string, string>, body?: any}} options
   */
  async #request(method, path, options) {
    const send = () => this.#address.request(method, path, options);
    return send().catch(async (error) => {
      if (problemOf(error)?.status !== 401 || !this.#address.credential.renewable) throw error;
      await this.#address.renew(false);
      return send();
    });
  }
}

/**
 * Waits `ms` milliseconds, or until the signal aborts, or until the browser is online again.
 *
 * @param {number} ms
 * @param {AbortSignal} signal
 */
async function pause(ms, signal) {
  const over = new AbortController();
  await new Promise((/** @type {(value?: any) => void} */ resolve) => {
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

/**
 * Reports whether two values have the same JSON.
 *
 * @param {any} a
 * @param {any} b
 */
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** Reports whether the browser loads the page before the user opens it. */
const isPrerendering = () => Boolean(/** @type {any} */ (globalThis.document)?.prerendering);
