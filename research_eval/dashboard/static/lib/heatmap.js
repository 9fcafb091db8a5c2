// A grid of numbers as colours on a canvas, with the numbers for those who do not see colours.

import { css, h, number, say } from "./base.js";
import { onTheme } from "./shell.js";

// Cividis (Nuñez, Anderton and Renslow 2018), which reads the same without full colour vision.
const CIVIDIS = [
  [0, 34, 78],
  [18, 53, 112],
  [60, 77, 110],
  [94, 101, 110],
  [124, 123, 120],
  [156, 146, 116],
  [190, 171, 103],
  [226, 197, 75],
  [254, 232, 56],
];

/** The colour of a share 0..1. */
export function heat(share) {
  const place = Math.max(0, Math.min(1, share)) * (CIVIDIS.length - 1);
  const low = Math.min(CIVIDIS.length - 2, Math.floor(place));
  const parts = CIVIDIS[low].map((part, i) => part + (CIVIDIS[low + 1][i] - part) * (place - low));
  return `rgb(${parts.map(Math.round).join(" ")})`;
}

const HEAD_PX = 18;
const SIDE_PX = 62;
const WIDEST_PX = 46;
const WRITTEN_PX = 40;

export class Heatmap {
  /**
   * @param {HTMLElement} host
   * @param {{title: string, rows: string, columns: string, unit?: (v: number) => string}} options
   *   `rows` and `columns` say what a row and a column is.
   */
  constructor(host, options) {
    this.options = options;
    this.canvas = h("canvas", {
      role: "img",
      "aria-label": options.title,
      tabindex: 0,
      keydown: (event) => this.#keys(event),
      mousemove: (event) => this.#point(event),
      mouseleave: () => this.#choose(null),
    });
    this.reading = h("p", { class: "quiet note" }, " ");
    this.table = h("details", { toggle: () => this.#fillTable() }, h("summary", {}, "As a table"));
    host.replaceChildren(this.canvas, this.reading, this.table);
    onTheme(() => this.#draw());
  }

  /**
   * @param {(number|null)[][]} values
   * @param {{rows?: string[], columns?: string[], top?: number}} names `top` is where colours end.
   */
  show(values, { rows, columns, top } = {}) {
    this.values = values;
    this.rowNames = rows ?? values.map((_, i) => String(i));
    this.columnNames = columns ?? (values[0] ?? []).map((_, i) => String(i));
    this.top = top ?? Math.max(1e-12, ...values.flat().filter((v) => v !== null));
    this.chosen = null;
    this.#draw();
    if (this.table.open) this.#fillTable();
  }

  #draw() {
    if (!this.values?.length) return;
    const [height, width] = [this.values.length, this.values[0].length];
    const room = Math.max(240, (this.canvas.parentElement.clientWidth || 600) - SIDE_PX - 8);
    const cell = Math.max(5, Math.min(WIDEST_PX, Math.floor(room / width)));
    this.cell = [cell, Math.max(8, Math.min(26, cell))];
    const size = [SIDE_PX + width * cell, HEAD_PX + height * this.cell[1]];
    const scale = devicePixelRatio;
    [this.canvas.width, this.canvas.height] = size.map((side) => side * scale);
    [this.canvas.style.width, this.canvas.style.height] = size.map((side) => `${side}px`);
    const ctx = this.canvas.getContext("2d");
    ctx.scale(scale, scale);
    this.#cells(ctx);
    this.#names(ctx);
    const finite = this.values.flat().filter((v) => v !== null);
    this.canvas.setAttribute(
      "aria-label",
      `${this.options.title}: ${height} ${this.options.rows}s by ` +
        `${width} ${this.options.columns}s, from ${this.#text(Math.min(...finite))} to ` +
        `${this.#text(Math.max(...finite))}. Arrow keys read single values.`,
    );
  }

  #cells(ctx) {
    const [w, t] = this.cell;
    this.values.forEach((row, r) =>
      row.forEach((value, c) => {
        const [x, y] = [SIDE_PX + c * w, HEAD_PX + r * t];
        if (value === null) return;
        ctx.fillStyle = heat(value / this.top);
        ctx.fillRect(x, y, w - 1, t - 1);
        if (w >= WRITTEN_PX) this.#write(ctx, value, x + w / 2, y + t / 2);
        if (this.chosen?.[0] === r && this.chosen[1] === c) {
          ctx.strokeStyle = css("--ink");
          ctx.lineWidth = 2;
          ctx.strokeRect(x, y, w - 1, t - 1);
        }
      }),
    );
  }

  #write(ctx, value, x, y) {
    ctx.fillStyle = value / this.top > 0.55 ? "#000" : "#fff";
    ctx.font = "10px system-ui, sans-serif";
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    const text = this.options.unit && this.#text(value).replace(/(\.\d)\d* %/, "$1 %");
    ctx.fillText(text || String(Number(value.toPrecision(2))), x, y);
  }

