/**
 * Tests the client and the examples in Firefox, for TestFirefox in cmd/presence:
 *
 *     node web/firefox.js ws://127.0.0.1:PORT CASES
 *
 * The address is that of a running Firefox. CASES is a JSON object: for each case below, the
 * addresses of its servers and its tokens. The cases run at the same time, each with its own
 * cookies. The program prints a line of JSON for each case, with the error if the case failed. At
 * the end it stops Firefox.
 */
import assert from "node:assert/strict";
import { connect } from "puppeteer-core";

const patience = 40_000; // ms

const cases = {
  // Two tabs of one user.
  async cookie({ open, server }) {
    const [first, second] = [await joined(await open(), server), await joined(await open(), server)];
    for (const tab of [first, second]) {
      await see(tab, "room.state.connection === 'open' && room.count === 2 && room.users === 1");
      await see(tab, "room.members.size === 1 && [...room.members.values()][0].name === 'Ann'");
    }
    await first.evaluate(() => room.send("one"));
    await second.evaluate(() => room.send("two", { event: "chat message" }));
    for (const tab of [first, second]) await see(tab, "received.join() === 'one,two'");
    await second.close();
    await see(first, "room.count === 1");
  },

  // Two users.
  async token({ open, server, tokens }) {
    const [ann, bob] = [await joined(await open(), server, { token: tokens.ann }), await joined(await open(), server, { token: tokens.bob })];
    for (const tab of [ann, bob]) {
      await see(tab, "room.state.connection === 'open' && room.count === 2");
      await see(tab, "[...room.members.keys()].sort().join() === 'ann,bob'");
    }
    await ann.evaluate(() => room.send("one"));
    await bob.evaluate(() => room.send("two", { event: "chat message" }));
    await bob.evaluate(() => room.setState({ status: "away" }));
    for (const tab of [ann, bob]) await see(tab, "received.join() === 'one,two' && room.members.get('bob').info.status === 'away'");
    await bob.close();
    await see(ann, "room.count === 1");
  },

  // Three tabs share a connection. The leader closes while messages arrive.
  async share(test) {
    const { open, server } = test;
    const tabs = [];
    for (let i = 0; i < 3; i++) tabs.push(await joined(await open(), server, { share: true }));
    for (const tab of tabs) await see(tab, "room.state.connection === 'open' && room.count === 1");
    const roles = await Promise.all(tabs.map((tab) => tab.evaluate("room.state.shared")));
    assert.deepEqual([...roles].sort(), ["following", "following", "leading"]);
    assert.equal(await connections(test), 1);
    const sendUpTo = async (end) => {
      for (; sent < end; sent++) await post(test, { data: sent });
    };
    let sent = 0;
    await sendUpTo(20);
    const leader = roles.indexOf("leading");
    await Promise.all([sendUpTo(60), tabs[leader].close()]);
    tabs.splice(leader, 1);
    await sendUpTo(80);
    const all = Array.from({ length: 80 }, (_, i) => i);
    for (const tab of tabs) {
      await see(tab, "received.length >= 80 && room.state.connection === 'open' && room.count === 1");
      assert.deepEqual(await tab.evaluate("received"), all);
    }
    assert.deepEqual((await Promise.all(tabs.map((tab) => tab.evaluate("room.state.shared")))).sort(), ["following", "leading"]);
    assert.equal(await connections(test), 1);
  },

  // Over HTTP/1.1, five tabs hold a stream. The others wait, and can send. Firefox opens six
  // connections for requests with cookies, and six for requests without, so the next case uses a
  // token.
  async tabs({ open, server }) {
    const tabs = [];
    for (let i = 0; i < 7; i++) {
      tabs.push(await joined(await open(), server));
      await see(tabs[i], i < 5 ? "room.state.connection === 'open'" : "room.state.reason === 'connections'");
    }
    for (const tab of tabs) await sendsAtOnce(tab);
    for (const tab of tabs.slice(0, 5)) await see(tab, "received.length >= 7 && room.count === 5");
    await tabs[0].close();
    const next = () => Promise.all(tabs.slice(5).map((tab) => tab.evaluate("room.state.connection")));
    await until(async () => (await next()).includes("open"), next);
    assert.deepEqual((await next()).sort(), ["connecting", "open"]);
    await tabs[1].close();
    for (const tab of tabs.slice(2)) await see(tab, "room.state.connection === 'open' && room.count === 5");
  },

  // Over HTTP/1.1, five rooms of a page hold a stream.
  async rooms({ open, server, tokens }) {
    const page = await joined(await open(), server, { token: tokens.ann }, 7);
    const states = "rooms.map(({ state }) => state.reason ?? state.connection).join()";
    await see(page, `${states} === 'open,open,open,open,open,connections,connections'`);
    for (const i of [0, 5, 6]) await sendsAtOnce(page, i);
    await page.evaluate("rooms[0].close()");
    await see(page, "rooms.filter(({ state }) => state.connection === 'open').length === 5");
    await page.evaluate("rooms[1].close()");
    await see(page, "rooms.slice(2).every(({ state }) => state.connection === 'open')");
  },

  // Over HTTP/2, all rooms of a page hold a stream.
  async http2({ open, server, tokens }) {
    const [page, other] = [await joined(await open(), server, {}, 20), await joined(await open(), server, { token: tokens.ann }, 20)];
    for (const tab of [page, other]) await see(tab, "rooms.every(({ state, count }) => state.connection === 'open' && count === 2)");
    await sendsAtOnce(page, 19);
    await see(other, "received[0] === 'x'");
  },

  // The EventSource example. Firefox puts no page with an open stream into its back/forward cache.
  async "event source"(test) {
    const { open, site } = test;
    const page = await open(() => {
      const Original = EventSource;
      window.EventSource = class extends Original {
        constructor(...options) {
          super(...options);
          window.source = this;
        }
      };
    });
    await page.goto(`${site}/event-source.html`);
    await see(page, "document.querySelector('#count').textContent === '1'");
    await leavesAndReturns(page, test, false);
    await see(page, "document.querySelector('#count').textContent === '1'");

    // Firefox keeps a page whose stream has failed.
    await page.evaluate("source.close()");
    await leavesAndReturns(page, test, true);
    assert.equal(await page.evaluate("source.readyState"), 1);
  },

  // The presence.js example.
  async example(test) {
    const { open, site } = test;
    const [page, other] = [await open(), await open()];
    await page.goto(`${site}/presence.html`);
    await see(page, "document.querySelector('#count').textContent === '1'");
    await leavesAndReturns(page, test, false);
    await other.goto(`${site}/presence.html`);
    for (const tab of [page, other]) await see(tab, "document.querySelector('#count').textContent === '2'");
    await page.click("button");
    for (const tab of [page, other]) await see(tab, "document.body.textContent.includes('Ann: hello')");
  },

  // A worker holds the stream. Firefox keeps no page whose worker holds a Web Lock. The client
  // holds one while its stream is open, and none while the room is paused.
  async worker(test) {
    const { open, site } = test;
    const page = await open();
    await page.goto(`${site}/worker.html`);
    await see(page, "document.querySelector('#count').textContent === '1'");
    await leavesAndReturns(page, test, false);
    await see(page, "document.querySelector('#count').textContent === '1'");
    await page.evaluate("worker.postMessage('pause')");
    await until(async () => (await connections(test)) === 0);
    await leavesAndReturns(page, test, true);
  },

  // Two pages share a worker that holds the stream. Firefox keeps no page with a SharedWorker.
  async "shared worker"(test) {
    const { open, site } = test;
    const pages = [await open(), await open()];
    await pages[0].goto(`${site}/icon.svg`); // a page of the server's origin
    await pages[0].evaluate(async () => (await import("/presence.js")).request("POST", "/login", { name: "Ann" }));
    for (const page of pages) {
      await page.goto(`${site}/fixtures/shared-worker.html`);
      await see(page, "state.connection === 'open' && state.count === 1");
    }
    await pages[0].goto(`${site}/icon.svg`);
    assert.equal(await connections(test), 1);
    await leavesAndReturns(pages[1], test, false);
    await see(pages[1], "state.connection === 'open' && state.count === 1");
  },
};

