// The explorer: a scatter of any two columns, a selection, and the selected features as a table.
import { chip, glyph } from "./classes.js";
import { NO_IMAGE, column } from "./data.js";
import { el, link, wide } from "./dom.js";
import { count, number, percent, plural } from "./format.js";
import { thumbnail } from "./pictures.js";
import { Scatter } from "./scatter.js";
import { address, match, order, parse } from "./selection.js";

const ROWS = 25;
const SETTLED = 250; // milliseconds after which a change is announced and kept in the address

export class Explorer {
  constructor(host, run) {
    Object.assign(this, { host, run, page: 0, held: new Map() });
    this.byName = new Map(run.columns.map((one) => [one.name, one]));
    this.names = run.classes.map(({ name }) => name);
  }

  async open(text) {
    this.selection = parse(text, this.run);
    this.page = 0;
    if (!this.codes) {
      [this.codes, this.images] = await Promise.all([column("class"), column("image")]);
      this.build();
    }
    await this.refresh();
  }

  // Columns that are needed now, by name.
  async need() {
    const { x, y, sort, ranges } = this.selection;
    const wanted = new Set([x, y, ...ranges.keys(), "cds", "cds_calibrated", "trust"]);
    if (sort.replace(/^-/, "") !== "feature") wanted.add(sort.replace(/^-/, ""));
    await Promise.all([...wanted].map(async (name) => this.held.set(name, await column(name))));
  }

  build() {
    const choices = () => this.run.columns.map(({ name, label, unit }) => el("option", { value: name }, unit ? `${label} (${unit})` : label));
    const pick = (id, label) => el("label", { class: "field" }, el("span", null, label), el("select", { id }, choices()));
    const tick = (id, label) => el("label", { class: "tick" }, el("input", { type: "checkbox", id }), label);
    this.counts = el("p", { class: "counts", "aria-live": "polite" });
    this.left = el("p", { class: "fine" });
    this.readout = el("p", { class: "readout", "aria-live": "polite" });
    this.plotHost = el("div", { class: "plot" });
    this.plotFrame = el(
      "div",
      {
        class: "scatter",
        tabindex: "0",
        role: "application",
        "aria-roledescription": "scatter plot",
        "aria-describedby": "scatter-help",
        onkeydown: (event) => this.key(event),
      },
      this.plotHost,
    );
    this.classBoxes = el(
      "fieldset",
      { class: "classes" },
      el("legend", null, "Classes"),
      this.run.classes.map(({ name, count: size }) =>
        el(
          "label",
          { class: "tick" },
          el("input", { type: "checkbox", value: name, onchange: (event) => this.toggle(name, event.target.checked) }),
          glyph(name),
          `${name} `,
          el("small", null, count(size)),
        ),
      ),
    );
    this.filters = el("div", { class: "filters" });
    this.body = el("tbody");
    this.head = el("thead");
    this.caption = el("caption");
    this.pager = el("nav", { class: "pager", "aria-label": "Pages of the table" });
    this.host.replaceChildren(
      el("h1", { tabindex: "-1" }, "Explore the features"),
      this.counts,
      el(
        "div",
        { class: "explorer" },
        el(
          "div",
          null,
          el("div", { class: "axes" }, pick("column-x", "Across"), tick("log-x", "log"), pick("column-y", "Up"), tick("log-y", "log")),
          this.plotFrame,
          this.readout,
          this.left,
          el("p", { class: "fine", id: "scatter-help" }, "Drag over the points to select; click one to open its feature. From the keyboard: left and right go through the selected features along the axis across, up and down along the other; Enter opens, Escape clears. The table below lists the same features, and the ranges beside select as the brush does."),
        ),
        el(
          "form",
          { class: "panel", "aria-label": "Selection", onsubmit: (event) => event.preventDefault() },
          this.classBoxes,
          el("fieldset", null, el("legend", null, "Ranges"), this.filters),
          el("label", { class: "field" }, el("span", null, "Limit another column"), el("select", { id: "add-range", onchange: (event) => this.addRange(event.target) }, el("option", { value: "" }, "choose a column"), choices())),
          el("button", { type: "button", onclick: () => this.clear() }, "Clear the selection"),
        ),
      ),
      el(
        "div",
        { class: "sorting" },
        el("h2", null, "Selected features"),
        el("label", { class: "field" }, el("span", null, "Sort by"), el("select", { id: "sort", onchange: (event) => this.sortBy(event.target.value) }, el("option", { value: "feature" }, "feature number"), choices())),
        el("label", { class: "tick" }, el("input", { type: "checkbox", id: "down", onchange: () => this.sortBy(this.field("sort").value) }), "highest first"),
      ),
      wide("Selected features, a table", el("table", { class: "features" }, this.caption, this.head, this.body)),
      this.pager,
    );
    for (const side of ["x", "y"]) {
      this.field(`column-${side}`).onchange = (event) => this.setAxis(side, event.target.value);
      this.field(`log-${side}`).onchange = (event) => {
        this.selection[`log${side.toUpperCase()}`] = event.target.checked;
        this.refresh();
      };
    }
    this.scatter = new Scatter(this.plotHost, this.names, {
      brush: (ranges, done) => this.brushed(ranges, done),
      point: (feature) => this.point(feature),
      open: (feature) => {
        location.hash = `#/feature/${feature}`;
      },
    });
  }

