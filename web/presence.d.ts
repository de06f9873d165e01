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
export type Member = {
    id: string;
    /**
     * Display name. May be empty.
     */
    name: string;
    /**
     * Any JSON, from the token or from the user's last `setState`.
     */
    info: any;
    /**
     * Open streams. 0 during the grace period after the last one
     * closed. Only `sync` and refresh() update it; a member that joins later starts at 1.
     */
    connections: number;
    /**
     * When the user joined, RFC 3339. Unknown for a member that joined
     * after `sync`, until refresh().
     */
    since?: string;
};
export type Message = {
    /**
     * Position in the room's messages, EPOCH-SEQ.
     */
    id: string;
    /**
     * The sender. Absent if the server sent the message.
     */
    from?: {
        id: string;
        name: string;
    };
    /**
     * Any JSON.
     */
    data: any;
    /**
     * RFC 3339.
     */
    at: string;
};
export type Problem = {
    type?: string;
    title: string;
    status: number;
    detail?: string;
};
export type State = {
    /**
     * Open once `sync` has arrived. Closed is
     * final.
     */
    connection: "connecting" | "open" | "closed";
    /**
     * Why the connection is not open: the reason of the last
     * `goodbye`, or one of these. "lost". "silent": no event for two and a half heartbeats.
     * "offline". "token": the callback failed. "refused": closed, because the server rejected the
     * request. null while open, before the first connection, and after close().
     */
    reason: string | null;
    /**
     * The server's response. Set only if `reason` is "refused".
     */
    problem: Problem | null;
    /**
     * The last `user count`. The only number that is always
     * current.
     */
    count: number | null;
    /**
     * Open streams in the room, from the last `sync`, `join` or
     * `leave`. Over the member limit, from `sync` alone.
     */
    connections: number | null;
    /**
     * Users in the room, from the last `sync`, `join` or
     * `leave`. Over the member limit, from `sync` alone.
     */
    users: number | null;
    /**
     * Members by id. Empty before `sync` and in a room
     * over the member limit.
     */
    members: ReadonlyMap<string, Member>;
    /**
     * Whether `members` lists every member. False in a room over
     * the member limit.
     */
    complete: boolean;
    /**
     * Seconds between two pings.
     */
    heartbeat: number;
    /**
     * Seconds that the token had left when the server sent
     * `expiring`. null without a warning.
     */
    expiring: number | null;
    /**
     * Position up to which all messages were received. "" before
     * the first event.
     */
    lastEventId: string;
    /**
     * With `share`: whether this tab holds the stream
     * ("leading") or another tab does ("following"). null if the connection is not shared.
     */
    shared: "leading" | "following" | null;
    /**
     * Whether a callback can supply a new token. If so, an expired
     * token does not close the room.
     */
    renewable: boolean;
    /**
     * Changes that arrived before
     * `sync`.
     */
    waiting: ReadonlyArray<[name: string, data: any]>;
};
export type RoomEvents = {
    /**
     * Any change of the state.
     */
    state: State;
    /**
     * A `user count` arrived.
     */
    count: number;
    /**
     *   The snapshot of the room, on each connection.
     */
    sync: {
        connections: number;
        users: number;
        members?: Member[];
        complete: boolean;
        heartbeat: number;
    };
    /**
     *   A user joined.
     */
    join: {
        id: string;
        name: string;
        info: any;
        connections: number;
        users: number;
    };
    /**
     *   A user left. `reason`: "closed", "timeout", "removed", "expired" or "slow".
     */
    leave: {
        id: string;
        name: string;
        info: any;
        connections: number;
        users: number;
        reason: string;
    };
    /**
     * The info of a member changed.
     */
    update: {
        id: string;
        info: any;
    };
    /**
     * Messages after the last received one are lost.
     */
    reset: {
        reason: string;
    };
    /**
     * The token expires in that many seconds.
     */
    expiring: {
        in: number;
    };
    /**
     * The server closes the stream. `reason`: "expired",
     * "removed", "draining", "full", "slow" or "signed out". "removed" and "signed out" close the
     * room, and so does "expired" unless the token is renewable. For any other reason it reconnects.
     */
    goodbye: {
        reason: string;
    };
    /**
     * The heartbeat.
     */
    ping: {};
    message: Message;
};
export type StreamEvent = {
    name: string;
    /**
     * Its data, JSON. As text it passes between tabs at any nesting depth.
     */
    text: string;
    /**
     * The last id on the stream. "" if there was none.
     */
    id: string;
};
export type LoggedMessage = {
    event: StreamEvent;
    /**
     * The position before it.
     */
    prev: string;
};
export type Unfinished = {
    /**
     * The beginning of a line.
     */
    line: string;
    /**
     * Whether the last character was a CR. A following LF then belongs to
     * it.
     */
    cr: boolean;
    name: string;
    /**
     * Its lines.
     */
    data: string[];
    /**
     * The last id. It stays in force after the event.
     */
    id: string;
    /**
     * Milliseconds.
     */
    retry: number | null;
};
export type Options = {
    /**
     * URL at which the server is mounted. Default: the directory that
     * this file was served from. Set it in a bundle, where that directory is not the server.
     */
    url?: URL | string;
    /**
     * Room name: 1 to 128 of A-Z a-z 0-9 . _ - Default: "lobby".
     */
    room?: string;
    /**
     * The token, or a callback that returns
     * one. The callback runs for the first request, when the server rejects the token, and when the
     * token is about to expire. It fails after 30 s. Default: the cookie is the credential.
     */
    token?: string | (() => string | Promise<string>);
    /**
     * Callback that renews the
     * token when it is about to expire or has expired. A token that it returns is sent to
     * `POST session`. Return nothing if the callback set the cookie itself. It fails after 30 s. A
     * failed renewal is retried. Not needed if `token` is a function.
     */
    renew?: () => string | void | null | Promise<string | void | null>;
    /**
     * Share one connection between all tabs of this browser with the
     * same user and room. Default: false. It needs Web Locks, which browsers have in secure contexts
     * only. Elsewhere each tab opens its own connection.
     */
    share?: boolean;
    /**
     * Send the cookie to another origin too. Default: false.
     */
    withCredentials?: boolean;
    /**
     * Position to resume from. Messages after it are replayed first.
     * Default: "", no replay.
     */
    lastEventId?: string;
};
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
/**
 * The state before the first event.
 *
 * @type {State}
 */
