/**
 * The texts of the page. The functions are pure: they take the state of the connection, a time, a
 * room name and other values as arguments.
 */

import { isRoomName } from "./presence/index.js";

/**
 * Returns the text for the state of the connection. It does not change while the room waits for the
 * next attempt, so that a screen reader announces it once.
 *
 * @param {import("./presence.js").State} state
 * @returns {string}
 */
export function stateWords({ connection, reason, problem, expiring }) {
  if (connection === "open") return expiring === null ? "Live" : "Live, but your token is about to expire";
  if (connection === "connecting") return (reason === "lost" && problem ? failureWords(problem) : waiting.get(reason)) ?? "Connecting…";
  if (reason === "refused") return problem?.until ? endings.get("removed") : (refusals.get(problem?.status) ?? "Not let in");
  return endings.get(reason) ?? "Not connected";
}

/**
 * Returns the text for the next attempt, which follows that of stateWords(). It is "" if the room
 * makes no attempt.
 *
 * @param {import("./presence.js").State} state
 * @param {number} now
 */
export function retryWords({ connection, reason, retryAt }, now) {
  if (connection !== "connecting" || !retried.has(reason)) return "";
  if (retryAt !== null) return `, trying again in ${Math.max(1, Math.ceil((retryAt - now) / 1000))} s`;
  return reason === "draining" ? ", one moment…" : ", trying again…";
}

const waiting = new Map([
  ["draining", "The server is restarting"],
  ["full", "Full right now"],
  ["slow", "This connection was too slow"],
  ["lost", "Connection lost"],
  ["silent", "The server has gone silent"],
  ["offline", "You are offline"],
  ["connections", "Too many tabs for this browser, waiting for one to close…"],
]);

const retried = new Set(["draining", "full", "slow", "lost", "silent"]);

const endings = new Map([
  ["removed", "Removed"],
  ["expired", "Your token has expired"],
  ["signed out", "Signed out"],
]);

const refusals = new Map([
  [401, "Signed out"],
  [403, "Not allowed"],
  [404, "Nothing here to connect to"],
]);

/** Returns the text for an attempt that has failed with this problem. */
function failureWords({ status, title }) {
  if (status === 0 && title === "No response") return "Cannot reach the server";
  if (status < 400) return "The answer is not from a presence server";
  if (status < 500) return `The server is busy (${status})`;
  return `The server does not answer (${status})`;
}

/**
 * Returns the texts for a room that the server does not let the user into: the heading, the
 * explanation, and the title of the page.
 *
 * @param {?import("./presence.js").Problem} problem  null if an admin has just removed the user.
 */
export function refusalWords(problem) {
  if (!problem || problem.until) return { heading: "You were removed from this room", text: "", title: "Removed from" };
  const text = sentence(problem.detail || problem.title);
  if (problem.status === 403) return { heading: "You are not allowed in this room", text, title: "Not allowed in" };
  return { heading: "This room cannot be opened", text, title: "Not connected to" };
}

/** Returns a text with a capital letter at its start and a full stop at its end. */
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

/**
 * Returns the text for the end of a ban, in local time. It is "" if the end is not known.
 *
 * @param {?number} until  Milliseconds since 1970.
 * @param {number} now
 * @param {string} [locale]  Default: that of the browser.
 */
export function returnWords(until, now, locale) {
  if (until === null) return "";
  if (until <= now) return "You can come back in a moment.";
  if (until - now < 60_000) return `You can come back in ${Math.ceil((until - now) / 1000)} s.`;
  const at = new Date(until);
  const time = at.toLocaleTimeString(locale, { hour: "2-digit", minute: "2-digit" });
  if (at.toDateString() === new Date(now).toDateString()) return `You can come back at ${time}.`;
  return `You can come back on ${at.toLocaleDateString(locale, { day: "numeric", month: "long" })} at ${time}.`;
}

const maxName = 128; // maximum length of a name, in bytes of UTF-8

/** Returns the error in a name that a user has entered, or "" if there is none. */
export function nameError(name) {
  if (!isVisible(name)) return "Enter a name";
  if (new TextEncoder().encode(name).length > maxName) return "Enter a shorter name";
  return /\p{Cc}/u.test(name) ? "Enter a name without control characters" : "";
}

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
 * Returns the text for a member's time in the room, since `then`. Because clocks differ, `then` may
 * be in the future: it counts as now.
 *
 * @param {number} then  Milliseconds since 1970.
 * @param {number} now
 */
export function sinceWords(then, now) {
  const minutes = Math.floor((now - then) / 60_000);
  if (minutes < 1) return "just joined";
  if (minutes < 60) return `here ${minutes} min`;
  if (minutes < 24 * 60) return `here ${Math.floor(minutes / 60)} h`;
  const days = Math.floor(minutes / (24 * 60));
  return days === 1 ? "here 1 day" : `here ${days} days`;
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
  return name && isVisible(name) ? name : id;
}

const isVisible = (text) => !/^[\p{Z}\p{C}\p{M}\p{Default_Ignorable_Code_Point}\u2800]*$/u.test(text);

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

/**
 * Returns the text for a message that could not be sent.
 *
 * @param {any} error  The error of Room.send().
 * @param {number} size  The size of the message, in bytes.
 * @param {boolean} [alone]  Whether the box has this text only. Then the next attempt has the same
 *   message id.
 */
export function unsentWords(error, size, alone = true) {
  const { status, detail = "" } = error.problem ?? {};
  const again = alone ? "You can send it again, it appears only once." : "If you send it again, it may appear twice.";
  switch (status) {
    case 0:
      return `Perhaps not sent: the server did not answer. ${again}`;
    case 403:
      return "Not sent: you may not send messages to this room.";
    case 413:
      return tooLongWords(size, limitOf(detail));
    case 429: {
      const seconds = Math.max(1, Math.ceil((error.after ?? 0) / 1000));
      return `Not sent: you are sending too fast. Try again in ${seconds} s.`;
    }
  }
  if (status >= 500) return `Perhaps not sent: the server cannot take messages right now (${status}). ${again}`;
  return `Not sent: ${error.message}`;
}

/**
 * Returns the maximum size that a problem document names, in bytes. Returns null if it names none.
 *
 * @param {string} detail
 */
export function limitOf(detail) {
  const [, bytes] = /\(maximum (\d+) bytes\)/.exec(detail) ?? [];
  return bytes === undefined ? null : Number(bytes);
}

/**
 * Returns the text for a message that is too long. If the limit is unknown, it is null.
 *
 * @param {number} size  In bytes.
 * @param {?number} limit  In bytes.
 */
export function tooLongWords(size, limit) {
  if (limit === null) return "Not sent: the message is too long.";
  const [have, most] = [size, limit].map((bytes) => Math.round(bytes / 1024));
  if (have > most && most > 0) return `Not sent: the message is too long (${have} KB, at most ${most} KB)`;
  return `Not sent: the message is too long (${size} bytes, at most ${limit})`;
}

/** Returns the text for the length of a ban: 1m or 1h. */
export function banWords(length) {
  return length === "1h" ? "1 hour" : "1 minute";
}
