// Tests of presence/eventstream.js. Run with `node --test web/*.test.js`.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createParser } from "eventsource-parser";
import { decode, fresh, isStream } from "./presence/eventstream.js";

const encode = (text) => new TextEncoder().encode(text);
const message = (text, id = "") => ({ name: "message", text, id });

/** Decodes a list of texts. Returns the events and the last parser state. */
function decodeAll(texts, partial = fresh()) {
  const events = [];
  for (const text of texts) {
    const decoded = decode(partial, text);
    partial = decoded.partial;
    events.push(...decoded.events);
  }
  return { events, partial };
}

/** Returns the texts of chunks of bytes, as a TextDecoderStream of a browser does. */
function texts(bytes, cuts) {
  const decoder = new TextDecoder();
  const ends = [...cuts, bytes.length];
  return [...ends.map((end, i) => decoder.decode(bytes.subarray(ends[i - 1] ?? 0, end), { stream: true })), decoder.decode()];
}

/**
 * Yields ways to cut n bytes, each as a list of places. Yields all ways up to 12 bytes, and
 * otherwise each single cut, each pair of cuts and each size of chunks.
 */
function* cuttings(n) {
  const places = Array.from({ length: Math.max(0, n - 1) }, (_, i) => i + 1);
  if (n <= 12) {
    for (let mask = 0; mask < 2 ** places.length; mask++) yield places.filter((place) => mask & (2 ** (place - 1)));
    return;
  }
  for (const first of places) {
    yield [first];
    for (let second = first + 1; second < n; second++) yield [first, second];
  }
  for (let size = 1; size <= n; size++) yield places.filter((place) => place % size === 0);
}

