// The runs page: filter, sort, choose, group, and charts of what is chosen.

import {
  Problem,
  about,
  ask,
  byId,
  h,
  looks,
  number,
  query,
  setState,
  shown,
  state,
  states,
  tell,
  usualCurves,
} from "../lib/base.js";
import { Panel } from "../lib/panel.js";
import { dialog, onChange, onKey, onTheme } from "../lib/shell.js";
import { Table, titleOf } from "../lib/table.js";

const MOST_ROWS = 5000;
const MOST_DRAWN = 50;
const DRAWN_AT_FIRST = 10;
const MOST_SCORES = 4;

const filter = byId("q");
const grouping = byId("by");
const problem = byId("problem");

let listed = { ids: [], keys: [], columns: [], values: [], total: 0 };

const linkTo = (id) => `/runs/${encodeURIComponent(id)}`;

const runsTable = () =>
  new Table(byId("table"), {
    label: "Runs",
    onSort: sortBy,
    onSelect: select,
    linkOf: (row) => linkTo(listed.ids[row]),
    colourOf: (row) => colours.get(listed.keys[row])?.colour ?? null,
  });

let table = runsTable();
let panel = null;
let colours = new Map();

// -------------------------------------------------------------------------------------- asking

async function load() {
  const params = {
    q: state("q"),
    sort: state("sort"),
    columns: state("columns"),
    limit: MOST_ROWS,
  };
  byId("csv").href = `/api/v1/runs.csv${query(params)}`;
  try {
    if (state("by")) await loadGroups();
    else await loadRuns(params);
    problem.hidden = true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problem.hidden = false;
    problem.textContent = error.detail;
    if (error.position !== undefined) pointAt(error);
  }
}

async function loadRuns(params) {
  listed = await ask("runs", params);
  const missing = listed.total - listed.ids.length;
  const notes = [`${listed.total.toLocaleString("en")} runs`];
  if (missing > 0) notes.push(`the first ${listed.ids.length.toLocaleString("en")} are listed`);
  byId("count").textContent = [...notes, ...listed.unknown].join("; ");
  panel ??= new Panel(byId("charts"), { defaults: await defaultPins() });
  drawn();
  table.show(listed, state("sort"));
}

/** The curves behind the scores in the list; for other scripts' runs the first recorded ones. */
async function defaultPins() {
  const scores = listed.columns
    .map((column) => /^metrics\.final_(val_\w+)$/.exec(column.name)?.[1])
    .filter(Boolean);
  if (scores.length || !listed.ids.length) return scores.slice(0, 2);
  return usualCurves((await about()).curves, 2);
}

/** Draw the selected runs, or the first of the list. */
function drawn() {
  const rows = listed.ids.map((id, row) => row);
  const chosen = table.selected.size
    ? rows.filter((row) => table.selected.has(listed.ids[row])).slice(0, MOST_DRAWN)
    : rows.slice(0, DRAWN_AT_FIRST);
  const named = listed.columns.findIndex((column) => column.name === "experiment_name");
  const seeded = listed.columns.findIndex((column) => column.name === "seed");
  const seedOf = (row) => listed.values[seeded]?.[row] ?? null;
  const seeds = new Set(chosen.map(seedOf));
  const label = (row) => {
    const name = listed.values[named]?.[row] ?? listed.ids[row].slice(0, 8);
    return seeds.size > 1 ? `${name} · seed ${shown(seedOf(row))}` : name;
  };
  colours = looks(chosen.map((row) => listed.keys[row]));
  const labels = chosen.map(label);
  const distinct = (text, id) =>
    labels.indexOf(text) === labels.lastIndexOf(text) ? text : `${text} · ${id.slice(0, 8)}`;
  const runs = chosen.map((row, i) => ({
    id: listed.ids[row],
    key: listed.keys[row],
    label: distinct(labels[i], listed.ids[row]),
  }));
  const isSame = runs.map((run) => run.id).join() === panel.runs.map((run) => run.id).join();
  if (!isSame) panel.draw(runs);
}

// -------------------------------------------------------------------------------------- groups

async function loadGroups() {
  const known = await about();
  const metric = known.curves.length ? scoresOf(known) : [];
  const found = await ask("groups", { q: state("q"), by: state("by"), metric });
  panel ??= new Panel(byId("charts"), { defaults: usualCurves(known.curves, 2) });
  panel.colours = known.colours;
  panel.drawGroups({ q: state("q"), by: state("by") });
  const total = found.groups.reduce((sum, group) => sum + group.runs.length, 0);
  const notes = [`${found.groups.length} groups of ${total} runs; mean ± standard deviation`];
  if (found.data > 1) {
    notes.push(`they saw ${found.data} different data sets, between which scores say nothing`);
  }
  byId("count").textContent = notes.join("; ");
  byId("table").replaceChildren(groupTable(found, metric));
  table = null;
}

const scoresOf = ({ metrics }) =>
  ["val", "test"]
    .flatMap((split) => Object.keys(metrics).filter((name) => name.startsWith(`final_${split}_`)))
    .slice(0, MOST_SCORES);

