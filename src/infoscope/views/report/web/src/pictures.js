// Photographs and maps. A thumbnail holds the whole picture that both crops are cut from; a crop is a window on it.
import { bytes, picturePath } from "./data.js";
import { el, svg } from "./dom.js";
import { mapColour } from "./classes.js";

// The weakest code above 0 is still seen; the strongest does not hide the photograph.
const FAINT = 70;
const FULL = 225;
const PARTS = 10000;

// Codes of a map, 0 to 255 of the larger maximum of its pair, row-major on the crop's grid.
export function unpackMap(text, grid) {
  const levels = new Uint8Array(grid * grid);
  const packed = bytes(text);
  let cell = -1;
  for (let place = 0; place < packed.length; place += 2) {
    if (packed[place] === 255 && packed[place + 1] === 0) cell += 255;
    else {
      cell += packed[place] + 1;
      levels[cell] = packed[place + 1];
    }
  }
  return levels;
}

export function unpackRoutes(text) {
  const numbers = new Uint16Array(bytes(text).buffer);
  return Array.from({ length: numbers.length / 3 }, (_, route) => ({
    from: numbers[3 * route],
    to: numbers[3 * route + 1],
    mass: numbers[3 * route + 2] / PARTS,
  }));
}

// The part of a crop's map that both crops show: rows and columns [s:p] of the first, [0:p-s] of the second.
export function shared(levels, run, crop) {
  const side = run.grid - run.shift;
  const start = crop === 0 ? run.shift : 0;
  const out = new Uint8Array(side * side);
  for (let row = 0; row < side; row += 1)
    out.set(levels.subarray((row + start) * run.grid + start, (row + start) * run.grid + start + side), row * side);
  return out;
}

