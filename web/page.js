/**
 * The live page. It shows the state and the events of presence.js, and sends the user's input. The
 * logic of the protocol is in presence.js.
 */
import { Away } from "./away.js";
import { Composer } from "./composer.js";
import { $, inOneFrame, later, put } from "./dom.js";
import { Messages } from "./messages.js";
import { People } from "./people.js";
import { Plot } from "./plot.js";
import { PresenceError, isRoomName, join, request } from "./presence/index.js";
import { Rooms, addressOf, onRoomLink, remember, roomOfAddress } from "./rooms.js";
import { called, peopleWords, roomRule, signedOut, stateWords } from "./words.js";

const share = new URLSearchParams(location.search).get("share") === "1";

let room = null; // the current Room, from join()
let listening = []; // functions that remove the listeners of the room
let away = null; // sets the user's status to "away" while the page is hidden
let name = ""; // room name; empty if the address has an invalid one
let user = null; // the signed-in user, if the server reports it
let hasSession = true; // whether the server has GET session; true until a response shows otherwise
let visits = 0; // number of rooms shown so far; a response for an earlier visit is ignored

const plot = new Plot($("plot"));
const people = new People($("members"), askToRemove);
const messages = new Messages({ log: $("log"), list: $("messages"), quiet: $("quiet"), more: $("more") });
new Composer({ form: $("composer"), box: $("message"), sending: $("sending"), error: $("send-error") }, () => ({ room, name }));
const rooms = new Rooms(
  { list: $("rooms"), none: $("rooms-none"), error: $("rooms-error"), first: $("rooms-first"), more: $("rooms-next") },
  (after) => request("GET", `rooms?${new URLSearchParams(after && { after })}`),
);

const drawPeople = inOneFrame(showPeople);
const speak = later(() => Math.max(0, spoken + 5000 - Date.now()), announce);
let spoken = 0; // time at which the count was last announced to screen readers

// Rooms and the signed-in user

/** Shows the room that the address names, as the user that the server reports. */
async function enter() {
  leave();
  const visit = ++visits;
  const asked = roomOfAddress();
  name = isRoomName(asked) ? asked : "";
  clear();
  $("nowhere").hidden = name !== "";
  $("change").hidden = false;
  put($("room"), name || "No room");
  put($("asked"), asked);
  showError(null);
  rooms.mark(name);
  if (name === "") {
    $("welcome").hidden = $("live").hidden = $("session").hidden = true;
    return showState({ connection: "closed", reason: null, shared: null }, "");
  }
  const session = await fetchSession();
  if (visit !== visits) return;
  user = session?.user ?? null;
  if (session && !user) return signIn(session.guests);
  attach();
}

/**
 * Returns the response of GET session, or null if the request fails. If it fails, joining the room
 * shows the cause.
 */
async function fetchSession() {
  if (!hasSession) return null;
  try {
    return await request("GET", "session");
  } catch (error) {
    hasSession = ![404, 405].includes(error.problem?.status);
    return null;
  }
}

/** Joins the room. With `lastEventId`, resumes from that position. */
function attach(lastEventId) {
  leave();
  $("welcome").hidden = true;
  $("live").hidden = $("session").hidden = false;
  room = join({ room: name, share, lastEventId });
  listening = [
    room.on("state", show),
    room.on("count", askMembers),
    room.on("ping", askMembers),
    room.on("sync", entered),
    room.on("message", (message) => messages.add(message, user?.id)),
    room.on("chat message", (message) => messages.add(message, user?.id)),
    room.on("reset", () => messages.gap()),
  ];
  recognise();
  show(room.state);
}

// Shows the user. The page may not know the user before the room is open.
function recognise() {
  $("all").hidden = !user?.admin;
  put($("me"), user ? called(user) : "");
  if (user) away ??= new Away(room, user.id);
}

/** Removes everything on the page that belongs to a room. */
function clear() {
  messages.clear();
  plot.clear();
  people.show(new Map(), { me: null, admin: false });
  put($("people-title"), "People");
  put($("count"), "–");
  $("persons").hidden = true;
  document.title = name ? `${name} – presence` : "presence";
}

function leave() {
  for (const off of listening) off();
  listening = [];
  away?.end();
  away = null;
  room?.close();
  room = null;
}

async function entered() {
  remember(name, $("visited"));
  askMembers();
  measure();
  if (!user) {
    const visit = visits;
    const session = await fetchSession();
    if (visit !== visits || !room) return;
    user = session?.user ?? null;
    recognise();
    drawPeople();
  }
  if (user?.admin) rooms.refresh();
}

/**
 * Shows the sign-in form.
 *
 * @param {boolean} [guests]  Whether users can sign in with a name only. Default: true, try it.
 */
function signIn(guests = true) {
  leave();
  user = null;
  $("guest").hidden = !guests;
  $("bearer").hidden = guests;
  $("welcome").hidden = false;
  $("live").hidden = $("session").hidden = true;
  clear();
  if ($("switch").hidden) $(guests ? "name" : "token").focus();
}

async function signInAgain() {
  const visit = ++visits;
  leave();
  const session = await fetchSession();
  if (visit === visits) signIn(session?.guests);
}

/** Switches to another room, and adds it to the browser's history as a link would. */
function go(to) {
  if (to !== name) history.pushState(null, "", addressOf(to));
  openSwitch(false);
  if (to !== name) enter();
}

addEventListener("popstate", () => {
  if (roomOfAddress() !== name) enter();
});
onRoomLink(document, go);

// Events of the room

