/**
 * presence.js is the browser client of presence: the members of a room, their number, and the
 * room's messages, live.
 *
 *     import { join } from "./presence.js";
 *
 *     const room = join({ url: "https://example.com/presence/", room: "lobby" });
 *     room.on("count", (n) => console.log(n, [...room.members.keys()]));
 *     room.on("message", ({ from, data }) => console.log(from?.name, data));
 *     await room.send("hello");
 *
 * The credential is a token, or the cookie that `POST session` set. The module never touches the
 * page and also works in a worker. Its sections, in order:
 *
 * - State: the state of a room and pure functions that compute the next one.
 * - Requests: HTTP requests, errors and the credential.
 * - Link: the connection of one room. It reconnects automatically.
 * - Tabs: one connection shared by the tabs of a browser.
 * - Room: the object that join() returns.
 *
 * MIT license, as the repository that this file comes from.
 */

/**
 * @typedef {object} Member   A user in the room.
 * @property {string} id
 * @property {string} name    Display name. May be empty.
 * @property {any} info       Any JSON, from the token or from the user's last `setState`.
 * @property {number} connections   Open streams. 0 during the grace period after the last one
 *   closed. Only `sync` and refresh() update it; a member that joins later starts at 1.
 * @property {string} [since]       When the user joined, RFC 3339. Unknown for a member that joined
 *   after `sync`, until refresh().
 *
 * @typedef {object} Message  The data of `message` and of events with a custom name.
 * @property {string} id      Position in the room's messages, EPOCH-SEQ.
 * @property {{id: string, name: string}} [from]  The sender. Absent if the server sent the message.
 * @property {any} data       Any JSON.
 * @property {string} at      RFC 3339.
 *
 * @typedef {object} Problem  An RFC 9457 problem. `status` is 0 if there was no response.
 * @property {string} [type]
 * @property {string} title
 * @property {number} status
 * @property {string} [detail]
 *
 * @typedef {object} State    The state of a room. Never changed in place: each change makes a new
 *   object.
 * @property {"connecting"|"open"|"closed"} connection   Open once `sync` has arrived. Closed is
 *   final.
 * @property {string|null} reason      Why the connection is not open: the reason of the last
 *   `goodbye`, or one of these. "lost". "silent": no event for two and a half heartbeats.
 *   "offline". "token": the callback failed. "refused": closed, because the server rejected the
 *   request. null while open, before the first connection, and after close().
 * @property {Problem|null} problem    The server's response. Set only if `reason` is "refused".
 * @property {number|null} count       The last `user count`. The only number that is always
 *   current.
 * @property {number|null} connections Open streams in the room, from the last `sync`, `join` or
 *   `leave`. Over the member limit, from `sync` alone.
 * @property {number|null} users       Users in the room, from the last `sync`, `join` or
 *   `leave`. Over the member limit, from `sync` alone.
 * @property {ReadonlyMap<string, Member>} members  Members by id. Empty before `sync` and in a room
 *   over the member limit.
 * @property {boolean} complete        Whether `members` lists every member. False in a room over
 *   the member limit.
 * @property {number} heartbeat        Seconds between two pings.
 * @property {number|null} expiring    Seconds that the token had left when the server sent
 *   `expiring`. null without a warning.
 * @property {string} lastEventId      Position up to which all messages were received. "" before
 *   the first event.
 * @property {"leading"|"following"|null} shared   With `share`: whether this tab holds the stream
 *   ("leading") or another tab does ("following"). null if the connection is not shared.
 * @property {boolean} renewable       Whether a callback can supply a new token. If so, an expired
 *   token does not close the room.
 * @property {ReadonlyArray<[name: string, data: any]>} waiting   Changes that arrived before
 *   `sync`.
 *
 * @typedef {object} RoomEvents  The value that a listener receives, by event name. See Room.on().
 * @property {State} state          Any change of the state.
 * @property {number} count         A `user count` arrived.
 * @property {{connections: number, users: number, members?: Member[], complete: boolean, heartbeat: number}} sync
 *   The snapshot of the room, on each connection.
 * @property {{id: string, name: string, info: any, connections: number, users: number}} join
 *   A user joined.
 * @property {{id: string, name: string, info: any, connections: number, users: number, reason: string}} leave
 *   A user left. `reason`: "closed", "timeout", "removed", "expired" or "slow".
 * @property {{id: string, info: any}} update   The info of a member changed.
 * @property {{reason: string}} reset      Messages after the last received one are lost.
 * @property {{in: number}} expiring       The token expires in that many seconds.
 * @property {{reason: string}} goodbye    The server closes the stream. `reason`: "expired",
 *   "removed", "draining", "full", "slow" or "signed out". "removed" and "signed out" close the
 *   room, and so does "expired" unless the token is renewable. For any other reason it reconnects.
 * @property {{}} ping                     The heartbeat.
 * @property {Message} message
 *
 * @typedef {object} StreamEvent  One event of a stream.
 * @property {string} name
 * @property {string} text    Its data, JSON. As text it passes between tabs at any nesting depth.
 * @property {string} id      The last id on the stream. "" if there was none.
 *
 * @typedef {object} LoggedMessage  A message, kept for tabs that join later.
 * @property {StreamEvent} event
 * @property {string} prev    The position before it.
 *
 * @typedef {object} Unfinished  Parser state: the incomplete event at the end of the text read so
 *   far.
 * @property {string} line    The beginning of a line.
 * @property {boolean} cr     Whether the last character was a CR. A following LF then belongs to
 *   it.
 * @property {string} name
 * @property {string[]} data  Its lines.
 * @property {string} id      The last id. It stays in force after the event.
 * @property {number|null} retry  Milliseconds.
 *
 * @typedef {object} Options
 * @property {URL|string} [url]    URL at which the server is mounted. Default: the directory that
 *   this file was served from. Set it in a bundle, where that directory is not the server.
 * @property {string} [room]       Room name: 1 to 128 of A-Z a-z 0-9 . _ - Default: "lobby".
 * @property {string|(() => string|Promise<string>)} [token]  The token, or a callback that returns
 *   one. The callback runs for the first request, when the server rejects the token, and when the
 *   token is about to expire. It fails after 30 s. Default: the cookie is the credential.
 * @property {() => string|void|null|Promise<string|void|null>} [renew]  Callback that renews the
 *   token when it is about to expire or has expired. A token that it returns is sent to
 *   `POST session`. Return nothing if the callback set the cookie itself. It fails after 30 s. A
 *   failed renewal is retried. Not needed if `token` is a function.
 * @property {boolean} [share]     Share one connection between all tabs of this browser with the
 *   same user and room. Default: false. It needs Web Locks, which browsers have in secure contexts
 *   only. Elsewhere each tab opens its own connection.
 * @property {boolean} [withCredentials]  Send the cookie to another origin too. Default: false.
 * @property {string} [lastEventId]  Position to resume from. Messages after it are replayed first.
 *   Default: "", no replay.
 */

// -------------------------------------------------------------------------------------------------
// State: the state of a room and the functions that compute the next one. They are pure: no clock,
// no socket, no page.

/**
 * The state before the first event.
 *
 * @type {State}
 */
