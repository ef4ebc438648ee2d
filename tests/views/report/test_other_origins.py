"""A served run in a real browser: it works whole for its reader, and a page of another origin gets nothing of it."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch

from infoscope.images.source import open_images
from infoscope.training.config import TrainConfig
from infoscope.training.loop import train_on_tokens
from infoscope.views.report.contents import Options, ReportFiles
from infoscope.views.report.page import write_report
from infoscope.views.report.serving import make_server
from infoscope.views.report.training import write_training_page
from waiting import wait_until

FEATURES = 40
# What a curious page tries. Each way ends with a word of what it got, or null.
ATTEMPTS = """
const address = ADDRESS;
const got = {};
globalThis.infoscope = { put: (name) => (got.put ??= []).push(name) };
const settled = (node) => new Promise((resolve) => {
  node.onload = () => resolve(true);
  node.onerror = () => resolve(false);
  setTimeout(() => resolve(null), 4000);
  document.body.append(node);
});
const make = (tag, attributes) => Object.assign(document.createElement(tag), attributes);
async function read(name, attempt) {
  try { got[name] = (await attempt()) ?? null; } catch { got[name] = null; }
}
const loaded = async (tag, attributes) => (await settled(make(tag, attributes))) || null;
const sent = (path) => new Promise((resolve, reject) => {
  const request = new XMLHttpRequest();
  request.onload = () => resolve(request.responseText);
  request.onerror = reject;
  request.open("GET", address + path);
  request.send();
});
const started = (path) => new Promise((resolve, reject) => {
  const worker = new Worker(address + path);
  worker.onerror = reject;
  worker.onmessage = resolve;
  setTimeout(reject, 500);
});
async function asked(path, mode, method) {
  const answer = await fetch(address + path, { mode, method });
  return `${answer.type} ${await answer.text()}`.trim();
}
async function drawn(path, attributes) {
  const image = make("img", { src: address + path, ...attributes });
  await settled(image);
  return image.naturalWidth || null;
}
async function styled(path) {
  const link = make("link", { rel: "stylesheet", href: address + path });
  const took = await settled(link);
  return took || getComputedStyle(document.documentElement).getPropertyValue("--accent") || null;
}
async function framed(tag, at, path) {
  const node = make(tag, { [at]: address + path });
  await settled(node);
  return node.contentDocument?.body?.innerText?.trim() || node.contentWindow?.length || null;
}
async function opened() {
  const other = open(address, "_blank");
  await new Promise((resolve) => setTimeout(resolve, 2500));
  let title = null;
  try {
    title = other.document.title || null;
  } catch {
    // as it should be
  }
  // A window that the page still holds could be counted, sent elsewhere, or watched.
  return title ?? (other.closed ? null : `held, ${other.length} frames`);
}
async function whole() {
  const scripts = ["data/run.js", "data/featured.js", "data/features/0.js", "data/columns/cds.js", "site.js"];
  for (const path of scripts) {
    const src = address + path;
    await read(`script ${path}`, () => loaded("script", { src }));
    await read(`cors script ${path}`, () => loaded("script", { src, crossOrigin: "anonymous" }));
    await read(`module ${path}`, async () => Object.keys(await import(src)).join() || "imported");
    await read(`preload ${path}`, () => loaded("link", { rel: "preload", as: "script", href: src }));
  }
  for (const path of ["", "data/run.js", "images/0/0.webp", "LICENCES.txt"]) {
    for (const mode of ["cors", "no-cors", "same-origin"])
      for (const method of ["GET", "HEAD", "POST"])
        await read(`fetch ${method} ${mode} /${path}`, () => asked(path, mode, method));
    await read(`request /${path}`, () => sent(path));
  }
  await read("image", () => drawn("images/0/0.webp", {}));
  await read("cors image", () => drawn("images/0/1.webp", { crossOrigin: "anonymous" }));
  await read("style", () => styled("site.css"));
  await read("worker", () => started("data/run.js"));
  for (const [tag, at] of [["iframe", "src"], ["object", "data"], ["embed", "src"]])
    for (const path of ["", "data/run.js"]) await read(`${tag} /${path}`, () => framed(tag, at, path));
  await read("window", opened);
  return got;
}
"""


class Handler(BaseHTTPRequestHandler):
    page = b""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.page)))
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, format, *arguments):
        pass


@contextmanager
def running(server):
    with server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def site(make_run, make_photographs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    cds = [None, *(0.01 * feature for feature in range(1, FEATURES))]
    run = make_run(folder / "run", cds, maps={(3, 0, 0): {(3, 3): 1.5}, (3, 0, 1): {(0, 0): 1.5}}, curve=(1, 2, 3))
    site = ReportFiles(run, open_images(make_photographs(folder / "photographs")), Options())
    site.prepare()
    return site


@pytest.fixture(scope="module")
def port(site):
    with running(make_server(site, 0)) as port:
        yield port


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("127.0.0.1", "127.0.0.1"), ("localhost", "localhost"), ("127.0.0.1", "localhost"), ("localhost", "127.0.0.1")],
)
def test_a_page_of_another_origin_gets_nothing(browser, port, ours, theirs):
    script = ATTEMPTS.replace("ADDRESS", json.dumps(f"http://{ours}:{port}/"))
    page_text = f'<!doctype html><meta charset="utf-8"><title>elsewhere</title><body><script>{script}</script>'
    handler = type("Elsewhere", (Handler,), {"page": page_text.encode()})
    with running(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as other:
        context = browser.new_context()
        page = context.new_page()
        answered = []
        context.on("response", lambda answer: answered.append(answer) if f":{port}/" in answer.url else None)
        page.goto(f"http://{theirs}:{other}/")
        got = page.evaluate("whole()")
        assert {name: found for name, found in got.items() if found is not None} == {}
        assert len(got) > 60
        for frame in page.frames[1:]:
            assert "infoscope" not in frame.content().lower()
        # The one answer is the page that was opened as a window of its own, and what this page asked for itself.
        own = {context.pages[-1].main_frame}
        assert {answer.status for answer in answered if answer.frame not in own} <= {403, 405}
        assert context.pages[-1].title().startswith("Information scope")
        context.close()


def test_the_attempts_would_find_something(browser, port):
    """On the run's own origin they do: what they bring elsewhere is nothing because it is refused."""
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{port}/")
    page.add_script_tag(content=ATTEMPTS.replace("ADDRESS", json.dumps(f"http://127.0.0.1:{port}/")))
    got = page.evaluate("whole()")
    found = {name for name, what in got.items() if what is not None}
    wanted = (
        "script data/run.js",
        "module data/run.js",
        "fetch GET cors /data/run.js",
        "image",
        "style",
        "window",
        "put",
    )
    assert found >= set(wanted)
    context.close()


