/**
 * What the page says, as pure functions: of the connection's state, of a time, of a room's name.
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

/** Whether the room can be entered only by signing in again. */
export function signedOut({ connection, reason, problem }) {
  return connection === "closed" && (reason === "expired" || reason === "signed out" || problem?.status === 401);
}

/** How many tabs somebody has open: 0 is told while the room waits for a return. */
export function tabsWords(connections) {
  if (connections === 0) return "leaving…";
  return connections === 1 ? "1 tab" : `${connections} tabs`;
}

/** How many people: their tabs aside. */
export function peopleWords(users) {
  return users === 1 ? "1 person" : `${users} people`;
}

/**
 * How long ago something was, roughly. Clocks differ: what lies ahead is now.
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

/** What a member says of itself in info.status, for others to read; "" if nothing. */
export function statusOf(info) {
  const status = info?.status;
  return typeof status === "string" ? status.trim() : "";
}

const mostText = 4000; // code points of a message that are shown: a page full of long ones is still laid out at once

/**
 * A message's data as text, and whether that is JSON. The note says what of it is not shown; it is "" if all is.
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
    // A RangeError: it goes as deep as the stack does.
    return { json: true, text: "", note: "This is nested too deeply to be shown" };
  }
  // Each line of what is nested is as wide as it is deep, so that only what is short is set out in lines.
  const lines = line.length > 60 && line.length <= 400 ? JSON.stringify(data, null, 2) : line;
  return { json: true, ...cut(lines.length <= mostText ? lines : line) };
}

function cut(text) {
  const shown = Array.from(text.slice(0, 2 * mostText)).slice(0, mostText).join(""); // a code point is two units at most
  if (shown === text) return { text, note: "" };
  const bytes = new TextEncoder().encode(text).length;
  return { text: `${shown}…`, note: `Only its beginning is shown (of ${Math.round(bytes / 1000)} KB in all)` };
}

/** What to call somebody: the id, if nothing can be seen of the name. */
export function called({ id, name }) {
  return name && !/^[\p{Z}\p{C}\p{M}\p{Default_Ignorable_Code_Point}\u2800]*$/u.test(name) ? name : id;
}

/** The ids of those who are called what another is called, to the eye: case, spaces and what cannot be seen aside. */
export function namesakes(members) {
  const ids = new Map(); // what is seen → the ids of those who are called so
  for (const member of members) {
    const name = called(member).normalize("NFKC").replace(/[\p{Z}\p{C}\p{Default_Ignorable_Code_Point}]/gu, "").toLowerCase();
    if (!ids.has(name)) ids.set(name, []);
    ids.get(name).push(member.id);
  }
  return new Set([...ids.values()].filter((same) => same.length > 1).flat());
}

export const roomRule = "A room’s name is 1 to 128 of the letters A to Z and a to z, digits, dot, underscore and hyphen.";

/** The rooms last visited, the newest first, once that one was. What is no room's name is dropped. */
export function visited(rooms, name, most = 10) {
  const names = [name, ...(Array.isArray(rooms) ? rooms : [])];
  return [...new Set(names.filter(isRoomName))].slice(0, most);
}