// Each case has a title, the text or the bytes, the events, and the last `retry`. Titles that start
// with the name of a file, such as format-bom, are about the same rule as that file of Web Platform
// Tests (eventsource/).
const bom = "\uFEFF";
const long = "x".repeat(50);
const cases = [
  ["format-bom: one BOM at the start, no other", `${bom}data:a\n\n${bom}data:b\n\ndata:c\n\n`, [message("a"), message("c")]],
  ["format-bom-2: the second BOM is a part of the field name", `${bom}${bom}data:a\n\ndata:b\n\n`, [message("b")]],
  ["format-comments", `data:a\r:\0\n:\r\ndata:b\n:${long}\rdata:c\n:data:no\r:${long}\ndata:d\n\n`, [message("a\nb\nc\nd")]],
  ["format-data-before-final-empty-line", "retry:900\ndata:a\n\nid:i\ndata:b\n", [message("a")], 900],
  ["format-field-data", "data:\n\ndata\ndata\n\ndata:a\n\n", [message(""), message("\n"), message("a")]],
  ["format-field-event", "event:e\ndata:a\n\ndata:b\n\n", [{ name: "e", text: "a", id: "" }, message("b")]],
  ["format-field-event-empty", "event: \ndata:a\n\n", [message("a")]],
  ["field-name-event: the last name counts", "event:e\nevent:f\ndata:a\n\nevent:e\nevent\ndata:b\n\n", [{ name: "f", text: "a", id: "" }, message("b")]],
  ["format-field-id", "id: …\ndata:a\n\n", [message("a", "…")]],
  ["format-field-id-2: the id remains", "id: …\ndata:a\n\ndata:b\n\ndata:c\n\n", [message("a", "…"), message("b", "…"), message("c", "…")]],
  ["format-field-id-3: the id changes", "id:i\ndata:a\n\ndata:b\n\nid:j\ndata:c\n\ndata:d\n\n", [message("a", "i"), message("b", "i"), message("c", "j"), message("d", "j")]],
  ["format-field-id-3: an empty id", "id:i\ndata:a\n\nid:\ndata:b\n\ndata:c\n\n", [message("a", "i"), message("b"), message("c")]],
  ["format-field-id-3: an id without a colon", "id:i\ndata:a\n\nid\ndata:b\n\n", [message("a", "i"), message("b")]],
  ["format-field-id-null", "id:i\nid:\0\0\nid:j\0\ndata:a\n\n", [message("a", "i")]],
  ["format-field-parsing", "data:\0\ndata:  a\rData:no\ndata\0:no\ndata:b\r\0data:no\ndata:c\rdata:\r\n data:no\nda-ta:no\ndata_no\ndata:d\n\n", [message("\0\n a\nb\nc\n\nd")]],
  ["format-field-retry: decimal, not octal", "retry:0700\ndata:a\n\n", [message("a")], 700],
  ["format-field-retry-bogus", "retry:700\nretry:800x\nretry: \nretry:-1\nretry:1.5\nretry:1e3\nretry:٣\ndata:a\n\n", [message("a")], 700],
  ["format-field-retry-empty", "retry\ndata:a\n\n", [message("a")]],
  ["format-field-unknown", "data:a\n data\ndata\nother:x\nonly text\n:a comment\ndata:b\n\n", [message("a\n\nb")]],
  ["format-leading-space", "data:\ta\rdata: \ndata:b\n\n", [message("\ta\n\nb")]],
  ["format-newlines", "data:a\r\ndata\ndata:b\r\n\r", [message("a\n\nb")]],
  ["format-null-character", "data:\0\n\n", [message("\0")]],
  ["format-utf-8", "data:a…\n\n", [message("a…")]],
  ["event-data", "data:a\ndata: b\n\n:\n\nno:a\n\nno:a\nData:b\n\ndata\n\ndata:end\n\n", [message("a\nb"), message(""), message("end")]],
  ["no text", "", []],
  ["only line endings", "\n\r\r\n\n\r", []],
  ["CR, no LF", "data:a\r\r", [message("a")]],
  ["CR and LF are one line ending", "data:a\r\n\r\n", [message("a")]],
  ["LF and CR are two line endings", "data:a\n\rdata", [message("a")]],
  ["CR CR LF are two line endings", "data:a\r\r\n", [message("a")]],
  ["LF CR LF are two line endings", "data\n\r\n", [message("")]],
  ["CR LF CR LF LF", "data\r\n\r\n\n", [message("")]],
  ["all line endings", "data:a\r\ndata:b\rdata:c\ndata:d\n\rdata:e\r\rdata:f\r\n\ndata:g\n\r\ndata:h\r\n\r\n", [message("a\nb\nc\nd"), ...["e", "f", "g", "h"].map((text) => message(text))]],
  ["only LF, CR and CR LF end a line", "data:\v\f\x85\u2028\u2029\n\n", [message("\v\f\x85\u2028\u2029")]],
  ["two bytes", "data:ä\n\n", [message("ä")]],
  ["three bytes", "data:€\n\n", [message("€")]],
  ["four bytes", "data:😀\n", []],
  ["four bytes, of which UTF-16 has two", "data:😀😀\r\rdata:😀", [message("😀😀")]],
  ["bytes that are not UTF-8", Uint8Array.of(...encode("data:"), 0xff, 0xe2, 0x82, 10, 10), [message("\uFFFD\uFFFD")]],
  ["a part of a character at the end", Uint8Array.of(...encode("data:a\n\n"), 0xe2, 0x82), [message("a")]],
  ["a BOM in a value", `data:${bom}a\n\n`, [message(`${bom}a`)]],
  ["a part of a BOM", Uint8Array.of(0xef, 0xbb, ...encode("data:a\n\ndata:b\n\n")), [message("b")]],
  ["colons in a value", "data::a: b\n\n", [message(":a: b")]],
  ["no line is a field without its name", ":\n::\n:data:a\n\n", []],
  ["a name and an id without data", "id:i\nevent:e\n\ndata:a\n\n", [message("a", "i")]],
  ["the id of an incomplete event", "data:a\n\nid:i\nevent:e\ndata:b\n", [message("a")]],
  ["the longest wait is one hour", "retry:3600001\n", [], 3_600_000],
  ["names of object properties", "__proto__:a\nconstructor:b\nevent:__proto__\ndata:c\n\n", [{ name: "__proto__", text: "c", id: "" }]],
];

