/**
 * eventstream.js parses event streams as the standard requires (WHATWG HTML, sections 9.2.5 and
 * 9.2.6). It imports no other module and does not depend on the events of presence. Its guarantees:
 *
 * - Pure: the result of decode() depends only on its arguments, and it changes neither of them.
 * - Independent of chunks: the events do not depend on the places at which the text is cut. An
 *   event is returned as soon as its blank line is complete, also if a CR ends both the line and
 *   the chunk.
 * - Linear: the work is proportional to the length of the text, for all lines, line endings and
 *   chunks. The incomplete line is therefore never searched again. decode() only appends to it, and
 *   the engines of browsers append to a string without copying it.
 *
 * The length of a line or of an event has no limit, as in the standard and in an EventSource. The
 * page chooses the server and trusts it, and an error page of a proxy does not pass isStream(). The
 * client cannot know a limit, because the longest event depends on settings of the server, such as
 * the member limit. A line that never ends grows up to the longest string of the browser, in
 * Chromium 2^29 characters. decode() then throws a RangeError, and the caller reconnects.
 *
 * @typedef {object} StreamEvent  An event of a stream.
 * @property {string} name
 * @property {string} text  The data, as JSON text. Tabs exchange text, because a browser can parse
 *   JSON that is nested too deeply to be cloned.
 * @property {string} id  The last id on the stream. "" if there is none yet.
 *
 * @typedef {object} Unfinished  The state of the parser: the incomplete event at the end of the
 *   text that was parsed so far.
 * @property {string} line  The beginning of the last line.
 * @property {boolean} cr  Whether the text ended with a CR. If the next text starts with an LF,
 *   both are one line ending.
 * @property {string} name
 * @property {string|null} data  The data lines, joined with LF. null if there is none, because then
 *   the blank line completes no event.
 * @property {string} id  The last id. It also applies to the events that follow.
 * @property {number|null} retry  The last reconnection time, in milliseconds, at most one hour.
 */

/**
 * Upper bound of the reconnection time. A timer with a delay of 2^31 ms or more fires at once, so a
 * large number would make the client reconnect without a wait.
 */
const longestRetry = 3_600_000;

/**
 * Reports whether a response is an event stream: the essence of its MIME type is
 * text/event-stream, with any parameters. If the header is repeated, the last type counts.
 *
 * @param {string|null} contentType  The value of the Content-Type header. null if there is none.
 */
export function isStream(contentType) {
  return /(^|,)\s*text\/event-stream\s*(;[^,]*)?$/i.test(contentType ?? "");
}

/**
 * Parses text of an event stream. Returns the complete events and the new parser state. An
 * incomplete event at the end of the stream is dropped with the state, as the standard requires.
 *
 * @param {Unfinished} partial  The parser state after the preceding text, or fresh().
 * @param {string} text  Decoded as UTF-8, without the BOM at the start of the stream.
 * @returns {{partial: Unfinished, events: StreamEvent[]}}
 * @throws {RangeError}  If a line or an event exceeds the longest string of the browser.
 */
export function decode(partial, text) {
  if (text === "") return { partial, events: [] };
  let { line, name, data, id, retry } = partial;
  const events = [];
  let at = partial.cr && text[0] === "\n" ? 1 : 0;
  // Each search starts at the end of the line before, and a result is kept until it is used. A
  // search for each line would read the whole rest of a chunk that has one kind of line ending.
  let cr = text.indexOf("\r", at);
  let lf = text.indexOf("\n", at);
  while (cr !== -1 || lf !== -1) {
    const end = cr === -1 || (lf !== -1 && lf < cr) ? lf : cr;
    line += text.slice(at, end);
    at = end + (end === cr && lf === cr + 1 ? 2 : 1);
    if (cr !== -1 && cr < at) cr = text.indexOf("\r", at);
    if (lf !== -1 && lf < at) lf = text.indexOf("\n", at);
    if (line === "") {
      if (data !== null) events.push({ name: name || "message", text: data, id });
      name = "";
      data = null;
      continue;
    }
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "data") data = data === null ? value : `${data}\n${value}`;
    else if (field === "event") name = value;
    else if (field === "id" && !value.includes("\0")) id = value;
    else if (field === "retry" && /^\d+$/.test(value)) retry = Math.min(Number(value), longestRetry);
    line = "";
  }
  return { partial: { line: line + text.slice(at), cr: text.at(-1) === "\r", name, data, id, retry }, events };
}

/**
 * Returns the initial parser state for a stream that resumes from position `id`.
 *
 * @param {string} [id]
 * @returns {Unfinished}
 */
export function fresh(id = "") {
  return { line: "", cr: false, name: "", data: null, id, retry: null };
}
