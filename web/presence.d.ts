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
export type Member = {
    id: string;
    /**
     * It may be empty.
     */
    name: string;
    /**
     * What the token or `setState` said of the user.
     */
    info: any;
    /**
     * Open streams; 0 while the room waits for a return. Told by `sync` only: see refresh().
     */
    connections: number;
    /**
     * RFC 3339; not known of a member who came after `sync`: see refresh().
     */
    since?: string;
};
export type Message = {
    /**
     * Its place in the room's messages, EPOCH-SEQ.
     */
    id: string;
    /**
     * None: the server itself.
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
     * Open from `sync` on. Closed is for good.
     */
    connection: "connecting" | "open" | "closed";
    /**
     * Why it is not open: that of the last `goodbye`; "lost", "silent" (no event for two
     * and a half heartbeats), "offline", "token" (the callback failed); "refused" when it is closed for an answer of the
     * server's. null while it is open, at first, and after close().
     */
    reason: string | null;
    /**
     * With "refused": what the server answered.
     */
    problem: Problem | null;
    /**
     * The last `user count`. The one number that is always kept up to date.
     */
    count: number | null;
    /**
     * As the last `sync`, `join` or `leave` told.
     */
    connections: number | null;
    /**
     * The same.
     */
    users: number | null;
    /**
     * By id. Empty before `sync`, and in a room too large to tell.
     */
    members: ReadonlyMap<string, Member>;
    /**
     * Whether the members are told: not in a room of more than the member limit.
     */
    complete: boolean;
    /**
     * Seconds between two pings.
     */
    heartbeat: number;
    /**
     * Seconds that the token had left when the server warned of its end.
     */
    expiring: number | null;
    /**
     * The place up to which all messages were heard; "" before the first event.
     */
    lastEventId: string;
    /**
     * With `share`: whether this tab holds the stream, or another.
     */
    shared: "leading" | "following" | null;
    /**
     * Whether a callback gives a new token, so that the end of one is not the end.
     */
    renewable: boolean;
    /**
     * Changes that came before `sync`.
     */
    waiting: ReadonlyArray<[name: string, data: any]>;
};
export type Heard = {
    /**
     * Anything has changed.
     */
    state: State;
    /**
     * A user count was told.
     */
    count: number;
    sync: {
        connections: number;
        users: number;
        members?: Member[];
        complete: boolean;
        heartbeat: number;
    };
    join: {
        id: string;
        name: string;
        info: any;
        connections: number;
        users: number;
    };
    leave: {
        id: string;
        name: string;
        info: any;
        connections: number;
        users: number;
        reason: string;
    };
    update: {
        id: string;
        info: any;
    };
    /**
     * Messages since the last one heard are gone.
     */
    reset: {
        reason: string;
    };
    /**
     * Seconds.
     */
    expiring: {
        in: number;
    };
    goodbye: {
        reason: string;
    };
    ping: {};
    message: Message;
};
export type Told = {
    name: string;
    /**
     * Its data, which is JSON. As text it goes from tab to tab however deep it is.
     */
    text: string;
    /**
     * The last id that the stream has told; "" if none.
     */
    id: string;
};
export type Kept = {
    told: Told;
    /**
     * The place before it.
     */
    prev: string;
};
export type Unfinished = {
    /**
     * The beginning of a line.
     */
    line: string;
    /**
     * Whether the last character was a CR, so that an LF would belong to it.
     */
    cr: boolean;
    name: string;
    /**
     * Its lines.
     */
    data: string[];
    /**
     * The last one; it outlives the event.
     */
    id: string;
    /**
     * Milliseconds.
     */
    retry: number | null;
};
export type Options = {
    /**
     * Where the server is mounted; by default where this file was served from, which in
     * a bundle is not the server.
     */
    url?: URL | string;
    /**
     * 1 to 128 of A-Z a-z 0-9 . _ - ; "lobby" by default.
     */
    room?: string;
    /**
     * The token, or what gives one: it is asked at first, when the
     * server refuses the one before, and when that is about to end. Without it the credential is the cookie.
     */
    token?: string | (() => string | Promise<string>);
    /**
     * Gives a new token when the one in use is about to
     * end, or has ended. What it resolves to is handed to `POST session`; nothing means that it has set the cookie
     * itself. A rejection is tried again. Not needed where `token` is a function.
     */
    renew?: () => string | void | null | Promise<string | void | null>;
    /**
     * One connection for all tabs of this browser that are the same user in the same room.
     * It needs Web Locks, which browsers have in secure contexts only; elsewhere each tab has its own, as without it.
     */
    share?: boolean;
    /**
     * Send the cookie to another origin, too.
     */
    withCredentials?: boolean;
    /**
     * A place from which to take up: messages since then are told first.
     */
    lastEventId?: string;
};
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
/** @type {State} */
export declare const initial: State;
/**
 * The state after an event of the stream. The same object if nothing changed, as after a ping.
 *
 * @param {State} state
 * @param {string} name
 * @param {any} data     The event's data, parsed.
 * @param {string} [id]  The last id that the stream has told.
 * @returns {State}
 */
