// One study: how it came along, what matters in it, and every trial.

import {
  about, ask, byId, h, number, onPage, path, save, setState, shown, state, status, tell, toCsv,
} from "../lib/base.js";
import { bars, scatter, timeline } from "../lib/marks.js";
import { parallel } from "../lib/parallel.js";
import { onChange, onTheme } from "../lib/shell.js";

const name = document.body.dataset.study;
const host = byId("page");
const HIDDEN_STATES = ["PRUNED", "FAILED", "DIVERGED", "COLLAPSED", "LOST"];
const MOST_CURVES = 25;
const MOST_TRIALS = 300;

let study = null;
let palette = {};
let chosen = null;
const parts = Object.fromEntries(["head", "controls", "history", "importance", "parallel", "slice", "curves",
  "front", "timeline", "trials"].map((part) => [part, h("section", { "aria-label": part })]));

// ------------------------------------------------------------------------------------- trials

const colourOf = (trial) => onPage(palette[trial.arm] ?? "#5b6168");
const objective = () => Math.min(Number(state("objective")) || 0, study.objectives.length - 1);
const valueOf = (trial) => (typeof trial.values[objective()] === "number" ? trial.values[objective()] : NaN);
const isBetter = (a, b) => (study.objectives[objective()].direction === "max" ? a > b : a < b);
const words = (trial) => `trial ${trial.number}, ${trial.arm}, ${trial.state.toLowerCase()}: `
  + `${trial.values.map(number).join(", ")}${trial.is_feasible ? "" : ", breaks a constraint"}`;
const hrefOf = (trial) => (trial.runs.length ? `/runs/${encodeURIComponent(trial.runs[0])}` : null);

function trials() {
  const hides = state("all") !== "1";
  return study.trials.filter((trial) => (!state("arm") || trial.arm === state("arm"))
    && !(hides && HIDDEN_STATES.includes(trial.state)));
}

const isDone = (trial) => trial.state === "COMPLETED" && Number.isFinite(valueOf(trial));

// ----------------------------------------------------------------------------------- controls

function controls() {
  const arms = Object.keys(study.spaces);
  const select = (key, options) => h("select", { change: (event) => change({ [key]: event.target.value }) },
    ...options.map(([value, text]) => h("option", { value, selected: state(key) === String(value) }, text)));
  const box = (key) => h("input", { type: "checkbox", checked: state(key) === "1",
    change: (event) => change({ [key]: event.target.checked ? 1 : null }) });
  parts.controls.replaceChildren(h("div", { class: "bar controls" },
    h("label", {}, "objective ", select("objective", study.objectives.map((o, i) => [i, `${o.name}:${o.direction}`]))),
    h("label", {}, "architecture ", select("arm", [["", "all"], ...arms.map((arm) => [arm, arm])])),
    h("label", {}, box("log"), " log objective"),
    h("label", {}, box("all"), " pruned and failed trials too"),
    h("span", {}, ...arms.map((arm) => h("span", { class: "key" }, dot(onPage(palette[arm] ?? "#5b6168")), `${arm} `)))));
}

function dot(colour) {
  const made = h("span", { class: "dot", "aria-hidden": "true" });
  made.style.background = colour;
  return made;
}

function change(changes) {
  setState(changes);
  draw();
}

// ------------------------------------------------------------------------------------ pictures

const titled = (part, title, note, ...content) =>
  parts[part].replaceChildren(h("h2", {}, title), note ? h("p", { class: "quiet" }, note) : "", ...content);

function history() {
  const shownTrials = trials();
  const lines = Object.entries(Object.groupBy(shownTrials.filter(isDone), (trial) => trial.arm)).map(([, found]) => {
    let best = null;
    const points = found.map((trial) => {
      if (best === null || isBetter(valueOf(trial), best)) best = valueOf(trial);
      return [trial.number, best];
    });
    return { colour: colourOf(found[0]), isStep: true, points };
  });
  titled("history", "History", "Every trial, and the best so far of each architecture; hollow ones were pruned or failed.",
    scatter({ label: "History", x: "trial", y: study.objectives[objective()].name, logY: state("log") === "1", lines,
      marks: shownTrials.map((trial) => ({ x: trial.number, y: valueOf(trial), colour: colourOf(trial), title: words(trial),
        href: hrefOf(trial), isHollow: !isDone(trial) })) }));
}

