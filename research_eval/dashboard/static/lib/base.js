// What every page stands on: elements, texts of values, the API, and the state in the address.

// ------------------------------------------------------------------------------------ elements

/**
 * Make an element. Text is always text: nothing that somebody named becomes markup.
 * @param {string} tag Name; `svg:` before it makes an element of SVG.
 * @param {Object} attributes Functions become listeners, `false` and `null` are left out.
 * @param {...(Node|string|number|null)} children
 */
export function h(tag, attributes = {}, ...children) {
  const isDrawn = tag.startsWith("svg:");
  const node = isDrawn
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Return the value of a variable of the style sheet. */
export const css = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Announce something to people who listen instead of look. */
export function say(text) {
  byId("said").textContent = text;
}

/** Offer text or a Blob as a file. */
export function save(name, content, type = "text/csv") {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** Return rows as CSV; text that a spreadsheet would take for a formula is quoted. */
export function toCsv(rows) {
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    let text = typeof value === "object" ? JSON.stringify(value) : String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

// -------------------------------------------------------------------------------------- values

/** A number with four significant digits, as the command line prints it. */
export function number(value) {
  if (typeof value !== "number") return value === null || value === undefined ? "–" : String(value);
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(3);
  if (Number.isInteger(value) || size >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(4)));
}

/** A count with a prefix of the SI: 105.2 k, 1.31 M. */
export function amount(value) {
  if (typeof value !== "number") return number(value);
  for (const [factor, prefix] of [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ]) {
    if (Math.abs(value) >= factor) return `${Number((value / factor).toPrecision(4))} ${prefix}`;
  }
  return number(value);
}

export function duration(seconds) {
  if (typeof seconds !== "number") return number(seconds);
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  const whole = Math.round(seconds);
  const parts = [
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const first = parts.findIndex(([length]) => whole >= length);
  const [length, unit] = parts[first];
  const rest = parts[first + 1];
  const more = rest ? Math.floor((whole % length) / rest[0]) : 0;
  return `${Math.floor(whole / length)} ${unit}${more ? ` ${more} ${rest[1]}` : ""}`;
}

export const age = (time) => `${duration(Math.max(1, (Date.now() - Date.parse(time)) / 1000))} ago`;

export const moment = (time) => String(time).slice(0, 19).replace("T", " ");

export function bytes(count) {
  const unit = count >= 2 ** 20 ? ["MiB", 2 ** 20] : count >= 1024 ? ["KiB", 1024] : ["B", 1];
  return `${Number((count / unit[1]).toPrecision(3))} ${unit[0]}`;
}

/** Text of any value of a run. */
export function shown(value) {
  if (value === null || value === undefined || value.length === 0) return "–";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : number(value);
  if (Array.isArray(value) && value.every((part) => typeof part === "string"))
    return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A status as a mark with its word: colour is never the only sign. */
export function status(name) {
  const signs = { RUNNING: "▶", COMPLETED: "✓", FAILED: "✗", LOST: "?", PRUNED: "✂" };
  const text = `${signs[name] ?? "!"} ${String(name).toLowerCase()}`;
  return h("span", { class: `status ${String(name).toLowerCase()}` }, text);
}

// ----------------------------------------------------------------------------------------- API

/** An answer of the API that is an error; `detail` says what to do. */
export class Problem extends Error {
  constructor(told) {
    super(told.detail);
    Object.assign(this, told);
  }
}

/** Return parameters as the part of an address behind `?`; lists are repeated. */
export function query(params) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") found.append(name, each);
    }
  }
  const text = found.toString();
  return text ? `?${text}` : "";
}

export const path = (...parts) => parts.map(encodeURIComponent).join("/");

/**
 * Ask the API. The browser keeps the last answer and asks only whether it still holds.
 * @throws {Problem}
 */
export async function ask(address, params = {}, signal = undefined) {
  let answer;
  try {
    answer = await fetch(`/api/v1/${address}${query(params)}`, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ status: 0, detail: "the dashboard does not answer: was it ended?" });
  }
  const told = await answer.json();
  if (!answer.ok) throw new Problem(told);
  return told;
}

let aboutStore;

/** What the store holds and what may be named; asked once for each page. */
export const about = () => (aboutStore ??= ask("meta"));

const USUAL_CURVES = [
  "val_loss",
  "val_f1",
  "train_loss",
  "loss",
  "val_perplexity",
  "learning_rate",
];

/** The curves that are drawn if nobody chooses: none of single layers unless there is nothing else. */
export function usualCurves(curves, most) {
  const usual = USUAL_CURVES.filter((name) => curves.includes(name));
  const others = curves.filter((name) => !/layer\d+$/.test(name));
  const found = [usual, others, curves].find((names) => names.length) ?? [];
  return found.slice(0, most);
}

/** Show a problem in place of what was asked for. */
export function tell(host, problem) {
  if (!(problem instanceof Problem)) throw problem;
  host.replaceChildren(h("p", { class: "problem", role: "alert" }, problem.detail));
}

// --------------------------------------------------------------------------------------- state

/** Return a parameter of the page's address; `lists` are repeated ones. */
export const state = (name) => new URLSearchParams(location.search).get(name) ?? "";
export const states = (name) => new URLSearchParams(location.search).getAll(name);

/** Put values into the page's address: whoever opens it sees the same. */
export function setState(changes, { push = false } = {}) {
  const found = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    found.delete(name);
    for (const each of [value].flat()) if (each || each === 0) found.append(name, each);
  }
  const text = found.toString();
  history[push ? "pushState" : "replaceState"](null, "", text ? `?${text}` : location.pathname);
}

// ------------------------------------------------------------------------------------- colours

// Wong 2011 (Nature Methods 8:441) and Tol's "muted" scheme.
const PALETTE = [
  "#0072B2",
  "#D55E00",
  "#009E73",
  "#CC79A7",
  "#7F6A00",
  "#56B4E9",
  "#882255",
  "#E69F00",
  "#332288",
  "#44AA99",
  "#999933",
  "#AA4499",
];
const DASHES = [[], [8, 4], [2, 3], [8, 3, 2, 3]];

export const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark";

/** Lighten a colour where the page is dark. */
export function onPage(colour) {
  if (!isDark()) return colour;
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgb(${parts.map((part) => Math.round(part + (255 - part) * 0.38)).join(" ")})`;
}

/** The same colour, more or less transparent. */
export function faint(colour, share) {
  if (colour.startsWith("rgb(")) return colour.replace(")", ` / ${share})`);
  return (
    colour +
    Math.round(share * 255)
      .toString(16)
      .padStart(2, "0")
  );
}

/**
 * Give each run a colour and a dash. A run keeps its place, which follows from its number in the
 * store, unless an older run that is shown has it already.
 * @param {number[]} keys Numbers of the runs.
 * @returns {Map<number, {colour: string, dash: number[]}>}
 */
export function looks(keys) {
  const found = new Map();
  const taken = new Set();
  for (const key of [...new Set(keys)].sort((a, b) => a - b)) {
    let place = key % PALETTE.length;
    while (taken.has(place)) place = (place + 1) % (PALETTE.length * DASHES.length);
    taken.add(place);
    const dash = DASHES[Math.floor(place / PALETTE.length)];
    found.set(key, { colour: onPage(PALETTE[place % PALETTE.length]), dash });
  }
  return found;
}
