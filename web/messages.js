/**
 * The message list. Each message is a row, and the newest row is the last one. The list scrolls to
 * new messages until the user scrolls up. Messages of the history arrive later than newer ones, so
 * the position of a message decides its place.
 */
import { copy, put } from "./dom.js";
import { links } from "./links.js";
import { called, dataText, partWords, wholeWords } from "./words.js";

const maxRows = 200; // maximum number of rows while the list scrolls to new messages
export const maxRead = 2000; // maximum number of rows while the user reads earlier messages
const groupTime = 5 * 60_000; // milliseconds during which messages of a user share one name
const endMargin = 40; // pixels from the end within which the list follows new messages
const maxSent = 500; // maximum number of positions that are kept for mark()
const maxLong = 200; // maximum number of long messages that can be shown as a whole
const maxPending = 50; // maximum number of rows for messages that are being sent
const sendingDelay = 400; // milliseconds before such a row has a note

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
 *
 * @typedef {object} Pending  A message of the viewer that is being sent.
 * @property {Row} entry
 * @property {{id: string, name: string}} [from]
 * @property {string} text
 * @property {string} id  The position, once the server has accepted it. Before, it is "".
 * @property {ReturnType<typeof setTimeout>} timer  Shows the note.
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
  #rest = ""; // texts in place of the rows
  #wait = "";
  #sent = new Set(); // positions of messages that this page has sent
  /** @type {Pending[]} */
  #pending = [];
  /** @type {Set<HTMLElement>} */
  #long = new Set(); // rows whose long text can be shown as a whole, oldest first
  #following = true; // whether the list scrolls to new messages
  #height = 0; // height of the rows, and of the visible part, when the position was last known
  #visible = 0;
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
    log.addEventListener("scroll", () => this.#scrolled());
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
    const pending = this.#pendingOf(message, me);
    if (pending) this.withdraw(pending);
    const entry = this.#entry(message, me);
    if (pending && !entry.mine) setMine(entry, true);
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
    for (const pending of this.#pending.filter(({ id }) => messages.some((message) => message.id === id))) this.withdraw(pending);
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
    this.#list.insertBefore(row, this.#end);
    this.#trim();
    this.#follow();
  }

  /**
   * Shows a message that is being sent, after all other messages. The room delivers it later, and
   * then its row replaces this one.
   *
   * @param {string} text
   * @param {{id: string, name: string}|undefined} from  The viewer. undefined if messages of the
   *   viewer appear as from the server.
   * @param {string} state  The note of the row.
   * @returns {?Pending}  null if too many messages are being sent.
   */
  pend(text, from, state) {
    if (this.#pending.length >= maxPending) this.#settle(this.#pending.find(({ id }) => id !== ""));
    if (this.#pending.length >= maxPending) return null;
    const entry = this.#entry({ id: "", from, data: text, at: new Date().toISOString() }, from?.id ?? null);
    setMine(entry, true);
    entry.row.classList.add("pending");
    entry.row.setAttribute("aria-live", "off"); // the row that replaces it is announced
    this.#list.append(entry.row);
    /** @type {Pending} */
    const pending = { entry, from, text, id: "", timer: setTimeout(() => describe(pending, state), sendingDelay) };
    this.#pending.push(pending);
    this.#groupPending();
    this.#showQuiet();
    this.#following = true;
    this.#follow();
    return pending;
  }

  /** Removes the row of a message that was not sent, or that was delivered. */
  withdraw(pending) {
    clearTimeout(pending.timer);
    const at = this.#pending.indexOf(pending);
    if (at < 0) return;
    this.#pending.splice(at, 1);
    this.#long.delete(pending.entry.row);
    pending.entry.row.remove();
    this.#groupPending();
    this.#showQuiet();
  }

  /**
   * Shows that the server has accepted a message. Unless the room has delivered it, its row
   * remains.
   *
   * @param {?Pending} pending
   * @param {string} id  The position of the message.
   * @param {boolean} live  Whether the room delivers it now.
   */
  sent(pending, id, live) {
    this.mark(id);
    if (!pending) return;
    pending.id = id;
    if (this.#ids.has(id)) return this.withdraw(pending);
    if (live || !this.#pending.includes(pending)) return;
    clearTimeout(pending.timer);
    pending.entry.row.classList.add("accepted");
    describe(pending, "Sent");
    this.#follow();
  }

  /** Moves the messages that the server has accepted to their place, because the room is in sync. */
  settle() {
    for (const pending of this.#pending.filter(({ id }) => id !== "")) this.#settle(pending);
  }

  /** @param {Pending} [pending] */
  #settle(pending) {
    if (!pending) return;
    const { id, from, text, entry } = pending;
    this.withdraw(pending);
    if (this.#ids.has(id)) return;
    this.#insert([this.#entry({ id, from, data: text, at: new Date(entry.time).toISOString() }, from?.id ?? null)]);
  }

  /**
   * Returns the pending message that a delivered message is. The room may deliver it before the
   * server has answered the sender, so the text is compared. If it is the same text from another
   * device of the viewer, one row replaces the other, and the second row follows.
   *
   * @param {import("./presence.js").Message} message
   * @param {?string} me
   */
  #pendingOf({ id, from, data }, me) {
    const same = this.#pending.find((pending) => pending.id === id);
    if (same || (from && from.id !== me)) return same;
    return this.#pending.find((pending) => pending.id === "" && pending.text === data && Boolean(pending.from) === Boolean(from));
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
    this.#rest = text;
    this.#showQuiet();
  }

  /** Shows another text in its place while there is no connection. "" ends this. */
  wait(text) {
    this.#wait = text;
    this.#showQuiet();
  }

  #showQuiet() {
    const text = this.#wait || this.#rest;
    put(this.#quiet, text);
    this.#quiet.hidden = text === "" || this.#rows.length + this.#pending.length > 0;
  }

  /** Marks all messages as read. The line above the first unread one remains until the next one. */
  read() {
    this.#reading = true;
  }

  clear() {
    this.#list.replaceChildren();
    for (const pending of [...this.#pending]) this.withdraw(pending);
    this.#long.clear();
    this.#rows = [];
    this.#ids.clear();
    this.#fresh = null;
    this.#reading = true;
    this.rest("");
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
    const texts = fill(entry.row, from, data, at);
    if (texts.short !== null) this.#offerWhole(entry.row, texts);
    setMine(entry, this.#sent.has(id) || (from !== undefined && from.id === me));
    return entry;
  }

  /** @param {Row[]} entries */
  #insert(entries) {
    let [first, last] = [Infinity, 0]; // the rows whose group may change
    for (const entry of entries) {
      const at = this.#placeOf(entry);
      this.#list.insertBefore(entry.row, this.#rows[at]?.row ?? this.#end);
      this.#rows.splice(at, 0, entry);
      if (entry.id) this.#ids.add(entry.id);
      [first, last] = [Math.min(first, at), Math.max(last + 1, at + 1)];
    }
    if (entries.length === 0) return;
    this.#quiet.hidden = true;
    this.#group(first, last);
    this.#groupPending();
  }

  /** The row before which the list of delivered messages ends. null for the end of the list. */
  get #end() {
    return this.#pending[0]?.entry.row ?? null;
  }

  /**
   * Adds a button that shows a long text as a whole. The button of the oldest row is removed if
   * there are too many, because each text may need much memory.
   *
   * @param {HTMLElement} row
   * @param {{short: string, text: string, size: number, note: string}} texts
   */
  #offerWhole(row, { short, text, size, note }) {
    const button = copy("whole-button");
    const label = note === "" ? wholeWords(size) : "Show more";
    put(button, label);
    let whole = false;
    button.addEventListener("click", () => {
      whole = !whole;
      showText(row, whole ? text : short, whole && note === "");
      put(button, whole ? "Show less" : label);
      button.setAttribute("aria-expanded", String(whole));
      if (!whole) row.scrollIntoView({ block: "nearest" });
      this.#position();
    });
    row.append(button);
    this.#long.add(row);
    if (this.#long.size <= maxLong) return;
    const [oldest] = this.#long;
    this.#long.delete(oldest);
    giveUp(oldest);
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
      const again = continues(entry, before);
      const start = again ? before.start : entry.time;
      if (i >= end && again === entry.again && start === entry.start) return;
      Object.assign(entry, { again, start });
      entry.row.classList.toggle("again", again);
    }
  }

  #groupPending() {
    let before = this.#rows.at(-1);
    for (const { entry } of this.#pending) {
      const again = continues(entry, before);
      entry.start = again ? before.start : entry.time;
      entry.row.classList.toggle("again", again);
      before = entry;
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
    this.#long.delete(row);
    row.remove();
    this.#group(at, at + 1);
  }

  /** Takes note of a scroll position. The size may have changed since: then the list follows it. */
  #scrolled() {
    const resized = this.#height !== this.#log.scrollHeight || this.#visible !== this.#log.clientHeight;
    if (this.#following && resized) this.#follow();
    else this.#position();
  }

  /** Follows new messages if the end is in view. */
  #position() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    this.#following = scrollHeight - scrollTop - clientHeight < endMargin;
    if (this.#following) this.#more.hidden = true;
    this.#measure();
  }

  #follow() {
    if (!this.#following) return;
    this.#more.hidden = true;
    this.#log.scrollTop = this.#log.scrollHeight;
    this.#measure();
  }

  #measure() {
    this.#height = this.#log.scrollHeight;
    this.#visible = this.#log.clientHeight;
  }
}

/**
 * Reports whether a row belongs to the group of the row before it.
 *
 * @param {Row} entry
 * @param {Row} [before]
 */
function continues(entry, before) {
  return before !== undefined && !before.gap && !entry.gap && !entry.fresh && before.from === entry.from
    && before.mine === entry.mine && entry.time - before.start < groupTime;
}

/** Shows a note below a message that is being sent. @param {Pending} pending */
function describe({ entry: { row } }, text) {
  const state = row.querySelector(".state") ?? copy("note");
  state.classList.add("state");
  put(state, text);
  row.append(state);
}

/** Removes the button that shows a long text as a whole. @param {HTMLElement} row */
function giveUp(row) {
  const button = /** @type {HTMLElement} */ (row.querySelector(".whole"));
  if (button.getAttribute("aria-expanded") === "true") button.click();
  if (!row.querySelector(".note:not(.state)")) {
    const note = copy("note");
    put(note, partWords(Number(row.dataset.size)));
    row.append(note);
  }
  button.remove();
}

/** @param {Row} entry */
function setMine(entry, mine) {
  entry.mine = mine;
  entry.row.classList.toggle("me", mine);
  /** @type {HTMLElement} */ (entry.row.querySelector(".you")).hidden = !mine;
}

/** Fills the row of a message. Returns its texts: see dataText(). */
function fill(row, from, data, at) {
  const texts = dataText(data);
  // A server message is marked in two ways that no user name can imitate. It has a frame, and it
  // lacks the word "From", which screen readers announce before the name of a user.
  row.querySelector(".from").hidden = row.querySelector(".name").hidden = !from;
  row.querySelector(".server").hidden = Boolean(from);
  if (from) {
    put(row.querySelector(".name"), called(from));
    row.querySelector(".name").title = from.id;
  }
  row.querySelector(".text").classList.toggle("json", texts.json);
  showText(row, texts.short ?? texts.text, texts.short === null && texts.note === "");
  if (texts.short !== null) row.dataset.size = texts.size;
  if (texts.note !== "") {
    const element = copy("note");
    put(element, texts.note);
    row.append(element);
  }
  const time = Date.parse(at);
  if (Number.isNaN(time)) return texts;
  const shown = row.querySelector("time");
  shown.dateTime = at;
  shown.title = full.format(time);
  shown.textContent = (new Date(time).toDateString() === new Date().toDateString() ? clock : day).format(time);
  return texts;
}

/**
 * Shows the text of a message. Addresses in it are links, except in JSON.
 *
 * @param {any} row
 * @param {string} text
 * @param {boolean} complete  Whether the text is not cut at its end.
 */
function showText(row, text, complete) {
  const element = row.querySelector(".text");
  if (element.matches(".json")) put(element, text);
  else element.replaceChildren(...links(text, complete).map(({ text, href }) => (href === undefined ? text : link(text, href))));
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