async function importance() {
  try {
    const found = await ask("importance", { study: study.name });
    const rows = found.rows.filter((row) => !state("arm") || row.arm === state("arm")).map((row) => ({
      name: `${row.arm}: ${row.parameter}`, value: typeof row.importance === "number" ? row.importance : null,
      low: row.low, high: row.high, colour: onPage(palette[row.arm] ?? "#5b6168"),
      note: row.note || `${(100 * row.importance).toFixed(0)} % (${row.n_trials} trials)` }));
    titled("importance", `Importance (${found.method})`,
      found.note || `Share of each parameter in what sets the best trials apart, by ${found.objective}; lines are 95 % intervals.`,
      rows.length ? bars({ label: "Importance of parameters", rows }) : "");
  } catch (problem) {
    tell(parts.importance, problem);
  }
}

const knobs = () => {
  const arms = state("arm") ? [state("arm")] : Object.keys(study.spaces);
  return new Map(arms.flatMap((arm) => Object.entries(study.spaces[arm] ?? {})));
};
const isLogKnob = (knob) => knob?.kind === "LogUniform";

function coordinates() {
  const done = trials().filter(isDone);
  const axes = [...knobs()].map(([key, knob]) => ({ name: key, isLog: isLogKnob(knob) }));
  const last = { name: study.objectives[objective()].name, isLog: state("log") === "1" };
  const lines = done.map((trial) => ({ values: { ...trial.params, [last.name]: valueOf(trial) }, key: trial.number,
    colour: colourOf(trial), title: words(trial) }));
  titled("parallel", "Parallel coordinates", "Drag along an axis to choose trials; the table below follows.",
    lines.length ? parallel({ axes: [...axes, last], lines, onChoose: (keys) => {
      chosen = keys;
      table();
    } }) : h("p", {}, "no trial is completed"));
}

function slice() {
  const found = [...knobs()];
  const key = knobs().has(state("param")) ? state("param") : found[0]?.[0];
  if (!key) return;
  const select = h("select", { "aria-label": "Parameter", change: (event) => change({ param: event.target.value }) },
    ...found.map(([each]) => h("option", { value: each, selected: each === key }, each)));
  titled("slice", "Slice", null, h("div", { class: "bar" }, select), scatter({ label: `Slice of ${key}`, x: key,
    y: study.objectives[objective()].name, logX: isLogKnob(knobs().get(key)), logY: state("log") === "1",
    marks: trials().map((trial) => ({ x: trial.params[key], y: valueOf(trial), colour: colourOf(trial), title: words(trial),
      href: hrefOf(trial), isHollow: !isDone(trial) })) }));
}

async function curves() {
  const metric = study.objectives[objective()].history;
  const ranked = trials().filter((trial) => trial.runs.length && Number.isFinite(valueOf(trial)))
    .sort((a, b) => (isBetter(valueOf(a), valueOf(b)) ? -1 : 1)).slice(0, MOST_CURVES);
  if (!metric || !ranked.length) {
    parts.curves.replaceChildren();
    return;
  }
  const found = await ask("series", { metric, run: ranked.map((trial) => trial.runs[0]), buckets: 200 });
  const byRun = new Map(ranked.map((trial) => [trial.runs[0], trial]));
  const [{ curves: lines }] = found.metrics;
  const marks = lines.flatMap((line) => line.steps.map((step, i) => ({ x: step, y: line.mean[i] ?? NaN,
    colour: colourOf(byRun.get(line.id)), title: words(byRun.get(line.id)), href: hrefOf(byRun.get(line.id)) })));
  titled("curves", "Intermediate values", `${metric} of the best ${lines.length} trials`, scatter({
    label: "Intermediate values", x: "step", y: metric, logY: state("log") === "1",
    marks: lines.length * 20 < marks.length ? marks.filter((_, i) => i % Math.ceil(marks.length / 500) === 0) : marks,
    lines: lines.map((line) => ({ colour: colourOf(byRun.get(line.id)),
      points: line.steps.map((step, i) => [step, line.mean[i]]).filter(([, v]) => v !== null) })) }));
}

