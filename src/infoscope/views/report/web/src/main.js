// One page, three views: the overview is in the HTML, the explorer and the features are made here.
import { load, put } from "./data.js";
import { el } from "./dom.js";
import { Explorer } from "./explorer.js";
import { FeaturePage } from "./feature.js";
import { count } from "./format.js";
import { fillStrips } from "./strips.js";
import { theme } from "./theme.js";

globalThis.infoscope = { put };

const views = {};
let run;
let explorer;
let page;
let lastExplored = "#/explore";

async function start() {
  for (const name of ["overview", "explore", "feature"]) views[name] = document.getElementById(name);
  run = await load("run");
  run.withoutPicture = new Set(run.withoutPicture);
  explorer = new Explorer(views.explore, run);
  page = new FeaturePage(views.feature, run);
  search(document.getElementById("search"));
  theme(document.getElementById("theme"), () => route(false));
  document.querySelector(".skip").addEventListener("click", (event) => {
    // The address names a view, so the link must not replace it.
    event.preventDefault();
    document.getElementById("content").focus();
  });
  addEventListener("hashchange", () => route(true));
  await route(false);
  fillStrips(run).catch(complain);
}

async function route(moved) {
  const hash = location.hash;
  try {
    if (hash.startsWith("#/feature/")) await openFeature(hash.slice("#/feature/".length), moved);
    else if (hash.startsWith("#/explore")) {
      show("explore", "Explore the features");
      await explorer.open(hash === "#/explore" && moved ? lastExplored.split("?")[1] ?? "" : hash.split("?")[1] ?? "");
      lastExplored = location.hash;
    } else {
      show("overview", null);
      if (hash.length > 1 && !hash.startsWith("#/")) document.getElementById(decodeURIComponent(hash.slice(1)))?.scrollIntoView();
    }
    if (moved && hash.startsWith("#/")) {
      scrollTo(0, 0);
      document.querySelector("main > :not([hidden]) h1")?.focus({ preventScroll: true });
    }
  } catch (error) {
    complain(error);
  }
}

async function openFeature(text, moved) {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  show("feature", Number.isNaN(number) ? "No such feature" : `Feature ${number}`);
  if (!(number < run.features)) {
    views.feature.replaceChildren(el("h1", { tabindex: "-1" }, "No such feature"), el("p", null, `Features have the numbers 0 to ${count(run.features - 1)}. `, el("a", { href: "#/explore" }, "Look for one in the explorer"), "."));
    return;
  }
  await page.open(number);
}

function show(name, title) {
  if (name !== "explore" && !views.explore.hidden && explorer?.selection) lastExplored = explorer.address();
  for (const [key, view] of Object.entries(views)) view.hidden = key !== name;
  for (const anchor of document.querySelectorAll(".views a")) {
    if (anchor.dataset.view === name) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  document.title = title === null ? document.body.dataset.title : `${title} · ${document.body.dataset.title}`;
}

function search(form) {
  const field = form.querySelector("input");
  const answer = document.getElementById("search-answer");
  form.hidden = false;
  field.max = run.features - 1;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (/^\d+$/.test(text) && Number(text) < run.features) {
      answer.textContent = "";
      location.hash = `#/feature/${Number(text)}`;
    } else answer.textContent = `There is no feature ${text || "without a number"}: they go from 0 to ${count(run.features - 1)}.`;
  });
}

function complain(error) {
  const box = document.getElementById("trouble");
  box.hidden = false;
  box.textContent = `This page could not be shown: ${error.message}`;
}

if (document.readyState === "loading") addEventListener("DOMContentLoaded", () => start().catch(complain));
else start().catch(complain);
