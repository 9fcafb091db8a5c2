// A line chart over uPlot: curves with what they stand for, zoom, keys, a table, CSV and PNG.

import { amount, css, faint, h, number, say } from "./base.js";
import { onTheme } from "./shell.js";

const HEIGHT_PX = 260;
const LEAST_MS = 100;
export const NAMED = 12;

export class LineChart {
  /**
   * @param {HTMLElement} host
   * @param {Object} options
   * @param {string} options.title
   * @param {string} [options.meaning] One sentence on what is drawn.
   * @param {string} [options.sync] Charts with the same key share the cursor.
   * @param {(from: number|null, to: number|null) => void} [options.onZoom] Asks for more detail.
   * @param {Node[]} [options.tools] Further buttons.
   */
  constructor(host, options) {
    this.options = options;
    this.curves = [];
    this.view = {};
    this.drawnAt = 0;
    this.note = h("p", { class: "quiet note" });
    this.legend = h("ul", { class: "legend" });
    this.plotHost = h("div", {
      class: "plot",
      role: "img",
      "aria-label": options.title,
      tabindex: 0,
      keydown: (event) => this.#step(event),
    });
    this.reset = h(
      "button",
      { type: "button", hidden: true, click: () => this.#unzoom() },
      "Whole",
    );
    const tool = (name, act) => h("button", { type: "button", click: act }, name);
    this.table = h("details", { toggle: () => this.#fillTable() }, h("summary", {}, "As a table"));
    this.figure = h(
      "figure",
      { class: "chart" },
      h(
        "figcaption",
        { title: options.meaning ?? null },
        h("strong", {}, options.title),
        this.reset,
        tool("CSV", () => this.#with((file, chart) => file.saveCsv(chart))),
        tool("PNG", () => this.#with((file, chart) => file.savePng(chart))),
        ...(options.tools ?? []),
      ),
      this.plotHost,
      this.legend,
      this.note,
      this.table,
    );
    host.append(this.figure);
    new ResizeObserver(() => this.#resize()).observe(this.plotHost);
    onTheme(() => this.#build());
  }

  /**
   * Draw, at most ten times a second.
   * @param {(Curve & {label: string, colour: string, dash: number[], href: string})[]} curves
   * @param {{x: string, logX: boolean, logY: boolean, smooth: number}} view
   */
  show(curves, view) {
    this.curves = curves;
    this.view = view;
    clearTimeout(this.timer);
    const wait = Math.max(0, this.drawnAt + LEAST_MS - performance.now());
    this.timer = setTimeout(() => this.#build(), wait);
  }

  get isZoomed() {
    return !this.reset.hidden;
  }

  // ---------------------------------------------------------------------------------- drawing

  #build() {
    this.drawnAt = performance.now();
    const range = this.isZoomed && this.plot ? { ...this.plot.scales.x } : null;
    this.plot?.destroy();
    this.plot = null;
    this.note.textContent = inWords(this.curves);
    this.plotHost.setAttribute("aria-label", `${this.options.title}: ${this.#summary()}`);
    this.#fillLegend();
    if (this.table.open) this.#fillTable();
    if (!this.curves.some((curve) => curve.steps.length)) return;
    const { series, bands, parts } = this.#series();
    const data = aligned(parts);
    this.plot = new uPlot(this.#settings(series, bands), data, this.plotHost);
    if (range) this.plot.setScale("x", range);
  }

  /** The rows to draw of each curve: edges, what smoothing hides, and the line itself. */
  #series() {
    const series = [{}];
    const bands = [];
    const parts = [];
    this.lines = [];
    for (const curve of this.curves) {
      const rows = [];
      const add = (values, look) => {
        rows.push(this.view.logY ? values.map((v) => (v > 0 ? v : null)) : values);
        return series.push({ spanGaps: true, points: { show: false }, ...look }) - 1;
      };
      const both = edges(curve);
      if (both) {
        const edge = { stroke: faint(curve.colour, 0.4), width: 1 };
        const low = add(both[0], edge);
        const high = add(both[1], edge);
        bands.push({ series: [high, low], fill: faint(curve.colour, 0.18) });
      }
      if (this.view.smooth) add(curve.mean, { stroke: faint(curve.colour, 0.3), width: 1 });
      const look = { stroke: curve.colour, width: 1.75, dash: curve.dash, label: curve.label };
      if (curve.steps.length < 40) look.points = { show: true, size: 5, stroke: curve.colour };
      this.lines.push(add(smoothed(curve.mean, this.view.smooth), look));
      parts.push({ places: placesOf(curve), rows });
    }
    return { series, bands, parts };
  }

  #settings(series, bands) {
    const axis = {
      stroke: css("--muted"),
      grid: { stroke: css("--line"), width: 1 },
      ticks: { stroke: css("--line"), width: 1 },
      font: "12px system-ui, sans-serif",
    };
    const isTime = this.view.x === "wall";
    const values = (_, splits) => splits.map((v) => (v === null ? null : short(v)));
    return {
      width: Math.max(200, this.plotHost.clientWidth),
      height: HEIGHT_PX,
      legend: { show: false },
      scales: {
        x: { time: isTime, distr: this.view.logX && !isTime ? 3 : 1 },
        y: { distr: this.view.logY ? 3 : 1, ...(this.view.logY ? {} : { range: roomFor }) },
      },
      axes: [
        { ...axis, size: 34, ...(isTime ? {} : { values }) },
        { ...axis, size: 62, values },
      ],
      series,
      bands,
      cursor: {
        drag: { x: true, y: false },
        sync: { key: this.options.sync ?? null },
        points: { size: 7 },
      },
      hooks: {
        draw: [(plot) => this.#markNonfinite(plot)],
        setCursor: [(plot) => this.#readOut(plot)],
        setSelect: [(plot) => this.#zoomed(plot)],
      },
    };
  }

  /** Draw a cross at the upper edge wherever values were NaN or infinite. */
  #markNonfinite(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.lineWidth = 2 * devicePixelRatio;
    const size = 4 * devicePixelRatio;
    for (const curve of this.curves) {
      ctx.strokeStyle = curve.colour;
      for (const [place] of curve.nonfinite) {
        const x = plot.valToPos(placesOf(curve)[place], "x", true);
        if (x < bbox.left || x > bbox.left + bbox.width) continue;
        const y = bbox.top + 2 * size;
        ctx.beginPath();
        ctx.moveTo(x - size, y - size);
        ctx.lineTo(x + size, y + size);
        ctx.moveTo(x + size, y - size);
        ctx.lineTo(x - size, y + size);
        ctx.stroke();
      }
    }
    ctx.restore();
  }

  #resize() {
    const width = this.plotHost.clientWidth;
    if (this.plot && width && width !== this.plot.width)
      this.plot.setSize({ width, height: HEIGHT_PX });
  }

  // ----------------------------------------------------------------------------------- legend

  #fillLegend() {
    this.values = this.curves.map(() => h("span", { class: "value" }));
    const items = this.curves.slice(0, NAMED).map((curve, i) => {
      const line = h(
        "svg:svg",
        { width: 26, height: 8, "aria-hidden": "true" },
        h("svg:line", {
          x1: 0,
          x2: 26,
          y1: 4,
          y2: 4,
          stroke: curve.colour,
          "stroke-width": 3,
          "stroke-dasharray": curve.dash?.join(" ") || null,
        }),
      );
      const name = curve.href ? h("a", { href: curve.href }, curve.label) : curve.label;
      const emphasise = (on) => () => this.#emphasise(on ? i : null);
      return h(
        "li",
        { mouseenter: emphasise(true), mouseleave: emphasise(false) },
        line,
        h("span", { class: "name" }, name),
        this.values[i],
      );
    });
    const more = this.curves.length - NAMED;
    if (more > 0) items.push(h("li", { class: "quiet" }, `and ${more} more`));
    this.legend.replaceChildren(...items);
    this.#readOut(null);
  }

  #emphasise(chosen) {
    if (!this.plot) return;
    this.lines.forEach((line, i) => {
      this.plot.series[line].width = chosen === i ? 3.5 : 1.75;
    });
    this.plot.redraw(false);
  }

  /** Say what every curve is at the cursor, or where it ended. */
  #readOut(plot) {
    const at = plot?.cursor.idx ?? null;
    this.curves.forEach((curve, i) => {
      const places = placesOf(curve);
      let place = curve.mean.length - 1;
      if (at !== null) {
        const x = plot.data[0][at];
        while (place > 0 && places[place] > x) place--;
      }
      const value = curve.mean[place];
      if (this.values[i]) this.values[i].textContent = value === undefined ? "" : number(value);
    });
  }

  #summary() {
    const parts = this.curves.slice(0, NAMED).map((curve) => {
      const last = curve.mean.findLast((value) => value !== null);
      return `${curve.label} ends at ${number(last)}`;
    });
    return `${this.curves.length} curves; ${parts.join(", ")}. Left and right arrows read values.`;
  }

  // ------------------------------------------------------------------------------- zoom, keys

  #zoomed(plot) {
    if (plot.select.width < 4) return;
    const from = plot.posToVal(plot.select.left, "x");
    const to = plot.posToVal(plot.select.left + plot.select.width, "x");
    this.reset.hidden = false;
    this.options.onZoom?.(from, to);
  }

  #unzoom() {
    this.reset.hidden = true;
    this.plot?.setScale("x", { min: null, max: null });
    this.options.onZoom?.(null, null);
    this.#build();
  }

  #step(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageDown: 20, PageUp: -20 }[event.key];
    if (!by || !this.plot) return;
    event.preventDefault();
    const axis = this.plot.data[0];
    const at = Math.max(0, Math.min(axis.length - 1, (this.plot.cursor.idx ?? -1) + by));
    this.plot.setCursor({ left: this.plot.valToPos(axis[at], "x"), top: 20 });
    const told = this.curves
      .slice(0, 4)
      .map((curve, i) => `${curve.label} ${this.values[i].textContent}`);
    say(`${this.view.x} ${number(axis[at])}: ${told.join(", ")}`);
  }