  address() {
    return address(this.selection, this.run);
  }

  field(id) {
    return this.host.querySelector(`#${id}`);
  }

  // Everything anew: after a change of columns, of order, or of the address.
  async refresh() {
    await this.need();
    const { x, y, logX, logY, sort, classes } = this.selection;
    this.field("column-x").value = x;
    this.field("column-y").value = y;
    this.field("log-x").checked = logX;
    this.field("log-y").checked = logY;
    this.field("sort").value = sort.replace(/^-/, "");
    this.field("down").checked = sort.startsWith("-");
    for (const box of this.classBoxes.querySelectorAll("input")) box.checked = classes.has(box.value);
    this.ordered = order(this.held.get(sort.replace(/^-/, "")), this.codes.length, sort.startsWith("-"));
    this.listFilters();
    this.match = match(this.selection, this.run, this.codes, this.held);
    const axis = (name, log) => {
      const { label, unit } = this.byName.get(name);
      return { values: this.held.get(name), log, label: unit ? `${label}, ${unit}${log ? " (log scale)" : ""}` : label };
    };
    this.scatter.show({ x: axis(x, logX), y: axis(y, logY) }, this.codes, this.match, this.ranges());
    this.walks = new Map();
    this.tell(null);
    this.changed();
  }

  ranges() {
    const { x, y, ranges } = this.selection;
    return { x: ranges.get(x) ?? null, y: ranges.get(y) ?? null };
  }

  // After a change of the selection alone. While a brush moves, its steps are drawn and counted; the table waits.
  reselect(moving = false) {
    this.page = 0;
    this.match = match(this.selection, this.run, this.codes, this.held);
    this.scatter.repaint(this.match);
    this.changed(moving);
  }

  changed(moving = false) {
    this.count();
    clearTimeout(this.settling);
    const list = () => {
      this.selected = this.ordered.filter((feature) => this.match.in[feature]);
      this.fillTable();
    };
    if (!moving) list();
    this.settling = setTimeout(() => {
      if (moving) list();
      // The reader may have gone on meanwhile.
      if (!this.host.hidden && location.hash.startsWith("#/explore")) history.replaceState(null, "", this.address());
    }, SETTLED);
  }

  count() {
    const { size } = this.match;
    const total = this.codes.length;
    this.counts.textContent =
      size === total ? `All ${plural(total, "feature")} are selected.` : `${count(size)} of ${plural(total, "feature")} are selected (${percent(size / total, 1)}).`;
    const points = this.scatter.points.length;
    const { x, y } = this.selection;
    const [a, b] = [x, y].map((name) => this.byName.get(name).label);
    this.left.textContent =
      points === total ? `Drawn: all ${count(total)}.` : `Drawn: the ${count(points)} that have ${a} and ${b}${this.selection.logX || this.selection.logY ? ", above 0 on a log scale" : ""}. Left out: ${count(total - points)}.`;
    this.plotFrame.setAttribute("aria-label", `${b} against ${a}, ${plural(points, "feature")}, ${count(size)} selected`);
  }

