/**
 * Parses an event stream (WHATWG HTML, section 9.2.6).
 */

/**
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
 * @property {string[]} data  The data lines.
 * @property {string} id  The last id. It also applies to the events that follow.
 * @property {number|null} retry  The last reconnection time, in milliseconds.
 */

/**
 * Parses text of an event stream (WHATWG HTML, section 9.2.6). Returns the complete events and the
 * new parser state.
 *
 * @param {Unfinished} partial  The parser state after the preceding text, or fresh().
 * @param {string} text
 * @returns {{partial: Unfinished, events: StreamEvent[]}}
 */
export function decode(partial, text) {
  if (text === "") return { partial, events: [] };
  let { name, id, retry } = partial;
  let data = [...partial.data];
  if (partial.cr && text.startsWith("\n")) text = text.slice(1);
  const lines = (partial.line + text).split(/\r\n|\r|\n/);
  const line = lines.pop() ?? "";
  const events = [];
  for (const line of lines) {
    if (line === "") {
      if (data.length > 0) events.push({ name: name || "message", text: data.join("\n"), id });
      [name, data] = ["", []];
      continue;
    }
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "event") name = value;
    else if (field === "data") data.push(value);
    else if (field === "id" && !value.includes("\0")) id = value;
    else if (field === "retry" && /^\d+$/.test(value)) retry = Number(value);
  }
  return { partial: { line, cr: text.endsWith("\r"), name, data, id, retry }, events };
}

/**
 * Returns the initial parser state for a stream that resumes from position `id`.
 *
 * @param {string} [id]
 * @returns {Unfinished}
 */
export function fresh(id = "") {
  return { line: "", cr: false, name: "", data: [], id, retry: null };
}

/** @param {Response} response */
export const isStream = (response) => (response.headers.get("Content-Type") ?? "").startsWith("text/event-stream");
