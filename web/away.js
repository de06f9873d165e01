/**
 * Sets the user's status to "away" while no tab of this browser shows the room. Each visible tab
 * holds a shared Web Lock. When a tab is hidden, it releases the lock, waits, and sets the status
 * unless another tab holds the lock. If the browser provides no locks, as on a page over plain
 * HTTP, the tab sets the status without that check.
 */
import { statusOf } from "./words.js";

// Milliseconds before a hidden page counts as away, because users often glance at another tab. It
// is also the minimum time between two returns.
const delay = 2000;

export class Away {
  #room;
  #me;
  #lock;
  #release = null; // releases the lock
  #timer = null; // the pending update of the status
  #returned = -Infinity; // time at which the user last returned
  #before; // the last status other than "away"
  #key; // under which the browser keeps that status for other tabs
  #unsent; // whether the page is hidden and "away" has not been sent yet
  #ended = new AbortController();

  /**
   * @param {import("./presence.js").Room} room
   * @param {string} me  The user's id.
   */
  constructor(room, me) {
    this.#room = room;
    this.#me = me;
    this.#lock = `presence visible ${room.url.pathname} ${me}`;
    this.#key = `presence status ${room.url.pathname} ${room.name} ${me}`;
    this.#before = kept(this.#key);
    document.addEventListener("visibilitychange", () => this.#visibilityChanged(), { signal: this.#ended.signal });
    room.on("state", () => {
      this.#learn();
      this.#schedule();
    });
    this.#learn();
    this.#visibilityChanged();
  }

  end() {
    this.#ended.abort();
    this.#release?.();
    clearTimeout(this.#timer);
  }

  #visibilityChanged() {
    this.#unsent = document.hidden;
    clearTimeout(this.#timer);
    this.#timer = null;
    if (document.hidden) this.#release?.();
    else this.#holdLock();
    this.#schedule();
  }

  #holdLock() {
    if (this.#release) return;
    const { signal } = this.#ended;
    const held = new Promise((/** @type {(value?: any) => void} */ resolve) => {
      this.#release = () => {
        this.#release = null;
        resolve();
      };
    });
    // The request fails if end() is called before the lock is granted.
    navigator.locks?.request(this.#lock, { mode: "shared", signal }, () => held).catch(() => {});
  }

  // Schedules an update of the status, unless one is pending. The update decides which status to
  // set.
  #schedule(wait = document.hidden ? delay : Math.max(0, this.#returned + delay - performance.now())) {
    if (this.#ended.signal.aborted || !this.#mustChange()) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#update();
    }, wait);
  }

  // Returns the viewer's own info. Returns undefined if the room does not list the viewer, or if
  // the info is not an object, because only an object can hold a status.
  #info() {
    const { connection, members } = this.#room.state;
    const info = connection === "open" ? members.get(this.#me)?.info : undefined;
    return info?.constructor === Object ? info : undefined;
  }

  // Remembers the status that "away" replaces. Another tab of the user may have set it.
  #learn() {
    const info = this.#info();
    if (info === undefined || statusOf(info) === "away" || info.status === this.#before) return;
    this.#before = info.status;
    keep(this.#key, this.#before);
  }

  // Reports whether the status must change. A hidden page sends "away" only once, because another
  // device of the user may then set another status. A visible page always replaces "away".
  #mustChange() {
    const info = this.#info();
    if (info === undefined) return false;
    return document.hidden ? this.#unsent : statusOf(info) === "away";
  }

  async #update() {
    if (!this.#mustChange()) return;
    const hidden = document.hidden;
    const visible = hidden && (await this.#visibleElsewhere());
    if (hidden !== document.hidden || this.#ended.signal.aborted) return;
    if (visible) return this.#schedule(10 * delay); // that tab may close without notice
    const info = this.#info();
    if (info === undefined) return; // the room was lost, and its next state schedules another update
    if (hidden) this.#unsent = false;
    const { status, ...rest } = info;
    if ((status === "away") === hidden) return;
    if (!hidden) this.#returned = performance.now();
    const next = hidden ? "away" : this.#before;
    // Ignore errors here, because the room's state reports them.
    await this.#room.setState(next === undefined ? rest : { ...rest, status: next }).catch(() => {});
  }

  // Reports whether another tab of this browser is visible.
  async #visibleElsewhere() {
    const { held = [] } = (await navigator.locks?.query().catch(() => null)) ?? {};
    return held.some(({ name }) => name === this.#lock);
  }
}

// A new tab of the user cannot know the status before "away", so the tabs share it in the storage.

function kept(key) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? undefined;
  } catch {
    return undefined; // storage is disabled, or contains other data
  }
}

function keep(key, status) {
  try {
    if (status === undefined) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(status));
  } catch {
    // The tab itself knows the status.
  }
}
