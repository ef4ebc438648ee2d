// Which features are looked at: classes, ranges of columns, an order. It is also the explorer's address.

export function parse(text, run) {
  const query = new URLSearchParams(text);
  const names = new Set(run.columns.map((column) => column.name));
  const named = (key, fallback) => (names.has(query.get(key)) ? query.get(key) : fallback);
  const x = named("x", names.has("effective_area") ? "effective_area" : run.columns[0].name);
  const y = named("y", "cds");
  const classes = query.get("class");
  const sort = query.get("sort") ?? "cds";
  const ranges = new Map();
  for (const [key, value] of query) {
    if (!key.startsWith("in.") || !names.has(key.slice(3))) continue;
    const [low, high] = value.split("..").map((end) => (end === "" || Number.isNaN(Number(end)) ? null : Number(end)));
    ranges.set(key.slice(3), [low, high ?? null]);
  }
  return {
    x,
    y,
    logX: query.has("logx") ? query.get("logx") === "1" : x === "effective_area",
    logY: query.get("logy") === "1",
    classes: new Set(classes === null ? run.classes.map(({ name }) => name) : classes.split(",")),
    ranges,
    sort: names.has(sort.replace(/^-/, "")) || sort.replace(/^-/, "") === "feature" ? sort : "cds",
  };
}

export function address(selection, run) {
  const query = new URLSearchParams({ x: selection.x, y: selection.y, logx: selection.logX ? 1 : 0 });
  if (selection.logY) query.set("logy", 1);
  if (selection.classes.size < run.classes.length) query.set("class", [...selection.classes].join(","));
  for (const [name, [low, high]] of selection.ranges) query.set(`in.${name}`, `${low ?? ""}..${high ?? ""}`);
  query.set("sort", selection.sort);
  return `#/explore?${query}`;
}

// Features in the selection: a flag each, and their number. columns: values by name of the columns with a range.
export function match(selection, run, codes, columns) {
  const shown = run.classes.map(({ name }) => selection.classes.has(name));
  const flags = new Uint8Array(codes.length);
  for (let feature = 0; feature < codes.length; feature += 1) flags[feature] = shown[codes[feature]] ? 1 : 0;
  for (const [name, [low, high]] of selection.ranges) {
    const values = columns.get(name);
    const [least, most] = [low ?? -Infinity, high ?? Infinity];
    // A comparison with NaN is false, so that a feature without a value is in no range.
    for (let feature = 0; feature < codes.length; feature += 1) flags[feature] &= values[feature] >= least && values[feature] <= most;
  }
  let size = 0;
  for (const flag of flags) size += flag;
  return { in: flags, shown, size };
}

// All features in the order of a column, those without a value last and ties by number.
export function order(values, size, down) {
  const features = Uint32Array.from({ length: size }, (_, feature) => feature);
  if (!values) return down ? features.reverse() : features;
  const sign = down ? -1 : 1;
  return features.sort((one, other) => {
    const [a, b] = [values[one], values[other]];
    if (Number.isNaN(a)) return Number.isNaN(b) ? one - other : 1;
    if (Number.isNaN(b)) return -1;
    return sign * (a - b) || one - other;
  });
}