export const initial = Object.freeze({
  connection: "connecting",
  reason: null,
  problem: null,
  count: null,
  connections: null,
  users: null,
  members: new Map(),
  complete: false,
  heartbeat: 15,
  expiring: null,
  lastEventId: "",
  shared: null,
  renewable: false,
  waiting: Object.freeze([]),
});

// The `goodbye` reasons after which the link must not reconnect. The server would reject it, or it
// would override a decision of an admin or of the user.
const final = new Set(["removed", "signed out", "expired"]);

// Events that change the snapshot. They mean nothing without `sync`.
const changes = new Set(["join", "leave", "update"]);

/**
 * The server's events and the state after each. A Map, because senders choose event names and an
 * object has a `constructor`.
 *
 * @type {ReadonlyMap<string, (state: State, data: any) => State>}
 */
const steps = new Map([
  ["sync", afterSync],
  ["user count", (state, count) => ({ ...state, count })],
  ["join", afterJoin],
  ["leave", afterLeave],
  ["update", afterUpdate],
  ["expiring", (state, { in: seconds }) => ({ ...state, expiring: seconds })],
  ["goodbye", afterGoodbye],
]);

/** The names of the server's own events. All other events are messages. */
const own = new Set([...steps.keys(), "reset", "ping"]);

// Listener names without an event of that name. A message with such a name is not delivered.
const local = new Set(["count", "state"]);

/**
 * Returns the state after an event of the stream. It is the same object if nothing changed, as
 * after a ping.
 *
 * @param {State} state
 * @param {string} name
 * @param {any} data     The event's data, parsed.
 * @param {string} [id]  The last id on the stream.
 * @returns {State}
 */
export function apply(state, name, data, id = "") {
  // Only `reset` moves the position back. With `share`, a tab may receive an event twice, by two
  // routes.
  const known = id === "" || id === state.lastEventId || (name !== "reset" && reaches(state.lastEventId, id));
  const at = known ? state : { ...state, lastEventId: id };
  if (at.connection !== "open" && changes.has(name)) return { ...at, waiting: [...at.waiting, [name, data]] };
  return steps.get(name)?.(at, data) ?? at;
}

/**
 * Reports whether listeners must receive the event. A message that was received before is not new.
 * The server's own events repeat the id of the last message, so they are always new.
 *
 * @param {State} state
 * @param {string} name
 * @param {string} id
 */
export function isNew(state, name, id) {
  return own.has(name) || !reaches(state.lastEventId, id);
}

/**
 * Reports whether a client at position `held` has all messages up to position `id`. Positions of
 * different epochs cannot be compared: the result is false.
 *
 * @param {string} held
 * @param {string} id
 */
export function reaches(held, id) {
  const [have, want] = [position(held), position(id)];
  return have !== null && want !== null && have.epoch === want.epoch && have.seq >= want.seq;
}

/**
 * @param {string} id  EPOCH-SEQ.
 * @returns {{epoch: string, seq: number} | null}
 */
function position(id) {
  const [, epoch, seq] = /^(.*)-(\d+)$/s.exec(id) ?? [];
  return epoch === undefined ? null : { epoch, seq: Number(seq) };
}

/**
 * Returns the state while the link connects. It keeps the members until the next `sync`.
 *
 * @param {State} state
 * @param {string|null} [reason]
 * @returns {State}
 */
export function connecting(state, reason = state.reason) {
  return { ...state, connection: "connecting", reason, problem: null, expiring: null, waiting: [] };
}

/**
 * Returns the final state, without a connection. `problem` is the server's response, if that is the
 * reason.
 *
 * @param {State} state
 * @param {Problem|null} [problem]
 * @returns {State}
 */
export function closed(state, problem = null) {
  return { ...connecting(state, problem && "refused"), connection: "closed", problem };
}

/**
 * Returns the state after the token was renewed.
 *
 * @param {State} state
 * @returns {State}
 */
export function renewed(state) {
  return { ...state, expiring: null };
}

/**
 * Returns the state with the `connections` and `since` of members fetched by GET presence. The
 * response may be older or newer than the stream. Only the stream reports joins and leaves, so no
 * member is added or removed.
 *
 * @param {State} state
 * @param {Member[]} fetched
 * @returns {State}
 */
export function seen(state, fetched) {
  const members = new Map(state.members);
  for (const { id, connections, since } of fetched) {
    const member = members.get(id);
    if (member) members.set(id, { ...member, connections, since });
  }
  return { ...state, members };
}

/**
 * Returns the events that move a tab from position `held` to the state: the missed messages, or
 * `reset`; then the events that a joiner receives.
 *
 * @param {State} state
 * @param {ReadonlyArray<LoggedMessage>} kept  The last messages of the room, without a gap, up to
 *   the state's position.
 * @param {string} held               The tab's position. "" if it has none.
 * @returns {StreamEvent[]}
 */
export function catchUp(state, kept, held) {
  const id = state.lastEventId;
  /** @type {StreamEvent[]} */
  const events = [];
  if (held !== "" && !reaches(held, id)) {
    const from = kept.findIndex(({ event, prev }) => reaches(held, prev) && !reaches(held, event.id));
    if (from !== -1) events.push(...kept.slice(from).map((message) => message.event));
    else if (state.connection === "open") events.push(eventOf("reset", { reason: "history" }, id)); // else the server decides
  }
  if (state.connection !== "open") return events;
  const { connections, users, members, complete, heartbeat, count } = state;
  const who = complete ? { members: [...members.values()] } : {};
  events.push(eventOf("sync", { connections, users, ...who, complete, heartbeat }, id));
  if (count !== null) events.push(eventOf("user count", count, id));
  return events;
}

/**
 * @param {string} name
 * @param {any} data
 * @param {string} id
 * @returns {StreamEvent}
 */
const eventOf = (name, data, id) => ({ name, text: JSON.stringify(data), id });

/**
 * @param {State} state
 * @param {any} data
 * @returns {State}
 */
function afterSync(state, { connections, users, members, complete, heartbeat }) {
  /** @type {State} */
  const next = {
    ...state,
    connection: "open",
    reason: null,
    problem: null,
    connections,
    users,
    members: new Map(complete ? (members ?? []).map((/** @type {Member} */ member) => [member.id, member]) : []),
    complete,
    heartbeat: heartbeat ?? state.heartbeat,
    waiting: [],
  };
  return state.waiting.reduce((state, [name, data]) => apply(state, name, data), next);
}

/**
 * @param {State} state
 * @param {any} data
 * @returns {State}
 */
function afterJoin(state, { id, name, info, connections, users }) {
  if (!state.complete) return { ...state, connections, users };
  const member = { connections: 1, ...state.members.get(id), id, name, info };
  return { ...state, connections, users, members: new Map(state.members).set(id, member) };
}

/**
 * @param {State} state
 * @param {any} data
 * @returns {State}
 */
function afterLeave(state, { id, connections, users }) {
  const members = new Map(state.members);
  members.delete(id);
  return { ...state, connections, users, members };
}

/**
 * @param {State} state
 * @param {any} data
 * @returns {State}
 */
function afterUpdate(state, { id, info }) {
  const member = state.members.get(id);
  return member ? { ...state, members: new Map(state.members).set(id, { ...member, info }) } : state;
}

/**
 * @param {State} state
 * @param {any} data
 * @returns {State}
 */