export declare const initial: State;
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
export declare function apply(state: State, name: string, data: any, id?: string): State;
/**
 * Reports whether listeners must receive the event. A message that was received before is not new.
 * The server's own events repeat the id of the last message, so they are always new.
 *
 * @param {State} state
 * @param {string} name
 * @param {string} id
 */
export declare function isNew(state: State, name: string, id: string): boolean;
/**
 * Reports whether a client at position `held` has all messages up to position `id`. Positions of
 * different epochs cannot be compared: the result is false.
 *
 * @param {string} held
 * @param {string} id
 */
export declare function reaches(held: string, id: string): boolean;
/**
 * Returns the state while the link connects. It keeps the members until the next `sync`.
 *
 * @param {State} state
 * @param {string|null} [reason]
 * @returns {State}
 */
export declare function connecting(state: State, reason?: string | null): State;
/**
 * Returns the final state, without a connection. `problem` is the server's response, if that is the
 * reason.
 *
 * @param {State} state
 * @param {Problem|null} [problem]
 * @returns {State}
 */
export declare function closed(state: State, problem?: Problem | null): State;
/**
 * Returns the state after the token was renewed.
 *
 * @param {State} state
 * @returns {State}
 */
export declare function renewed(state: State): State;
/**
 * Returns the state with the `connections` and `since` of members fetched by GET presence. The
 * response may be older or newer than the stream. Only the stream reports joins and leaves, so no
 * member is added or removed.
 *
 * @param {State} state
 * @param {Member[]} fetched
 * @returns {State}
 */
export declare function seen(state: State, fetched: Member[]): State;
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
export declare function catchUp(state: State, kept: ReadonlyArray<LoggedMessage>, held: string): StreamEvent[];
/**
 * Reports whether `name` is a valid room name: 1 to 128 of A-Z a-z 0-9 . _ -
 *
 * @param {any} name
 */
export declare function isRoomName(name: any): boolean;
/**
 * Returns the wait before the next attempt, in milliseconds. The upper bound starts at 1 s and
 * doubles with each failed attempt, to at most 30 s. The wait is a random value between half of the
 * bound and the bound, so that clients that were disconnected together do not reconnect together.
 *
 * @param {number} tries     Attempts that failed since the last success.
 * @param {number} [random]  From 0 to 1.
 */
export declare function backoff(tries: number, random?: number): number;
/**
 * Parses text of an event stream (WHATWG HTML, section 9.2.6). Returns the events that are
 * complete, and the remaining parser state.
 *
 * @param {Unfinished} partial  The parser state after the text before, or fresh().
 * @param {string} text
 * @returns {{partial: Unfinished, events: StreamEvent[]}}
 */
