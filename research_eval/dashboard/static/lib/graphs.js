// Experts as a graph: who takes from whom, which belong together, and where paths go.

import { faint, h, number, onPage } from "./base.js";
import { heat } from "./heatmap.js";
import { picture } from "./marks.js";

const SIZE = 420;
const TAU = 2 * Math.PI;

const onCircle = (place, count, radius) => {
  const angle = (TAU * place) / count - TAU / 4;
  return [SIZE / 2 + radius * Math.cos(angle), SIZE / 2 + radius * Math.sin(angle)];
};

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function node(place, count, fill, title) {
  const [x, y] = onCircle(place, count, SIZE * 0.38);
  const [tx, ty] = onCircle(place, count, SIZE * 0.44);
  return h(
    "svg:g",
    {},
    h("svg:circle", { cx: x, cy: y, r: 9, fill, stroke: "var(--ink)" }, h("svg:title", {}, title)),
    h("svg:text", { x: tx, y: ty + 4, "text-anchor": "middle" }, String(place)),
  );
}

/**
 * The strongest couplings between experts as arrows from giver to taker.
 * @param {number[][]} matrix Row i is what expert i takes from each.
 * @param {{most: number, load?: number[], isMutual: boolean}} options
 */
export function couplings(matrix, { most, load, isMutual }) {
  const count = matrix.length;
  const edges = [];
  matrix.forEach((row, to) =>
    row.forEach((weight, from) => {
      if (to !== from && weight > 0 && (!isMutual || from < to)) edges.push([weight, from, to]);
    }),
  );
  edges.sort((a, b) => b[0] - a[0]);
  const shown = edges.slice(0, most);
  const top = shown[0]?.[0] ?? 1;
  const colour = onPage("#0072B2");
  const lines = shown.reverse().map(([weight, from, to]) => {
    const [start, end] = [onCircle(from, count, SIZE * 0.35), onCircle(to, count, SIZE * 0.35)];
    const bend = 0.12;
    const middle = [0, 1].map((k) => (start[k] + end[k]) / 2);
    const control = [
      middle[0] + bend * (end[1] - start[1]),
      middle[1] - bend * (end[0] - start[0]),
    ];
    const sign = isMutual ? "and" : "to";
    return h(
      "svg:path",
      {
        d: `M${start} Q${control} ${end}`,
        fill: "none",
        stroke: faint(colour, 0.85),
        "stroke-width": 0.5 + (5 * weight) / top,
        "marker-end": isMutual ? null : "url(#arrow)",
      },
      h("svg:title", {}, `${from} ${sign} ${to}: ${number(weight)}`),
    );
  });
  const mostLoad = Math.max(...(load ?? [1]));
  const nodes = matrix.map((_, e) =>
    node(
      e,
      count,
      load ? heat(load[e] / mostLoad) : colour,
      load ? `expert ${e}: load ${percent(load[e])}` : `expert ${e}`,
    ),
  );
  const told = `The ${shown.length} strongest of ${edges.length} couplings; nodes show the load`;
  const label = load ? told : told.split(";")[0];
  const drawing = picture(label, SIZE, SIZE, arrow(colour), ...lines, ...nodes);
  return h("div", {}, h("p", { class: "quiet note" }, `${label}.`), drawing);
}

/**
 * A hypergraph: each hyperedge is a column of its experts.
 * @param {number[][]} members [hyperedge][expert], how much it belongs.
 */
export function hypergraph(members) {
  const experts = members[0].length;
  const [w, t, side, head] = [18, 18, 66, 22];
  const marks = members.flatMap((row, edge) =>
    row.map((share, expert) =>
      share > 0
        ? h(
            "svg:circle",
            {
              cx: side + edge * w + w / 2,
              cy: head + expert * t + t / 2,
              r: 2 + 5 * Math.min(1, share),
              fill: onPage("#0072B2"),
            },
            h("svg:title", {}, `hyperedge ${edge}, expert ${expert}: ${number(share)}`),
          )
        : null,
    ),
  );
  const lines = members.map((row, edge) => {
    const inside = row.flatMap((share, expert) => (share > 0 ? [expert] : []));
    const x = side + edge * w + w / 2;
    const y = (expert) => head + expert * t + t / 2;
    return inside.length > 1
      ? h("svg:line", {
          x1: x,
          x2: x,
          y1: y(inside[0]),
          y2: y(inside.at(-1)),
          stroke: "var(--muted)",
          "stroke-width": 2,
        })
      : null;
  });
  const rows = Array.from({ length: experts }, (_, e) =>
    h(
      "svg:text",
      { x: side - 8, y: head + e * t + t / 2 + 4, "text-anchor": "end" },
      `expert ${e}`,
    ),
  );
  const columns = members.map((_, edge) =>
    edge % Math.ceil(20 / w)
      ? null
      : h("svg:text", { x: side + edge * w + w / 2, y: 14, "text-anchor": "middle" }, String(edge)),
  );
  const label = `${members.length} hyperedges over ${experts} experts`;
  return picture(
    label,
    side + members.length * w + 8,
    head + experts * t + 6,
    ...lines,
    ...marks,
    ...rows,
    ...columns,
  );
}