function afterGoodbye(state, { reason }) {
  const over = final.has(reason) && !(reason === "expired" && state.renewable);
  return { ...(over ? closed(state) : connecting(state)), reason };
}

/**
 * Reports whether `name` is a valid room name: 1 to 128 of A-Z a-z 0-9 . _ -
 *
 * @param {any} name
 */
export function isRoomName(name) {
  return typeof name === "string" && /^[A-Za-z0-9._-]{1,128}$/.test(name);
}

/**
 * Returns the wait before the next attempt, in milliseconds. The upper bound starts at 1 s and
 * doubles with each failed attempt, to at most 30 s. The wait is a random value between half of the
 * bound and the bound, so that clients that were disconnected together do not reconnect together.
 *
 * @param {number} tries     Attempts that failed since the last success.
 * @param {number} [random]  From 0 to 1.
 */
export function backoff(tries, random = Math.random()) {
  return (Math.min(30_000, 1000 * 2 ** tries) * (1 + random)) / 2;
}

/**
 * Parses text of an event stream (WHATWG HTML, section 9.2.6). Returns the events that are
 * complete, and the remaining parser state.
 *
 * @param {Unfinished} partial  The parser state after the text before, or fresh().
 * @param {string} text
 * @returns {{partial: Unfinished, events: StreamEvent[]}}
 */
export function decode(partial, text) {
  if (text === "") return { partial, events: [] };
  let { name, id, retry } = partial;
  let data = [...partial.data];
  if (partial.cr && text.startsWith("\n")) text = text.slice(1);
  const lines = (partial.line + text).split(/\r\n|\r|\n/);
  const line = lines.pop() ?? "";
  const events = [];
  for (const line of lines) {
    if (line === "") {
      if (data.length > 0) events.push({ name: name || "message", text: data.join("\n"), id });
      [name, data] = ["", []];
      continue;
    }
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "event") name = value;
    else if (field === "data") data.push(value);
    else if (field === "id" && !value.includes("\0")) id = value;
    else if (field === "retry" && /^\d+$/.test(value)) retry = Number(value);
  }
  return { partial: { line, cr: text.endsWith("\r"), name, data, id, retry }, events };
}

/**
 * Returns the parser state at the start of a stream that resumes from position `id`.
 *
 * @param {string} [id]
 * @returns {Unfinished}
 */
export function fresh(id = "") {
  return { line: "", cr: false, name: "", data: [], id, retry: null };
}

// -------------------------------------------------------------------------------------------------
// Requests: HTTP requests, errors and the credential.

/**
 * Thrown if the server rejects a request or does not respond. `message` is fit for display: the
 * problem's detail, else its title, else the HTTP status.
 */
export class PresenceError extends Error {
  /**
   * @param {Problem} problem
   * @param {ErrorOptions & {after?: number}} [options]
   */
  constructor(problem, options) {
    super(problem.detail || problem.title || `HTTP status ${problem.status}`, options);
    this.name = "PresenceError";
    /** @type {Problem} */
    this.problem = problem;
    /** The server's Retry-After, in milliseconds. 0 if there was none. */
    this.after = options?.after ?? 0;
  }
}

/**
 * Sends a request. The body is sent as JSON; there is none if it is undefined.
 *
 * @param {string} method
 * @param {URL|string} url
 * @param {any} [body]
 * @param {RequestInit} [options]  As for fetch().
 * @returns {Promise<any>}   The response's JSON. null with status 204.
 * @throws {PresenceError} On any status except 2xx. On a 2xx response without JSON, which is not
 *   from a presence server. With status 0 if there is no response.
 */
export async function request(method, url, body, options = {}) {
  const headers = new Headers(options.headers);
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const init = { cache: /** @type {const} */ ("no-store"), ...options, method, headers, body: JSON.stringify(body) };
  const answer = await fetch(url, init).catch((cause) => {
    throw new PresenceError({ title: "No response", status: 0, detail: "no response from the server" }, { cause });
  });
  if (!answer.ok) throw await refusal(answer);
  if (answer.status === 204) return null;
  const parsed = isJSON(answer) ? await answer.json().catch(() => undefined) : undefined;
  if (parsed !== undefined) return parsed;
  throw new PresenceError({ title: "Unexpected response", status: answer.status, detail: `no presence server at ${url}` });
}

/** @param {Response} answer */
const isJSON = (answer) => /\bjson\b/.test(answer.headers.get("Content-Type") ?? "");

/**
 * @param {Response} answer
 * @returns {Promise<PresenceError>}
 */
async function refusal(answer) {
  const problem = isJSON(answer) ? await answer.json().catch(() => null) : null;
  const after = 1000 * Number(answer.headers.get("Retry-After") ?? 0) || 0;
  return new PresenceError({ title: answer.statusText, ...problem, status: answer.status }, { after });
}

/**
 * Reports whether the same request may succeed later.
 *
 * @param {Problem} problem
 */
const isTransient = ({ status }) => status < 400 || status === 408 || status === 425 || status === 429 || status >= 500;

/** Request timeout in milliseconds, so that a server that hangs never blocks a room forever. */
const patience = 10_000;

/** The credential, a token or the cookie, and its renewal. */
class Credential {
  #options;
  /** @type {string|null} */
  #token;
  /** @type {Promise<void>|null} */
  #renewing = null;

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    this.#token = typeof options.token === "string" ? options.token : null;
  }

  get isCookie() {
    return this.#options.token === undefined;
  }

  /** Whether a callback can supply a new token. */
  get renewable() {
    return this.#renewal !== undefined;
  }

  get #renewal() {
    const { token, renew } = this.#options;
    return renew ?? (typeof token === "function" ? token : undefined);
  }

  /**
   * Returns the options that fetch() needs. Requests the first token if there is none yet.
   *
   * @returns {Promise<{credentials: RequestCredentials, headers: Record<string, string>}>}
   */
  async fetchOptions() {
    if (this.isCookie) return { credentials: this.#options.withCredentials ? "include" : "same-origin", headers: {} };
    return { credentials: "omit", headers: { Authorization: `Bearer ${await this.token()}` } };
  }

  /** Returns the token. Requests the first one. */
  async token() {
    const { token } = this.#options;
    return (this.#token ??= requireToken(typeof token === "function" ? await this.#given(token()) : token));
  }

  /**
   * Returns the result of a callback. A callback without a result after 30 s has failed.
   *
   * @template T
   * @param {T|Promise<T>} given
   * @returns {Promise<T>}
   */
  async #given(given) {
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    let timer;
    const late = new Promise((/** @type {(value: never) => void} */ _, reject) => {
      timer = setTimeout(() => reject(new Error("presence: token callback timed out (30 s)")), 3 * patience);
    });
    return Promise.race([given, late]).finally(() => clearTimeout(timer));
  }

  /**
   * Requests a new token. Sends it to the server if the credential is the cookie, or so that open
   * streams continue. Concurrent calls share one renewal.
   *
   * @param {URL} session  The URL for `POST session`.
   * @param {boolean} open  Whether streams are open that must continue.
   */
  renew(session, open) {
    this.#renewing ??= this.#renew(session, open).finally(() => (this.#renewing = null));
    return this.#renewing;
  }

  /**
   * @param {URL} session
   * @param {boolean} open
   */
  async #renew(session, open) {
    const token = await this.#given(this.#renewal?.());
    if (!this.isCookie) this.#token = requireToken(token);
    if (!token || !(open || this.isCookie)) return;
    const { credentials } = await this.fetchOptions();
    await request("POST", session, { token }, { credentials, signal: AbortSignal.timeout(patience) });
  }
}

