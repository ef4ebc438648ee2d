"""The site without writing it out: each file is made when a browser on this machine asks for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property, lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from infoscope.errors import InfoscopeError
from infoscope.report.page import BUNDLE, PAGE, bundled, first_page
from infoscope.report.site import Site

HOST = "127.0.0.1"
# Our choice: files that a reader goes back to; some 100 kB each.
FILES_KEPT = 128
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "txt": "text/plain", "webp": "image/webp"}
# In place of a photograph that cannot be read.
BLANK = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path fill="#eceff1" d="M0 0h1v1H0z"/></svg>'


class SiteFiles:
    """A site's files by their paths, made when asked for.

    Attributes:
        site: the site.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.read = lru_cache(FILES_KEPT)(self._read)
        # Tables are kept from one file to the next, and a browser asks for several at once.
        self._lock = Lock()

    def _read(self, path: str) -> tuple[bytes, str] | None:
        """A file's content and media type; None where the site has none of that name."""
        kind = TYPES.get(path.rpartition(".")[2], "")
        if path in BUNDLE:
            return bundled(path), kind
        if found := re.fullmatch(r"images/\d+/(\d+)\.webp", path):
            image_id = self._image_ids.get(int(found[1]))
            content = None if image_id is None else self.site.thumbnails.of(image_id)
            return (BLANK, "image/svg+xml") if content is None else (content, kind)
        with self._lock:
            text = self._text(path)
        return None if text is None else (text.encode("utf-8"), kind)

    def _text(self, path: str) -> str | None:
        site = self.site
        whole: dict[str, Callable[[], str]] = {
            PAGE: lambda: first_page(site, []),
            "data/run.js": site.run_script,
            "data/featured.js": site.featured_script,
        }
        if path in whole:
            return whole[path]()
        if found := re.fullmatch(r"data/features/(\d+)\.js", path):
            return site.chunk_script(int(found[1])) if int(found[1]) < site.chunks else None
        if found := re.fullmatch(r"data/columns/([\w-]+)\.js", path):
            return site.column_script(found[1])
        return None

    @cached_property
    def _image_ids(self) -> dict[int, str]:
        return dict(self.site.images_shown().iter_rows())


def make_server(site: Site, port: int) -> ThreadingHTTPServer:
    """A server of a site for browsers on this machine; its ``serve_forever`` serves.

    Args:
        site: the site.
        port: 0 takes any that is free.

    Raises:
        InfoscopeError: the port cannot be had.
    """
    files = SiteFiles(site)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            # A page elsewhere whose name was made to mean this machine must not read the run.
            host = self.headers.get("Host", "").rpartition(":")[0]
            if host not in (HOST, "localhost"):
                self.send_error(HTTPStatus.FORBIDDEN)
                return
            path = self.path.partition("?")[0].lstrip("/") or PAGE
            try:
                found = files.read(path)
            except InfoscopeError as error:
                self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, explain=str(error))
                return
            if found is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            content, kind = found
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind if kind.startswith("image/") else f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-cache")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing: a page asks for hundreds of files."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise InfoscopeError(
            f"cannot serve on port {port}: {error.strerror or error}; choose another --port"
        ) from error