  shownColumns() {
    return [...new Set(["cds", "cds_calibrated", "trust", this.selection.x, this.selection.y, this.selection.sort.replace(/^-/, "")])].filter((name) => this.byName.has(name));
  }

  fillTable() {
    const columns = this.shownColumns().map((name) => this.byName.get(name));
    const sort = this.selection.sort.replace(/^-/, "");
    const down = this.selection.sort.startsWith("-");
    const heading = (name, label, unit, meaning) =>
      el(
        "th",
        { scope: "col", "aria-sort": name === sort ? (down ? "descending" : "ascending") : null },
        el("button", { type: "button", title: meaning, onclick: () => this.sortBy(name, name === sort && !down) }, label, name === sort ? (down ? " ↓" : " ↑") : ""),
        unit ? el("small", null, unit) : null,
      );
    this.caption.textContent = this.run.photographs ? "With each feature's strongest image" : "";
    this.head.replaceChildren(
      el("tr", null, el("th", { scope: "col" }, "Image"), heading("feature", "Feature", "", "number in the dictionary"), el("th", { scope: "col" }, "Class"), columns.map(({ name, label, unit, meaning }) => heading(name, label, unit, meaning))),
    );
    const rows = this.selected.subarray(this.page * ROWS, (this.page + 1) * ROWS);
    this.body.replaceChildren(
      ...Array.from(rows, (feature) =>
        el(
          "tr",
          { onpointerenter: () => this.point(feature) },
          el("td", { class: "picture" }, thumbnail(this.run, this.picture(feature))),
          el("th", { scope: "row" }, link(feature, String(feature))),
          el("td", { class: "text" }, chip(this.names[this.codes[feature]])),
          columns.map(({ name, whole }) => el("td", null, number(this.held.get(name)[feature], whole))),
        ),
      ),
    );
    if (rows.length === 0) this.body.replaceChildren(el("tr", null, el("td", { class: "text", colspan: 3 + columns.length }, "No feature is in this selection. Widen a range, or clear it.")));
    const last = Math.max(Math.ceil(this.selected.length / ROWS) - 1, 0);
    const turn = (label, page, off) => el("button", { type: "button", disabled: off, onclick: () => this.turn(page, label) }, label);
    this.pager.replaceChildren(
      turn("First", 0, this.page === 0),
      turn("Previous", this.page - 1, this.page === 0),
      el("span", null, this.selected.length ? `${count(this.page * ROWS + 1)} to ${count(this.page * ROWS + rows.length)} of ${count(this.selected.length)}` : "none"),
      turn("Next", this.page + 1, this.page >= last),
      turn("Last", last, this.page >= last),
    );
  }

  turn(page, label) {
    this.page = page;
    this.fillTable();
    const buttons = [...this.pager.querySelectorAll("button")];
    const same = buttons.find((button) => button.textContent === label);
    (same.disabled ? buttons.find((button) => !button.disabled) : same)?.focus();
  }

  picture(feature) {
    return this.run.photographs && this.images[feature] !== NO_IMAGE && !this.run.withoutPicture.has(this.images[feature]) ? this.images[feature] : null;
  }

  sortBy(name, down = this.field("down").checked) {
    this.selection.sort = `${down ? "-" : ""}${name}`;
    this.page = 0;
    this.refresh();
  }

  toggle(name, on) {
    if (on) this.selection.classes.add(name);
    else this.selection.classes.delete(name);
    this.reselect();
  }

  setAxis(side, name) {
    this.selection[side] = name;
    const { low, high } = this.byName.get(name);
    this.selection[`log${side.toUpperCase()}`] = name === "effective_area" || (low > 0 && high / low > 100);
    this.refresh();
  }

