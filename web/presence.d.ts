// presence.js, the browser client of presence. Made by `npm run build` from presence/. License: MIT.
/**
 * eventstream.js parses event streams as the standard requires (WHATWG HTML, sections 9.2.5 and
 * 9.2.6). It imports no other module and does not depend on the events of presence. Its guarantees:
 *
 * - Pure: the result of decode() depends only on its arguments, and it changes neither of them.
 * - Independent of chunks: the events do not depend on the places at which the text is cut. An
 *   event is returned as soon as its blank line is complete, also if a CR ends both the line and
 *   the chunk.
 * - Linear: the work is proportional to the length of the text, for all lines, line endings and
 *   chunks. The incomplete line is therefore never searched again. decode() only appends to it, and
 *   the engines of browsers append to a string without copying it.
 *
 * The length of a line or of an event has no limit, as in the standard and in an EventSource. The
 * page chooses the server and trusts it, and an error page of a proxy does not pass isStream(). The
 * client cannot know a limit, because the longest event depends on settings of the server, such as
 * the member limit. A line that never ends grows up to the longest string of the browser, in
 * Chromium 2^29 characters. decode() then throws a RangeError, and the caller reconnects.
 *
 * @typedef {object} StreamEvent  An event of a stream.
 * @property {string} name
 * @property {string} text  The data, as JSON text. Tabs exchange text, because a browser can parse
 *   JSON that is nested too deeply to be cloned.
 * @property {string} id  The last id on the stream. "" if there is none yet.
 *
 * @typedef {object} Unfinished  The state of the parser: the incomplete event at the end of the
 *   text that was parsed so far.
 * @property {string} line  The beginning of the last line.
 * @property {boolean} cr  Whether the text ended with a CR. If the next text starts with an LF,
 *   both are one line ending.
 * @property {string} name
 * @property {string|null} data  The data lines, joined with LF. null if there is none, because then
 *   the blank line completes no event.
 * @property {string} id  The last id. It also applies to the events that follow.
 * @property {number|null} retry  The last reconnection time, in milliseconds, at most one hour.
 */
type StreamEvent = {
    name: string;
    /**
     * The data, as JSON text. Tabs exchange text, because a browser can parse
     * JSON that is nested too deeply to be cloned.
     */
    text: string;
    /**
     * The last id on the stream. "" if there is none yet.
     */
    id: string;
};
type Unfinished = {
    /**
     * The beginning of the last line.
     */
    line: string;
    /**
     * Whether the text ended with a CR. If the next text starts with an LF,
     * both are one line ending.
     */
    cr: boolean;
    name: string;
    /**
     * The data lines, joined with LF. null if there is none, because then
     * the blank line completes no event.
     */
    data: string | null;
    /**
     * The last id. It also applies to the events that follow.
     */
    id: string;
    /**
     * The last reconnection time, in milliseconds, at most one hour.
     */
    retry: number | null;
};
/**
 * Reports whether a response is an event stream: the essence of its MIME type is
 * text/event-stream, with any parameters. If the header is repeated, the last type counts.
 *
 * @param {string|null} contentType  The value of the Content-Type header. null if there is none.
 */
declare function isStream(contentType: string | null): boolean;
/**
 * Parses text of an event stream. Returns the complete events and the new parser state. An
 * incomplete event at the end of the stream is dropped with the state, as the standard requires.
 *
 * @param {Unfinished} partial  The parser state after the preceding text, or fresh().
 * @param {string} text  Decoded as UTF-8, without the BOM at the start of the stream.
 * @returns {{partial: Unfinished, events: StreamEvent[]}}
 * @throws {RangeError}  If a line or an event exceeds the longest string of the browser.
 */
declare function decode(partial: Unfinished, text: string): {
    partial: Unfinished;
    events: StreamEvent[];
};
/**
 * Returns the initial parser state for a stream that resumes from position `id`.
 *
 * @param {string} [id]
 * @returns {Unfinished}
 */
declare function fresh(id?: string): Unfinished;
/**
 * HTTP requests to a server: the address of a room, the credential, and the errors.
 */
