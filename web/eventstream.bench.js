// Compares the speed of presence/eventstream.js with that of eventsource-parser:
//
//     node web/eventstream.bench.js [MODULE...]
//
// A MODULE is the path of another decoder, which has the same functions as one of the two. Each row
// is a stream in chunks of one size. It lists the shortest time of each decoder in milliseconds,
// and in parentheses the ratio to eventsource-parser. The decoders run in turn. Other work on the
// machine has the least effect on the shortest of many times.
import * as parser from "eventsource-parser";
import * as eventstream from "./presence/eventstream.js";

/** The longest time that one decoder runs for one row, in milliseconds. It runs at least once. */
const LONGEST = 1500;
const ROUNDS = 31;

const decoders = new Map([["eventsource-parser", parser], ["presence", eventstream]]);
for (const path of globalThis.process?.argv.slice(2) ?? []) {
  decoders.set(path.split("/").pop(), await import(new URL(path, `file://${process.cwd()}/`).href));
}

/** Decodes texts. Returns the number of characters of the data of all events. */
function decodeAll({ createParser, decode, fresh }, texts) {
  let characters = 0;
  if (createParser) {
    const { feed } = createParser({ onEvent: ({ data }) => (characters += data.length) });
    for (const text of texts) feed(text);
    return characters;
  }
  let partial = fresh();
  for (const text of texts) {
    const decoded = decode(partial, text);
    partial = decoded.partial;
    for (const event of decoded.events) characters += event.text.length;
  }
  return characters;
}

/** Returns the texts of the chunks of a stream, as new strings. */
function texts(bytes, size) {
  const decoder = new TextDecoder();
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => decoder.decode(bytes.subarray(i * size, (i + 1) * size), { stream: true }));
}

const KiB = 1024;
const from = '{"id":"abc","from":{"id":"alice","name":"Alice"},"data":"hello","at":"2026-01-02T03:04:05Z"}';
const events = `id: 0123456789-12345\nevent: message\ndata: ${from}\n\n`.repeat(8000);
const rows = [];
for (const size of [1400, 16 * KiB, 64 * KiB]) {
  for (const n of [256, 512, 1024, 2048]) rows.push([`one line of ${n} KiB`, `data: ${"x".repeat(n * KiB)}\n\n`, size]);
}
rows.push(["one line of 64 KiB", `data: ${"x".repeat(64 * KiB)}\n\n`, 1]);
for (const size of [1400, 16 * KiB, 64 * KiB]) rows.push(["8,000 messages", events, size]);
rows.push(["50,000 pings, each a chunk", "event: ping\ndata: {}\n\n".repeat(50_000), 22]);
rows.push(["100,000 shortest events", "data:1\n\n".repeat(100_000), 64 * KiB]);
rows.push(["100,000 shortest events, CR LF", "data:1\r\n\r\n".repeat(100_000), 64 * KiB]);
rows.push(["100,000 shortest events, CR", `${"data:1\r\r".repeat(100_000)}:\n`, 64 * KiB]);
rows.push(["an event of 100,000 lines", `${"data:1\n".repeat(100_000)}\n`, 64 * KiB]);
rows.push(["200,000 comments", ":\n".repeat(200_000), 64 * KiB]);

console.log(["stream".padEnd(32), "chunk".padStart(7), ...[...decoders.keys()].map((name) => name.padStart(20))].join(""));
for (const [title, text, size] of rows) {
  const bytes = new TextEncoder().encode(text);
  const times = new Map([...decoders.keys()].map((name) => [name, []]));
  const results = new Set();
  for (let round = 0; round < ROUNDS; round++) {
    const turn = round % decoders.size;
    const order = [...decoders];
    for (const [name, decoder] of [...order.slice(turn), ...order.slice(0, turn)]) {
      const list = times.get(name);
      if (list.reduce((sum, ms) => sum + ms, 0) > LONGEST) continue;
      const chunks = texts(bytes, size);
      const start = performance.now();
      results.add(decodeAll(decoder, chunks));
      list.push(performance.now() - start);
    }
  }
  if (results.size !== 1) throw new Error(`the decoders differ: ${title}`);
  const shortest = [...times.values()].map((list) => Math.min(...list));
  const cells = shortest.map((ms) => `${ms.toFixed(2)} (${(ms / shortest[0]).toFixed(1)})`.padStart(20));
  console.log([title.padEnd(32), String(size).padStart(7), ...cells].join(""));
}
