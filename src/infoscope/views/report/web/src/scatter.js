// The scatter: uPlot has the axes and scales, points are painted on its canvas, and a brush is drawn with any pointer.
import uPlot from "uplot";
import { el } from "./dom.js";
import { colour, draw } from "./classes.js";
import { mark } from "./format.js";

const CLICK = 5; // pixels that a pointer may move and still click
const REACH = 14; // pixels from which a pointer finds a point
const SHAPED = 3000; // up to so many points each has its class's shape

export class Scatter {
  // classes: names by code; on: {brush(ranges | null, done), point(feature | null), open(feature)}
  constructor(host, classes, on) {
    Object.assign(this, { host, classes, on, plot: null, marked: null });
    new ResizeObserver(() => this.resize()).observe(host);
  }

  // axes: {x, y}, each {values, label, log}; codes: each feature's class; drawn(feature): whether it has a place at all
  show(axes, codes, match, ranges) {
    Object.assign(this, { axes, codes, match });
    this.plot?.destroy();
    this.host.replaceChildren();
    this.marked = null;
    const points = [];
    for (let feature = 0; feature < codes.length; feature += 1) if (this.placed(feature)) points.push(feature);
    this.points = Uint32Array.from(points);
    this.groups = this.classes.map((_, code) => this.points.filter((feature) => codes[feature] === code));
    this.key = null;
    const style = getComputedStyle(document.documentElement);
    const [ink, quiet, line] = ["--ink", "--quiet", "--line"].map((name) => style.getPropertyValue(name).trim());
    const font = `12px ${style.getPropertyValue("--sans")}`;
    const scale = (axis) => ({ time: false, distr: axis.log ? 3 : 1, range: () => this.range(axis) });
    const axis = (name, size) => ({
      scale: name,
      label: axes[name].label,
      labelFont: font,
      labelSize: 22,
      font,
      size,
      stroke: quiet,
      grid: { stroke: line, width: 1 },
      ticks: { stroke: line, width: 1, size: 5 },
      ...(axes[name].log ? { splits: (_, __, low, high) => decades(low, high), filter: (_, splits) => splits } : {}),
      values: (_, splits) => splits.map(mark),
    });
    this.ink = ink;
    this.plot = new uPlot(
      {
        mode: 2,
        ...this.size(),
        legend: { show: false },
        cursor: { show: false, drag: { setScale: false } },
        scales: { x: scale(axes.x), y: scale(axes.y) },
        axes: [axis("x", 34), axis("y", 52)],
        series: [null, { facets: [{ scale: "x", auto: false }, { scale: "y", auto: false }], paths: () => null, points: { show: false } }],
        hooks: { draw: [() => this.drawn()] },
      },
      [null, [[], []]],
      this.host,
    );
    this.ring = el("div", { class: "ring", hidden: true });
    this.box = el("div", { class: "brush", hidden: true });
    this.plot.over.append(this.box, this.ring);
    this.listen();
    this.ranges = ranges;
  }

  // The scales are known only when uPlot draws, so what lies over the canvas is placed then.
  drawn() {
    this.paint();
    this.brush(this.ranges);
    this.mark(this.marked);
  }

  placed(feature) {
    const { x, y } = this.axes;
    const [a, b] = [x.values[feature], y.values[feature]];
    return !(Number.isNaN(a) || Number.isNaN(b) || (x.log && a <= 0) || (y.log && b <= 0));
  }

  range(axis) {
    let [low, high] = [Infinity, -Infinity];
    for (const feature of this.points) {
      const value = axis.values[feature];
      if (value < low) low = value;
      if (value > high) high = value;
    }
    if (low > high) return axis.log ? [1, 10] : [0, 1];
    if (axis.log) return low === high ? [low / 2, high * 2] : [low / 1.15, high * 1.15];
    const margin = 0.03 * (high - low || 1);
    return [low >= 0 && low < margin ? 0 - margin / 2 : low - margin, high + margin];
  }

