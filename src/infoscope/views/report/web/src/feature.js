// A feature's page: its score and class, its pictures, its controls, and the features like it.
import { chip, colour } from "./classes.js";
import { NO_IMAGE, column, feature as fetchFeature } from "./data.js";
import { curve, spectrum } from "./curve.js";
import { el, link, table, wide } from "./dom.js";
import { NONE, capital, count, number, percent, plural, score } from "./format.js";
import { cropTile, movedTile, thumbnail } from "./pictures.js";

export class FeaturePage {
  constructor(host, run) {
    Object.assign(this, { host, run });
    this.fields = new Map(run.fields.map((name, place) => [name, place]));
  }

  async open(feature) {
    const { run } = this;
    this.asked = feature;
    const [record, codes, images, scores] = await Promise.all([fetchFeature(run, feature), column("class"), column("image"), column("cds")]);
    if (this.asked !== feature) return; // another was asked for meanwhile
    Object.assign(this, { record, codes, images, scores });
    this.host.replaceChildren(this.header(), this.pictures(), this.controls(), this.companions(), ...this.others(), this.neighbours());
    const host = this.host.querySelector(".curve");
    if (host) curve(host, record.curve, colour(record.class));
  }

  value(name) {
    return this.record.values[this.fields.get(name)];
  }

  // The columns that are declared to stand in a panel, in their order in the table.
  columns(panel) {
    return this.run.columns.filter((one) => one.panel === panel);
  }

  header() {
    const { record, run } = this;
    const feature = record.feature;
    const cds = this.value("cds");
    const ends = [this.value("cds_ci_lower"), this.value("cds_ci_upper")];
    const older = run.ruleVersion === 1;
    const side = cds === null || run.threshold === null ? "" : cds <= run.threshold ? "at or under" : "above";
    const copy = el("button", { type: "button", onclick: () => this.copy(copy) }, "Copy link");
    const step = (by, word) => {
      const other = feature + by;
      const there = other >= 0 && other < run.features;
      return there ? el("a", { href: `#/feature/${other}`, rel: by < 0 ? "prev" : "next" }, `${word} (${other})`) : el("span", { class: "fine" }, word);
    };
    return el(
      "header",
      { class: "feature-header" },
      el("nav", { class: "steps", "aria-label": "Neighbouring numbers" }, el("a", { href: "#/explore" }, "Explorer"), step(-1, "Previous"), step(1, "Next"), copy),
      el("h1", { tabindex: "-1" }, `Feature ${feature} `, chip(record.class)),
      el(
        "div",
        { class: "summary" },
        el(
          "div",
          null,
          el("p", { class: "big" }, el("abbr", { title: "Contextual Dependency Score" }, "CDS"), " ", el("strong", null, cds === null ? "none" : score(cds)), cds === null ? null : el("small", null, " share of D, 0 to 1")),
          cds === null
            ? el("p", null, `No score: ${plural(this.value("pairs"), "valid pair")}, and a score needs ${run.minPairs}.`)
            : el("p", null, ends[0] === null ? "No interval. " : `95 % interval ${score(ends[0])} to ${score(ends[1])}. `, `From ${this.value("pairs")} valid pairs of ${plural(record.topImages, "top image")}; ${this.left(record.topImages - this.value("pairs"))}`),
          cds === null ? null : spectrum(run, cds, ends[0] === null ? null : ends, record.class),
          cds === null ? null : el("p", { class: "fine" }, `Bars: CDS of the ${count(run.scored)} scored features. Dashed: the threshold ${score(run.threshold)}, ${run.thresholdKind === "valley" ? "in the valley between two modes" : "a convention"}; this score is ${side} it.`),
        ),
        el(
          "dl",
          { class: "verdict" },
          el("dt", null, "Class"),
          el("dd", null, chip(record.class), ": ", el("span", null, record.evidence ?? NONE, ".")),
          el("dt", null, older ? "Trust (older rules)" : "Trust"),
          el("dd", null, ...this.trust(record, older)),
          el("dt", null, "Pairs"),
          el("dd", null, this.moves()),
          el("dt", null, "Active in"),
          el("dd", null, `${count(this.value("images_active"))} of ${plural(run.images, "image")}, ${percent(this.value("density"), 2)} of their patch tokens`),
        ),
      ),
    );
  }

