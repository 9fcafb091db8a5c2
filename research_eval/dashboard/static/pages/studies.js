// The studies: how far each is and what it found.

import { age, ask, byId, h, number, tell } from "../lib/base.js";
import { onChange } from "../lib/shell.js";

const host = byId("page");
const HEAD = ["study", "began", "trials", "states", "objective", "best of each architecture"];

function row(study) {
  const states = Object.entries(study.counts).map(
    ([state, count]) => `${count} ${state.toLowerCase()}`,
  );
  const best = study.best.map(
    ({ arm, values, trial }) => `${arm} ${values.map(number).join(", ")} (trial ${trial})`,
  );
  return h(
    "tr",
    {},
    h("td", {}, h("a", { href: `/studies/${encodeURIComponent(study.name)}` }, study.name)),
    h("td", {}, age(study.timestamp)),
    h("td", { class: "number" }, study.total ? `${study.finished} of ${study.total}` : "–"),
    h("td", {}, states.join(", ") || "recorded by another program"),
    h("td", {}, study.objectives.map(({ name, direction }) => `${name}:${direction}`).join(", ")),
    h("td", {}, best.join("; ") || "–"),
  );
}

async function load() {
  const studies = await ask("studies");
  if (!studies.length) {
    host.replaceChildren(
      h(
        "p",
        {},
        "No study is recorded; ",
        h("code", {}, "research-eval hpo --dry-run"),
        " plans one.",
      ),
    );
    return;
  }
  host.replaceChildren(
    h(
      "div",
      { class: "scroller", tabindex: 0, role: "region", "aria-label": "Studies" },
      h(
        "table",
        { class: "plain" },
        h("thead", {}, h("tr", {}, ...HEAD.map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, ...studies.map(row)),
      ),
    ),
  );
}

try {
  await load();
  onChange(load);
} catch (problem) {
  tell(host, problem);
}