/** @param {import("./presence.js").State} state */
function show(state) {
  showState(state, stateWords(state));
  plot.record(state.connection === "open" ? state.count : null);
  if (state.count !== null && String(state.count) !== $("count").textContent) {
    put($("count"), state.count);
    document.title = `${state.count} in ${name} – presence`;
    speak();
  }
  // If all tabs of a browser share one connection, the number of users is the more useful one.
  $("persons").hidden = !share || state.users === null;
  put($("persons"), peopleWords(state.users));
  if (signedOut(state)) return signInAgain();
  if (state.problem && state.connection === "closed") showError(new PresenceError(state.problem));
  drawPeople();
}

function showState({ connection, reason, shared }, words) {
  for (const element of [document.body, $("state")]) {
    element.dataset.state = connection;
    element.dataset.reason = reason ?? "";
  }
  put($("state"), words);
  $("reconnect").hidden = connection !== "closed" || reason === null;
  if (connection !== "open") $("latency").hidden = true;
  $("shared").hidden = shared === null || connection !== "open"; // null where tabs cannot share, as on an insecure page
  put($("shared"), shared === "following" ? "One connection for all tabs, in another tab" : "One connection for all tabs, in this tab");
}

function showPeople() {
  if (!room) return;
  const { connection, members, complete, users } = room.state;
  const crowd = connection === "open" && !complete;
  $("members").hidden = crowd;
  $("crowd").hidden = !crowd;
  const number = crowd ? users : members.size || null;
  put($("people-title"), number === null ? "People" : `People (${number})`);
  people.show(members, { me: user?.id ?? null, admin: user?.admin === true });
}

function announce() {
  spoken = Date.now();
  put($("spoken"), `${$("count").textContent} connected`);
}

// The stream reports that a user joined or left, but not that a user opened another tab. It also
// does not send the time at which a new member joined.
let asking = false;
const askMembers = later(
  // The random part spreads the requests of all pages.
  () => Math.max(1500, 20 * (room?.state.members.size ?? 0)) * (1 + Math.random() / 4),
  async () => {
    if (asking || document.hidden || !room?.state.complete) return;
    asking = true;
    await room.refresh().catch(() => {}); // the stream reports the same errors
    asking = false;
  },
);

async function measure() {
  if (document.hidden || room?.state.connection !== "open") return;
  const start = performance.now();
  const answered = await request("GET", "healthz").then(() => true, () => false);
  const took = Math.round(performance.now() - start);
  $("latency").hidden = !answered || room?.state.connection !== "open";
  put($("latency"), `${Math.max(1, took)} ms`);
}

// User input

/**
 * Calls `work` when the form is submitted, but not while an earlier call is running. Errors are
 * shown in the element `place`.
 */
function onSubmit(form, place, work) {
  let busy = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    put(place, "");
    await work().catch((error) => put(place, error.message));
    busy = false;
  });
}

onSubmit($("guest"), $("error"), async () => {
  try {
    await request("POST", "login", { name: $("name").value.trim() });
  } catch (error) {
    if (![404, 405].includes(error.problem?.status)) throw error;
    return signIn(false); // the server does not allow guests, which GET session did not report
  }
  await enter();
  $("message").focus();
});

onSubmit($("bearer"), $("error"), async () => {
  await request("POST", "session", { token: $("token").value.trim() });
  $("token").value = "";
  await enter();
  $("message").focus();
});

$("sign-out").addEventListener("click", async () => {
  showError(null);
  try {
    await request("DELETE", "session");
  } catch (error) {
    if (error.problem?.status !== 401) return showError(error); // 401: the token has expired
  }
  showState({ connection: "closed", reason: null, shared: null }, "Signed out");
  signInAgain();
});

$("reconnect").addEventListener("click", () => {
  showError(null);
  attach(room?.lastEventId);
});

function openSwitch(open) {
  const inside = $("switch").contains(document.activeElement);
  $("switch").hidden = !open;
  $("change").setAttribute("aria-expanded", open);
  put($("room-error"), "");
  if (open) {
    $("room-name").value = "";
    $("room-name").focus();
  } else if (inside) {
    $("change").focus();
  }
}

$("change").addEventListener("click", () => openSwitch($("switch").hidden));
$("stay").addEventListener("click", () => openSwitch(false));
$("switch").addEventListener("keydown", (event) => {
  if (event.key === "Escape") openSwitch(false);
});
onSubmit($("switch"), $("room-error"), async () => {
  const to = $("room-name").value.trim();
  if (!isRoomName(to)) throw new Error(roomRule);
  go(to);
});

let removing = null; // id of the member in the dialog, and the Room in which the dialog was opened

function askToRemove(member) {
  removing = { id: member.id, from: room };
  put($("whom"), called(member));
  put($("whose"), member.id);
  put($("remove-error"), "");
  $("removal").showModal();
}

$("keep").addEventListener("click", () => $("removal").close());
onSubmit($("remove"), $("remove-error"), async () => {
  const { id, from } = removing;
  // The id is in the query, because browsers and proxies change a path that contains ., .. or %2F.
  const query = new URLSearchParams({ room: from.name, id, for: String(new FormData($("remove")).get("for")) });
  await request("DELETE", `members?${query}`);
  $("removal").close();
});

function showError(error) {
  put($("error"), error?.message ?? "");
}

// Timers

setInterval(() => document.hidden || $("live").hidden || plot.draw(), 1000);
setInterval(() => document.hidden || people.age(), 15_000);
setInterval(every5, 5000);

function every5() {
  measure();
  if (!document.hidden && room?.state.connection === "open" && user?.admin) rooms.refresh();
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden || !room) return;
  plot.draw();
  people.age();
  askMembers();
  every5();
});

put($("rule"), roomRule);
$("to-lobby").href = addressOf("lobby");
enter();