function overlay(levels, side, hue) {
  const canvas = el("canvas", { width: side, height: side, class: "map", "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(side, side);
  const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(hue.slice(at, at + 2), 16));
  for (let cell = 0; cell < levels.length; cell += 1) {
    if (levels[cell] === 0) continue;
    pixels.data.set([red, green, blue, FAINT + ((FULL - FAINT) * levels[cell]) / 255], 4 * cell);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// A square window on a picture: patches from `start` on, `side` of them.
function windowOn(run, image, start, side) {
  if (image === null) return null;
  const whole = run.grid + run.reach;
  return el("img", {
    src: picturePath(image),
    alt: "",
    loading: "lazy",
    decoding: "async",
    draggable: "false",
    style: `width:${(100 * whole) / side}%;left:${(-100 * start) / side}%;top:${(-100 * start) / side}%`,
  });
}

export function thumbnail(run, image) {
  return el("span", { class: "thumbnail" }, image === null ? null : windowOn(run, image, 0, run.grid + run.reach));
}

function describe(levels, side, what) {
  let active = 0;
  let peak = 0;
  levels.forEach((level, cell) => {
    if (level > 0) active += 1;
    if (level > levels[peak]) peak = cell;
  });
  if (active === 0) return `${what}: no activation`;
  return `${what}: ${active} of ${levels.length} patches active, peak at row ${Math.floor(peak / side) + 1}, column ${(peak % side) + 1}`;
}

// A whole crop with its map; what the other crop shows too is framed, the rest veiled.
export function cropTile(run, picture, crop, name, feature) {
  const levels = unpackMap(picture.maps[crop], run.grid);
  const part = shared(levels, run, crop);
  const start = crop === 0 ? 0 : run.shift;
  const side = run.grid - run.shift;
  const edge = (100 * run.shift) / run.grid;
  const frame = crop === 0 ? `top:${edge}%;left:${edge}%;right:0;bottom:0` : `top:0;left:0;right:${edge}%;bottom:${edge}%`;
  const label = describe(part, side, `Feature ${feature}, image ${picture.id}, ${crop === 0 ? "first" : "second"} crop, shared pixels`);
  const empty = part.every((level) => level === 0);
  return el(
    "div",
    { class: picture.photograph ? "tile" : "tile bare", role: "img", "aria-label": label },
    picture.photograph ? windowOn(run, picture.image, start, run.grid) : null,
    el("i", { class: "frame", style: frame }),
    overlay(levels, run.grid, mapColour(name)),
    empty ? el("span", { class: "note", "aria-hidden": "true" }, "no mass in the frame") : null,
  );
}

// Only the shared pixels, with one crop's map: the same pixels twice, so that movement is seen by eye.
export function sharedTile(run, picture, crop, name, feature) {
  const side = run.grid - run.shift;
  const part = shared(unpackMap(picture.maps[crop], run.grid), run, crop);
  const label = describe(part, side, `Feature ${feature}, image ${picture.id}, ${crop === 0 ? "first" : "second"} crop`);
  return el(
    "div",
    { class: picture.photograph ? "tile" : "tile bare", role: "img", "aria-label": label },
    picture.photograph ? windowOn(run, picture.image, run.shift, side) : null,
    overlay(part, side, mapColour(name)),
    part.every((level) => level === 0) ? el("span", { class: "note", "aria-hidden": "true" }, "empty") : null,
  );
}

// Where the mass moved, on the shared pixels: an arrow a route, as wide as its mass; tinted patches are mass that stays.
export function movedTile(run, picture, name, feature) {
  const side = run.grid - run.shift;
  const routes = unpackRoutes(picture.routes);
  const [first, second] = [0, 1].map((crop) => shared(unpackMap(picture.maps[crop], run.grid), run, crop));
  const totals = [first, second].map((levels) => levels.reduce((sum, level) => sum + level, 0));
  const valid = totals[0] > 0 && totals[1] > 0;
  const centre = (cell) => [(cell % side) + 0.5, Math.floor(cell / side) + 0.5];
  const stays = Array.from(first, (level, cell) => (valid ? Math.min(level / totals[0], second[cell] / totals[1]) : 0));
  const most = Math.max(...stays, 1e-9);
  const arrows = routes.map(({ from, to, mass }) => {
    const [x, y] = centre(from);
    const [u, v] = centre(to);
    const length = Math.hypot(u - x, v - y);
    const width = Math.max(0.08, 0.6 * Math.sqrt(mass));
    const head = Math.min(0.7 * length, 0.34 + 1.1 * width);
    const [a, b] = [(u - x) / length, (v - y) / length];
    const [hx, hy] = [u - a * head, v - b * head];
    const half = 0.14 + 0.7 * width;
    const start = 0.06 + width / 2;
    const outline = `M${x - b * start} ${y + a * start}A${start} ${start} 0 1 1 ${x + b * start} ${y - a * start}L${hx + (b * width) / 2} ${hy - (a * width) / 2}L${hx + b * half} ${hy - a * half}L${u} ${v}L${hx - b * half} ${hy + a * half}L${hx - (b * width) / 2} ${hy + (a * width) / 2}Z`;
    return svg("path", { class: "route", d: outline });
  });
  const label = valid
    ? `Feature ${feature}, image ${picture.id}: ${Math.round(100 * (1 - picture.moved))} % of the mass stays at its patch, the rest moves; mean distance over all ${(picture.emd * run.diagonal).toFixed(2)} patches`
    : `Feature ${feature}, image ${picture.id}: no distance, one crop has no mass on the shared pixels`;
  return el(
    "div",
    { class: picture.photograph ? "tile quiet" : "tile bare", role: "img", "aria-label": label },
    picture.photograph ? windowOn(run, picture.image, run.shift, side) : null,
    valid ? overlay(Uint8Array.from(stays, (share) => Math.round((160 * share) / most)), side, mapColour(name)) : null,
    svg("svg", { class: "routes", viewBox: `0 0 ${side} ${side}`, "aria-hidden": "true" }, arrows),
    valid ? null : el("span", { class: "note", "aria-hidden": "true" }, "no distance"),
  );
}