  #names(ctx) {
    const [w, t] = this.cell;
    ctx.fillStyle = css("--muted");
    ctx.font = "11px system-ui, sans-serif";
    ctx.textAlign = "right";
    ctx.textBaseline = "middle";
    const everyRow = Math.ceil(12 / t);
    this.rowNames.forEach((name, r) => {
      if (r % everyRow === 0) ctx.fillText(name.slice(0, 10), SIDE_PX - 6, HEAD_PX + (r + 0.5) * t);
    });
    ctx.textAlign = "center";
    const longest = Math.max(...this.columnNames.map((name) => name.length));
    const everyColumn = Math.ceil((longest * 7 + 4) / w);
    this.columnNames.forEach((name, c) => {
      if (c % everyColumn === 0) ctx.fillText(name, SIDE_PX + (c + 0.5) * w, HEAD_PX / 2);
    });
  }

  #text(value) {
    return value === null ? "not recorded" : (this.options.unit ?? number)(value);
  }

  #point(event) {
    const c = Math.floor((event.offsetX - SIDE_PX) / this.cell[0]);
    const r = Math.floor((event.offsetY - HEAD_PX) / this.cell[1]);
    const isInside = r >= 0 && c >= 0 && r < this.values.length && c < this.values[0].length;
    this.#choose(isInside ? [r, c] : null);
  }

  #choose(place) {
    if (String(place) === String(this.chosen)) return;
    this.chosen = place;
    this.reading.textContent = place ? this.#told(...place) : " ";
    this.#draw();
  }

  #told(r, c) {
    const { rows, columns } = this.options;
    return `${rows} ${this.rowNames[r]}, ${columns} ${this.columnNames[c]}: ${this.#text(this.values[r][c])}`;
  }

  #keys(event) {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[
      event.key
    ];
    if (!by || !this.values) return;
    event.preventDefault();
    const [r, c] = this.chosen ?? [0, -1];
    const clip = (value, count) => Math.max(0, Math.min(count - 1, value));
    const place = [clip(r + by[0], this.values.length), clip(c + by[1], this.values[0].length)];
    this.#choose(place);
    say(this.reading.textContent);
  }

  #fillTable() {
    if (!this.table.open || !this.values) return;
    const head = [`${this.options.rows} \\ ${this.options.columns}`, ...this.columnNames];
    this.table.replaceChildren(
      this.table.firstChild,
      h(
        "div",
        { class: "scroller", tabindex: 0 },
        h(
          "table",
          { class: "plain" },
          h("thead", {}, h("tr", {}, ...head.map((name) => h("th", { scope: "col" }, name)))),
          h(
            "tbody",
            {},
            ...this.values.map((row, r) =>
              h(
                "tr",
                {},
                h("th", { scope: "row" }, this.rowNames[r]),
                ...row.map((value) => h("td", { class: "number" }, this.#text(value))),
              ),
            ),
          ),
        ),
      ),
    );
  }
}
