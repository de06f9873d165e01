/**
 * The connection of one room. It reconnects automatically, detects a dead stream, and renews the
 * token.
 */
import { takeSlot } from "./connections.js";
import { decode, fresh, isStream } from "./eventstream.js";
import {
  PresenceError, backoff, emptyToken, errorOf, fromCallback, isOffline, isTransient, noResponse, renewalTimeout, report, requestTimeout, retryTime,
} from "./request.js";
import { dataOf, endsToken, silence } from "./state.js";

/**
 * @import { StreamEvent } from "./eventstream.js"
 * @import { Address, Problem } from "./request.js"
 * @import { State } from "./state.js"
 */

/**
 * The receiver of the events and of the changes of a link, in order. Tabs that share a link pass
 * them on.
 *
 * @typedef {object} Sink
 * @property {() => State} state  Returns the current state.
 * @property {(event: StreamEvent) => void} event
 * @property {(change: ConnectionChange) => void} change
 *
 * @typedef {{to: "connecting", reason: string|null, problem?: Problem, retryAt?: number|null} | {to: "closed", problem: Problem} | {to: "renewed"}} ConnectionChange
 *   A change of the connection that no event reports.
 *
 * @typedef {object} End  The result of a connection attempt that has ended.
 * @property {string} reason  As in State.
 * @property {Problem} [problem]  The cause, if it is known.
 * @property {number} [after]  Milliseconds that the server asked the client to wait.
 * @property {boolean} [expired]  Whether the token of this tab has expired. With `share`, the reason
 *   is also "expired" after the token of another tab has expired.
 * @property {boolean} [causeUnknown]  Whether an EventSource failed, which does not report the
 *   cause.
 */

const lateness = 1000; // milliseconds by which timers of background tabs are late

/**
 * The upper bound of the remaining lifetime of a token, in seconds. A timer with a delay of 2^31 ms
 * or more fires at once, so failed renewals would be repeated without a wait.
 */
const longestLifetime = 86_400;

export class Link {
  #address;
  #sink;
  #names;
  #stopped = new AbortController();
  #synced = false; // whether `sync` arrived since the last call of #recover
  #everSynced = false; // whether `sync` arrived at least once
  #tries = 0; // failed attempts since the last `sync`
  #renewals = 0; // renewals of an expired or rejected token since the last `sync`
  #brief = 0; // consecutive streams that ended within a second of their `sync`
  #reported = false; // whether an error of the token callback was reported
  #tokenFreshAt = 0; // last time at which the token was known to be new
  #lastActivity = 0; // time at which the last data arrived
  #due = Infinity; // time at which one of the timers below must run, on the clock of performance.now()
  #goodbye = false; // whether the current connection has received `goodbye`
  #suspect = false; // whether the browser was offline, or the page was frozen, and no data arrived since then
  /** @type {EventSource|null} */
  #source = null;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #silenceTimer; // ends an attempt that receives no data, or watches the timers without an attempt
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #renewTimer; // starts the next renewal of the token
  #end = (/** @type {End} */ _) => {}; // ends the current attempt
  #wake = () => {}; // ends the current wait