function front() {
  if (study.objectives.length < 2) return;
  const [first, second] = study.objectives;
  const done = trials().filter((trial) => trial.state === "COMPLETED");
  titled("front", "Pareto front", "Filled trials are beaten by no other one in everything.", scatter({ label: "Pareto front",
    x: `${first.name}:${first.direction}`, y: `${second.name}:${second.direction}`, logX: state("log") === "1",
    marks: done.map((trial) => ({ x: trial.values[0], y: trial.values[1], colour: colourOf(trial), title: words(trial),
      href: hrefOf(trial), isHollow: !trial.is_on_front })) }));
}

function times() {
  const now = Date.now();
  const ends = [];
  const spans = study.trials.filter((trial) => trial.started).map((trial) => {
    const [from, to] = [Date.parse(trial.started), trial.ended ? Date.parse(trial.ended) : now];
    const free = ends.findIndex((end) => end <= from);
    const row = free < 0 ? ends.push(to) - 1 : free;
    ends[row] = to;
    return { from, to, row, colour: colourOf(trial), title: words(trial), isHollow: !isDone(trial) };
  });
  if (spans.length) titled("timeline", "Timeline", "A row for each trial at a time.", timeline({ label: "Timeline of trials", spans }));
}

function table() {
  const found = trials().filter((trial) => !chosen || chosen.has(trial.number))
    .sort((a, b) => (isBetter(valueOf(a), valueOf(b)) || !Number.isFinite(valueOf(b)) ? -1 : 1));
  const keys = [...knobs().keys()];
  const head = ["trial", "architecture", "state", ...study.objectives.map((o) => o.name), ...keys, "run"];
  const cells = (trial) => [trial.number, trial.arm, trial.state, ...study.objectives.map((_, i) => trial.values[i] ?? null),
    ...keys.map((key) => trial.params[key] ?? null), trial.runs[0] ?? null];
  const rows = found.slice(0, MOST_TRIALS).map((trial) => h("tr", {}, ...cells(trial).map((value, i) => {
    if (i === 2) return h("td", {}, status(value));
    const text = typeof value === "number" ? number(value) : shown(value);
    return h("td", { class: typeof value === "number" ? "number" : null },
      i === head.length - 1 && value ? h("a", { href: hrefOf(trial) }, text.slice(0, 12)) : text);
  })));
  const csv = h("button", { type: "button", click: () => save("trials.csv", toCsv([head, ...found.map(cells)])) }, "CSV");
  titled("trials", `Trials (${found.length})`, found.length > MOST_TRIALS ? `the best ${MOST_TRIALS} are listed` : null, csv,
    h("div", { class: "scroller", tabindex: 0, role: "region", "aria-label": "Trials" }, h("table", { class: "plain" },
      h("thead", {}, h("tr", {}, ...head.map((n) => h("th", { scope: "col", title: n }, n.split(".").at(-1))))),
      h("tbody", {}, ...rows))));
}

// --------------------------------------------------------------------------------------- begin

function draw() {
  const best = study.best.map(({ arm, values, trial }) => `${arm} ${values.map(number).join(", ")} (trial ${trial})`);
  const counts = Object.entries(study.counts).map(([s, n]) => `${n} ${s.toLowerCase()}`).join(", ");
  parts.head.replaceChildren(h("p", {}, `${study.finished} of ${study.total} trials on ${study.data[1]}: ${counts}. `
    + `Best: ${best.join("; ") || "none yet"}. Sampler ${study.asked.sampler}, pruner ${study.asked.pruner}`
    + `${study.constraints.length ? `, constraints ${study.constraints.join(", ")}` : ""}.`));
  controls();
  history();
  coordinates();
  slice();
  front();
  times();
  table();
  curves().catch((problem) => tell(parts.curves, problem));
  importance();
}

async function load() {
  study = await ask(path("studies", name));
  byId("title").textContent = `Study ${study.name}`;
  document.title = `${study.name} · research-eval`;
  palette = (await about()).colours;
  draw();
}

try {
  await load();
  host.className = "study";
  host.replaceChildren(...Object.values(parts));
  onTheme(draw);
  onChange(async () => {
    const before = JSON.stringify(study.counts);
    const now = await ask(path("studies", name));
    if (JSON.stringify(now.counts) === before) return;
    study = now;
    draw();
  });
} catch (problem) {
  tell(host, problem);
}