  size() {
    const width = Math.max(this.host.clientWidth, 240);
    return { width, height: Math.round(Math.min(Math.max(0.62 * width, 300), 480)) };
  }

  resize() {
    if (!this.plot || this.plot.width === this.size().width || this.host.clientWidth === 0) return;
    this.plot.setSize(this.size());
  }

  // Where every point lies on the canvas, and how large it is; anew when the scales or the size are others.
  place() {
    const { plot, points, axes } = this;
    const { left, top, width, height } = plot.bbox;
    const key = JSON.stringify([plot.bbox, plot.scales.x.min, plot.scales.x.max, plot.scales.y.min, plot.scales.y.max]);
    if (key === this.key) return;
    this.key = key;
    this.base = null;
    const map = (axis, name, from, to) => {
      const { min, max } = plot.scales[name];
      const [low, high] = axis.log ? [Math.log(min), Math.log(max)] : [min, max];
      const slope = (to - from) / (high - low);
      return axis.log ? (value) => from + slope * (Math.log(value) - low) : (value) => from + slope * (value - low);
    };
    const [across, up] = [map(axes.x, "x", left, left + width), map(axes.y, "y", top + height, top)];
    this.px = new Float32Array(this.codes.length);
    this.py = new Float32Array(this.codes.length);
    for (const feature of points) {
      this.px[feature] = across(axes.x.values[feature]);
      this.py[feature] = up(axes.y.values[feature]);
    }
    this.shaped = points.length <= SHAPED;
    this.radius = devicePixelRatio * (this.shaped ? 3.2 : points.length > 20000 ? 1 : 1.5);
  }

  // Matching features are coloured, others of the classes chosen stay faint. What lies in a hidden class is not drawn.
  // The faint ones are drawn once, all that are shown, and the coloured over them: a brush's step draws only these.
  paint() {
    this.place();
    const { plot, match } = this;
    const context = plot.ctx;
    const { left, top, width, height } = plot.bbox;
    context.save();
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    context.drawImage(this.faint(), 0, 0);
    const { radius, shaped } = this;
    this.classes.forEach((name, code) => {
      context.fillStyle = context.strokeStyle = colour(name);
      context.globalAlpha = shaped ? 0.75 : 0.6;
      context.lineWidth = 1.2 * devicePixelRatio;
      for (const feature of this.groups[code]) {
        if (match.in[feature] === 0) continue;
        if (shaped) draw(context, name, this.px[feature], this.py[feature], radius);
        else context.fillRect(this.px[feature] - radius, this.py[feature] - radius, 2 * radius, 2 * radius);
      }
    });
    context.restore();
  }

  faint() {
    const shown = this.match.shown.join();
    if (this.base && this.baseShows === shown) return this.base;
    const { width, height } = this.plot.ctx.canvas;
    this.base = Object.assign(document.createElement("canvas"), { width, height });
    this.baseShows = shown;
    const context = this.base.getContext("2d");
    context.fillStyle = colour("faint");
    const small = this.shaped ? 0.8 * this.radius : this.radius;
    this.classes.forEach((_, code) => {
      if (!this.match.shown[code]) return;
      for (const feature of this.groups[code]) context.fillRect(this.px[feature] - small, this.py[feature] - small, 2 * small, 2 * small);
    });
    return this.base;
  }

  repaint(match) {
    this.match = match;
    this.plot?.redraw(false, false);
  }

  at(feature) {
    return [this.plot.valToPos(this.axes.x.values[feature], "x"), this.plot.valToPos(this.axes.y.values[feature], "y")];
  }

