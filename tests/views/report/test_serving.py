"""Who gets an answer of `infoscope serve`, said to the server word by word."""

import logging
import socket
import time
from http.client import HTTPConnection
from threading import Thread

import pytest

from infoscope.images.source import open_images
from infoscope.views.report import serving
from infoscope.views.report.contents import Options, ReportFiles
from infoscope.views.report.serving import make_server

PAGE, DATA = "/", "/data/run.js"
A_LINE = "A: a\n"
ALWAYS = {
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
}


@pytest.fixture(scope="module")
def served(make_run, make_photographs, tmp_path_factory):
    """The port of a run being served."""
    folder = tmp_path_factory.mktemp("served")
    site = ReportFiles(
        make_run(folder / "run", [0.1, 0.2, 0.3]), open_images(make_photographs(folder / "photographs")), Options()
    )
    site.prepare()
    with make_server(site, 0) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def ask(port, path=PAGE, method="GET", host=None, **headers):
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{port}")
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def say(port, text):
    """What the server answers to these bytes until it ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(text.replace("\n", "\r\n").replace("PORT", str(port)).encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while part := connection.recv(65536):
            found += part
    return found.decode("latin-1")


def fetch_metadata(site, mode="no-cors", dest="script"):
    return {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": mode, "Sec_Fetch_Dest": dest}


@pytest.mark.parametrize("path", [PAGE, "/index.html", DATA, "/site.js", "/theme.js", "/site.css", "/images/0/0.webp"])
@pytest.mark.parametrize("headers", [{}, fetch_metadata("same-origin"), fetch_metadata("none", "navigate", "document")])
def test_the_site_and_its_reader_get_everything(served, path, headers):
    answer, content = ask(served, path, **headers)
    assert answer.status == 200
    assert content


@pytest.mark.parametrize("site", ["same-site", "cross-site"])
@pytest.mark.parametrize(
    "path", [PAGE, DATA, "/site.js", "/site.css", "/images/0/0.webp", "/data/columns/cds.js", "/no"]
)
@pytest.mark.parametrize(
    ("mode", "dest"),
    [
        ("no-cors", "script"),
        ("no-cors", "image"),
        ("no-cors", "style"),
        ("no-cors", "object"),
        ("no-cors", "empty"),
        ("cors", "empty"),
        ("cors", "script"),
        ("navigate", "iframe"),
        ("navigate", "frame"),
        ("navigate", "object"),
        ("navigate", "embed"),
        ("nested-navigate", "document"),
        ("websocket", "empty"),
    ],
)
def test_what_another_page_asks_for_is_refused(served, site, path, mode, dest):
    answer, content = ask(served, path, **fetch_metadata(site, mode, dest))
    assert answer.status == 403
    assert content == b"403 Forbidden: another site's page may not read this one\n"


@pytest.mark.parametrize("path", [PAGE, "/index.html", "/?a=b"])
def test_a_link_elsewhere_opens_the_page(served, path):
    assert ask(served, path, **fetch_metadata("cross-site", "navigate", "document"))[0].status == 200
    for data in (DATA, "/images/0/0.webp", "/site.js", "/LICENCES.txt"):
        assert ask(served, data, **fetch_metadata("cross-site", "navigate", "document"))[0].status == 403
    assert ask(served, path, "POST", **fetch_metadata("cross-site", "navigate", "document"))[0].status == 405


@pytest.mark.parametrize("said", ["", "same-origin, cross-site", "elsewhere"])
def test_words_that_no_browser_says_are_refused(served, said):
    assert ask(served, DATA, Sec_Fetch_Site=said)[0].status == 403
    two = f"GET {DATA} HTTP/1.1\nHost: localhost:PORT\nSec-Fetch-Site: same-origin\nSec-Fetch-Site: cross-site\n\n"
    assert say(served, two).startswith("HTTP/1.1 403 ")


def test_another_origin_is_refused_where_a_browser_says_no_more(served):
    assert ask(served, DATA, Origin="http://localhost:1")[0].status == 403
    assert ask(served, DATA, Origin="null")[0].status == 403
    assert ask(served, DATA, Origin=f"http://127.0.0.1:{served}")[0].status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST:{port}", 200),
        # A tunnel from another machine has a port of its own.
        ("127.0.0.1", 200),
        ("localhost", 200),
        ("localhost:80", 200),
        ("localhost:", 403),
        ("localhost:80:80", 403),
        ("localhost:{port}.elsewhere.example", 403),
        ("localhost.elsewhere.example:{port}", 403),
        ("elsewhere.example:{port}", 403),
        ("elsewhere.example@localhost:{port}", 403),
        ("0.0.0.0:{port}", 403),
        ("[::1]:{port}", 403),
    ],
)
def test_a_name_that_was_made_to_mean_this_machine_is_refused(served, host, status):
    for path in (PAGE, DATA):
        assert ask(served, path, host=host.format(port=served))[0].status == status


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("GET / HTTP/1.1\nHost: localhost:PORT\nConnection: close\n\n", 200),
        ("GET / HTTP/1.0\nHost: localhost:PORT\n\n", 200),
        ("GET / HTTP/1.1\n\n", 400),
        ("GET / HTTP/1.0\n\n", 400),
        ("GET /\n\n", 400),
        ("GET / HTTP/1.1\nHost: localhost:PORT\nHost: elsewhere.example\n\n", 400),
        ("GET / HTTP/1.1\nHost: elsewhere.example\nHost: localhost:PORT\n\n", 400),
        ("GET http://elsewhere.example/ HTTP/1.1\nHost: localhost:PORT\n\n", 400),
        ("GET http://localhost:PORT/data/run.js HTTP/1.1\nHost: localhost:PORT\n\n", 400),
        ("GET * HTTP/1.1\nHost: localhost:PORT\n\n", 400),
        ("GET / HTTP/1.1\nHost: localhost:PORT\nContent-Length: 4\n\nGET ", 400),
        ("GET / HTTP/1.1\nHost: localhost:PORT\nTransfer-Encoding: chunked\n\n0\n\n", 400),
        ("GET / HTTP/9.1\nHost: localhost:PORT\n\n", 505),
        ("nonsense\n\n", 400),
        ("nonsense of many words\n\n", 400),
        (f"GET /{'a' * 70_000} HTTP/1.1\nHost: localhost:PORT\n\n", 414),
        (f"GET / HTTP/1.1\nHost: localhost:PORT\nA: {'a' * 70_000}\n\n", 431),
        (f"GET / HTTP/1.1\nHost: localhost:PORT\n{A_LINE * 200}\n", 431),
        ("POST / HTTP/1.1\nHost: localhost:PORT\nContent-Length: 24\n\nGET /data/run.js HTTP/1.1", 405),
        ("PUT / HTTP/1.1\nHost: localhost:PORT\n\n", 405),
        ("DELETE / HTTP/1.1\nHost: localhost:PORT\n\n", 405),
        ("OPTIONS /data/run.js HTTP/1.1\nHost: localhost:PORT\nOrigin: http://a.example\n\n", 405),
        ("TRACE / HTTP/1.1\nHost: localhost:PORT\n\n", 405),
    ],
)  # fmt: skip
def test_requests_out_of_shape_get_one_answer_with_all_headers(served, text, status):
    found = say(served, text)
    head, _, rest = found.partition("\r\n\r\n")
    assert head.split()[1] == str(status)
    assert found.count("HTTP/1.1 ") == 1, "what follows is taken for no other request"
    assert "infoscope.put" not in rest or status == 200
    lines = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in head.splitlines()[1:]}
    assert lines.items() >= ALWAYS.items()
    assert "frame-ancestors 'none'" in lines["content-security-policy"]
    assert lines["server"] == "infoscope"
    assert "Traceback" not in rest
    if status == 405:
        assert lines["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "path",
    [
        "/../manifest.json",
        "/%2e%2e/manifest.json",
        "/..%2fmanifest.json",
        "/data/../../manifest.json",
        "/data/columns/../run.js",
        "/./index.html",
        "//index.html/",
        "/etc/passwd",
        "/..\\manifest.json",
        "/%00",
        "/index.html%00",
        "/images/7/0.webp",
        "/images/0/9.webp",
        f"/images/0/{'9' * 5000}.webp",
        f"/data/features/{'9' * 5000}.js",
        "/data/features/-1.js",
        "/data/columns/none.js",
        "/data/",
        "/manifest.json",
    ],
)
def test_there_is_nothing_but_the_sites_own_files(served, path):
    answer, _ = ask(served, path)
    assert answer.status == 404
    assert {name.lower(): value for name, value in answer.getheaders()}.items() >= ALWAYS.items()


def test_head_is_answered_without_the_content(served):
    for path in (PAGE, DATA, "/images/0/0.webp", "/no"):
        whole, content = ask(served, path)
        head, nothing = ask(served, path, "HEAD")
        assert (head.status, nothing) == (whole.status, b"")
        assert head.getheader("Content-Length") == str(len(content))
        assert head.getheader("Content-Type") == whole.getheader("Content-Type")
    assert ask(served, DATA, "HEAD", **fetch_metadata("cross-site"))[0].status == 403


def test_an_idle_connection_ends(served, monkeypatch):
    monkeypatch.setattr(serving._Handler, "timeout", 0.3)
    for begun in (b"", b"GET / HTTP/1.1\r\nHost: "):
        with socket.create_connection(("127.0.0.1", served), timeout=20) as connection:
            connection.sendall(begun)
            assert connection.recv(1) == b""
    assert serving.IDLE_SECONDS <= 60


@pytest.mark.slow
def test_a_browser_that_leaves_is_not_worth_a_line(served, capfd, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", served))
        # Gone with a reset in the middle of the answer.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{served}\r\n\r\n".encode() * 3)
        connection.close()
    time.sleep(0.5)
    assert ask(served)[0].status == 200
    assert capfd.readouterr().err == ""
    assert caplog.messages == []


def test_a_file_that_cannot_be_made_is_a_line_and_the_others_are_served(served, monkeypatch, capfd, caplog):
    def fails(site):
        raise ValueError("torn")

    monkeypatch.setattr(ReportFiles, "featured_script", fails)
    # No other test asks for this file, so it is not kept.
    answer, content = ask(served, "/data/featured.js")
    assert (answer.status, content) == (500, b"500 Internal Server Error\n")
    assert caplog.messages == ["cannot answer for '/data/featured.js': ValueError: torn"]
    assert "Traceback" not in capfd.readouterr().err
    assert ask(served, "/site.js")[0].status == 200
