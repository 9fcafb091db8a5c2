// One run: how it stands, what it was asked, what came of it.

import {
  age,
  ask,
  byId,
  bytes,
  duration,
  h,
  moment,
  number,
  path,
  setState,
  shown,
  status,
  tell,
  usualCurves,
} from "../lib/base.js";
import { Panel } from "../lib/panel.js";
import { onChange } from "../lib/shell.js";

const name = document.body.dataset.run;
const host = byId("page");
const NOT_FACTS = ["id", "experiment_name", "status", "process"];
const LIVE = ["RUNNING"];

let panel = null;
const parts = Object.fromEntries(
  ["head", "charts", "metrics", "rest", "log"].map((part) => [part, h("div")]),
);

async function load() {
  const run = await ask(path("runs", name));
  document.title = `${run.facts.experiment_name} · research-eval`;
  byId("title").textContent = run.facts.experiment_name;
  parts.head.replaceChildren(...head(run));
  parts.metrics.replaceChildren(...metrics(run));
  keepOpen(parts.rest, () => parts.rest.replaceChildren(...rest(run)));
  await log(run);
  return run;
}

/** Replace what a part shows, but leave open what was opened. */
function keepOpen(part, replace) {
  const open = new Set(
    [...part.querySelectorAll("details[open] > summary")].map((s) => s.textContent),
  );
  replace();
  for (const summary of part.querySelectorAll("details > summary")) {
    if (open.has(summary.textContent)) summary.parentElement.open = true;
  }
}

// --------------------------------------------------------------------------------------- head

function head(run) {
  const { facts } = run;
  const ended = facts.ended ? Date.parse(facts.ended) : Date.now();
  const lasted = (ended - Date.parse(facts.timestamp)) / 1000;
  const line = [
    status(facts.status),
    h("span", {}, ` ${facts.model_type ?? "script"} on ${facts.dataset_name ?? "–"}`),
    h(
      "span",
      {},
      `; started ${age(facts.timestamp)}, ${LIVE.includes(facts.status) ? "runs for" : "took"} ${duration(lasted)}`,
    ),
  ];
  const beat =
    facts.heartbeat && LIVE.includes(facts.status)
      ? `; last sign of life ${age(facts.heartbeat)}`
      : "";
  const waiting = run.waiting ? `; ${run.waiting} records wait beside the database` : "";
  return [
    h("p", {}, ...line, beat, waiting),
    h(
      "p",
      { class: "bar" },
      h("a", { href: `/runs/${encodeURIComponent(run.id)}/experts` }, "Experts"),
      facts.study
        ? h("a", { href: `/studies/${encodeURIComponent(facts.study)}` }, `Study ${facts.study}`)
        : null,
      h("code", {}, `research-eval runs show ${run.id}`),
    ),
    flags(run.flags),
    ...run.tags.map((tag) => h("span", { class: "tag" }, `#${tag} `)),
    ...run.notes.map((note) => h("p", {}, h("em", {}, `${moment(note.timestamp)} `), note.text)),
    run.error ? h("section", {}, h("h2", {}, "Error"), h("pre", {}, run.error)) : null,
  ].filter(Boolean);
}

function flags(found) {
  return h(
    "ul",
    { class: "flags", "aria-label": "Warnings" },
    ...Object.entries(found).map(([flag, reason]) =>
      h(
        "li",
        { class: flag.startsWith("waives_") ? "mild" : null },
        h("strong", {}, flag.replaceAll("_", " ")),
        `: ${reason}`,
      ),
    ),
  );
}

// ------------------------------------------------------------------------------------ metrics

function metrics(run) {
  const all = Object.entries(run.metrics);
  const sizes = Map.groupBy(all, ([metric]) => prefixOf(metric));
  const groups = Map.groupBy(all, ([metric]) => {
    const prefix = prefixOf(metric);
    return sizes.get(prefix).length > 2 ? prefix : "others";
  });
  return [
    h("h2", {}, "Metrics"),
    ...[...groups].map(([prefix, found]) =>
      h(
        "details",
        { open: found.length < 20 },
        h("summary", {}, `${prefix} (${found.length})`),
        h(
          "div",
          { class: "scroller", tabindex: 0, role: "region", "aria-label": prefix },
          metricTable(found),
        ),
      ),
    ),
  ];
}

const prefixOf = (metric) =>
  /^(.*)\//.exec(metric)?.[1] ?? /^[^_\W]+/.exec(metric)?.[0] ?? "others";