export declare function apply(state: State, name: string, data: any, id?: string): State;
/**
 * Whether an event is to be heard by who is in that state: a message that comes a second time is not. The server's own
 * events always are, as they repeat the id of the last message.
 *
 * @param {State} state
 * @param {string} name
 * @param {string} id
 */
export declare function isNew(state: State, name: string, id: string): boolean;
/**
 * Whether who holds the place `held` has all messages up to the place `id`. Places of different epochs say nothing of
 * each other.
 *
 * @param {string} held
 * @param {string} id
 */
export declare function reaches(held: string, id: string): boolean;
/**
 * The state while a connection is sought. Who was here stays to be seen until the next `sync`.
 *
 * @param {State} state
 * @param {string|null} [reason]
 * @returns {State}
 */
export declare function connecting(state: State, reason?: string | null): State;
/**
 * The state when no connection is sought any more, with the server's answer if that is the reason.
 *
 * @param {State} state
 * @param {Problem|null} [problem]
 * @returns {State}
 */
export declare function closed(state: State, problem?: Problem | null): State;
/**
 * The state when the token's end has been put off.
 *
 * @param {State} state
 * @returns {State}
 */
export declare function renewed(state: State): State;
/**
 * The state with what GET presence told of members. It may be older or newer than the stream, which alone says who
 * came and went: nobody is added or taken away.
 *
 * @param {State} state
 * @param {Member[]} told
 * @returns {State}
 */
export declare function seen(state: State, told: Member[]): State;
/**
 * The events that bring a tab which holds `held` to the state: what it missed, or `reset`, and what a joiner is told.
 *
 * @param {State} state
 * @param {ReadonlyArray<Kept>} kept  The last messages of the room, without a gap, up to the state's place.
 * @param {string} held               The tab's place; "" if it has none.
 * @returns {Told[]}
 */
export declare function catchUp(state: State, kept: ReadonlyArray<Kept>, held: string): Told[];
/**
 * Whether a room can be called so: 1 to 128 of A-Z a-z 0-9 . _ -
 *
 * @param {any} name
 */
export declare function isRoomName(name: any): boolean;
/**
 * How long to wait before the next attempt, in milliseconds: a second, twice as long each time up to half a minute, and
 * of that between a half and all, so that those who were cut off together do not come back together.
 *
 * @param {number} tries     Attempts that have failed since the last success.
 * @param {number} [random]  From 0 to 1.
 */
export declare function backoff(tries: number, random?: number): number;
/**
 * Reads text of an event stream (WHATWG HTML, section 9.2.6): what it completes, and what remains to be completed.
 *
 * @param {Unfinished} partial  Of the text before, or what fresh() gives.
 * @param {string} text
 * @returns {{partial: Unfinished, events: Told[]}}
 */
