/**
 * A plot of the user count over the last minutes, as a step line. The first half of this file
 * contains pure functions, which compute the steps and their layout in a plot of a given size. The
 * second half draws the layout as SVG.
 *
 * There is at most one step per second, so the number of steps is bounded even if the count changes
 * often. A step that combines several changes keeps their minimum and maximum.
 *
 * @typedef {object} Step
 * @property {number} at  Time of its first change, in milliseconds since 1970.
 * @property {number} min
 * @property {number} max
 * @property {?number} last  The count after the step. null if the count is unknown, because there
 *   is no connection.
 */

export const span = 5 * 60_000; // time range of the plot, in milliseconds
const minStep = 1000; // minimum time between two steps, in milliseconds

/**
 * Returns the steps after a new count. A count of null is unknown.
 *
 * @param {readonly Step[]} steps
 * @param {number} at
 * @param {?number} count
 * @returns {readonly Step[]}
 */
export function record(steps, at, count) {
  const before = steps.at(-1);
  if (count === (before ? before.last : null)) return steps;
  const kept = since(steps, at - span);
  // If the clock was set back, the change also joins the last step, so that the line does not go
  // back.
  if (before && at - before.at < minStep) {
    const numbers = [before.min, before.max, count].filter((n) => n !== null);
    const step = { at: before.at, min: Math.min(...numbers), max: Math.max(...numbers), last: count };
    return [...kept.slice(0, -1), step];
  }
  return [...kept, { at, min: count, max: count, last: count }];
}

/** Returns the steps after a time, and the step before them, which has the count at that time. */
function since(steps, from) {
  const first = steps.findIndex((step) => step.at > from);
  if (first === -1) return steps.slice(-1);
  return steps.slice(Math.max(0, first - 1));
}

const minTime = 5000; // time after which a constant count is shown, in milliseconds

/**
 * Reports whether the plot shows more than the current count: a change, or a count that was known
 * for some time.
 */
export function isWorthShowing(steps, now) {
  const bounds = range(steps, now);
  if (!bounds) return false;
  return bounds.min < bounds.max || now - steps.find(({ min }) => min !== null).at >= minTime;
}

/**
 * Returns the time at which the axis begins: that of the first known count, or five minutes ago.
 */
export function begin(steps, now) {
  return Math.max(now - span, Math.min(now - minStep, steps[0]?.at ?? now));
}

/** Returns the text for the time at which the axis begins. It does not change each second. */
export function beginWords(from, now) {
  const seconds = Math.round((now - from) / 1000);
  if (seconds >= 60) return `${Math.floor(seconds / 60)} min ago`;
  return `${seconds < 10 ? seconds : seconds - (seconds % 10)} s ago`;
}

/** Returns the lowest and the highest count in the plot, or null if the plot is empty. */
export function range(steps, now) {
  const numbers = since(steps, now - span).flatMap(({ at, min, max, last }) => (at > now - span ? [min, max, last] : [last]));
  const known = numbers.filter((n) => n !== null);
  return known.length === 0 ? null : { min: Math.min(...known), max: Math.max(...known) };
}

/**
 * Returns the layout of the plot. Its axis starts at 0, because the area below the line is filled.
 * `line` and `area` are SVG paths. `end` is the point of the current count. It is null if the count
 * is unknown.
 *
 * @param {readonly Step[]} steps
 * @param {number} now
 * @param {{left: number, top: number, right: number, bottom: number}} box
 */
export function layout(steps, now, { left, top, right, bottom }) {
  const bounds = range(steps, now);
  if (!bounds) return { bounds, line: "", area: "", end: null };
  const { max } = bounds;
  const from = begin(steps, now);
  const x = (at) => round(left + ((right - left) * (Math.min(now, Math.max(from, at)) - from)) / (now - from));
  const y = (n) => round(bottom - ((bottom - top) * n) / Math.max(1, max));
  const pieces = []; // parts of the line; the count is unknown between two parts
  let piece = null;
  let last = null;
  for (const step of since(steps, now - span)) {
    const here = x(step.at);
    piece?.push([here, y(last)]); // a level line up to this step
    last = step.last;
    if (last === null) {
      piece = null;
      continue;
    }
    if (!piece) pieces.push((piece = []));
    // Draw the extremes of the step before its last count.
    const within = step.at > now - span && step.min !== step.max ? [step.min, step.max] : [];
    for (const n of [...within, last]) piece.push([here, y(n)]);
  }
  piece?.push([x(now), y(last)]);
  const path = (points) => points.map((point) => point.join(" ")).join("L");
  return {
    bounds,
    line: pieces.map((points) => `M${path(points)}`).join(""),
    area: pieces.map((points) => `M${path(points)}V${round(bottom)}H${points[0][0]}Z`).join(""),
    end: piece && { x: x(now), y: y(last) },
  };
}

