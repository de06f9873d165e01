/**
 * The dialog in which an admin removes a member from a room, and the notices after it. A notice
 * lets the admin take the removal back until it is over.
 */
import { copy, focusList, focusNear, put } from "./dom.js";
import { banWords, called, sentence } from "./words.js";

const minutes = { "1m": 1, "1h": 60 };
const shortest = 10_000; // minimum milliseconds for which a notice remains

/**
 * @typedef {object} Notice
 * @property {HTMLElement} row
 * @property {string} room
 * @property {string} id  The user's id.
 * @property {string} name
 * @property {ReturnType<typeof setTimeout>} timer  Removes the notice.
 */

export class Removal {
  #elements;
  #ask;
  #changed;
  #restoreFocus;
  #member = null; // the member in the dialog, and the room in which the dialog was opened
  #room = ""; // the room on the page
  /** @type {Set<Notice>} */
  #notices = new Set();

  /**
   * @param {object} elements
   * @param {HTMLDialogElement} elements.dialog
   * @param {HTMLFormElement} elements.form
   * @param {HTMLElement} elements.name  The name in the title.
   * @param {HTMLElement} elements.leaver  The name in the text.
   * @param {HTMLElement} elements.withId  Contains the id. Hidden if the id is the name.
   * @param {HTMLElement} elements.id  The user's id.
   * @param {HTMLElement} elements.error
   * @param {HTMLElement} elements.keep  The button that closes the dialog.
   * @param {HTMLElement} elements.notices  The list of notices.
   * @param {HTMLElement} elements.spoken  Announced to screen readers.
   * @param {HTMLElement} elements.list  Has the focus after the last notice.
   * @param {(method: string, path: string) => Promise<any>} ask  Sends a request.
   * @param {() => void} changed  Called after the notices have changed.
   */
  constructor(elements, ask, changed) {
    this.#elements = elements;
    this.#ask = ask;
    this.#changed = changed;
    const { dialog, form, keep, error } = elements;
    keep.addEventListener("click", () => dialog.close());
    let busy = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (busy) return;
      busy = true;
      put(error, "");
      await this.#remove().catch((reason) => put(error, sentence(reason.message)));
      busy = false;
    });
    // The browser gives the focus back to the button, but its row may be gone.
    dialog.addEventListener("close", () => this.#restoreFocus?.());
  }

  /**
   * Opens the dialog.
   *
   * @param {import("./presence.js").Member} member
   * @param {() => void} restoreFocus  Called after the dialog was closed.
   */
  open(member, restoreFocus) {
    const { dialog, name, leaver, withId, id, error } = this.#elements;
    this.#member = { id: member.id, name: called(member), room: this.#room };
    this.#restoreFocus = restoreFocus;
    put(name, called(member));
    put(leaver, called(member));
    withId.hidden = called(member) === member.id;
    put(id, member.id);
    put(error, "");
    dialog.showModal();
  }

  /** Shows the notices of a room. @param {string} room */
  enter(room) {
    this.#room = room;
    for (const notice of this.#notices) this.#show(notice);
  }

  /** The users whose removal from the room on the page is shown. */
  get removed() {
    return [...this.#notices].filter(({ room }) => room === this.#room);
  }

  /** Removes all notices, because another user may sign in. */
  clear() {
    for (const notice of this.#notices) this.#drop(notice);
    if (this.#elements.dialog.open) this.#elements.dialog.close();
  }

  async #remove() {
    const { dialog, form } = this.#elements;
    const member = this.#member;
    const { id, name, room } = member;
    const length = String(new FormData(form).get("for"));
    // The id is in the query, because browsers and proxies change a path that contains ., .. or
    // %2F.
    await this.#ask("DELETE", `members?${new URLSearchParams({ room, id, for: length })}`);
    const undo = this.#notify(room, id, name, length);
    if (member !== this.#member) return; // the dialog was canceled, and is open for another member
    if (room === this.#room) this.#restoreFocus = () => undo.focus();
    dialog.close();
  }

  /** Shows a notice. Returns the button that takes the removal back. */
  #notify(room, id, name, length) {
    for (const notice of this.#notices) if (notice.room === room && notice.id === id) this.#drop(notice);
    const row = copy("notice");
    const text = `was removed for ${banWords(length)}.`;
    /** @type {Notice} */
    const notice = { row, room, id, name, timer: this.#expire(() => notice, Math.max(shortest, minutes[length] * 60_000)) };
    this.#notices.add(notice);
    put(row.querySelector(".name"), name);
    put(row.querySelector(".id"), id);
    row.querySelector(".with-id").hidden = id === name;
    put(row.querySelector(".text"), text);
    const [undo, dismiss] = [row.querySelector(".undo"), row.querySelector(".dismiss")];
    undo.setAttribute("aria-label", `Undo: let ${name} in again`);
    dismiss.setAttribute("aria-label", `Dismiss: ${name} ${text}`);
    undo.addEventListener("click", () => this.#undo(notice, name));
    dismiss.addEventListener("click", () => this.#drop(notice));
    this.#show(notice);
    put(this.#elements.spoken, `${name} ${text}`);
    this.#changed();
    return undo;
  }

  #expire(notice, ms) {
    return setTimeout(() => this.#drop(notice()), ms);
  }

  /** @param {Notice} notice */
  async #undo(notice, name) {
    const { row, room, id } = notice;
    /** @type {HTMLButtonElement} */
    const undo = row.querySelector(".undo");
    if (undo.getAttribute("aria-disabled") === "true") return;
    undo.setAttribute("aria-disabled", "true");
    let text = "may come in again.";
    let over = true;
    try {
      await this.#ask("DELETE", `bans?${new URLSearchParams({ room, id })}`);
    } catch (error) {
      over = error.problem?.status === 404; // the ban has ended, or another admin has lifted it
      if (!over) text = `is still removed: ${error.message}${/[.!?]$/.test(error.message) ? "" : "."}`;
    }
    undo.removeAttribute("aria-disabled");
    if (!this.#notices.has(notice)) return;
    put(row.querySelector(".text"), text);
    put(this.#elements.spoken, `${name} ${text}`);
    if (!over) return;
    /** @type {HTMLElement} */
    const dismiss = row.querySelector(".dismiss");
    dismiss.setAttribute("aria-label", `Dismiss: ${name} ${text}`);
    if (document.activeElement === undo) dismiss.focus();
    undo.hidden = true;
    clearTimeout(notice.timer);
    notice.timer = this.#expire(() => notice, shortest);
  }

  /** @param {Notice} notice */
  #show(notice) {
    const { notices } = this.#elements;
    if (notice.room === this.#room) notices.append(notice.row);
    else notice.row.remove();
  }

  /** @param {Notice} notice */
  #drop(notice) {
    const { notices, spoken, list } = this.#elements;
    clearTimeout(notice.timer);
    put(spoken, "");
    this.#notices.delete(notice);
    const rows = [...notices.children];
    const at = rows.indexOf(notice.row);
    const focused = notice.row.contains(document.activeElement);
    notice.row.remove();
    this.#changed();
    if (!focused) return;
    if (notices.childElementCount > 0) focusNear(notices, ".dismiss", rows, at);
    else focusList(list);
  }
}
