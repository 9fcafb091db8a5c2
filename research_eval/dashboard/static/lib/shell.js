// The frame of every page: light or dark, keys, and the bell that says when to look again.

import { byId, h } from "./base.js";

const LEAST_PAUSE_MS = 1000;
const SLOW_LOOK_MS = 30000;

// -------------------------------------------------------------------------------------- theme

const redraws = new Set();

/** Call a function whenever the colours of the page have changed. */
export const onTheme = (draw) => redraws.add(draw);

function applyTheme(theme) {
  document.documentElement.style.colorScheme = theme;
  document.documentElement.dataset.theme = theme;
}

const system = matchMedia("(prefers-color-scheme: dark)");
const preferred = () => localStorage.getItem("theme") ?? (system.matches ? "dark" : "light");
const retheme = () => {
  applyTheme(preferred());
  for (const draw of redraws) draw();
};

applyTheme(preferred());
system.addEventListener("change", retheme);
byId("theme").addEventListener("click", () => {
  const other = preferred() === "dark" ? "light" : "dark";
  const isSystem = other === (system.matches ? "dark" : "light");
  if (isSystem) localStorage.removeItem("theme");
  else localStorage.setItem("theme", other);
  retheme();
});

// --------------------------------------------------------------------------------------- live

const badge = byId("live");
const LIVE = { live: "● live", paused: "‖ paused", away: "○ not connected" };

function badgeSays(name) {
  badge.textContent = LIVE[name];
  badge.dataset.state = name;
}

/** A store that is away for a moment is no defect: the next ring asks again. */
function forgive(error) {
  if (error.name !== "AbortError" && error.status === undefined) throw error;
}

/**
 * Call a function after something was recorded: soon, but never while it still works, and not
 * while nobody looks at the page.
 * @param {() => Promise<void>} look
 */
export function onChange(look) {
  let stream = null;
  let isBusy = false;
  let isDue = false;

  async function ring() {
    isDue = true;
    if (isBusy || document.hidden) return;
    isBusy = true;
    try {
      while (isDue && !document.hidden) {
        isDue = false;
        await look().catch(forgive);
        await new Promise((wake) => setTimeout(wake, LEAST_PAUSE_MS));
      }
    } finally {
      isBusy = false;
    }
  }

  function open() {
    stream ??= new EventSource("/api/v1/events");
    stream.onopen = () => badgeSays("live");
    stream.onerror = () => badgeSays("away");
    stream.addEventListener("changed", ring);
  }

  // A hidden page holds no connection: browsers allow six, and there may be many tabs.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      stream?.close();
      stream = null;
      badgeSays("paused");
    } else {
      open();
      ring();
    }
  });
  // A run that died changes nothing in the store; and a stream may be refused.
  setInterval(ring, SLOW_LOOK_MS);
  addEventListener("pagehide", () => stream?.close());
  if (!document.hidden) open();
}

// --------------------------------------------------------------------------------------- keys

const keys = new Map([
  ["?", () => (location.href = "/help#keys")],
  ["g", () => (location.href = "/runs")],
  ["s", () => (location.href = "/studies")],
]);

/** Let a key do something while no field is being filled in. */
export const onKey = (key, act) => keys.set(key, act);

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
  const isFree = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (event.key === "Escape" && isTyping) event.target.blur();
  if (isTyping || !isFree || !keys.has(event.key) || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  keys.get(event.key)(event);
});

// ------------------------------------------------------------------------------------- dialogs

/** Show something above the page; Escape closes it and the focus goes back. */
export function dialog(title, ...content) {
  const close = h("button", { type: "button", class: "close", click: () => made.close() }, "Close");
  const made = h("dialog", { "aria-label": title }, h("h2", {}, title), ...content, close);
  made.addEventListener("close", () => made.remove());
  document.body.append(made);
  made.showModal();
  return made;
}
