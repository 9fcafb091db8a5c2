// Points, steps and bars in SVG, each with its words: what studies are drawn with.

import { h, number } from "./base.js";

const [WIDTH, HEIGHT] = [640, 300];
const MARGIN = { left: 64, right: 14, top: 12, bottom: 40 };
const TICKS = 6;

/**
 * A scale from values to pixels.
 * @param {(number|string)[]} values
 * @param {[number, number]} range
 * @param {boolean} isLog
 */
export function scaleOf(values, range, isLog = false) {
  const known = values.filter((value) => value !== null && value !== undefined);
  const areNumbers = known.every((value) => typeof value === "number");
  return areNumbers ? numeric(known, range, isLog) : categories(known, range);
}

function categories(known, [from, to]) {
  const names = [...new Set(known.map(String))].sort();
  const step = (to - from) / Math.max(1, names.length);
  const at = (value) => from + step * (names.indexOf(String(value)) + 0.5);
  return { at, ticks: names.map((name) => [at(name), name]) };
}

function numeric(known, [from, to], isLog) {
  const usable = known.filter((value) => Number.isFinite(value) && (!isLog || value > 0));
  const put = isLog ? Math.log10 : (value) => value;
  let [low, high] = [Math.min(...usable), Math.max(...usable)].map(put);
  if (!usable.length) [low, high] = [0, 1];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const at = (value) => from + ((put(value) - low) / (high - low)) * (to - from);
  const back = isLog ? (v) => 10 ** v : (v) => v;
  return {
    at,
    ticks: ticks(low, high, isLog).map((v) => [
      at(back(v)),
      number(Number(back(v).toPrecision(4))),
    ]),
  };
}

function ticks(low, high, isLog) {
  if (isLog && high - low >= 1) {
    const first = Math.ceil(low - 1e-9);
    return Array.from({ length: Math.floor(high + 1e-9) - first + 1 }, (_, i) => first + i);
  }
  const rough = (high - low) / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((size) => size >= rough);
  const first = Math.ceil(low / step);
  return Array.from(
    { length: Math.floor(high / step + 1e-9) - first + 1 },
    (_, i) => (first + i) * step,
  );
}

/**
 * @typedef {Object} Mark
 * @property {number|string} x
 * @property {number} y
 * @property {string} colour
 * @property {string} title What it is, in words.
 * @property {string} [href]
 * @property {boolean} [isHollow]
 */

/**
 * Points and lines over two axes.
 * @param {{label: string, x: string, y: string, logX?: boolean, logY?: boolean, marks: Mark[],
 *   lines?: {colour: string, isStep?: boolean, points: [number, number][]}[]}} picture
 */
export function scatter({ label, x, y, logX, logY, marks, lines = [] }) {
  const usable = marks.filter(
    (mark) =>
      mark.x !== null &&
      mark.x !== undefined &&
      Number.isFinite(mark.y) &&
      (!logX || typeof mark.x !== "number" || mark.x > 0) &&
      (!logY || mark.y > 0),
  );
  const across = scaleOf(
    usable.map((mark) => mark.x),
    [MARGIN.left + 8, WIDTH - MARGIN.right - 8],
    logX,
  );
  const up = scaleOf(
    usable.map((mark) => mark.y),
    [HEIGHT - MARGIN.bottom - 8, MARGIN.top + 8],
    logY,
  );
  const dots = usable.map((mark) => {
    const dot = h(
      "svg:circle",
      {
        cx: across.at(mark.x),
        cy: up.at(mark.y),
        r: 4,
        stroke: mark.colour,
        fill: mark.isHollow ? "none" : mark.colour,
        "fill-opacity": 0.8,
      },
      h("svg:title", {}, mark.title),
    );
    return mark.href
      ? h("svg:a", { href: mark.href, "aria-label": mark.title, tabindex: -1 }, dot)
      : dot;
  });
  const drawn = lines.map((line) =>
    h("svg:path", {
      fill: "none",
      stroke: line.colour,
      "stroke-width": 2,
      d: route(
        line.points.filter(([, v]) => !logY || v > 0).map(([a, b]) => [across.at(a), up.at(b)]),
        line.isStep,
      ),
    }),
  );
  const left = marks.length - usable.length;
  const words = `${label}: ${usable.length} points${left ? `, ${left} without a place on the axes` : ""}`;
  return picture(words, WIDTH, HEIGHT, ...axes(across, up, x, y), ...drawn, ...dots);
}