  nearest(x, y) {
    const { plot, axes } = this;
    let [best, found] = [REACH * REACH, null];
    const [scaleX, scaleY] = [plot.posToVal(x + REACH, "x"), plot.posToVal(y - REACH, "y")];
    const [lowX, lowY] = [plot.posToVal(x - REACH, "x"), plot.posToVal(y + REACH, "y")];
    for (const feature of this.points) {
      const [a, b] = [axes.x.values[feature], axes.y.values[feature]];
      if (a < lowX || a > scaleX || b < lowY || b > scaleY || !this.match.in[feature]) continue;
      const [u, v] = this.at(feature);
      const far = (u - x) ** 2 + (v - y) ** 2;
      if (far < best) [best, found] = [far, feature];
    }
    return found;
  }

  // Ring a feature's point; null takes the ring away.
  mark(feature) {
    this.marked = feature;
    if (!this.ring) return;
    this.ring.hidden = feature === null || !this.placed(feature);
    if (this.ring.hidden) return;
    const [x, y] = this.at(feature);
    this.ring.style.transform = `translate(${x - 8}px, ${y - 8}px)`;
  }

  // Show ranges {x: [low, high] | null, y: ...} as the brush's box.
  brush(ranges) {
    this.ranges = ranges;
    if (!this.box) return;
    const { x, y } = ranges ?? {};
    this.box.hidden = !x && !y;
    if (this.box.hidden) return;
    const { clientWidth: width, clientHeight: height } = this.plot.over;
    const clip = (value, most) => Math.min(Math.max(value, 0), most);
    const ends = (range, name, most) => {
      const { min, max } = this.plot.scales[name];
      const safe = (range ?? [null, null]).map((value, end) => value ?? (end ? max : min));
      return safe.map((value) => clip(this.plot.valToPos(this.axes[name].log && value <= 0 ? min : value, name), most));
    };
    const [left, right] = ends(x, "x", width);
    const [bottom, top] = ends(y, "y", height);
    Object.assign(this.box.style, { left: `${left}px`, top: `${top}px`, width: `${Math.max(right - left, 1)}px`, height: `${Math.max(bottom - top, 1)}px` });
  }

  listen() {
    const over = this.plot.over;
    let start = null;
    const place = (event) => {
      const box = over.getBoundingClientRect();
      const clip = (value, most) => Math.min(Math.max(value, 0), most);
      return [clip(event.clientX - box.left, box.width), clip(event.clientY - box.top, box.height)];
    };
    const ranges = ([x, y]) => {
      const sorted = (name, a, b) => [a, b].map((at) => this.plot.posToVal(at, name)).sort((one, other) => one - other);
      return { x: sorted("x", start[0], x), y: sorted("y", start[1], y) };
    };
    const far = (at) => Math.hypot(at[0] - start[0], at[1] - start[1]) > CLICK;
    over.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      over.setPointerCapture(event.pointerId);
      start = place(event);
      this.brushing = false;
    });
    over.addEventListener("pointermove", (event) => {
      const at = place(event);
      if (!start) {
        this.on.point(this.nearest(...at));
        return;
      }
      if (!this.brushing && !far(at)) return;
      this.brushing = true;
      this.brush(ranges(at));
      this.on.brush(this.ranges, false);
    });
    over.addEventListener("pointerup", (event) => {
      if (!start) return;
      const at = place(event);
      if (this.brushing) this.on.brush(this.ranges, true);
      else {
        const feature = this.nearest(...at);
        if (feature === null) this.on.brush(null, true);
        else if (event.pointerType === "mouse") this.on.open(feature);
        else this.on.point(feature);
      }
      start = null;
      this.brushing = false;
    });
    over.addEventListener("pointercancel", () => {
      start = null;
      this.brushing = false;
    });
    over.addEventListener("pointerleave", (event) => {
      if (!start && event.pointerType === "mouse") this.on.point(null);
    });
  }
}

// 1, 2 and 5 of every power of ten between two ends; the powers alone where there are many.
function decades(low, high) {
  const powers = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const steps = powers[1] - powers[0] > 4 ? [1] : [1, 2, 5];
  const out = [];
  for (let power = powers[0]; power <= powers[1]; power += 1) for (const step of steps) out.push(Number(`${step}e${power}`));
  return out.filter((value) => value >= low && value <= high);
}
