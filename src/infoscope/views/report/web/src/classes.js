// Scope classes look the same everywhere: a colour and a shape, so that the colour is never the only sign.
import { el, svg } from "./dom.js";

const SHAPES = {
  local: () => svg("circle", { cx: 6, cy: 6, r: 4.6 }),
  diffuse: () => svg("rect", { x: 1.8, y: 1.8, width: 8.4, height: 8.4 }),
  "position-bound": () => svg("path", { d: "M6 1.2 11.2 10.6H.8Z" }),
  global: () => svg("path", { d: "M6 .6 11.4 6 6 11.4.6 6Z" }),
  mixed: () => svg("path", { d: "M4.2 1h3.6v3.2H11v3.6H7.8V11H4.2V7.8H1V4.2h3.2z" }),
  unsettled: () => svg("rect", { x: 2.4, y: 2.4, width: 7.2, height: 7.2, class: "ring" }),
  undefined: () => svg("circle", { cx: 6, cy: 6, r: 3.7, class: "ring" }),
};

export function glyph(name) {
  return svg("svg", { class: `glyph c-${name}`, viewBox: "0 0 12 12", "aria-hidden": "true" }, SHAPES[name]());
}

export function chip(name) {
  return el("span", { class: "chip" }, glyph(name), name);
}

const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export const colour = (name) => variable(`--c-${name}`);

// Of maps on photographs, which are the same in light and dark.
export const mapColour = (name) => variable(`--m-${name}`);

// The same shapes on a canvas, around (x, y) within a square of twice the radius.
export function draw(context, name, x, y, radius) {
  if (name === "unsettled") return context.strokeRect(x - 0.85 * radius, y - 0.85 * radius, 1.7 * radius, 1.7 * radius);
  if (name === "mixed") {
    context.fillRect(x - 1.15 * radius, y - 0.4 * radius, 2.3 * radius, 0.8 * radius);
    context.fillRect(x - 0.4 * radius, y - 1.15 * radius, 0.8 * radius, 0.75 * radius);
    return context.fillRect(x - 0.4 * radius, y + 0.4 * radius, 0.8 * radius, 0.75 * radius);
  }
  if (name === "diffuse") return context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
  context.beginPath();
  if (name === "position-bound") {
    context.moveTo(x, y - 1.15 * radius);
    context.lineTo(x + 1.1 * radius, y + 0.9 * radius);
    context.lineTo(x - 1.1 * radius, y + 0.9 * radius);
  } else if (name === "global") {
    context.moveTo(x, y - 1.3 * radius);
    context.lineTo(x + 1.3 * radius, y);
    context.lineTo(x, y + 1.3 * radius);
    context.lineTo(x - 1.3 * radius, y);
  } else context.arc(x, y, radius, 0, 2 * Math.PI);
  if (name === "undefined") context.stroke();
  else context.fill();
}
