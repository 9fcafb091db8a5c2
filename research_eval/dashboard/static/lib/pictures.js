// The pictures of a study: each takes its trials and returns a title, a sentence and a drawing.

import { ask } from "./base.js";
import { bars, scatter, timeline } from "./marks.js";
import { parallel } from "./parallel.js";

const MOST_CURVES = 25;
const MOST_MARKS = 500;

export function history(trials) {
  const lines = Object.values(
    Object.groupBy(
      trials.shown.filter((t) => trials.isDone(t)),
      (t) => t.arm,
    ),
  ).map((found) => ({
    colour: trials.markOf(found[0]).colour,
    isStep: true,
    points: bestSoFar(trials, found),
  }));
  const marks = trials.shown.map((trial) => ({
    x: trial.number,
    y: trials.valueOf(trial),
    ...trials.markOf(trial),
  }));
  return [
    "History",
    "Every trial, and the best so far of each architecture; hollow ones were pruned or failed.",
    scatter({
      label: "History",
      x: "trial",
      y: trials.objective.name,
      logY: trials.isLog,
      lines,
      marks,
    }),
  ];
}

function bestSoFar(trials, found) {
  let best = null;
  return found.map((trial) => {
    const value = trials.valueOf(trial);
    if (best === null || trials.isBetter(value, best)) best = value;
    return [trial.number, best];
  });
}

export async function importance(trials, arm) {
  const found = await ask("importance", { study: trials.study.name });
  const rows = found.rows
    .filter((row) => !arm || row.arm === arm)
    .map((row) => ({
      name: `${row.arm}: ${row.parameter}`,
      value: typeof row.importance === "number" ? row.importance : null,
      low: row.low,
      high: row.high,
      colour: trials.colourOfArm(row.arm),
      note: row.note || `${(100 * row.importance).toFixed(0)} % (${row.n_trials} trials)`,
    }));
  const sentence =
    `Share of each parameter in what sets the best trials apart, by ${found.objective}; ` +
    "lines are 95 % intervals.";
  return [
    `Importance (${found.method})`,
    found.note || sentence,
    rows.length ? bars({ label: "Importance of parameters", rows }) : "",
  ];
}

/** @param {(numbers: Set<number>|null) => void} onChoose Called with the trials inside all ranges. */
export function coordinates(trials, onChoose) {
  const axes = [...trials.knobs.keys()].map((name) => ({ name, isLog: trials.isLogKnob(name) }));
  const last = { name: trials.objective.name, isLog: trials.isLog };
  const lines = trials.shown
    .filter((trial) => trials.isDone(trial))
    .map((trial) => ({
      values: { ...trial.params, [last.name]: trials.valueOf(trial) },
      key: trial.number,
      ...trials.markOf(trial),
    }));
  return [
    "Parallel coordinates",
    "Drag along an axis to choose trials; the table below follows.",
    lines.length ? parallel({ axes: [...axes, last], lines, onChoose }) : "No trial is completed.",
  ];
}

export function slice(trials, path) {
  const marks = trials.shown.map((trial) => ({
    x: trial.params[path],
    y: trials.valueOf(trial),
    ...trials.markOf(trial),
  }));
  return scatter({
    label: `Slice of ${path}`,
    x: path,
    y: trials.objective.name,
    logX: trials.isLogKnob(path),
    logY: trials.isLog,
    marks,
  });
}

/** Curves of the best trials; null if nothing was recorded on the way. */
export async function intermediate(trials) {
  const metric = trials.objective.history;
  const ranked = trials
    .ranked(trials.shown.filter((trial) => trial.runs.length))
    .slice(0, MOST_CURVES);
  if (!metric || !ranked.length) return null;
  const { metrics } = await ask("series", {
    metric,
    run: ranked.map((trial) => trial.runs[0]),
    buckets: 200,
  });
  const marksOf = new Map(ranked.map((trial) => [trial.runs[0], trials.markOf(trial)]));
  const [{ curves }] = metrics;
  const points = (curve) =>
    curve.steps.map((step, i) => [step, curve.mean[i]]).filter(([, value]) => value !== null);
  const marks = curves.flatMap((curve) =>
    points(curve).map(([x, y]) => ({ x, y, ...marksOf.get(curve.id), isHollow: false })),
  );
  const every = Math.ceil(marks.length / MOST_MARKS);
  return [
    "Intermediate values",
    `${metric} of the best ${curves.length} trials`,
    scatter({
      label: "Intermediate values",
      x: "step",
      y: metric,
      logY: trials.isLog,
      marks: marks.filter((_, i) => i % every === 0),
      lines: curves.map((curve) => ({
        colour: marksOf.get(curve.id).colour,
        points: points(curve),
      })),
    }),
  ];
}

export function front(trials) {
  const [first, second] = trials.study.objectives;
  const done = trials.shown.filter((trial) => trial.state === "COMPLETED");
  const marks = done.map((trial) => ({
    x: trial.values[0],
    y: trial.values[1],
    ...trials.markOf(trial),
    isHollow: !trial.is_on_front,
  }));
  return [
    "Pareto front",
    "Filled trials are beaten by no other one in everything.",
    scatter({
      label: "Pareto front",
      x: `${first.name}:${first.direction}`,
      y: `${second.name}:${second.direction}`,
      logX: trials.isLog,
      marks,
    }),
  ];
}

export function times(trials) {
  const ends = [];
  const spans = trials.study.trials
    .filter((trial) => trial.started)
    .map((trial) => {
      const [from, to] = [
        Date.parse(trial.started),
        trial.ended ? Date.parse(trial.ended) : Date.now(),
      ];
      const free = ends.findIndex((end) => end <= from);
      const row = free < 0 ? ends.length : free;
      ends[row] = to;
      return { from, to, row, ...trials.markOf(trial) };
    });
  return [
    "Timeline",
    "A row for each trial at a time.",
    spans.length ? timeline({ label: "Timeline of trials", spans }) : "No trial has begun.",
  ];
}