/**
 * Makes a page join the lobby, and more rooms if `count` is greater than 1. The page is the icon of
 * the server, because it has the server's origin and loads nothing else.
 */
async function joined(page, server, options = {}, count = 1) {
  await page.goto(`${server}/icon.svg`);
  await page.evaluate(async (options, count) => {
    const { join, request } = await import("/presence.js");
    if (!options.token && !(await request("GET", "/session")).user) await request("POST", "/login", { name: "Ann" });
    window.rooms = Array.from({ length: count }, (_, i) => join({ room: i ? `room-${i}` : "lobby", ...options }));
    window.room = rooms[0];
    window.received = [];
    for (const room of rooms) {
      for (const name of ["message", "chat message"]) room.on(name, ({ data }) => received.push(data));
      room.on("reset", () => received.push("reset"));
    }
  }, options, count);
  return page;
}

/**
 * Sends a message, which must not wait for a connection. Without a free one, it would wait for 10 s
 * or more: until another request fails.
 */
async function sendsAtOnce(page, room = 0) {
  const took = await page.evaluate(async (room) => {
    const start = performance.now();
    await rooms[room].send("x");
    return performance.now() - start;
  }, room);
  assert(took < 8000, `send() took ${took} ms, want less than 8000 ms`);
}

/**
 * The page navigates to another one, which does not exist, and goes back. Its connection ends at
 * once and opens again. `kept` is whether Firefox keeps the page in its back/forward cache.
 */
