/**
 * presence.js: who is in a room, how many, and what they say, live.
 *
 *     import { join } from "./presence.js";
 *
 *     const room = join({ url: "https://example.com/presence/", room: "lobby" });
 *     room.on("count", (n) => console.log(n, [...room.members.keys()]));
 *     room.on("message", ({ from, data }) => console.log(from?.name, data));
 *     await room.send("hello");
 *
 * In this order: what a state is, and the pure functions that make the next one of it; requests and the token they bear;
 * the link, which is one room's connection and comes back by itself; the tabs of a browser that share one; and the room,
 * which is what join() answers. Nothing here touches the page. Everything works in a worker, too.
 *
 * The credential is the cookie that `POST session` set, or a token. MIT licence, of the repository that it comes from.
 */

/**
 * @typedef {object} Member   Someone who is in the room.
 * @property {string} id
 * @property {string} name    It may be empty.
 * @property {any} info       What the token or `setState` said of the user.
 * @property {number} connections   Open streams; 0 while the room waits for a return. Told by `sync` only: see refresh().
 * @property {string} [since]       RFC 3339; not known of a member who came after `sync`: see refresh().
 *
 * @typedef {object} Message  What `message`, or an event of a sender's own name, carries.
 * @property {string} id      Its place in the room's messages, EPOCH-SEQ.
 * @property {{id: string, name: string}} [from]  None: the server itself.
 * @property {any} data       Any JSON.
 * @property {string} at      RFC 3339.
 *
 * @typedef {object} Problem  RFC 9457. `status` is 0 if there was no answer at all.
 * @property {string} [type]
 * @property {string} title
 * @property {number} status
 * @property {string} [detail]
 *
 * @typedef {object} State    Never changed in place: another state is another object.
 * @property {"connecting"|"open"|"closed"} connection   Open from `sync` on. Closed is for good.
 * @property {string|null} reason      Why it is not open: that of the last `goodbye`; "lost", "silent" (no event for two
 *   and a half heartbeats), "offline", "token" (the callback failed); "refused" when it is closed for an answer of the
 *   server's. null while it is open, at first, and after close().
 * @property {Problem|null} problem    With "refused": what the server answered.
 * @property {number|null} count       The last `user count`. The one number that is always kept up to date.
 * @property {number|null} connections As the last `sync`, `join` or `leave` told.
 * @property {number|null} users       The same.
 * @property {ReadonlyMap<string, Member>} members  By id. Empty before `sync`, and in a room too large to tell.
 * @property {boolean} complete        Whether the members are told: not in a room of more than the member limit.
 * @property {number} heartbeat        Seconds between two pings.
 * @property {number|null} expiring    Seconds that the token had left when the server warned of its end.
 * @property {string} lastEventId      The place up to which all messages were heard; "" before the first event.
 * @property {"leading"|"following"|null} shared   With `share`: whether this tab holds the stream, or another.
 * @property {boolean} renewable       Whether a callback gives a new token, so that the end of one is not the end.
 * @property {ReadonlyArray<[name: string, data: any]>} waiting   Changes that came before `sync`.
 *
 * @typedef {object} Heard    What each event of the room is given to those who listen.
 * @property {State} state          Anything has changed.
 * @property {number} count         A user count was told.
 * @property {{connections: number, users: number, members?: Member[], complete: boolean, heartbeat: number}} sync
 * @property {{id: string, name: string, info: any, connections: number, users: number}} join
 * @property {{id: string, name: string, info: any, connections: number, users: number, reason: string}} leave
 * @property {{id: string, info: any}} update
 * @property {{reason: string}} reset      Messages since the last one heard are gone.
 * @property {{in: number}} expiring       Seconds.
 * @property {{reason: string}} goodbye
 * @property {{}} ping
 * @property {Message} message
 *
 * @typedef {object} Told     One event of a stream.
 * @property {string} name
 * @property {string} text    Its data, which is JSON. As text it goes from tab to tab however deep it is.
 * @property {string} id      The last id that the stream has told; "" if none.
 *
 * @typedef {object} Kept     A message, kept for tabs that come later.
 * @property {Told} told
 * @property {string} prev    The place before it.
 *
 * @typedef {object} Unfinished  What a stream of bytes has told so far of the event that is not complete.
 * @property {string} line    The beginning of a line.
 * @property {boolean} cr     Whether the last character was a CR, so that an LF would belong to it.
 * @property {string} name
 * @property {string[]} data  Its lines.
 * @property {string} id      The last one; it outlives the event.
 * @property {number|null} retry  Milliseconds.
 *
 * @typedef {object} Options
 * @property {URL|string} [url]    Where the server is mounted; by default where this file was served from, which in
 *   a bundle is not the server.
 * @property {string} [room]       1 to 128 of A-Z a-z 0-9 . _ - ; "lobby" by default.
 * @property {string|(() => string|Promise<string>)} [token]  The token, or what gives one: it is asked at first, when the
 *   server refuses the one before, and when that is about to end. Without it the credential is the cookie.
 * @property {() => string|void|null|Promise<string|void|null>} [renew]  Gives a new token when the one in use is about to
 *   end, or has ended. What it resolves to is handed to `POST session`; nothing means that it has set the cookie
 *   itself. A rejection is tried again. Not needed where `token` is a function.
 * @property {boolean} [share]     One connection for all tabs of this browser that are the same user in the same room.
 *   It needs Web Locks, which browsers have in secure contexts only; elsewhere each tab has its own, as without it.
 * @property {boolean} [withCredentials]  Send the cookie to another origin, too.
 * @property {string} [lastEventId]  A place from which to take up: messages since then are told first.
 */

