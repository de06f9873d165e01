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
 * @param {?number} [ends]  Time at which the token expires, if the server has announced it.
 * @param {string} [locale]  Default: that of the browser.
 * @returns {string}
 */
export function stateWords({ connection, reason, problem }, ends = null, locale) {
  if (connection === "open") return ends === null ? "Live" : `Live, your access ends at ${timeWords(ends, locale)}`;
  if (connection === "connecting") return (reason === "lost" && problem ? failureWords(problem) : waiting.get(reason)) ?? "Connecting…";
  if (reason === "refused") return problem?.until ? endings.get("removed") : (refusals.get(problem?.status) ?? "Not let in");
  return endings.get(reason) ?? "Not connected";
}

/**
 * Returns the text that follows that of stateWords(), and may change each second. It is about the
 * next attempt, or about the last minute of the token. Otherwise it is "".
 *
 * @param {import("./presence.js").State} state
 * @param {number} now
 * @param {?number} [ends]  Time at which the token expires, if the server has announced it.
 */
export function secondsWords({ connection, reason, retryAt }, now, ends = null) {
  if (connection === "open" && ends !== null && ends > now && ends - now < 60_000) return `, in ${Math.ceil((ends - now) / 1000)} s`;
  if (connection !== "connecting" || !retried.has(reason)) return "";
  if (retryAt !== null) return `, trying again in ${Math.max(1, Math.ceil((retryAt - now) / 1000))} s`;
  return reason === "draining" ? ", one moment…" : ", trying again…";
}

/** Returns a time of day, in local time. */
function timeWords(time, locale) {
  return new Date(time).toLocaleTimeString(locale, { timeStyle: "short" }).replace(/\s/g, "\u00a0"); // in one line
}

/**
 * Returns the text for a count that may be outdated, because there is no connection.
 *
 * @param {number} at  Time at which the count was last known, in milliseconds since 1970.
 * @param {string} [locale]  Default: that of the browser.
 */
export function knownWords(at, locale) {
  return `last known at ${timeWords(at, locale)}`;
}

/**
 * Returns the texts in place of the members and of the messages while there is no connection yet.
 *
 * @param {import("./presence.js").State} state
 */
