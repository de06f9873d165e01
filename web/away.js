/**
 * Sets the status of the user to "away" while no tab of this browser shows the room. Each visible
 * tab holds a shared lock. A hidden tab releases it, waits, and sets the status only if no tab
 * holds the lock. Without locks, as on a page over plain HTTP, it sets the status without that
 * check.
 */
import { statusOf } from "./words.js";

const patience = 2000; // milliseconds. A glance at another tab is no absence; also the shortest time between two returns

export class Away {
  #room;
  #me;
  #lock;
  #release = null; // releases the lock
  #timer = null; // ends the wait
  #returned = -Infinity; // time of the last return
  #before; // the status before "away"
  #unsent; // the page is hidden, and "away" is not sent yet
  #ended = new AbortController();

  /**
   * @param {import("./presence.js").Room} room
   * @param {string} me  The user's id.
   */
  constructor(room, me) {
    this.#room = room;
    this.#me = me;
    this.#lock = `presence visible ${room.url.pathname} ${me}`;
    document.addEventListener("visibilitychange", () => this.#turn(), { signal: this.#ended.signal });
    room.on("state", () => this.#plan());
    this.#turn();
  }

  end() {
    this.#ended.abort();
    this.#release?.();
    clearTimeout(this.#timer);
  }

  #turn() {
    this.#unsent = document.hidden;
    clearTimeout(this.#timer);
    this.#timer = null;
    if (document.hidden) this.#release?.();
    else this.#hold();
    this.#plan();
  }

  #hold() {
    if (this.#release) return;
    const { signal } = this.#ended;
    const held = new Promise((/** @type {(value?: any) => void} */ resolve) => {
      this.#release = () => {
        this.#release = null;
        resolve();
      };
    });
    navigator.locks?.request(this.#lock, { mode: "shared", signal }, () => held).catch(() => {}); // ended in the meantime
  }

  // The status is decided when the wait is over. There is one wait at a time.
  #plan(wait = document.hidden ? patience : Math.max(0, this.#returned + patience - performance.now())) {
    if (this.#ended.signal.aborted || !this.#wrong()) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#settle();
    }, wait);
  }

  // The viewer's own info. undefined if the room does not list it, or if it is not an object, which
  // a status needs.
  #info() {
    const { connection, members } = this.#room.state;
    const info = connection === "open" ? members.get(this.#me)?.info : undefined;
    return info?.constructor === Object ? info : undefined;
  }

  // A hidden page sends "away" once, as another device of the user may know better. A visible page
  // always corrects "away".
  #wrong() {
    const info = this.#info();
    if (info === undefined) return false;
    return document.hidden ? this.#unsent : statusOf(info) === "away";
  }

  async #settle() {
    if (!this.#wrong()) return;
    const hidden = document.hidden;
    const elsewhere = hidden && (await this.#elsewhere());
    if (hidden !== document.hidden || this.#ended.signal.aborted) return;
    if (elsewhere) return this.#plan(10 * patience); // that tab may close without notice
    const info = this.#info();
    if (info === undefined) return; // lost in the meantime; the state that restores it calls #plan() again
    if (hidden) this.#unsent = false;
    const { status, ...rest } = info;
    if ((status === "away") === hidden) return;
    if (hidden) this.#before = status;
    else this.#returned = performance.now();
    const next = hidden ? "away" : this.#before;
    // The stream reports errors.
    await this.#room.setState(next === undefined ? rest : { ...rest, status: next }).catch(() => {});
  }

  // Reports whether another tab of this browser is visible.
  async #elsewhere() {
    const { held = [] } = (await navigator.locks?.query().catch(() => null)) ?? {};
    return held.some(({ name }) => name === this.#lock);
  }
}
