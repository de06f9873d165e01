/**
 * The message list. Each message is a row, and the newest row is the last one. The list scrolls to
 * new messages until the user scrolls up. Messages of the history arrive later than newer ones, so
 * the position of a message decides its place.
 */
import { copy, put } from "./dom.js";
import { links } from "./links.js";
import { called, dataText } from "./words.js";

const maxRows = 200; // maximum number of rows while the list scrolls to new messages
export const maxRead = 2000; // maximum number of rows while the user reads earlier messages
const groupTime = 5 * 60_000; // milliseconds during which messages of a user share one name
const endMargin = 40; // pixels from the end within which the list follows new messages
const maxSent = 500; // maximum number of positions that are kept for mark()

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

/**
 * @typedef {object} Row
 * @property {HTMLElement} row
 * @property {boolean} gap  Whether the row shows a gap instead of a message.
 * @property {string} [id]  The position, and its two parts.
 * @property {string} [epoch]
 * @property {number} [seq]
 * @property {string} [from]  The sender's id. undefined for a message of the server.
 * @property {boolean} [mine]
 * @property {boolean} [fresh]  Whether it is the first unread message.
 * @property {number} [time]
 * @property {boolean} [again]  Whether the row has the name of an earlier row.
 * @property {number} [start]  The time of that row.
 */

export class Messages {
  #log;
  #list;
  #quiet;
  #more;
  #trimmed;
  /** @type {Row[]} */
  #rows = [];
  #ids = new Set(); // positions of the rows
  #sent = new Set(); // positions of messages that this page has sent
  #following = true; // whether the list scrolls to new messages
  #fresh = null; // the row of the first unread message
  #reading = true; // whether the next unread message is the first one