  /**
   * @param {Address} address
   * @param {Sink} sink
   * @param {(() => Iterable<string>) | null} names  Returns the names of the events to receive.
   *   null means all events. That requires fetch(), because an EventSource delivers only the events
   *   for which it has a listener.
   */
  constructor(address, sink, names) {
    this.#address = address;
    this.#sink = sink;
    this.#names = names;
    const { signal } = this.#stopped;
    globalThis.addEventListener?.("online", () => this.#checkAlive(), { signal });
    globalThis.addEventListener?.("offline", () => this.#wentOffline(), { signal });
    globalThis.document?.addEventListener("visibilitychange", () => document.hidden || this.#checkAlive(), { signal });
    globalThis.document?.addEventListener("resume", () => this.#wasFrozen(), { signal });
    this.#run();
  }

  stop() {
    this.#stopped.abort();
    clearTimeout(this.#renewTimer);
    this.#end({ reason: "stopped" });
    this.#wake();
  }

  /**
   * Whether the timers of the tab run. The browser stops the timers of a frozen tab and its network
   * reads, but it still calls the handlers of messages from other tabs.
   */
  get alive() {
    return isOffline() || performance.now() < this.#due;
  }

  /** Receives the events with this name too. @param {string} name */
  listen(name) {
    this.#source?.addEventListener(name, ({ data, lastEventId }) => this.#deliver({ name, text: data, id: lastEventId }));
  }

  async #run() {
    const { signal } = this.#stopped;
    for (let causeUnknown = false; !signal.aborted; ) {
      /** @type {End} */
      const end = (causeUnknown && (await this.#fetchCause())) || (await this.#attemptInSlot());
      causeUnknown = end.causeUnknown ?? false;
      if (!signal.aborted) await this.#recover(end);
    }
  }

  /**
   * Prepares the next attempt: it renews the token, waits, or does nothing. If there must be no
   * other attempt, it stops the link.
   *
   * @param {End} end
   */
  async #recover({ reason, problem, after = 0, expired = false, causeUnknown }) {
    if (this.#synced) {
      this.#everSynced = true;
      this.#tries = 0;
      this.#renewals = 0;
      this.#brief = Date.now() - this.#tokenFreshAt < 1000 ? this.#brief + 1 : 0;
      this.#synced = false;
    }
    if (this.#sink.state().connection === "closed") return this.stop();
    const refused = problem?.status === 401 && this.#address.credential.renewable && this.#renewals === 0;
    let final = problem !== undefined && !isTransient(problem);
    if (expired || refused) {
      const failure = await this.#renew(false);
      if (this.#stopped.signal.aborted) return;
      if (!failure && this.#renewals++ === 0 && this.#brief <= 1) return;
      if (failure) reason = "token";
      problem = failure ?? undefined;
      final = failure?.status === 401;
    }
    if (problem && final) {
      this.#sink.change({ to: "closed", problem });
      return this.stop();
    }
    const wait = Math.max(after, backoff(this.#tries++));
    const askNow = causeUnknown && !this.#everSynced && this.#tries === 1; // a new page must show the cause
    this.#sink.change({ to: "connecting", reason, problem, retryAt: askNow ? null : retryTime(wait) });
    if (askNow) return;
    if (await this.#pause(wait)) this.#tries = 0;
    if (!this.#stopped.signal.aborted) this.#sink.change({ to: "connecting", reason, problem });
  }

  /**
   * Makes an attempt as soon as the browser has a connection for another stream.
   *
   * @returns {Promise<End>}
   */
  async #attemptInSlot() {
    let waited = false;
    this.#expectWithin(requestTimeout);
    const free = await takeSlot(this.#address.url, this.#stopped.signal, () => {
      if (waited) return;
      waited = true;
      this.#watchTimers();
      this.#sink.change({ to: "connecting", reason: "connections" });
    });
    clearTimeout(this.#silenceTimer);
    if (!free) return { reason: "stopped" };
    if (waited) this.#sink.change({ to: "connecting", reason: null });
    return this.#attempt().finally(free);
  }

  /**
   * Opens one connection, and waits until it ends.
   *
   * @returns {Promise<End>}
   */
  async #attempt() {
    const over = new AbortController();
    const ended = new Promise((/** @type {(end: End) => void} */ resolve) => (this.#end = resolve));
    const resolve = this.#end;
    this.#goodbye = false;
    this.#noteActivity();
    if (this.#stopped.signal.aborted) resolve({ reason: "stopped" });
    else if (this.#names) this.#viaEventSource(this.#names());
    else this.#viaFetch(over.signal).then(resolve, () => resolve({ reason: "lost" }));
    const end = await ended;
    clearTimeout(this.#silenceTimer);
    over.abort();
    this.#source?.close();
    this.#source = null;
    return end;
  }

  // The browser itself reconnects after most errors. It waits for the time in the server's `retry:`
  // field, which scripts cannot read.
  /** @param {Iterable<string>} names */
  #viaEventSource(names) {
    let source;
    try {
      source = new EventSource(this.#events(), { withCredentials: this.#address.withCredentials });
    } catch {
      // WebKit throws if the Content-Security-Policy of the page does not allow the server.
      return this.#end({ reason: this.#whyNotOpen(), causeUnknown: true });
    }
    this.#source = source;
    let opened = false; // whether the browser has received a stream since the last error
    source.onopen = () => {
      opened = true;
      this.#noteActivity();
    };
    source.onerror = () => {
      const reason = this.#whyNotOpen();
      // After a failed attempt to reconnect, fetch the cause. A browser repeats the attempts every
      // few seconds without a limit.
      if (reason === "offline" || source.readyState === EventSource.CLOSED || !opened) return this.#end({ reason, causeUnknown: true });
      opened = this.#goodbye = false;
      this.#noteActivity();
      this.#sink.change({ to: "connecting", reason });
    };
    for (const name of names) this.listen(name);
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Promise<End>}
   */
  async #viaFetch(signal) {
    let bearer;
    try {
      bearer = await this.#address.credential.fetchOptions();
    } catch (error) {
      return { reason: "token", problem: this.#callbackFailed(error) };
    }
    const headers = { ...bearer.headers, Accept: "text/event-stream" };
    const { lastEventId: requested } = this.#sink.state();
    let response;
    try {
      response = await fetch(this.#events(), { ...bearer, headers, cache: "no-store", signal });
    } catch (error) {
      return { reason: this.#whyNotOpen(), problem: noResponse(this.#address.url, error).problem };
    }
    if (response.status !== 200 || !response.body || !isStream(response.headers.get("Content-Type"))) {
      const { problem, after } = await errorOf(response, this.#address.url);
      return { reason: this.#whyNotOpen(), problem, after };
    }
    const text = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let partial = fresh(requested);
    for (;;) {
      const { value } = await text.read().catch(() => ({ value: undefined }));
      if (value === undefined || signal.aborted) break;
      this.#noteActivity();
      const { events, ...rest } = decode(partial, value);
      partial = rest.partial;
      for (const event of events) {
        // A message from another tab has moved the position since the request. The server may still
        // have the messages after the new position, so reconnect instead of reporting lost
        // messages.
        const moved = !this.#synced && this.#sink.state().lastEventId !== requested;
        if (event.name === "reset" && moved) return { reason: "lost" };
        if (!signal.aborted) this.#deliver(event);
      }
    }
    return { reason: this.#whyNotOpen(), after: partial.retry ?? 0 };
  }

  /** @param {StreamEvent} event */
  #deliver(event) {
    this.#noteActivity();
    try {
      this.#sink.event(event);
    } catch {
      // The data is JSON, but not that of the event, so it is not from a presence server.
      const problem = { title: "Unexpected event", status: 0, detail: `no presence server at ${this.#address.url}` };
      return this.#end({ reason: "lost", problem });
    }
    if (event.name === "goodbye") this.#goodbye = true;
    if (event.name === "sync") {
      this.#synced = true;
      this.#tokenFreshAt = Date.now();
    }
    if (this.#sink.state().connection === "closed") this.#end({ reason: "closed" });
    else if (endsToken(event)) this.#end({ reason: "expired", expired: true });
    else if (event.name === "expiring") this.#prolong(dataOf(event)?.in, Date.now() - this.#tokenFreshAt < 5000);
  }

  /**
   * Asks the server why an EventSource failed. Returns null if the server accepts a request now.
   *
   * @returns {Promise<End|null>}
   */
  async #fetchCause() {
    this.#expectWithin(requestTimeout + lateness);
    try {
      await this.#address.request("GET", "presence", { query: { limit: "1" } });
      return null;
    } catch (error) {
      const { problem, after } = /** @type {PresenceError} */ (error);
      return { reason: this.#whyNotOpen(), problem, after, causeUnknown: true };
    }
  }

  // Returns the reason why the stream is not open: that of the `goodbye` with which the server has
  // ended it, if any.
  #whyNotOpen(why = "lost") {
    const { reason } = this.#sink.state();
    if (isOffline()) return "offline";
    return reason === null || !this.#goodbye ? why : reason;
  }

  // Restarts the silence timer. Silence means a dead connection, because the server sends pings
  // even if the room is idle.
  #noteActivity() {
    this.#lastActivity = Date.now();
    this.#suspect = false;
    clearTimeout(this.#silenceTimer);
    const limit = silence(this.#sink.state());
    this.#expectWithin(limit);
    this.#silenceTimer = setTimeout(() => this.#end({ reason: this.#whyNotOpen("silent") }), limit);
  }

  // Keeps the link alive, as long as the timers of the tab run.
  #watchTimers() {
    this.#expectWithin(requestTimeout + lateness);
    this.#silenceTimer = setTimeout(() => this.#watchTimers(), requestTimeout);
  }

  /** Expects that a timer runs within `ms` milliseconds. @param {number} ms */
  #expectWithin(ms) {
    this.#due = performance.now() + ms;
  }

  // Called when the browser is online again or the page is visible again. It compares times,
  // because timers may have been suspended.
  #checkAlive() {
    this.#wake();
    if (this.#suspect || Date.now() - this.#lastActivity >= silence(this.#sink.state())) this.#end({ reason: "silent" });
  }

  // Called if the page was frozen without a `freeze` event. In Chromium, a fetch() body that
  // received data in the meantime delivers no more data.
  #wasFrozen() {
    this.#suspect = true;
    this.#checkAlive();
  }

  // Called when the browser goes offline. An open stream is kept, because it may survive. A wait
  // ends too, so that the next attempt reports the reason.
  #wentOffline() {
    this.#suspect = true;
    if (this.#sink.state().connection === "open") return;
    this.#end({ reason: "offline" });
    this.#wake();
  }

  /**
   * Waits `ms` milliseconds. While the browser is offline, it waits until the browser is online.
   *
   * @param {number} ms
   * @returns {Promise<boolean>}  Whether the wait was cut short.
   */
  async #pause(ms) {
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    let timer;
    const woken = await new Promise((/** @type {(woken: boolean) => void} */ resolve) => {
      this.#wake = () => resolve(true);
      if (isOffline()) return;
      this.#expectWithin(ms + lateness);
      timer = setTimeout(resolve, ms, false);
    });
    clearTimeout(timer);
    return woken;
  }

  /**
   * @param {boolean} open
   * @returns {Promise<Problem|null>}  The problem, or null on success.
   */
  async #renew(open) {
    // Set it before the request, because the stream may warn about the new token before the
    // response arrives.
    this.#tokenFreshAt = Date.now();
    if (!open) this.#expectWithin(renewalTimeout + lateness);
    return this.#address.renew(open).then(() => null, (error) => this.#callbackFailed(error));
  }

  /**
   * Returns the problem of a failed token callback. Until the room was open once, the first error
   * is also reported, because it is then probably an error of the program. An empty token is none:
   * it states that no user is signed in.
   *
   * @param {unknown} error
   */
  #callbackFailed(error) {
    const problem = fromCallback(error);
    const wasOpen = this.#sink.state().connections !== null;
    const expected = error instanceof PresenceError && (isTransient(problem) || problem.detail === emptyToken);
    const { renewable } = this.#address.credential;
    if (renewable && !wasOpen && !expected && !this.#reported && !this.#stopped.signal.aborted) {
      this.#reported = true;
      report(error);
    }
    return problem;
  }

  /**
   * Renews the token now, or after half of its remaining time if `later` is set. `later` is set for
   * a new token whose lifetime is shorter than the server's warning time. A failed renewal is
   * retried after half of the remaining time, as long as at least 2 s remain.
   *
   * @param {number} remaining  Remaining lifetime of the token, in seconds.
   * @param {boolean} later
   */
  async #prolong(remaining, later) {
    // A listener of the warning may have left the room.
    if (!this.#address.credential.renewable || this.#stopped.signal.aborted) return;
    const seconds = Math.min(remaining, longestLifetime);
    clearTimeout(this.#renewTimer); // a warning on an earlier connection may have set it
    if (later) {
      this.#renewTimer = setTimeout(() => this.#prolong(seconds / 2, false), seconds * 500);
      return;
    }
    const failure = await this.#renew(true);
    if (this.#stopped.signal.aborted) return;
    if (!failure) this.#sink.change({ to: "renewed" });
    else if (seconds >= 2) this.#prolong(seconds, true);
  }

  #events() {
    const { lastEventId } = this.#sink.state();
    return this.#address.of("events", lastEventId === "" ? {} : { last_event_id: lastEventId });
  }
}
