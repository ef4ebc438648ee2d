// The overview's strips: links that the page has already become cards with the features' pictures.
import { chip } from "./classes.js";
import { load } from "./data.js";
import { el } from "./dom.js";
import { score } from "./format.js";
import { sharedTile } from "./pictures.js";

export async function fillStrips(run) {
  const lists = [...document.querySelectorAll("[data-strips]")];
  if (lists.length === 0) return;
  const records = new Map((await load("featured")).map((record) => [record.feature, record]));
  for (const list of lists)
    for (const item of list.querySelectorAll("[data-feature]")) {
      const record = records.get(Number(item.dataset.feature));
      if (record) item.replaceChildren(...card(run, record));
    }
}

function card(run, record) {
  const [cds, low, high] = ["cds", "cds_ci_lower", "cds_ci_upper"].map((name) => record.values[run.fields.indexOf(name)]);
  const trust = record.values[run.fields.indexOf("trust")];
  return [
    el("h3", null, el("a", { href: `#/feature/${record.feature}` }, `Feature ${record.feature}`), " ", chip(record.class)),
    el("p", { class: "fine" }, "CDS ", el("b", null, cds === null ? "none" : score(cds)), low === null ? "" : `, ${score(low)} to ${score(high)}`, `; ${run.ruleVersion === 1 ? "trust (older rules)" : "trust"} ${trust === null ? "–" : trust.toFixed(2)}`),
    record.gallery.length === 0
      ? null
      : el(
          "div",
          { class: "strip", style: `--images:${record.gallery.length}` },
          record.gallery.map((picture) => sharedTile(run, picture, 0, record.class, record.feature)),
          record.gallery.map((picture) => sharedTile(run, picture, 1, record.class, record.feature)),
        ),
  ];
}
