/**
 * Tells a room that its user is away while no tab of this browser shows it. Each tab in sight holds a lock that many may
 * hold; a tab that is hidden lets go of it, waits, and tells only if nobody holds one. Without locks, as on a page that
 * came over plain HTTP, it just tells.
 */
import { statusOf } from "./words.js";

const patience = 2000; // milliseconds: a glance at another tab is no absence, and of its end nothing is told more often

export class Away {
  #room;
  #me;
  #lock;
  #release = null; // lets go of the lock
  #timer = null; // the end of the wait
  #told = -Infinity; // when a return was told last
  #before; // the status that "away" took the place of
  #owing; // out of sight, and nothing told yet of it
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
    this.#owing = document.hidden;
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
    navigator.locks?.request(this.#lock, { mode: "shared", signal }, () => held).catch(() => {}); // ended meanwhile
  }

  // What is to be told is seen when the wait is over: whatever happens meanwhile, there is one wait at a time.
  #plan(wait = document.hidden ? patience : Math.max(0, this.#told + patience - performance.now())) {
    if (this.#ended.signal.aborted || !this.#wrong()) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#settle();
    }, wait);
  }

  // The viewer's own info; undefined if the room does not tell it, or it has no place for a status.
  #info() {
    const { connection, members } = this.#room.state;
    const info = connection === "open" ? members.get(this.#me)?.info : undefined;
    return info?.constructor === Object ? info : undefined;
  }

  // Out of sight it is told once, as another of the user's devices may know better; in sight, it is so.
  #wrong() {
    const info = this.#info();
    if (info === undefined) return false;
    return document.hidden ? this.#owing : statusOf(info) === "away";
  }

  async #settle() {
    if (!this.#wrong()) return;
    const hidden = document.hidden;
    const elsewhere = hidden && (await this.#elsewhere());
    if (hidden !== document.hidden || this.#ended.signal.aborted) return;
    if (elsewhere) return this.#plan(10 * patience); // that tab may be closed, and tell nobody
    const info = this.#info();
    if (info === undefined) return; // lost meanwhile: the state that brings it again has this planned again
    if (hidden) this.#owing = false;
    const { status, ...rest } = info;
    if ((status === "away") === hidden) return;
    if (hidden) this.#before = status;
    else this.#told = performance.now();
    const next = hidden ? "away" : this.#before;
    // What is wrong the stream tells.
    await this.#room.setState(next === undefined ? rest : { ...rest, status: next }).catch(() => {});
  }

  // Whether another tab of this browser is in sight.
  async #elsewhere() {
    const { held = [] } = (await navigator.locks?.query().catch(() => null)) ?? {};
    return held.some(({ name }) => name === this.#lock);
  }
}
