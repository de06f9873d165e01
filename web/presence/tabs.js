/**
 * One link for all tabs of a browser. A Web Lock elects the leader tab. The leader holds the link
 * and sends its events to the follower tabs over a BroadcastChannel. When the leader closes or
 * crashes, the browser grants the lock to another tab, which resumes from its own position. If the
 * leader is frozen or hangs, another tab takes the lock from it.
 */
import { sharedLocks } from "./connections.js";
import { catchUp, endsToken, isNew, reaches, serverEvents, silence } from "./state.js";

/**
 * @import { StreamEvent } from "./eventstream.js"
 * @import { ConnectionChange, Sink } from "./link.js"
 * @import { LoggedMessage } from "./state.js"
 */

/**
 * The messages between tabs. A term is the period during which one tab leads. A later term has a
 * higher number.
 *
 * - `hello`: a tab asks the leader for the events after its position `held`.
 * - `welcome`: the leader replies to that tab.
 * - `lead`: a new leader announces its term to all tabs.
 * - `event`, `change`: the leader passes on an event or a change of its connection to all tabs.
 *
 * @typedef {{kind: "hello", from: string, held: string}
 *   | {kind: "welcome", to: string, held: string, term: number, change: ConnectionChange|null, events: StreamEvent[]}
 *   | {kind: "lead", term: number}
 *   | {kind: "event", term: number, prev: string, event: StreamEvent}
 *   | {kind: "change", term: number, change: ConnectionChange}} TabMessage
 */

const logLength = 100; // messages that a tab keeps for replay to other tabs

/**
 * The time after which a leader without a reply counts as frozen or hung, in milliseconds. A tab
 * waits for this time or up to twice as long, so that several tabs do not take over together.
 */
const helloTimeout = 1000;

export class Tabs {
  #key;
  #sink;
  /** @type {(sink: Sink) => {stop(): void, alive: boolean}} */
  #open;
  #shared;
  #id = randomId();
  #channel;
  #term = 0; // the highest known term
  #lead = 0; // this tab's term, while it leads
  /** @type {LoggedMessage[]} */
  #log = []; // the last messages, up to the position of this tab and without a gap
  #asking = false; // whether a `hello` awaits its `welcome`
  /** @type {{stop(): void, alive: boolean}|null} */
  #link = null; // the link, while this tab leads
  #release = () => {}; // releases the lock
  #queueing = new AbortController(); // aborting it withdraws the lock request
  #stopped = false;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #timer;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #starting; // starts to lead, after the lock was granted

  /**
   * @param {string} key  Tabs with the same key share one link.
   * @param {Sink} sink
   * @param {(sink: Sink) => {stop(): void, alive: boolean}} open  Opens the link.
   * @param {(role: "leading"|"following") => void} shared  Receives the role of this tab.
   */
  constructor(key, sink, open, shared) {
    this.#key = key;
    this.#sink = sink;
    this.#open = open;
    this.#shared = shared;
    this.#channel = new BroadcastChannel(key);
    this.#channel.onmessage = ({ data }) => {
      try {
        this.#receive(data);
      } catch {
        // Another script of the origin has posted a message of another form.
      }
    };
    this.#queue(false);
    this.#ask();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#starting);
    this.#queueing.abort();
    this.#link?.stop();
    this.#channel.close();
    // After `removed` or `signed out`, the lock is released with a delay, because the followers
    // must receive the event before one of them takes over. After any other reason it is released
    // immediately, because no timer may run in a page in the back/forward cache.
    const { reason } = this.#sink.state();
    if (reason === "removed" || reason === "signed out") setTimeout(this.#release, 250);
    else this.#release();
  }