export declare function decode(partial: Unfinished, text: string): {
    partial: Unfinished;
    events: Told[];
};
/**
 * The beginning of a stream that takes up from that place.
 *
 * @param {string} [id]
 * @returns {Unfinished}
 */
export declare function fresh(id?: string): Unfinished;
/** An answer that is a refusal, or none at all. `message` is fit to be shown. */
export declare class PresenceError extends Error {
    /** @type {Problem} */
    problem: Problem;
    /** The server's Retry-After, in milliseconds; 0 if it said none. */
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
export declare function request(method: string, url: URL | string, body?: any, options?: RequestInit): Promise<any>;
export type Sink = {
    state: () => State;
    event: (told: Told) => void;
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
     * As in a state.
     */
    reason: string;
    /**
     * If it was refused.
     */
    problem?: Problem;
    /**
     * Milliseconds that the server asked to wait.
     */
    after?: number;
    /**
     * An EventSource was refused, which does not tell why.
     */
    unsaid?: boolean;
};
export type Said = {
    kind: "hello";
    from: string;
    held: string;
} | {
    kind: "welcome";
    to: string;
    held: string;
    term: number;
    turn: Turn | null;
    events: Told[];
} | {
    kind: "lead";
    term: number;
} | {
    kind: "event";
    term: number;
    prev: string;
    told: Told;
} | {
    kind: "turn";
    term: number;
    turn: Turn;
};
/** An id for a message of one's own, that nobody else draws. */
export declare const randomId: () => string;
/**
 * Enters a room, and stays in it until close(): whatever becomes of the connection, it comes back, unless the server
 * says that it shall not.
 *
 * @param {Options} [options]
 * @returns {Room}
 * @throws {TypeError}  On a room's name or a URL that is none.
 */
export declare function join(options?: Options): Room;
export type Info = {
    info: any;
    /**
     * Whether the server has taken it.
     */
    told: boolean;
    /**
     * Whether it is the last word: not if another tab or device of the user's has spoken since.
     */
    stands: boolean;
};
/**
 * @typedef {object} Info     What was said of the user.
 * @property {any} info
 * @property {boolean} told   Whether the server has taken it.
 * @property {boolean} stands  Whether it is the last word: not if another tab or device of the user's has spoken since.
 */
/** A room, as seen from here. See join(). */
export declare class Room {
    #private;
    /** @param {Options} [options] */
    constructor(options?: Options);
    /** Where the server is mounted. */
    get url(): URL;
    /** The room's name. */
    get name(): string;
    /** All that is known, as one object that never changes: the next state is another. */
    get state(): State;
    get count(): number | null;
    get connections(): number | null;
    get users(): number | null;
    get members(): ReadonlyMap<string, Member>;
    get lastEventId(): string;
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
    on<N extends string>(name: N, fn: (data: N extends keyof Heard ? Heard[N] : Message) => void): () => void;
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
    send(data: any, { event, id }?: {
        event?: string;
        id?: string;
    }): Promise<{
        id: string;
    }>;
    /**
     * Says what is to be known of the user in this room, in place of what was: `{status: "away"}`. It waits until the room
     * is open, and is said again if the room has lost it, unless another tab or device of the user's has spoken since. Of
     * several that wait the last one is said.
     *
     * @param {any} info   JSON of at most 1 KiB.
     * @returns {Promise<void>}
     * @throws {PresenceError}  It was refused, or the room was closed before.
     */
    setState(info: any): Promise<void>;
    /**
     * Asks how many connections each member has, and since when it is here, and brings the state up to date: the stream
     * tells that a user came and went, but not of a second tab.
     *
     * @param {number} [limit]  Of how many members, by id; at most 1000.
     * @throws {PresenceError}
     */
    refresh(limit?: number): Promise<void>;
    /** Leaves the room, for good: join() enters it again. What is being sent is sent. */
    close(): void;
}
