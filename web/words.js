/**
 * The texts of the page. The functions are pure: they take the state of the connection, a time, a
 * room name and other values as arguments.
 */

import { isRoomName } from "./presence/index.js";

/**
 * Returns the text for the state of the connection.
 *
 * @param {import("./presence.js").State} state
 * @returns {string}
 */
export function stateWords({ connection, reason, problem, expiring }) {
  if (connection === "open") return expiring === null ? "Live" : "Live, but your token is about to expire";
  if (connection === "connecting") return waiting.get(reason) ?? "Connecting…";
  if (reason === "refused") return refusals.get(problem?.status) ?? "Not let in";
  return endings.get(reason) ?? "Not connected";
}

const waiting = new Map([
  ["draining", "The server is restarting, one moment…"],
  ["full", "Full right now, trying again…"],
  ["slow", "This connection was too slow, trying again…"],
  ["lost", "Connection lost, trying again…"],
  ["silent", "The server has gone silent, trying again…"],
  ["offline", "You are offline"],
  ["connections", "Too many tabs for this browser, waiting for one to close…"],
]);

const endings = new Map([
  ["removed", "You were removed from this room"],
  ["expired", "Your token has expired"],
  ["signed out", "Signed out"],
]);

const refusals = new Map([
  [401, "Signed out"],
  [404, "Nothing here to connect to"],
]);

/** Reports whether the user must sign in again to join the room. */
export function signedOut({ connection, reason, problem }) {
  return connection === "closed" && (reason === "expired" || reason === "signed out" || problem?.status === 401);
}

/** Returns the text for the number of a user's tabs, which is 0 during the grace period. */
export function tabsWords(connections) {
  if (connections === 0) return "leaving…";
  return connections === 1 ? "1 tab" : `${connections} tabs`;
}

/** Returns the text for a number of users. A user with several tabs counts once. */
export function peopleWords(users) {
  return users === 1 ? "1 person" : `${users} people`;
}

/**
 * Returns the text for the time since `then`. Because clocks differ, `then` may be in the future:
 * it counts as now.
 *
 * @param {number} then  Milliseconds since 1970.
 * @param {number} now
 */
export function sinceWords(then, now) {
  const minutes = Math.floor((now - then) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h`;
  const days = Math.floor(minutes / (24 * 60));
  return days === 1 ? "1 day" : `${days} days`;
}

/** Returns the status in a member's info, or "" if there is none. */
export function statusOf(info) {
  const status = info?.status;
  return typeof status === "string" ? status.trim() : "";
}

// Maximum number of code points shown per message. Longer messages would slow down the layout.
const maxText = 4000;

/**
 * Returns the data of a message as text, and whether the text is JSON. If only a part is shown, the
 * note describes the rest. Otherwise, the note is "".
 *
 * @param {any} data
 * @returns {{text: string, json: boolean, note: string}}
 */
export function dataText(data) {
  if (typeof data === "string") return { json: false, ...cut(data) };
  let line;
  try {
    line = JSON.stringify(data);
  } catch {
    // It is a RangeError, because the data is nested more deeply than the stack allows.
    return { json: true, text: "", note: "This is nested too deeply to be shown" };
  }
  // Only short data is indented, because indentation makes deeply nested data as wide as it is
  // deep.
  const lines = line.length > 60 && line.length <= 400 ? JSON.stringify(data, null, 2) : line;
  return { json: true, ...cut(lines.length <= maxText ? lines : line) };
}

function cut(text) {
  // Each code point has at most two code units.
  const shown = Array.from(text.slice(0, 2 * maxText)).slice(0, maxText).join("");
  if (shown === text) return { text, note: "" };
  const bytes = new TextEncoder().encode(text).length;
  return { text: `${shown}…`, note: `Only the beginning is shown (${Math.round(bytes / 1000)} KB in total)` };
}

/**
 * Returns the name to show for a user. If the name has no visible character, it is the user's id.
 */
export function called({ id, name }) {
  return name && !/^[\p{Z}\p{C}\p{M}\p{Default_Ignorable_Code_Point}\u2800]*$/u.test(name) ? name : id;
}

/**
 * Returns the ids of users whose name looks like the name of another user. Differences in case,
 * spaces and invisible characters are ignored.
 */
export function namesakes(members) {
  const ids = new Map(); // visible name → ids of the users with that name
  for (const member of members) {
    const name = called(member).normalize("NFKC").replace(/[\p{Z}\p{C}\p{Default_Ignorable_Code_Point}]/gu, "").toLowerCase();
    if (!ids.has(name)) ids.set(name, []);
    ids.get(name).push(member.id);
  }
  return new Set([...ids.values()].filter((same) => same.length > 1).flat());
}

export const roomRule = "A room name has 1 to 128 characters: letters A to Z and a to z, digits, dot, underscore and hyphen.";

/**
 * Returns the rooms that were last visited, newest first, with `name` at the front. Invalid names
 * are removed.
 */
export function visited(rooms, name, most = 10) {
  const names = [name, ...(Array.isArray(rooms) ? rooms : [])];
  return [...new Set(names.filter(isRoomName))].slice(0, most);
}