describe("decode", () => {
  for (const [title, stream, events, retry = null] of cases) {
    const bytes = typeof stream === "string" ? encode(stream) : stream;

    test(`${title}, in chunks of any size`, () => {
      const want = JSON.stringify(events);
      for (const cuts of cuttings(bytes.length)) {
        const { events: got, partial } = decodeAll(texts(bytes, cuts));
        if (JSON.stringify(got) !== want || partial.retry !== retry) assert.deepEqual([got, partial.retry], [events, retry], `cut at ${cuts}`);
      }
    });

    test(`${title}, from a TextDecoderStream`, async () => {
      for (const size of [1, 3, bytes.length + 1]) {
        const chunks = new ReadableStream({
          start(controller) {
            for (let i = 0; i < bytes.length; i += size) controller.enqueue(bytes.slice(i, i + size));
            controller.close();
          },
        });
        const decoded = [];
        for await (const text of chunks.pipeThrough(new TextDecoderStream())) decoded.push(text);
        const { events: got, partial } = decodeAll(decoded);
        assert.deepEqual([got, partial.retry], [events, retry], `chunks of ${size}`);
      }
    });
  }

  test("the example stream has the same events with each line ending, in chunks of any size", () => {
    const lines = [
      "retry: 1756", "", // a block without data is not an event
      ": a comment", "id: e1-5", "data: {\"n\":1}", "event: sync", "",
      "data: 2", "event: user count", "", // the id of the previous event applies
      "event: nothing", "", // without data, there is no event
      "id: e1-6", "data:two", "data:  lines", "", // one space after the colon is removed
      "id", "data", "unknown: x", "", // fields without a value
      "id: e\0-9", "retry: soon", "data: x", "", "",
    ];
    const want = [
      { name: "sync", text: '{"n":1}', id: "e1-5" },
      { name: "user count", text: "2", id: "e1-5" },
      message("two\n lines", "e1-6"),
      message(""),
      message("x"),
    ];
    for (const end of ["\n", "\r\n", "\r"]) {
      const stream = lines.join(end);
      for (let size = 1; size <= stream.length; size++) {
        const { events, partial } = decodeAll(stream.match(new RegExp(`[^]{1,${size}}`, "g")));
        assert.deepEqual(events, want, `${JSON.stringify(end)} ${size}`);
        assert.equal(partial.retry, 1756);
      }
    }
  });

  test("a number that is too large for a timer becomes one hour", () => {
    for (const digits of ["2147483648", "4294967296", "9".repeat(16), "9".repeat(400)]) {
      assert.equal(decodeAll([`retry: ${digits}\n`]).partial.retry, 3_600_000, digits);
    }
  });

  test("an event is complete at its blank line and not before", () => {
    assert.deepEqual(decodeAll(["data: 1\n"]).events, []);
    assert.deepEqual(decodeAll(["data: 1\n", "\n"]).events, [message("1")]);
    assert.deepEqual(decodeAll(["data: 1\r", "\n"]).events, []);
    assert.deepEqual(decodeAll(["data: 1\r", "\n", "\r"]).events, [message("1")]);
    assert.deepEqual(decodeAll(["data: 1\r", "\r"]).events, [message("1")]);
  });

  test("an empty chunk changes nothing", () => {
    assert.deepEqual(decodeAll(["", "data: 1\r", "", "\ndata: 2\r", "", "\r", "", "\n", ""]).events, [message("1\n2")]);
    const { partial } = decodeAll(["data: 1\nda"]);
    assert.deepEqual(decode(partial, ""), { partial, events: [] });
  });

  test("a stream that resumes starts with its position", () => {
    assert.deepEqual(decodeAll(["data: 1\n\nid: e1-2\ndata: 2\n\n"], fresh("e1-1")).events, [message("1", "e1-1"), message("2", "e1-2")]);
  });

  test("does not change the parser state that it receives", () => {
    const stream = "id: i\nevent: e\ndata: 1\r\ndata: 2\r\n\r\nretry: 5\ndata: 3\n\n";
    const whole = decodeAll([stream]);
    for (let cut = 0; cut <= stream.length; cut++) {
      const { partial, events } = decode(Object.freeze(fresh()), stream.slice(0, cut));
      const before = structuredClone(Object.freeze(partial));
      decode(partial, "\rdata: another\n\n");
      const rest = decode(partial, stream.slice(cut));
      assert.deepEqual({ events: [...events, ...rest.events], partial: rest.partial }, whole, `cut at ${cut}`);
      assert.deepEqual(partial, before);
    }
  });

  test("a line is as long as a string can be, and then there is an error", () => {
    const text = "x".repeat(2 ** 26);
    assert.throws(() => decodeAll(Array(9).fill(text)), RangeError);
  });
});

// eventsource-parser deviates from the standard in three points, which the test avoids. It parses a
// CR at the end of a chunk only with the next chunk, so each stream ends with an LF. It removes a
// BOM or its bytes itself, so no stream starts with one. It returns the id of the current block
// only, so the id of an event is not compared if its block has none.
test("decode and eventsource-parser return the same events", () => {
  const parts = ["data", "data:", "data: ", "data:a\n", "id", "id:", "id:i", "event", "event: ", "event:e", "retry", "retry:", "retry:12"];
  parts.push(...["data: b\r\n", "data:c\r", "data\n", "id:j\n", "event:f\r\n", "\n\n", "\r\n\r\n"]);
  parts.push(...["\n", "\r", "\r\n", "\n\n", "\r\n\r\n", "\r\r", "\n", "\n\n", ":", ": ", " ", "a", "\0", "7", "ä", "😀", "\t", "other:x"]);
  let seed = 1;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n; // MINSTD: the same streams in each run
  let compared = 0;
  for (let i = 0; i < 20_000; i++) {
    const stream = `${Array.from({ length: random(40) }, () => parts[random(parts.length)]).join("")}\n:\n`;
    const chunks = [];
    for (let at = 0, longest = 1 + random(20), size; at < stream.length; at += size) {
      size = 1 + random(longest);
      chunks.push(stream.slice(at, at + size));
    }
    const { events, partial } = decodeAll(chunks);
    const want = [];
    let retry = null;
    const parser = createParser({
      onEvent: ({ event = "message", data, id }) => want.push({ name: event, text: data, id: id ?? events[want.length]?.id }),
      onRetry: (ms) => (retry = Math.min(ms, 3_600_000)),
    });
    for (const chunk of chunks) parser.feed(chunk);
    if (JSON.stringify(events) !== JSON.stringify(want) || partial.retry !== retry) {
      assert.deepEqual([events, partial.retry], [want, retry], JSON.stringify(chunks));
    }
    compared += events.length;
  }
  assert.ok(compared > 20_000, `${compared} events compared`);
});

