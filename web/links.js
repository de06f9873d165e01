/**
 * Links in the text of messages. The text comes from other users, so only plain addresses become
 * links.
 */

const longest = 2048; // maximum length of an address
const most = 50; // maximum number of links in a text; hundreds would slow down the layout
const start = /(^|[^\p{L}\p{N}_])(https?:\/\/)/giu;
// An address ends before white space, control and format characters, quotes and angle brackets.
const end = /[\s\p{Z}\p{C}<>"“”«»]|$/gu;
const punctuation = new Set(".,:;!?'’*_~…。，、！？；：");
const closing = new Map([[")", "("], ["]", "["], ["}", "{"], ["）", "（"], ["」", "「"], ["』", "『"], ["】", "【"]]);

/**
 * Splits a text into parts, of which those with an `href` are links. The parts together are the
 * text. Each character is read a constant number of times, so hostile text takes no longer.
 *
 * @param {string} text
 * @param {boolean} [complete]  Whether the text is complete. Default: true. The last address of a
 *   text that was cut is not a link, because it may lack its end.
 * @returns {{text: string, href?: string}[]}
 */
export function links(text, complete = true) {
  const parts = [];
  let found = 0;
  let done = 0; // end of the last part
  start.lastIndex = 0;
  for (let match; found < most && (match = start.exec(text)); ) {
    const at = match.index + match[1].length;
    end.lastIndex = start.lastIndex;
    const stop = end.exec(text).index;
    start.lastIndex = stop; // an address within an address is a part of it
    if (!complete && stop === text.length) break;
    const address = trimmed(text.slice(at, stop));
    const href = hrefOf(address);
    if (href === null) continue;
    if (at > done) parts.push({ text: text.slice(done, at) });
    parts.push({ text: address, href });
    done = at + address.length;
    found++;
  }
  if (done < text.length) parts.push({ text: text.slice(done) });
  return parts;
}

/**
 * Returns the address without the punctuation that follows it in a sentence. A closing bracket
 * belongs to the address if the address contains its opening bracket.
 */
function trimmed(address) {
  const balance = new Map(); // closing bracket → number of opening ones minus number of closing ones
  for (const char of address) {
    for (const [close, open] of closing) {
      if (char === open || char === close) balance.set(close, (balance.get(close) ?? 0) + (char === open ? 1 : -1));
    }
  }
  let length = address.length;
  for (; length > 0; length--) {
    const char = address[length - 1];
    if (punctuation.has(char)) continue;
    if (!closing.has(char) || balance.get(char) >= 0) break;
    balance.set(char, balance.get(char) + 1);
  }
  return address.slice(0, length);
}

/**
 * Returns the URL of an address. Returns null if the address must remain text: it is not valid, it
 * contains a user name, as in https://bank.example@other.example, or its host contains characters
 * that may look like others.
 */
function hrefOf(address) {
  if (address.length > longest) return null;
  const [, host] = /^https?:\/\/([^/?#]*)/i.exec(address);
  if (!/^(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::\d+)?$/i.test(host)) return null;
  try {
    const { href, protocol } = new URL(address);
    return protocol === "http:" || protocol === "https:" ? href : null;
  } catch {
    return null;
  }
}
