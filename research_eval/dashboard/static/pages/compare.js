// Runs side by side: curves over each other, what differs in their configurations, and scores.

import {
  about,
  ask,
  byId,
  h,
  number,
  save,
  setState,
  shown,
  state,
  states,
  status,
  tell,
  toCsv,
  usualCurves,
} from "../lib/base.js";
import { Panel } from "../lib/panel.js";
import { onChange } from "../lib/shell.js";

const host = byId("page");
const parts = Object.fromEntries(
  ["head", "charts", "params", "metrics"].map((part) => [part, h("div")]),
);

let found = null;
let directions = new Map();

const label = (run) =>
  run.seed === null ? run.experiment_name : `${run.experiment_name} · seed ${run.seed}`;
const baseIndex = () =>
  Math.max(
    0,
    found.runs.findIndex((run) => run.id === state("base")),
  );

// --------------------------------------------------------------------------------------- tables

function headings(first) {
  return h(
    "thead",
    {},
    h(
      "tr",
      {},
      h("th", { scope: "col" }, first),
      ...found.runs.map((run, place) =>
        h(
          "th",
          { scope: "col", title: run.id },
          h("a", { href: `/runs/${encodeURIComponent(run.id)}` }, label(run)),
          place === baseIndex() ? " (base)" : "",
        ),
      ),
    ),
  );
}

const framed = (name, table) =>
  h("div", { class: "scroller", tabindex: 0, role: "region", "aria-label": name }, table);

function params() {
  const isAll = state("all") === "1";
  const ignored = state("ignore")
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean);
  const differing = new Set(found.differing);
  const rows = Object.entries(found.params).filter(
    ([key]) => (isAll || differing.has(key)) && !ignored.some((part) => key.startsWith(part)),
  );
  const everything = h("input", {
    type: "checkbox",
    checked: isAll,
    change: (event) => {
      setState({ all: event.target.checked ? 1 : null });
      draw();
    },
  });
  const ignore = h("input", {
    value: state("ignore"),
    size: 28,
    placeholder: "seed, training_params",
    spellcheck: "false",
    change: (event) => {
      setState({ ignore: event.target.value });
      draw();
    },
  });
  const table = h(
    "table",
    { class: "plain" },
    headings("parameter"),
    h(
      "tbody",
      {},
      ...rows.map(([key, values]) =>
        h(
          "tr",
          { class: isAll && differing.has(key) ? "differs" : null },
          h("th", { scope: "row" }, key),
          ...values.map((value) => h("td", {}, shown(value))),
        ),
      ),
    ),
  );
  parts.params.replaceChildren(
    h("h2", {}, "Configuration"),
    h(
      "div",
      { class: "bar" },
      h("label", {}, everything, " those that are equal too"),
      h("label", {}, "ignore ", ignore),
    ),
    rows.length ? framed("Configuration", table) : h("p", { class: "quiet" }, "nothing differs"),
  );
}

function metrics() {
  const base = baseIndex();
  const choose = h(
    "select",
    {
      change: (event) => {
        setState({ base: event.target.value });
        draw();
      },
    },
    ...found.runs.map((run, place) =>
      h("option", { value: run.id, selected: place === base }, label(run)),
    ),
  );
  const rows = Object.entries(found.metrics).map(([metric, values]) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, metric),
      ...values.map((value, place) =>
        h("td", { class: "number" }, ...score(metric, value, place === base ? null : values[base])),
      ),
    ),
  );
  const csv = h(
    "button",
    { type: "button", click: () => save("compare.csv", toCsv(asRows())) },
    "CSV",
  );
  parts.metrics.replaceChildren(
    h("h2", {}, "Metrics"),
    h("div", { class: "bar" }, h("label", {}, "differences to ", choose), csv),
    framed("Metrics", h("table", { class: "plain" }, headings("metric"), h("tbody", {}, ...rows))),
  );
}

/** A last value, and by how much it is better or worse than the base's. */
function score(metric, value, base) {
  const last = value?.[0];
  if (typeof last !== "number" || typeof base?.[0] !== "number") return [number(last)];
  const difference = last - base[0];
  if (!difference) return [`${number(last)} =`];
  const direction = directions.get(metric);
  const isBetter = direction && difference > 0 === (direction === "max");
  const kind = direction ? (isBetter ? "better" : "worse") : "";
  const sign = difference > 0 ? "+" : "−";
  const mark = { better: " ✓", worse: " ✗" }[kind] ?? "";
  const text = `${sign}${number(Math.abs(difference))}${mark}`;
  return [`${number(last)} `, h("span", { class: kind, title: kind || null }, text)];
}

function asRows() {
  const head = ["name", ...found.runs.map((run) => run.id)];
  return [
    head,
    ...Object.entries(found.params),
    ...Object.entries(found.metrics).map(([metric, values]) => [
      metric,
      values.map((value) => value?.[0] ?? null),
    ]),
  ].map(([first, ...others], place) => (place ? [first, ...others.flat()] : [first, ...others]));
}

// ---------------------------------------------------------------------------------------- begin

function draw() {
  params();
  metrics();
}

async function load() {
  found = await ask("compare", { run: states("run") });
  parts.head.replaceChildren(
    h(
      "p",
      { class: "bar" },
      ...found.runs.map((run) =>
        h(
          "span",
          {},
          h("a", { href: `/runs/${encodeURIComponent(run.id)}` }, label(run)),
          " ",
          status(run.status),
        ),
      ),
    ),
  );
  draw();
}

try {
  if (!states("run").length) {
    host.replaceChildren(
      h(
        "p",
        {},
        "Select runs on the ",
        h("a", { href: "/runs" }, "runs page"),
        " and press Compare, or c.",
      ),
    );
  } else {
    const known = await about();
    directions = new Map(
      known.dictionary.flatMap(({ name, history, direction }) => [
        [history, direction],
        [name, direction],
      ]),
    );
    await load();
    host.replaceChildren(...Object.values(parts));
    const curves = known.curves.filter((metric) => metric in found.metrics);
    const panel = new Panel(parts.charts, { defaults: usualCurves(curves, 2) });
    await panel.draw(found.runs.map((run) => ({ id: run.id, key: run.key, label: label(run) })));
    onChange(async () => {
      if (!found.runs.some((run) => run.status === "RUNNING")) return;
      await load();
      await panel.news();
    });
  }
} catch (problem) {
  tell(host, problem);
}
