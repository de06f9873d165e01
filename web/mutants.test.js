// Shows that the randomized model of tabs.model.js finds bugs. Each test puts one deliberate bug in
// the modules of presence/, and runs the model until it reports a fault.
import assert from "node:assert/strict";
import { test } from "node:test";
import { loader, useBrowser } from "./browser.fake.js";
import { run } from "./tabs.model.js";

const maxRuns = 300;

/** The bugs. Each edit has a module, a text that occurs in it once, and its replacement. */
const bugs = {
  "a leader replies although its tab is frozen": [["tabs.js", "if (this.#link?.alive)", "if (this.#link)"]],
  "a page ignores `freeze`, and a frozen leader replies": [
    ["room.js", `addEventListener("freeze"`, `addEventListener("frozen"`],
    ["tabs.js", "if (this.#link?.alive)", "if (this.#link)"],
  ],
  "a prerendered page joins": [["room.js", " || isPrerendering()", ""]],
  "a slot remains taken after its stream has ended": [["link.js", "return this.#attempt().finally(free)", "return this.#attempt()"]],
  "streams take no slots": [["link.js", "return this.#attempt().finally(free)", "free();\n    return this.#attempt()"]],
  "a message waits until a slot is free": [["room.js", ` && reason !== "connections"`, ""]],
  "a follower delivers an event without the messages before it": [
    ["tabs.js", `(message.kind === "event" && !this.#follows(message.prev))`, "false"],
  ],
};

useBrowser();

for (const [name, edits] of Object.entries(bugs)) {
  test(`the model finds a bug: ${name}`, async (t) => {
    let done = 0;
    const load = await loader((file, source) => {
      for (const [, text, replacement] of edits.filter(([edited]) => edited === file)) {
        const parts = source.split(text);
        assert.equal(parts.length, 2, `${file} has "${text}" ${parts.length - 1} times, want once`);
        source = parts.join(replacement);
        done++;
      }
      return source;
    });
    assert.equal(done, edits.length, "edits of modules that presence/index.js does not import");
    for (let seed = 1; seed <= maxRuns; seed++) {
      const [fault] = await run(seed, load);
      if (fault) return t.diagnostic(`seed ${seed}: ${fault}`);
    }
    assert.fail(`no fault in ${maxRuns} runs`);
  });
}
