/**
 * The live page: shows what presence.js tells, and hands on what is typed. What it means is decided there.
 */
import { join, PresenceError, request } from "./presence.js";

const maxMessages = 200; // rows on the page
const maxTabs = 100; // members of a room in which the page asks how many tabs each has open

const $ = (id) => document.getElementById(id);
const room = new URLSearchParams(location.search).get("room") || "lobby";
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const order = new Intl.Collator(undefined, { numeric: true });
const rows = new Map(); // id of a member → its li
const drawMembers = later(80, showMembers);
const askTabs = later(1500, async () => {
  const asks = !document.hidden && client && client.members.size <= maxTabs;
  if (asks) await client.refresh(maxTabs).catch(() => {}); // what is wrong, the stream tells
});

let client; // the room, for who is signed in
let me = null; // {id, name} if this page signed it in by name
let following = true; // the end of the messages is in sight
let draft = null; // {text, id} of a message on its way: the same text sent again is the same message

const words = {
  open: () => "Live",
  connecting: (reason) =>
    ({
      draining: "The server restarts, one moment…",
      full: "Full right now, trying again…",
      slow: "This connection was too slow, trying again…",
    })[reason] ?? "Connecting…",
  closed: (reason, problem) =>
    ({
      removed: "You were removed from this room",
      expired: "Your token has expired",
      "signed out": "Signed out",
      refused: problem?.status === 401 ? "Signed out" : "Not let in",
    })[reason] ?? "Not connected",
};

/** Shows the room if the cookie opens it, else asks who is there. */
async function enter() {
  client?.close();
  const problem = await request("GET", `presence?room=${encodeURIComponent(room)}&limit=1`).then(() => null, (error) => error.problem);
  me = remembered();
  $("me").textContent = me?.name ?? "";
  if (problem?.status === 401) return signedIn(false);
  client = join({ room, lastEventId: client?.lastEventId });
  client.on("state", show);
  client.on("count", askTabs);
  client.on("ping", askTabs);
  client.on("message", addMessage);
  client.on("chat message", addMessage);
  client.on("reset", () => $("messages").lastElementChild?.setAttribute("data-gap", "Some messages are missing here"));
  show(client.state);
  signedIn(true); // whatever else was wrong, it tries again or says so
}

function signedIn(yes) {
  $("welcome").hidden = yes;
  $("live").hidden = $("session").hidden = !yes;
  if (yes) return;
  $("messages").replaceChildren();
  $("quiet").hidden = false;
  $("message").value = "";
  $($("guest").hidden ? "token" : "name").focus();
}

/** @param {import("./presence.js").State} state */
function show(state) {
  if (state !== client.state) return;
  const { connection, reason, problem, count } = state;
  for (const element of [document.body, $("state")]) element.dataset.state = connection;
  const ending = connection === "open" && state.expiring !== null ? ", but your token is about to expire" : "";
  $("state").dataset.reason = reason ?? "";
  put($("state"), words[connection](reason, problem) + ending);
  put($("count"), count ?? "–");
  document.title = count === null ? `${room} – presence` : `${count} in ${room} – presence`;
  $("reconnect").hidden = connection !== "closed" || reason === null;
  if (problem?.status === 401 || reason === "expired" || reason === "signed out") signedIn(false);
  else if (problem) say(new PresenceError(problem));
  drawMembers();
}

function showMembers() {
  const { members, synced, complete } = client.state;
  $("members").hidden = synced && !complete;
  $("crowd").hidden = !$("members").hidden;
  $("people-title").textContent = complete ? `People (${members.size})` : "People";
  for (const [id, row] of rows) {
    if (members.has(id)) continue;
    rows.delete(id);
    row.remove();
  }
  const label = (member) => member.name || member.id;
  const sorted = [...members.values()].sort((a, b) => order.compare(label(a), label(b)) || (a.id < b.id ? -1 : 1));
  let at = $("members").firstElementChild;
  for (const member of sorted) {
    const row = rows.get(member.id) ?? copy("member-row");
    rows.set(member.id, row);
    row.dataset.id = member.id;
    row.dataset.connections = member.connections;
    row.classList.toggle("me", member.id === me?.id);
    put(row.querySelector(".name"), label(member));
    put(row.querySelector(".tabs"), members.size > maxTabs ? "" : tabs(member.connections));
    // Rows stay where they are, so that whoever reads them is not thrown back.
    if (row === at) at = at.nextElementSibling;
    else $("members").insertBefore(row, at);
  }
}

