// The reports of `analyze`: their files, by folder.

import { age, ask, byId, bytes, h, tell } from "../lib/base.js";

const host = byId("page");

const linkTo = (path) => `/reports/${path.split("/").map(encodeURIComponent).join("/")}`;
const folderOf = (path) => path.split("/").slice(0, -1).join("/") || ".";

function folder(name, files) {
  const first = files.filter((file) => file.path.endsWith(".html"));
  const others = files.filter((file) => !file.path.endsWith(".html"));
  return h(
    "section",
    {},
    h("h2", {}, name),
    list(first),
    others.length
      ? h(
          "details",
          { open: !first.length },
          h("summary", {}, `${others.length} tables and figures`),
          list(others),
        )
      : "",
  );
}

const list = (files) =>
  h(
    "table",
    { class: "plain" },
    h(
      "tbody",
      {},
      ...files.map((file) =>
        h(
          "tr",
          {},
          h("td", {}, h("a", { href: linkTo(file.path) }, file.path.split("/").at(-1))),
          h("td", { class: "number" }, bytes(file.bytes)),
          h("td", {}, age(new Date(file.modified * 1000).toISOString())),
        ),
      ),
    ),
  );

try {
  const found = await ask("reports");
  const folders = Map.groupBy(found.files, (file) => folderOf(file.path));
  const shown = [...folders].map(([name, files]) => folder(name, files));
  const none = h(
    "p",
    {},
    `There are no reports in ${found.folder}; `,
    h("code", {}, "research-eval analyze --run-all"),
    " writes them.",
  );
  const rest = found.of - found.files.length;
  host.replaceChildren(
    ...(shown.length ? shown : [none]),
    rest > 0 ? h("p", {}, `and ${rest} older files`) : "",
  );
} catch (problem) {
  tell(host, problem);
}
