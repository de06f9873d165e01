/**
 * What the page says, as pure functions: of the connection's state, of a time, of a room's name.
 */

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
  ["draining", "The server restarts, one moment…"],
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

/** A message's data as text, and whether that is JSON. */
export function dataText(data) {
  if (typeof data === "string") return { text: data, json: false };
  const line = JSON.stringify(data);
  return { text: line.length <= 60 ? line : JSON.stringify(data, null, 2), json: true };
}

export const roomRule = "A room’s name is 1 to 128 of the letters A to Z and a to z, digits, dot, underscore and hyphen.";

/** Whether a room may have that name. */
export function isRoom(name) {
  return typeof name === "string" && /^[A-Za-z0-9._-]{1,128}$/.test(name);
}

/** The rooms last visited, the newest first, once that one was. What is no room's name is dropped. */
export function visited(rooms, name, most = 10) {
  const names = [name, ...(Array.isArray(rooms) ? rooms : [])];
  return [...new Set(names.filter(isRoom))].slice(0, most);
}
