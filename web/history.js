/**
 * Messages from before the user came. The page shows the newest ones of the history, and a button
 * loads earlier ones.
 */
import { put } from "./dom.js";
import { maxRead } from "./messages.js";
import { sentence } from "./words.js";

const pageSize = 50;
const sizeAfterGap = 200; // as many as the list shows
const maxPages = 10; // maximum number of pages without a new message that are skipped at once

/**
 * @typedef {object} Page  A page of the history, newest message last.
 * @property {(import("./presence.js").Message & {event: string})[]} messages
 * @property {string} [next]  The `before` of the page with earlier messages, if there are any.
 */

export class Earlier {
  #elements;
  #messages;
  #ask;
  #names;
  #before = null; // position before which the history may have messages; "" for its end
  #wanted = 0; // number of messages to load when the room is next in sync
  #supported = true; // whether the server has a history
  #loading = null; // identifies the current request
  #cut = null; // if rows were removed during that request: the position of the oldest remaining one

  /**
   * @param {object} elements
   * @param {HTMLElement} elements.log
   * @param {HTMLElement} elements.button  The button that loads earlier messages.
   * @param {HTMLElement} elements.note  Describes the result of the button.
   * @param {import("./messages.js").Messages} messages
   * @param {(options: {limit: number, before?: string}) => Promise<Page>} ask
   * @param {Set<string>} names  The event names that the page shows.
   */
  constructor(elements, messages, ask, names) {
    this.#elements = elements;
    this.#messages = messages;
    this.#ask = ask;
    this.#names = names;
  }

  /** Forgets the history of the previous room. */
  clear() {
    this.#loading = null;
    this.#wanted = pageSize;
    this.#setBefore(null);
    put(this.#elements.note, "");
  }

  /** Loads the newest messages again when the room is next in sync, because some may be missing. */
  missed() {
    this.#wanted = sizeAfterGap;
  }

  /** Loads the newest messages, unless they are known. @param {?string} me  The viewer's id. */
  async synced(me) {
    const limit = this.#wanted;
    if (limit === 0) return;
    this.#wanted = 0;
    if (this.#supported) {
      await this.#load("", limit, me).catch(() => {
        // The button tries again. The stream reports the same errors.
        this.#setBefore("");
      });
    }
    if (!this.#supported) this.#messages.rest("Messages appear here.");
  }

  /** Loads the page of earlier messages. @param {?string} me  The viewer's id. */
  async more(me) {
    if (this.#loading || this.#before === null) return;
    const { log, button, note } = this.#elements;
    const had = this.#messages.count;
    put(note, "");
    try {
      if (!(await this.#load(this.#before, pageSize, me))) return;
    } catch (error) {
      return put(note, sentence(`Earlier messages cannot be shown: ${error.message}`));
    }
    const added = this.#messages.count - had;
    const full = this.#messages.count >= maxRead;
    if (full) this.#setBefore(null);
    const none = added <= 0 && this.#before === null;
    put(note, full ? `Only ${maxRead} messages are shown here.` : none ? "No earlier messages." : "");
    if (document.activeElement === button || document.activeElement === document.body) log.focus({ preventScroll: true });
  }

  /** Takes note that the rows before a position were removed from the list. */
  trimmed(oldest) {
    this.#cut = oldest;
    if (this.#supported) this.#setBefore(oldest);
  }

  /** Loads messages and shows them. Returns false if the user has left the room meanwhile. */
  async #load(before, limit, me) {
    const loading = (this.#loading = {});
    this.#cut = null;
    try {
      for (let pages = 1; ; pages++) {
        const { messages, next } = await this.#ask({ limit, ...(before && { before }) });
        if (this.#loading !== loading) return false;
        const shown = messages.filter(({ id, event }) => this.#names.has(event) && !(this.#cut && isOlder(id, this.#cut)));
        // Messages older than the removed ones would leave a hole. Newer ones close a gap.
        if (this.#cut) {
          this.#messages.fill(shown, me);
          return true;
        }
        const had = this.#messages.count;
        this.#messages.fill(shown, me);
        // After a gap, earlier pages may have messages that are in the list already.
        const found = before === "" ? shown.length > 0 : this.#messages.count > had;
        this.#setBefore((before = next ?? null));
        if (found || before === null || pages === maxPages) break;
      }
      if (before === null) this.#messages.rest("No recent messages.");
      return true;
    } catch (error) {
      if ([404, 405].includes(error.problem?.status)) this.#supported = false;
      if (this.#loading !== loading) return false;
      throw error;
    } finally {
      if (this.#loading === loading) this.#loading = null;
    }
  }

  #setBefore(before) {
    this.#before = before;
    this.#elements.button.hidden = before === null || !this.#supported;
  }
}

/** Whether a position is before another one. Those of different epochs cannot be compared. */
function isOlder(id, other) {
  const [[epoch, seq], [otherEpoch, otherSeq]] = [id, other].map((position) => position.split(/-(?=\d+$)/));
  return epoch === otherEpoch && Number(seq) < Number(otherSeq);
}
