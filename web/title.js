/**
 * The title of the page. While the page is hidden, the title begins with the number of new
 * messages.
 */

/**
 * @param {string} text
 * @param {number} unread  Number of messages that arrived while the page was hidden.
 */
export function titleWords(text, unread) {
  if (unread === 0) return text;
  return `(${unread > 99 ? "99+" : unread}) ${text}`;
}

export class Title {
  #text = document.title;
  #unread = 0;

  constructor() {
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.read();
    });
  }

  /** @param {string} text */
  set(text) {
    this.#text = text;
    const words = titleWords(text, this.#unread);
    if (document.title !== words) document.title = words;
  }

  /** Counts a message, unless the page is visible. */
  arrived() {
    if (!document.hidden) return;
    this.#unread++;
    this.set(this.#text);
  }

  /** Counts all messages as read. */
  read() {
    this.#unread = 0;
    this.set(this.#text);
  }
}
