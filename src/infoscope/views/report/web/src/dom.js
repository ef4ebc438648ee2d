// Elements without a framework. Text is always text: names and ids from a run never become markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") node.style.cssText = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

// A table of rows with a heading each; a null cell is an en dash.
export function table(caption, head, rows, attributes) {
  const cell = (value) => el("td", null, value === null || value === undefined ? "–" : value);
  return el(
    "table",
    attributes,
    el("caption", null, caption),
    head && el("thead", null, el("tr", null, head.map((name, place) => el(place === 0 ? "th" : "td", { scope: place === 0 ? "col" : null }, name)))),
    el("tbody", null, rows.map(([name, ...cells]) => el("tr", null, el("th", { scope: "row" }, name), cells.map(cell)))),
  );
}

// A region that may be wider than the screen scrolls by itself, and by the keyboard too.
export function wide(label, ...children) {
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, ...children);
}

export const link = (feature, ...children) => el("a", { href: `#/feature/${feature}` }, ...children);