/**
 * Paths through experts: a column for each step, bands for how many go on to which expert.
 * @param {number[][]} usage [step][expert], share of all that visit it.
 * @param {number[][]} transitions [expert][expert], share of its visits that go on to each.
 */
export function flow(usage, transitions) {
  const [width, height, bar, gap] = [760, 360, 14, 3];
  const steps = usage.length;
  const between = steps > 1 ? (width - 90) / (steps - 1) : 0;
  const room = height - 30 - gap * usage[0].length;
  const left = (step) => 20 + step * between;
  const tops = usage.map((shares) => {
    let y = 24;
    return shares.map((share) => {
      const top = y;
      y += share * room + gap;
      return top;
    });
  });
  const drawn = [];
  for (let step = 0; step + 1 < steps; step++) {
    drawn.push(...bands(usage, transitions, step, { tops, left, bar, room }));
  }
  usage.forEach((shares, step) => {
    drawn.push(h("svg:text", { x: left(step), y: 14 }, `step ${step + 1}`));
    shares.forEach((share, e) => {
      if (share <= 0) return;
      const y = tops[step][e];
      drawn.push(
        h(
          "svg:rect",
          {
            x: left(step),
            y,
            width: bar,
            height: Math.max(1, share * room),
            fill: heat(e / Math.max(1, shares.length - 1)),
          },
          h("svg:title", {}, `step ${step + 1}, expert ${e}: ${percent(share)}`),
        ),
      );
      if (share * room > 9)
        drawn.push(
          h("svg:text", { x: left(step) + bar + 4, y: y + (share * room) / 2 + 4 }, String(e)),
        );
    });
  });
  return picture(
    `Paths of ${steps} steps over ${usage[0].length} experts`,
    width,
    height,
    ...drawn,
  );
}

/** Bands from one step to the next; what goes on is spread as `transitions` says. */
function bands(usage, transitions, step, { tops, left, bar, room }) {
  const into = usage[step + 1].map(() => 0);
  const wanted = usage[step].map((share, from) => transitions[from].map((t) => t * share));
  const arriving = usage[step + 1].map((_, to) => wanted.reduce((sum, row) => sum + row[to], 0));
  return wanted.flatMap((row, from) => {
    let out = 0;
    return row.map((share, to) => {
      // Transitions are means over all steps: a band is never wider than what arrives there.
      const part = share * Math.min(1, arriving[to] ? usage[step + 1][to] / arriving[to] : 0);
      if (part * room < 0.4) return null;
      const [x1, x2] = [left(step) + bar, left(step + 1)];
      const y1 = tops[step][from] + (out + part / 2) * room;
      const y2 = tops[step + 1][to] + (into[to] + part / 2) * room;
      out += part;
      into[to] += part;
      const middle = (x1 + x2) / 2;
      return h(
        "svg:path",
        {
          d: `M${x1},${y1} C${middle},${y1} ${middle},${y2} ${x2},${y2}`,
          fill: "none",
          stroke: heat(from / Math.max(1, row.length - 1)),
          "stroke-opacity": 0.45,
          "stroke-width": Math.max(0.8, part * room),
        },
        h("svg:title", {}, `${from} to ${to}: about ${percent(part)} of all`),
      );
    });
  });
}

const arrow = (fill) =>
  h(
    "svg:defs",
    {},
    h(
      "svg:marker",
      {
        id: "arrow",
        viewBox: "0 0 8 8",
        refX: 7,
        refY: 4,
        markerWidth: 9,
        markerHeight: 9,
        markerUnits: "userSpaceOnUse",
        orient: "auto",
      },
      h("svg:path", { d: "M0,0L8,4L0,8Z", fill }),
    ),
  );
