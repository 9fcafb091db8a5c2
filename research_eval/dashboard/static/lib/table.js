// A table of any number of rows, of which only those in sight exist.

import { age, amount, duration, h, moment, number, say, shown, status } from "./base.js";

const ROW_PX = 28;
const SPARE_ROWS = 8;
const LONGEST = 34;
const SAMPLED = 300;

/**
 * How a value is shown and how wide it is, by the kind of its column.
 * @param {*} value
 * @param {{name: string, kind: string}} column
 */
export function textOf(value, column) {
  if (value === null || value === undefined) return "–";
  if (column.kind === "time") return column.name === "timestamp" ? age(value) : moment(value);
  if (column.kind === "number")
    return typeof value === "number" ? format(value, column) : shown(value);
  if (column.kind === "status") return `✓ ${String(value).toLowerCase()}`;
  return shown(value);
}

function format(value, column) {
  if (column.name.endsWith("_seconds")) return duration(value);
  if (/_count$|flops/.test(column.name)) return amount(value);
  return Number.isInteger(value) && !column.name.startsWith("metrics.")
    ? String(value)
    : number(value);
}

const TITLES = {
  experiment_name: "name",
  model_type: "model",
  dataset_name: "data",
  timestamp: "started",
  "metrics.param_count": "parameters",
  "metrics.total_training_time_seconds": "time",
  flag: "notes",
  tag: "tags",
};

/** The heading of a field, without what all of its kind begin with. */
export const titleOf = (name) =>
  TITLES[name] ?? name.replace(/^metrics\."?|^params\./, "").replace(/"$/, "");

