/**
 * The member list. Each member is a row, and rows are updated in place. The reading position in the
 * list therefore stays the same, and an update of 500 members costs only as much as its changes.
 */
import { copy, focusNear, keepingFocus, put, putWhole } from "./dom.js";
import { called, namesakes, sinceWords, statusOf, tabsWords } from "./words.js";

const order = new Intl.Collator(undefined, { numeric: true });
const shortText = 16; // maximum length of an id or a status that is on the line of the name
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

/**
 * @typedef {object} Shown  The content of a row.
 * @property {import("./presence.js").Member} member
 * @property {boolean} mine  Whether the row is that of the viewer.
 * @property {boolean} admin  Whether the row is that of the viewer, and the viewer is an admin.
 * @property {boolean} kick  Whether the viewer may remove the member.
 * @property {boolean} twin  Whether another member has the same name.
 */

export class People {
  #list;
  #remove;
  #known = null;
  /** @type {Map<string, {row: HTMLElement, shown: ?Shown, since: number, words: string}>} */
  #rows = new Map(); // by member id; `since` is NaN if unknown, `words` is the displayed duration

  /**
   * @param {HTMLElement} list
   * @param {(member: import("./presence.js").Member, restoreFocus: () => void) => void} remove
   *   Called to remove a member from the room. `restoreFocus` moves the focus to the button of that
   *   member, or of another one if the member is gone.
   */
  constructor(list, remove) {
    this.#list = list;
    this.#remove = remove;
    // On a touch screen, a tap on a row shows the texts that are too long for it.
    list.addEventListener("click", (event) => {
      const target = /** @type {Element} */ (event.target);
      target.closest(".who")?.classList.toggle("whole");
    });
  }

  /**
   * @param {Map<string, import("./presence.js").Member>} members
   * @param {{me: ?string, admin: boolean}} viewer  The viewer's id, and whether the viewer may
   *   remove members.
   * @param {{id: string, name: string}[]} [removed]  Other users that the page names. Namesakes of
   *   them are shown with their id.
   */
  show(members, { me, admin }, removed = []) {
    keepingFocus(this.#list, ".kick", () => this.#show(members, me, admin, removed));
    this.age();
  }

  #show(members, me, admin, removed) {
    for (const [id, { row }] of this.#rows) {
      if (members.has(id)) continue;
      this.#rows.delete(id);
      row.remove();
    }
    const mine = (member) => Number(member.id === me);
    const sorted = [...members.values()].sort(
      (a, b) => mine(b) - mine(a) || order.compare(called(a), called(b)) || (a.id < b.id ? -1 : 1),
    );
    this.#list.toggleAttribute("data-removing", admin);
    const twins = namesakes([...sorted, ...removed.filter(({ id }) => !members.has(id))]);
    let at = this.#list.firstElementChild;
    for (const member of sorted) {
      const mine = member.id === me;
      const row = this.#row({ member, mine, admin: admin && mine, kick: admin && !mine, twin: twins.has(member.id) });
      if (row === at) at = at.nextElementSibling;
      else this.#list.insertBefore(row, at);
    }
  }

  /** Creates or updates the row of a member, and returns it. */
  #row(next) {
    const { id } = next.member;
    if (!this.#rows.has(id)) this.#rows.set(id, { row: copy("member-row"), shown: null, since: NaN, words: "" });
    const entry = this.#rows.get(id);
    const { row, shown } = entry;
    const same = shown && Object.keys(next).every((key) => shown[key] === next[key]);
    if (same) return row;
    entry.shown = next;
    if (next.kick !== Boolean(shown?.kick)) this.#offer(row, next);
    fill(row, next);
    if (next.member.since !== shown?.member.since) {
      entry.since = Date.parse(next.member.since);
      entry.words = "";
      showSince(row.querySelector("time"), next.member.since, entry.since);
    }
    return row;
  }

  /** Adds or deletes the button that removes the member. */
  #offer(row, { member: { id }, kick }) {
    if (!kick) return row.querySelector(".kick").remove();
    const button = copy("kick-button");
    button.addEventListener("click", () => this.#askToRemove(id));
    row.querySelector(".facts").append(button);
  }

  #askToRemove(id) {
    const rows = [...this.#list.children];
    const { row, shown } = this.#rows.get(id);
    this.#remove(shown.member, () => focusNear(this.#list, ".kick", rows, rows.indexOf(row)));
  }

  /**
   * Updates the displayed durations.
   *
   * @param {?number} [known]  Time at which the list was last known to be correct, if there is no
   *   connection.
   */
  age(known = this.#known) {
    this.#known = known;
    const now = known ?? Date.now();
    for (const entry of this.#rows.values()) {
      if (Number.isNaN(entry.since)) continue;
      const words = sinceWords(entry.since, now, known === null);
      if (words === entry.words) continue;
      entry.words = words;
      entry.row.querySelector("time").textContent = words;
    }
  }
}

/**
 * @param {any} row  The li element.
 * @param {Shown} shown
 */
function fill(row, { member, mine, admin, kick, twin }) {
  const status = statusOf(member.info);
  Object.assign(row.dataset, { id: member.id, connections: member.connections, status });
  row.classList.toggle("me", mine);
  putWhole(row.querySelector(".name"), called(member));
  const id = row.querySelector(".id");
  id.hidden = !twin || called(member) === member.id;
  putWhole(id, member.id);
  id.classList.toggle("long", member.id.length > shortText);
  row.querySelector(".you").hidden = !mine;
  row.querySelector(".admin").hidden = !admin;
  putWhole(row.querySelector(".status"), status);
  row.querySelector(".status").classList.toggle("long", status.length > shortText);
  put(row.querySelector(".tabs"), tabsWords(member.connections));
  if (kick) row.querySelector(".kick").setAttribute("aria-label", `Remove ${called(member)}${twin ? `, ${member.id}` : ""}`);
}

/**
 * Shows the full date since which the member has been here. age() shows the duration. If the date
 * is unknown, nothing is shown.
 */
function showSince(time, text, since) {
  if (Number.isNaN(since)) {
    time.removeAttribute("datetime");
    time.removeAttribute("title");
    put(time, "");
  } else {
    time.dateTime = text;
    time.title = `Here since ${full.format(since)}`;
  }
}