/**
 * Runs `work`, and returns the number of characters that the search methods of strings read. A
 * method that returns many results counts as reading the whole string.
 */
function charactersRead(work) {
  let read = 0;
  const real = { indexOf: String.prototype.indexOf };
  String.prototype.indexOf = function (text, from = 0) {
    const found = real.indexOf.call(this, text, from);
    read += (found === -1 ? this.length : found) - from;
    return found;
  };
  for (const name of ["split", "search", "match", "matchAll", "replace", "replaceAll", "lastIndexOf"]) {
    real[name] = String.prototype[name];
    String.prototype[name] = function (...args) {
      read += this.length;
      return real[name].apply(this, args);
    };
  }
  try {
    work();
  } finally {
    Object.assign(String.prototype, real);
  }
  return read;
}

// decode() reads a character at most three times: it searches for CR, for LF and for the colon.
describe("the work grows with the length of the text", () => {
  const repeat = (n, text) => Array(n).fill(text);
  for (const [title, chunks, count, size] of [
    ["a long line", ["data:", ...repeat(6000, "x".repeat(1400)), "\n\n"], 1, 6000 * 1400],
    ["a long line, by character", ["data:", ...repeat(2 ** 18, "x"), "\n\n"], 1, 2 ** 18],
    ["a long comment, by character", [":", ...repeat(2 ** 18, "x"), "\n\n"], 0, 0],
    ["an event of many lines", [...repeat(2 ** 13, "data:1\n".repeat(64)), "\n"], 1, 2 ** 20 - 1],
    ["an event of many empty lines, by character", [..."data\n".repeat(2 ** 16), "\n"], 1, 2 ** 16 - 1],
    ["a chunk of many events, and a CR", [`${"data\n\n".repeat(2 ** 19)}\r`], 2 ** 19, 0],
    ["a chunk of many events, and an LF", [`${"data\r\r".repeat(2 ** 19)}\n`], 2 ** 19, 0],
    ["a chunk of many events, with CR LF", ["data\r\n\r\n".repeat(2 ** 19)], 2 ** 19, 0],
    ["many comments, and an event at the end", [...repeat(2 ** 10, ":\n".repeat(2 ** 9)), "data\n\n"], 1, 0],
    ["many ids and names", [`${"id:i\nevent:e\n".repeat(2 ** 18)}data\n\n`], 1, 0],
  ]) {
    test(title, () => {
      let partial = fresh();
      let [events, characters] = [0, 0];
      const read = charactersRead(() => {
        for (const chunk of chunks) {
          const decoded = decode(partial, chunk);
          partial = decoded.partial;
          events += decoded.events.length;
          for (const { text } of decoded.events) characters += text.length;
        }
      });
      assert.deepEqual([events, characters], [count, size]);
      const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
      assert.ok(read > length && read <= 3 * length, `${read} of ${length} characters read`);
    });
  }
});

test("isStream accepts text/event-stream, with any parameters", () => {
  for (const [type, want] of [
    ["text/event-stream", true],
    ["text/event-stream;", true], // format-mime-trailing-semicolon
    ["text/event-stream;charset=utf-8", true],
    ["text/event-stream; charset=windows-1252", true], // format-utf-8: the text is UTF-8 all the same
    ["Text/EVENT-Stream ; x", true],
    [" \ttext/event-stream\t ", true],
    ["x bogus", false], // format-mime-bogus
    ["text/x-bogus", false], // format-mime-valid-bogus
    ["text/event-streamx", false],
    ["text/event-stream-x", false],
    ["text/event-stream/x", false],
    ["text/event-stream x", false],
    ["text/event-stream charset=utf-8", false],
    ["xtext/event-stream", false],
    ["text /event-stream", false],
    ["text/ event-stream", false],
    ["text/plain; text/event-stream", false],
    ["text/html", false],
    ["application/problem+json", false],
    ["", false],
    [null, false],
    // The last type of a repeated header counts.
    ["text/event-stream, text/event-stream", true],
    ["text/html, text/event-stream", true],
    ["text/event-stream, text/html", false],
    [",,", false],
  ]) {
    assert.equal(isStream(type), want, JSON.stringify(type));
  }
});