// ---------------------------------------------------------------------------------------------------------------------
// The state, and the functions that make the next one. None of them knows a clock, a socket or a page.

/** @type {State} */
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

// After these a return would only be refused, or would be against somebody's will.
const final = new Set(["removed", "signed out", "expired"]);

// These change what `sync` tells, so they mean nothing without it.
const changes = new Set(["join", "leave", "update"]);

/**
 * A Map, as names of events are chosen by strangers: there is no `constructor` in it.
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

/** The events of the server's own. All others are messages. */
const own = new Set([...steps.keys(), "reset", "ping"]);

// Names by which a room tells what no event does. A message that is called so is not heard.
const local = new Set(["count", "state"]);

/**
 * The state after an event of the stream. The same object if nothing changed, as after a ping.
 *
 * @param {State} state
 * @param {string} name
 * @param {any} data     The event's data, parsed.
 * @param {string} [id]  The last id that the stream has told.
 * @returns {State}
 */
export function apply(state, name, data, id = "") {
  // No place goes back, but by `reset`: with `share` a tab may hear what it has heard in another way before.
  const known = id === "" || id === state.lastEventId || (name !== "reset" && reaches(state.lastEventId, id));
  const at = known ? state : { ...state, lastEventId: id };
  if (at.connection !== "open" && changes.has(name)) return { ...at, waiting: [...at.waiting, [name, data]] };
  return steps.get(name)?.(at, data) ?? at;
}

/**
 * Whether an event is to be heard by who is in that state: a message that comes a second time is not. The server's own
 * events always are, as they repeat the id of the last message.
 *
 * @param {State} state
 * @param {string} name
 * @param {string} id
 */
export function isNew(state, name, id) {
  return own.has(name) || !reaches(state.lastEventId, id);
}

/**
 * Whether who holds the place `held` has all messages up to the place `id`. Places of different epochs say nothing of
 * each other.
 *
 * @param {string} held
 * @param {string} id
 */
export function reaches(held, id) {
  const [have, want] = [place(held), place(id)];
  return have !== null && want !== null && have.epoch === want.epoch && have.seq >= want.seq;
}

/**
 * @param {string} id  EPOCH-SEQ.
 * @returns {{epoch: string, seq: number} | null}
 */
function place(id) {
  const [, epoch, seq] = /^(.*)-(\d+)$/s.exec(id) ?? [];
  return epoch === undefined ? null : { epoch, seq: Number(seq) };
}

/**
 * The state while a connection is sought. Who was here stays to be seen until the next `sync`.
 *
 * @param {State} state
 * @param {string|null} [reason]
 * @returns {State}
 */
export function connecting(state, reason = state.reason) {
  return { ...state, connection: "connecting", reason, problem: null, expiring: null, waiting: [] };
}

/**
 * The state when no connection is sought any more, with the server's answer if that is the reason.
 *
 * @param {State} state
 * @param {Problem|null} [problem]
 * @returns {State}
 */
export function closed(state, problem = null) {
  return { ...connecting(state, problem && "refused"), connection: "closed", problem };
}

/**
 * The state when the token's end has been put off.
 *
 * @param {State} state
 * @returns {State}
 */
export function renewed(state) {
  return { ...state, expiring: null };
}

/**
 * The state with what GET presence told of members. It may be older or newer than the stream, which alone says who
 * came and went: nobody is added or taken away.
 *
 * @param {State} state
 * @param {Member[]} told
 * @returns {State}
 */
export function seen(state, told) {
  const members = new Map(state.members);
  for (const { id, connections, since } of told) {
    const member = members.get(id);
    if (member) members.set(id, { ...member, connections, since });
  }
  return { ...state, members };
}

/**
 * The events that bring a tab which holds `held` to the state: what it missed, or `reset`, and what a joiner is told.
 *
 * @param {State} state
 * @param {ReadonlyArray<Kept>} kept  The last messages of the room, without a gap, up to the state's place.
 * @param {string} held               The tab's place; "" if it has none.
 * @returns {Told[]}
 */
export function catchUp(state, kept, held) {
  const id = state.lastEventId;
  /** @type {Told[]} */
  const events = [];
  if (held !== "" && !reaches(held, id)) {
    const from = kept.findIndex(({ told, prev }) => reaches(held, prev) && !reaches(held, told.id));
    if (from !== -1) events.push(...kept.slice(from).map((message) => message.told));
    else if (state.connection === "open") events.push(told("reset", { reason: "history" }, id)); // else the server will say
  }
  if (state.connection !== "open") return events;
  const { connections, users, members, complete, heartbeat, count } = state;
  const who = complete ? { members: [...members.values()] } : {};
  events.push(told("sync", { connections, users, ...who, complete, heartbeat }, id));
  if (count !== null) events.push(told("user count", count, id));
  return events;
}

