/**
 * The randomized model of tabs with `share: true`, and of rooms that are not shared. A run performs
 * random actions in the simulated browser: users open and close tabs, browsers freeze, discard and
 * prerender them, and the connection and the server fail. Then it waits, and compares each tab with
 * the server.
 */
import { settled, use, world } from "./browser.fake.js";

const steps = 100;

// Each of these functions calls `fn` with a random tab, leader or connection, if there is one.
const withTab = (fn) => world.live.length > 0 && fn(world.pick(world.live));
const withLeader = (fn) => world.leaders.length > 0 && fn(world.pick(world.leaders).tab);
const withTabThatIs = (which, fn) => {
  const tabs = world.tabs.filter(which);
  return tabs.length > 0 && fn(world.pick(tabs));
};
const withAny = (fn) => withTabThatIs(() => true, fn);
const withConn = (fn) => {
  const { conns } = world.server;
  return conns.length > 0 && fn(world.pick(conns));
};
const roomOf = (conn) => world.server.room(conn.url.searchParams.get("room"));
const someRoom = () => world.server.room(world.pick(world.roomNames));
const prerendered = ({ document }) => document.prerendering;
const asleep = ({ hung, frozen }) => hung || frozen;

/** The random actions and their weights. */
const actions = [
  [30, "a message", () => someRoom().publish()],
  [3, "messages", () => someRoom().publish(1 + world.randomBelow(world.pick([10, 60, 150])))],
  [5, "a tab sends a message", () => withTab((tab) => world.pick(tab.clients).send("sent"))],
  [10, "another user", () => someRoom().changeOther()],
  [25, "a short time passes", () => world.advance(world.randomBelow(50))],
  [6, "some time passes", () => world.advance(world.randomBelow(8000))],
  [2, "a long time passes", () => world.advance(world.randomBelow(60_000))],
  [12, "open a tab", () => open()],
  [5, "close a tab", () => withTab((tab) => tab.close())],
  [2, "close a leader", () => withLeader((tab) => tab.close())],
  [3, "kill a tab", () => withAny((tab) => tab.kill())],
  [2, "kill a leader", () => withLeader((tab) => tab.kill())],
  [2, "discard a tab", () => withAny((tab) => tab.discard())],
  [3, "open a discarded tab", () => world.discarded.length > 0 && world.open(world.discarded.pop())],
  [4, "hang a tab", () => withTab((tab) => (tab.hung = true))],
  [2, "hang a leader", () => withLeader((tab) => (tab.hung = true))],
  [3, "freeze a tab", () => withTab((tab) => tab.freeze())],
  [2, "freeze a leader", () => withLeader((tab) => tab.freeze())],
  [3, "freeze a tab without an event", () => withTab((tab) => tab.stall())],
  [3, "freeze a leader without an event", () => withLeader((tab) => tab.stall())],
  [3, "move a tab to the cache", () => withTab((tab) => tab.leave(world.randomBelow(4)))],
  [14, "resume a tab", () => withTabThatIs(asleep, (tab) => tab.wake())],
  [2, "hide or show a tab", () => withTab((tab) => tab.show(tab.document.hidden))],
  [2, "pause a room", () => withTab((tab) => world.pick(tab.clients).pause())],
  [4, "resume a room", () => withTab((tab) => world.pick(tab.clients).resume())],
  [5, "activate a prerendered tab", () => withTabThatIs(prerendered, (tab) => tab.activate())],
  [4, "close a connection", () => withConn((conn) => roomOf(conn).cut(conn))],
  [2, "lose a connection unnoticed", () => withConn((conn) => roomOf(conn).cut(conn, true))],
  [2, "stop the server", () => world.server.goDown()],
  [8, "start the server", () => (world.server.down = false)],
  [1, "go offline", () => world.network.connect(false)],
  [5, "go online", () => world.network.connect(true)],
  [2, "restart the server", () => world.server.restart()],
  [1, "set the clock", () => (world.clockOffset += world.pick([-1, 1]) * world.pick([1, 1000, 3_600_000]))],
  [1, "wait and check", () => rest()],
];
const allActions = actions.flatMap(([weight, name, action]) => Array(weight).fill({ name, action }));

/** Opens a tab with one room, or with several. */
function open() {
  if (world.tabs.length >= world.maxTabs) return;
  const rooms = new Set();
  for (let n = world.pick(world.roomsPerTab); n > 0; n--) rooms.add(world.pick(world.roomNames));
  const share = world.random() >= world.unshared;
  const prerendering = world.random() < 0.1;
  world.open({ rooms: [...rooms], share, prerendering });
}

/** Starts the server, goes online, waits until no more changes are due, and checks the tabs. */
async function rest() {
  world.server.down = false;
  world.network.connect(true);
  if (world.live.length === 0) world.open({ rooms: [world.pick(world.roomNames)] });
  await world.advance(100_000);
  check();
  for (const client of world.clients) client.send("at rest");
  await world.advance(1000);
  for (const client of world.clients) if (client.unsettled > 0) world.fault(`${client}: ${client.unsettled} messages without a response`);
  for (const client of world.clients) if (client.failed) world.fault(`${client}: ${client.failed}`);
  check();
}

/**
 * Checks that each live tab has the state of the server. The tabs that share a room have one leader
 * and one stream. A room is not open only if a slot for its stream is missing.
 */
