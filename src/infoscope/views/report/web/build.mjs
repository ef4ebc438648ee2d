// Bundles the pages' sources into files that need no server: `npm ci && npm run build`.
// The first line of each names the SHA-256 of what it was made of, so that a test can tell a stale bundle without node.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const here = import.meta.dirname;
const sources = ["build.mjs", "package.json", "package-lock.json"]
  .concat(readdirSync(join(here, "src")).map((name) => `src/${name}`))
  .sort();
const digest = createHash("sha256");
for (const name of sources) {
  digest.update(`${name}\n`);
  digest.update(readFileSync(join(here, name)));
}
const sum = digest.digest("hex");

const common = { bundle: true, minify: true, charset: "utf8", legalComments: "none", logLevel: "warning" };
// The theme's is a file of its own because it runs before the page is drawn, and the other after.
for (const [source, out] of [["main", "site"], ["early", "theme"]])
  await build({
    ...common,
    entryPoints: [join(here, `src/${source}.js`)],
    outfile: join(here, `bundle/${out}.js`),
    format: "iife",
    target: ["chrome111", "firefox113", "safari16.4"],
    banner: { js: `/* made from sources ${sum}; licences: LICENCES.txt */` },
  });
await build({
  ...common,
  entryPoints: [join(here, "src/site.css")],
  outfile: join(here, "bundle/site.css"),
  target: ["chrome111", "firefox113", "safari16.4"],
  banner: { css: `/* made from sources ${sum}; licences: LICENCES.txt */` },
});
const { version } = JSON.parse(readFileSync(join(here, "node_modules/uplot/package.json"), "utf8"));
const licence = readFileSync(join(here, "node_modules/uplot/LICENSE"), "utf8");
writeFileSync(
  join(here, "bundle/LICENCES.txt"),
  `site.js and site.css are part of infoscope (Apache-2.0) and contain the following.\n\nuPlot ${version}\n\n${licence}`,
);
