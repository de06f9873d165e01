/** The form in which users set their own status in a room. */
import { put } from "./dom.js";
import { limitOf, sentence, statusOf } from "./words.js";

export class Status {
  #elements;
  #where;
  #busy = false;

  /**
   * @param {object} elements
   * @param {HTMLFormElement} elements.form
   * @param {HTMLInputElement} elements.box
   * @param {HTMLElement} elements.button  The button that opens the form.
   * @param {HTMLElement} elements.cancel
   * @param {HTMLElement} elements.error
   * @param {() => {room: ?import("./presence.js").Room, me: ?string}} where  Returns the Room on
   *   the page, and the viewer's id.
   */
  constructor(elements, where) {
    this.#elements = elements;
    this.#where = where;
    const { form, button, cancel } = elements;
    button.addEventListener("click", () => (form.hidden ? this.#open() : this.close()));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing) return;
      event.preventDefault();
      this.close();
    });
    cancel.addEventListener("click", () => this.close());
  }

  /**
   * Offers the form if the viewer's info is known and can hold a status, because its other fields
   * remain.
   *
   * @param {import("./presence.js").Member} [member]  The viewer. undefined if the room does not
   *   list the viewer.
   */
  offer(member) {
    const { button } = this.#elements;
    const possible = member !== undefined && (member.info === undefined || member.info === null || member.info.constructor === Object);
    if (!possible) this.close();
    button.hidden = !possible;
  }

  #open() {
    const { form, button, box, error } = this.#elements;
    const { room, me } = this.#where();
    const status = statusOf(room?.members.get(me)?.info);
    box.value = status === "away" ? "" : status;
    put(error, "");
    form.hidden = false;
    button.setAttribute("aria-expanded", "true");
    box.select();
    box.focus();
  }

  close() {
    const { form, button } = this.#elements;
    if (form.hidden) return;
    const inside = form.contains(document.activeElement);
    form.hidden = true;
    button.setAttribute("aria-expanded", "false");
    if (inside) button.focus();
  }

  async #save() {
    const { box, error } = this.#elements;
    const { room, me } = this.#where();
    if (this.#busy || !room) return;
    put(error, "");
    const status = box.value.trim();
    // The page itself sets and removes this status, see away.js.
    if (status.toLowerCase() === "away") return put(error, "“away” is set and removed by itself. Choose other words, such as “back at 3”.");
    this.#busy = true;
    try {
      await room.setState(withStatus(room.members.get(me)?.info, status));
      if (room === this.#where().room) this.close();
    } catch (reason) {
      put(error, unsetWords(reason));
    } finally {
      this.#busy = false;
    }
  }
}

/**
 * Returns the info of a member with another status. The other fields remain. An empty status
 * removes the field.
 *
 * @param {any} info
 * @param {string} status
 */
export function withStatus(info, status) {
  const { status: _, ...rest } = info?.constructor === Object ? info : {};
  return status === "" ? rest : { ...rest, status };
}

/** Returns the text for a status that could not be set. */
export function unsetWords(error) {
  const { status, detail = "" } = error.problem ?? {};
  if (status === 0) return "Not set: the server did not answer. Try again.";
  const limit = status === 413 ? limitOf(detail) : null;
  if (limit !== null) return `Not set: your status and your other details take more than ${limit} bytes. Choose a shorter one.`;
  if (status === 429) return `Not set: too many changes. Try again in ${Math.max(1, Math.ceil((error.after ?? 0) / 1000))} s.`;
  return sentence(`Not set: ${error.message}`);
}