export function check() {
  const { locks, network, server } = world;
  for (const name of server.rooms.keys()) checkRoom(name);
  const reasons = world.live.flatMap(({ clients }) => clients.filter(({ paused }) => paused)).map(({ room }) => room.state.reason);
  if (reasons.some((reason) => reason !== "paused")) world.fault(`reasons of paused rooms: ${reasons}`);
  const closed = world.clients.filter(({ room }) => room.state.connection !== "open");
  const wrong = closed.filter(({ room }) => room.state.reason !== "connections");
  for (const client of wrong) world.fault(`${client} is ${client.room.state.connection}, with reason ${client.room.state.reason}`);
  const slots = [...locks.held.values()].filter(({ name }) => name.startsWith("presence stream "));
  if (closed.length > 0 && slots.length < network.maxStreams) world.fault(`${closed} is not open, with ${slots.length} streams`);
  for (const tab of world.tabs.filter(({ frozen, kept, document }) => frozen === "freeze" || kept || document.prerendering)) {
    // The browser may have granted a lock without the page knowing it yet.
    const granted = [...locks.held.values()].filter((lock) => lock.granted);
    const left = [...network.requests, ...granted, ...locks.pending].filter((owned) => owned.tab === tab);
    if (left.length > 0) world.fault(`tab ${tab.id} holds ${left.map(({ name, path }) => name ?? path)}`);
  }
  const [held, used] = [slots, network.streams].map((all) => all.filter(({ tab }) => world.live.includes(tab)).length);
  if (held !== used) world.fault(`${held} slots for ${used} streams`);
}

function checkRoom(name) {
  const room = world.server.room(name);
  const clients = world.clients.filter((client) => client.name === name);
  const sharing = clients.filter(({ shares }) => shares);
  const leaders = sharing.filter(({ room }) => room.state.shared === "leading");
  if (leaders.length !== Math.min(1, sharing.length)) world.fault(`leaders: ${leaders}, want one of ${sharing}`);
  const holders = [...leaders, ...clients.filter(({ shares }) => !shares)].filter(({ room }) => room.state.connection === "open");
  const ids = (tabs) => tabs.map(({ id }) => id).sort();
  const conns = ids([...room.conns].map(({ tab }) => tab).filter((tab) => world.live.includes(tab)));
  const wanted = ids(holders.map(({ tab }) => tab));
  if (String(conns) !== String(wanted)) world.fault(`${name}: connections of the tabs ${conns}, want ${wanted}`);
  const want = { position: room.position, count: room.count, ...room.snapshot(), received: room.position };
  for (const client of clients) {
    const { connection, lastEventId: position, count, users } = client.room.state;
    if (connection !== "open") continue;
    const members = [...client.room.members.values()].map(({ id, name, info }) => ({ id, name, info }));
    members.sort((a, b) => (a.id < b.id ? -1 : 1));
    const got = { position, count, users, members, received: client.at };
    const [g, w] = [JSON.stringify(got), JSON.stringify(want)];
    if (g !== w) world.fault(`${client} has\n${g}, want\n${w}`);
  }
}

/** Closes all tabs, and checks that no timer, channel, lock or connection is left. */
export async function endAll() {
  for (const tab of [...world.tabs]) {
    tab.wake();
    tab.close();
  }
  await world.advance(1000);
  const timers = [...world.timers.values()].filter(({ tab, ofBrowser }) => tab && !ofBrowser).length;
  const { channels, locks, network, server } = world;
  const requests = network.active.size + network.waiting.length;
  const left = { timers, channels: channels.size, held: locks.held.size, pending: locks.pending.length, requests, connections: server.conns.length };
  const want = { timers: 0, channels: 0, held: 0, pending: 0, requests: 0, connections: 0 };
  if (JSON.stringify(left) !== JSON.stringify(want)) world.fault("left behind:", JSON.stringify(left));
}

/** Performs one run. Returns the faults that it found. `world.trace` lists the actions. */
export async function run(seed, load) {
  use(seed, load);
  world.server.maxHistory = world.pick([5, 50, 1000]);
  world.server.maxUnsent = world.pick([40, 500]);
  world.network.protocol = world.pick(["http/1.1", "http/1.1", "http/1.1", "http/1.1", "h2"]);
  // In a crowded browser, the rooms need more connections than the browser opens.
  const crowded = world.random() < 0.3;
  world.roomNames = ["lobby", "b", "c", "d", "e", "f", "g"].slice(0, crowded ? 7 : world.pick([1, 1, 2]));
  world.roomsPerTab = crowded ? [1, 2, 4] : [1, 1, 2];
  world.unshared = crowded ? 0.3 : world.pick([0, 0, 0.3]); // share of the tabs without `share`
  world.maxTabs = 7;
  try {
    await perform();
  } catch (error) {
    world.fault(error.stack);
  }
  return world.faults;
}

async function perform() {
  for (let i = 0; i < steps && world.faults.length === 0; i++) {
    const { name, action } = world.pick(allActions);
    world.note(name);
    await action();
    await settled();
    for (let tasks = world.randomBelow(12); tasks > 0 && (await world.step()); tasks--);
  }
  if (world.faults.length > 0) return;
  for (const tab of world.tabs) {
    tab.wake();
    if (tab.document.prerendering) tab.activate();
  }
  await rest();
  if (world.faults.length === 0) await endAll();
}
