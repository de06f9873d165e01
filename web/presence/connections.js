/**
 * The streams that a browser may open to a host at the same time. A browser opens at most six
 * HTTP/1.1 connections to a host, for all its tabs together, and each stream occupies one. A
 * seventh request waits in the browser without an error. Over HTTP/2 and HTTP/3, the same happens
 * at the server's limit, which is 100 streams or more (RFC 9113, section 6.5.2).
 *
 * Therefore each stream takes one of a limited number of slots, so that a connection remains free
 * for requests. A slot is a Web Lock, so all tabs of an origin share the slots, and the browser
 * frees the slot of a tab that crashes. Without Web Locks, which browsers have in secure contexts
 * only, the rooms of a page share the slots, but different tabs do not.
 */

const http1Slots = 5; // one of six connections stays free
const http2Slots = 90; // ten of a hundred streams stay free
const retryTime = 30_000; // milliseconds until an unknown protocol is fetched again

/**
 * Takes a slot. If none is free, it calls `waiting` and waits for one. While the protocol is
 * unknown, it fetches the protocol every 30 s, and calls `waiting` each time. If the browser
 * rejects a lock or has no resource timings, the number of streams has no limit.
 *
 * @param {URL} url  The URL of the server.
 * @param {AbortSignal} signal  Ends the wait.
 * @param {() => void} waiting
 * @returns {Promise<(() => void) | null>}  The function that frees the slot. null if the signal was
 *   aborted.
 */
export async function takeSlot(url, signal, waiting) {
  const free = await findSlot(url, signal, waiting).catch(() => () => {});
  if (!signal.aborted) return free;
  free?.();
  return null;
}

/**
 * @param {URL} url
 * @param {AbortSignal} signal
 * @param {() => void} waiting
 */
async function findSlot(url, signal, waiting) {
  const locks = (await sharedLocks()) ?? pageLocks;
  if (signal.aborted) return null; // React closes a room at once, and joins again
  let protocol = protocolOf(url.origin);
  let slots = slotsOf(url, protocol);
  let free = await takeFree(locks, slots);
  while (!free && !signal.aborted) {
    if (protocol === "") {
      protocol = await fetchProtocol(url);
      slots = slotsOf(url, protocol);
      free = await takeFree(locks, slots);
      if (free || signal.aborted) break;
    }
    waiting();
    free = await takeNext(locks, slots, signal, protocol === "" ? retryTime : null);
  }
  return free;
}

/**
 * The locks that this module uses: a part of the LockManager of browsers.
 *
 * @typedef {object} Locks
 * @property {(name: string, options: LockOptions, run: (lock: any) => any) => Promise<any>} request
 * @property {() => Promise<{held?: {name?: string}[]}>} query
 */

/** Returns the browser's locks. null in an insecure context or in a sandbox. */
export async function sharedLocks() {
  const locks = globalThis.navigator?.locks;
  return locks ? locks.query().then(() => locks, () => null) : null;
}

/**
 * @param {URL} url
 * @param {string} protocol
 */
function slotsOf({ origin }, protocol) {
  const length = /^h[23]/.test(protocol) ? http2Slots : http1Slots;
  return Array.from({ length }, (_, i) => `presence stream ${i} ${origin}`);
}

/**
 * Takes a lock, and returns the function that releases it. Returns null if the lock is not
 * available.
 *
 * @param {Locks} locks
 * @param {string} name
 * @param {LockOptions} options
 * @returns {Promise<(() => void) | null>}
 */
function take(locks, name, options) {
  return new Promise((resolve, reject) => {
    const granted = (/** @type {any} */ lock) => lock && new Promise((/** @type {(value?: any) => void} */ release) => resolve(release));
    locks.request(name, options, granted).then(() => resolve(null), reject);
  });
}

/**
 * @param {Locks} locks
 * @param {string[]} slots
 */
async function takeFree(locks, slots) {
  const { held = [] } = await locks.query();
  const taken = new Set(held.map(({ name }) => name));
  for (const name of slots) {
    const release = taken.has(name) ? null : await take(locks, name, { ifAvailable: true });
    if (release) return release;
  }
  return null;
}

