// Numbers for people. A value that is not there is an en dash, never a 0.

export const NONE = "–";

const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);

export function count(value) {
  return known(value) ? value.toLocaleString("en") : NONE;
}

export function plural(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

export function score(value) {
  return known(value) ? value.toFixed(3) : NONE;
}

export function percent(value, digits = 0) {
  return known(value) ? `${(100 * value).toFixed(digits)} %` : NONE;
}

// Three significant digits, or a whole number where the column holds such.
export function number(value, whole = false) {
  if (!known(value)) return NONE;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (whole || Number.isInteger(value)) return count(value);
  const size = Math.abs(value);
  if (size >= 1000) return count(Math.round(value));
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : size >= 1 ? value.toFixed(2) : value.toFixed(3);
}

// A mark of an axis: as short as its digits allow.
export function mark(value) {
  if (value === null || value === undefined) return null;
  const short = Number(value.toPrecision(4));
  return Math.abs(short) >= 1000 ? count(short) : String(short);
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