function metricTable(found) {
  const head = [
    "metric",
    "last",
    "at step",
    "least",
    "at step",
    "greatest",
    "at step",
    "points",
    "not finite",
    "",
  ];
  const rows = found.map(([metric, summary]) => {
    const draw = h(
      "button",
      { type: "button", click: () => pin(metric), "aria-label": `Draw ${metric}` },
      "draw",
    );
    const numbers = [
      summary.value,
      summary.step,
      summary.minimum,
      summary.minimum_step,
      summary.maximum,
      summary.maximum_step,
      summary.count,
      summary.nonfinite || null,
    ];
    return h(
      "tr",
      {},
      h("td", {}, metric),
      ...numbers.map((v) => h("td", { class: "number" }, number(v))),
      h("td", {}, summary.count > 1 ? draw : null),
    );
  });
  return h(
    "table",
    { class: "plain" },
    h("thead", {}, h("tr", {}, ...head.map((n) => h("th", { scope: "col" }, n)))),
    h("tbody", {}, ...rows),
  );
}

function pin(metric) {
  setState({ pin: [...new Set([...panel.pins, metric])] });
  panel.refresh();
}

// --------------------------------------------------------------------------------------- rest

function rest(run) {
  const facts = Object.entries(run.facts).filter(([fact]) => !NOT_FACTS.includes(fact));
  return [
    h(
      "div",
      { class: "columns" },
      h("section", {}, h("h2", {}, "Configuration"), table(leaves(run.config))),
      h("section", {}, h("h2", {}, "Facts"), table(facts)),
    ),
    folded("Environment", table(leaves(run.environment))),
    run.diff ? folded("Uncommitted changes", h("pre", {}, run.diff)) : null,
    run.artifacts.length ? h("h2", {}, "Files") : null,
    run.artifacts.length ? files(run) : null,
  ].filter(Boolean);
}

const folded = (title, content) => h("details", {}, h("summary", {}, title), content);

const table = (pairs) =>
  h(
    "table",
    { class: "facts" },
    h(
      "tbody",
      {},
      ...pairs.map(([key, value]) =>
        h("tr", {}, h("th", { scope: "row" }, key), h("td", {}, shown(value))),
      ),
    ),
  );

/** Dotted path and value of everything that is no mapping itself. */
function leaves(tree, above = "") {
  return Object.entries(tree).flatMap(([key, value]) =>
    value !== null &&
    typeof value === "object" &&
    !Array.isArray(value) &&
    Object.keys(value).length
      ? leaves(value, `${above}${key}.`)
      : [[above + key, value]],
  );
}

function files(run) {
  const link = (file) =>
    `/api/v1/${path("runs", run.id)}/files/${file.path.split("/").map(encodeURIComponent).join("/")}`;
  return h(
    "table",
    { class: "plain" },
    h(
      "tbody",
      {},
      ...run.artifacts.map((file) =>
        h(
          "tr",
          {},
          h("td", {}, file.kind),
          h("td", {}, h("a", { href: link(file), download: true }, file.path)),
          h("td", { class: "number" }, bytes(file.bytes)),
          h("td", { class: "mono" }, file.sha256.slice(0, 12)),
        ),
      ),
    ),
  );
}

async function log(run) {
  const found = await ask(`${path("runs", run.id)}/log`);
  if (!found.bytes) return;
  const text = h("pre", { tabindex: 0, "aria-label": "End of the log" }, found.text);
  const title = found.from
    ? `Log: the last ${bytes(found.bytes - found.from)} of ${bytes(found.bytes)}`
    : "Log";
  parts.log.replaceChildren(h("h2", {}, title), text);
  text.scrollTop = text.scrollHeight;
}

// -------------------------------------------------------------------------------------- begin

try {
  const run = await load();
  host.replaceChildren(...Object.values(parts));
  const curves = Object.entries(run.metrics)
    .filter(([, s]) => s.count > 1)
    .map(([metric]) => metric);
  if (curves.length) {
    panel = new Panel(parts.charts, { defaults: usualCurves(curves, 3) });
    await panel.draw([{ id: run.id, key: run.key, label: run.facts.experiment_name }]);
  }
  let isLive = LIVE.includes(run.facts.status);
  onChange(async () => {
    if (!isLive) return;
    isLive = LIVE.includes((await load()).facts.status);
    await panel?.news();
  });
} catch (problem) {
  tell(host, problem);
}
