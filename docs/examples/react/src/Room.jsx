import { useEffect, useState } from "react";
import { useRoom } from "./useRoom.js";

export function Room({ name }) {
  const [{ connection, reason, problem, count, members }, room] = useRoom(name);
  const messages = useMessages(room);
  const [error, setError] = useState("");

  if (connection === "closed" && problem?.status === 401) return <SignIn />;
  const cause = problem?.detail ?? reason;
  const failed = (error) => setError(error.message);
  return (
    <main>
      <p id="status" role="status">{connection === "open" ? "" : cause ? `Not connected: ${cause}` : "Connecting…"}</p>
      <p><b id="count">{count ?? "–"}</b> here</p>
      <ul id="members">
        {[...members.values()].map(({ id, name, info }) => <li key={id}>{name || id} ({statusOf(info)})</li>)}
      </ul>
      <label>
        Your status{" "}
        <select id="mine" onChange={({ target }) => room.setState({ status: target.value }).catch(failed)}>
          {["here", "away", "busy"].map((status) => <option key={status}>{status}</option>)}
        </select>
      </label>
      <ol id="messages">
        {messages.map(({ id, text }) => <li key={id}>{text}</li>)}
      </ol>
      <Composer send={(text) => room.send(text)} failed={failed} />
      <p id="error" role="alert">{error}</p>
    </main>
  );
}

/** Returns the status to show. info is from another user, so it can be any JSON. */
const statusOf = (info) => (typeof info?.status === "string" ? info.status : "here");

/** Returns the last 100 messages that arrived since the room was joined. */
function useMessages(room) {
  const [messages, setMessages] = useState([]);
  useEffect(() => {
    if (!room) return;
    setMessages([]);
    const add = (id, text) => setMessages((all) => [...all, { id, text }].slice(-100));
    const off = [
      room.on("message", ({ id, from, data }) => add(id, `${from ? from.name || from.id : "The site"}: ${data}`)),
      room.on("reset", () => add(crypto.randomUUID(), "Messages may be missing here.")),
    ];
    return () => off.forEach((remove) => remove());
  }, [room]);
  return messages;
}

function Composer({ send, failed }) {
  const [text, setText] = useState("");
  async function submit(event) {
    event.preventDefault();
    setText("");
    failed({ message: "" });
    try {
      await send(text);
    } catch (error) {
      failed(error);
      setText((newer) => newer || text);
    }
  }
  return (
    <form onSubmit={submit}>
      <input name="text" aria-label="Message" required maxLength={1000} autoComplete="off" value={text} onChange={({ target }) => setText(target.value)} />{" "}
      <button>Send</button>
    </form>
  );
}

/** The sign-in of the site, which sets its own cookie and returns to this page. */
function SignIn() {
  return (
    <form method="post" action="/signin">
      <p id="status" role="status">Sign in to see who is here.</p>
      <label>Your name <input name="name" required maxLength={32} autoComplete="nickname" /></label> <button>Sign in</button>
    </form>
  );
}
