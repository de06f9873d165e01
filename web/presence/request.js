/**
 * HTTP requests to a server: the address of a room, the credential, and the errors.
 */

/**
 * @typedef {object} Problem  A problem document (RFC 9457).
 * @property {string} [type]  URI of the problem type.
 * @property {string} title  Short summary.
 * @property {number} status  HTTP status. 0 if there was no response.
 * @property {string} [detail]  Explanation for people. The text may change between versions.
 * @property {string} [until]  If the user is banned from the room: when the ban ends (RFC 3339).
 *
 * @typedef {object} Options  The options of join().
 * @property {URL|string} [url]  URL at which the server is mounted. Default: the directory of
 *   presence.js. Required in a bundle, because the bundle is loaded from another directory.
 * @property {string} [room]  Room name: 1 to 128 characters of A-Z a-z 0-9 . _ - Default: "lobby".
 * @property {string|(() => string|Promise<string>)} [token]  The token, or a callback that returns
 *   it. The callback runs before the first request, when the server rejects the token, and when the
 *   token is about to expire or has expired. It fails if there is no result within 30 s. Default:
 *   no token. The credential is then the cookie.
 * @property {() => string|void|null|Promise<string|void|null>} [renew]  Callback that renews the
 *   token or the cookie. It runs when the server rejects the credential, for example because there
 *   is no cookie yet, and when the token is about to expire or has expired. A returned token is
 *   sent to `POST session`, which sets the cookie. A callback that has set the cookie itself
 *   returns nothing. The callback fails if there is no result within 30 s. A failed renewal is
 *   retried. Not needed if `token` is a function.
 * @property {boolean} [share]  Whether the tabs of this browser with the same user, room and server
 *   share one connection. Default: false. Sharing requires Web Locks, which browsers provide in
 *   secure contexts only (HTTPS or localhost). Elsewhere, each tab opens its own connection.
 * @property {boolean} [withCredentials]  Whether to send the cookie to another origin. Default:
 *   false.
 * @property {string} [lastEventId]  Position to resume from. The messages after it are replayed
 *   first. Default: "", no replay.
 */

/**
 * The error of a request that the server rejected, or that had no response. `message` can be shown
 * to users: it is the problem's detail, or else its title, or else the HTTP status.
 */
export class PresenceError extends Error {
  /**
   * @param {Problem} problem
   * @param {ErrorOptions & {after?: number}} [options]
   */
  constructor(problem, options) {
    super(problem.detail || problem.title || `HTTP status ${problem.status}`, options);
    this.name = "PresenceError";
    /** @type {Problem} */
    this.problem = problem;
    /** The Retry-After of the response, in milliseconds. 0 if there is none. */
    this.after = options?.after ?? 0;
  }
}

/**
 * Sends an HTTP request and returns the JSON of the response.
 *
 * @param {string} method
 * @param {URL|string} url
 * @param {any} [body]  Sent as JSON. If undefined, the request has no body.
 * @param {RequestInit} [options]  Options of fetch().
 * @returns {Promise<any>}  The JSON of the response. null for status 204.
 * @throws {PresenceError}  If the status is not 2xx, or if there is no response. Also if a 2xx
 *   response is not JSON, because it is then not from a presence server.
 */
export async function request(method, url, body, options = {}) {
  const headers = new Headers(options.headers);
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const init = { cache: /** @type {const} */ ("no-store"), ...options, method, headers, body: JSON.stringify(body) };
  const response = await fetch(url, init).catch((cause) => {
    throw noResponse(url, cause);
  });
  if (!response.ok) throw await errorOf(response, url);
  if (response.status === 204) return null;
  const parsed = isJSON(response) ? await response.json().catch(() => undefined) : undefined;
  if (parsed !== undefined) return parsed;
  throw await errorOf(response, url);
}

/**
 * Returns the error of a request without a response. Browsers do not report whether the server is
 * unreachable or does not allow the origin of the page.
 *
 * @param {URL|string} url
 * @param {unknown} cause  The error of fetch(). A TypeError if a rule of the browser may be the cause.
 */
