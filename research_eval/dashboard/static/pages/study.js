// One study: how it came along, what matters in it, and every trial.

import {
  about,
  ask,
  byId,
  h,
  number,
  path,
  save,
  setState,
  shown,
  state,
  status,
  tell,
  toCsv,
} from "../lib/base.js";
import {
  coordinates,
  front,
  history,
  importance,
  intermediate,
  slice,
  times,
} from "../lib/pictures.js";
import { onChange, onTheme } from "../lib/shell.js";
import { Trials } from "../lib/trials.js";

const name = document.body.dataset.study;
const host = byId("page");
const MOST_TRIALS = 300;

let trials = null;
let chosen = null;
const parts = Object.fromEntries(
  [
    "head",
    "controls",
    "history",
    "importance",
    "parallel",
    "slice",
    "curves",
    "front",
    "timeline",
    "trials",
  ].map((part) => [part, h("section", { "aria-label": part })]),
);

// ----------------------------------------------------------------------------- head, controls

function head() {
  const { study } = trials;
  const best = study.best.map(
    ({ arm, values, trial }) => `${arm} ${values.map(number).join(", ")} (trial ${trial})`,
  );
  const counts = Object.entries(study.counts).map(
    ([each, count]) => `${count} ${each.toLowerCase()}`,
  );
  const limits = study.constraints.length ? `, constraints ${study.constraints.join(", ")}` : "";
  parts.head.replaceChildren(
    h(
      "p",
      {},
      `${study.finished} of ${study.total} trials on ${study.data[1]}: ` +
        `${counts.join(", ")}. Best: ${best.join("; ") || "none yet"}. ` +
        `Sampler ${study.asked.sampler}, pruner ${study.asked.pruner}${limits}.`,
    ),
  );
}

function controls() {
  const select = (key, options) =>
    h(
      "select",
      { change: (event) => change({ [key]: event.target.value }) },
      ...options.map(([value, text]) =>
        h("option", { value, selected: state(key) === String(value) }, text),
      ),
    );
  const box = (key) =>
    h("input", {
      type: "checkbox",
      checked: state(key) === "1",
      change: (event) => change({ [key]: event.target.checked ? 1 : null }),
    });
  const objectives = trials.study.objectives.map((each, i) => [
    i,
    `${each.name}:${each.direction}`,
  ]);
  parts.controls.replaceChildren(
    h(
      "div",
      { class: "bar controls" },
      h("label", {}, "objective ", select("objective", objectives)),
      h(
        "label",
        {},
        "architecture ",
        select("arm", [["", "all"], ...trials.arms.map((arm) => [arm, arm])]),
      ),
      h("label", {}, box("log"), " log objective"),
      h("label", {}, box("all"), " pruned and failed trials too"),
      ...trials.arms.map((arm) => h("span", { class: "key" }, dot(trials.colourOfArm(arm)), arm)),
    ),
  );
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

function show(part, [title, sentence, drawing]) {
  parts[part].replaceChildren(
    h("h2", {}, title),
    h("p", { class: "quiet" }, sentence ?? ""),
    drawing,
  );
}

async function showLater(part, found) {
  try {
    const picture = await found;
    if (picture) show(part, picture);
    else parts[part].replaceChildren();
  } catch (problem) {
    tell(parts[part], problem);
  }
}

function sliced() {
  const paths = [...trials.knobs.keys()];
  const path = paths.includes(state("param")) ? state("param") : paths[0];
  if (!path) return;
  const select = h(
    "select",
    { "aria-label": "Parameter", change: (event) => change({ param: event.target.value }) },
    ...paths.map((each) => h("option", { value: each, selected: each === path }, each)),
  );
  parts.slice.replaceChildren(
    h("h2", {}, "Slice"),
    h("div", { class: "bar" }, select),
    slice(trials, path),
  );
}

// -------------------------------------------------------------------------------------- table

function table() {
  const found = trials.ranked(trials.shown.filter((trial) => !chosen || chosen.has(trial.number)));
  const keys = [...trials.knobs.keys()];
  const head = [
    "trial",
    "architecture",
    "state",
    ...trials.study.objectives.map((each) => each.name),
    ...keys,
    "run",
  ];
  const cells = (trial) => [
    trial.number,
    trial.arm,
    trial.state,
    ...trials.study.objectives.map((_, i) => trial.values[i] ?? null),
    ...keys.map((key) => trial.params[key] ?? null),
    trial.runs[0] ?? null,
  ];
  const csv = h(
    "button",
    { type: "button", click: () => save("trials.csv", toCsv([head, ...found.map(cells)])) },
    "CSV",
  );
  const rows = found
    .slice(0, MOST_TRIALS)
    .map((trial) => h("tr", {}, ...cells(trial).map((value, i) => cell(value, head[i], trial))));
  const sentence =
    found.length > MOST_TRIALS
      ? `The best ${MOST_TRIALS} are listed; the CSV has all.`
      : "Best first.";
  show("trials", [
    `Trials (${found.length})`,
    sentence,
    h(
      "div",
      {},
      csv,
      h(
        "div",
        { class: "scroller", tabindex: 0, role: "region", "aria-label": "Trials" },
        h(
          "table",
          { class: "plain" },
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              ...head.map((each) => h("th", { scope: "col", title: each }, each.split(".").at(-1))),
            ),
          ),
          h("tbody", {}, ...rows),
        ),
      ),
    ),
  ]);
}

function cell(value, column, trial) {
  if (column === "state") return h("td", {}, status(value));
  if (column === "run" && value)
    return h("td", {}, h("a", { href: trials.markOf(trial).href }, value.slice(0, 12)));
  return typeof value === "number"
    ? h("td", { class: "number" }, number(value))
    : h("td", {}, shown(value));
}

// --------------------------------------------------------------------------------------- begin

function draw() {
  head();
  controls();
  show("history", history(trials));
  show(
    "parallel",
    coordinates(trials, (numbers) => {
      chosen = numbers;
      table();
    }),
  );
  sliced();
  if (trials.study.objectives.length > 1) show("front", front(trials));
  show("timeline", times(trials));
  table();
  showLater("curves", intermediate(trials));
  showLater("importance", importance(trials, state("arm")));
}

async function load() {
  const study = await ask(path("studies", name));
  const isNew = JSON.stringify(study.counts) !== JSON.stringify(trials?.study.counts);
  trials = new Trials(study, (await about()).colours);
  byId("title").textContent = `Study ${study.name}`;
  document.title = `${study.name} · research-eval`;
  if (isNew) draw();
}

try {
  await load();
  host.className = "study";
  host.replaceChildren(...Object.values(parts));
  onTheme(draw);
  onChange(load);
} catch (problem) {
  tell(host, problem);
}