function groupTable(found, metrics) {
  const head = [...found.by.map(titleOf), "runs", "ended as", ...metrics];
  const rows = found.groups.map((group) =>
    h(
      "tr",
      {},
      ...group.key.map((value, place) =>
        h(
          "td",
          {},
          place
            ? shown(value)
            : h(
                "a",
                { href: membersOf(found.by, group.key), title: "Show its runs" },
                shown(value),
              ),
        ),
      ),
      h("td", { class: "number" }, String(group.runs.length)),
      h(
        "td",
        {},
        Object.entries(group.statuses)
          .map(([n, c]) => `${c} ${n.toLowerCase()}`)
          .join(", "),
      ),
      ...metrics.map((name) => h("td", { class: "number" }, spread(group.metrics[name]))),
    ),
  );
  return h(
    "div",
    { class: "scroller", tabindex: 0, role: "region", "aria-label": "Groups" },
    h(
      "table",
      { class: "plain" },
      h("thead", {}, h("tr", {}, ...head.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, ...rows),
    ),
  );
}

function spread({ mean, deviation, n, started }) {
  if (mean === null) return `– (0 of ${started})`;
  const band = deviation === null ? "" : ` ± ${number(deviation)}`;
  return `${number(mean)}${band} (${n} of ${started})`;
}

/** The address of the list of a group's runs. */
function membersOf(fields, key) {
  const literal = (value) => (value === null ? " is null" : ` == ${JSON.stringify(value)}`);
  const parts = fields.map((field, place) => field + literal(key[place]));
  const before = state("q") ? [`(${state("q")})`] : [];
  return `/runs${query({ q: [...before, ...parts].join(" and ") })}`;
}

// ------------------------------------------------------------------------------------- choices

function select(chosen) {
  setState({ sel: [...chosen].slice(0, MOST_DRAWN) });
  byId("compare").disabled = chosen.size < 2;
  byId("compare").textContent = chosen.size ? `Compare ${chosen.size}` : "Compare";
  drawn();
}

function sortBy(column) {
  const isDown = column.kind === "number" || column.kind === "time";
  const order = isDown
    ? [`-${column.name}`, column.name, ""]
    : [column.name, `-${column.name}`, ""];
  const next = order[(order.indexOf(state("sort")) + 1) % order.length];
  setState({ sort: next });
  load();
}

function pointAt({ position }) {
  filter.focus();
  filter.setSelectionRange(position, filter.value.length);
}

function compare() {
  const runs = [...table.selected].slice(0, MOST_DRAWN);
  if (runs.length > 1) location.href = `/compare${query({ run: runs })}`;
}

async function chooseColumns() {
  const known = await about();
  const names = [
    ...known.columns,
    ...Object.keys(known.params),
    ...Object.keys(known.metrics).map((name) =>
      /^[^\W\d]\w*$/.test(name) ? `metrics.${name}` : `metrics.${JSON.stringify(name)}`,
    ),
  ];
  const now = listed.columns.map((column) => column.name);
  const boxes = [...new Set([...now, ...names])].map((name) =>
    h(
      "label",
      { class: "choice" },
      h("input", { type: "checkbox", value: name, checked: now.includes(name) }),
      ` ${name}`,
    ),
  );
  const search = h("input", {
    type: "search",
    placeholder: "search",
    "aria-label": "Search columns",
    input: () =>
      boxes.forEach((box) => {
        box.hidden = !box.textContent.includes(search.value);
      }),
  });
  const use = (columns) => () => {
    setState({ columns: columns().join(", ") });
    made.close();
    load();
  };
  const ticked = () =>
    boxes
      .map((box) => box.firstChild)
      .filter((i) => i.checked)
      .map((i) => i.value);
  const made = dialog(
    "Columns",
    search,
    h("div", { class: "choices" }, ...boxes),
    h("button", { type: "button", click: use(ticked) }, "Show these"),
    h("button", { type: "button", click: use(() => []) }, "The usual ones"),
  );
}

async function suggest() {
  if (byId("words").childElementCount) return;
  const known = await about();
  const words = [...known.columns, ...Object.keys(known.params)];
  byId("words").replaceChildren(...words.map((value) => h("option", { value })));
}

// -------------------------------------------------------------------------------------- begin

function fromAddress() {
  filter.value = state("q");
  grouping.value = state("by");
}

function reload() {
  table ??= runsTable();
  fromAddress();
  return load();
}

byId("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  setState({ q: filter.value.trim(), by: grouping.value.trim(), sel: null }, { push: true });
  reload();
});
grouping.addEventListener("change", () => byId("filter").requestSubmit());
grouping.addEventListener("focus", suggest);
filter.addEventListener("focus", suggest);
byId("choose").addEventListener("click", () => chooseColumns().catch((e) => tell(problem, e)));
byId("compare").addEventListener("click", compare);
addEventListener("popstate", reload);

onTheme(() => {
  colours = looks([...colours.keys()]);
  table?.redraw();
});
onKey("/", () => filter.focus());
onKey("j", () => table?.move(1));
onKey("k", () => table?.move(-1));
onKey("x", () => table?.toggle());
onKey("Enter", () => table?.open());
onKey("c", compare);
onChange(async () => {
  await load();
  await panel?.news();
});

for (const id of states("sel")) table.selected.add(id);
fromAddress();
await load();
if (table?.selected.size) select(table.selected);
