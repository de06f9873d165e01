// A site with users of its own, beside presence. It signs tokens for its signed-in users, sends
// messages as the server, and reads the members. It needs Node.js 20.19 or newer, and no package.
import { createHmac, randomBytes, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const secret = readFileSync(process.env.PRESENCE_JWT_SECRET_FILE ?? "secret", "utf8").replace(/[\r\n]+$/, ""); // the same file as that of presence
const inPages = "http://localhost:8080/"; // the URL of presence in the pages
const presence = process.env.PRESENCE_URL ?? inPages; // the URL of presence for browsers
const internal = process.env.PRESENCE_INTERNAL_URL ?? presence; // the URL of presence for this program
const room = "lobby";

/** Signs a token (docs/tokens.md) that expires after that many seconds. */
function sign(claims, seconds) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const unsigned = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ ...claims, exp })}`;
  return `${unsigned}.${createHmac("sha256", secret).update(unsigned).digest("base64url")}`;
}

/** Returns the token of a signed-in user: an hour in one room. */
const tokenOf = (user) => sign({ sub: user.id, sid: user.sid, name: user.name, presence: { join: [room], send: [room] } }, 3600);

/** Sends a request to presence as the server. It must not reach a browser with its token. */
async function asServer(method, path, body) {
  const response = await fetch(new URL(path, internal), {
    method,
    headers: { Authorization: `Bearer ${sign({ sub: "site", presence: { admin: true } }, 60)}`, "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(5000),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(`presence: ${method} ${path}: ${answer.detail ?? answer.title}`);
  return answer;
}

/**
 * The sign-in. Replace it by your own: this one accepts any name, and gives each visitor a new id.
 * The key is the value of the cookie. The program keeps the last 10,000 sign-ins.
 */
const sessions = new Map();

function userOf(request) {
  const [, session] = (request.headers.cookie ?? "").match(/(?:^|; )__Host-session=([^;]*)/) ?? [];
  return sessions.get(session);
}

function signIn(name) {
  const session = randomBytes(32).toString("base64url");
  sessions.set(session, { id: randomUUID(), sid: randomUUID(), name });
  if (sessions.size > 10_000) sessions.delete(sessions.keys().next().value);
  return `__Host-session=${session}; Path=/; Max-Age=28800; HttpOnly; Secure; SameSite=Lax`;
}

/** Returns the fields of a form. null if it is larger than 4 KiB. */
async function fieldsOf(request) {
  let text = "";
  for await (const chunk of request) {
    text += chunk;
    if (text.length > 4096) return null;
  }
  return new URLSearchParams(text);
}

/** Reports whether the request comes from a page of this site. Without this check, a page of another site could send it (CSRF). */
const isOwn = ({ headers }) => URL.canParse(headers.origin) && new URL(headers.origin).host === headers.host;

const routes = {
  "GET /": () => page("index.html"),
  "GET /event-source.html": () => page("event-source.html"),
  "GET /token": (user) => (user ? { text: tokenOf(user) } : { status: 401 }),
  // The users that are here, for a page that is made on the server.
  "GET /online": async (user) => {
    if (!user) return { status: 401 };
    const { members } = await asServer("GET", `presence?room=${room}&limit=1000`);
    return { text: JSON.stringify(members.map(({ id, name }) => ({ id, name }))), type: "application/json" };
  },
  "POST /signin": async (_, request) => {
    const fields = await fieldsOf(request);
    if (!fields) return { status: 413 };
    const name = fields.get("name")?.trim().slice(0, 32);
    return name ? { status: 303, location: "/", cookie: signIn(name) } : { status: 400, text: "A name is required." };
  },
  // An action of your site that the room sees at once.
  "POST /save": async (user) => {
    if (!user) return { status: 401 };
    await asServer("POST", `messages?room=${room}`, { data: `${user.name} saved the document.` });
    return { status: 204 };
  },
};

function page(name) {
  const text = readFileSync(new URL(`../plain/${name}`, import.meta.url), "utf8");
  return { text: text.replaceAll(inPages, presence), type: "text/html; charset=utf-8" };
}

async function answer(request) {
  const [path] = request.url.split("?"); // new URL would throw for //
  const route = `${request.method} ${path}`;
  if (!Object.hasOwn(routes, route)) return { status: 404 };
  if (request.method !== "GET" && !isOwn(request)) return { status: 403, text: "not from a page of this site" };
  try {
    return await routes[route](userOf(request), request);
  } catch (error) {
    console.error(error); // the cause is for the log, not for the visitor
    return { status: 502, text: "try again later" };
  }
}

const server = createServer(async (request, response) => {
  const { status = 200, text = "", type = "text/plain; charset=utf-8", location, cookie } = await answer(request);
  response.writeHead(status, {
    "Content-Type": type,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    ...(location && { Location: location }),
    ...(cookie && { "Set-Cookie": cookie }),
  });
  response.end(text);
});
server.listen(process.env.PORT ?? 3000, process.env.HOST ?? "localhost", () => console.log(`site on port ${server.address().port}`));