  // ----------------------------------------------------------------------------------- export

  /** Do something with what is drawn; what that needs is loaded when it is asked for. */
  async #with(act) {
    act(await import("./export.js"), this);
  }

  async #fillTable() {
    if (!this.table.open) return;
    const { fillTable } = await import("./export.js");
    fillTable(this.table, this);
  }
}

/** A little room above and below; of a constant as much as its size asks for. */
function roomFor(_, low, high) {
  const room = low === high ? Math.abs(low) / 10 || 0.5 : (high - low) * 0.05;
  return low === null ? [0, 1] : [low - room, high + room];
}

const short = (value) => amount(value).replace(" ", "");

// ---------------------------------------------------------------------------- curves as values

/**
 * A curve of a run or a group, as `/api/v1/series` describes it.
 * @typedef {Object} Curve
 * @property {string} id
 * @property {number} width Steps in a bucket, 0 where every point stands for itself.
 * @property {number[]} steps
 * @property {number[]} [places] On another axis than steps.
 * @property {(number|null)[]} mean
 * @property {(number|null)[]} [minimum] Only of buckets; likewise `maximum` and `counts`.
 * @property {(number|null)[]} [deviation] Between the runs of a group.
 * @property {[number, number][]} nonfinite Place and number of NaN and infinities.
 */

