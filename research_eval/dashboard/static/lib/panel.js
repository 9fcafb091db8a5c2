// Charts of pinned metrics over the same runs, or groups of runs, with one set of controls.

import { about, ask, h, looks, onPage, setState, shown, state, states, tell } from "./base.js";
import { LineChart } from "./chart.js";
import { onTheme } from "./shell.js";

const BUCKETS = 400;
const MOST_PINS = 12;
const AXES = [
  ["step", "step"],
  ["relative", "seconds since the start"],
  ["wall", "time"],
  ["tokens_seen", "tokens"],
  ["train_flops", "FLOPs"],
];

/** A run that may be drawn. @typedef {{id: string, key: number, label: string}} Run */

export class Panel {
  /**
   * @param {HTMLElement} host
   * @param {{defaults: string[]}} options Metrics that are shown if the address names none.
   */
  constructor(host, options) {
    this.options = options;
    this.charts = new Map();
    this.curves = new Map();
    this.runs = [];
    this.grouping = null;
    this.problem = h("div", {});
    this.grid = h("div", { class: "chart-grid" });
    host.replaceChildren(this.#controls(), this.problem, this.grid);
    onTheme(() => this.#redraw());
  }

  get pins() {
    const named = states("pin");
    return (named.length ? named : this.options.defaults).slice(0, MOST_PINS);
  }

  get #view() {
    const log = states("log");
    return {
      x: state("x") || "step",
      smooth: Number(state("smooth")) || 0,
      logX: log.includes("x"),
      logY: log.includes("y"),
    };
  }

  /** Draw runs. @param {Run[]} runs */
  async draw(runs) {
    this.grouping = null;
    this.runs = runs;
    await this.refresh();
  }

  /**
   * Draw the mean of each group of runs.
   * @param {{q: string, by: string}} grouping
   */
  async drawGroups(grouping) {
    this.grouping = grouping;
    this.runs = [];
    await this.refresh();
  }

  /** Ask for all curves anew. */
  async refresh() {
    const pins = this.pins;
    if (!pins.length || (!this.runs.length && !this.grouping)) {
      this.#keep([]);
      return;
    }
    this.request?.abort();
    this.request = new AbortController();
    try {
      const found = await this.#ask(pins, this.request.signal);
      this.keys = found.keys;
      this.problem.replaceChildren();
      for (const { metric, curves } of found.metrics) this.curves.set(metric, curves);
      this.#redraw();
    } catch (error) {
      if (error.name !== "AbortError") tell(this.problem, error);
    }
  }

  #ask(metric, signal) {
    const zoom = this.#view.x === "step" ? { from: state("from"), to: state("to") } : {};
    const common = { metric, buckets: BUCKETS, ...zoom };
    if (this.grouping) return ask("groups/series", { ...common, ...this.grouping }, signal);
    return ask(
      "series",
      { ...common, run: this.runs.map((run) => run.id), x: this.#view.x },
      signal,
    );
  }

  /** Fetch only what was recorded since. */
  async news() {
    if (this.grouping || this.#view.x !== "step" || state("from")) return this.refresh();
    const { append } = await import("./append.js");
    for (const metric of this.pins) {
      const curves = this.curves.get(metric) ?? [];
      const since = curves.map((curve) => `${curve.id}:${curve.cursor}`);
      if (since.length < this.runs.length) return this.refresh(); // a run may have its first point
      const { runs } = await ask("series/later", { metric, since });
      const isWhole = curves.every((curve) => !runs[curve.id] || append(curve, runs[curve.id]));
      if (!isWhole) return this.refresh();
      if (Object.keys(runs).length) this.#redraw([metric]);
    }
  }

  // ---------------------------------------------------------------------------------- drawing

  #redraw(metrics = this.pins) {
    const kept = this.#worthDrawing();
    this.#keep(kept);
    const view = this.#view;
    const look = this.grouping ? this.#lookOfGroup() : this.#lookOfRun();
    for (const metric of metrics.filter((each) => kept.includes(each))) {
      const curves = (this.curves.get(metric) ?? []).map((curve) =>
        Object.assign(curve, look(curve)),
      );
      this.#chart(metric).show(curves, view);
    }
  }

  /** What was pinned; of what nobody pinned only what these runs have. */
  #worthDrawing() {
    const known = this.pins.filter((metric) => this.curves.get(metric)?.length);
    return states("pin").length || !known.length ? this.pins : known;
  }