/**
 * Waits for the first slot that is freed. Returns null if none is freed in time.
 *
 * @param {Locks} locks
 * @param {string[]} slots
 * @param {AbortSignal} signal
 * @param {number|null} ms  The longest wait. null means that it has no limit.
 */
async function takeNext(locks, slots, signal, ms) {
  if (signal.aborted) return null;
  const over = new AbortController();
  const end = () => over.abort();
  signal.addEventListener("abort", end);
  const timer = ms === null ? undefined : setTimeout(end, ms);
  const waits = slots.map((name) => take(locks, name, { signal: over.signal }));
  const first = await Promise.any(waits).catch((error) => {
    if (!over.signal.aborted) throw error;
    return null;
  });
  signal.removeEventListener("abort", end);
  clearTimeout(timer);
  end();
  // Several slots may be granted at the same time.
  for (const wait of waits) wait.then((release) => release === first || release?.(), () => {});
  return first;
}

/**
 * Returns the protocol of the last response of the origin, such as "h2" or "http/1.1". Returns ""
 * if no response is known, or if the browser hides it: another origin must send
 * Timing-Allow-Origin.
 *
 * @param {string} origin
 */
function protocolOf(origin) {
  const entries = ["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type));
  const known = entries.filter((/** @type {any} */ { name, nextHopProtocol }) => nextHopProtocol && name.startsWith(`${origin}/`));
  return /** @type {any} */ (known.at(-1))?.nextHopProtocol ?? "";
}

/**
 * Returns the protocol of the origin. If it is unknown, it sends a request first. Concurrent calls
 * share one request.
 *
 * @param {URL} url
 * @returns {Promise<string>}
 */
async function fetchProtocol(url) {
  const known = protocolOf(url.origin);
  if (known !== "" || !globalThis.PerformanceObserver) return known;
  let probe = probes.get(url.origin);
  if (!probe) {
    probe = sendProbe(new URL("healthz", url).href).finally(() => probes.delete(url.origin));
    probes.set(url.origin, probe);
  }
  return probe;
}

/** @type {Map<string, Promise<string>>} */
const probes = new Map(); // the requests that are in progress, by origin

/**
 * Sends a request, and returns its protocol. Waits at most 2 s. An observer receives the timing of
 * the request also if the browser keeps no more timings, as it does after 250 of them.
 *
 * @param {string} href
 * @returns {Promise<string>}
 */
function sendProbe(href) {
  return new Promise((resolve) => {
    const end = (protocol = "") => {
      observer.disconnect();
      resolve(protocol);
    };
    const observer = new PerformanceObserver((list) => {
      const [entry] = list.getEntriesByName(href);
      if (entry) end(/** @type {any} */ (entry).nextHopProtocol);
    });
    observer.observe({ type: "resource" });
    const signal = AbortSignal.timeout(2000);
    signal.addEventListener("abort", () => end());
    fetch(href, { cache: "no-store", signal }).then((response) => response.text()).catch(() => end());
  });
}

/**
 * Locks that only this page knows, with the part of the Web Locks API that this module uses.
 *
 * @type {Locks}
 */
const pageLocks = {
  async request(name, { ifAvailable = false, signal }, run) {
    const queue = queues.get(name) ?? [];
    if (ifAvailable && queue.length > 0) return run(null);
    queues.set(name, queue);
    await new Promise((/** @type {(value?: any) => void} */ resolve, reject) => {
      queue.push(resolve);
      if (queue.length === 1) resolve();
      signal?.addEventListener("abort", () => {
        // The holder, which is the first in the queue, keeps the lock.
        const i = queue.indexOf(resolve);
        if (i > 0) queue.splice(i, 1);
        reject(signal.reason);
      });
    });
    try {
      return await run({ name });
    } finally {
      queue.shift();
      if (queue.length === 0) queues.delete(name);
      queue[0]?.();
    }
  },

  async query() {
    return { held: [...queues.keys()].map((name) => ({ name })) };
  },
};

/** @type {Map<string, (() => void)[]>} */
const queues = new Map(); // the holder of each lock of this page, and its waiters