function tabs(connections) {
  if (connections === 0) return "leaving…";
  return connections === 1 ? "1 tab" : `${connections} tabs`;
}

/** @param {import("./presence.js").Message} message */
function addMessage({ from, data, at }) {
  const row = copy("message-row");
  row.classList.toggle("me", from !== undefined && from.id === me?.id);
  put(row.querySelector(".name"), from ? from.name || from.id : "The server");
  row.querySelector(".text").classList.toggle("json", typeof data !== "string");
  put(row.querySelector(".text"), typeof data === "string" ? data : JSON.stringify(data));
  const time = new Date(at);
  if (!isNaN(time)) {
    row.querySelector("time").dateTime = at;
    row.querySelector("time").textContent = clock.format(time);
  }
  $("quiet").hidden = true;
  $("messages").append(row);
  while ($("messages").childElementCount > maxMessages) $("messages").firstElementChild.remove();
  follow();
}

// The newest message stays in sight, unless somebody has scrolled away from it to read.
function follow() {
  if (following) $("log").scrollTop = $("log").scrollHeight;
}

/** Runs work at a form's submit, once at a time, and shows what went wrong. */
function onSubmit(form, work) {
  let busy = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    say(null);
    await work().catch(say);
    busy = false;
  });
}

onSubmit($("guest"), async () => {
  let guest;
  try {
    guest = await request("POST", "login", { name: $("name").value.trim() });
  } catch (error) {
    if (![404, 405].includes(error.problem?.status)) throw error; // with --dev only
    $("guest").hidden = true;
    $("bearer").hidden = false;
    return $("token").focus();
  }
  remember(guest);
  await enter();
  $("message").focus();
});

onSubmit($("bearer"), async () => {
  await request("POST", "session", { token: $("token").value.trim() });
  $("token").value = "";
  remember(null);
  await enter();
  $("message").focus();
});

onSubmit($("composer"), async () => {
  const text = $("message").value;
  if (draft?.text !== text) draft = { text, id: crypto.getRandomValues(new Uint32Array(4)).join("-") };
  await client.send(text, { id: draft.id });
  draft = null;
  if ($("message").value === text) $("message").value = "";
});

$("sign-out").addEventListener("click", async () => {
  say(null);
  try {
    await request("DELETE", "session");
  } catch (error) {
    if (error.problem?.status !== 401) return say(error); // 401: the token had ended already
  }
  remember(null);
  client.close();
  signedIn(false);
});

$("log").addEventListener("scroll", () => {
  const { scrollHeight, scrollTop, clientHeight } = $("log");
  following = scrollHeight - scrollTop - clientHeight < 40;
});
new ResizeObserver(follow).observe($("log"));

$("reconnect").addEventListener("click", () => {
  say(null);
  enter();
});

// No answer tells who one is, so the name is kept beside the cookie; a stranger's token forgets it.
const key = `presence ${new URL(".", location.href).pathname}`;

function remember(guest) {
  try {
    if (guest) localStorage.setItem(key, JSON.stringify(guest));
    else localStorage.removeItem(key);
  } catch {
    // Storage is switched off: the page does without a name.
  }
}

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

function say(error) {
  put($("error"), error?.message ?? "");
}

function put(element, text) {
  if (element.textContent !== String(text)) element.textContent = text; // else a live region would speak again
}

function copy(template) {
  return $(template).content.firstElementChild.cloneNode(true);
}

/** A function that runs fn once, that many milliseconds after the first of its calls. */
function later(ms, fn) {
  let timer = null;
  return () => {
    timer ??= setTimeout(() => {
      timer = null;
      fn();
    }, ms);
  };
}

$("room").textContent = room;
enter();
