// What the experts of a run do: load over time, measures, couplings, groups and paths.

import {
  ask,
  byId,
  h,
  looks,
  number,
  path,
  setState,
  state,
  states,
  status,
  tell,
} from "../lib/base.js";
import { LineChart } from "../lib/chart.js";
import { couplings, flow, hypergraph } from "../lib/graphs.js";
import { Heatmap } from "../lib/heatmap.js";
import { onChange, onTheme } from "../lib/shell.js";

const name = document.body.dataset.run;
const host = byId("page");
const USUAL_MEASURES = ["load entropy", "dead experts", "train drop rate", "specialisation"];
const EDGES = 30;
const MOST_METRICS = 12;
const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(2)} %`);

const TITLES = {
  coupling: "Coupling: what an expert (row) takes from each",
  similarity: "Cosine similarity of the experts' outputs",
  coactivation: "Co-activation: tokens that chose both",
  by_group: "Specialisation: share of each group (label or domain) that an expert serves",
  members: "Hyperedges and their experts",
  path_usage: "Paths: share of all that visit each expert at each step",
  transitions: "Paths: where they go on from each expert (row)",
};

let found = null;
let parts = [];

// --------------------------------------------------------------------------------------- load

function loads() {
  const { steps, layers, values, of } = found.load;
  const experts = Math.max(...values[0].map((row) => row?.length ?? 0));
  // An even share lies in the middle of the colours.
  const top = Math.max(2 / experts, ...values.flat(2).filter((one) => one !== null));
  const layerHost = h("div");
  const timeHost = h("div");
  const byLayer = new Heatmap(layerHost, {
    title: "Load",
    rows: "layer",
    columns: "expert",
    unit: percent,
  });
  const overTime = new Heatmap(timeHost, {
    title: "Load over time",
    rows: "step",
    columns: "expert",
    unit: percent,
  });
  const label = h("output", { for: "step" });
  const last = steps.length - 1;
  const at = Math.max(0, steps.indexOf(Number(state("step") || steps[last])));
  const slider = h("input", {
    id: "step",
    type: "range",
    min: 0,
    max: last,
    value: at,
    input: draw,
  });
  const layer = h(
    "select",
    { "aria-label": "Layer", change: draw },
    ...layers.map((each, i) =>
      h("option", { value: i, selected: String(each) === state("layer") }, `layer ${each}`),
    ),
  );

  function draw(event) {
    const place = Number(slider.value);
    label.textContent = `step ${steps[place].toLocaleString("en")}`;
    slider.setAttribute("aria-valuetext", label.textContent);
    byLayer.show(
      values[place].map((row) => row ?? Array(experts).fill(null)),
      {
        rows: layers.map((each) => `layer ${each}`),
        top,
      },
    );
    const chosen = Number(layer.value);
    overTime.show(
      values.map((row) => row[chosen] ?? Array(experts).fill(null)),
      { rows: steps.map((step) => step.toLocaleString("en")), top },
    );
    if (event) setState({ step: place === last ? null : steps[place], layer: layers[chosen] });
  }

  const part = h(
    "section",
    { "aria-labelledby": "load-title" },
    h("h2", { id: "load-title" }, "Load"),
    h(
      "p",
      { class: "quiet" },
      `Share of the work that each expert did; even would be ${percent(1 / experts)}.` +
        (of > steps.length ? ` ${steps.length} of ${of} evaluations are shown.` : ""),
    ),
    h("div", { class: "bar" }, h("label", {}, "evaluation ", slider, " ", label)),
    layerHost,
    h("div", { class: "bar" }, h("h3", {}, "Over time"), layer),
    timeHost,
  );
  part.draw = draw;
  return part;
}

// ------------------------------------------------------------------------------------ measures

function measures() {
  const buttons = h("div", { class: "tabs", role: "group", "aria-label": "Measures" });
  const grid = h("div", { class: "chart-grid" });
  const charts = new Map();
  const chosen = () => {
    const named = states("measure");
    const known = found.measures.map((measure) => measure.name);
    const usual = USUAL_MEASURES.filter((each) => known.includes(each));
    return named.length ? named : usual.length ? usual : known.slice(0, 3);
  };

  async function draw() {
    buttons.replaceChildren(
      ...found.measures.map((measure) =>
        h(
          "button",
          {
            type: "button",
            title: measure.meaning,
            "aria-pressed": String(chosen().includes(measure.name)),
            click: () => toggle(measure.name),
          },
          `${measure.name} ${measure.last.map(number).join(" · ").slice(0, 40)}`,
        ),
      ),
    );
    for (const [each, chart] of charts) {
      if (!chosen().includes(each)) {
        chart.figure.remove();
        charts.delete(each);
      }
    }
    await Promise.all(found.measures.filter((m) => chosen().includes(m.name)).map(drawOne));
  }

  async function drawOne(measure) {
    if (!charts.has(measure.name)) {
      charts.set(
        measure.name,
        new LineChart(grid, { title: measure.name, meaning: measure.meaning, sync: "experts" }),
      );
    }
    const metric = measure.metrics.slice(0, MOST_METRICS);
    const answer = await ask("series", { run: found.id, metric });
    const looked = looks(metric.map((_, place) => place));
    const curves = answer.metrics.flatMap((one, place) =>
      one.curves.map((curve) => ({
        ...curve,
        ...looked.get(place),
        label: /layer\d+$/.exec(one.metric)?.[0].replace("layer", "layer ") ?? one.metric,
      })),
    );
    charts.get(measure.name).show(curves, { x: "step", smooth: 0 });
  }

  function toggle(each) {
    const now = chosen();
    setState({ measure: now.includes(each) ? now.filter((one) => one !== each) : [...now, each] });
    draw();
  }

  const part = h(
    "section",
    { "aria-labelledby": "measures-title" },
    h("h2", { id: "measures-title" }, "Measures"),
    h("p", { class: "quiet" }, "Last values by layer; choose what is drawn over training."),
    buttons,
    grid,
  );
  part.draw = draw;
  return part;
}

// -------------------------------------------------------------------------------------- arrays

function arrays() {
  const names = Object.keys(TITLES).filter((each) => each in found.arrays);
  if (!names.length) return null;
  const tabs = h("div", { class: "tabs", role: "group", "aria-label": "Arrays" });
  const body = h("div", { class: "chart-grid" });
  const title = h("h3");
  let current = names.includes(state("array")) ? state("array") : names[0];

  async function draw() {
    tabs.replaceChildren(
      ...names.map((each) =>
        h(
          "button",
          { type: "button", "aria-pressed": String(each === current), click: () => choose(each) },
          each.replaceAll("_", " "),
        ),
      ),
    );
    try {
      const address = `${path("runs", found.id, "experts", current)}`;
      const answer = await ask(address, { step: recordedStep(current) });
      const usage =
        current === "transitions" && "path_usage" in found.arrays
          ? await ask(path("runs", found.id, "experts", "path_usage"), { step: answer.step })
          : null;
      const layers = current === "path_usage" ? { 0: stepsOf(answer) } : answer.layers;
      title.textContent = `${TITLES[current]}; step ${answer.step.toLocaleString("en")}`;
      body.replaceChildren(
        ...Object.entries(layers).map(([layer, values]) =>
          pictures(layer, values, usage && stepsOf(usage)),
        ),
      );
    } catch (problem) {
      tell(body, problem);
    }
  }

  function pictures(layer, values, usage) {
    const part = h("div", {}, h("h3", {}, isPerLayer(current) ? `layer ${layer}` : ""));
    const mapHost = h("div");
    part.append(mapHost);
    if (current === "members") mapHost.append(hypergraph(values));
    else heatmapOf(mapHost, values);
    if (usage) part.append(flow(usage, values));
    if (["coupling", "coactivation", "similarity"].includes(current))
      part.append(graphOf(layer, values));
    return part;
  }

  function heatmapOf(mapHost, values) {
    const isGroups = current === "by_group";
    const isPaths = current === "path_usage";
    const shown = isGroups
      ? values.map(share)
      : ["coupling", "similarity", "coactivation"].includes(current)
        ? values.map((row, i) => row.map((value, j) => (i === j ? null : value)))
        : values;
    const map = new Heatmap(mapHost, {
      title: TITLES[current],
      rows: isGroups ? "group" : isPaths ? "step" : "expert",
      columns: "expert",
      unit: isGroups || isPaths || current === "transitions" ? percent : null,
    });
    queueMicrotask(() => map.show(shown));
  }

  function graphOf(layer, values) {
    const at = found.load ? found.load.layers.indexOf(Number(layer)) : -1;
    const load = at < 0 ? null : found.load.values.at(-1)[at];
    return couplings(values, { most: EDGES, load, isMutual: current !== "coupling" });
  }

  function choose(each) {
    current = each;
    setState({ array: each });
    draw();
  }

  const part = h(
    "section",
    { "aria-labelledby": "arrays-title" },
    h("h2", { id: "arrays-title" }, "Couplings, groups and paths"),
    tabs,
    title,
    body,
  );
  part.draw = draw;
  return part;
}

/** Paths lead through one pool of experts: what is a layer elsewhere is a step of theirs. */
const stepsOf = (usage) => Object.values(usage.layers).map(([shares]) => shares);

const isPerLayer = (name) => !name.startsWith("path") && found.arrays[name].layers.length > 1;

const share = (row) => {
  const sum = row.reduce((total, value) => total + value, 0);
  return row.map((value) => (sum ? value / sum : null));
};

/** The step of the slider, if the array was recorded there. */
function recordedStep(array) {
  const step = Number(state("step"));
  return state("step") && found.arrays[array].steps.includes(step) ? step : null;
}

// --------------------------------------------------------------------------------------- begin

const flagList = () =>
  h(
    "ul",
    { class: "flags", "aria-label": "Warnings" },
    ...Object.entries(found.flags).map(([flag, reason]) =>
      h(
        "li",
        { class: flag.startsWith("waives_") ? "mild" : null },
        h("strong", {}, flag.replaceAll("_", " ")),
        `: ${reason}`,
      ),
    ),
  );

function head() {
  return h(
    "p",
    {},
    status(found.status),
    ` ${found.model_type ?? ""} `,
    h("a", { href: `/runs/${encodeURIComponent(found.id)}` }, "the run"),
  );
}

async function load() {
  found = await ask(path("runs", name, "experts"));
  byId("title").textContent = `Experts of ${found.name}`;
  document.title = `Experts of ${found.name} · research-eval`;
  if (!found.load && !found.measures.length) {
    host.replaceChildren(
      head(),
      h(
        "p",
        {},
        "Nothing is recorded of any experts: the model has none, or the run has " +
          "not been evaluated yet.",
      ),
    );
    return;
  }
  parts = [found.load && loads(), found.measures.length && measures(), arrays()].filter(Boolean);
  host.replaceChildren(head(), flagList(), ...parts);
  for (const part of parts) await part.draw();
}

try {
  await load();
  onTheme(() => parts.forEach((part) => part.draw()));
  onChange(async () => {
    if (found.status === "RUNNING") await load();
  });
} catch (problem) {
  tell(host, problem);
}
