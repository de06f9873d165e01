/**
 * What the page's modules share: elements, their text, and when to touch them.
 */

/**
 * @param {string} id
 * @returns {any}  The page has it: see web_test.go.
 */
export const $ = (id) => document.getElementById(id);

/** Sets an element's text, if it is another: a live region would speak again. */
export function put(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

/** A new copy of what the template of that id holds. */
export function copy(template) {
  return $(template).content.firstElementChild.cloneNode(true);
}

/** A function that runs fn once, that many milliseconds after the first of its calls. */
export function later(ms, fn) {
  let timer = null;
  return () => {
    timer ??= setTimeout(() => {
      timer = null;
      fn();
    }, typeof ms === "function" ? ms() : ms);
  };
}

/** A function that runs fn before the next frame is drawn; soon, where none is: in a page that is hidden. */
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