  #lookOfRun() {
    const looked = looks(this.runs.map((run) => run.key));
    const byId = new Map(this.runs.map((run) => [run.id, run]));
    return (curve) => {
      const run = byId.get(curve.id);
      return {
        ...looked.get(run?.key),
        label: run?.label ?? curve.id,
        href: `/runs/${encodeURIComponent(curve.id)}`,
      };
    };
  }

  #lookOfGroup() {
    const looked = looks(this.keys.map((_, place) => place));
    return ({ id }) => {
      const key = this.keys[Number(id)];
      const arm = key.map((value) => this.colours?.[value]).find(Boolean);
      const own = looked.get(Number(id));
      const isOnlyArm = arm && key.length === 1;
      return {
        ...own,
        colour: isOnlyArm ? onPage(arm) : own.colour,
        dash: isOnlyArm ? [] : own.dash,
        label: key.map(shown).join(" · "),
      };
    };
  }

  #chart(metric) {
    if (!this.charts.has(metric)) {
      const unpin = h(
        "button",
        {
          type: "button",
          "aria-label": `Remove the chart of ${metric}`,
          click: () => this.#pin(this.pins.filter((name) => name !== metric)),
        },
        "✕",
      );
      const onZoom = (from, to) => this.#zoom(from, to);
      this.charts.set(
        metric,
        new LineChart(this.grid, { title: metric, sync: "panel", onZoom, tools: [unpin] }),
      );
      const caption = this.charts.get(metric).figure.querySelector("figcaption");
      caption.addEventListener("mouseenter", () => explain(metric, caption), { once: true });
    }
    return this.charts.get(metric);
  }

  #keep(metrics) {
    for (const [metric, chart] of this.charts) {
      if (!metrics.includes(metric)) {
        chart.figure.remove();
        this.charts.delete(metric);
      }
    }
  }

  #zoom(from, to) {
    if (this.#view.x !== "step") return;
    const isWhole = from === null;
    setState({ from: isWhole ? null : Math.floor(from), to: isWhole ? null : Math.ceil(to) });
    this.refresh();
  }

  #pin(metrics) {
    setState({ pin: metrics });
    this.refresh();
  }

  // --------------------------------------------------------------------------------- controls

  #controls() {
    const view = this.#view;
    const axis = h(
      "select",
      { change: (event) => this.#set({ x: event.target.value, from: null, to: null }, true) },
      ...AXES.map(([value, name]) => h("option", { value, selected: value === view.x }, name)),
    );
    const smooth = h("input", {
      type: "range",
      min: 0,
      max: 0.99,
      step: 0.01,
      value: view.smooth,
      input: (event) =>
        this.#set({ smooth: event.target.value === "0" ? null : event.target.value }),
    });
    const log = (name) =>
      h("input", {
        type: "checkbox",
        checked: view[`log${name.toUpperCase()}`],
        change: (event) => this.#set({ log: toggled(states("log"), name, event.target.checked) }),
      });
    this.names = h("datalist", { id: "curve-names" });
    const add = h("input", {
      list: "curve-names",
      placeholder: "metric",
      size: 18,
      spellcheck: "false",
      focus: () => this.#suggest(),
      change: (event) => {
        if (event.target.value) this.#pin([...new Set([...this.pins, event.target.value])]);
        event.target.value = "";
      },
    });
    return h(
      "div",
      { class: "bar controls" },
      h("label", {}, "x ", axis),
      h("label", {}, "smooth ", smooth),
      h("label", {}, log("x"), " log x"),
      h("label", {}, log("y"), " log y"),
      h("label", {}, "add chart ", add),
      this.names,
    );
  }

  async #suggest() {
    const { curves } = await about();
    this.names.replaceChildren(...curves.map((value) => h("option", { value })));
  }

  #set(changes, isOtherData = false) {
    setState(changes);
    if (isOtherData) this.refresh();
    else this.#redraw();
  }
}

const toggled = (names, name, isOn) => [
  ...names.filter((each) => each !== name),
  ...(isOn ? [name] : []),
];

/** Say what a metric of ours means, to who points at its name. */
async function explain(metric, caption) {
  const { dictionary } = await about();
  const known = dictionary.find((each) => each.name === metric || each.history === metric);
  if (known) caption.title = known.meaning + (known.unit ? `, in ${known.unit}` : "");
}
