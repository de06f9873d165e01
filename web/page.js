/**
 * The live page. It shows the state and the events of presence.js, and sends the user's input. The
 * logic of the protocol is in presence.js.
 */
import { Away } from "./away.js";
import { Composer } from "./composer.js";
import { $, alignInk, focusList, inOneFrame, later, openOne, put, putWhole } from "./dom.js";
import { Earlier } from "./history.js";
import { Messages } from "./messages.js";
import { People } from "./people.js";
import { Plot } from "./plot.js";
import { isRoomName, join, request } from "./presence/index.js";
import { Refused } from "./refused.js";
import { Removal } from "./removal.js";
import { Rooms, addressOf, onRoomLink, remember, roomOfAddress } from "./rooms.js";
import { Status } from "./status.js";
import { Title } from "./title.js";
import {
  brief, called, countWords, emptyWords, isGuest, knownWords, nameError, proposedRoom, refusalWords, roomError, roomReason, secondsWords, sentence,
  signedOut, stateWords, tokenWords, waitingWords,
} from "./words.js";

const requestTimeout = 10_000; // milliseconds
const late = 3000; // milliseconds after the end of a token in which the server closes the room
const shortWait = 2000; // milliseconds; a user cannot make a shorter wait much shorter
const share = new URLSearchParams(location.search).get("share") === "1";

let room = null; // the current Room, from join()
let listening = []; // functions that remove the listeners of the room
let away = null; // sets the user's status to "away" while the page is hidden
let name = ""; // room name; empty if the address has an invalid one
let user = null; // the signed-in user, if the server reports it
let hasSession = true; // whether the server has GET session; true until a response shows otherwise
let position = ""; // position from which to resume after the server has refused the user
let ends = null; // time at which the token expires, once the server has announced it
let warned = null; // the warning from which it was computed
let known = null; // time at which the state of the room was last known to be correct
let renewing = false; // whether the sign-in form asks for a token while the user is in the room
let visits = 0; // number of rooms shown so far; a response for an earlier visit is ignored

const plot = new Plot($("plot"));
const title = new Title();
const removal = new Removal(
  {
    dialog: $("removal"), form: $("remove"), name: $("whom"), leaver: $("who-leaves"), withId: $("with-id"), id: $("whose"), error: $("remove-error"), keep: $("keep"),
    notices: $("notices"), spoken: $("removed"), list: $("members"),
  },
  request,
  () => drawPeople(),
);
const status = new Status(
  { button: $("set-status"), form: $("own-status"), box: $("status-text"), cancel: $("status-cancel"), error: $("status-error") },
  () => ({ room, me: user?.id ?? null }),
);
const people = new People($("members"), (member, restoreFocus) => removal.open(member, restoreFocus));
const messages = new Messages({ log: $("log"), list: $("messages"), quiet: $("quiet"), more: $("more") }, (oldest) => earlier.trimmed(oldest));
const shownEvents = new Set(["message", "chat message"]);
const earlier = new Earlier({ log: $("log"), button: $("earlier"), note: $("earlier-note") }, messages, (options) => room.history(options), shownEvents);
const composer = new Composer(
  {
    form: $("composer"), box: $("message"), button: $("send"), label: $("message-label"), speaks: $("speaks"), sending: $("sending"),
    sent: $("sent"), error: $("send-error"),
  },
  () => ({ room, name, from: user?.admin ? undefined : { id: user?.id ?? "", name: user?.name ?? "" } }),
  messages,
);
const rooms = new Rooms(
  { list: $("rooms"), none: $("rooms-none"), error: $("rooms-error"), first: $("rooms-first"), more: $("rooms-next") },
  (after) => request("GET", `rooms?${new URLSearchParams(after && { after })}`),
);

const refused = new Refused(
  {
    panel: $("refused"), heading: $("refused-title"), text: $("refused-text"), until: $("refused-until"), result: $("again-result"),
    again: $("again"), lobby: $("refused-lobby"), other: $("other"),
  },
  askAgain,
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
  $("change").hidden = false;
  putWhole($("room"), name || "Invalid room name");
  showError(null);
  rooms.mark(name);
  if (name === "") {
    showNowhere(asked);
    return showState(notConnected, "");
  }
  showState({ ...notConnected, connection: "connecting" }, "Connecting…");
  showWaiting({ ...notConnected, connection: "connecting", users: null });
  const session = await fetchSession();
  if (visit !== visits) return;
  user = session?.user ?? null;
  if (!session || user) return attach();
  showState(notConnected, "");
  signIn(session.guests);
}

/** Shows that a room name is invalid, and proposes another one. */
function showNowhere(asked) {
  showOnly("nowhere");
  $("session").hidden = true;
  put($("asked"), brief(asked));
  put($("rule"), roomReason(asked));
  showFieldError("correct-name", "");
  $("correct-name").value = proposedRoom(asked);
  if ($("switch").hidden) $("correct-name").focus();
}

