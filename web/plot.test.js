// Tests of the plot's steps and layout. Run with `node --test web/*.test.js`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { begin, beginWords, isWorthShowing, label, layout, range, record, span } from "./plot.js";

const start = Date.UTC(2026, 0, 1);
const box = { left: 0, top: 0, right: 300, bottom: 100 }; // one pixel per second
const seconds = (n) => start + n * 1000;

/** Returns the steps after a list of counts, each a pair [seconds after the start, count]. */
function steps(...counts) {
  return counts.reduce((steps, [second, count]) => record(steps, seconds(second), count), []);
}

test("the line is level until the count changes, above an axis that starts at 0", () => {
  const { line, area, end, bounds } = layout(steps([0, 1], [100, 4], [200, 2]), seconds(300), box);
  assert.equal(line, "M0 75L100 75L100 0L200 0L200 50L300 50");
  assert.equal(area, "M0 75L100 75L100 0L200 0L200 50L300 50V100H0Z");
  assert.deepEqual(end, { x: 300, y: 50 });
  assert.deepEqual(bounds, { min: 1, max: 4 });
  assert.equal(layout(steps([0, 3], [100, 4]), seconds(300), box).line, "M0 25L100 25L100 0L300 0", "a small change is small");
  assert.equal(layout(steps([0, 0]), seconds(60), box).line, "M0 100L300 100");
});

test("the plot is worth showing after a change, or after 5 seconds", () => {
  assert.ok(!isWorthShowing([], seconds(60)));
  assert.ok(!isWorthShowing(steps([0, 7]), seconds(4.9)));
  assert.ok(isWorthShowing(steps([0, 7]), seconds(5)));
  assert.ok(isWorthShowing(steps([0, 7], [2, 8]), seconds(2)));
  assert.ok(isWorthShowing(steps([0, 7], [0.5, 8]), seconds(1)), "a change within a second");
  assert.ok(!isWorthShowing(steps([0, 7], [0.5, null]), seconds(1)), "the count is unknown");
  assert.ok(isWorthShowing(steps([0, 7], [0.5, null]), seconds(30)));
});

test("without a count, nothing is drawn", () => {
  assert.deepEqual(layout([], seconds(0), box), { bounds: null, line: "", area: "", end: null });
  assert.equal(label([], seconds(0)), "Connected, last 5 minutes: no data yet");
});

test("a constant count is drawn at the top, over the whole axis", () => {
  const constant = steps([0, 7]);
  assert.equal(layout(constant, seconds(60), box).line, "M0 0L300 0");
  assert.equal(label(constant, seconds(60)), "Connected, last 5 minutes: 7 throughout");
});

test("the axis begins at the first known count, and grows to five minutes", () => {
  const some = steps([0, 1], [20, 2]);
  assert.equal(layout(some, seconds(40), box).line, "M0 50L150 50L150 0L300 0");
  assert.equal(layout(some, seconds(200), box).line, "M0 50L30 50L30 0L300 0");
  assert.equal(layout(some, seconds(310), box).line, "M0 50L10 50L10 0L300 0", "the first step is older than the axis");
  const { line } = layout(steps([0, 1], [30, null], [60, 1]), seconds(100), box);
  assert.equal(line, "M0 0L90 0M180 0L300 0", "a gap does not move the start");
  assert.equal(begin([], seconds(9)), seconds(8), "without a count, the axis has a length");
  assert.equal(begin(steps([9, 1]), seconds(0)), seconds(-1), "after the clock was set back, too");
});

test("the label of the start is exact below 10 seconds, and then calm", () => {
  const labels = [1, 9.4, 10, 29, 59, 60, 119, 120, 300].map((n) => beginWords(start, seconds(n)));
  assert.deepEqual(labels, ["1 s ago", "9 s ago", "10 s ago", "20 s ago", "50 s ago", "1 min ago", "1 min ago", "2 min ago", "5 min ago"]);
});

test("a repeated count adds no step", () => {
  const before = steps([0, 7]);
  assert.equal(record(before, seconds(5), 7), before);
  assert.deepEqual(record([], seconds(0), null), [], "a repeated unknown count adds no step");
});

test("while the count is unknown, the line has a gap and no end point", () => {
  const gap = steps([0, 1], [100, 2], [150, null]);
  assert.deepEqual(layout(gap, seconds(300), box), {
    bounds: { min: 1, max: 2 },
    line: "M0 50L100 50L100 0L150 0",
    area: "M0 50L100 50L100 0L150 0V100H0Z",
    end: null,
  });
  const back = record(gap, seconds(250), 1);
  assert.equal(layout(back, seconds(300), box).line, "M0 50L100 50L100 0L150 0M250 50L300 50");
});

test("steps older than the plot are dropped, except for the last one", () => {
  const old = steps([0, 9], [10, 3], [400, 4]);
  assert.deepEqual(range(old, seconds(500)), { min: 3, max: 4 });
  assert.equal(layout(old, seconds(500), box).line, "M0 25L200 25L200 0L300 0");
  assert.deepEqual(range(old, seconds(2000)), { min: 4, max: 4 }, "the last step is kept at any age");
  assert.equal(layout(old, seconds(2000), box).line, "M0 0L300 0");
});

test("changes within a second are combined into one step, which keeps their extremes", () => {
  const burst = steps([0, 5], [100, 6], [100.2, 2], [100.4, 9], [100.9, 7]);
  assert.deepEqual(burst.at(-1), { at: seconds(100), min: 2, max: 9, last: 7 });
  assert.equal(layout(burst, seconds(300), box).line, "M0 44.4L100 44.4L100 77.8L100 0L100 22.2L300 22.2");
});

test("the number of steps is bounded, even if the count changes often", () => {
  let all = [];
  for (let i = 0; i < 20_000; i++) all = record(all, start + i * 50, i % 17);
  assert.ok(all.length <= span / 1000 + 2, `${all.length} steps`);
  assert.deepEqual(range(all, start + 20_000 * 50), { min: 0, max: 16 });
});

test("a clock that is set back does not move the line back", () => {
  const back = steps([100, 1], [50, 2], [60, 3]);
  assert.equal(back.length, 1);
  const { line } = layout(back, seconds(60), box);
  assert.equal(line, "M300 66.7L300 0L300 0L300 0");
});
