"""Web servers of this machine, each in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Silent:
    """Of a handler of requests: it keeps no log."""

    def log_message(self, *_: object) -> None:
        """Write nothing."""


class _Files(Silent, SimpleHTTPRequestHandler):
    """Serves a folder; queries are ignored."""


@contextmanager
def answering(handler: Any) -> Iterator[str]:
    """Run a server whose requests a handler answers, and give `host:port`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run a server of the files in a folder, and give `host:port`."""
    with answering(partial(_Files, directory=str(folder))) as address:
        yield address
