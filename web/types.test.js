// Tests of the files that are made of the modules in presence/: presence.js, its types, and the
// package. Run with `node --test web/*.test.js`.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { transformSync } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const out = mkdtempSync(join(tmpdir(), "presence-types-"));
after(() => rmSync(out, { recursive: true }));

function tsc(...options) {
  const { status, stdout, error } = spawnSync(join(here, "node_modules/.bin/tsc"), options, { cwd: here, encoding: "utf8" });
  assert.ifError(error); // if tsc is missing, run .ci/setup
  return { status, stdout };
}

test("presence.js and presence.d.ts are those that the modules make, and their types are correct", () => {
  const { status, stderr } = spawnSync(process.execPath, [join(here, "build.js"), out], { encoding: "utf8" });
  assert.deepEqual({ status, stderr }, { status: 0, stderr: "" });
  for (const name of ["presence.js", "presence.d.ts"]) {
    assert.ok(readFileSync(join(here, name), "utf8") === readFileSync(join(out, name), "utf8"), `${name} differs: run \`npm run build\` in web/`);
  }
});

test("presence.js works in a bundle without an address, but then needs the option url", () => {
  const { code } = transformSync(readFileSync(join(here, "presence.js"), "utf8"), { format: "cjs", logLevel: "silent" });
  const bundle = { exports: {} };
  new Function("module", code)(bundle);
  assert.throws(() => bundle.exports.join(), { code: "ERR_INVALID_URL" });
});

test("the page calls the client according to the types", () => {
  assert.deepEqual(tsc("-p", "tsconfig.page.json"), { status: 0, stdout: "" });
});

test("the types accept correct programs and reject incorrect ones", () => {
  const program = `
    import { catchUp, decode, fresh, join, PresenceError, request, type MessagePage, type LoggedMessage, type Member, type Message, type Room, type State, type StreamEvent, type Unfinished } from ${JSON.stringify(join(here, "presence.js"))};
    const room: Room = join({ url: new URL("https://example.com/"), room: "lobby", token: async () => "T", renew: () => {}, share: true });
    const numbers: (number | null)[] = [room.count, room.connections, room.users];
    const members: ReadonlyMap<string, Member> = room.members;
    const state: State = room.state;
    const off: () => void = room.on("count", (n) => n.toFixed());
    room.on("state", ({ connection }) => { const c: "connecting" | "open" | "closed" = connection; });
    room.on("leave", ({ reason }) => reason.toUpperCase());
    room.on("user count", (n) => n.toFixed());
    room.on("chat message", (message) => { const m: Message = message; });
    const sent: Promise<{ id: string }> = room.send({ any: ["JSON"] }, { event: "chat message", id: "mine-1" });
    const partial: Unfinished = fresh();
    const log: LoggedMessage[] = decode(partial, "data: 1").events.map((event) => ({ event, prev: "" }));
    const missed: StreamEvent[] = catchUp(state, log, room.lastEventId);
    const done: Promise<void>[] = [room.setState({ status: "away" }), room.refresh(10)];
    const earlier: Promise<MessagePage> = room.history({ limit: 10, before: null });
    earlier.then(({ messages, next }) => { const m: Message[] = messages; next?.length; return messages.map(({ event }) => event.length); });
    room.close();
    // @ts-expect-error: the count is a number
    room.on("count", (n) => n.length);
    // @ts-expect-error: the option does not exist
    join({ rom: "lobby" });
    // @ts-expect-error: members is read-only
    room.members.set("x", null);
    // @ts-expect-error: count is read-only
    room.count = 1;
    // @ts-expect-error: the state is read-only
    room.state.count = 1;
  `;
  const file = join(out, "program.ts");
  writeFileSync(file, program);
  const options = ["--ignoreConfig", "--noEmit", "--strict", "--skipLibCheck", "false", "--target", "esnext", "--types", ""];
  assert.deepEqual(tsc(...options, "--module", "esnext", "--moduleResolution", "bundler", file), { status: 0, stdout: "" });
});

test("the package holds exactly the files that package.json names", () => {
  const { exports, files, types } = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
  const pack = spawnSync("npm", ["pack", "--dry-run", "--json"], { cwd: here, encoding: "utf8" });
  assert.ifError(pack.error);
  const packed = JSON.parse(pack.stdout);
  const names = (Array.isArray(packed) ? packed[0] : Object.values(packed)[0]).files.map(({ path }) => path).sort();
  const modules = readdirSync(join(here, "presence")).map((name) => `presence/${name}`);
  assert.deepEqual(names, ["LICENSE", "README.md", ...files.filter((name) => name !== "presence"), ...modules, "package.json"].sort());
  assert.equal(readFileSync(join(here, "LICENSE"), "utf8"), readFileSync(join(here, "../LICENSE"), "utf8"));
  for (const name of [exports["."].types, exports["."].default, types]) assert.ok(names.includes(name.slice(2)), name);
});