/**
 * @param {string} name
 * @param {any} data
 * @param {string} id
 * @returns {Told}
 */
const told = (name, data, id) => ({ name, text: JSON.stringify(data), id });

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
 * Whether a room can be called so: 1 to 128 of A-Z a-z 0-9 . _ -
 *
 * @param {any} name
 */
export function isRoomName(name) {
  return typeof name === "string" && /^[A-Za-z0-9._-]{1,128}$/.test(name);
}

/**
 * How long to wait before the next attempt, in milliseconds: a second, twice as long each time up to half a minute, and
 * of that between a half and all, so that those who were cut off together do not come back together.
 *
 * @param {number} tries     Attempts that have failed since the last success.
 * @param {number} [random]  From 0 to 1.
 */
export function backoff(tries, random = Math.random()) {
  return (Math.min(30_000, 1000 * 2 ** tries) * (1 + random)) / 2;
}

/**
 * Reads text of an event stream (WHATWG HTML, section 9.2.6): what it completes, and what remains to be completed.
 *
 * @param {Unfinished} partial  Of the text before, or what fresh() gives.
 * @param {string} text
 * @returns {{partial: Unfinished, events: Told[]}}
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
 * The beginning of a stream that takes up from that place.
 *
 * @param {string} [id]
 * @returns {Unfinished}
 */
export function fresh(id = "") {
  return { line: "", cr: false, name: "", data: [], id, retry: null };
}

// ---------------------------------------------------------------------------------------------------------------------
// Requests, and what they bear.

/** An answer that is a refusal, or none at all. `message` is fit to be shown. */
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
    /** The server's Retry-After, in milliseconds; 0 if it said none. */
    this.after = options?.after ?? 0;
  }
}

/**
 * Sends a request, with a body of JSON unless it is undefined.
 *
 * @param {string} method
 * @param {URL|string} url
 * @param {any} [body]
 * @param {RequestInit} [options]  As for fetch().
 * @returns {Promise<any>}   The answer's JSON; null with status 204.
 * @throws {PresenceError} On any status but 2xx; on a 2xx without JSON, which is of another server; and with status 0
 *   without an answer.
 */
export async function request(method, url, body, options = {}) {
  const headers = new Headers(options.headers);
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const init = { cache: /** @type {const} */ ("no-store"), ...options, method, headers, body: JSON.stringify(body) };
  const answer = await fetch(url, init).catch((cause) => {
    throw new PresenceError({ title: "No answer", status: 0, detail: "The server did not answer." }, { cause });
  });
  if (!answer.ok) throw await refusal(answer);
  if (answer.status === 204) return null;
  const told = isJSON(answer) ? await answer.json().catch(() => undefined) : undefined;
  if (told !== undefined) return told;
  throw new PresenceError({ title: "Unknown answer", status: answer.status, detail: `No presence server answers at ${url}` });
}

/** @param {Response} answer */
const isJSON = (answer) => /\bjson\b/.test(answer.headers.get("Content-Type") ?? "");

/**
 * @param {Response} answer
 * @returns {Promise<PresenceError>}
 */
async function refusal(answer) {
  const told = isJSON(answer) ? await answer.json().catch(() => null) : null;
  const after = 1000 * Number(answer.headers.get("Retry-After") ?? 0) || 0;
  return new PresenceError({ title: answer.statusText, ...told, status: answer.status }, { after });
}

/**
 * Whether the same request may be answered otherwise in a while.
 *
 * @param {Problem} problem
 */
const isTransient = ({ status }) => status < 400 || status === 408 || status === 425 || status === 429 || status >= 500;

/** Milliseconds for which a request may take, so that a server that hangs holds up nothing for good. */
const patience = 10_000;