export const placesOf = (curve) => curve.places ?? curve.steps;

/** Lower and upper edge of what a curve stands for; null where it stands for itself. */
function edges(curve) {
  if (curve.deviation) {
    const edge = (sign) =>
      curve.mean.map((mean, i) =>
        mean === null || curve.deviation[i] === null ? mean : mean + sign * curve.deviation[i],
      );
    return [edge(-1), edge(1)];
  }
  return curve.minimum ? [curve.minimum, curve.maximum] : null;
}

/**
 * Exponential moving average without the bias towards zero at the beginning.
 * @param {(number|null)[]} values
 * @param {number} weight Of what came before, 0..1; 0 changes nothing.
 */
function smoothed(values, weight) {
  if (!weight) return values;
  let sum = 0;
  let mass = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return sum / mass;
  });
}

/**
 * Bring rows of values onto one axis, as uPlot draws them.
 * @param {{places: number[], rows: (number|null)[][]}[]} parts
 * @returns {Array[]} The axis, then every row of every part.
 */
function aligned(parts) {
  const axis = [...new Set(parts.flatMap((part) => part.places))]
    .filter((place) => place !== null)
    .sort((a, b) => a - b);
  const index = new Map(axis.map((place, i) => [place, i]));
  const found = [axis];
  for (const { places, rows } of parts) {
    for (const row of rows) {
      const spread = new Array(axis.length).fill(undefined);
      places.forEach((place, i) => {
        if (place !== null) spread[index.get(place)] = row[i];
      });
      found.push(spread);
    }
  }
  return found;
}

/** In words: how many points are drawn, and how. */
function inWords(curves) {
  if (!curves.length) return "nothing is recorded";
  const points = curves.reduce((sum, curve) => sum + curve.points, 0);
  const wide = curves.find((curve) => curve.width > 1);
  const bad = curves.reduce(
    (sum, curve) => sum + curve.nonfinite.reduce((n, [, k]) => n + k, 0),
    0,
  );
  const how = curves.some((curve) => curve.deviation)
    ? "mean of the runs at each step, band ± 1 standard deviation"
    : wide
      ? `buckets of ${wide.width.toLocaleString("en")} steps: mean, band from least to greatest`
      : "every point";
  const drawn = curves.reduce((sum, curve) => sum + curve.steps.length, 0);
  const many = curves.some((curve) => curve.deviation)
    ? `${drawn.toLocaleString("en")} places`
    : wide
      ? `${drawn.toLocaleString("en")} buckets stand for ${points.toLocaleString("en")} points`
      : `${points.toLocaleString("en")} points`;
  return `${many}; ${how}${bad ? `; ✕ marks ${bad} values that are NaN or infinite` : ""}`;
}
