/**
 * The input box for messages. It is cleared as soon as the user sends, and the list shows the
 * message as pending. If sending fails, the text is put back into the box. If the user sends that
 * text again, it has the same message id, so the room receives it only once.
 */
import { later, put } from "./dom.js";
import { randomId } from "./presence/index.js";
import { limitOf, sentWords, tooLongWords, unsentWords, waitingWords } from "./words.js";

export class Composer {
  #elements;
  #where;
  #list;
  #failed = null; // the last message that could not be sent: {text, id}
  #restored = ""; // the texts at the beginning of the box that were put back, oldest first
  #pending = 0; // number of messages that are being sent
  #limit = null; // maximum size of a message in bytes, once the server has rejected one
  #showSending = later(1000, () => put(this.#elements.sending, this.#pending > 0 ? "Sending…" : ""));

  /**
   * @param {object} elements
   * @param {HTMLFormElement} elements.form
   * @param {HTMLTextAreaElement} elements.box
   * @param {HTMLButtonElement} elements.button
   * @param {HTMLElement} elements.label
   * @param {HTMLElement} elements.speaks  Shown if messages appear as from the server.
   * @param {HTMLElement} elements.sending  Announced if sending takes long.
   * @param {HTMLElement} elements.sent  Shown if the tab does not receive the message.
   * @param {HTMLElement} elements.error  Shown if sending failed.
   * @param {() => {room: ?import("./presence.js").Room, name: string, from?: {id: string, name: string}}} where
   *   Returns the Room on the page, the room name, and the sender that messages of the user show.
   *   The Room is null until it is joined.
   * @param {import("./messages.js").Messages} list
   */
  constructor(elements, where, list) {
    this.#elements = elements;
    this.#where = where;
    this.#list = list;
    const { form, box } = elements;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    // Enter sends, but not while it confirms a composed character. Keyboards on a screen may send
    // beforeinput only.
    let key = null; // the last event of a key
    for (const type of ["keydown", "keyup"]) box.addEventListener(type, (event) => (key = event));
    box.addEventListener("beforeinput", (event) => {
      if (!["insertLineBreak", "insertParagraph"].includes(event.inputType) || event.isComposing || key?.shiftKey) return;
      event.preventDefault();
      if (!key?.repeat) form.requestSubmit();
    });
    box.addEventListener("input", () => this.#fit());
    new ResizeObserver(() => this.#fit()).observe(form);
  }

  /** Shows in whose name the user sends. @param {boolean} admin */
  speakFor(admin) {
    const { label, speaks } = this.#elements;
    put(label, admin ? "Message as the server" : "Message");
    speaks.hidden = !admin;
  }

  /** Lets the user send. Called when the user enters a room. The text remains. */
  open() {
    this.#forbid(false);
    this.#complain("");
    put(this.#elements.sent, "");
  }

  /** Takes note that the room is in sync, so that it delivers messages. */
  synced() {
    put(this.#elements.sent, "");
  }

  async #submit() {
    const { box, sending, sent } = this.#elements;
    const text = box.value;
    const { room: to, from } = this.#where();
    if (!to || box.readOnly || text.trim() === "") return;
    const message = this.#failed?.text === text ? this.#failed : { text, id: randomId() };
    const size = new TextEncoder().encode(JSON.stringify({ id: message.id, data: text })).length;
    if (this.#limit !== null && size > this.#limit) return this.#complain(tooLongWords(size, this.#limit), true);
    this.#restored = "";
    this.#set("");
    this.#complain("");
    put(sent, "");
    const pending = this.#list.pend(text, from, waitingWords(to.state) === "" ? "Sending…" : "Waiting for the connection…");
    this.#pending++;
    this.#showSending();
    try {
      const { id } = await to.send(text, { id: message.id });
      if (this.#failed === message) this.#failed = null;
      this.#list.sent(pending, id, to.state.connection === "open");
      if (to === this.#where().room) put(sent, sentWords(to.state));
    } catch (reason) {
      if (pending) this.#list.withdraw(pending);
      if (to.name !== this.#where().name) return;
      this.#failed = message;
      this.#putBack(text);
      this.#complain(unsentWords(reason, size, box.value === text), reason.problem?.status === 413);
      if (reason.problem?.status === 413) this.#limit = limitOf(reason.problem.detail ?? "");
      if (reason.problem?.status === 403 && to === this.#where().room && to.state.connection === "open") this.#forbid(true);
    } finally {
      if (--this.#pending === 0) put(sending, "");
    }
  }

  /** Shows an error. @param {boolean} [wrong]  Whether the text in the box has to change. */
  #complain(text, wrong = false) {
    put(this.#elements.error, text);
    this.#elements.box.setAttribute("aria-invalid", wrong);
  }

  /** Makes the box read-only, so that its text can still be copied and it keeps the focus. */
  #forbid(forbidden) {
    const { box, button } = this.#elements;
    if (forbidden && document.activeElement === button) box.focus();
    box.readOnly = button.disabled = forbidden;
  }

  /** Puts a text back into the box: before newer text, and after older messages that failed too. */
  #putBack(text) {
    const { value } = this.#elements.box;
    const older = value === this.#restored || value.startsWith(`${this.#restored}\n`) ? this.#restored : "";
    const newer = value.slice(older === "" ? 0 : older.length + 1);
    this.#restored = [older, text].filter((part) => part !== "").join("\n");
    this.#set(newer === "" ? this.#restored : `${this.#restored}\n${newer}`);
  }

  #set(text) {
    this.#elements.box.value = text;
    this.#fit();
  }

  /** Makes the box as high as its text. The style sheet limits the height. */
  #fit() {
    const { box } = this.#elements;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight + box.offsetHeight - box.clientHeight}px`;
  }
}