  // By the older rules a product of factors; else a probability, which features without a class of their own lack.
  trust(record, older) {
    const value = this.value("trust");
    const reasons = record.reasons ? `${record.reasons}.` : "";
    if (older) return [el("strong", null, value === null ? NONE : value.toFixed(2)), el("small", null, " of 1, no probability"), ". ", el("span", null, reasons ? `Lowered by: ${reasons}` : "Nothing lowers it.")];
    if (value === null) return ["None: no class of its own", el("span", null, reasons ? `; ${reasons}` : ".")];
    return [el("strong", null, value.toFixed(2)), el("small", null, " chance that as many other images agree"), ". ", el("span", null, capital(reasons))];
  }

  left(pairs) {
    return pairs > 0 ? `${pairs} left out, without mass on the shared pixels in one crop or both.` : "none left out.";
  }

  moves() {
    const shares = this.columns("moves").map(({ name, label }) => [this.value(name), label.replace(/^pairs that /, "")]);
    if (shares.every(([share]) => share === null)) return "none that tell what they did";
    return el(
      "span",
      null,
      el("span", { class: "moves", "aria-hidden": "true" }, shares.map(([share], place) => el("i", { class: `m${place}`, style: `flex-grow:${share ?? 0}` }))),
      shares.map(([share, text], place) => el("span", { class: "move" }, el("i", { class: `m${place}`, "aria-hidden": "true" }), `${percent(share)} ${text}`)),
    );
  }