function route(points, isStep) {
  return points
    .map(([a, b], i) => {
      if (!i) return `M${a},${b}`;
      return isStep ? `H${a}V${b}` : `L${a},${b}`;
    })
    .join("");
}

function axes(across, up, x, y) {
  const bottom = HEIGHT - MARGIN.bottom;
  const most = Math.floor((WIDTH - MARGIN.left) / 60);
  const every = Math.ceil(across.ticks.length / most);
  return [
    ...up.ticks.flatMap(([at, text]) => [
      h("svg:line", { class: "axis", x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: at, y2: at }),
      h("svg:text", { x: MARGIN.left - 6, y: at + 4, "text-anchor": "end" }, text),
    ]),
    ...across.ticks
      .filter((_, i) => i % every === 0)
      .flatMap(([at, text]) => [
        h("svg:line", { class: "axis", x1: at, x2: at, y1: MARGIN.top, y2: bottom }),
        h("svg:text", { x: at, y: bottom + 15, "text-anchor": "middle" }, text.slice(0, 14)),
      ]),
    h("svg:text", { x: (MARGIN.left + WIDTH) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, x),
    h("svg:text", { x: MARGIN.left, y: 9, "text-anchor": "start" }, y),
  ];
}

/**
 * Horizontal bars with what bounds them.
 * @param {{label: string, rows: {name: string, value: number|null, low?: number, high?: number,
 *   colour: string, note: string}[]}} picture
 */
export function bars({ label, rows }) {
  const [side, room, t] = [230, 300, 22];
  const top = Math.max(1e-9, ...rows.map((row) => row.high ?? row.value ?? 0));
  const at = (value) => side + (value / top) * room;
  const drawn = rows.flatMap((row, i) => {
    const y = i * t + 4;
    const name = h(
      "svg:text",
      { x: side - 8, y: y + 13, "text-anchor": "end" },
      shorten(row.name, 34),
      h("svg:title", {}, row.name),
    );
    if (row.value === null) return [name, h("svg:text", { x: side, y: y + 13 }, row.note)];
    const bar = h(
      "svg:rect",
      {
        x: side,
        y: y + 2,
        width: Math.max(1, at(row.value) - side),
        height: t - 8,
        fill: row.colour,
      },
      h("svg:title", {}, `${row.name}: ${row.note}`),
    );
    const whisker = Number.isFinite(row.low)
      ? h("svg:path", {
          stroke: "var(--ink)",
          fill: "none",
          d: `M${at(row.low)},${y + t / 2 - 2}H${at(row.high)}`,
        })
      : null;
    return [name, bar, whisker, h("svg:text", { x: side + room + 14, y: y + 13 }, row.note)];
  });
  return picture(label, side + room + 130, rows.length * t + 8, ...drawn);
}

/**
 * When each trial ran.
 * @param {{label: string, spans: {from: number, to: number, row: number, colour: string, title: string,
 *   isHollow: boolean}[]}} picture Times in milliseconds.
 */
export function timeline({ label, spans }) {
  const rows = Math.max(0, ...spans.map((span) => span.row)) + 1;
  const t = Math.max(3, Math.min(16, 320 / rows));
  const first = Math.min(...spans.map((span) => span.from));
  const across = scaleOf(
    spans.flatMap((span) => [span.from - first, span.to - first]).map((ms) => ms / 1000),
    [MARGIN.left, WIDTH - MARGIN.right],
  );
  const bottom = rows * t + 14;
  const drawn = spans.map((span) => {
    const [x1, x2] = [span.from, span.to].map((ms) => across.at((ms - first) / 1000));
    return h(
      "svg:rect",
      {
        x: x1,
        y: 8 + span.row * t,
        width: Math.max(1, x2 - x1),
        height: Math.max(2, t - 1),
        fill: span.isHollow ? "none" : span.colour,
        stroke: span.colour,
      },
      h("svg:title", {}, span.title),
    );
  });
  const marks = across.ticks.flatMap(([x, text]) => [
    h("svg:line", { class: "axis", x1: x, x2: x, y1: 4, y2: bottom }),
    h("svg:text", { x, y: bottom + 14, "text-anchor": "middle" }, `${text} s`),
  ]);
  return picture(label, WIDTH, bottom + 22, ...marks, ...drawn);
}

const shorten = (text, most) => (text.length > most ? `…${text.slice(1 - most)}` : text);

/** A drawing with its words. */
export function picture(label, width, height, ...content) {
  return h(
    "div",
    { class: "drawing", tabindex: 0, role: "region", "aria-label": label },
    h(
      "svg:svg",
      { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label },
      ...content,
    ),
  );
}
