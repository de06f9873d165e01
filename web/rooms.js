/**
 * Rooms: the room in the address, the rooms that the user visited before, and the list of rooms in
 * use for an admin.
 */
import { copy, keepingFocus, put } from "./dom.js";
import { countWords, sentence, visited } from "./words.js";

/** Returns the room name in the address. It may be invalid. */
export function roomOfAddress() {
  return new URLSearchParams(location.search).get("room") || "lobby";
}

/** Returns the address of a room on this page. Other query parameters are kept. */
export function addressOf(room) {
  const url = new URL(location.href);
  url.searchParams.set("room", room);
  url.hash = "";
  return url.search;
}

const key = `presence rooms ${new URL(".", location.href).pathname}`;

function remembered() {
  try {
    return visited(JSON.parse(localStorage.getItem(key)), undefined);
  } catch {
    return []; // storage is disabled, or contains other data
  }
}

/** Saves the name of a room that was joined, and offers the other visited rooms in `list`. */
export function remember(room, list) {
  const rooms = visited(remembered(), room);
  try {
    localStorage.setItem(key, JSON.stringify(rooms));
  } catch {
    // The page also works without storage.
  }
  const options = rooms
    .filter((name) => name !== room)
    .map((name) => {
      const option = document.createElement("option");
      option.value = name;
      return option;
    });
  list.replaceChildren(...options);
}

/** Calls `go` when the user clicks a link to a room, instead of loading the page again. */
export function onRoomLink(element, go) {
  element.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-room]");
    if (!link || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(link.dataset.room);
  });
}

/** The list of the rooms in use, one page at a time, for an admin. */
export class Rooms {
  #elements;
  #ask;
  #after = ""; // the last room of the previous page
  #next = ""; // the last room of the current page; empty if there is no next page
  #rows = new Map(); // room name → li element
  #live = null; // the current room and its counts, if there is a connection

  /**
   * @param {object} elements
   * @param {HTMLElement} elements.list  The element that holds the rows.
   * @param {HTMLElement} elements.none  Shown if there are no rows.
   * @param {HTMLElement} elements.error
   * @param {HTMLElement} elements.first  The button for the first page.
   * @param {HTMLElement} elements.more  The button for the next page.
   * @param {(after: string) => Promise<{rooms: {room: string, connections: number, users: number}[], next?: string}>} ask
   *   Requests the page that follows a room.
   */
  constructor(elements, ask) {
    this.#elements = elements;
    this.#ask = ask;
    elements.first.addEventListener("click", () => this.#turn(""));
    elements.more.addEventListener("click", () => this.#turn(this.#next));
  }

  #turn(after) {
    this.#after = after;
    return this.refresh();
  }

  /** Fetches the current page and shows it. An error remains visible until a request succeeds. */
  async refresh() {
    const after = this.#after;
    try {
      const { rooms, next = "" } = await this.#ask(after);
      if (after !== this.#after) return;
      this.#next = next;
      this.#fillAll(rooms);
      put(this.#elements.error, "");
    } catch (error) {
      put(this.#elements.error, sentence(error.message));
    }
  }

  #fillAll(rooms) {
    const { list, none, first, more } = this.#elements;
    const turned = [first, more].includes(document.activeElement);
    first.hidden = this.#after === "";
    more.hidden = this.#next === "";
    none.hidden = rooms.length > 0;
    keepingFocus(list, "a", () => this.#list(rooms));
    // The button that turned the page may be hidden now.
    if (turned && [first, more].some((button) => button.hidden)) list.focus();
  }

  /**
   * Shows the counts of the current room, which are newer than those of the last request.
   *
   * @param {?{room: string, count: number, users: number}} live  null without a connection.
   */
  show(live) {
    this.#live = live;
    if (live && this.#rows.has(live.room)) this.#fill(live.room, live.count, live.users);
  }

  #fill(room, count, users) {
    const row = this.#rows.get(room);
    const { unit, persons } = countWords(count, users);
    put(row.querySelector(".connections"), `${count} ${unit}`);
    put(row.querySelector(".users"), persons);
  }

  /** Updates the rows in place. */
  #list(rooms) {
    const { list } = this.#elements;
    const names = new Set(rooms.map(({ room }) => room));
    for (const [name, row] of this.#rows) {
      if (names.has(name)) continue;
      this.#rows.delete(name);
      row.remove();
    }
    let at = list.firstElementChild;
    for (const { room, connections, users } of rooms) {
      let row = this.#rows.get(room);
      if (!row) {
        this.#rows.set(room, (row = copy("room-row")));
        const link = row.querySelector("a");
        link.textContent = link.dataset.room = room;
        link.href = addressOf(room);
      }
      const live = room === this.#live?.room ? this.#live : null;
      this.#fill(room, live?.count ?? connections, live?.users ?? users);
      if (row === at) at = at.nextElementSibling;
      else list.insertBefore(row, at);
    }
    this.mark(roomOfAddress());
  }

  /** Marks the current room in the list. */
  mark(room) {
    for (const [name, row] of this.#rows) {
      const link = row.querySelector("a");
      if (name === room) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }
}

