/**
 * The state of a room, and the functions that compute the next state from an event. The functions
 * are pure: they use no clock, no socket and no page.
 */

/**
 * @import { Problem } from "./request.js"
 * @import { StreamEvent } from "./eventstream.js"
 */

/**
 * @typedef {object} Member  A user in the room.
 * @property {string} id  User id.
 * @property {string} name  Display name, without control and most format characters. May be empty.
 * @property {any} info  Application data about the user: any JSON, from the token or from the
 *   user's last `setState`.
 * @property {number} connections  The user's open streams. 0 during the grace period, which starts
 *   when the last of them closes. Only `sync` and refresh() update this number: a member that joins
 *   after `sync` starts at 1.
 * @property {string} [since]  Time at which the user joined (RFC 3339). If the user joined after
 *   `sync`, it is absent until refresh().
 *
 * @typedef {object} Message  The data of a message, under the name `message` or a custom name.
 * @property {string} id  Position in the room's messages: EPOCH-SEQ.
 * @property {{id: string, name: string}} [from]  The sender. Absent if the server or an admin sent
 *   the message.
 * @property {any} data  The content: any JSON.
 * @property {string} at  Time at which the server accepted the message (RFC 3339).
 *
 * @typedef {Message & {event: string}} HistoryMessage  A message of the history, with its event name.
 *
 * @typedef {object} MessagePage  A page of the history of a room.
 * @property {HistoryMessage[]} messages  The messages, the newest last.
 * @property {string|null} next  The `before` of the page with older messages. null if there are
 *   none.
 * @property {string} lastEventId  The end of the room's messages. A room that is joined with this
 *   `lastEventId` receives each message after the newest page.
 *
 * @typedef {object} State  The state of a room. Each change creates a new object, so two states can
 *   be compared with `===`.
 * @property {"connecting"|"open"|"closed"} connection  "open" once `sync` has arrived. "closed" is
 *   final: the room does not reconnect.
 * @property {string|null} reason  Why the connection is not open: the reason of the last `goodbye`,
 *   or one of the values below. null while the connection is open, before the first attempt has
 *   failed, and after close().
 *   - "lost": the connection was lost.
 *   - "silent": no data arrived for two and a half heartbeats.
 *   - "offline": the browser has no network.
 *   - "connections": the browser has no connection for another stream to this host. The room opens
 *     when another stream of the browser ends.
 *   - "paused": pause() was called.
 *   - "token": the token callback failed.
 *   - "refused": the server rejected the request. The room is closed.
 * @property {Problem|null} problem  The problem document of the server, if its last response was an
 *   error. If there was no response, or a token callback failed, `status` is 0. null while the
 *   connection is open, and if the cause is unknown.
 * @property {number|null} retryAt  Time of the next attempt, in milliseconds since 1970. null unless
 *   the room waits for it: while an attempt runs, and while the room is open or closed. Also null
 *   while the browser itself reconnects, or is offline, because the time is unknown then.
 * @property {number|null} count  The user count: the number to show, because it is always current.
 *   It counts connections, or users if the server runs with `--count users`. null before the first
 *   `user count`.
 * @property {number|null} connections  Open streams in the room, as of the last `sync`, `join` or
 *   `leave`. In a room over the member limit, as of the last `sync`. null before the first `sync`.
 * @property {number|null} users  Users in the room, as of the last `sync`, `join` or `leave`. In a
 *   room over the member limit, as of the last `sync`. null before the first `sync`.
 * @property {ReadonlyMap<string, Member>} members  Members by id. Empty before the first `sync`,
 *   and in a room over the member limit.
 * @property {boolean} complete  Whether `members` lists every member. False before the first
 *   `sync`, and in a room over the member limit.
 * @property {number} heartbeat  Seconds between two pings.
 * @property {number|null} expiring  Remaining seconds of the token when the server sent `expiring`.
 *   null if there is no warning, or the token was renewed.
 * @property {string} lastEventId  Position up to which all messages were received. Before the first
 *   event, it is the `lastEventId` option.
 * @property {"leading"|"following"|null} shared  With the `share` option: "leading" if this tab
 *   holds the stream, "following" if another tab does. null if the connection is not shared, and
 *   after pause().
 * @property {boolean} renewable  Whether a callback can return a new token. If so, an expired token
 *   does not close the room.
 * @property {ReadonlyArray<[name: string, data: any]>} waiting  Changes that arrived before `sync`.
 *   They are applied after it.
 *
 * @typedef {EventData & {"user count": number}} RoomEvents  The argument of a listener, by event
 *   name. For a message with a custom name, it is a Message. See Room.on().
 *
 * @typedef {object} EventData  The argument of a listener, for event names without a space.
 * @property {Readonly<State>} state  The new state, after any change.
 * @property {number} count  The new user count, after each `user count` event.
 * @property {{connections: number, users: number, members?: Member[], complete: boolean, heartbeat: number}} sync
 *   The snapshot of the room. The server sends it on each connection, and when the number of
 *   members crosses the member limit.
 * @property {{id: string, name: string, info: any, connections: number, users: number}} join
 *   A user joined. `connections` and `users` are totals of the room.
 * @property {{id: string, name: string, info: any, connections: number, users: number, reason: string}} leave
 *   A user left. `reason` is "closed", "timeout", "removed", "expired", "slow" or
 *   "node".
 * @property {{id: string, name?: string, info: any}} update
 *   The info of a member changed. `name` is set if the name has changed too.
 * @property {{reason: string}} reset  The messages after the last received one are lost.
 * @property {{in: number}} expiring  The token expires in `in` seconds.
 * @property {{reason: string}} goodbye  The server closes the stream. `reason` is "expired",
 *   "removed", "draining", "full", "slow" or "signed out". The room is closed after "removed" and
 *   "signed out", and after "expired" if the token is not renewable. Otherwise it reconnects.
 * @property {{}} ping  The heartbeat.
 * @property {Message} message  A message without a custom name.
 *
 * @typedef {object} LoggedMessage  A message that a tab keeps for tabs that open later.
 * @property {StreamEvent} event
 * @property {string} prev  The position before the message.
 */