/**
 * Returns the response of GET session, or null if the request fails. If it fails, joining the room
 * shows the cause.
 */
async function fetchSession() {
  if (!hasSession) return null;
  try {
    return await request("GET", "session", undefined, { signal: AbortSignal.timeout(requestTimeout) });
  } catch (error) {
    hasSession = ![404, 405].includes(error.problem?.status);
    return null;
  }
}

/** Shows one of the views of the page. */
function showOnly(view) {
  renewing = false;
  for (const id of ["nowhere", "welcome", "live"]) $(id).hidden = id !== view;
  if (view !== "refused") refused.hide();
}

/** Joins the room. With `lastEventId`, resumes from that position. */
function attach(lastEventId) {
  leave();
  const elsewhere = ["nowhere", "welcome", "refused"].some((view) => $(view).contains(document.activeElement));
  showOnly("live");
  if (elsewhere) $("room").focus();
  $("session").hidden = false;
  ends = warned = null;
  room = join({ room: name, share, lastEventId });
  listening = [
    room.on("state", show),
    room.on("count", askMembers),
    room.on("ping", askMembers),
    room.on("ping", () => (known = Date.now())),
    room.on("expiring", warn),
    room.on("sync", entered),
    ...[...shownEvents].map((event) => room.on(event, receive)),
    room.on("reset", () => {
      messages.gap();
      earlier.missed();
    }),
  ];
  composer.open();
  recognise();
  show(room.state);
}

// Shows the user. The page may not know the user before the room is open.
function recognise() {
  $("all").hidden = !user?.admin;
  putWhole($("me"), user ? called(user) : "");
  $("me-admin").hidden = !user?.admin;
  composer.speakFor(user?.admin === true);
  if (user) away ??= new Away(room, user.id);
}

/** Removes everything on the page that belongs to a room. */
function clear() {
  messages.clear();
  earlier.clear();
  status.offer(undefined);
  removal.enter(name);
  plot.clear();
  people.show(new Map(), { me: null, admin: false });
  put($("people-title"), "People");
  put($("count"), "–");
  for (const text of ["unit", "persons"]) put($(text), "");
  $("tip").hidden = true;
  put($("known"), "");
  known = null;
  title.read();
  title.set(name ? `${name} – presence` : "presence");
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
  if (user?.admin) rooms.refresh();
  if (!user) {
    const visit = visits;
    const session = await fetchSession();
    if (visit !== visits || !room) return;
    user = session?.user ?? null;
    recognise();
    drawPeople();
    if (user?.admin) rooms.refresh();
  }
  composer.synced();
  await earlier.synced(user?.id ?? null);
  messages.settle();
}

/**
 * Shows the sign-in form.
 *
 * @param {boolean} [guests]  Whether users can sign in with a name only. Default: true, try it.
 * @param {?{id: string}} [expired]  The user whose token has expired.
 */
function signIn(guests = true, expired = null) {
  leave();
  user = null;
  removal.clear();
  showOnly("welcome");
  $("session").hidden = true;
  const guest = expired !== null && isGuest(expired.id);
  put($("ended"), expired === null ? "" : guest ? "Your time as a guest has ended. Enter your name again." : "Your token has expired.");
  put($("question"), "Who is here?");
  const old = expired !== null && !guest;
  const hint = old ? newTokenHint : "Paste the token you were given.";
  put($("token-hint"), guests || old ? hint : `A name is not enough on this server. ${hint}`);
  put($("token-label"), old ? "New token" : "Your token");
  $("to-name").hidden = !guests;
  clear();
  askFor(guests && (expired === null || guest) ? "name" : "token", $("switch").hidden);
}

/** Shows the sign-in form for a name or for a token. */
function askFor(what, focus = true) {
  $("guest").hidden = what !== "name";
  $("bearer").hidden = what !== "token";
  $("to-room").hidden = !renewing;
  put($("use-token"), renewing ? "Renew" : "Come in");
  if (!renewing) put($("lede"), what === "name" ? `Join ${name}. Others in the room see your name.` : `Join ${name} with a token. Others in the room see the name in it.`);
  showFieldError("name", "");
  showFieldError("token", "");
  if (focus) $(what).focus();
}

const newTokenHint = "Paste a new token. You get it where you got the old one.";

/** Asks for a new token, while the user remains in the room. */
function renew() {
  const text = ends === null ? `You are in ${name}.` : `${stateWords(room.state, ends).replace("Live, your", "Your")}. With a new token you stay in ${name}.`;
  showOnly("welcome");
  renewing = true;
  put($("ended"), "");
  put($("question"), "Use a new token");
  put($("lede"), text);
  put($("token-hint"), newTokenHint);
  put($("token-label"), "New token");
  $("to-name").hidden = true;
  askFor("token");
  showState(room.state);
}

