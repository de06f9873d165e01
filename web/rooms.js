/**
 * Rooms: which one the address names, those visited before, and, for an admin, those in use.
 */
import { copy, put } from "./dom.js";
import { peopleWords, visited } from "./words.js";

/** The room that the address names, whether or not there can be one of that name. */
export function roomOfAddress() {
  return new URLSearchParams(location.search).get("room") || "lobby";
}

/** The address of a room on this page; what else the address says stays. */
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
    return []; // storage is switched off, or holds something else
  }
}

/** Remembers a room that was entered, and offers those before it in that list. */
export function remember(room, list) {
  const rooms = visited(remembered(), room);
  try {
    localStorage.setItem(key, JSON.stringify(rooms));
  } catch {
    // The page does without.
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

/** Makes links to rooms change the room without loading the page again. */
export function onRoomLink(element, go) {
  element.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-room]");
    if (!link || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(link.dataset.room);
  });
}

/** The rooms in use, a page at a time, as an admin is told. */
export class Rooms {
  #elements;
  #ask;
  #after = ""; // the room before the page shown
  #next = ""; // that before the page after it; empty if there is none
  #rows = new Map(); // name of a room → its li

  /**
   * @param {object} elements
   * @param {HTMLElement} elements.list   The rows.
   * @param {HTMLElement} elements.none   Shown if there are none.
   * @param {HTMLElement} elements.error
   * @param {HTMLElement} elements.first  The button that leads to the first page.
   * @param {HTMLElement} elements.more   The button that leads to the next.
   * @param {(after: string) => Promise<{rooms: {room: string, connections: number, users: number}[], next?: string}>} ask
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

  /** Asks for the page, and shows it. What is wrong is said, as the next answer may be better. */
  async refresh() {
    const after = this.#after;
    try {
      const { rooms, next = "" } = await this.#ask(after);
      if (after !== this.#after) return;
      this.#next = next;
      this.#show(rooms);
      put(this.#elements.error, "");
    } catch (error) {
      put(this.#elements.error, error.message);
    }
  }

  #show(rooms) {
    const { list, none, first, more } = this.#elements;
    first.hidden = this.#after === "";
    more.hidden = this.#next === "";
    none.hidden = rooms.length > 0;
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
      put(row.querySelector(".connections"), `${connections} connected`);
      put(row.querySelector(".users"), peopleWords(users));
      if (row === at) at = at.nextElementSibling;
      else list.insertBefore(row, at);
    }
    this.mark(roomOfAddress());
  }

  /** Marks the room that is shown. */
  mark(room) {
    for (const [name, row] of this.#rows) {
      const link = row.querySelector("a");
      if (name === room) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }
}