type Problem = {
    /**
     * URI of the problem type.
     */
    type?: string;
    /**
     * Short summary.
     */
    title: string;
    /**
     * HTTP status. 0 if there was no response.
     */
    status: number;
    /**
     * Explanation for people. The text may change between versions.
     */
    detail?: string;
    /**
     * If the user is banned from the room: when the ban ends (RFC 3339).
     */
    until?: string;
};
type Options = {
    /**
     * URL at which the server is mounted. Default: the directory of
     * presence.js. Required in a bundle, because the bundle is loaded from another directory.
     */
    url?: URL | string;
    /**
     * Room name: 1 to 128 characters of A-Z a-z 0-9 . _ - Default: "lobby".
     */
    room?: string;
    /**
     * The token, or a callback that returns
     * it. The callback runs before the first request, when the server rejects the token, and when the
     * token is about to expire or has expired. It fails if there is no result within 30 s. Default:
     * no token. The credential is then the cookie.
     */
    token?: string | (() => string | Promise<string>);
    /**
     * Callback that renews the
     * token or the cookie. It runs when the server rejects the credential, for example because there
     * is no cookie yet, and when the token is about to expire or has expired. A returned token is
     * sent to `POST session`, which sets the cookie. A callback that has set the cookie itself
     * returns nothing. The callback fails if there is no result within 30 s. A failed renewal is
     * retried. Not needed if `token` is a function.
     */
    renew?: () => string | void | null | Promise<string | void | null>;
    /**
     * Whether the tabs of this browser with the same user, room and server
     * share one connection. Default: false. Sharing requires Web Locks, which browsers provide in
     * secure contexts only (HTTPS or localhost). Elsewhere, each tab opens its own connection.
     */
    share?: boolean;
    /**
     * Whether to send the cookie to another origin. Default:
     * false.
     */
    withCredentials?: boolean;
    /**
     * Position to resume from. The messages after it are replayed
     * first. Default: "", no replay.
     */
    lastEventId?: string;
};
/**
 * @typedef {object} Problem  A problem document (RFC 9457).
 * @property {string} [type]  URI of the problem type.
 * @property {string} title  Short summary.
 * @property {number} status  HTTP status. 0 if there was no response.
 * @property {string} [detail]  Explanation for people. The text may change between versions.
 * @property {string} [until]  If the user is banned from the room: when the ban ends (RFC 3339).
 *
 * @typedef {object} Options  The options of join().
 * @property {URL|string} [url]  URL at which the server is mounted. Default: the directory of
 *   presence.js. Required in a bundle, because the bundle is loaded from another directory.
 * @property {string} [room]  Room name: 1 to 128 characters of A-Z a-z 0-9 . _ - Default: "lobby".
 * @property {string|(() => string|Promise<string>)} [token]  The token, or a callback that returns
 *   it. The callback runs before the first request, when the server rejects the token, and when the
 *   token is about to expire or has expired. It fails if there is no result within 30 s. Default:
 *   no token. The credential is then the cookie.
 * @property {() => string|void|null|Promise<string|void|null>} [renew]  Callback that renews the
 *   token or the cookie. It runs when the server rejects the credential, for example because there
 *   is no cookie yet, and when the token is about to expire or has expired. A returned token is
 *   sent to `POST session`, which sets the cookie. A callback that has set the cookie itself
 *   returns nothing. The callback fails if there is no result within 30 s. A failed renewal is
 *   retried. Not needed if `token` is a function.
 * @property {boolean} [share]  Whether the tabs of this browser with the same user, room and server
 *   share one connection. Default: false. Sharing requires Web Locks, which browsers provide in
 *   secure contexts only (HTTPS or localhost). Elsewhere, each tab opens its own connection.
 * @property {boolean} [withCredentials]  Whether to send the cookie to another origin. Default:
 *   false.
 * @property {string} [lastEventId]  Position to resume from. The messages after it are replayed
 *   first. Default: "", no replay.
 */
/**
 * The error of a request that the server rejected, or that had no response. `message` can be shown
 * to users: it is the problem's detail, or else its title, or else the HTTP status.
 */
