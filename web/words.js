/**
 * The texts of the page, as pure functions of the connection's state, a time, a room name and more.
 */

import { isRoomName } from "./presence.js";

/**
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

/** The number of a user's tabs. It is 0 during the grace period. */
export function tabsWords(connections) {
  if (connections === 0) return "leaving…";
  return connections === 1 ? "1 tab" : `${connections} tabs`;
}

/** The number of users, regardless of their tabs. */
export function peopleWords(users) {
  return users === 1 ? "1 person" : `${users} people`;
}

/**
 * The time since `then`, roughly. Clocks differ: a time in the future counts as now.
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

/** The status that a member publishes in info.status. "" if there is none. */
export function statusOf(info) {
  const status = info?.status;
  return typeof status === "string" ? status.trim() : "";
}

const mostText = 4000; // code points shown of a message, so that a page of long messages is laid out at once

/**
 * Returns a message's data as text, and whether the text is JSON. The note states the part that is
 * not shown. It is "" if all is shown.
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
    // A RangeError: the data is nested deeper than the stack.
    return { json: true, text: "", note: "This is nested too deeply to be shown" };
  }
  // Indentation makes deep data as wide as it is deep, so only short data is formatted in lines.
  const lines = line.length > 60 && line.length <= 400 ? JSON.stringify(data, null, 2) : line;
  return { json: true, ...cut(lines.length <= mostText ? lines : line) };
}

function cut(text) {
  const shown = Array.from(text.slice(0, 2 * mostText)).slice(0, mostText).join(""); // a code point has at most two units
  if (shown === text) return { text, note: "" };
  const bytes = new TextEncoder().encode(text).length;
  return { text: `${shown}…`, note: `Only the beginning is shown (${Math.round(bytes / 1000)} KB in total)` };
}

/** Returns the name to show for a user. It is the id if the name has no visible character. */
export function called({ id, name }) {
  return name && !/^[\p{Z}\p{C}\p{M}\p{Default_Ignorable_Code_Point}\u2800]*$/u.test(name) ? name : id;
}

/**
 * Returns the ids of users with a name that looks like another user's name. Case, spaces and
 * invisible characters do not count.
 */
export function namesakes(members) {
  const ids = new Map(); // visible name → ids of the users with it
  for (const member of members) {
    const name = called(member).normalize("NFKC").replace(/[\p{Z}\p{C}\p{Default_Ignorable_Code_Point}]/gu, "").toLowerCase();
    if (!ids.has(name)) ids.set(name, []);
    ids.get(name).push(member.id);
  }
  return new Set([...ids.values()].filter((same) => same.length > 1).flat());
}

export const roomRule = "A room name has 1 to 128 characters: letters A to Z and a to z, digits, dot, underscore and hyphen.";

/**
 * Returns the rooms last visited, newest first, with `name` at the front. Invalid names are
 * dropped.
 */
export function visited(rooms, name, most = 10) {
  const names = [name, ...(Array.isArray(rooms) ? rooms : [])];
  return [...new Set(names.filter(isRoomName))].slice(0, most);
}
