// Parallel coordinates: a line for each trial, an axis for each parameter, and ranges to choose by.

import { h, say } from "./base.js";
import { picture, scaleOf } from "./marks.js";

const [HEIGHT, TOP, BOTTOM] = [340, 44, 14];
const [LEAST_APART, WIDTH] = [128, 1100];
const SEEN_LINES = 60;

/**
 * @param {Object} given
 * @param {{name: string, isLog: boolean}[]} given.axes
 * @param {{values: Object, colour: string, title: string, key: number}[]} given.lines
 * @param {(keys: Set<number>|null) => void} given.onChoose Called with the lines inside all ranges.
 * @returns {HTMLElement}
 */
export function parallel({ axes, lines, onChoose }) {
  const gaps = Math.max(1, axes.length - 1);
  const apart = Math.max(LEAST_APART, Math.min(2 * LEAST_APART, WIDTH / gaps));
  const width = 80 + apart * gaps + 80;
  const x = (place) => 80 + apart * place;
  const opacity = Math.max(0.2, Math.min(0.75, SEEN_LINES / lines.length));
  const scales = axes.map(({ name, isLog }) =>
    scaleOf(
      lines.map((line) => line.values[name]),
      [HEIGHT - BOTTOM, TOP],
      isLog,
    ),
  );
  const ranges = new Map();

  const paths = lines.map((line) => {
    const points = axes
      .map(({ name }, i) => [x(i), line.values[name] ?? null, i])
      .filter(([, value]) => value !== null)
      .map(([left, value, i]) => `${left},${scales[i].at(value)}`);
    return h(
      "svg:path",
      { d: `M${points.join("L")}`, fill: "none", stroke: line.colour, "stroke-width": 1.4 },
      h("svg:title", {}, line.title),
    );
  });

  function choose() {
    const isInside = lines.map((line) =>
      [...ranges].every(([i, [low, high]]) => {
        const value = line.values[axes[i].name];
        if (value === undefined || value === null) return false;
        const at = scales[i].at(value);
        return at >= low && at <= high;
      }),
    );
    paths.forEach((path, i) => path.setAttribute("opacity", isInside[i] ? opacity : 0.04));
    const keys = lines.filter((_, i) => isInside[i]).map((line) => line.key);
    say(`${keys.length} of ${lines.length} trials`);
    onChoose(ranges.size ? new Set(keys) : null);
  }

  const columns = axes.map(({ name }, i) =>
    axis(name, x(i), scales[i], i % 2 === 1, (range) => {
      if (range) ranges.set(i, range);
      else ranges.delete(i);
      choose();
    }),
  );
  choose();
  const label = `Parallel coordinates of ${lines.length} trials over ${axes.map((a) => a.name).join(", ")}`;
  return picture(label, width, HEIGHT, ...paths, ...columns);
}

function axis(name, left, scale, isLow, onRange) {
  const brush = h("svg:rect", {
    x: left - 8,
    width: 16,
    y: 0,
    height: 0,
    fill: "var(--accent)",
    "fill-opacity": 0.3,
  });
  const area = h("svg:rect", {
    x: left - 14,
    y: TOP,
    width: 28,
    height: HEIGHT - TOP - BOTTOM,
    fill: "transparent",
    class: "brush",
    tabindex: 0,
    role: "slider",
    "aria-label": `Range of ${name}; drag, or arrow keys; Delete clears`,
    "aria-valuetext": "all",
  });
  let range = null;
  let start = null;

  function set(next) {
    range = next;
    brush.setAttribute("y", range ? range[0] : 0);
    brush.setAttribute("height", range ? range[1] - range[0] : 0);
    area.setAttribute("aria-valuetext", range ? "a part" : "all");
    onRange(range && [range[0] - 0.5, range[1] + 0.5]);
  }

  const at = (event) => {
    const box = area.getBoundingClientRect();
    const y = TOP + ((event.clientY - box.top) / box.height) * (HEIGHT - TOP - BOTTOM);
    return Math.max(TOP, Math.min(HEIGHT - BOTTOM, y));
  };
  area.addEventListener("pointerdown", (event) => {
    start = at(event);
    area.setPointerCapture(event.pointerId);
  });
  area.addEventListener("pointermove", (event) => {
    if (start !== null && Math.abs(at(event) - start) > 3)
      set([start, at(event)].sort((a, b) => a - b));
  });
  area.addEventListener("pointerup", (event) => {
    if (Math.abs(at(event) - start) <= 3) set(null);
    start = null;
  });
  area.addEventListener("keydown", (event) => {
    const [low, high] = range ?? [TOP, HEIGHT - BOTTOM];
    const moves = {
      ArrowUp: [low, high - 20],
      ArrowDown: [low + 20, high],
      Delete: null,
      Backspace: null,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const next = moves[event.key];
    set(next && next[1] > next[0] ? next : null);
  });
  const short = name.split(".").at(-1);
  return h(
    "svg:g",
    {},
    h("svg:line", { x1: left, x2: left, y1: TOP, y2: HEIGHT - BOTTOM, stroke: "var(--ink)" }),
    h(
      "svg:text",
      { x: left, y: isLow ? 30 : 14, "text-anchor": "middle" },
      short.slice(0, 24),
      h("svg:title", {}, name),
    ),
    ...scale.ticks.map(([y, text]) =>
      h("svg:text", { x: left - 8, y: y + 4, "text-anchor": "end" }, text.slice(0, 12)),
    ),
    brush,
    area,
  );
}