declare class PresenceError extends Error {
    /** @type {Problem} */
    problem: Problem;
    /** The Retry-After of the response, in milliseconds. 0 if there is none. */
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
 * Sends an HTTP request and returns the JSON of the response.
 *
 * @param {string} method
 * @param {URL|string} url
 * @param {any} [body]  Sent as JSON. If undefined, the request has no body.
 * @param {RequestInit} [options]  Options of fetch().
 * @returns {Promise<any>}  The JSON of the response. null for status 204.
 * @throws {PresenceError}  If the status is not 2xx, or if there is no response. Also if a 2xx
 *   response is not JSON, because it is then not from a presence server.
 */
declare function request(method: string, url: URL | string, body?: any, options?: RequestInit): Promise<any>;
/**
 * Returns the error of a request without a response. Browsers do not report whether the server is
 * unreachable or does not allow the origin of the page.
 *
 * @param {URL|string} url
 * @param {unknown} cause  The error of fetch(). A TypeError if a rule of the browser may be the cause.
 */
declare function noResponse(url: URL | string, cause: unknown): PresenceError;
/**
 * Returns the error for a response that has a problem document or is otherwise unexpected. It has a
 * `detail` in each case. Over HTTP/2 a status has no text.
 *
 * @param {Response} response
 * @param {URL|string} url  The URL of the request.
 * @returns {Promise<PresenceError>}
 */
declare function errorOf(response: Response, url: URL | string): Promise<PresenceError>;
/**
 * Reports whether the same request may succeed later.
 *
 * @param {Problem} problem
 */
declare const isTransient: ({ status }: Problem) => boolean;
/** The problem of an error. @param {unknown} error */
declare const problemOf: (error: unknown) => Problem | undefined;
/**
 * Returns the problem of an error of a token callback.
 *
 * @param {unknown} error
 * @returns {Problem}
 */
declare const fromCallback: (error: unknown) => Problem;
/** Reports an error as an uncaught exception. @param {unknown} error */
declare function report(error: unknown): void;
/**
 * Timeout of a request, in milliseconds. Without it, a server that hangs would block a room
 * forever.
 */
declare const requestTimeout = 10000;
/** The longest renewal of a credential, in milliseconds: the callback and a request. */
declare const renewalTimeout: number;
/** The credential of a room: a token or the cookie. A callback renews it. */
declare class Credential {
    #private;
    /** @param {Options} options */
    constructor(options: Options);
    get isCookie(): boolean;
    /** Whether a callback can return a new token. */
    get renewable(): boolean;
    /**
     * Returns the fetch() options with the credential. Calls the token callback if there is no token
     * yet.
     *
     * @returns {Promise<{credentials: RequestCredentials, headers: Record<string, string>}>}
     */
    fetchOptions(): Promise<{
        credentials: RequestCredentials;
        headers: Record<string, string>;
    }>;
    /** Returns the token. Calls the token callback if there is no token yet. */
    token(): Promise<string>;
    /**
     * Renews the token with the callback. The new token is sent to the server if the credential is
     * the cookie, or if streams are open, so that they continue. Concurrent calls share one renewal.
     *
     * @param {URL} session  The URL for `POST session`.
     * @param {boolean} open  Whether there are open streams that must continue.
     */
    renew(session: URL, open: boolean): Promise<void>;
}
/** The detail of the problem if a token callback returned an empty token. */
declare const emptyToken = "token empty: no user is signed in";
/**
 * Returns a string that identifies the user of a token. It is the token's `sub`, or a hash of the
 * token if it has no readable `sub`.
 *
 * @param {string} token
 */
declare function userOf(token: string): Promise<string>;
/** The address of a room on a server, and the credential for its requests. */
declare class Address {
    url: URL;
    room: string;
    withCredentials: boolean;
    credential: Credential;
    /** @param {Options} options */
    constructor(options: Options);
    /**
     * Returns the URL of a path for this room.
     *
     * @param {string} path
     * @param {Record<string, string>} [query]
     */
    of(path: string, query?: Record<string, string>): URL;
    /**
     * @param {string} method
     * @param {string} path
     * @param {{query?: Record<string, string>, body?: any}} [options]
     */
    request(method: string, path: string, { query, body }?: {
        query?: Record<string, string>;
        body?: any;
    }): Promise<any>;
    /** @param {boolean} open  Whether there are open streams that must continue. */
    renew(open: boolean): Promise<void>;
}
/**
 * Returns the wait before the next attempt, in milliseconds. It is a random time between half of an
 * upper bound and the bound, so that clients that were disconnected together do not reconnect
 * together. The bound starts at 1 s and doubles with each failed attempt, up to 30 s.
 *
 * @param {number} tries  Failed attempts since the last success.
 * @param {number} [random]  A number from 0 to 1.
 */
declare function backoff(tries: number, random?: number): number;
/** Whether the browser reports that it has no network. */
declare const isOffline: () => boolean;
/** Returns State.retryAt for a wait of `ms` milliseconds. @param {number} ms */
declare const retryTime: (ms: number) => number | null;
/**
 * The state of a room, and the functions that compute the next state from an event. The functions
 * are pure: they use no clock, no socket and no page.
 */
type Member = {
    /**
     * User id.
     */
    id: string;
    /**
     * Display name, without control and most format characters. May be empty.
     */
    name: string;
    /**
     * Application data about the user: any JSON, from the token or from the
     * user's last `setState`.
     */
    info: any;
    /**
     * The user's open streams. 0 during the grace period, which starts
     * when the last of them closes. Only `sync` and refresh() update this number: a member that joins
     * after `sync` starts at 1.
     */
    connections: number;
    /**
     * Time at which the user joined (RFC 3339). If the user joined after
     * `sync`, it is absent until refresh().
     */
    since?: string;
};
type Message = {
    /**
     * Position in the room's messages: EPOCH-SEQ.
     */
    id: string;
    /**
     * The sender. Absent if the server or an admin sent
     * the message.
     */
    from?: {
        id: string;
        name: string;
    };
    /**
     * The content: any JSON.
     */
    data: any;
    /**
     * Time at which the server accepted the message (RFC 3339).
     */
    at: string;
};
type HistoryMessage = Message & {
    event: string;
};
type MessagePage = {
    /**
     * The messages, the newest last.
     */
    messages: HistoryMessage[];
    /**
     * The `before` of the page with older messages. null if there are
     * none.
     */
    next: string | null;
    /**
     * The end of the room's messages. A room that is joined with this
     * `lastEventId` receives each message after the newest page.
     */
    lastEventId: string;
};
type State = {
    /**
     * "open" once `sync` has arrived. "closed" is
     * final: the room does not reconnect.
     */
    connection: "connecting" | "open" | "closed";
    /**
     * Why the connection is not open: the reason of the last `goodbye`,
     * or one of the values below. null while the connection is open, before the first attempt has
     * failed, and after close().
     * - "lost": the connection was lost.
     * - "silent": no data arrived for two and a half heartbeats.
     * - "offline": the browser has no network.
     * - "connections": the browser has no connection for another stream to this host. The room opens
     * when another stream of the browser ends.
     * - "paused": pause() was called.
     * - "token": the token callback failed.
     * - "refused": the server rejected the request. The room is closed.
     */
    reason: string | null;
    /**
     * The problem document of the server, if its last response was an
     * error. If there was no response, or a token callback failed, `status` is 0. null while the
     * connection is open, and if the cause is unknown.
     */
    problem: Problem | null;
    /**
     * Time of the next attempt, in milliseconds since 1970. null unless
     * the room waits for it: while an attempt runs, and while the room is open or closed. Also null
     * while the browser itself reconnects, or is offline, because the time is unknown then.
     */
    retryAt: number | null;
    /**
     * The user count: the number to show, because it is always current.
     * It counts connections, or users if the server runs with `--count users`. null before the first
     * `user count`.
     */
    count: number | null;
    /**
     * Open streams in the room, as of the last `sync`, `join` or
     * `leave`. In a room over the member limit, as of the last `sync`. null before the first `sync`.
     */
    connections: number | null;
    /**
     * Users in the room, as of the last `sync`, `join` or `leave`. In a
     * room over the member limit, as of the last `sync`. null before the first `sync`.
     */
    users: number | null;
    /**
     * Members by id. Empty before the first `sync`,
     * and in a room over the member limit.
     */
    members: ReadonlyMap<string, Member>;
    /**
     * Whether `members` lists every member. False before the first
     * `sync`, and in a room over the member limit.
     */
    complete: boolean;
    /**
     * Seconds between two pings.
     */
    heartbeat: number;
    /**
     * Remaining seconds of the token when the server sent `expiring`.
     * null if there is no warning, or the token was renewed.
     */
    expiring: number | null;
    /**
     * Position up to which all messages were received. Before the first
     * event, it is the `lastEventId` option.
     */
    lastEventId: string;
    /**
     * With the `share` option: "leading" if this tab
     * holds the stream, "following" if another tab does. null if the connection is not shared, and
     * after pause().
     */
    shared: "leading" | "following" | null;
    /**
     * Whether a callback can return a new token. If so, an expired token
     * does not close the room.
     */
    renewable: boolean;
    /**
     * Changes that arrived before `sync`.
     * They are applied after it.
     */
    waiting: ReadonlyArray<[name: string, data: any]>;
};
type RoomEvents = EventData & {
    "user count": number;
};
type EventData = {
    /**
     * The new state, after any change.
     */
    state: Readonly<State>;
    /**
     * The new user count, after each `user count` event.
     */
    count: number;
    /**
     *   The snapshot of the room. The server sends it on each connection, and when the number of
     *   members crosses the member limit.
     */
    sync: {
        connections: number;
        users: number;
        members?: Member[];
        complete: boolean;
        heartbeat: number;
    };
    /**
     *   A user joined. `connections` and `users` are totals of the room.
     */
    join: {
        id: string;
        name: string;
        info: any;
        connections: number;
        users: number;
    };
    /**
     *   A user left. `reason` is "closed", "timeout", "removed", "expired", "slow" or
     *   "node".
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
     *   The info of a member changed. `name` is set if the name has changed too.
     */
    update: {
        id: string;
        name?: string;
        info: any;
    };
    /**
     * The messages after the last received one are lost.
     */
    reset: {
        reason: string;
    };
    /**
     * The token expires in `in` seconds.
     */
    expiring: {
        in: number;
    };
    /**
     * The server closes the stream. `reason` is "expired",
     * "removed", "draining", "full", "slow" or "signed out". The room is closed after "removed" and
     * "signed out", and after "expired" if the token is not renewable. Otherwise it reconnects.
     */
    goodbye: {
        reason: string;
    };
    /**
     * The heartbeat.
     */
    ping: {};
    /**
     * A message without a custom name.
     */
    message: Message;
};
type LoggedMessage = {
    event: StreamEvent;
    /**
     * The position before the message.
     */
    prev: string;
};
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
declare const initial: State;
/** The names of the server's own events. Events with any other name are messages. */
declare const serverEvents: Set<string>;
declare const localNames: Set<string>;
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
declare function apply(state: State, name: string, data: any, id?: string): State;
/**
 * Reports whether the event must be delivered to listeners. A message that was already received is
 * not delivered again. The server's own events repeat the id of the last message, so they are
 * always new.
 *
 * @param {State} state
 * @param {string} name
 * @param {string} id
 */
declare function isNew(state: State, name: string, id: string): boolean;
/**
 * Reports whether a client at position `held` has received all messages up to position `id`. The
 * result is false if the epochs differ, because positions of different epochs cannot be compared.
 *
 * @param {string} held
 * @param {string} id
 */
declare function reaches(held: string, id: string): boolean;
/**
 * Returns the state while the link connects. The members remain until the next `sync`.
 *
 * @param {State} state
 * @param {string|null} [reason]  Default: the previous reason.
 * @param {Problem|null} [problem]  The cause, if it is known.
 * @param {number|null} [retryAt]  As in State.
 * @returns {State}
 */
declare function connecting(state: State, reason?: string | null, problem?: Problem | null, retryAt?: number | null): State;
/**
 * Returns the final state, which has no connection.
 *
 * @param {State} state
 * @param {Problem|null} [problem]  The server's response, if the server rejected the request.
 * @returns {State}
 */
declare function closed(state: State, problem?: Problem | null): State;
/**
 * Returns the state after the token was renewed, which has no expiry warning.
 *
 * @param {State} state
 * @returns {State}
 */
declare function renewed(state: State): State;
/**
 * Returns the state with new `connections` and `since` values from `GET presence`. No member is
 * added or removed, because the response may be older or newer than the stream, and only the stream
 * reports joins and leaves.
 *
 * @param {State} state
 * @param {Member[]} fetched
 * @returns {State}
 */
declare function seen(state: State, fetched: Member[]): State;
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
declare function catchUp(state: State, log: ReadonlyArray<LoggedMessage>, held: string): StreamEvent[];
/**
 * Reports whether `name` is a valid room name: 1 to 128 characters of A-Z a-z 0-9 . _ -
 *
 * @param {any} name
 */
declare function isRoomName(name: any): boolean;
/**
 * Returns the data of an event. Returns undefined if the data is not JSON, because then it is not
 * from a presence server.
 *
 * @param {StreamEvent} event
 */
declare function dataOf({ text }: StreamEvent): any;
/** @param {StreamEvent} event */
declare const endsToken: (event: StreamEvent) => boolean;
/**
 * Returns the milliseconds without data after which a stream counts as lost. @param {State} state
 */
declare const silence: ({ heartbeat }: State) => number;
/**
 * The streams that a browser may open to a host at the same time. A browser opens at most six
 * HTTP/1.1 connections to a host, for all its tabs together, and each stream occupies one. A
 * seventh request waits in the browser without an error. Over HTTP/2 and HTTP/3, the same happens
 * at the server's limit, which is 100 streams or more (RFC 9113, section 6.5.2).
 *
 * Therefore each stream takes one of a limited number of slots, so that a connection remains free
 * for requests. A slot is a Web Lock, so all tabs of an origin share the slots, and the browser
 * frees the slot of a tab that crashes. Without Web Locks, which browsers have in secure contexts
 * only, the rooms of a page share the slots, but different tabs do not.
 */
/**
 * Takes a slot. If none is free, it calls `waiting` and waits for one. While the protocol is
 * unknown, it fetches the protocol every 30 s, and calls `waiting` each time. If the browser
 * rejects a lock or has no resource timings, the number of streams has no limit.
 *
 * @param {URL} url  The URL of the server.
 * @param {AbortSignal} signal  Ends the wait.
 * @param {() => void} waiting
 * @returns {Promise<(() => void) | null>}  The function that frees the slot. null if the signal was
 *   aborted.
 */
declare function takeSlot(url: URL, signal: AbortSignal, waiting: () => void): Promise<(() => void) | null>;
type Locks = {
    request: (name: string, options: LockOptions, run: (lock: any) => any) => Promise<any>;
    query: () => Promise<{
        held?: {
            name?: string;
        }[];
    }>;
};
/**
 * The locks that this module uses: a part of the LockManager of browsers.
 *
 * @typedef {object} Locks
 * @property {(name: string, options: LockOptions, run: (lock: any) => any) => Promise<any>} request
 * @property {() => Promise<{held?: {name?: string}[]}>} query
 */
/** Returns the browser's locks. null in an insecure context or in a sandbox. */
declare function sharedLocks(): Promise<LockManager | null>;
type TabMessage = {
    kind: "hello";
    from: string;
    held: string;
} | {
    kind: "welcome";
    to: string;
    held: string;
    term: number;
    change: ConnectionChange | null;
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
    kind: "change";
    term: number;
    change: ConnectionChange;
};
declare class Tabs {
    #private;
    /**
     * @param {string} key  Tabs with the same key share one link.
     * @param {Sink} sink
     * @param {(sink: Sink) => {stop(): void, alive: boolean}} open  Opens the link.
     * @param {(role: "leading"|"following") => void} shared  Receives the role of this tab.
     */
    constructor(key: string, sink: Sink, open: (sink: Sink) => {
        stop(): void;
        alive: boolean;
    }, shared: (role: "leading" | "following") => void);
    stop(): void;
}
/** Returns a random message id. With 128 random bits, no two clients generate the same id. */
declare const randomId: () => string;
/**
 * Reports whether tabs can share a connection. They cannot in an insecure context or in a sandbox.
 * They also cannot if the browser or a script of the page rejects each channel or each lock.
 */
declare function canShare(): Promise<boolean>;
type Sink = {
    /**
     * Returns the current state.
     */
    state: () => State;
    event: (event: StreamEvent) => void;
    change: (change: ConnectionChange) => void;
};
type ConnectionChange = {
    to: "connecting";
    reason: string | null;
    problem?: Problem;
    retryAt?: number | null;
} | {
    to: "closed";
    problem: Problem;
} | {
    to: "renewed";
};
type End = {
    /**
     * As in State.
     */
    reason: string;
    /**
     * The cause, if it is known.
     */
    problem?: Problem;
    /**
     * Milliseconds that the server asked the client to wait.
     */
    after?: number;
    /**
     * Whether the token of this tab has expired. With `share`, the reason
     * is also "expired" after the token of another tab has expired.
     */
    expired?: boolean;
    /**
     * Whether an EventSource failed, which does not report the
     * cause.
     */
    causeUnknown?: boolean;
};
declare class Link {
    #private;
    /**
     * @param {Address} address
     * @param {Sink} sink
     * @param {(() => Iterable<string>) | null} names  Returns the names of the events to receive.
     *   null means all events. That requires fetch(), because an EventSource delivers only the events
     *   for which it has a listener.
     */
    constructor(address: Address, sink: Sink, names: (() => Iterable<string>) | null);
    stop(): void;
    /**
     * Whether the timers of the tab run. The browser stops the timers of a frozen tab and its network
     * reads, but it still calls the handlers of messages from other tabs.
     */
    get alive(): boolean;
    /** Receives the events with this name too. @param {string} name */
    listen(name: string): void;
}
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
declare function join(options?: Options): Room;
type Info = {
    info: any;
    /**
     * Whether the server has accepted it.
     */
    accepted: boolean;
    /**
     * Whether it is the user's latest info. False if another tab or device
     * of the user has set other info since.
     */
    stands: boolean;
};
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
declare class Room {
    #private;
    /** @param {Options} [options] */
    constructor(options?: Options);
    /** URL at which the server is mounted. It ends with a slash. */
    get url(): URL;
    /** The room name. */
    get name(): string;
    /**
     * The current state. The object is frozen: each change creates a new one.
     *
     * @returns {Readonly<State>}
     */
    get state(): Readonly<State>;
    /** The user count: see State.count. */
    get count(): number | null;
    /** Open streams in the room: see State.connections. */
    get connections(): number | null;
    /** Users in the room: see State.users. */
    get users(): number | null;
    /** Members by id: see State.members. */
    get members(): ReadonlyMap<string, Member>;
    /** Position up to which all messages were received: see State.lastEventId. */
    get lastEventId(): string;
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
    on<N extends string>(name: N, fn: (data: N extends keyof RoomEvents ? RoomEvents[N] : Message) => void): () => void;
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
    send(data: any, { event, id }?: {
        event?: string;
        id?: string;
    }): Promise<{
        id: string;
    }>;
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
    setState(info: any): Promise<void>;
    /**
     * Fetches the current `connections` and `since` of the members, and updates the state. The stream
     * does not send these: it reports that a user joined or left, but not that a user opened another
     * tab.
     *
     * @param {number} [limit]  Maximum number of members, in the order of their ids. Default and
     *   upper limit: 1000.
     * @throws {PresenceError}  If the server rejects the request or does not respond.
     */
    refresh(limit?: number): Promise<void>;
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
    history({ limit, before }?: {
        limit?: number;
        before?: string | null;
    }): Promise<MessagePage>;
    /**
     * Leaves the room until resume() is called. The state and the position remain, and resume()
     * receives the messages that were missed. A SharedWorker needs this while all its pages are in
     * the back/forward cache, because a worker has no `pagehide` event.
     */
    pause(): void;
    /** Enters the room again after pause(). */
    resume(): void;
    /**
     * Leaves the room permanently. Messages that were passed to send() before are still sent. To join
     * the room again, call join().
     */
    close(): void;
}
export { decode, fresh, PresenceError, backoff, request, apply, catchUp, closed, connecting, initial, isNew, isRoomName, reaches, renewed, seen, randomId, Room, join, type StreamEvent, type Unfinished, type Options, type Problem, type Member, type Message, type HistoryMessage, type MessagePage, type LoggedMessage, type State, type RoomEvents, type EventData };