/**
 * The state before the first event.
 *
 * @type {State}
 */
export const initial = Object.freeze({
  connection: "connecting",
  reason: null,
  problem: null,
  retryAt: null,
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

// After a `goodbye` with one of these reasons, the link must not reconnect. The server would reject
// the request, or the reconnect would undo a decision of an admin or of the user.
const finalReasons = new Set(["removed", "signed out", "expired"]);

/**
 * The longest heartbeat of a server, in seconds. Any other heartbeat would end each connection at
 * once: the timer of the silence limit would be 0, or too long for a timer of the browser.
 */
const longestHeartbeat = 300;

// The events that change the snapshot. They are kept until `sync`, because they need a snapshot.
const changes = new Set(["join", "leave", "update"]);

/**
 * The functions that compute the state after each of the server's events. They are in a Map,
 * because senders choose event names and a plain object would also find `constructor`.
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

/** The names of the server's own events. Events with any other name are messages. */
export const serverEvents = new Set([...steps.keys(), "reset", "ping"]);

// Listener names that are not event names. A message with one of these names is not delivered.
export const localNames = new Set(["count", "state"]);

/**
 * Returns the state after an event of the stream. If the event changes nothing, as a ping does, it
 * returns the same object.
 *
 * @param {State} state
 * @param {string} name
 * @param {any} data  The parsed data of the event.
 * @param {string} [id]  The last id on the stream.
 * @returns {State}
 */
export function apply(state, name, data, id = "") {
  // With `share`, a tab may receive the same event twice: from another tab and from its own stream.
  // Therefore only `reset` may move the position back.
  const known = id === "" || id === state.lastEventId || (name !== "reset" && reaches(state.lastEventId, id));
  const at = known ? state : { ...state, lastEventId: id };
  if (at.connection !== "open" && changes.has(name)) return { ...at, waiting: [...at.waiting, [name, data]] };
  return steps.get(name)?.(at, data) ?? at;
}

/**
 * Reports whether the event must be delivered to listeners. A message that was already received is
 * not delivered again. The server's own events repeat the id of the last message, so they are
 * always new.
 *
 * @param {State} state
 * @param {string} name
 * @param {string} id
 */
export function isNew(state, name, id) {
  return serverEvents.has(name) || !reaches(state.lastEventId, id);
}

/**
 * Reports whether a client at position `held` has received all messages up to position `id`. The
 * result is false if the epochs differ, because positions of different epochs cannot be compared.
 *
 * @param {string} held
 * @param {string} id
 */
export function reaches(held, id) {
  const [have, want] = [position(held), position(id)];
  return have !== null && want !== null && have.epoch === want.epoch && have.seq >= want.seq;
}

/**
 * Parses a position. Returns null if `id` is not one.
 *
 * @param {string} id  EPOCH-SEQ.
 * @returns {{epoch: string, seq: number} | null}
 */
function position(id) {
  const [, epoch, seq] = /^(.*)-(\d+)$/s.exec(id) ?? [];
  return epoch === undefined ? null : { epoch, seq: Number(seq) };
}

/**
 * Returns the state while the link connects. The members remain until the next `sync`.
 *
 * @param {State} state
 * @param {string|null} [reason]  Default: the previous reason.
 * @param {Problem|null} [problem]  The cause, if it is known.
 * @param {number|null} [retryAt]  As in State.
 * @returns {State}
 */
export function connecting(state, reason = state.reason, problem = null, retryAt = null) {
  return { ...state, connection: "connecting", reason, problem, retryAt, expiring: null, waiting: [] };
}

/**
 * Returns the final state, which has no connection.
 *
 * @param {State} state
 * @param {Problem|null} [problem]  The server's response, if the server rejected the request.
 * @returns {State}
 */
export function closed(state, problem = null) {
  return { ...connecting(state, problem && "refused"), connection: "closed", problem };
}

/**
 * Returns the state after the token was renewed, which has no expiry warning.
 *
 * @param {State} state
 * @returns {State}
 */
export function renewed(state) {
  return { ...state, expiring: null };
}

/**
 * Returns the state with new `connections` and `since` values from `GET presence`. No member is
 * added or removed, because the response may be older or newer than the stream, and only the stream
 * reports joins and leaves.
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
 * Returns the events that a tab at position `held` needs to reach the state. They start with the
 * missed messages, or with a `reset` if these are not available. The events that a joiner receives
 * follow.
 *
 * @param {State} state
 * @param {ReadonlyArray<LoggedMessage>} log  The last messages of the room, up to the state's
 *   position and without a gap.
 * @param {string} held  The tab's position. "" if it has none.
 * @returns {StreamEvent[]}
 */
export function catchUp(state, log, held) {
  const id = state.lastEventId;
  /** @type {StreamEvent[]} */
  const events = [];
  if (held !== "" && !reaches(held, id)) {
    const from = log.findIndex(({ event, prev }) => reaches(held, prev) && !reaches(held, event.id));
    if (from !== -1) events.push(...log.slice(from).map((message) => message.event));
    // Without a connection, the server has yet to decide whether the messages are lost.
    else if (state.connection === "open") events.push(eventOf("reset", { reason: "history" }, id));
  }
  if (state.connection !== "open") return events;
  const { connections, users, members, complete, heartbeat, count } = state;
  const list = complete ? { members: [...members.values()] } : {};
  events.push(eventOf("sync", { connections, users, ...list, complete, heartbeat }, id));
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
    retryAt: null,
    connections,
    users,
    members: new Map(complete ? (members ?? []).map((/** @type {Member} */ member) => [member.id, member]) : []),
    complete,
    heartbeat: heartbeat >= 1 && heartbeat <= longestHeartbeat ? Number(heartbeat) : state.heartbeat,
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
function afterUpdate(state, { id, name, info }) {
  const member = state.members.get(id);
  if (!member) return state;
  return { ...state, members: new Map(state.members).set(id, { ...member, name: name ?? member.name, info }) };
}

/**
 * @param {State} state
 * @param {any} data
 * @returns {State}
 */
function afterGoodbye(state, { reason }) {
  const over = finalReasons.has(reason) && !(reason === "expired" && state.renewable);
  return { ...(over ? closed(state) : connecting(state)), reason };
}

/**
 * Reports whether `name` is a valid room name: 1 to 128 characters of A-Z a-z 0-9 . _ -
 *
 * @param {any} name
 */
export function isRoomName(name) {
  return typeof name === "string" && /^[A-Za-z0-9._-]{1,128}$/.test(name);
}

/**
 * Returns the data of an event. Returns undefined if the data is not JSON, because then it is not
 * from a presence server.
 *
 * @param {StreamEvent} event
 */
export function dataOf({ text }) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @param {StreamEvent} event */
export const endsToken = (event) => event.name === "goodbye" && dataOf(event)?.reason === "expired";

/**
 * Returns the milliseconds without data after which a stream counts as lost. @param {State} state
 */
export const silence = ({ heartbeat }) => heartbeat * 2500;
