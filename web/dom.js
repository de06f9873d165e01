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
