/**
 * The browser client of presence. It keeps the members of a room and the user count up to date, and
 * it sends and receives the messages of the room.
 *
 *     import { join } from "./presence/index.js";
 *
 *     const room = join({ url: "https://example.com/presence/", room: "lobby" });
 *     room.on("count", (n) => console.log(n, [...room.members.keys()]));
 *     room.on("message", ({ from, data }) => console.log(from?.name, data));
 *     await room.send("hello");
 *
 * The credential is a token, or the cookie that `POST session` set. The client does not use the DOM
 * of the page, so it also works in a worker. Its modules, each of which imports only those before
 * it:
 *
 * - eventstream.js parses an event stream.
 * - connections.js limits the streams that a browser opens to a host.
 * - request.js has the HTTP requests, the errors and the credential.
 * - state.js has the state of a room, and the pure functions that compute the next state.
 * - link.js is the connection of one room, which reconnects automatically.
 * - tabs.js shares one connection between the tabs of a browser.
 * - room.js is the object that join() returns.
 *
 * `npm run build` makes ../presence.js of them, one file without imports, and its types.
 */
export { decode, fresh } from "./eventstream.js";
export { PresenceError, backoff, request } from "./request.js";
export {
  apply, catchUp, closed, connecting, initial, isNew, isRoomName, reaches, renewed, seen,
} from "./state.js";
export { randomId } from "./tabs.js";
export { Room, join } from "./room.js";

/**
 * @typedef {import("./eventstream.js").StreamEvent} StreamEvent
 * @typedef {import("./eventstream.js").Unfinished} Unfinished
 * @typedef {import("./request.js").Options} Options
 * @typedef {import("./request.js").Problem} Problem
 * @typedef {import("./state.js").Member} Member
 * @typedef {import("./state.js").Message} Message
 * @typedef {import("./state.js").HistoryMessage} HistoryMessage
 * @typedef {import("./state.js").MessagePage} MessagePage
 * @typedef {import("./state.js").LoggedMessage} LoggedMessage
 * @typedef {import("./state.js").State} State
 * @typedef {import("./state.js").RoomEvents} RoomEvents
 * @typedef {import("./state.js").EventData} EventData
 */
