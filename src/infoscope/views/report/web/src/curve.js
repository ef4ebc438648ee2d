// The shift curve: distance against shift, with its interval, by uPlot.
import uPlot from "uplot";
import { el } from "./dom.js";
import { mark as tick, number } from "./format.js";

export function curve(host, rows, hue) {
  const style = getComputedStyle(document.documentElement);
  const [quiet, line] = ["--quiet", "--line"].map((name) => style.getPropertyValue(name).trim());
  const font = `12px ${style.getPropertyValue("--sans")}`;
  const known = (place) => rows.map((row) => row[place]);
  const axis = (label, size, more) => ({ label, labelFont: font, font, size, labelSize: 22, stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, ...more });
  const side = { stroke: `${hue}66`, width: 1, dash: [4, 3], points: { show: false } };
  const plot = new uPlot(
    {
      width: Math.min(Math.max(host.clientWidth, 240), 460),
      height: 260,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false, range: (_, low, high) => [low - 0.2, high + 0.2] }, y: { range: (_, low, high) => [0, Math.max(high * 1.08, 0.01)] } },
      axes: [axis("shift, patches", 34, { splits: () => known(0) }), axis("CDS, share of D", 52, { values: (_, splits) => splits.map(tick) })],
      bands: [{ series: [3, 2], fill: `${hue}22` }],
      series: [{}, { stroke: hue, width: 2, points: { show: true, size: 7, fill: hue } }, side, side],
    },
    [known(0), known(1), known(3), known(4)],
    host,
  );
  host.setAttribute("role", "img");
  host.setAttribute("aria-label", "CDS against the shift; the table beside has the numbers");
  return plot;
}

// Where a score lies in the spectrum of all: bars, the threshold, the interval, and the score.
export function spectrum(run, score, interval, name) {
  const { upper, counts } = run.histogram;
  const most = Math.max(...counts, 1);
  const at = (value) => `${Math.min(Math.max((100 * value) / upper, 0), 100)}%`;
  const mark = (kind, style) => el("i", { class: kind, style });
  return el(
    "div",
    { class: `spectrum c-${name}`, "aria-hidden": "true" },
    el("div", { class: "bars" }, counts.map((count) => el("i", { style: `height:${count === 0 ? 0 : Math.max((100 * count) / most, 3)}%` }))),
    run.threshold === null ? null : mark("threshold", `left:${at(run.threshold)}`),
    interval === null ? null : mark("interval", `left:${at(interval[0])};width:calc(${at(interval[1])} - ${at(interval[0])})`),
    mark("score", `left:${at(score)}`),
    el("span", { class: "low" }, "0"),
    el("span", { class: "high" }, number(upper)),
  );
}