  /**
   * @param {object} elements
   * @param {HTMLElement} elements.log  The element that scrolls.
   * @param {HTMLElement} elements.list  The element that holds the rows.
   * @param {HTMLElement} elements.quiet  Shown if there are no rows, and the history has none.
   * @param {HTMLElement} elements.more  The button that scrolls to the end.
   * @param {(oldest: string) => void} trimmed  Called after rows were removed at the top, with the
   *   position of the oldest remaining one.
   */
  constructor({ log, list, quiet, more }, trimmed) {
    this.#log = log;
    this.#list = list;
    this.#quiet = quiet;
    this.#more = more;
    this.#trimmed = trimmed;
    log.addEventListener("scroll", () => {
      this.#following = log.scrollHeight - log.scrollTop - log.clientHeight < endMargin;
      if (this.#following) more.hidden = true;
    });
    more.addEventListener("click", () => {
      this.#following = true;
      this.#follow();
      log.focus({ preventScroll: true });
    });
    new ResizeObserver(() => this.#follow()).observe(log);
  }

  get count() {
    return this.#rows.length;
  }

  /**
   * Adds a message that has arrived.
   *
   * @param {import("./presence.js").Message} message
   * @param {?string} me  The viewer's id.
   * @param {boolean} unread  Whether the page is hidden.
   */
  add(message, me, unread = false) {
    if (this.#ids.has(message.id)) return;
    const entry = this.#entry(message, me);
    if (unread && !entry.mine && this.#reading) this.#setFresh(entry);
    if (!unread) this.#reading = true;
    this.#insert([entry]);
    this.#trim();
    if (this.#following) this.#follow();
    else this.#more.hidden = false;
  }

  /**
   * Adds messages of the history. The reading position stays the same.
   *
   * @param {import("./presence.js").Message[]} messages
   * @param {?string} me  The viewer's id.
   */
  fill(messages, me) {
    // A screen reader must not read all of them aloud.
    this.#log.setAttribute("aria-live", "off");
    const anchor = this.#following ? null : this.#rows.find(({ row, gap }) => !gap && row.offsetTop + row.offsetHeight > this.#log.scrollTop);
    const before = anchor?.row.offsetTop;
    this.#closeGaps(new Set(messages.map(({ id }) => id)));
    this.#insert(messages.filter(({ id }) => !this.#ids.has(id)).map((message) => this.#entry(message, me)));
    this.#quiet.hidden = true;
    if (anchor) this.#log.scrollTop += anchor.row.offsetTop - before;
    else this.#follow();
    setTimeout(() => this.#log.removeAttribute("aria-live"), 1000);
  }

  /**
   * Removes the gaps that a page of the history closes: all after the first message that the page
   * has too. From there on, nothing is missing.
   *
   * @param {Set<string>} ids  The positions of the messages of the page.
   */
  #closeGaps(ids) {
    const known = this.#rows.findIndex(({ id }) => ids.has(id));
    if (known < 0) return;
    for (let at = this.#rows.length - 1; at > known; at--) if (this.#rows[at].gap) this.#remove(at);
  }

  /** Shows that messages may be missing after the last row. */
  gap() {
    if (this.#rows.length === 0 || this.#rows.at(-1).gap) return;
    const row = copy("gap-row");
    this.#rows.push({ row, gap: true });
    this.#list.append(row);
    this.#trim();
    this.#follow();
  }

  /** Marks a message as the viewer's own. Its sender may not be known from the message. */
  mark(id) {
    this.#sent.add(id);
    if (this.#sent.size > maxSent) this.#sent.delete(this.#sent.values().next().value);
    const at = this.#rows.findIndex((row) => row.id === id);
    if (at < 0) return;
    setMine(this.#rows[at], true);
    this.#group(at, at + 1);
  }

  /** Shows a text if there are no messages. */
  rest(text) {
    put(this.#quiet, text);
    this.#quiet.hidden = this.#rows.length > 0;
  }

  /** Marks all messages as read. The line above the first unread one remains until the next one. */
  read() {
    this.#reading = true;
  }

  clear() {
    this.#list.replaceChildren();
    this.#rows = [];
    this.#ids.clear();
    this.#fresh = null;
    this.#reading = true;
    this.#quiet.hidden = true;
    this.#more.hidden = true;
    this.#following = true;
  }

  /**
   * @param {import("./presence.js").Message} message
   * @param {?string} me
   * @returns {Row}
   */
  #entry({ id, from, data, at }, me) {
    const [, epoch, seq] = /^(.*)-(\d+)$/s.exec(id) ?? [];
    const entry = { row: copy("message-row"), gap: false, id, epoch, seq: Number(seq), from: from?.id, time: Date.parse(at) };
    fill(entry.row, from, data, at);
    setMine(entry, this.#sent.has(id) || (from !== undefined && from.id === me));
    return entry;
  }

  /** @param {Row[]} entries */
  #insert(entries) {
    let [first, last] = [Infinity, 0]; // the rows whose group may change
    for (const entry of entries) {
      const at = this.#placeOf(entry);
      this.#list.insertBefore(entry.row, this.#rows[at]?.row ?? null);
      this.#rows.splice(at, 0, entry);
      if (entry.id) this.#ids.add(entry.id);
      [first, last] = [Math.min(first, at), Math.max(last + 1, at + 1)];
    }
    if (entries.length === 0) return;
    this.#quiet.hidden = true;
    this.#group(first, last);
    for (const { row } of entries) {
      const text = /** @type {HTMLElement} */ (row.querySelector(".text"));
      // An element that scrolls must be reachable by keyboard.
      if (text.scrollHeight > text.clientHeight) text.tabIndex = 0;
    }
  }

  /**
   * Returns the index for a row. Positions can only be compared within one epoch.
   *
   * @param {Row} entry
   */
  #placeOf({ epoch, seq }) {
    let at = this.#rows.length;
    for (; at > 0; at--) {
      const before = this.#rows[at - 1];
      if (before.gap || before.epoch !== epoch || !(before.seq > seq)) break;
    }
    return at;
  }

  /**
   * Groups the rows from `first` up to `end`, and the following ones that this affects. In a group,
   * only the first row shows the name.
   */
  #group(first, end) {
    for (let i = first; i < this.#rows.length; i++) {
      const [before, entry] = [this.#rows[i - 1], this.#rows[i]];
      const again = Boolean(before) && !before.gap && !entry.gap && !entry.fresh && before.from === entry.from
        && before.mine === entry.mine && entry.time - before.start < groupTime;
      const start = again ? before.start : entry.time;
      if (i >= end && again === entry.again && start === entry.start) return;
      Object.assign(entry, { again, start });
      entry.row.classList.toggle("again", again);
    }
  }

  #setFresh(entry) {
    const before = this.#rows.indexOf(this.#fresh);
    this.#fresh?.row.classList.remove("fresh");
    if (this.#fresh) this.#fresh.fresh = false;
    if (before >= 0) this.#group(before, before + 1);
    this.#fresh = entry;
    this.#reading = false;
    entry.fresh = true;
    entry.row.classList.add("fresh");
  }

  #trim() {
    const surplus = this.#rows.length - (this.#following ? maxRows : maxRead);
    if (surplus <= 0) return;
    for (let i = 0; i < surplus; i++) this.#remove(0);
    const { id } = this.#rows.find(({ gap }) => !gap) ?? {};
    if (id) this.#trimmed(id);
  }

  #remove(at) {
    const [{ row, id }] = this.#rows.splice(at, 1);
    this.#ids.delete(id);
    row.remove();
    this.#group(at, at + 1);
  }

  #follow() {
    if (!this.#following) return;
    this.#more.hidden = true;
    this.#log.scrollTop = this.#log.scrollHeight;
  }
}

/** @param {Row} entry */
function setMine(entry, mine) {
  entry.mine = mine;
  entry.row.classList.toggle("me", mine);
  /** @type {HTMLElement} */ (entry.row.querySelector(".you")).hidden = !mine;
}

/** Fills the row of a message. */
function fill(row, from, data, at) {
  const { text, json, note } = dataText(data);
  // A server message is marked in two ways that no user name can imitate. It has a frame, and it
  // lacks the word "From", which screen readers announce before the name of a user.
  row.querySelector(".from").hidden = row.querySelector(".name").hidden = !from;
  row.querySelector(".server").hidden = Boolean(from);
  if (from) {
    put(row.querySelector(".name"), called(from));
    row.querySelector(".name").title = from.id;
  }
  const element = row.querySelector(".text");
  element.classList.toggle("json", json);
  if (json) put(element, text);
  else element.replaceChildren(...links(text, note === "").map(({ text, href }) => (href === undefined ? text : link(text, href))));
  if (note !== "") {
    const element = copy("note");
    put(element, note);
    row.append(element);
  }
  const time = Date.parse(at);
  if (Number.isNaN(time)) return;
  const shown = row.querySelector("time");
  shown.dateTime = at;
  shown.title = full.format(time);
  shown.textContent = (new Date(time).toDateString() === new Date().toDateString() ? clock : day).format(time);
}

function link(text, href) {
  const element = document.createElement("a");
  element.href = href;
  element.rel = "noopener noreferrer nofollow";
  element.target = "_blank";
  element.dir = "ltr"; // so that text before it cannot reorder its characters
  element.textContent = text;
  return element;
}
