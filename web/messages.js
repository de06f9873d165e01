/**
 * The message list. Each message is a row, and the newest row is the last one. The list scrolls to
 * new messages until the user scrolls up.
 */
import { copy, put } from "./dom.js";
import { called, dataText } from "./words.js";

const maxRows = 200; // maximum number of rows
const groupTime = 5 * 60_000; // milliseconds during which messages of a user share one name
const endMargin = 40; // pixels from the end within which the list follows new messages

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export class Messages {
  #log;
  #list;
  #quiet;
  #more;
  #following = true; // whether the list scrolls to new messages
  #last = null; // sender and time of the last group of rows, which the next row may join

  /**
   * @param {object} elements
   * @param {HTMLElement} elements.log  The element that scrolls.
   * @param {HTMLElement} elements.list  The element that holds the rows.
   * @param {HTMLElement} elements.quiet  Shown if there are no rows.
   * @param {HTMLElement} elements.more  The button that scrolls to the end.
   */
  constructor({ log, list, quiet, more }) {
    this.#log = log;
    this.#list = list;
    this.#quiet = quiet;
    this.#more = more;
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

  /**
   * @param {import("./presence.js").Message} message
   * @param {?string} me  The viewer's id.
   */
  add({ from, data, at }, me) {
    const row = copy("message-row");
    const mine = from !== undefined && from.id === me;
    const { text, json, note } = dataText(data);
    const time = Date.parse(at);
    const again = this.#last !== null && this.#last.from === from?.id && time - this.#last.at < groupTime;
    this.#last = { from: from?.id, at: again ? this.#last.at : time };
    row.classList.toggle("me", mine);
    row.classList.toggle("again", again);
    // A server message is marked in two ways that no user name can imitate. It has a frame, and it
    // lacks the word "From", which screen readers announce before the name of a user.
    row.querySelector(".from").hidden = row.querySelector(".name").hidden = !from;
    row.querySelector(".server").hidden = Boolean(from);
    if (from) put(row.querySelector(".name"), called(from));
    row.querySelector(".you").hidden = !mine;
    row.querySelector(".text").classList.toggle("json", json);
    put(row.querySelector(".text"), text);
    if (note !== "") {
      const element = copy("note");
      put(element, note);
      row.append(element);
    }
    if (!Number.isNaN(time)) {
      const element = row.querySelector("time");
      element.dateTime = at;
      element.title = full.format(time);
      element.textContent = clock.format(time);
    }
    this.#append(row);
    const element = row.querySelector(".text");
    // An element that scrolls must be reachable by keyboard.
    if (element.scrollHeight > element.clientHeight) element.tabIndex = 0;
  }

  /** Shows that messages are missing after the last row. */
  gap() {
    if (this.#list.childElementCount === 0) return;
    this.#last = null;
    this.#append(copy("gap-row"));
  }

  clear() {
    this.#list.replaceChildren();
    this.#quiet.hidden = false;
    this.#more.hidden = true;
    this.#following = true;
    this.#last = null;
  }

  #append(row) {
    this.#quiet.hidden = true;
    this.#list.append(row);
    while (this.#list.childElementCount > maxRows) {
      this.#list.firstElementChild.remove();
      this.#list.firstElementChild.classList.remove("again");
    }
    if (this.#following) this.#follow();
    else this.#more.hidden = false;
  }

  #follow() {
    if (!this.#following) return;
    this.#more.hidden = true;
    this.#log.scrollTop = this.#log.scrollHeight;
  }
}