  /**
   * Waits for the lock, and leads while this tab holds the lock.
   *
   * @param {boolean} steal  Whether to take the lock from its holder.
   */
  async #queue(steal) {
    this.#queueing.abort();
    const { signal } = (this.#queueing = new AbortController());
    while (!this.#stopped && !signal.aborted) {
      const options = steal ? { steal } : { signal };
      steal = false;
      const end = await navigator.locks.request(this.#key, options, () => this.#onGranted()).catch((error) => error);
      clearTimeout(this.#starting);
      // An AbortError means that the lock was stolen, or that this tab withdrew its request.
      // Otherwise the lock was released, or the document is no longer active.
      if (end?.name !== "AbortError") return;
      if (this.#link && !this.#stopped) this.#onStolen();
    }
  }

  // Called when the lock is granted. The lock is held until the returned promise resolves.
  #onGranted() {
    const held = new Promise((/** @type {(value?: any) => void} */ resolve) => (this.#release = resolve));
    if (this.#stopped) {
      this.#release();
      return held;
    }
    // The browser grants the lock to a frozen tab too. The timers of a frozen tab do not run, so it
    // does not lead, and another tab takes the lock from it.
    this.#starting = setTimeout(() => this.#start(), 0);
    return held;
  }

  #start() {
    clearTimeout(this.#timer);
    this.#asking = false;
    this.#announce();
    this.#shared("leading");
    /** @type {Sink} */
    const sink = {
      state: this.#sink.state,
      event: (event) => {
        const { lastEventId: prev } = this.#sink.state();
        if (endsToken(event)) this.#handOver("expired");
        else this.#post({ kind: "event", term: this.#lead, prev, event });
        this.#deliver(event, prev);
      },
      change: (change) => {
        if (change.to === "closed") this.#handOver("lost");
        else this.#post({ kind: "change", term: this.#lead, change });
        this.#sink.change(change);
      },
    };
    if (this.#sink.state().connection === "open") sink.change({ to: "connecting", reason: "lost" });
    else this.#dropWaiting();
    if (!this.#stopped) this.#link = this.#open(sink);
  }

  // Called when this tab's token has expired or was rejected. The other tabs must reconnect instead
  // of closing, because one of them may have a valid token.
  /** @param {string} reason */
  #handOver(reason) {
    this.#post({ kind: "change", term: this.#lead, change: { to: "connecting", reason } });
  }

  #announce() {
    // The random fraction makes the term unique. Without it, another tab that starts in the same
    // millisecond and knows the same terms would choose the same term.
    this.#lead = this.#term = Math.max(Math.floor(this.#term) + 1, Date.now()) + Math.random();
    this.#post({ kind: "lead", term: this.#lead });
  }

  // Called when another tab has stolen the lock.
  #onStolen() {
    this.#link?.stop();
    this.#link = null;
    this.#ask();
  }

  /** @param {TabMessage} message */
  #receive(message) {
    if (this.#stopped || (message?.kind !== "hello" && !isTerm(message?.term))) return; // posted by another script
    if (message.kind === "hello") {
      // A frozen tab must not reply, because it receives no events. Another tab then takes over.
      if (this.#link?.alive) this.#welcome(message.from, message.held);
      return;
    }
    // Deliver a message even if the tab that sent it no longer leads.
    if (message.kind === "event" && !serverEvents.has(message.event.name) && this.#follows(message.prev)) {
      this.#deliver(message.event, message.prev);
    }
    const before = this.#term;
    this.#term = Math.max(before, message.term);
    if (this.#link) {
      // The sender claims to lead, but only the tab with the lock leads. If this tab still holds
      // the lock after the wait, the sender had lost it without noticing.
      if (message.term < this.#lead) return;
      this.#wait(250, () => this.#announce());
    } else if (message.kind === "welcome" && message.to === this.#id && message.term >= before) {
      this.#onWelcome(message);
    } else if (message.term > before) {
      this.#ask(); // the sender is a new leader, which has not seen an earlier `hello`
    } else if (message.term === before) {
      // A `reset` applies to the leader's position. If this tab has another position, the messages
      // after it may still be available from the leader or the server.
      const { lastEventId: held } = this.#sink.state();
      const other = message.kind === "event" && message.event.name === "reset" && message.prev !== held;
      const missing = other || (message.kind === "event" && !this.#follows(message.prev));
      if (!this.#asking) missing ? this.#ask() : this.#noteActivity();
      if (message.kind === "change") this.#sink.change(message.change);
      else if (message.kind === "event" && !missing) this.#deliver(message.event, message.prev);
    }
  }

  /** @param {TabMessage & {kind: "welcome"}} message */
  #onWelcome({ held, change, events }) {
    const { lastEventId } = this.#sink.state();
    // The position has changed since the `hello`, because messages arrived. Ask again if the reply
    // does not continue from the new position.
    const lost = events[0]?.name === "reset" ? events[0].id : null;
    if (held !== lastEventId && (lost !== null || !reaches(lastEventId, held))) return this.#ask();
    // The leader lacks the missed messages, but the server may have them. The server replays them
    // only to a tab that leads, so take over, unless this tab is frozen.
    if (lost !== null && reaches(lost, held)) return this.#wait(0, () => this.#queue(true));
    this.#asking = false;
    this.#noteActivity();
    if (change) this.#sink.change(change);
    for (const event of events) this.#deliver(event, this.#sink.state().lastEventId);
  }

  /**
   * Reports whether this tab has received all messages up to position `prev`.
   *
   * @param {string} prev
   */
  #follows(prev) {
    const { lastEventId: held } = this.#sink.state();
    return held === prev || reaches(held, prev);
  }

  /**
   * @param {StreamEvent} event
   * @param {string} prev
   */
  #deliver(event, prev) {
    if (!isNew(this.#sink.state(), event.name, event.id)) return;
    if (event.name === "reset") this.#log = [];
    if (!serverEvents.has(event.name)) {
      this.#log.push({ event, prev });
      if (this.#log.length > logLength) this.#log.shift();
    }
    this.#sink.event(event);
  }

  /**
   * @param {string} to
   * @param {string} held
   */
  #welcome(to, held) {
    const state = this.#sink.state();
    const { connection, reason, problem, retryAt } = state;
    /** @type {ConnectionChange|null} */
    const change = connection === "open" ? null : { to: "connecting", reason, problem: problem ?? undefined, retryAt };
    this.#post({ kind: "welcome", to, held, term: this.#lead, change, events: catchUp(state, this.#log, held) });
  }

  // Asks the leader for the missing events. If there is no leader, no tab replies, but the browser
  // is about to grant the lock to a tab. If the leader's page is frozen or hangs, in a dialog or in
  // an endless loop, this tab steals the lock.
  #ask() {
    this.#dropWaiting();
    this.#asking = true;
    this.#shared("following");
    this.#post({ kind: "hello", from: this.#id, held: this.#sink.state().lastEventId });
    this.#wait(helloTimeout * (1 + Math.random()), () => this.#queue(true));
  }

  // Drops the changes that wait for a `sync`. The next `sync` may come from another leader, or from
  // this tab's own stream, and then it is newer than these changes.
  #dropWaiting() {
    const { connection, reason, problem, retryAt, waiting } = this.#sink.state();
    if (connection !== "connecting" || waiting.length === 0) return;
    this.#sink.change({ to: "connecting", reason, problem: problem ?? undefined, retryAt });
  }

  #noteActivity() {
    // Ask after the limit of the leader itself, so that a leader that noticed nothing is overdue.
    this.#wait(silence(this.#sink.state()) + 100, () => this.#ask());
  }

  /**
   * @param {number} ms
   * @param {() => void} then
   */
  #wait(ms, then) {
    clearTimeout(this.#timer);
    if (!this.#stopped) this.#timer = setTimeout(then, ms);
  }

  /** @param {TabMessage} message */
  #post(message) {
    if (!this.#stopped) this.#channel.postMessage(message);
  }
}

/**
 * Reports whether a value is a term, to which a later term can be found. Without a limit, one
 * message of another script would make all later terms equal, or NaN, which is never the latest.
 *
 * @param {any} term
 */
const isTerm = (term) => Number.isFinite(term) && term < 2 ** 50;

/** Returns a random message id. With 128 random bits, no two clients generate the same id. */
export const randomId = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

/**
 * Reports whether tabs can share a connection. They cannot in an insecure context or in a sandbox.
 * They also cannot if the browser or a script of the page rejects each channel or each lock.
 */
export async function canShare() {
  try {
    const name = `presence ${randomId()}`;
    new BroadcastChannel(name).close();
    const locks = await sharedLocks();
    return locks !== null && (await locks.request(name, {}, () => true));
  } catch {
    return false;
  }
}