export function emptyWords({ connection, reason }) {
  if (connection === "open") return { people: "", messages: "" };
  if (reason === "connections") {
    return {
      people: "This browser has reached its limit of open tabs for this server. Close one and this tab continues.",
      messages: "This tab shows no messages until another tab is closed.",
    };
  }
  const text = reason === null ? "Connecting…" : "Not connected yet.";
  return { people: text, messages: text };
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
 * Returns the text at the input box while messages must wait for the connection, or "".
 *
 * @param {import("./presence.js").State} state
 */
export function waitingWords({ connection, reason }) {
  if (connection !== "connecting" || reason === null || reason === "connections") return "";
  return "Not connected. A message is sent if the connection returns within 15 s, else you can try again.";
}

/**
 * Returns the texts for a room that the server does not let the user into: the heading, the
 * explanation, and the title of the page.
 *
 * @param {?import("./presence.js").Problem} problem  null if an admin has just removed the user.
 * @param {string} room
 */
export function refusalWords(problem, room) {
  if (!problem || problem.until) return { heading: "You were removed from this room", text: "An admin removed you.", title: "Removed from" };
  const detail = problem.detail || problem.title;
  const text = /^token lacks the required right/.test(detail) ? `Your token does not open the room “${room}”.` : sentence(detail);
  if (problem.status === 403) return { heading: "You are not allowed in this room", text, title: "Not allowed in" };
  return { heading: "This room cannot be opened", text, title: "Not connected to" };
}

/** Returns a text with a capital letter at its start and a full stop at its end. */
export const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

/**
 * Returns the text for the end of a ban, in local time. It is "" if the end is not known.
 *
 * @param {?number} until  Milliseconds since 1970.
 * @param {number} now
 * @param {string} [locale]  Default: that of the browser.
 */
export function returnWords(until, now, locale) {
  const come = "You come back automatically";
  if (until === null) return "";
  if (until <= now) return `${come} in a moment.`;
  const time = timeWords(until, locale);
  if (until - now < 60_000) return `${come} in ${Math.ceil((until - now) / 1000)} s (${time}).`;
  const at = new Date(until);
  if (at.toDateString() === new Date(now).toDateString()) return `${come} at ${time}.`;
  return `${come} on ${at.toLocaleDateString(locale, { day: "numeric", month: "long" })} at ${time}.`;
}

/**
 * Returns the text after the user has asked in vain to be let in.
 *
 * @param {?number} until  End of the ban, if it is known.
 * @param {number} now
 */
export function stillWords(until, now) {
  if (until === null) return "Nothing has changed yet.";
  const seconds = Math.ceil((until - now) / 1000);
  if (seconds <= 0) return "Still a moment to go.";
  if (seconds < 60) return `Still ${seconds} s to go.`;
  if (seconds < 90 * 60) return `Still ${Math.ceil(seconds / 60)} min to go.`;
  return `Still ${Math.ceil(seconds / 3600)} h to go.`;
}

const maxName = 128; // maximum length of a name, in bytes of UTF-8

/** Returns the error in a name that a user has entered, or "" if there is none. */
export function nameError(name) {
  if (!isVisible(name)) return "Enter a name.";
  if (new TextEncoder().encode(name).length > maxName) return "Enter a shorter name.";
  return /\p{Cc}/u.test(name) ? "Enter a name without control characters." : "";
}

/**
 * Returns the text for a token that the server does not accept.
 *
 * @param {any} error  The error of the request that passed the token.
 */
export function tokenWords(error) {
  const { status, detail = "" } = error.problem ?? {};
  if (status !== 401 && status !== 400) return sentence(error.message);
  if (/expired/.test(detail)) return "This token has expired. Ask for a new one.";
  if (/not a JWT|characters that are not allowed|malformed/.test(detail)) return "That is not a complete token. Copy it again.";
  return `The server does not accept this token. ${sentence(detail || error.message)}`;
}

/** Reports whether the user is a guest, which has no token of an application. */
export const isGuest = (id) => id.startsWith("guest-");

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
 * Returns the texts that follow a user count: its unit, and the number of users. If users have
 * several connections, the texts show that the two numbers differ.
 *
 * @param {?number} count  null if it is unknown.
 * @param {?number} users  null if it is unknown.
 * @param {boolean} [exact]  Whether the number of users is current. Default: true.
 */
export function countWords(count, users, exact = true) {
  if (count === null || users === null) return { unit: count === null ? "" : "connected", persons: "" };
  const persons = exact ? peopleWords(users) : `about ${peopleWords(users)}`;
  return users > 0 && count > users ? { unit: "connections", persons: `of ${persons}` } : { unit: "connected", persons };
}

/**
 * Returns the text for a member's time in the room, since `then`. Because clocks differ, `then` may
 * be in the future: it counts as now.
 *
 * @param {number} then  Milliseconds since 1970.
 * @param {number} now
 * @param {boolean} [live]  Whether the time is known to be correct. Default: true.
 */
export function sinceWords(then, now, live = true) {
  const minutes = Math.floor((now - then) / 60_000);
  if (minutes < 1) return live ? "just joined" : "here < 1 min";
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

const maxText = 65_536; // maximum number of UTF-16 code units of a message that are shown
const maxShort = 800; // maximum number of code units, and of lines, of a message that is shown at once
const maxLines = 10;
const beginning = { chars: 600, lines: 8 }; // the part of a longer message that is shown at first

/**
 * Returns the data of a message as text, and whether the text is JSON. If the text is long, `short`
 * is its beginning. Otherwise, it is null. `size` is the size of a long text in bytes. If the data
 * cannot be shown, or only in part, the note describes this. Otherwise, the note is "".
 *
 * @param {any} data
 * @returns {{text: string, short: ?string, size: number, json: boolean, note: string}}
 */
export function dataText(data) {
  if (typeof data === "string") return { json: false, ...cut(data) };
  let line;
  try {
    line = JSON.stringify(data);
  } catch {
    // It is a RangeError, because the data is nested more deeply than the stack allows.
    return { json: true, text: "", short: null, size: 0, note: "This is nested too deeply to be shown." };
  }
  // Only short data is indented, because indentation makes deeply nested data as wide as it is
  // deep.
  const lines = line.length > 60 && line.length <= 400 ? JSON.stringify(data, null, 2) : line;
  return { json: true, ...cut(lines.length <= 4000 ? lines : line) };
}

function cut(whole) {
  if (whole.length <= maxShort && whole.split("\n", maxLines + 1).length <= maxLines) {
    return { text: whole, short: null, size: 0, note: "" };
  }
  const size = new TextEncoder().encode(whole).length;
  const all = whole.length <= maxText;
  const text = all ? whole : `${start(whole, maxText)}…`;
  const note = all ? "" : partWords(size);
  const lines = text.slice(0, beginning.chars).split("\n").slice(0, beginning.lines).join("\n");
  return { text, short: `${start(text, lines.length).trimEnd()}…`, size, note };
}

/** Returns at most the first `length` code units of a text. The last character remains whole. */
function start(text, length) {
  const cut = text.slice(0, length);
  return cut.length < text.length && /[\ud800-\udbff]$/.test(cut) ? cut.slice(0, -1) : cut;
}

/** Returns the note below a message of which only a part is shown. */
export function partWords(size) {
  return `Only the beginning is shown (${sizeWords(size)} in total).`;
}

/** Returns the label of the button that shows a long message as a whole. */
export function wholeWords(size) {
  return `Show all (${sizeWords(size)})`;
}

function sizeWords(bytes) {
  return bytes < 1000 ? `${bytes} bytes` : `${Math.round(bytes / 1000)} KB`;
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

const roomRule = "Use letters from A to Z, digits, dots, underscores and hyphens.";

/**
 * Returns the error in a room name that a user has entered, or "" if there is none.
 *
 * @param {string} name
 */
export function roomError(name) {
  if (name === "") return "Enter a room name.";
  return isRoomName(name) ? "" : `“${brief(name)}” ${roomReason(name)}`;
}

/** Returns the same error as roomError(), without the name at its start. */
export function roomReason(name) {
  if (name.length > 128) return `cannot be a room name: it has ${name.length} characters, and 128 is the maximum.`;
  const [wrong] = /[^A-Za-z0-9._-]/u.exec(name) ?? [""];
  const has = /\s/.test(wrong) ? "a space" : isVisible(wrong) ? `“${wrong}”` : "an invisible character";
  return `cannot be a room name: it has ${has}. ${roomRule}`;
}

/** Returns the beginning of a name that a user has entered. */
export function brief(name) {
  return name.length > 100 ? `${start(name, 100)}…` : name;
}

/** Returns a valid room name that resembles `name`. */
export function proposedRoom(name) {
  const plain = name.normalize("NFKD").replace(/\p{M}/gu, "").replace(/[^A-Za-z0-9._-]+/g, "-");
  return plain.replace(/^-+/, "").slice(0, 128).replace(/-+$/, "") || "lobby";
}

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
      return "Not sent: you may not send messages to this room. Ask an admin for the right to send.";
    case 413:
      return tooLongWords(size, limitOf(detail));
    case 429: {
      const seconds = Math.max(1, Math.ceil((error.after ?? 0) / 1000));
      return `Not sent: you are sending too fast. Try again in ${seconds} s.`;
    }
  }
  if (status >= 500) return `Perhaps not sent: the server cannot take messages right now (${status}). ${again}`;
  return sentence(`Not sent: ${error.message}`);
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
  if (have > most && most > 0) return `Not sent: the message is too long (${have} KB, at most ${most} KB).`;
  return `Not sent: the message is too long (${size} bytes, at most ${limit}).`;
}

/**
 * Returns the note after a message was sent, if the tab does not receive the messages of the room.
 * It is "" if the tab receives them soon.
 *
 * @param {import("./presence.js").State} state
 */
export function sentWords({ connection, reason }) {
  if (connection === "open" || reason !== "connections") return "";
  return "Sent. This tab shows no messages of others until another tab is closed.";
}

/** Returns the text for the length of a ban: 1m or 1h. */
export function banWords(length) {
  return length === "1h" ? "1 hour" : "1 minute";
}