/**
 * @param {string|void|null} token
 * @returns {string}
 */
function requireToken(token) {
  if (typeof token === "string" && token !== "") return token;
  throw new PresenceError({ title: "No token", status: 401, detail: "no token from the callback" });
}

/**
 * Returns a text that is the same for all tokens of a user, as far as the token shows: its `sub`,
 * else a hash of the whole token.
 *
 * @param {string} token
 */
async function userOf(token) {
  try {
    const bytes = Uint8Array.from(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    const { sub } = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof sub === "string") return sub;
  } catch {
    // Not a JSON Web Token. The server may accept other tokens.
  }
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token));
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** One room of one server, and the credential for it. */
class Address {
  /** @param {Options} options */
  constructor(options) {
    const { url, room = "lobby", withCredentials = false } = options;
    // Outside the URL call: a bundler would treat it there as the name of a file to bundle.
    const here = import.meta.url;
    this.url = new URL(url ?? new URL(".", here), globalThis.location?.href);
    if (!this.url.pathname.endsWith("/")) this.url.pathname += "/";
    this.room = room;
    this.withCredentials = withCredentials;
    this.credential = new Credential(options);
  }

  /**
   * @param {string} path
   * @param {Record<string, string>} [query]
   */
  of(path, query) {
    const url = new URL(path, this.url);
    url.search = String(new URLSearchParams({ room: this.room, ...query }));
    return url;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {{query?: Record<string, string>, body?: any}} [options]
   */
  async request(method, path, { query, body } = {}) {
    const signal = AbortSignal.timeout(patience);
    return request(method, this.of(path, query), body, { ...(await this.credential.fetchOptions()), signal });
  }

  /** @param {boolean} open  Whether streams are open that must continue. */
  renew(open) {
    return this.credential.renew(new URL("session", this.url), open);
  }
}

// -------------------------------------------------------------------------------------------------
// Link: the connection of one room. It reconnects automatically.

/**
 * The receiver of events and turns from a link, or from the tabs that share one, in order.
 *
 * @typedef {object} Sink
 * @property {() => State} state
 * @property {(event: StreamEvent) => void} event
 * @property {(turn: Turn) => void} turn
 *
 * @typedef {{to: "connecting", reason: string|null} | {to: "closed", problem: Problem} | {to: "renewed"}} Turn
 *   A change of the connection that is not an event.
 *
 * @typedef {object} End          How an attempt ended.
 * @property {string} reason      As in State.
 * @property {Problem} [problem]  Set if the server rejected the request.
 * @property {number} [after]     Milliseconds that the server asked to wait.
 * @property {boolean} [unsaid]   Whether an EventSource was refused. It does not report the cause.
 */

class Link {
  #address;
  #sink;
  #names;
  #stopped = new AbortController();
  #synced = false; // `sync` arrived since the last recovery
  #came = false; // `sync` arrived at least once
  #tries = 0; // failed attempts since the last `sync`
  #refusals = 0; // rejected tokens that were renewed, since the last `sync`
  #since = 0; // last time at which the token in use was known to be new
  #lastActivity = 0; // time of the last data
  #suspect = false; // the browser was offline, and no data arrived since
  /** @type {EventSource|null} */
  #source = null;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #alarm; // fires when the silence means a lost connection
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #later; // the next attempt to renew the token
  #end = (/** @type {End} */ _) => {}; // ends the current attempt
  #wake = () => {}; // ends the current wait