export declare function decode(partial: Unfinished, text: string): {
    partial: Unfinished;
    events: StreamEvent[];
};
/**
 * Returns the parser state at the start of a stream that resumes from position `id`.
 *
 * @param {string} [id]
 * @returns {Unfinished}
 */
export declare function fresh(id?: string): Unfinished;
/**
 * Thrown if the server rejects a request or does not respond. `message` is fit for display: the
 * problem's detail, else its title, else the HTTP status.
 */
export declare class PresenceError extends Error {
    /** @type {Problem} */
    problem: Problem;
    /** The server's Retry-After, in milliseconds. 0 if there was none. */
    after: number;
    /**
     * @param {Problem} problem
     * @param {ErrorOptions & {after?: number}} [options]
     */
    constructor(problem: Problem, options?: ErrorOptions & {
        after?: number;
    });
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
export declare function request(method: string, url: URL | string, body?: any, options?: RequestInit): Promise<any>;
export type Sink = {
    state: () => State;
    event: (event: StreamEvent) => void;
    turn: (turn: Turn) => void;
};
export type Turn = {
    to: "connecting";
    reason: string | null;
} | {
    to: "closed";
    problem: Problem;
} | {
    to: "renewed";
};
export type End = {
    /**
     * As in State.
     */
    reason: string;
    /**
     * Set if the server rejected the request.
     */
    problem?: Problem;
    /**
     * Milliseconds that the server asked to wait.
     */
    after?: number;
    /**
     * Whether an EventSource was refused. It does not report the cause.
     */
    unsaid?: boolean;
};
export type TabMessage = {
    kind: "hello";
    from: string;
    held: string;
} | {
    kind: "welcome";
    to: string;
    held: string;
    term: number;
    turn: Turn | null;
    events: StreamEvent[];
} | {
    kind: "lead";
    term: number;
} | {
    kind: "event";
    term: number;
    prev: string;
    event: StreamEvent;
} | {
    kind: "turn";
    term: number;
    turn: Turn;
};
/** Returns a random message id. It has 128 random bits, so no other client draws the same. */
export declare const randomId: () => string;
/**
 * Joins a room and stays in it until close(). It reconnects after each lost connection, unless the
 * server rejects it or ends the session: see State.reason.
 *
 * @param {Options} [options]
 * @returns {Room}
 * @throws {TypeError}  On an invalid room name or URL.
 */
export declare function join(options?: Options): Room;
export type Info = {
    info: any;
    /**
     * Whether the server has accepted it.
     */
    accepted: boolean;
    /**
     * Whether it is the latest. False if another tab or device of the user
     * has set other info since.
     */
    stands: boolean;
};
/**
 * @typedef {object} Info     The user's info, from setState().
 * @property {any} info
 * @property {boolean} accepted   Whether the server has accepted it.
 * @property {boolean} stands  Whether it is the latest. False if another tab or device of the user
 *   has set other info since.
 */
/** A room, as join() returns it. */
export declare class Room {
    #private;
    /** @param {Options} [options] */
    constructor(options?: Options);
    /** URL at which the server is mounted, with a slash at the end. */
    get url(): URL;
    /** The room name. */
    get name(): string;
    /** The current state. A frozen object; each change makes a new one. */
    get state(): State;
    /** The last `user count`. null before the first one. */
    get count(): number | null;
    /** Open streams in the room: see State.connections. */
    get connections(): number | null;
    /** Users in the room: see State.users. */
    get users(): number | null;
    /** Members by id: see State.members. */
    get members(): ReadonlyMap<string, Member>;
    /** Position up to which all messages were received. "" before the first event. */
    get lastEventId(): string;
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
    on<N extends string>(name: N, fn: (data: N extends keyof RoomEvents ? RoomEvents[N] : Message) => void): () => void;
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
    send(data: any, { event, id }?: {
        event?: string;
        id?: string;
    }): Promise<{
        id: string;
    }>;
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
    setState(info: any): Promise<void>;
    /**
     * Fetches `connections` and `since` of the members, and updates the state. The stream reports
     * that a user joined or left, but not a second tab.
     *
     * @param {number} [limit]  Maximum number of members, in the order of their ids. Default and
     *   upper limit: 1000.
     * @throws {PresenceError}  The server rejected the request or did not respond.
     */
    refresh(limit?: number): Promise<void>;
    /**
     * Leaves the room permanently. Messages passed to send() before are still sent. To return, call
     * join().
     */
    close(): void;
}
