// What a chart shows as rows, as a file of them, and as a picture with its title and legend.

import { css, h, number, save, toCsv } from "./base.js";
import { NAMED, placesOf } from "./chart.js";

const MOST_TABLE_ROWS = 500;
const FIELDS = ["mean", "minimum", "maximum", "deviation", "count", "nonfinite"];

/** Every number that is drawn, a row for each place of each curve. */
function rows({ curves, view }) {
  const header = ["curve", "id", view.x, ...FIELDS];
  const found = curves.flatMap((curve) => {
    const bad = new Map(curve.nonfinite);
    return curve.steps.map((_, i) => [
      curve.label,
      curve.id,
      placesOf(curve)[i],
      curve.mean[i],
      curve.minimum?.[i] ?? curve.mean[i],
      curve.maximum?.[i] ?? curve.mean[i],
      curve.deviation?.[i] ?? null,
      curve.counts?.[i] ?? 1,
      bad.get(i) ?? 0,
    ]);
  });
  return [header, ...found];
}

const fileName = (chart, suffix) =>
  `${chart.options.title.replaceAll(/[^\w.-]+/g, "_").slice(0, 80)}.${suffix}`;

export function saveCsv(chart) {
  save(fileName(chart, "csv"), toCsv(rows(chart)));
}

export function savePng(chart) {
  if (!chart.plot) return;
  const scale = devicePixelRatio;
  const source = chart.plot.ctx.canvas;
  const line = 20 * scale;
  const named = chart.curves.slice(0, NAMED);
  const height = source.height + line * (2 + named.length);
  const canvas = h("canvas", { width: source.width, height });
  const ctx = canvas.getContext("2d");
  const write = (text, x, y, font) => {
    ctx.fillStyle = css("--ink");
    ctx.font = `${font} system-ui, sans-serif`;
    ctx.fillText(text, x, y);
  };
  ctx.fillStyle = css("--paper");
  ctx.fillRect(0, 0, canvas.width, canvas.height);
  write(chart.options.title, 8 * scale, line, `bold ${14 * scale}px`);
  ctx.drawImage(source, 0, line * 1.5);
  named.forEach((curve, i) => {
    const y = source.height + line * (2.1 + i);
    ctx.fillStyle = curve.colour;
    ctx.fillRect(8 * scale, y - 5 * scale, 20 * scale, 3 * scale);
    write(curve.label, 36 * scale, y, `${12 * scale}px`);
  });
  canvas.toBlob((blob) => save(fileName(chart, "png"), blob));
}

/** Show the numbers of a chart below it. */
export function fillTable(host, chart) {
  const [header, ...found] = rows(chart);
  const listed = found.slice(0, MOST_TABLE_ROWS);
  const rest = found.length - listed.length;
  const table = h(
    "table",
    { class: "plain" },
    h("thead", {}, h("tr", {}, ...header.map((name) => h("th", { scope: "col" }, name)))),
    h(
      "tbody",
      {},
      ...listed.map((row) => h("tr", {}, ...row.map((value) => h("td", {}, number(value))))),
    ),
  );
  const more =
    rest > 0 ? h("p", { class: "quiet" }, `and ${rest} more rows, which the CSV has`) : "";
  host.replaceChildren(host.firstChild, table, more);
}