  /**
   * @param {Address} address
   * @param {Sink} sink
   * @param {(() => Iterable<string>) | null} names  The events to receive. null means all, which
   *   needs fetch(): an EventSource delivers only the events that it has a listener for.
   */
  constructor(address, sink, names) {
    this.#address = address;
    this.#sink = sink;
    this.#names = names;
    const { signal } = this.#stopped;
    globalThis.addEventListener?.("online", () => this.#checkAlive(), { signal });
    globalThis.addEventListener?.("offline", () => this.#wentOffline(), { signal });
    globalThis.document?.addEventListener("visibilitychange", () => document.hidden || this.#checkAlive(), { signal });
    globalThis.document?.addEventListener("resume", () => this.#checkAlive(), { signal });
    this.#run();
  }

  stop() {
    this.#stopped.abort();
    clearTimeout(this.#later);
    this.#end({ reason: "stopped" });
    this.#wake();
  }

  /** Also receives events of that name. @param {string} name */
  listen(name) {
    this.#source?.addEventListener(name, ({ data, lastEventId }) => this.#deliver({ name, text: data, id: lastEventId }));
  }

  async #run() {
    const { signal } = this.#stopped;
    for (let unsaid = false; !signal.aborted; ) {
      /** @type {End} */
      const end = (unsaid && (await this.#ask())) || (await this.#attempt());
      unsaid = end.unsaid ?? false;
      if (!signal.aborted) await this.#recover(end);
    }
  }

  /**
   * Prepares the next attempt: renews the token, waits, or does nothing. Stops the link if there
   * must be no next attempt.
   *
   * @param {End} end
   */
  async #recover({ reason, problem, after = 0, unsaid }) {
    if (this.#synced) {
      this.#came = true;
      this.#tries = 0;
      this.#refusals = 0;
      this.#synced = false;
    }
    if (this.#sink.state().connection === "closed") return this.stop();
    const refused = problem?.status === 401 && this.#address.credential.renewable && this.#refusals === 0;
    if (reason === "expired" || refused) {
      const failure = await this.#renew(false);
      if (this.#stopped.signal.aborted) return;
      if (!failure && this.#refusals++ === 0) return;
      if (failure) reason = "token";
      problem = failure?.status === 401 ? failure : undefined;
    }
    if (problem && !isTransient(problem)) {
      this.#sink.turn({ to: "closed", problem });
      return this.stop();
    }
    this.#sink.turn({ to: "connecting", reason });
    const wait = Math.max(after, backoff(this.#tries++));
    const askAtOnce = unsaid && !this.#came && this.#tries === 1; // a new page needs the cause
    if (!askAtOnce && (await this.#pause(wait))) this.#tries = 0;
  }

  /**
   * Runs one connection, from opening to end.
   *
   * @returns {Promise<End>}
   */
  async #attempt() {
    const over = new AbortController();
    const ended = new Promise((/** @type {(end: End) => void} */ resolve) => (this.#end = resolve));
    const resolve = this.#end;
    this.#noteActivity();
    if (this.#stopped.signal.aborted) resolve({ reason: "stopped" });
    else if (this.#names) this.#viaEventSource(this.#names());
    else this.#viaFetch(over.signal).then(resolve, () => resolve({ reason: "lost" }));
    const end = await ended;
    clearTimeout(this.#alarm);
    over.abort();
    this.#source?.close();
    this.#source = null;
    return end;
  }

  // The browser reconnects on its own where it can, after the server's `retry:`, which only it can
  // read.
  /** @param {Iterable<string>} names */
  #viaEventSource(names) {
    const source = new EventSource(this.#events(), { withCredentials: this.#address.withCredentials });
    this.#source = source;
    source.onopen = () => this.#noteActivity();
    source.onerror = () => {
      const reason = this.#whyNotOpen();
      if (reason === "offline" || source.readyState === EventSource.CLOSED) return this.#end({ reason, unsaid: true });
      this.#noteActivity();
      this.#sink.turn({ to: "connecting", reason });
    };
    for (const name of names) this.listen(name);
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Promise<End>}
   */
  async #viaFetch(signal) {
    let bearer;
    try {
      bearer = await this.#address.credential.fetchOptions();
    } catch (error) {
      return { reason: "token", problem: problemOf(error) };
    }
    const headers = { ...bearer.headers, Accept: "text/event-stream" };
    const { lastEventId: asked } = this.#sink.state();
    let answer;
    try {
      answer = await fetch(this.#events(), { ...bearer, headers, cache: "no-store", signal });
    } catch {
      return { reason: this.#whyNotOpen() };
    }
    if (answer.status !== 200 || !answer.body || !isStream(answer)) {
      const { problem, after } = await refusal(answer);
      return { reason: this.#whyNotOpen(), problem, after };
    }
    const text = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let partial = fresh(asked);
    for (;;) {
      const { value } = await text.read().catch(() => ({ value: undefined }));
      if (value === undefined || signal.aborted) break;
      this.#noteActivity();
      const { events, ...rest } = decode(partial, value);
      partial = rest.partial;
      for (const event of events) {
        // A message from another tab has moved the position since the request. The server may still
        // have the messages after the new position, so try again.
        const moved = !this.#synced && this.#sink.state().lastEventId !== asked;
        if (event.name === "reset" && moved) return { reason: "lost" };
        if (!signal.aborted) this.#deliver(event);
      }
    }
    return { reason: this.#whyNotOpen(), after: partial.retry ?? 0 };
  }

  /** @param {StreamEvent} event */
  #deliver(event) {
    this.#noteActivity();
    if (event.name === "sync") {
      this.#synced = true;
      this.#since = Date.now();
    }
    this.#sink.event(event);
    if (this.#sink.state().connection === "closed") this.#end({ reason: "closed" });
    else if (endsToken(event)) this.#end({ reason: "expired" });
    else if (event.name === "expiring") this.#prolong(dataOf(event)?.in, Date.now() - this.#since < 5000);
  }

  /**
   * Asks the server why it refused an EventSource. Returns null if it no longer would.
   *
   * @returns {Promise<End|null>}
   */
  async #ask() {
    try {
      await this.#address.request("GET", "presence", { query: { limit: "1" } });
      return null;
    } catch (error) {
      const { problem, after } = /** @type {PresenceError} */ (error);
      return { reason: this.#whyNotOpen(), problem, after, unsaid: true };
    }
  }

  // Returns the reason why the stream is not open. The reason of a goodbye stays until the next
  // `sync`.
  #whyNotOpen(why = "lost") {
    const { reason } = this.#sink.state();
    if (globalThis.navigator?.onLine === false) return "offline";
    return reason === null || reason === "offline" ? why : reason;
  }

  // Restarts the silence timer. A dead peer looks like an idle one, but an idle server sends pings.
  #noteActivity() {
    this.#lastActivity = Date.now();
    this.#suspect = false;
    clearTimeout(this.#alarm);
    this.#alarm = setTimeout(() => this.#end({ reason: this.#whyNotOpen("silent") }), silence(this.#sink.state()));
  }

  // Runs when the browser is online again or the page is visible again. Timers may have been
  // suspended.
  #checkAlive() {
    this.#wake();
    if (this.#suspect || Date.now() - this.#lastActivity >= silence(this.#sink.state())) this.#end({ reason: "silent" });
  }

  // An open stream may survive although the browser reports no network.
  #wentOffline() {
    this.#suspect = true;
    if (this.#sink.state().connection !== "open") this.#end({ reason: "offline" });
  }

  /**
   * Waits `ms` milliseconds; while offline, until the browser is online again.
   *
   * @param {number} ms
   * @returns {Promise<boolean>}  Whether the wait ended early.
   */
  async #pause(ms) {
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    let timer;
    const woken = await new Promise((/** @type {(woken: boolean) => void} */ resolve) => {
      this.#wake = () => resolve(true);
      if (this.#whyNotOpen() !== "offline") timer = setTimeout(resolve, ms, false);
    });
    clearTimeout(timer);
    return woken;
  }

  /**
   * @param {boolean} open
   * @returns {Promise<Problem|null>}  The problem; null on success.
   */
  async #renew(open) {
    this.#since = Date.now(); // the stream may warn about the new token before the response arrives
    return this.#address.renew(open).then(
      () => null,
      (error) => problemOf(error) ?? { title: "No token", status: 0, detail: String(error) },
    );
  }

  /**
   * Renews the token: now, or halfway to its end if `later`. `later` is set for a new token that
   * lives for less than the server's warning time. A failed renewal is retried halfway to the end,
   * while at least 2 s remain.
   *
   * @param {number} seconds  Until the token ends.
   * @param {boolean} later
   */
  async #prolong(seconds, later) {
    if (!this.#address.credential.renewable) return;
    clearTimeout(this.#later); // set by an earlier warning, on another connection
    if (later) {
      this.#later = setTimeout(() => this.#prolong(seconds / 2, false), seconds * 500);
      return;
    }
    const failure = await this.#renew(true);
    if (this.#stopped.signal.aborted) return;
    if (!failure) this.#sink.turn({ to: "renewed" });
    else if (seconds >= 2) this.#prolong(seconds, true);
  }

  #events() {
    const { lastEventId } = this.#sink.state();
    return this.#address.of("events", lastEventId === "" ? {} : { last_event_id: lastEventId });
  }
}

/**
 * Returns the data of an event. undefined if it is not JSON: a presence server sends nothing else.
 *
 * @param {StreamEvent} event
 */
function dataOf({ text }) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @param {StreamEvent} event */
const endsToken = (event) => event.name === "goodbye" && dataOf(event)?.reason === "expired";

/** Milliseconds without data after which a stream is lost. @param {State} state */
const silence = ({ heartbeat }) => heartbeat * 2500;

/** @param {Response} answer */
const isStream = (answer) => (answer.headers.get("Content-Type") ?? "").startsWith("text/event-stream");

/** @param {unknown} error */
const problemOf = (error) => (error instanceof PresenceError ? error.problem : undefined);

// -------------------------------------------------------------------------------------------------
// Tabs: one link for all tabs of a browser. A Web Lock elects the leader tab. The leader holds the
// link and sends its events to the follower tabs over a BroadcastChannel. When the leader ends, the
// next tab gets the lock and resumes from its own position.

/**
 * The messages between tabs. A term is the time for which one tab leads; a later one has a higher
 * number.
 *
 * - `hello`: a tab asks the leader for the events after its position `held`.
 * - `welcome`: the leader's reply, for that tab only.
 * - `lead`, `event`, `turn`: from the leader, for all tabs.
 *
 * @typedef {{kind: "hello", from: string, held: string}
 *   | {kind: "welcome", to: string, held: string, term: number, turn: Turn|null, events: StreamEvent[]}
 *   | {kind: "lead", term: number}
 *   | {kind: "event", term: number, prev: string, event: StreamEvent}
 *   | {kind: "turn", term: number, turn: Turn}} TabMessage
 */

const keptMessages = 100; // messages that a tab keeps for other tabs
const helloTimeout = 3000; // milliseconds in which a leader replies, unless it hangs

class Tabs {
  #key;
  #sink;
  /** @type {(sink: Sink) => {stop(): void}} */
  #open;
  #shared;
  #id = randomId();
  #channel;
  #term = 0; // the highest known term
  #lead = 0; // this tab's term while it leads
  /** @type {LoggedMessage[]} */
  #kept = [];
  #asking = false; // a `hello` awaits its `welcome`
  /** @type {{stop(): void}|null} */
  #link = null; // while this tab leads
  #release = () => {}; // releases the lock
  #turn = new AbortController(); // aborting it leaves the lock queue
  #stopped = false;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #alarm;

  /**
   * @param {string} key   Tabs with the same key share one link.
   * @param {Sink} sink
   * @param {(sink: Sink) => {stop(): void}} open   Opens the link.
   * @param {(role: "leading"|"following") => void} shared   Receives this tab's role.
   */
  constructor(key, sink, open, shared) {
    this.#key = key;
    this.#sink = sink;
    this.#open = open;
    this.#shared = shared;
    this.#channel = new BroadcastChannel(key);
    this.#channel.onmessage = ({ data }) => this.#receive(data);
    this.#queue(false);
    this.#ask();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#alarm);
    this.#turn.abort();
    this.#link?.stop();
    this.#channel.close();
    // Followers must receive `removed` or `signed out` before one of them takes over. For all other
    // reasons the release is immediate: no timer may run in a page in the back/forward cache.
    const { reason } = this.#sink.state();
    if (reason === "removed" || reason === "signed out") setTimeout(this.#release, 250);
    else this.#release();
  }

  /**
   * Waits for the lock, and leads while it holds it.
   *
   * @param {boolean} steal  Take the lock from its holder.
   */
  async #queue(steal) {
    this.#turn.abort();
    const { signal } = (this.#turn = new AbortController());
    while (!this.#stopped && !signal.aborted) {
      const options = steal ? { steal } : { signal };
      steal = false;
      const end = await navigator.locks.request(this.#key, options, () => this.#take()).catch((error) => error);
      // AbortError: the lock was stolen, or this tab left the queue. Otherwise the lock was
      // released, or the document is no longer active.
      if (end?.name !== "AbortError") return;
      if (this.#link && !this.#stopped) this.#yield();
    }
  }

  // Runs when the lock is granted. The returned promise holds the lock.
  #take() {
    const held = new Promise((/** @type {(value?: any) => void} */ resolve) => (this.#release = resolve));
    if (this.#stopped) {
      this.#release();
      return held;
    }
    clearTimeout(this.#alarm);
    this.#asking = false;
    this.#announce();
    this.#shared("leading");
    /** @type {Sink} */
    const sink = {
      state: this.#sink.state,
      event: (event) => {
        const { lastEventId: prev } = this.#sink.state();
        if (endsToken(event)) this.#part("expired");
        else this.#post({ kind: "event", term: this.#lead, prev, event });
        this.#deliver(event, prev);
      },
      turn: (turn) => {
        if (turn.to === "closed") this.#part("lost");
        else this.#post({ kind: "turn", term: this.#lead, turn });
        this.#sink.turn(turn);
      },
    };
    if (this.#sink.state().connection === "open") sink.turn({ to: "connecting", reason: "lost" });
    if (!this.#stopped) this.#link = this.#open(sink);
    return held;
  }

  // This tab's token has expired or was rejected. Another tab's token may be valid, so that tab
  // must try.
  /** @param {string} reason */
  #part(reason) {
    this.#post({ kind: "turn", term: this.#lead, turn: { to: "connecting", reason } });
  }

  #announce() {
    // The random fraction makes the term unique: another tab may start in the same millisecond and
    // know the same terms.
    this.#lead = this.#term = Math.max(Math.floor(this.#term) + 1, Date.now()) + Math.random();
    this.#post({ kind: "lead", term: this.#lead });
  }

  // Runs when another tab has stolen the lock.
  #yield() {
    this.#link?.stop();
    this.#link = null;
    this.#ask();
  }

  /** @param {TabMessage} message */
  #receive(message) {
    if (this.#stopped || (message?.kind !== "hello" && typeof message?.term !== "number")) return; // from another script
    if (message.kind === "hello") {
      if (this.#link) this.#welcome(message.from, message.held);
      return;
    }
    // Messages are valid from any leader, past or present.
    if (message.kind === "event" && !own.has(message.event.name) && this.#follows(message.prev)) {
      this.#deliver(message.event, message.prev);
    }
    const before = this.#term;
    this.#term = Math.max(before, message.term);
    if (this.#link) {
      // The lock decides which tab leads. If this tab still holds it after the wait, the sender had
      // lost the lock without noticing.
      if (message.term < this.#lead) return;
      this.#wait(250, () => this.#announce());
    } else if (message.kind === "welcome" && message.to === this.#id && message.term >= before) {
      this.#enter(message);
    } else if (message.term > before) {
      this.#ask(); // the reply to an earlier `hello` was not from this leader
    } else if (message.term === before) {
      // A `reset` is about the leader's position. This tab or the server may still have the
      // messages after another position.
      const { lastEventId: held } = this.#sink.state();
      const other = message.kind === "event" && message.event.name === "reset" && message.prev !== held;
      const missing = other || (message.kind === "event" && !this.#follows(message.prev));
      if (!this.#asking) missing ? this.#ask() : this.#noteActivity();
      if (message.kind === "turn") this.#sink.turn(message.turn);
      else if (message.kind === "event" && !missing) this.#deliver(message.event, message.prev);
    }
  }

  /** @param {TabMessage & {kind: "welcome"}} message */
  #enter({ held, turn, events }) {
    const { lastEventId } = this.#sink.state();
    // The reply is for an older position: the messages in between arrived after the `hello`.
    const lost = events[0]?.name === "reset" ? events[0].id : null;
    if (held !== lastEventId && (lost !== null || !reaches(lastEventId, held))) return this.#ask();
    // The server may have messages that the leader lacks. It replays them only to the leader, so
    // take over.
    if (lost !== null && reaches(lost, held)) return void this.#queue(true);
    this.#asking = false;
    this.#noteActivity();
    if (turn) this.#sink.turn(turn);
    for (const event of events) this.#deliver(event, this.#sink.state().lastEventId);
  }

  /**
   * Reports whether this tab has all messages up to position `prev`.
   *
   * @param {string} prev
   */
  #follows(prev) {
    const { lastEventId: held } = this.#sink.state();
    return held === prev || reaches(held, prev);
  }

  /**
   * @param {StreamEvent} event
   * @param {string} prev
   */
  #deliver(event, prev) {
    if (!isNew(this.#sink.state(), event.name, event.id)) return;
    if (event.name === "reset") this.#kept = [];
    if (!own.has(event.name)) {
      this.#kept.push({ event, prev });
      if (this.#kept.length > keptMessages) this.#kept.shift();
    }
    this.#sink.event(event);
  }

  /**
   * @param {string} to
   * @param {string} held
   */
  #welcome(to, held) {
    const state = this.#sink.state();
    /** @type {Turn|null} */
    const turn = state.connection === "open" ? null : { to: "connecting", reason: state.reason };
    this.#post({ kind: "welcome", to, held, term: this.#lead, turn, events: catchUp(state, this.#kept, held) });
  }

  // Asks the leader for the missing events. If there is no leader, the lock is about to be granted
  // and nothing replies. If the leader's page hangs, in a dialog or an endless loop, this tab
  // steals the lock.
  #ask() {
    this.#asking = true;
    this.#shared("following");
    this.#post({ kind: "hello", from: this.#id, held: this.#sink.state().lastEventId });
    this.#wait(helloTimeout * (1 + Math.random()), () => this.#queue(true));
  }

  #noteActivity() {
    this.#wait(silence(this.#sink.state()), () => this.#ask());
  }

  /**
   * @param {number} ms
   * @param {() => void} then
   */
  #wait(ms, then) {
    clearTimeout(this.#alarm);
    if (!this.#stopped) this.#alarm = setTimeout(then, ms);
  }

  /** @param {TabMessage} message */
  #post(message) {
    if (!this.#stopped) this.#channel.postMessage(message);
  }
}

/** Returns a random message id. It has 128 random bits, so no other client draws the same. */
export const randomId = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

/** Reports whether tabs can share here. They cannot in an insecure context or in a sandbox. */
async function canShare() {
  if (!globalThis.BroadcastChannel || !globalThis.navigator?.locks) return false;
  return navigator.locks.query().then(
    () => true,
    () => false,
  );
}

// -------------------------------------------------------------------------------------------------
// Room: the object that join() returns.

/**
 * Joins a room and stays in it until close(). It reconnects after each lost connection, unless the
 * server rejects it or ends the session: see State.reason.
 *
 * @param {Options} [options]
 * @returns {Room}
 * @throws {TypeError}  On an invalid room name or URL.
 */
export function join(options) {
  return new Room(options);
}

const sendFor = 15_000; // milliseconds for which a message is retried
const mostWaiting = 1000; // maximum number of messages in the send queue

/**
 * @typedef {object} Info     The user's info, from setState().
 * @property {any} info
 * @property {boolean} accepted   Whether the server has accepted it.
 * @property {boolean} stands  Whether it is the latest. False if another tab or device of the user
 *   has set other info since.
 */

/** A room, as join() returns it. */
export class Room {
  #options;
  #address;
  /** @type {State} */
  #state;
  /** @type {Map<string, Set<(data: any) => void>>} */
  #listeners = new Map();
  /** @type {{stop(): void, listen?(name: string): void}|null} */
  #source = null;
  #closing = new AbortController();
  #sending = Promise.resolve();
  #waiting = 0;
  /** @type {Info|null} */
  #info = null; // from the last setState()
  /** @type {string|null} */
  #me = null; // the user's id, once known
  #settingState = Promise.resolve();

  /** @param {Options} [options] */
  constructor(options = {}) {
    const { room = "lobby", lastEventId = "" } = options;
    if (!isRoomName(room)) {
      throw new TypeError(`presence: invalid room name ${JSON.stringify(room)} (1 to 128 of A-Z a-z 0-9 . _ -)`);
    }
    this.#options = options;
    this.#address = new Address(options);
    const { renewable } = this.#address.credential;
    this.#state = Object.freeze({ ...initial, members: new Map(), lastEventId, renewable });
    const { signal } = this.#closing;
    // A page in the back/forward cache leaves the room. The browser may close its connections.
    globalThis.addEventListener?.("pagehide", ({ persisted }) => persisted && this.#leave(), { signal });
    globalThis.addEventListener?.("pageshow", ({ persisted }) => persisted && this.#enter(), { signal });
    this.#enter();
  }

  /** URL at which the server is mounted, with a slash at the end. */
  get url() {
    return this.#address.url;
  }

  /** The room name. */
  get name() {
    return this.#address.room;
  }

  /** The current state. A frozen object; each change makes a new one. */
  get state() {
    return this.#state;
  }

  /** The last `user count`. null before the first one. */
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

  /** Position up to which all messages were received. "" before the first event. */
  get lastEventId() {
    return this.#state.lastEventId;
  }

  /**
   * Adds a listener. `fn` runs on each event of that name, after the event has changed the state.
   *
   * - "state": any change of the state. `fn` receives the State.
   * - "count": a `user count`. `fn` receives the number.
   * - "sync", "user count", "join", "leave", "update", "reset", "expiring", "goodbye", "ping": an
   *   event of the server. `fn` receives its data: see `RoomEvents`.
   * - "message", or a name that a sender chose: `fn` receives the Message. A message with the name
   *   "count" or "state" is not delivered.
   *
   * An exception in a listener goes to reportError() and affects no other listener.
   *
   * @template {string} N
   * @param {N} name
   * @param {(data: N extends keyof RoomEvents ? RoomEvents[N] : Message) => void} fn
   * @returns {() => void}  Removes the listener.
   * @throws {TypeError}  On the name "open" or "error".
   */
  on(name, fn) {
    // EventSource has these events itself. The server allows no message with these names.
    if (name === "open" || name === "error") throw new TypeError(`presence: reserved event name "${name}" (listen for "state")`);
    let fns = this.#listeners.get(name);
    if (!fns) {
      this.#listeners.set(name, (fns = new Set()));
      if (!own.has(name) && !local.has(name)) this.#source?.listen?.(name);
    }
    const listener = (/** @type {any} */ data) => fn(data); // the same function may be added twice
    fns.add(listener);
    return () => void fns.delete(listener);
  }

  /**
   * Sends a message to the room. Messages are sent one at a time, in order, once the stream is
   * open. A message is retried for up to 15 s if there is no response, or a temporary one (408,
   * 425, 429, 5xx). Its id is an idempotency key: however often it is sent, it is one message.
   *
   * @param {any} data   Any JSON. undefined is sent as null.
   * @param {{event?: string, id?: string}} [options]  `event`: the event name. Default: "message".
   *   `id`: the idempotency key, for callers that send the same message again. Default: random.
   * @returns {Promise<{id: string}>}  The position in the room's messages.
   * @throws {PresenceError}  The server rejected the message. Or there was no response within 15 s;
   *   the server may have accepted the message. Or the send queue is full (1000 messages).
   * @throws {TypeError}  On the event name "count" or "state", and on data that is not JSON.
   */
  async send(data, { event, id = randomId() } = {}) {
    if (event !== undefined && local.has(event)) throw new TypeError(`presence: reserved event name "${event}"`);
    if (this.#waiting >= mostWaiting) throw new PresenceError({ title: `Send queue full (${mostWaiting} messages)`, status: 0 });
    this.#waiting++;
    const sent = this.#sending.then(() => this.#send({ event, id, data: data ?? null })).finally(() => this.#waiting--);
    this.#sending = sent.then(
      () => {},
      () => {},
    );
    return sent;
  }

  /** @param {{event?: string, id: string, data: any}} body */
  async #send(body) {
    const end = Date.now() + sendFor;
    for (let tries = 0; ; tries++) {
      await this.#awaitStream(end);
      try {
        return await this.#request("POST", "messages", { body });
      } catch (error) {
        if (!(error instanceof PresenceError) || !isTransient(error.problem)) throw error;
        const wait = Math.max(error.after, backoff(tries));
        if (Date.now() + wait > end) throw error;
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
  }

  /**
   * Waits until the stream is open or closed, or until `end`. A message sent earlier may arrive
   * before the stream's request, and its sender would not receive it. After a lost stream, a
   * restarted server has no history to replay it from.
   *
   * @param {number} end  A time, in milliseconds.
   */
  async #awaitStream(end) {
    if (this.#state.connection !== "connecting") return;
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    let timer;
    const late = new Promise((resolve) => (timer = setTimeout(resolve, end - Date.now())));
    await Promise.race([this.#opened().catch(() => {}), late]);
    clearTimeout(timer);
  }

  /**
   * Sets the user's info in this room, such as `{status: "away"}`. It replaces the previous info.
   * The call waits until the room is open; of several waiting calls only the last one is sent, and
   * all resolve. The info is sent again if the room has lost it, unless another tab or device of
   * the user has set other info since.
   *
   * @param {any} info   JSON of at most 1 KiB.
   * @returns {Promise<void>}
   * @throws {PresenceError}  The server rejected the info, or the room was closed first.
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
      const look = () => {
        const { connection, problem } = this.#state;
        if (connection === "connecting") return;
        off();
        if (connection === "open") resolve();
        else reject(new PresenceError(problem ?? { title: "Room closed", status: 0 }));
      };
      const off = this.on("state", look);
      look();
    });
  }

  /**
   * Fetches `connections` and `since` of the members, and updates the state. The stream reports
   * that a user joined or left, but not a second tab.
   *
   * @param {number} [limit]  Maximum number of members, in the order of their ids. Default and
   *   upper limit: 1000.
   * @throws {PresenceError}  The server rejected the request or did not respond.
   */
  async refresh(limit = 1000) {
    const page = await this.#request("GET", "presence", { query: { limit: String(limit) } });
    this.#set(seen(this.#state, page.members));
  }

  /**
   * Leaves the room permanently. Messages passed to send() before are still sent. To return, call
   * join().
   */
  close() {
    this.#closing.abort();
    if (this.#state.connection !== "closed") this.#set(closed(this.#state));
    this.#source = null;
  }

  // Opens a link, or shares that of another tab.
  #enter() {
    if (this.#source || this.#state.connection === "closed") return;
    /** @type {Sink} */
    const sink = {
      state: () => this.#state,
      event: (event) => this.#event(event),
      turn: (turn) => this.#turn(turn),
    };
    if (this.#options.share) this.#share(sink);
    else this.#source = this.#link(sink);
  }

  /** @param {Sink} sink */
  #link(sink) {
    const receivesAll = !this.#address.credential.isCookie || !globalThis.EventSource;
    return new Link(this.#address, sink, receivesAll ? null : () => this.#names());
  }

  #names() {
    const names = new Set([...own, ...this.#listeners.keys()]);
    for (const name of local) names.delete(name);
    return names;
  }

  /** @param {Sink} sink */
  async #share(sink) {
    const given = new AbortController();
    const asked = { stop: () => given.abort() };
    this.#source = asked;
    const user = (await canShare()) ? await this.#sharer(given.signal) : null;
    if (this.#source !== asked) return; // closed or left in the meantime
    this.#me = user;
    if (user === null) {
      this.#source = this.#link(sink);
      return;
    }
    const shared = (/** @type {"leading"|"following"} */ role) => {
      if (role !== this.#state.shared) this.#set({ ...this.#state, shared: role });
    };
    // The number is the version of the messages between tabs: tabs from before a deploy may use
    // another. The leader receives all events, because it does not know which names other tabs
    // listen for.
    const open = (/** @type {Sink} */ sink) => new Link(this.#address, sink, null);
    const tabs = new Tabs(`presence 1 ${this.url.href} ${this.name} ${user}`, sink, open, shared);
    if (this.#source === asked) this.#source = tabs;
    else tabs.stop(); // a listener closed the room in the meantime
  }

  /**
   * Returns the result of #user(). Retries until there is a response; returns null if the server
   * rejects the request.
   *
   * @param {AbortSignal} signal
   * @returns {Promise<string|null>}
   */
  async #sharer(signal) {
    for (let tries = 0; !signal.aborted; tries++) {
      try {
        return await this.#user();
      } catch (error) {
        const problem = problemOf(error);
        if (problem && !isTransient(problem)) return null;
        if (!signal.aborted) this.#turn({ to: "connecting", reason: problem ? "lost" : "token" });
        await pause(backoff(tries), signal);
      }
    }
    return null;
  }

  /**
   * Returns the user's id. If the token does not contain it, returns a text that is the same for
   * the same token. Returns null if no user is signed in.
   *
   * @returns {Promise<string|null>}
   */
  async #user() {
    const { credential } = this.#address;
    if (!credential.isCookie) return userOf(await credential.token());
    return (await this.#address.request("GET", "session"))?.user?.id ?? null;
  }

  #leave() {
    this.#source?.stop();
    this.#source = null;
    this.#turn({ to: "connecting", reason: "lost" });
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
    if (!local.has(name)) this.#emit(name, data);
    this.#keepInfo(name, data, before.connection !== "open" && this.#state.connection === "open");
  }

  /**
   * Sends the info again if the room has lost it, as after a restart of the server. The last change
   * by any tab or device of the user wins.
   *
   * @param {string} name
   * @param {any} data
   * @param {boolean} came   Whether this event has opened the room.
   */
  #keepInfo(name, data, came) {
    const mine = this.#info;
    if (!mine?.accepted) return;
    if (name === "update" && data.id === this.#me) mine.stands = same(data.info, mine.info);
    const known = this.#me === null ? undefined : this.#state.members.get(this.#me);
    if (came && mine.stands && !(known && same(known.info, mine.info))) this.#putState(mine).catch(() => {});
  }

  /** @param {Turn} turn */
  #turn(turn) {
    if (this.#state.connection === "closed") return;
    if (turn.to === "connecting") this.#set(connecting(this.#state, turn.reason));
    else if (turn.to === "closed") this.#set(closed(this.#state, turn.problem));
    else this.#set(renewed(this.#state));
  }

  /** @param {State} state */
  #set(state) {
    if (state === this.#state) return;
    this.#state = Object.freeze(state);
    if (state.connection === "closed") this.#source?.stop();
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
    const ask = () => this.#address.request(method, path, options);
    return ask().catch(async (error) => {
      if (problemOf(error)?.status !== 401 || !this.#address.credential.renewable) throw error;
      await this.#address.renew(false);
      return ask();
    });
  }
}

/**
 * Waits `ms` milliseconds. Ends early if the signal aborts or the browser is online again.
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
 * Reports whether two values are the same JSON.
 *
 * @param {any} a
 * @param {any} b
 */
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** @param {unknown} error */
function report(error) {
  if ("reportError" in globalThis) return reportError(error);
  queueMicrotask(() => {
    throw error;
  });
}