/** Shows the room again, which the user did not leave. */
function showRoom() {
  showOnly("live");
  showState(room.state);
  $("message").focus();
}

/** Signs in with a token. If it renews the access of the user, the room remains open. */
async function useToken(token) {
  await request("POST", "session", { token });
  $("token").value = "";
  const session = renewing ? await fetchSession() : null;
  if (room && session?.user && session.user.id === user?.id) {
    user = session.user;
    ends = null;
    recognise();
    return showRoom();
  }
  await enter();
  $("message").focus();
}

/** Shows an error below the field of a sign-in form. */
function showFieldError(field, text) {
  put($(`${field}-error`), text);
  $(field).setAttribute("aria-invalid", text !== "");
  if (text !== "") $(field).focus();
}

/** @param {boolean} [expired]  Whether the token has expired. */
async function signInAgain(expired = false) {
  const visit = ++visits;
  const [before, from] = [user, room?.lastEventId];
  leave();
  const session = await fetchSession();
  if (visit !== visits) return;
  // The user has signed in again, but that did not renew this stream.
  if (expired && session?.user) return session.user.id === before?.id ? attach(from) : enter();
  signIn(session?.guests, expired ? (before ?? { id: "" }) : null);
}

/** Shows why the server does not let the user into the room. The user stays signed in. */
function refuse(problem) {
  position = room?.lastEventId ?? "";
  leave();
  put($("count"), "–"); // the next count also sets the title
  showOnly("refused");
  title.set(`${refusalWords(problem, name).title} ${name} – presence`);
  refused.show(name, problem);
}

/**
 * Asks the server whether the user may join the room now. If so, joins it. Otherwise, returns the
 * problem.
 */
async function askAgain() {
  const visit = visits;
  try {
    await request("GET", `presence?${new URLSearchParams({ room: name, limit: "1" })}`, undefined, { signal: AbortSignal.timeout(requestTimeout) });
  } catch ({ problem }) {
    if (visit !== visits || problem?.status !== 401) return problem ?? null;
    showState(notConnected, "Signed out");
    signInAgain();
    return null;
  }
  if (visit !== visits || room) return null;
  attach(position);
  return null;
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
  const open = state.connection === "open";
  if (open) known = Date.now();
  if (state.expiring !== warned) warn({ in: state.expiring });
  showState(state);
  plot.record(open ? state.count : null);
  if (state.count !== null && String(state.count) !== $("count").textContent) {
    put($("count"), state.count);
    title.set(`${state.count} in ${name} – presence`);
    speak();
  }
  showKnown(state);
  showWaiting(state);
  put($("waits"), waitingWords(state));
  rooms.show(open && user?.admin ? { room: name, count: state.count, users: state.users } : null);
  if (signedOut(state)) return signInAgain(state.reason === "expired");
  if (state.connection === "closed" && state.reason !== null) return refuse(state.problem);
  drawPeople();
}

/** Shows the number of users, and how current the numbers are. */
function showKnown({ connection, count, users, complete }) {
  const open = connection === "open";
  // In a room above the member limit, the server sends the number of users only at the start.
  const { unit, persons } = countWords(count, users, complete);
  put($("unit"), unit);
  put($("persons"), persons);
  put($("known"), open || count === null || known === null ? "" : knownWords(known));
  $("tip").hidden = !open || count !== 1;
  people.age(open ? null : known);
}

/** Shows texts in place of the members and of the messages until the room is known. */
function showWaiting(state) {
  const empty = state.users === null ? emptyWords(state) : { people: "", messages: "" };
  put($("people-wait"), empty.people);
  $("people-wait").hidden = empty.people === "";
  messages.wait(empty.messages);
}

/** Takes note of the remaining seconds of the token. null if it was renewed. */
function warn({ in: seconds }) {
  warned = seconds;
  ends = seconds === null ? null : Date.now() + seconds * 1000;
  showState(room.state);
}

function receive(message) {
  const mine = message.from !== undefined && message.from.id === user?.id;
  messages.add(message, user?.id ?? null, document.hidden);
  if (!mine) title.arrived();
}

$("earlier").addEventListener("click", () => earlier.more(user?.id ?? null));

const notConnected = { connection: "closed", reason: null, problem: null, retryAt: null, shared: null };