export function noResponse(url, cause) {
  // The origin of a page in a sandbox is "null", unlike that of its address.
  const { origin = "", document, location } = globalThis;
  let target = origin;
  try {
    target = new URL(url, document?.baseURI ?? location?.href).origin;
  } catch {
    // The URL is invalid, and that is the cause.
  }
  const hidden = cause instanceof TypeError && origin !== "" && target !== origin;
  const detail = `no response from the server${hidden ? `, or this page's origin is not allowed: ${origin}` : ""}`;
  return new PresenceError({ title: "No response", status: 0, detail }, { cause });
}

/** @param {Response} response */
const isJSON = (response) => /\bjson\b/.test(response.headers.get("Content-Type") ?? "");

/**
 * Returns the error for a response that has a problem document or is otherwise unexpected. It has a
 * `detail` in each case. Over HTTP/2 a status has no text.
 *
 * @param {Response} response
 * @param {URL|string} url  The URL of the request.
 * @returns {Promise<PresenceError>}
 */
export async function errorOf(response, url) {
  const { ok, status, statusText, headers } = response;
  const absent = `no presence server at ${url}`;
  if (ok) return new PresenceError({ title: "Unexpected response", status, detail: absent });
  const problem = isJSON(response) ? await response.json().catch(() => null) : null;
  const after = Math.min(1000 * Number(headers.get("Retry-After") ?? 0) || 0, longestWait);
  const text = `HTTP status ${status}${statusText && ` (${statusText})`}`;
  const detail = status === 404 ? `${absent}: ${text}` : text;
  return new PresenceError({ title: statusText || text, detail, ...problem, status }, { after });
}

/**
 * Reports whether the same request may succeed later.
 *
 * @param {Problem} problem
 */
export const isTransient = ({ status }) => status < 400 || status === 408 || status === 425 || status === 429 || status >= 500;

/** The problem of an error. @param {unknown} error */
export const problemOf = (error) => (error instanceof PresenceError ? error.problem : undefined);

/**
 * Returns the problem of an error of a token callback.
 *
 * @param {unknown} error
 * @returns {Problem}
 */
export const fromCallback = (error) => problemOf(error) ?? { title: "Token callback failed", status: 0, detail: textOf(error) };

/** @param {unknown} error */
function textOf(error) {
  try {
    return String(error);
  } catch {
    return "unknown error"; // an object without toString(), for example
  }
}

/** Reports an error as an uncaught exception. @param {unknown} error */
export function report(error) {
  if ("reportError" in globalThis) return reportError(error);
  queueMicrotask(() => {
    throw error;
  });
}

/**
 * Timeout of a request, in milliseconds. Without it, a server that hangs would block a room
 * forever.
 */
export const requestTimeout = 10_000;

const callbackTimeout = 3 * requestTimeout;

/** The longest renewal of a credential, in milliseconds: the callback and a request. */
export const renewalTimeout = callbackTimeout + requestTimeout;

/**
 * The longest wait that a server can ask for, in milliseconds. A browser runs a timer of more than
 * 24 days immediately.
 */
const longestWait = 3_600_000;

/** The credential of a room: a token or the cookie. A callback renews it. */
class Credential {
  #options;
  /** @type {string|null} */
  #token;
  /** @type {Promise<void>|null} */
  #renewing = null;

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    this.#token = typeof options.token === "string" ? options.token : null;
  }

  get isCookie() {
    return this.#options.token === undefined;
  }

  /** Whether a callback can return a new token. */
  get renewable() {
    return this.#renewal !== undefined;
  }

  get #renewal() {
    const { token, renew } = this.#options;
    return renew ?? (typeof token === "function" ? token : undefined);
  }

  /**
   * Returns the fetch() options with the credential. Calls the token callback if there is no token
   * yet.
   *
   * @returns {Promise<{credentials: RequestCredentials, headers: Record<string, string>}>}
   */
  async fetchOptions() {
    if (this.isCookie) return { credentials: this.#options.withCredentials ? "include" : "same-origin", headers: {} };
    return { credentials: "omit", headers: { Authorization: `Bearer ${await this.token()}` } };
  }

  /** Returns the token. Calls the token callback if there is no token yet. */
  async token() {
    const { token } = this.#options;
    return (this.#token ??= requireToken(typeof token === "function" ? await this.#withTimeout(token()) : token));
  }

  /**
   * Returns the result of a callback. Rejects if there is no result within 30 s.
   *
   * @template T
   * @param {T|Promise<T>} result
   * @returns {Promise<T>}
   */
  async #withTimeout(result) {
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    let timer;
    const late = new Promise((/** @type {(value: never) => void} */ _, reject) => {
      timer = setTimeout(() => reject(new Error("presence: token callback timed out (30 s)")), callbackTimeout);
    });
    return Promise.race([result, late]).finally(() => clearTimeout(timer));
  }

  /**
   * Renews the token with the callback. The new token is sent to the server if the credential is
   * the cookie, or if streams are open, so that they continue. Concurrent calls share one renewal.
   *
   * @param {URL} session  The URL for `POST session`.
   * @param {boolean} open  Whether there are open streams that must continue.
   */
  renew(session, open) {
    this.#renewing ??= this.#renew(session, open).finally(() => (this.#renewing = null));
    return this.#renewing;
  }

  /**
   * @param {URL} session
   * @param {boolean} open
   */
  async #renew(session, open) {
    const token = await this.#withTimeout(this.#renewal?.());
    const checked = this.isCookie && !token ? null : requireToken(token);
    if (!this.isCookie) this.#token = checked;
    if (!checked || !(open || this.isCookie)) return;
    const credential = await this.fetchOptions(); // with the new token
    await request("POST", session, { token: checked }, { ...credential, signal: AbortSignal.timeout(requestTimeout) });
  }
}

