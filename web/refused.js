/**
 * The panel that is shown in place of a room if the server does not let the user in. It asks the
 * server again when a ban ends. An admin can end a ban early, so it also asks whenever the page
 * becomes visible, and every 30 s while it is visible.
 */
import { put } from "./dom.js";
import { refusalWords, returnWords, stillWords } from "./words.js";

const interval = 30_000; // milliseconds between two requests while the page is visible
const spread = 2000; // maximum random delay after the end of a ban, in milliseconds
// Milliseconds before the first request after the end of a ban, for a clock that is ahead. The wait
// doubles with each request, up to the interval.
const late = 5000;

export class Refused {
  #elements;
  #ask;
  #until = null; // end of the ban, in milliseconds since 1970, if it is known
  #banned = false; // whether the user is admitted later without a new token
  #returnAt = 0; // time of the request at the end of the ban
  #room = "";
  #asked = 0; // time of the last request or response
  #late = late; // milliseconds before the next request after the end of the ban
  #pending = null; // identifies the request that is running
  #timer = null; // runs while the panel is visible

  /**
   * @param {object} elements
   * @param {HTMLElement} elements.panel
   * @param {HTMLElement} elements.heading
   * @param {HTMLElement} elements.text
   * @param {HTMLElement} elements.until
   * @param {HTMLElement} elements.result  Shows the result of "Try again".
   * @param {HTMLElement} elements.again
   * @param {HTMLElement} elements.lobby
   * @param {HTMLElement} elements.other
   * @param {() => Promise<?import("./presence.js").Problem>} ask  Asks the server. If it lets the
   *   user in, `ask` hides the panel. Otherwise, it returns the problem.
   */
  constructor(elements, ask) {
    this.#elements = elements;
    this.#ask = ask;
    elements.again.addEventListener("click", () => this.#askNow(true));
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.#timer !== null) this.#askNow();
    });
  }

  /**
   * Shows the panel.
   *
   * @param {string} room
   * @param {?import("./presence.js").Problem} problem  null after a `goodbye` with the reason
   *   "removed". It has no end of the ban, so the server is asked for it.
   */
  show(room, problem) {
    const { panel, lobby, heading } = this.#elements;
    this.#pending = null;
    this.#room = room;
    this.#timer ??= setInterval(() => this.#tick(), 1000);
    panel.hidden = false;
    lobby.hidden = room === "lobby";
    const again = Date.now() - this.#asked < late;
    if (!again) this.#late = late;
    this.#learn(problem);
    this.#showResult("");
    // The user may be typing in the form for another room.
    if (document.activeElement === document.body || !document.activeElement?.checkVisibility()) heading.focus();
    // If the server has just answered that the user may join, and then removed the user, do not ask
    // at once: such a server would receive requests without a pause.
    if (!problem && !again) this.#askNow();
  }

  hide() {
    clearInterval(this.#timer);
    this.#timer = this.#pending = null;
    this.#elements.panel.hidden = true;
  }

  #learn(problem) {
    const { heading, text, other } = this.#elements;
    const until = Date.parse(problem?.until ?? "");
    this.#until = Number.isNaN(until) ? null : until;
    this.#banned = !problem || this.#until !== null;
    this.#schedule();
    const words = refusalWords(problem, this.#room);
    put(heading, words.heading);
    put(text, words.text);
    text.hidden = words.text === "";
    other.hidden = this.#banned || problem.status !== 403;
    this.#draw();
  }

  #schedule() {
    this.#asked = Date.now();
    this.#returnAt = (this.#until ?? 0) + Math.random() * spread;
    if (this.#returnAt > this.#asked) {
      this.#late = late;
    } else {
      this.#returnAt = this.#asked + this.#late;
      this.#late = Math.min(2 * this.#late, interval);
    }
  }

  #draw() {
    const { until } = this.#elements;
    put(until, returnWords(this.#until, Date.now()));
    until.hidden = this.#until === null;
  }

  #showResult(text) {
    put(this.#elements.result, text);
  }

  #tick() {
    if (!document.hidden) this.#draw();
    const now = Date.now();
    if (this.#banned && (now >= this.#returnAt || (!document.hidden && now >= this.#asked + interval))) this.#askNow();
  }

  /** @param {boolean} [byUser]  Whether to show that nothing has changed. */
  async #askNow(byUser = false) {
    if (this.#pending) return;
    const mine = (this.#pending = {});
    this.#asked = Date.now();
    if (byUser) this.#showResult("");
    const problem = await this.#ask();
    if (this.#pending !== mine) return; // another room is shown, or the panel is hidden
    this.#pending = null;
    if (!problem) return;
    const answered = problem.status >= 400 && problem.status < 500;
    if (answered) this.#learn(problem);
    else this.#schedule(); // the last answer stands
    if (byUser) this.#showResult(answered ? stillWords(this.#until, Date.now()) : "The server does not answer.");
  }
}