export class Table {
  /**
   * @param {HTMLElement} host
   * @param {Object} options
   * @param {string} options.label What the table lists.
   * @param {(column: Object) => void} options.onSort
   * @param {(ids: Set<string>) => void} [options.onSelect] Makes rows selectable.
   * @param {(row: number) => string} [options.linkOf] Where the first cell leads.
   * @param {(row: number) => string|null} [options.colourOf] Mark before the first cell.
   */
  constructor(host, options) {
    this.options = options;
    this.selected = new Set();
    this.active = -1;
    this.data = { columns: [], ids: [], values: [] };
    this.cols = h("colgroup");
    this.head = h("thead");
    this.body = h("tbody");
    const label = { "aria-label": options.label, class: "virtual" };
    this.table = h("table", label, this.cols, this.head, this.body);
    this.scroller = h(
      "div",
      {
        class: "scroller",
        tabindex: 0,
        role: "region",
        "aria-label": `${options.label}: scroll with arrows, j and k move, x selects, Enter opens`,
      },
      this.table,
    );
    this.scroller.addEventListener("scroll", () => this.#schedule(), { passive: true });
    new ResizeObserver(() => this.#schedule()).observe(this.scroller);
    host.replaceChildren(this.scroller);
  }

  /**
   * @param {{columns: Object[], ids: string[], values: Array[]}} data By column.
   * @param {string} sort Name of the field, `-` before it for descending.
   */
  show(data, sort) {
    this.data = data;
    this.active = Math.min(this.active, data.ids.length - 1);
    this.table.setAttribute("aria-rowcount", data.ids.length + 1);
    const selects = this.options.onSelect ? [h("th", { class: "pick" }, this.#everyone())] : [];
    this.head.replaceChildren(
      h("tr", {}, ...selects, ...data.columns.map((column) => this.#heading(column, sort))),
    );
    this.#layOut(selects.length);
    this.#draw();
  }

  #layOut(picks) {
    const widths = this.data.columns.map((column, place) => {
      const sample = this.data.values[place].slice(0, SAMPLED);
      const longest = Math.max(...sample.map((value) => textOf(value, column).length), 0);
      return Math.min(Math.max(longest, titleOf(column.name).length + 2, 4), LONGEST);
    });
    this.cols.replaceChildren(
      ...[...Array(picks).fill(3), ...widths].map((width) => {
        const col = h("col");
        col.style.width = `calc(${width}ch + 1.1rem)`;
        return col;
      }),
    );
  }

  #heading(column, sort) {
    const direction = { [column.name]: "ascending", [`-${column.name}`]: "descending" }[sort];
    const mark = { ascending: " ▲", descending: " ▼" }[direction] ?? "";
    const canSort = column.kind !== "labels" && this.options.onSort;
    const title = titleOf(column.name) + mark;
    const inner = canSort
      ? h(
          "button",
          { type: "button", title: column.name, click: () => this.options.onSort(column) },
          title,
        )
      : title;
    return h("th", { scope: "col", "aria-sort": direction ?? null, class: column.kind }, inner);
  }

  #everyone() {
    const change = (event) => {
      for (const id of this.data.ids) this.selected[event.target.checked ? "add" : "delete"](id);
      this.#selectionChanged();
    };
    return h("input", { type: "checkbox", "aria-label": "Select all", change });
  }

  #schedule() {
    this.frame ??= requestAnimationFrame(() => this.#draw());
  }

  /** Draw the rows in sight again, for example because colours have changed. */
  redraw() {
    this.#schedule();
  }

  #draw() {
    this.frame = null;
    const count = this.data.ids.length;
    const inSight = Math.ceil(this.scroller.clientHeight / ROW_PX) + 2 * SPARE_ROWS;
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW_PX) - SPARE_ROWS);
    const last = Math.min(count, first + inSight);
    const rows = [];
    for (let row = first; row < last; row++) rows.push(this.#row(row));
    this.body.replaceChildren(this.#space(first), ...rows, this.#space(count - last));
  }

  #space(rows) {
    const space = h("tr", { "aria-hidden": "true" });
    space.style.height = `${rows * ROW_PX}px`;
    return space;
  }

  #row(row) {
    const id = this.data.ids[row];
    const isSelected = this.selected.has(id);
    const cells = this.data.columns.map((column, place) => this.#cell(row, column, place));
    if (this.options.onSelect) {
      const label = `Select ${textOf(this.data.values[0]?.[row], this.data.columns[0] ?? {})}`;
      cells.unshift(
        h(
          "td",
          { class: "pick" },
          h("input", {
            type: "checkbox",
            "aria-label": label,
            checked: isSelected,
            change: () => this.toggle(row),
          }),
        ),
      );
    }
    const mark = [isSelected && "selected", row === this.active && "active"].filter(Boolean);
    return h(
      "tr",
      {
        "aria-rowindex": row + 2,
        class: mark.join(" "),
        "aria-selected": this.options.onSelect ? String(isSelected) : null,
      },
      ...cells,
    );
  }

  #cell(row, column, place) {
    const value = this.data.values[place][row];
    const text = textOf(value, column);
    let content = column.kind === "status" ? status(value) : text;
    if (place === 0 && this.options.linkOf) {
      const name = h("a", { href: this.options.linkOf(row) }, text);
      content = [this.#dot(row), name];
    }
    return h(
      "td",
      { class: column.kind, title: text.length > 20 ? text : null },
      ...[content].flat(),
    );
  }

  #dot(row) {
    const colour = this.options.colourOf?.(row);
    const dot = h("span", { class: "dot", "aria-hidden": "true" });
    if (colour) dot.style.background = colour;
    return dot;
  }

  // ------------------------------------------------------------------------------------- keys

  /** Move the active row, and scroll to it. */
  move(by) {
    if (!this.data.ids.length) return;
    this.active = Math.max(0, Math.min(this.data.ids.length - 1, this.active + by));
    const top = this.active * ROW_PX;
    const room = this.scroller.clientHeight - 2 * ROW_PX;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    if (top > this.scroller.scrollTop + room) this.scroller.scrollTop = top - room;
    this.#draw();
    say(
      this.data.columns
        .slice(0, 4)
        .map(
          (column, place) =>
            `${titleOf(column.name)} ${textOf(this.data.values[place][this.active], column)}`,
        )
        .join(", "),
    );
  }

  toggle(row = this.active) {
    const id = this.data.ids[row];
    if (id === undefined) return;
    if (!this.selected.delete(id)) this.selected.add(id);
    say(`${this.selected.size} selected`);
    this.#selectionChanged();
  }

  open() {
    if (this.active >= 0 && this.options.linkOf) location.href = this.options.linkOf(this.active);
  }

  #selectionChanged() {
    this.options.onSelect(this.selected);
    this.#draw();
  }
}