/** The detail of the problem if a token callback returned an empty token. */
export const emptyToken = "token empty: no user is signed in";

/**
 * @param {string|void|null} token
 * @returns {string}
 */
function requireToken(token) {
  const text = typeof token === "string" ? token.trim() : "";
  if (text === "") {
    const detail = token === undefined ? "token missing: the callback returned undefined" : emptyToken;
    throw new PresenceError({ title: "No token", status: 401, detail });
  }
  if (/^[!-~]+$/.test(text)) return text; // can be sent in a header
  throw new Error("presence: not a token, but text with white space or non-ASCII characters: perhaps an error page");
}

/**
 * Returns a string that identifies the user of a token. It is the token's `sub`, or a hash of the
 * token if it has no readable `sub`.
 *
 * @param {string} token
 */
export async function userOf(token) {
  try {
    const bytes = Uint8Array.from(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    const { sub } = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof sub === "string") return sub;
  } catch {
    // The token is not a JSON Web Token. The server may accept other tokens.
  }
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token));
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The address of a room on a server, and the credential for its requests. */
export class Address {
  /** @param {Options} options */
  constructor(options) {
    const { url, room = "lobby", withCredentials = false } = options;
    // Bundlers treat `new URL(path, import.meta.url)` as a file to bundle. A variable avoids this.
    const here = import.meta.url;
    this.url = new URL(url ?? new URL("..", here), globalThis.location?.href);
    if (!this.url.pathname.endsWith("/")) this.url.pathname += "/";
    this.room = room;
    this.withCredentials = withCredentials;
    this.credential = new Credential(options);
  }

  /**
   * Returns the URL of a path for this room.
   *
   * @param {string} path
   * @param {Record<string, string>} [query]
   */
  of(path, query) {
    const url = new URL(path, this.url);
    url.search = String(new URLSearchParams({ room: this.room, ...query }));
    return url;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {{query?: Record<string, string>, body?: any}} [options]
   */
  async request(method, path, { query, body } = {}) {
    const signal = AbortSignal.timeout(requestTimeout);
    return request(method, this.of(path, query), body, { ...(await this.credential.fetchOptions()), signal });
  }

  /** @param {boolean} open  Whether there are open streams that must continue. */
  renew(open) {
    return this.credential.renew(new URL("session", this.url), open);
  }
}

/**
 * Returns the wait before the next attempt, in milliseconds. It is a random time between half of an
 * upper bound and the bound, so that clients that were disconnected together do not reconnect
 * together. The bound starts at 1 s and doubles with each failed attempt, up to 30 s.
 *
 * @param {number} tries  Failed attempts since the last success.
 * @param {number} [random]  A number from 0 to 1.
 */
export function backoff(tries, random = Math.random()) {
  return (Math.min(30_000, 1000 * 2 ** tries) * (1 + random)) / 2;
}

/** Whether the browser reports that it has no network. */
export const isOffline = () => globalThis.navigator?.onLine === false;

/** Returns State.retryAt for a wait of `ms` milliseconds. @param {number} ms */
export const retryTime = (ms) => (isOffline() ? null : Date.now() + ms);
