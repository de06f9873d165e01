/** Functions that the page's modules share: elements, their text, and the time to change them. */

/**
 * @param {string} id
 * @returns {any}  The element. web_test.go checks that the page has it.
 */
export const $ = (id) => document.getElementById(id);

/** Sets an element's text, if it differs. A live region would be read out again otherwise. */
export function put(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

/** Returns a copy of the content of the template with that id. */
export function copy(template) {
  return $(template).content.firstElementChild.cloneNode(true);
}

/** Returns a function that runs `fn` once, `ms` milliseconds after the first of its calls. */
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
 * Returns a function that runs `fn` before the next frame. A hidden page draws no frames: there
 * `fn` runs after 100 ms.
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
