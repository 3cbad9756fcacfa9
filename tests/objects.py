"""A server on this machine that speaks S3, in a thread, and what can go wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from socket import SHUT_RDWR
from threading import Event, Thread
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "images"
SECRETS = ("AKIAQUITEPRIVATE", "very/secret+key")

Request = tuple[str, str]
"""Method and path."""


class _Silent(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


class Server:
    """A server whose answers can be made worse: `fault` is asked before each of them.

    It is given method and path and returns None, a status such as `503 Slow Down`, an event to wait for, or raises
    `ConnectionError`, which drops the connection. Without `conditions` it ignores those of writes, as some do.
    """

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self.fault: Callable[[str, str], str | Event | None] = lambda *_: None
        self.conditions = True
        self.asked: list[Request] = []
        self.url = ""

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.asked.append((method, path))
        try:
            fault = self.fault(method, path)
        except ConnectionError:
            # else it is kept for the next request, and who waits for an answer waits long
            environ["werkzeug.socket"].shutdown(SHUT_RDWR)
            raise
        if isinstance(fault, Event):
            fault.wait()
        elif fault:
            code = fault.partition(" ")[2].replace(" ", "")
            start(fault, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()]
        if not self.conditions:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        return self._app(environ, start)

    @cached_property
    def client(self) -> Any:
        """A client of its own, for what tests put there and look at."""
        return boto3.client("s3", endpoint_url=self.url)

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Return all objects below a prefix, by key."""
        client = self.client
        listed = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return {item["Key"]: client.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read() for item in listed}


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server with an empty bucket; the environment says where it is, and who may ask."""
    server = Server()
    http = make_server("127.0.0.1", 0, server, threaded=True, request_handler=_Silent)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", server.url)
        patch.setenv("AWS_ACCESS_KEY_ID", SECRETS[0])
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS[1])
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        # what the machine's own user has set up is none of the tests' business
        patch.setenv("AWS_CONFIG_FILE", "/dev/null")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        patch.delenv("AWS_PROFILE", raising=False)
        patch.delenv("AWS_NO_SIGN_REQUEST", raising=False)
        server.client.create_bucket(Bucket=BUCKET)
        yield server
    http.shutdown()
    http.server_close()
    thread.join()
