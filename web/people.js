/**
 * Who is here: a row for each member, which stays where it is and changes in place, so that whoever reads the list is
 * not thrown back, and five hundred of them cost what has changed.
 */
import { copy, put } from "./dom.js";
import { sinceWords, statusOf, tabsWords } from "./words.js";

const order = new Intl.Collator(undefined, { numeric: true });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

/** What to call somebody. */
export function called({ id, name }) {
  return name || id;
}

export class People {
  #list;
  #remove;
  #rows = new Map(); // id of a member → {row, member, …}, its li and what that shows

  /**
   * @param {HTMLElement} list
   * @param {(member: import("./presence.js").Member) => void} remove  Asked to remove somebody from the room.
   */
  constructor(list, remove) {
    this.#list = list;
    this.#remove = remove;
  }

  /**
   * @param {Map<string, import("./presence.js").Member>} members
   * @param {{me: ?string, admin: boolean}} viewer  Whose id the viewer has, and whether it may remove others.
   */
  show(members, { me, admin }) {
    for (const [id, { row }] of this.#rows) {
      if (members.has(id)) continue;
      this.#rows.delete(id);
      row.remove();
    }
    const mine = (member) => Number(member.id === me);
    const sorted = [...members.values()].sort(
      (a, b) => mine(b) - mine(a) || order.compare(called(a), called(b)) || (a.id < b.id ? -1 : 1),
    );
    let at = this.#list.firstElementChild;
    for (const member of sorted) {
      const row = this.#row(member, member.id === me, admin);
      if (row === at) at = at.nextElementSibling;
      else this.#list.insertBefore(row, at);
    }
    this.age();
  }

  #row(member, mine, admin) {
    let shown = this.#rows.get(member.id);
    if (!shown) this.#rows.set(member.id, (shown = { row: copy("member-row"), since: null, words: "" }));
    const { row } = shown;
    if (shown.member === member && shown.mine === mine && shown.admin === admin) return row;
    if (shown.admin !== admin) {
      row.querySelector(".kick")?.remove();
      if (admin && !mine) this.#kick(row, member.id);
    }
    const status = statusOf(member.info);
    row.dataset.id = member.id;
    row.dataset.connections = member.connections;
    row.dataset.status = status;
    row.classList.toggle("me", mine);
    put(row.querySelector(".name"), called(member));
    row.querySelector(".you").hidden = !mine;
    put(row.querySelector(".status"), status);
    put(row.querySelector(".tabs"), tabsWords(member.connections));
    const kick = row.querySelector(".kick");
    if (kick) kick.setAttribute("aria-label", `Remove ${called(member)}`);
    if (shown.member?.since !== member.since || !shown.member) {
      const since = Date.parse(member.since);
      const time = row.querySelector("time");
      shown.since = Number.isNaN(since) ? null : since;
      shown.words = "";
      if (shown.since === null) {
        time.removeAttribute("datetime");
        time.removeAttribute("title");
        put(time, "");
      } else {
        time.dateTime = member.since;
        time.title = `Here since ${full.format(since)}`;
      }
    }
    Object.assign(shown, { member, mine, admin });
    return row;
  }

  #kick(row, id) {
    const button = copy("kick-button");
    button.addEventListener("click", () => this.#remove(this.#rows.get(id).member));
    row.append(button);
  }

  /** Says anew for how long each has been here. */
  age(now = Date.now()) {
    for (const shown of this.#rows.values()) {
      if (shown.since === null) continue;
      const words = sinceWords(shown.since, now);
      if (words === shown.words) continue;
      shown.words = words;
      shown.row.querySelector("time").textContent = words;
    }
  }
}