async function leavesAndReturns(page, test, kept) {
  await page.evaluate(() => (window.mark = true));
  await page.evaluate(() => void (location.href = "other.html"));
  await see(page, "location.pathname.endsWith('other.html')");
  const count = () => connections(test);
  await until(async () => (await count()) === 0, count);
  await page.evaluate(() => history.back());
  await see(page, "!location.pathname.endsWith('other.html')");
  await until(async () => (await count()) === 1, count);
  assert.equal(await page.evaluate(() => window.mark ?? false), kept, "whether the page was in the back/forward cache");
}

/** Returns the number of connections in the room, as the server reports it. */
async function connections({ server, tokens, room = "lobby" }) {
  const answer = await fetch(`${server}/presence?room=${room}`, { headers: { Authorization: `Bearer ${tokens.bob}` } });
  return (await answer.json()).connections;
}

async function post({ server, tokens }, message) {
  const headers = { Authorization: `Bearer ${tokens.bob}`, "Content-Type": "application/json" };
  const answer = await fetch(`${server}/messages`, { method: "POST", headers, body: JSON.stringify(message) });
  assert.equal(answer.status, 202);
}

/** Waits until the expression is true in the page. The page may navigate meanwhile. */
async function see(page, expression) {
  const failed = (error) => `${error}`;
  await until(async () => (await page.evaluate(`Boolean(${expression})`).catch(failed)) === true, async () => {
    const text = `JSON.stringify([location.href, window.rooms?.map(({ state }) => ({ ...state, members: [...state.members] })), window.received, document.body?.innerText])`;
    return `${expression}: ${await page.evaluate(text).catch(failed)}`;
  });
}

/** Waits until the condition holds. Otherwise it fails with the result of `actual`. */
async function until(condition, actual = () => "") {
  for (const end = Date.now() + patience; !(await condition()); await new Promise((resolve) => setTimeout(resolve, 20))) {
    if (Date.now() > end) assert.fail(`not in time: ${await actual()}`);
  }
}

/** Runs a case. An exception or an error on the console of a page is a failure too. */
async function run(browser, name, given) {
  const context = await browser.createBrowserContext();
  const errors = [];
  const open = async (before = () => {}) => {
    const page = await context.newPage();
    page.on("pageerror", (error) => errors.push(error));
    page.on("console", (message) => message.type() === "error" && errors.push(new Error(message.text())));
    await page.evaluateOnNewDocument(before);
    return page;
  };
  await cases[name]({ ...given, open }).catch((error) => errors.push(error));
  console.log(JSON.stringify({ name, error: errors.map(({ stack }) => stack).join("\n") }));
  await context.close();
}

const [browserWSEndpoint, given] = process.argv.slice(2);
assert.deepEqual(Object.keys(JSON.parse(given)).sort(), Object.keys(cases).sort());
const browser = await connect({ browserWSEndpoint, protocol: "webDriverBiDi", acceptInsecureCerts: true, defaultViewport: null });
await Promise.all(Object.entries(JSON.parse(given)).map(([name, given]) => run(browser, name, given)));
await browser.close();
