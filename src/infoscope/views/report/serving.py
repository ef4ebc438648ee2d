"""The report without writing it out: each file is made when a browser on this machine asks for it.

Any page that the reader has open elsewhere can make the browser ask this server too, and the run's data are scripts,
which a browser lets any page run. So an answer is given to the report itself and to the reader's own visit alone.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from functools import cached_property, lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from infoscope.errors import InfoscopeError
from infoscope.views.report.contents import ReportFiles
from infoscope.views.report.page import BUNDLE, PAGE, bundled, first_page
from infoscope.views.report.photographs import thumbnail_path
from infoscope.views.report.template import SITE_POLICY

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
# Our choice: files that a reader goes back to; some 100 kB each.
FILES_KEPT = 128
# Our choice: a browser keeps connections open in case it needs them, each with a thread here.
IDLE_SECONDS = 30.0
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "txt": "text/plain", "webp": "image/webp"}
# In place of a photograph that cannot be read.
BLANK = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path fill="#eceff1" d="M0 0h1v1H0z"/></svg>'
# Sent with every answer, errors as well. The page has the policy in a tag too, but who may frame it counts here alone.
HEADERS = {
    "Content-Security-Policy": f"{SITE_POLICY}; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Vary": "Sec-Fetch-Site, Sec-Fetch-Mode, Sec-Fetch-Dest, Origin",
    "X-Content-Type-Options": "nosniff",
}
_LOGGER = logging.getLogger(__name__)


class FilesOnDemand:
    """A report's files by their paths, made when asked for.

    Attributes:
        report: the report.
    """

    def __init__(self, report: ReportFiles) -> None:
        self.report = report
        self.read = lru_cache(FILES_KEPT)(self._read)
        # Tables are kept from one file to the next, and a browser asks for several files at the same time.
        self._lock = Lock()

    def _read(self, path: str) -> tuple[bytes, str] | None:
        """A file's content and media type; None where the report has none of that name."""
        kind = TYPES.get(path.rpartition(".")[2], "")
        if path in BUNDLE:
            return bundled(path), kind
        if found := re.fullmatch(r"images/\d{1,9}/(\d{1,9})\.webp", path):
            image = int(found[1])
            image_id = self._image_ids.get(image)
            if image_id is None or path != thumbnail_path(image):
                return None
            content = self.report.thumbnails.of(image_id)
            return (BLANK, "image/svg+xml") if content is None else (content, kind)
        with self._lock:
            text = self._text(path)
        return None if text is None else (text.encode("utf-8"), kind)

    def _text(self, path: str) -> str | None:
        report = self.report
        whole: dict[str, Callable[[], str]] = {
            PAGE: lambda: first_page(report, []),
            "data/run.js": report.run_script,
            "data/featured.js": report.featured_script,
        }
        if path in whole:
            return whole[path]()
        if found := re.fullmatch(r"data/features/(\d{1,9})\.js", path):
            return report.chunk_script(int(found[1])) if int(found[1]) < report.chunks else None
        if found := re.fullmatch(r"data/columns/([\w-]+)\.js", path):
            return report.column_script(found[1])
        return None

    @cached_property
    def _image_ids(self) -> dict[int, str]:
        return dict(self.report.images_shown().iter_rows())


class ReportServer(ThreadingHTTPServer):
    """A server whose terminal stays quiet when a browser leaves in the middle of an answer."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log in a line why a connection's thread ended, more quietly where only the browser left."""
        error = sys.exc_info()[1]
        level = logging.DEBUG if isinstance(error, OSError) else logging.WARNING
        _LOGGER.log(level, "a connection ended early: %s: %s", type(error).__name__, error)


def make_server(report: ReportFiles, port: int) -> ThreadingHTTPServer:
    """A server of a report for browsers on this machine; its ``serve_forever`` serves.

    Args:
        report: the report.
        port: 0 takes any that is free.

    Raises:
        InfoscopeError: the port cannot be had.
    """

    class Handler(_Handler):
        files = FilesOnDemand(report)

    try:
        return ReportServer((HOST, port), Handler)
    except OSError as error:
        raise InfoscopeError(
            f"cannot serve on port {port}: {error.strerror or error}; choose another --port"
        ) from error