/** The token, or the cookie, and how to get a new one. */
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

  /** Whether a new one can be had. */
  get renewable() {
    return this.#renewal !== undefined;
  }

  get #renewal() {
    const { token, renew } = this.#options;
    return renew ?? (typeof token === "function" ? token : undefined);
  }

  /**
   * What fetch() must be given. Asks for the first token if there is none yet.
   *
   * @returns {Promise<{credentials: RequestCredentials, headers: Record<string, string>}>}
   */
  async fetchOptions() {
    if (this.isCookie) return { credentials: this.#options.withCredentials ? "include" : "same-origin", headers: {} };
    return { credentials: "omit", headers: { Authorization: `Bearer ${await this.token()}` } };
  }

  /** The token; asks for the first one. */
  async token() {
    const { token } = this.#options;
    return (this.#token ??= requireToken(typeof token === "function" ? await this.#given(token()) : token));
  }

  /**
   * What the callback gives; a callback that never answers has failed.
   *
   * @template T
   * @param {T|Promise<T>} given
   * @returns {Promise<T>}
   */
  async #given(given) {
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    let timer;
    const late = new Promise((/** @type {(value: never) => void} */ _, reject) => {
      timer = setTimeout(() => reject(new Error("presence: the callback gives no token")), 3 * patience);
    });
    return Promise.race([given, late]).finally(() => clearTimeout(timer));
  }

  /**
   * Gets a new token, and hands it to the server as the cookie, or for open streams to go on with. Whoever asks while
   * that is under way waits for the same.
   *
   * @param {URL} session  Where tokens are handed in.
   * @param {boolean} open  Whether there are streams that are to go on.
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
  throw new PresenceError({ title: "No token", status: 401, detail: "There is no token any more." });
}

/**
 * A text that is the same for all tokens of a user, as far as a token tells: its `sub`, else a hash of all of it.
 *
 * @param {string} token
 */
async function userOf(token) {
  try {
    const bytes = Uint8Array.from(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    const { sub } = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof sub === "string") return sub;
  } catch {
    // No JSON Web Token: its server knows others.
  }
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token));
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** One room of one server, and who asks. */
class Address {
  /** @param {Options} options */
  constructor(options) {
    const { url, room = "lobby", withCredentials = false } = options;
    // Not within the call: a bundler would take that for the name of a file to bundle.
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

  /** @param {boolean} open  Whether there are streams that are to go on. */
  renew(open) {
    return this.credential.renew(new URL("session", this.url), open);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// The link: one room's connection, which comes back by itself.

/**
 * What a link, or the tabs that share one, tell, in the order in which it happens.
 *
 * @typedef {object} Sink
 * @property {() => State} state
 * @property {(told: Told) => void} event
 * @property {(turn: Turn) => void} turn
 *
 * @typedef {{to: "connecting", reason: string|null} | {to: "closed", problem: Problem} | {to: "renewed"}} Turn
 *   What happens to a connection beside its events.
 *
 * @typedef {object} End          How an attempt ended.
 * @property {string} reason      As in a state.
 * @property {Problem} [problem]  If it was refused.
 * @property {number} [after]     Milliseconds that the server asked to wait.
 * @property {boolean} [unsaid]   An EventSource was refused, which does not tell why.
 */

class Link {
  #address;
  #sink;
  #names;
  #stopped = new AbortController();
  #synced = false; // since the last recovery
  #came = false; // ever
  #tries = 0; // that failed, since it came last
  #refusals = 0; // for the token, answered by a new one, since it came last
  #since = 0; // when the token in use was new, as far as is known
  #heard = 0; // when something was heard last
  #suspect = false; // the network was gone, and nothing was heard since
  /** @type {EventSource|null} */
  #source = null;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #alarm; // the end of the silence that is still no lost connection
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #later; // the next try to renew the token
  #end = (/** @type {End} */ _) => {}; // ends the attempt that is under way
  #wake = () => {}; // ends the wait that is under way

  /**
   * @param {Address} address
   * @param {Sink} sink
   * @param {(() => Iterable<string>) | null} names  Of the events that are to be heard; null for all, which an
   *   EventSource cannot do: it hears those alone that it was asked for.
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

  /** Hears events of that name, too. @param {string} name */
  hear(name) {
    this.#source?.addEventListener(name, ({ data, lastEventId }) => this.#tell({ name, text: data, id: lastEventId }));
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
   * What is to be done before the next attempt: nothing, a new token, a wait; or none is to follow.
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
    const askAtOnce = unsaid && !this.#came && this.#tries === 1; // whoever has just come wants to know why
    if (!askAtOnce && (await this.#pause(wait))) this.#tries = 0;
  }

  /**
   * One connection, from its opening to its end.
   *
   * @returns {Promise<End>}
   */
  async #attempt() {
    const over = new AbortController();
    const ended = new Promise((/** @type {(end: End) => void} */ resolve) => (this.#end = resolve));
    const resolve = this.#end;
    this.#heardNow();
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

  // The browser comes back by itself where it can, after the time that the server named in `retry:`, which it alone knows.
  /** @param {Iterable<string>} names */
  #viaEventSource(names) {
    const source = new EventSource(this.#events(), { withCredentials: this.#address.withCredentials });
    this.#source = source;
    source.onopen = () => this.#heardNow();
    source.onerror = () => {
      const reason = this.#whyNotOpen();
      if (reason === "offline" || source.readyState === EventSource.CLOSED) return this.#end({ reason, unsaid: true });
      this.#heardNow();
      this.#sink.turn({ to: "connecting", reason });
    };
    for (const name of names) this.hear(name);
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
      this.#heardNow();
      const { events, ...rest } = decode(partial, value);
      partial = rest.partial;
      for (const event of events) {
        // The server may have what follows the place that was reached meanwhile, by what another tab said.
        const moved = !this.#synced && this.#sink.state().lastEventId !== asked;
        if (event.name === "reset" && moved) return { reason: "lost" };
        if (!signal.aborted) this.#tell(event);
      }
    }
    return { reason: this.#whyNotOpen(), after: partial.retry ?? 0 };
  }

  /** @param {Told} told */
  #tell(told) {
    this.#heardNow();
    if (told.name === "sync") {
      this.#synced = true;
      this.#since = Date.now();
    }
    this.#sink.event(told);
    if (this.#sink.state().connection === "closed") this.#end({ reason: "closed" });
    else if (endsToken(told)) this.#end({ reason: "expired" });
    else if (told.name === "expiring") this.#prolong(dataOf(told)?.in, Date.now() - this.#since < 5000);
  }

  /**
   * Why an EventSource was refused; null if it would not be any more.
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

  // Why it is not open; a goodbye's reason stays until it is again.
  #whyNotOpen(why = "lost") {
    const { reason } = this.#sink.state();
    if (globalThis.navigator?.onLine === false) return "offline";
    return reason === null || reason === "offline" ? why : reason;
  }

  // A peer that vanished without a word looks like one that has nothing to say; but the server pings.
  #heardNow() {
    this.#heard = Date.now();
    this.#suspect = false;
    clearTimeout(this.#alarm);
    this.#alarm = setTimeout(() => this.#end({ reason: this.#whyNotOpen("silent") }), silence(this.#sink.state()));
  }

  // The browser sees a network again, or somebody the page, whose timers may have slept.
  #checkAlive() {
    this.#wake();
    if (this.#suspect || Date.now() - this.#heard >= silence(this.#sink.state())) this.#end({ reason: "silent" });
  }

  // What is open may go on in spite of what the browser thinks of the network.
  #wentOffline() {
    this.#suspect = true;
    if (this.#sink.state().connection !== "open") this.#end({ reason: "offline" });
  }

  /**
   * Waits for that long; while there is no network, until there is one.
   *
   * @param {number} ms
   * @returns {Promise<boolean>}  Whether there was a reason to go on earlier.
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
   * @returns {Promise<Problem|null>}  What went wrong.
   */
  async #renew(open) {
    this.#since = Date.now(); // the stream may warn of the new one before the answer is here
    return this.#address.renew(open).then(
      () => null,
      (error) => problemOf(error) ?? { title: "No token", status: 0, detail: String(error) },
    );
  }

  /**
   * Has the token renewed: now, or, if it is new and lives for less than the server's warning, half way to its end; and
   * if that fails, half way to it again.
   *
   * @param {number} seconds  Until it ends.
   * @param {boolean} later
   */
  async #prolong(seconds, later) {
    if (!this.#address.credential.renewable) return;
    clearTimeout(this.#later); // of a warning before, on another connection
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
 * The data of an event; undefined if it is no JSON: a presence server says nothing else.
 *
 * @param {Told} told
 */
function dataOf({ text }) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @param {Told} told */
const endsToken = (told) => told.name === "goodbye" && dataOf(told)?.reason === "expired";

/** Milliseconds without an event after which a stream is lost. @param {State} state */
const silence = ({ heartbeat }) => heartbeat * 2500;

/** @param {Response} answer */
const isStream = (answer) => (answer.headers.get("Content-Type") ?? "").startsWith("text/event-stream");

/** @param {unknown} error */
const problemOf = (error) => (error instanceof PresenceError ? error.problem : undefined);

// ---------------------------------------------------------------------------------------------------------------------
// The tabs of a browser that share one link. A Web Lock says which of them leads: it holds the link, and tells the others
// over a BroadcastChannel. When it goes, the lock is the next one's, which takes up from the place that it holds itself.

/**
 * What tabs tell each other. A term is one tab's lead; a later one has a higher number. `hello` asks the leader, who
 * answers with `welcome` for that tab alone; all else is the leader's, for all.
 *
 * @typedef {{kind: "hello", from: string, held: string}
 *   | {kind: "welcome", to: string, held: string, term: number, turn: Turn|null, events: Told[]}
 *   | {kind: "lead", term: number}
 *   | {kind: "event", term: number, prev: string, told: Told}
 *   | {kind: "turn", term: number, turn: Turn}} Said
 */

const keptMessages = 100; // that a tab keeps for others
const hearing = 3000; // milliseconds in which a leader answers, unless it hangs

class Tabs {
  #key;
  #sink;
  /** @type {(sink: Sink) => {stop(): void}} */
  #open;
  #shared;
  #id = randomId();
  #channel;
  #term = 0; // the highest that was heard of
  #lead = 0; // this tab's own, while it leads
  /** @type {Kept[]} */
  #kept = [];
  #asking = false; // and not answered yet
  /** @type {{stop(): void}|null} */
  #link = null; // while this tab leads
  #release = () => {}; // gives the lock back
  #turn = new AbortController(); // the place in the queue for the lock
  #stopped = false;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #alarm;

  /**
   * @param {string} key   The same for tabs that may share.
   * @param {Sink} sink
   * @param {(sink: Sink) => {stop(): void}} open   Opens the link.
   * @param {(role: "leading"|"following") => void} shared
   */
  constructor(key, sink, open, shared) {
    this.#key = key;
    this.#sink = sink;
    this.#open = open;
    this.#shared = shared;
    this.#channel = new BroadcastChannel(key);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    this.#queue(false);
    this.#ask();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#alarm);
    this.#turn.abort();
    this.#link?.stop();
    this.#channel.close();
    // That it is over for all must have been heard before the lead is another's. Else nothing is waited for: no timer
    // goes on in a page that is kept for the way back.
    const { reason } = this.#sink.state();
    if (reason === "removed" || reason === "signed out") setTimeout(this.#release, 250);
    else this.#release();
  }

  /**
   * Waits for the lock, and leads while it has it.
   *
   * @param {boolean} steal  Take it from who has it.
   */
  async #queue(steal) {
    this.#turn.abort();
    const { signal } = (this.#turn = new AbortController());
    while (!this.#stopped && !signal.aborted) {
      const options = steal ? { steal } : { signal };
      steal = false;
      const end = await navigator.locks.request(this.#key, options, () => this.#take()).catch((error) => error);
      // AbortError: it was taken away, or this place in the queue given up. Else this document is none any more.
      if (end?.name !== "AbortError") return;
      if (this.#link && !this.#stopped) this.#yield();
    }
  }

  // The lock is here.
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
      event: (told) => {
        const { lastEventId: prev } = this.#sink.state();
        if (endsToken(told)) this.#part("expired");
        else this.#say({ kind: "event", term: this.#lead, prev, told });
        this.#tell(told, prev);
      },
      turn: (turn) => {
        if (turn.to === "closed") this.#part("lost");
        else this.#say({ kind: "turn", term: this.#lead, turn });
        this.#sink.turn(turn);
      },
    };
    if (this.#sink.state().connection === "open") sink.turn({ to: "connecting", reason: "lost" });
    if (!this.#stopped) this.#link = this.#open(sink);
    return held;
  }

  // The token of this tab is no longer good, or was refused. Another tab's may be: it shall try.
  /** @param {string} reason */
  #part(reason) {
    this.#say({ kind: "turn", term: this.#lead, turn: { to: "connecting", reason } });
  }

  #announce() {
    // The fraction makes it this tab's: others may begin in the same millisecond, knowing of the same terms.
    this.#lead = this.#term = Math.max(Math.floor(this.#term) + 1, Date.now()) + Math.random();
    this.#say({ kind: "lead", term: this.#lead });
  }

  // The lock is another tab's.
  #yield() {
    this.#link?.stop();
    this.#link = null;
    this.#ask();
  }

  /** @param {Said} said */
  #hear(said) {
    if (this.#stopped || (said?.kind !== "hello" && typeof said?.term !== "number")) return; // another script's
    if (said.kind === "hello") {
      if (this.#link) this.#welcome(said.from, said.held);
      return;
    }
    // A message is what it is, whoever leads.
    if (said.kind === "event" && !own.has(said.told.name) && this.#follows(said.prev)) this.#tell(said.told, said.prev);
    const before = this.#term;
    this.#term = Math.max(before, said.term);
    if (this.#link) {
      // The lock says who leads: if that is still this tab in a while, the other did not know that it does no more.
      if (said.term < this.#lead) return;
      this.#wait(250, () => this.#announce());
    } else if (said.kind === "welcome" && said.to === this.#id && said.term >= before) {
      this.#enter(said);
    } else if (said.term > before) {
      this.#ask(); // what was asked before, and told meanwhile, was not this leader's
    } else if (said.term === before) {
      // What the leader has lost may still be here, or there for who holds another place.
      const { lastEventId: held } = this.#sink.state();
      const other = said.kind === "event" && said.told.name === "reset" && said.prev !== held;
      const missing = other || (said.kind === "event" && !this.#follows(said.prev));
      if (!this.#asking) missing ? this.#ask() : this.#heardNow();
      if (said.kind === "turn") this.#sink.turn(said.turn);
      else if (said.kind === "event" && !missing) this.#tell(said.told, said.prev);
    }
  }

  /** @param {Said & {kind: "welcome"}} said */
  #enter({ held, turn, events }) {
    const { lastEventId } = this.#sink.state();
    // Asked with an older place, before what is between was heard after all.
    const lost = events[0]?.name === "reset" ? events[0].id : null;
    if (held !== lastEventId && (lost !== null || !reaches(lastEventId, held))) return this.#ask();
    // The server may have what the leader does not, and gives it to who leads.
    if (lost !== null && reaches(lost, held)) return void this.#queue(true);
    this.#asking = false;
    this.#heardNow();
    if (turn) this.#sink.turn(turn);
    for (const told of events) this.#tell(told, this.#sink.state().lastEventId);
  }

  /**
   * Whether nothing was missed before what comes after that place.
   *
   * @param {string} prev
   */
  #follows(prev) {
    const { lastEventId: held } = this.#sink.state();
    return held === prev || reaches(held, prev);
  }

  /**
   * @param {Told} told
   * @param {string} prev
   */
  #tell(told, prev) {
    if (!isNew(this.#sink.state(), told.name, told.id)) return;
    if (told.name === "reset") this.#kept = [];
    if (!own.has(told.name)) {
      this.#kept.push({ told, prev });
      if (this.#kept.length > keptMessages) this.#kept.shift();
    }
    this.#sink.event(told);
  }

  /**
   * @param {string} to
   * @param {string} held
   */
  #welcome(to, held) {
    const state = this.#sink.state();
    /** @type {Turn|null} */
    const turn = state.connection === "open" ? null : { to: "connecting", reason: state.reason };
    this.#say({ kind: "welcome", to, held, term: this.#lead, turn, events: catchUp(state, this.#kept, held) });
  }

  // Asks the leader for what is missing here. None answers if there is none, when the lock is about to be somebody's; or
  // if its page hangs, in a dialogue or an endless loop: then the lead is taken from it.
  #ask() {
    this.#asking = true;
    this.#shared("following");
    this.#say({ kind: "hello", from: this.#id, held: this.#sink.state().lastEventId });
    this.#wait(hearing * (1 + Math.random()), () => this.#queue(true));
  }

  #heardNow() {
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

  /** @param {Said} said */
  #say(said) {
    if (!this.#stopped) this.#channel.postMessage(said);
  }
}

/** An id for a message of one's own, that nobody else draws. */
export const randomId = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

/** Whether tabs can share here: not in an insecure context, and not in a sandbox. */
async function canShare() {
  if (!globalThis.BroadcastChannel || !globalThis.navigator?.locks) return false;
  return navigator.locks.query().then(
    () => true,
    () => false,
  );
}

// ---------------------------------------------------------------------------------------------------------------------
// The room.

/**
 * Enters a room, and stays in it until close(): whatever becomes of the connection, it comes back, unless the server
 * says that it shall not.
 *
 * @param {Options} [options]
 * @returns {Room}
 * @throws {TypeError}  On a room's name or a URL that is none.
 */
export function join(options) {
  return new Room(options);
}

const sendFor = 15_000; // milliseconds for which a message is tried again
const mostWaiting = 1000; // messages that wait to be sent

/**
 * @typedef {object} Info     What was said of the user.
 * @property {any} info
 * @property {boolean} told   Whether the server has taken it.
 * @property {boolean} stands  Whether it is the last word: not if another tab or device of the user's has spoken since.
 */

/** A room, as seen from here. See join(). */
export class Room {
  #options;
  #address;
  /** @type {State} */
  #state;
  /** @type {Map<string, Set<(data: any) => void>>} */
  #listeners = new Map();
  /** @type {{stop(): void, hear?(name: string): void}|null} */
  #source = null;
  #closing = new AbortController();
  #sending = Promise.resolve();
  #waiting = 0;
  /** @type {Info|null} */
  #info = null; // what setState said last
  /** @type {string|null} */
  #me = null; // the user's id, once it is known
  #telling = Promise.resolve();

  /** @param {Options} [options] */
  constructor(options = {}) {
    const { room = "lobby", lastEventId = "" } = options;
    if (!isRoomName(room)) {
      throw new TypeError(`presence: a room's name is 1 to 128 of A-Z a-z 0-9 . _ -, not ${JSON.stringify(room)}`);
    }
    this.#options = options;
    this.#address = new Address(options);
    const { renewable } = this.#address.credential;
    this.#state = Object.freeze({ ...initial, members: new Map(), lastEventId, renewable });
    const { signal } = this.#closing;
    // A page that the browser keeps for the way back is not here, and its connections may be cut.
    globalThis.addEventListener?.("pagehide", ({ persisted }) => persisted && this.#leave(), { signal });
    globalThis.addEventListener?.("pageshow", ({ persisted }) => persisted && this.#enter(), { signal });
    this.#enter();
  }

  /** Where the server is mounted. */
  get url() {
    return this.#address.url;
  }

  /** The room's name. */
  get name() {
    return this.#address.room;
  }

  /** All that is known, as one object that never changes: the next state is another. */
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

  /**
   * Calls fn at each event of that name, after it has changed the state. "state" is each change of the state, and fn is
   * given it; "count" is each `user count`, and fn is given the number; of all others it is given the event's data:
   * those of the server's own, "message", or a name of a sender's. Messages that are called "count" or "state" are not
   * heard.
   *
   * @template {string} N
   * @param {N} name
   * @param {(data: N extends keyof Heard ? Heard[N] : Message) => void} fn
   * @returns {() => void}  Ends that.
   */
  on(name, fn) {
    // An EventSource's own events, which the server lets no message be called.
    if (name === "open" || name === "error") throw new TypeError(`presence: no event is called ${name}; see "state"`);
    let fns = this.#listeners.get(name);
    if (!fns) {
      this.#listeners.set(name, (fns = new Set()));
      if (!own.has(name) && !local.has(name)) this.#source?.hear?.(name);
    }
    const listener = (/** @type {any} */ data) => fn(data); // so that the same function may be given twice
    fns.add(listener);
    return () => void fns.delete(listener);
  }

  /**
   * Sends a message to the room: after those that were sent before, once the stream is open, and again if there is no
   * answer, or none but "not now", for 15 s in all. It has an id, so that it is one message however often it is sent.
   *
   * @param {any} data   Any JSON; undefined is null.
   * @param {{event?: string, id?: string}} [options]  Its name, "message" by default; its id, for those who send the
   *   same message again themselves.
   * @returns {Promise<{id: string}>}  Its place in the room's messages.
   * @throws {PresenceError}  It was refused, or there was no answer in time, after which it may have been taken all the
   *   same; or a thousand others wait.
   */
  async send(data, { event, id = randomId() } = {}) {
    if (event !== undefined && local.has(event)) throw new TypeError(`presence: no message can be called ${event}`);
    if (this.#waiting >= mostWaiting) throw new PresenceError({ title: "Too many messages wait to be sent", status: 0 });
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
   * Waits until the stream is open or closed, or until `end`. A message sent before may arrive before the stream's
   * request, and its sender would not receive it. After a lost stream a server that was started again has no history.
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
   * Says what is to be known of the user in this room, in place of what was: `{status: "away"}`. It waits until the room
   * is open, and is said again if the room has lost it, unless another tab or device of the user's has spoken since. Of
   * several that wait the last one is said.
   *
   * @param {any} info   JSON of at most 1 KiB.
   * @returns {Promise<void>}
   * @throws {PresenceError}  It was refused, or the room was closed before.
   */
  setState(info) {
    this.#info = { info: info ?? null, told: false, stands: true };
    return this.#tell(this.#info);
  }

  /** @param {Info} said */
  #tell(said) {
    const told = this.#telling.then(async () => {
      await this.#opened();
      if (said !== this.#info) return;
      await this.#request("PUT", "state", { body: said.info });
      said.told = true;
      this.#me ??= await this.#user().catch(() => null);
    });
    this.#telling = told.catch(() => {});
    return told;
  }

  /** @returns {Promise<void>} */
  #opened() {
    return new Promise((resolve, reject) => {
      const look = () => {
        const { connection, problem } = this.#state;
        if (connection === "connecting") return;
        off();
        if (connection === "open") resolve();
        else reject(new PresenceError(problem ?? { title: "The room is closed", status: 0 }));
      };
      const off = this.on("state", look);
      look();
    });
  }

  /**
   * Asks how many connections each member has, and since when it is here, and brings the state up to date: the stream
   * tells that a user came and went, but not of a second tab.
   *
   * @param {number} [limit]  Of how many members, by id; at most 1000.
   * @throws {PresenceError}
   */
  async refresh(limit = 1000) {
    const page = await this.#request("GET", "presence", { query: { limit: String(limit) } });
    this.#set(seen(this.#state, page.members));
  }

  /** Leaves the room, for good: join() enters it again. What is being sent is sent. */
  close() {
    this.#closing.abort();
    if (this.#state.connection !== "closed") this.#set(closed(this.#state));
    this.#source = null;
  }

  // Opens the link, or takes part in that of another tab.
  #enter() {
    if (this.#source || this.#state.connection === "closed") return;
    /** @type {Sink} */
    const sink = {
      state: () => this.#state,
      event: (told) => this.#event(told),
      turn: (turn) => this.#turn(turn),
    };
    if (this.#options.share) this.#share(sink);
    else this.#source = this.#link(sink);
  }

  /** @param {Sink} sink */
  #link(sink) {
    const hearsAll = !this.#address.credential.isCookie || !globalThis.EventSource;
    return new Link(this.#address, sink, hearsAll ? null : () => this.#names());
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
    if (this.#source !== asked) return; // closed, or left, meanwhile
    this.#me = user;
    if (user === null) {
      this.#source = this.#link(sink);
      return;
    }
    const shared = (/** @type {"leading"|"following"} */ role) => {
      if (role !== this.#state.shared) this.#set({ ...this.#state, shared: role });
    };
    // The number is that of what tabs say to each other: those of before a deploy may speak otherwise.
    // A tab listens for others, whose names it does not know: so it hears all.
    const open = (/** @type {Sink} */ sink) => new Link(this.#address, sink, null);
    const tabs = new Tabs(`presence 1 ${this.url.href} ${this.name} ${user}`, sink, open, shared);
    if (this.#source === asked) this.#source = tabs;
    else tabs.stop(); // a listener has closed the room meanwhile
  }

  /**
   * Who the user is, asked until somebody answers; null if nobody says.
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
   * The user's id, or, of a token that does not tell it, what is the same for that token; null if nobody is signed in.
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

  /** @param {Told} told */
  #event(told) {
    const { name, id } = told;
    const before = this.#state;
    if (before.connection === "closed" || !isNew(before, name, id)) return;
    const data = dataOf(told);
    if (data === undefined) return;
    this.#set(apply(before, name, data, id));
    if (name === "user count") this.#emit("count", data);
    if (!local.has(name)) this.#emit(name, data);
    this.#keepInfo(name, data, before.connection !== "open" && this.#state.connection === "open");
  }

  /**
   * Says again what was said of the user if the room has lost it, as a server does that was started again. But whoever
   * of the user's tabs and devices spoke last is right.
   *
   * @param {string} name
   * @param {any} data
   * @param {boolean} came   The room has just been entered, or entered again.
   */
  #keepInfo(name, data, came) {
    const said = this.#info;
    if (!said?.told) return;
    if (name === "update" && data.id === this.#me) said.stands = same(data.info, said.info);
    const known = this.#me === null ? undefined : this.#state.members.get(this.#me);
    if (came && said.stands && !(known && same(known.info, said.info))) this.#tell(said).catch(() => {});
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
        report(error); // one listener's fault is not the others'
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
 * Waits, but no longer than until the signal ends it, or there is a network again.
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
 * Whether two values are the same JSON.
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
