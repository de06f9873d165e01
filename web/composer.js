/**
 * The box in which messages are written. What was typed is gone from it at once, and is back in it if it could not be
 * sent: then the same text is the same message.
 */
import { later, put } from "./dom.js";
import { randomId } from "./presence.js";

export class Composer {
  #box;
  #sending;
  #error;
  #failed = null; // {text, id}
  #onTheWay = 0; // messages, of which a patient word is said
  #saySending = later(1000, () => put(this.#sending, this.#onTheWay > 0 ? "Sending…" : ""));

  /**
   * @param {object} elements
   * @param {HTMLFormElement} elements.form
   * @param {HTMLInputElement} elements.box
   * @param {HTMLElement} elements.sending  Says that it takes its time.
   * @param {HTMLElement} elements.error    Says that it could not be sent.
   * @param {() => {room: ?import("./presence.js").Room, name: string}} where  The room that is shown, null while it is
   *   not entered, and its name.
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
    this.#onTheWay++;
    this.#saySending();
    try {
      await to.send(text, { id: message.id });
      if (this.#failed === message) this.#failed = null;
    } catch (error) {
      if (to.name !== where().name) return;
      this.#failed = message;
      this.#box.value = this.#box.value === "" ? text : `${text} ${this.#box.value}`;
      put(this.#error, `Not sent: ${error.message}`);
    } finally {
      if (--this.#onTheWay === 0) put(this.#sending, "");
    }
  }
}
