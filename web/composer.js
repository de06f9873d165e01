/**
 * The input box for messages. It is cleared as soon as the user sends. If sending fails, the text
 * is put back into the box. If the user sends that text again, it has the same message id, so the
 * room receives it only once.
 */
import { later, put } from "./dom.js";
import { randomId } from "./presence/index.js";

export class Composer {
  #box;
  #sending;
  #error;
  #failed = null; // the last message that could not be sent: {text, id}
  #pending = 0; // number of messages that are being sent
  #showSending = later(1000, () => put(this.#sending, this.#pending > 0 ? "Sending…" : ""));

  /**
   * @param {object} elements
   * @param {HTMLFormElement} elements.form
   * @param {HTMLInputElement} elements.box
   * @param {HTMLElement} elements.sending  Shown if sending takes long.
   * @param {HTMLElement} elements.error  Shown if sending failed.
   * @param {() => {room: ?import("./presence.js").Room, name: string}} where  Returns the Room on
   *   the page and the room name. The Room is null until it is joined.
   */
  constructor({ form, box, sending, error }, where) {
    this.#box = box;
    this.#sending = sending;
    this.#error = error;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit(where);
    });
  }

  async #submit(where) {
    const text = this.#box.value;
    const { room: to } = where();
    if (!to || text === "") return;
    const message = this.#failed?.text === text ? this.#failed : { text, id: randomId() };
    this.#box.value = "";
    put(this.#error, "");
    this.#pending++;
    this.#showSending();
    try {
      await to.send(text, { id: message.id });
      if (this.#failed === message) this.#failed = null;
    } catch (error) {
      if (to.name !== where().name) return;
      this.#failed = message;
      this.#box.value = this.#box.value === "" ? text : `${text} ${this.#box.value}`;
      put(this.#error, `Not sent: ${error.message}`);
    } finally {
      if (--this.#pending === 0) put(this.#sending, "");
    }
  }
}