class _Handler(BaseHTTPRequestHandler):
    files: FilesOnDemand
    protocol_version = "HTTP/1.1"
    # A request line that names no version is answered with headers all the same, so that an error has ours.
    default_request_version = "HTTP/1.0"
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        refused = self._refusal(path)
        if refused is not None:
            self.send_error(*refused)
            return
        try:
            found = self.files.read(path[1:] or PAGE)
        except InfoscopeError as error:
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, explain=str(error))
            return
        except Exception as error:
            # Only this page fails; the server keeps answering for others.
            _LOGGER.warning("cannot answer for %r: %s: %s", path, type(error).__name__, error)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        content, kind = found
        self.send_response(HTTPStatus.OK)
        self._send(content, kind if kind.startswith("image/") else f"{kind}; charset=utf-8")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _refusal(self, path: str) -> tuple[HTTPStatus, str] | None:
        """The status and the reason of a request that must not be answered."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1:
            return HTTPStatus.BAD_REQUEST, "one Host header is needed"
        host = hosts[0].strip().lower()
        # A page elsewhere whose name was made to mean this machine must not read the run. The port says nothing: a
        # tunnel to another machine has its own.
        if not _names_this_machine(host):
            return HTTPStatus.FORBIDDEN, "this server has another name"
        # Only a path: a full address may name another host than the header. A body would be read as the next
        # request on this connection.
        length = self.headers.get("Content-Length", "0").strip()
        if not path.startswith("/") or length != "0" or "Transfer-Encoding" in self.headers:
            return HTTPStatus.BAD_REQUEST, "only a path is asked for here, without a body"
        if not self._from_this_site(host, path):
            return HTTPStatus.FORBIDDEN, "another site's page may not read this one"
        return None

    def _from_this_site(self, host: str, path: str) -> bool:
        """Whether the report itself asks, or its reader by an address, a bookmark or a link.

        Browsers say who asks in ``Sec-Fetch-Site``, and no page can change it. Another port of this machine is
        ``same-site`` and may be anybody's. Where nothing is said, by an old browser or a program that is none, the
        answer's ``Cross-Origin-Resource-Policy`` keeps it from other pages.
        """
        origins = self.headers.get_all("Origin", [])
        if any(origin.strip().lower() != f"http://{host}" for origin in origins):
            return False
        said = {
            name: [value.strip().lower() for value in self.headers.get_all(f"Sec-Fetch-{name}", [])]
            for name in ("Site", "Mode", "Dest")
        }
        if all(site in ("same-origin", "none") for site in said["Site"]):
            return True
        # A link in another page opens the page, which cannot be read from there; a frame is no document.
        opens = said["Mode"] == ["navigate"] and said["Dest"] == ["document"]
        return len(said["Site"]) == 1 and opens and path in ("/", f"/{PAGE}")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """An error as plain text, with the headers that every answer has; the connection ends."""
        # The library's word for a method that has no function here.
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self.send_response(status)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
            message = None
        self.send_header("Connection", "close")
        said = "; ".join(part for part in (message, explain) if part)
        text = f"{status.value} {status.phrase}{f': {said}' if said else ''}\n"
        self._send(text.encode("utf-8", "replace"), "text/plain; charset=utf-8")

    def _send(self, content: bytes, kind: str) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-cache")
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def version_string(self) -> str:
        """Name the program that answers, but not its Python."""
        return "infoscope"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing: a page asks for hundreds of files."""


def _names_this_machine(host: str) -> bool:
    """Whether a ``Host`` header, in lower case, names the address that is served at, with any port or none."""
    name, _, port = host.partition(":")
    return name in NAMES and (port.isdecimal() if ":" in host else True)