  addRange(select) {
    const name = select.value;
    if (!name) return;
    select.value = "";
    if (!this.selection.ranges.has(name)) this.selection.ranges.set(name, [null, null]);
    this.refresh().then(() => this.filters.querySelector(`[data-column="${name}"] input`)?.focus());
  }

  // A row of two numbers for each column on an axis or with a range.
  listFilters() {
    const { x, y, ranges } = this.selection;
    const names = [...new Set([x, y, ...ranges.keys()])];
    this.filters.replaceChildren(
      ...names.map((name) => {
        const { label, unit, low, high } = this.byName.get(name);
        const end = (place, word) =>
          el("input", {
            type: "number",
            step: "any",
            "aria-label": `${label}, ${word}`,
            placeholder: number(place ? high : low),
            oninput: (event) => this.limit(name, place, event.target.value),
          });
        return el(
          "div",
          { class: "range", "data-column": name },
          el("span", null, label, unit ? el("small", null, ` ${unit}`) : null),
          el("div", null, end(0, "at least"), "to", end(1, "at most")),
        );
      }),
    );
    this.showRanges();
  }

  showRanges() {
    for (const row of this.filters.querySelectorAll("[data-column]")) {
      const ends = this.selection.ranges.get(row.dataset.column) ?? [null, null];
      row.querySelectorAll("input").forEach((input, place) => {
        if (document.activeElement !== input) input.value = ends[place] === null ? "" : Number(ends[place].toPrecision(4));
      });
    }
  }

  limit(name, place, text) {
    const ends = [...(this.selection.ranges.get(name) ?? [null, null])];
    ends[place] = text === "" ? null : Number(text);
    if (ends[0] === null && ends[1] === null) this.selection.ranges.delete(name);
    else this.selection.ranges.set(name, ends);
    this.scatter.brush(this.ranges());
    this.reselect();
  }

  brushed(ranges, done) {
    const { x, y } = this.selection;
    for (const [name, range] of [[x, ranges?.x], [y, ranges?.y]]) {
      if (range) this.selection.ranges.set(name, range);
      else this.selection.ranges.delete(name);
    }
    if (!ranges) this.scatter.brush(null);
    if (done) this.showRanges();
    this.reselect(!done);
  }

  clear() {
    this.selection.ranges.clear();
    this.selection.classes = new Set(this.names);
    this.page = 0;
    this.refresh();
  }

  // Tell of a point under the pointer, or of one reached from the keyboard.
  point(feature) {
    if (feature !== this.scatter.marked) this.tell(feature);
  }

  tell(feature) {
    this.scatter.mark(feature);
    if (feature === null) return this.readout.replaceChildren(el("span", { class: "fine" }, "Point at a feature to see it here."));
    const parts = [this.selection.x, this.selection.y].map((name) => {
      const { label, whole } = this.byName.get(name);
      return `${label} ${number(this.held.get(name)[feature], whole)}`;
    });
    this.readout.replaceChildren(thumbnail(this.run, this.picture(feature)), link(feature, `Feature ${feature}`), chip(this.names[this.codes[feature]]), ` ${parts.join(", ")}`);
  }

  key(event) {
    const step = { ArrowRight: ["x", 1], ArrowLeft: ["x", -1], ArrowUp: ["y", 1], ArrowDown: ["y", -1] }[event.key];
    if (event.key === "Enter" && this.scatter.marked !== null) location.hash = `#/feature/${this.scatter.marked}`;
    else if (event.key === "Escape") this.brushed(null, true);
    else if (step) {
      event.preventDefault();
      this.walk(...step);
    }
  }

  walk(side, by) {
    if (!this.walks.has(side)) this.walks.set(side, order(this.held.get(this.selection[side]), this.codes.length, false));
    const way = this.walks.get(side);
    const open = (feature) => this.match.in[feature] && this.scatter.placed(feature);
    let place = this.scatter.marked === null ? (by > 0 ? -1 : way.length) : way.indexOf(this.scatter.marked);
    for (place += by; place >= 0 && place < way.length; place += by) if (open(way[place])) return this.point(way[place]);
  }
}
