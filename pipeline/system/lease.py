"""One run at a time for results in object storage: an object that is only written where there is none.

There is no lock that ends with its owner, so the owner writes it anew every minute, and one that is five minutes old by
the server's own clock is taken over. Each write is conditional (`If-None-Match`, `If-Match`), so of several that try
one gets it, and an owner that was taken for dead notices it before it publishes.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import OutputConflict, PipelineError, Unreachable
from pipeline.system.files import write_text
from pipeline.system.objects import Address, Bucket, Content

BEAT_S, DEAD_S = 60.0, 300.0


class Lease:
    """The lock of one address, held by this run."""

    def __init__(self, bucket: Bucket, address: Address, token: str) -> None:
        self._bucket, self._address = bucket, address
        self._data = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "token": token}).encode()
        self._token = token
        self._etag: str | None = None
        self._one = threading.Lock()

    def take(self) -> None:
        """Get the lock.

        Raises:
            OutputConflict: a living run holds it (says which), or the server cannot keep two from it.
        """
        key = self._address.key
        self._etag = self._bucket.write_over(key, self._data, None)
        if self._etag is not None and self._bucket.write_over(key, self._data + b" ", None) is not None:
            self._bucket.remove(key)
            raise OutputConflict(
                f"{self._address}: this server ignores conditions of writes (If-None-Match), so two runs could "
                "write the same results; choose an output.directory elsewhere"
            )
        if self._etag is None and (found := self._bucket.read(key)) is not None:
            if _owner(found).get("token") == self._token or found.age_s > DEAD_S:
                self._etag = self._bucket.write_over(key, self._data, found.etag)
            else:
                raise OutputConflict(self._refusal(found))
        if self._etag is None:
            raise OutputConflict(f"{self._address}: another run has just begun or ended here; run again")

    def renew(self) -> None:
        """Show that this run lives, and that the lock is still its own.

        Raises:
            OutputConflict: another run has taken it for dead.
        """
        with self._one:
            etag = self._bucket.write_over(self._address.key, self._data, self._etag)
            if etag is None:
                raise OutputConflict(
                    f"{self._address}: another run has taken the place of this one, which gave no sign of life for "
                    f"{DEAD_S:.0f} s; nothing was published. Wait for the other, then run again"
                )
            self._etag = etag

    def release(self) -> None:
        """Give the lock back if it is still held; one that cannot be removed now is taken over later."""
        with suppress(PipelineError):
            found = self._bucket.read(self._address.key)
            if found is not None and _owner(found).get("token") == self._token:
                self._bucket.remove(self._address.key)

    def _refusal(self, found: Content) -> str:
        owner = _owner(found)
        who = f"process {owner['pid']} on {owner.get('host')}" if "pid" in owner else "another process"
        return (
            f"{self._address}: in use by {who}, whose last sign of life is {max(0.0, found.age_s):.0f} s old (it is "
            f"taken for dead after {DEAD_S:.0f} s); wait for it, end it, or choose another output.directory"
        )


@contextmanager
def leased(bucket: Bucket, address: Address, note: Path) -> Iterator[Lease]:
    """Hold the lock of an address for the duration of the block.

    Args:
        bucket: where it lies.
        address: of the lock.
        note: file of this run alone, which tells a run that goes on that a lock was its own before it was killed.

    Raises:
        OutputConflict: another living run holds it (the message says which).
    """
    lease = Lease(bucket, address, _token(note))
    lease.take()
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_S):
            # a server that does not answer is asked again; a lock that was lost is found before anything is published
            with suppress(PipelineError):
                lease.renew()

    beating = threading.Thread(target=beat, name="lease", daemon=True)
    beating.start()
    answers = True
    try:
        yield lease
    except Unreachable:
        answers = False
        raise
    finally:
        ended.set()
        # it may hang at a server that does not answer
        beating.join(timeout=1.0)
        if answers:
            lease.release()


def _token(note: Path) -> str:
    with suppress(OSError, ValueError):
        if known := note.read_text().strip():
            return known
    token = uuid.uuid4().hex
    write_text(note, token + "\n")
    return token


def _owner(found: Content) -> dict[str, object]:
    try:
        owner = json.loads(found.data)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}