function round(n) {
  return Math.round(n * 10) / 10;
}

const title = "Connected, last 5 minutes";
const narrow = 200; // width in pixels below which the drawn title is shorter

/** Returns a description of the plot. */
export function label(steps, now) {
  const bounds = range(steps, now);
  if (!bounds) return `${title}: no data yet`;
  const { min, max } = bounds;
  return `${title}: ${min === max ? `${min} throughout` : `between ${min} and ${max}`}`;
}

const labelHeight = 16; // height of the labels below the axis, in pixels
const topMargin = 28; // margin for the title and half of the label at the highest count, in pixels

/** Draws the plot in an svg element. */
export class Plot {
  #svg;
  /** @type {readonly Step[]} */
  #steps = [];
  #parts;
  #size = { width: 0, height: 0 };

  /** @param {SVGSVGElement} svg */
  constructor(svg) {
    this.#svg = svg;
    const part = (name, kind, parent = svg) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", name);
      element.setAttribute("class", kind);
      return parent.appendChild(element);
    };
    this.#parts = {
      grid: part("path", "grid"),
      area: part("path", "area"),
      line: part("path", "line"),
      end: part("circle", "end"),
      title: part("text", "title"),
      max: part("text", "bound"),
      zero: part("text", "bound"),
      then: part("text", "axis"),
      now: part("text", "axis"),
    };
    this.#parts.end.setAttribute("r", 4);
    this.#parts.now.textContent = "now";
    this.#parts.now.setAttribute("text-anchor", "end");
    this.#parts.zero.textContent = "0";
    for (const bound of [this.#parts.max, this.#parts.zero]) bound.setAttribute("text-anchor", "end");
    new ResizeObserver(([{ contentRect }]) => {
      this.#size = { width: Math.round(contentRect.width), height: Math.round(contentRect.height) };
      this.draw();
    }).observe(svg);
  }

  /** Adds the current count. A count of null is unknown. */
  record(count) {
    const steps = record(this.#steps, Date.now(), count);
    if (steps === this.#steps) return;
    this.#steps = steps;
    if (!document.hidden) this.draw();
  }

  /** Removes all steps, because another room is shown. */
  clear() {
    this.#steps = [];
    this.draw();
  }

  draw() {
    const now = Date.now();
    // A hidden plot has no size. As soon as it is visible, the ResizeObserver draws it.
    this.#svg.toggleAttribute("hidden", !isWorthShowing(this.#steps, now));
    const { width, height } = this.#size;
    if (width === 0 || height === 0) return;
    const digits = String(range(this.#steps, now)?.max ?? 0).length;
    const box = { left: 8 + digits * 8, top: topMargin, right: width - 6, bottom: height - labelHeight - 8 };
    const { bounds, line, area, end } = layout(this.#steps, now, box);
    const { grid, area: areaPart, line: linePart, end: endPart, title, max, zero, then, now: nowPart } = this.#parts;
    const set = (element, attributes) => {
      for (const name in attributes) element.setAttribute(name, attributes[name]);
    };
    set(this.#svg, { viewBox: `0 0 ${width} ${height}`, "aria-label": label(this.#steps, now) });
    let ticks = `M${box.left} ${box.bottom + 4.5}H${box.right}`;
    const from = begin(this.#steps, now);
    for (let at = now; at >= from; at -= 60_000) {
      ticks += `M${round(box.left + ((box.right - box.left) * (at - from)) / (now - from))} ${box.bottom + 4.5}v4`;
    }
    set(grid, { d: ticks });
    set(linePart, { d: line });
    set(areaPart, { d: area });
    then.textContent = beginWords(from, now);
    // A text in minutes is at their tick, if there is space.
    const minutes = Math.floor((now - from) / 60_000);
    const tick = box.right - ((box.right - box.left) * minutes * 60_000) / (now - from);
    title.textContent = width < narrow ? "Connected" : "Connected over time";
    set(title, { x: box.left, y: 12 });
    set(then, { x: minutes === 0 || width < narrow ? box.left : round(tick), y: height - 3 });
    set(nowPart, { x: box.right, y: height - 3 });
    endPart.toggleAttribute("hidden", end === null);
    if (end) set(endPart, { cx: end.x, cy: end.y });
    max.textContent = bounds?.max || ""; // the axis has its 0 already
    set(max, { x: box.left - 8, y: box.top + 4 });
    set(zero, { x: box.left - 8, y: box.bottom + 4 });
  }
}