  async copy(button) {
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Copy it from the address bar";
    }
  }

  pictures() {
    const { record, run } = this;
    const side = run.grid - run.shift;
    if (record.gallery.length === 0)
      return section("Top images", el("p", null, record.topImages === 0 ? "No image of the pool activates this feature." : "This site was written without images on its features' pages (--gallery-images 0)."));
    return section(
      "Top images",
      el(
        "p",
        { class: "fine" },
        `The ${record.gallery.length} strongest of ${plural(record.topImages, "top image")}. Each picture is cropped twice, the second time ${plural(run.shift, "patch").replace("patchs", "patches")} further down and right. The frame is the ${side} × ${side} patches that both crops show: only those count. Both maps of a picture have one scale, up to the larger of their maxima. On the right, the shared pixels: an arrow is mass that moves from the first crop's map to the second's, the wider the more, by one plan of the least total distance; tinted patches are mass that stays.`,
      ),
      el("div", { class: "gallery" }, record.gallery.map((picture, rank) => this.picture(picture, rank))),
    );
  }

  picture(picture, rank) {
    const { record, run } = this;
    const name = record.class;
    const tile = (label, node) => el("div", null, el("span", { class: "label" }, label), node);
    const [hidden, rest] = picture.left;
    return el(
      "figure",
      null,
      tile("first crop", cropTile(run, picture, 0, name, record.feature)),
      tile("second crop", cropTile(run, picture, 1, name, record.feature)),
      tile("where the mass moved", movedTile(run, picture, name, record.feature)),
      el(
        "figcaption",
        null,
        el("b", null, `${rank + 1}. `),
        picture.emd === null
          ? "No distance: one crop has no mass on the shared pixels. "
          : el("span", null, "Moves ", el("b", null, `${(picture.emd * run.diagonal).toFixed(2)} patches`), ` on average, ${score(picture.emd)} of D; ${percent(1 - picture.moved)} of the mass stays. `),
        hidden > 0 ? `${hidden} lighter routes, ${percent(rest, 1)} of the mass, are not drawn. ` : null,
        `Ranking score ${number(picture.score)}; mass in the frame ${number(picture.mass[0])} and ${number(picture.mass[1])}. `,
        el("span", { class: "id" }, picture.id),
        picture.photograph ? null : el("span", { class: "missing" }, " photograph not at hand"),
      ),
    );
  }

  // Numbers, each with its unit, what it means, and for how much of the run it is known.
  numbers(panel) {
    const rows = this.columns(panel).map(({ name, label, unit, meaning, whole, known }) =>
      el(
        "div",
        null,
        el("dt", null, label),
        el("dd", { class: "value" }, number(this.value(name), whole), " ", el("small", null, unit)),
        el("dd", { class: "meaning" }, `${sentence(meaning)} Known for ${count(known)} of ${count(this.run.features)} features.`),
      ),
    );
    return el("dl", { class: "numbers" }, rows);
  }

  controls() {
    const { record, run } = this;
    const side = [];
    if (record.byK.length) side.push(table("CDS over the first k images", ["k", "CDS"], run.prefixes.map((k, place) => [String(k), score(record.byK[place])])));
    if (record.byFloor.some((value) => value !== null)) side.push(table("CDS with weak codes taken for 0", ["codes under, of the map's largest", "CDS"], run.floors.map((floor, place) => [String(floor), score(record.byFloor[place])])));
    return section(
      "Controls",
      el("p", { class: "fine" }, "What CDS alone cannot tell. A dash is a number that is not defined for this feature."),
      this.numbers("controls"),
      side.length ? el("div", { class: "tables" }, side) : null,
    );
  }

  companions() {
    return section("Companions", el("p", { class: "fine" }, "Other measures of the same maps and of the feature's activity."), this.numbers("companions"));
  }

  others() {
    const { record } = this;
    const out = [];
    if (record.curve.length) {
      const rows = record.curve.map(([shift, cds, patches, low, high, pairs, vanished]) => [String(shift), score(cds), low === null ? NONE : `${score(low)} to ${score(high)}`, number(patches), String(pairs ?? NONE), percent(vanished)]);
      out.push(
        section(
          "Shift curve",
          el("p", { class: "fine" }, "The same top images, crops further and further apart. The overlap and so D get smaller; patches are comparable across shifts."),
          el("div", { class: "two" }, el("div", { class: "curve" }), wide("Shift curve, a table", table("", ["shift, patches", "CDS", "95 % interval", "moves, patches", "pairs", "vanished"], rows))),
        ),
      );
    }
    if (record.checks.length) {
      const rows = record.checks.map(([name, cds, low, high, pairs, difference, both]) => [name, score(cds), low === null ? NONE : `${score(low)} to ${score(high)}`, String(pairs ?? NONE), difference === null ? NONE : `${difference >= 0 ? "+" : ""}${difference.toFixed(3)} over ${both}`]);
      out.push(section("Cross-checks", el("p", { class: "fine" }, "The score made in other ways. The difference is the score above minus this one, over the images where both are defined."), wide("Cross-checks, a table", table("", ["made from", "CDS", "95 % interval", "pairs", "difference"], rows))));
    }
    return out;
  }

  neighbours() {
    const { record, run } = this;
    const card = ([other, likeness, images]) => {
      const image = run.photographs && this.images[other] !== NO_IMAGE && !run.withoutPicture.has(this.images[other]) ? this.images[other] : null;
      return el(
        "li",
        null,
        link(other, thumbnail(run, image), el("span", null, `Feature ${other}`)),
        el("span", { class: "fine" }, chip(run.classes[this.codes[other]].name), ` CDS ${score(this.scores[other])}`),
        el("span", { class: "fine" }, `cosine ${likeness.toFixed(2)}`, images === undefined ? "" : `, ${plural(images, "shared image")}`),
      );
    };
    const list = (title, note, found, none) => el("div", null, el("h3", null, title), el("p", { class: "fine" }, note), found && found.length ? el("ul", { class: "cards" }, found.map(card)) : el("p", null, none));
    return section(
      "Neighbours",
      list("By direction", "Highest cosine between decoder rows: features that write the same thing.", record.directions, record.directions ? "None." : `Not here: ${run.withoutDirections}.`),
      list("By co-firing", `Highest cosine between codes on the same image and patch, in the first crop. A run knows a feature's codes on its own top images alone, of each the ${run.patchesKept} strongest patches; features that share no top image are left out.`, record.cofiring, "None shares a patch of a top image with this feature."),
    );
  }
}

function sentence(meaning) {
  const text = meaning.replace(/\bcds\b/g, "CDS");
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

function section(title, ...children) {
  return el("section", null, el("h2", null, title), ...children);
}
