"""A server on this machine that can break off, forget and misname what it serves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What a server holds and does; `breaks` are bytes of an answer after which it hangs up."""

    files: dict[str, bytes]
    breaks: list[int] = field(default_factory=list)
    ranges: bool = True
    tag: str = '"v1"'
    encoding: str = ""
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append((request.path, wanted, request.headers.get("If-Range")))
        data = self.files.get(request.path)
        if data is None:
            request.send_error(404)
            return
        start = int(wanted[len("bytes=") : -1]) if wanted and self.ranges else 0
        if request.headers.get("If-Range") not in (None, self.tag):
            start = 0
        if start >= len(data):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(data)}")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(data) - start))
        request.send_header("ETag", self.tag)
        if self.encoding:
            request.send_header("Content-Encoding", self.encoding)
        request.end_headers()
        length = self.breaks.pop(0) if self.breaks else len(data)
        request.wfile.write(data[start : start + length])


#: Starts a server for a site, whose address it then has.
Serve = Callable[[Site], Site]


@contextmanager
def serving() -> Iterator[Serve]:
    """What starts servers, all of which stop with the block."""
    started: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(site: Site) -> Site:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        started.append((server, thread))
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        return site

    try:
        yield start
    finally:
        for server, thread in started:
            server.shutdown()
            thread.join()
            server.server_close()
