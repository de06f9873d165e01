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
 * Keeps the ink of the first character of an element at its left edge. A large digit would
 * otherwise stand right of smaller text below it, because a digit has space at its sides.
 */
export function alignInk(element) {
  const canvas = document.createElement("canvas").getContext("2d");
  const align = () => {
    const style = getComputedStyle(element);
    canvas.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`; // style.font can be empty
    // The distance is negative if the ink begins right of the origin.
    const ink = canvas.measureText(element.textContent.charAt(0)).actualBoundingBoxLeft;
    element.style.marginLeft = `${ink / parseFloat(style.fontSize)}em`;
  };
  new MutationObserver(align).observe(element, { childList: true, characterData: true, subtree: true });
  align();
}

/**
 * Lets each button show and hide the list that it controls. At most one list is open, because the
 * screen is small. The style sheet hides the list, and only on small screens.
 *
 * @param {HTMLElement[]} buttons
 */
export function openOne(buttons) {
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") === "false";
      for (const each of buttons) each.setAttribute("aria-expanded", String(open && each === button));
    });
  }
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
  if (next) next.focus();
  else focusList(list);
}

/** Sets the focus to a list, or to the button that opens it if it is closed. */
export function focusList(list) {
  if (isShown(list)) list.focus();
  else /** @type {HTMLElement} */ (document.querySelector(`[aria-controls~="${list.id}"]`))?.focus();
}

const isShown = (element) => element.isConnected && element.getClientRects().length > 0;