@pytest.mark.parametrize("where", ["127.0.0.1", "localhost", "disk"])
def test_the_readers_visit_works_whole_and_in_silence(browser, site, port, where):
    start = write_report(site.run, site.thumbnails.source).as_uri() if where == "disk" else f"http://{where}:{port}/"
    context = browser.new_context(permissions=["clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(60_000)
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.on("response", lambda answer: complaints.append(answer.url) if answer.status >= 400 else None)
    page.goto(start)
    page.wait_for_selector("[data-feature] .strip .map")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    assert "#content" not in page.url
    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("link", name="Explorer", exact=True).click()
    page.wait_for_selector(".features tbody tr")
    box = page.locator(".plot .u-over").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.8 * box["height"], steps=5)
    page.mouse.up()
    page.get_by_role("button", name="Clear the selection").click()
    page.locator("#number").fill("3")
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Feature 3')")
    page.evaluate("document.querySelectorAll('.gallery img').forEach((image) => image.scrollIntoView())")
    wait_until(page, "[...document.querySelectorAll('.gallery img')].every((image) => image.naturalWidth > 0)")
    assert page.locator(".gallery .route").count() == 1
    assert page.locator(".curve canvas").count() == 1
    page.get_by_role("button", name="Copy link").click()
    page.reload()
    page.wait_for_selector("h1:has-text('Feature 3')")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark", "before the page was drawn"
    assert complaints == []
    context.close()


@pytest.mark.parametrize("where", ["127.0.0.1", "disk"])
def test_no_other_script_runs_on_the_page(browser, site, port, where):
    """What the policy is for: markup that came in through a name would still run nothing."""
    start = write_report(site.run, site.thumbnails.source).as_uri() if where == "disk" else f"http://{where}:{port}/"
    context = browser.new_context()
    page = context.new_page()
    page.goto(start)
    page.wait_for_selector("[data-feature] .strip .map")
    page.evaluate(
        """() => {
          const main = document.querySelector("main");
          main.insertAdjacentHTML("beforeend", `
            <img src="none.webp" onerror="globalThis.ran = 1">
            <a id="lure" href="javascript:globalThis.ran = 2" onclick="globalThis.ran = 3">x</a>
            <form action="https://elsewhere.example/"><button id="send">y</button></form>`);
          const script = document.createElement("script");
          script.textContent = "globalThis.ran = 4";
          main.append(script);
          const data = document.createElement("script");
          data.src = "data:text/javascript,globalThis.ran=5";
          main.append(data);
        }"""
    )
    page.locator("#lure").dispatch_event("click")
    page.locator("#send").dispatch_event("click")
    page.wait_for_timeout(500)
    assert page.evaluate("globalThis.ran") is None
    assert page.url.startswith(start)
    context.close()


def test_a_trainings_page_keeps_its_style_and_is_silent(browser, tmp_path):
    tokens = torch.randn(600, 12, generator=torch.Generator().manual_seed(0))
    result = train_on_tokens([tokens], TrainConfig(features=30, k=3, tokens=800, batch_tokens=200), held_out=300)
    result.save(tmp_path / "sae", {"model": "some/vit", "block": 4})
    file = write_training_page(tmp_path / "sae")

    class Served(Handler):
        page = file.read_bytes()

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Served)) as port:
        for address in (file.as_uri(), f"http://127.0.0.1:{port}/"):
            context = browser.new_context()
            page = context.new_page()
            complaints = []
            page.on("console", lambda message, said=complaints: said.append(message.text))
            page.goto(address)
            assert page.evaluate("getComputedStyle(document.querySelector('.curves')).display") == "grid"
            page.evaluate(
                """() => {
                  const script = document.createElement("script");
                  script.textContent = "globalThis.ran = 1";
                  document.body.append(script);
                }"""
            )
            assert page.evaluate("globalThis.ran") is None
            assert len(complaints) == 1, "only of the script that this test put in"
            context.close()