function showState(state, words = stateWords(state, ends)) {
  const { connection, reason, retryAt, shared } = state;
  // If the token was renewed in another tab, the room remains open.
  if (ends !== null && Date.now() > ends + late) return showState(state, stateWords(state, (ends = null)));
  const expiring = connection === "open" && ends !== null;
  for (const element of [document.body, $("state")]) {
    element.dataset.state = connection;
    element.dataset.reason = expiring ? "expiring" : (reason ?? "");
  }
  put($("state"), words);
  $("renew").hidden = !expiring || renewing || user === null || isGuest(user.id);
  put($("seconds"), secondsWords(state, Date.now(), ends));
  showReconnect(connection, retryAt);
  if (connection !== "open") $("latency").hidden = true;
  $("shared").hidden = shared === null || connection !== "open"; // null where tabs cannot share, as on an insecure page
  put($("shared"), shared === "following" ? "One connection for all tabs, in another tab" : "One connection for all tabs, in this tab");
}

/** Shows "Try now", unless it saves no time. While it has the focus, it remains during an attempt. */
function showReconnect(connection, retryAt) {
  const button = $("reconnect");
  const focused = document.activeElement === button;
  const useful = retryAt !== null && retryAt - Date.now() >= shortWait;
  button.hidden = connection !== "connecting" || !(useful || focused);
  if (focused && connection === "open") $("room").focus();
}

function showPeople() {
  if (!room) return;
  const { connection, members, complete, users } = room.state;
  const crowd = connection === "open" && !complete;
  const focused = $("people").contains(document.activeElement);
  $("members").hidden = crowd;
  $("crowd").hidden = !crowd;
  status.offer(crowd ? undefined : members.get(user?.id));
  if (focused && !document.activeElement.checkVisibility()) focusList($(crowd ? "crowd" : "members"));
  const number = crowd ? users : members.size || null;
  put($("people-title"), number === null ? "People" : `People (${number})`);
  people.show(members, { me: user?.id ?? null, admin: user?.admin === true }, removal.removed);
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
  put($("latency"), `Server answers in ${Math.max(1, took)} ms`);
}

// User input

/**
 * Calls `work` when the form is submitted, but not while an earlier call is running. Errors are
 * passed to `showText`, and "" before each call.
 */
function onSubmit(form, showText, work) {
  let busy = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    showText("");
    await work().catch((error) => showText(sentence(error.message)));
    busy = false;
  });
}

onSubmit($("guest"), (text) => showFieldError("name", text), async () => {
  const guest = $("name").value.trim();
  const wrong = nameError(guest);
  if (wrong !== "") throw new Error(wrong);
  try {
    await request("POST", "login", { name: guest });
  } catch (error) {
    if (![404, 405].includes(error.problem?.status)) throw error;
    return signIn(false); // the server does not allow guests, which GET session did not report
  }
  await enter();
  $("message").focus();
});

onSubmit($("bearer"), (text) => showFieldError("token", text), async () => {
  const token = $("token").value.trim();
  if (token === "") throw new Error("Paste a token.");
  await useToken(token).catch((error) => {
    throw new Error(tokenWords(error));
  });
});

$("to-token").addEventListener("click", () => askFor("token"));
$("to-name").addEventListener("click", () => askFor("name"));
$("renew").addEventListener("click", renew);
$("to-room").addEventListener("click", showRoom);

$("sign-out").addEventListener("click", signOut);
$("other").addEventListener("click", signOut);

async function signOut() {
  showError(null);
  try {
    await request("DELETE", "session");
  } catch (error) {
    if (error.problem?.status !== 401) return showError(error); // 401: the token has expired
  }
  showState(notConnected, "Signed out");
  signInAgain();
}

// The room keeps its state, unlike a room that is joined anew.
$("reconnect").addEventListener("click", () => {
  if (!room || room.state.retryAt === null) return; // an attempt is running
  room.pause();
  room.resume();
});

function openSwitch(open) {
  const inside = $("switch").contains(document.activeElement);
  $("switch").hidden = !open;
  $("change").setAttribute("aria-expanded", open);
  showFieldError("room-name", "");
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
for (const [form, field] of [["switch", "room-name"], ["correct", "correct-name"]]) {
  onSubmit($(form), (text) => showFieldError(field, text), async () => {
    const to = $(field).value.trim();
    const wrong = roomError(to);
    if (wrong !== "") throw new Error(wrong);
    go(to);
  });
}

function showError(error) {
  put($("error"), error ? sentence(error.message) : "");
}

$("me").addEventListener("click", () => $("me").classList.toggle("whole"));

// Timers

setInterval(() => {
  if (document.hidden || !room) return;
  plot.draw();
  showState(room.state);
}, 1000);
setInterval(() => document.hidden || people.age(), 15_000);
setInterval(every5, 5000);

function every5() {
  measure();
  if (!document.hidden && room?.state.connection === "open" && user?.admin) rooms.refresh();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) messages.read();
  if (document.hidden || !room) return;
  plot.draw();
  people.age();
  askMembers();
  every5();
});

alignInk($("count"));
openOne([$("open-people"), $("open-rooms")]);
for (const link of document.querySelectorAll('a[data-room="lobby"]')) link.setAttribute("href", addressOf("lobby"));
enter();
