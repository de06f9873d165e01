/** Functions for elements, their text and delayed updates. The modules of the page share them. */

/**
 * @param {string} id
 * @returns {any}  The element with that id. A test in web_test.go checks that the page contains it.
 */
export const $ = (id) => document.getElementById(id);

/**
 * Sets the text of an element only if it differs, because a screen reader announces a live region
 * each time its text is set.
 */
export function put(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

/** Returns a copy of the content of the template with that id. */
export function copy(template) {
  return $(template).content.firstElementChild.cloneNode(true);
}

/** Returns a function that calls `fn` once, `ms` milliseconds after the first of several calls. */
export function later(ms, fn) {
  let timer = null;
  return () => {
    timer ??= setTimeout(() => {
      timer = null;
      fn();
    }, typeof ms === "function" ? ms() : ms);
  };
}

/**
 * Returns a function that calls `fn` before the next frame. On a hidden page, which draws no
 * frames, `fn` is called after 100 ms.
 */
export function inOneFrame(fn) {
  let frame = null;
  let timer = null;
  const run = () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    frame = null;
    fn();
  };
  return () => {
    if (frame !== null) return;
    frame = requestAnimationFrame(run);
    timer = setTimeout(run, 100);
  };
}

/**
 * Sets the text of an element that may be too narrow for it. A tooltip shows the whole text.
 */
export function putWhole(element, text) {
  put(element, text);
  if (element.title !== text) element.title = text;
}

/**
 * Changes the rows of a list without losing the focus. A row that moves loses it, so it is set
 * again. If the row with the focus is removed, the focus moves to the next row's control, or to the
 * list.
 *
 * @param {any} list  The element that holds the rows. It can have the focus itself.
 * @param {string} control  Selector of the control in a row.
 * @param {() => void} change
 */
export function keepingFocus(list, control, change) {
  const held = /** @type {HTMLElement} */ (document.activeElement);
  const rows = [...list.children];
  const at = held === list ? -1 : rows.findIndex((row) => row.contains(held));
  change();
  if (at < 0 || (document.activeElement === held && isShown(held))) return;
  if (isShown(held)) return held.focus({ preventScroll: true });
  focusNear(list, control, rows, at);
}

/**
 * Moves the focus to the control of the first row after position `at`, or else of the last one
 * before it, or else to the list. Rows that were removed are ignored.
 */
export function focusNear(list, control, rows, at) {
  const near = [...rows.slice(at), ...rows.slice(0, at).reverse()].filter((row) => row.parentElement === list);
  const next = near.map((row) => row.querySelector(control)).find((element) => element && isShown(element));
  (next ?? list).focus();
}

const isShown = (element) => element.isConnected && element.getClientRects().length > 0;
