"""Objects of a store that speaks S3: their addresses and what is done with them. Nothing else knows the library.

Endpoint, region and credentials are found where every S3 tool looks for them (`AWS_...` in the environment, the profile
in `~/.aws`, the role of the machine); this program reads none of them itself, so none can reach a file or a message.

API: https://docs.aws.amazon.com/AmazonS3/latest/API/
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, PipelineError, Unreachable
from pipeline.system.files import replacing
from pipeline.system.paths import shortened
from pipeline.system.redact import redacted
from pipeline.system.signals import stop_if_asked

ATTEMPTS, CONNECT_S, ANSWER_S = 6, 10.0, 60.0
"""Of a request, with pauses that grow up to 20 s; seconds until a server takes it, and between two of its bytes."""
PARALLEL = 8
"""Objects on the way at a time; a large one is sent in several parts at a time."""

_SCHEME = "s3://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_PART = 16 * 2**20
_PASSING = {"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "InternalError", "ServiceUnavailable", "Throttling"}
_MISSING = {"404", "NoSuchKey", "NotFound"}
_ELSEWHERE = {"301", "307", "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}


def is_object(text: str) -> bool:
    """Return True for an address of object storage."""
    return text.startswith(_SCHEME)


@dataclass(frozen=True, slots=True)
class Address:
    """A place in a bucket; the key has no slash at its ends."""

    bucket: str
    key: str

    @classmethod
    def of(cls, text: str, where: str) -> Address:
        """Read `s3://bucket/key`.

        Raises:
            ConfigError: it is something else, or says more than that; names `where`.
        """
        bucket, _, key = text.removeprefix(_SCHEME).partition("/")
        sound = _BUCKET.fullmatch(bucket) and "?" not in key and key.isprintable()
        if not is_object(text) or not sound or {".", ".."} & set(key.split("/")):
            raise ConfigError(
                f"{where}: '{shortened(redacted(text))}' is no address of object storage; write s3://bucket/name, "
                "without user or query: credentials come from the environment (AWS_PROFILE and its kin)"
            )
        return cls(bucket, key.strip("/"))

    def __truediv__(self, name: str) -> Address:
        """Return what lies below."""
        return Address(self.bucket, f"{self.key}/{name}".lstrip("/"))

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"{_SCHEME}{self.bucket}/{self.key}".rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An object that is there: bytes, and the server's mark of its content."""

    size: int
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A small object, read: its bytes, the server's mark of them, and by the server's clock how old they are."""

    data: bytes
    etag: str
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """The objects of one bucket, for any number of threads.

    Every method raises `Unreachable` (75) if the server does not answer after several attempts, and `refusal` if it
    refuses: no such bucket, no permission, no credentials.
    """

    name: str
    where: str
    """What named the bucket, for messages: a key of the config, or the address of an image."""
    refusal: type[PipelineError]

    def listed(self, prefix: str) -> dict[str, Found]:
        """Return the objects whose keys begin with `prefix`, by key."""
        with self._asking(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
            items = [item for page in pages for item in page.get("Contents", ())]
        return {item["Key"]: Found(size=item["Size"], etag=item["ETag"]) for item in items}

    def read(self, key: str) -> Content | None:
        """Return a small object, None if there is none."""
        with self._asking(key):
            try:
                answer = self._client.get_object(Bucket=self.name, Key=key)
            except self._client.exceptions.NoSuchKey:
                return None
            now = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
            age = _seconds_between(answer["LastModified"], now)
            return Content(data=answer["Body"].read(), etag=answer["ETag"], age_s=age)

    def write(self, key: str, data: bytes) -> None:
        """Write a small object, whatever is there."""
        with self._asking(key):
            self._client.put_object(Bucket=self.name, Key=key, Body=data)

    def write_over(self, key: str, data: bytes, etag: str | None) -> str | None:
        """Write a small object only if that of this mark is there (None: if there is none).

        Returns:
            its mark; None if something else is there, and nothing was written.
        """
        only = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        with self._asking(key):
            try:
                return str(self._client.put_object(Bucket=self.name, Key=key, Body=data, **only)["ETag"])
            except self._client.exceptions.ClientError as error:
                # 409: another conditional write at the same moment
                if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (404, 409, 412) or _no_bucket(error):
                    raise
        found = self.read(key)
        # the answer to an earlier attempt of this very request may have been lost on its way
        return found.etag if found is not None and found.data == data else None

    def upload(self, path: Path, key: str) -> None:
        """Send a file; the object of that name is replaced in one step when all of it has arrived."""
        with self._asking(key), path.open("rb") as file:
            self._client.upload_fileobj(file, self.name, key, Config=self._parts, Callback=_stops())

    def download(self, key: str, path: Path) -> None:
        """Fetch an object; the file appears whole or not at all. Its folder exists."""
        with replacing(path, shared=True) as partial, self._asking(key):
            self._client.download_file(self.name, key, str(partial), Config=self._parts, Callback=_stops())

    def facts(self, key: str) -> dict[str, Any]:
        """Read an object through and return its `bytes` and `sha256`, as `file_facts` does of a file."""
        digest, count = hashlib.sha256(), 0
        with self._asking(key):
            for piece in self._client.get_object(Bucket=self.name, Key=key)["Body"].iter_chunks(2**20):
                stop_if_asked()
                digest.update(piece)
                count += len(piece)
        return {"bytes": count, "sha256": digest.hexdigest()}

    def copy(self, key: str, to: str) -> None:
        """Let the server copy an object to another name."""
        stop_if_asked()
        with self._asking(key):
            self._client.copy({"Bucket": self.name, "Key": key}, self.name, to, Config=self._parts)

    def remove(self, key: str) -> None:
        """Remove an object; gone already is fine."""
        with self._asking(key):
            self._client.delete_object(Bucket=self.name, Key=key)

    @property
    def _client(self) -> Any:
        with self._asking(""):
            return _client({name: value for name, value in os.environ.items() if name.startswith("AWS_")})

    @property
    def _parts(self) -> Any:
        from boto3.s3.transfer import TransferConfig

        return TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART, max_concurrency=4)

    @contextmanager
    def _asking(self, key: str) -> Iterator[None]:
        try:
            from boto3.exceptions import Boto3Error
            from botocore import exceptions as known
        except ImportError:
            raise ConfigError(f"{self.where}: {_SCHEME} needs boto3: pip install 'inpaint-pipeline[s3]'") from None
        address = Address(self.name, key)
        said = f"{self.where}: {address}" if str(address) != self.where else self.where
        try:
            yield
        except PipelineError:
            raise
        except known.ClientError as error:
            raise self._refused(error, said) from None
        except (
            known.NoCredentialsError,
            known.PartialCredentialsError,
            known.CredentialRetrievalError,
            known.ProfileNotFound,
            known.TokenRetrievalError,
            known.UnauthorizedSSOTokenError,
        ) as error:
            raise self.refusal(
                f"{said}: no credentials ({type(error).__name__}); set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY (AWS_NO_SIGN_REQUEST=YES for what everybody may read)"
            ) from None
        except (known.ParamValidationError, ValueError) as error:
            raise self.refusal(
                f"{said}: cannot be asked for ({redacted(str(error))}); check address and AWS_..."
            ) from None
        except (known.BotoCoreError, Boto3Error) as error:
            raise Unreachable(
                f"{said}: the server does not answer ({redacted(str(error))}), tried {ATTEMPTS} times; what was done "
                "is kept: run again when it does (AWS_ENDPOINT_URL says which server it is)"
            ) from None

    def _refused(self, error: Any, said: str) -> PipelineError:
        """Return what an answer of the server means."""
        code = str(error.response.get("Error", {}).get("Code", "no code"))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= 500 or status == 429 or code in _PASSING:
            return Unreachable(
                f"{said}: the server cannot answer now ({code}), tried {ATTEMPTS} times; what was done is kept: run "
                "again later"
            )
        if _no_bucket(error):
            return self.refusal(f"{said}: there is no bucket '{self.name}'; create it, or correct the address")
        if code in _MISSING:
            return self.refusal(f"{said}: no such object; check the address")
        if code in _ELSEWHERE:
            return self.refusal(f"{said}: the bucket is in another region ({code}); set AWS_DEFAULT_REGION to it")
        return self.refusal(
            f"{said}: refused ({code}); whoever AWS_PROFILE or AWS_ACCESS_KEY_ID stands for needs s3:ListBucket and "
            "s3:GetObject for images, and s3:PutObject and s3:DeleteObject for results"
        )


_clients: list[tuple[Mapping[str, str], Any]] = []


def _client(environment: Mapping[str, str]) -> Any:
    """Return a client for any number of threads; one is kept, as making it takes a third of a second."""
    for known, client in _clients:
        if known == environment:
            return client
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    settings: dict[str, Any] = {
        "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
        "connect_timeout": CONNECT_S,
        "read_timeout": ANSWER_S,
        "max_pool_connections": 4 * PARALLEL,
    }
    if environment.get("AWS_NO_SIGN_REQUEST", "").upper() in ("YES", "TRUE", "1"):
        settings["signature_version"] = UNSIGNED
    if environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL"):
        # servers of one's own seldom have a host name for every bucket
        settings["s3"] = {"addressing_style": "path"}
    client = boto3.session.Session().client("s3", config=Config(**settings))
    _clients[:] = [(dict(environment), client)]
    return client


def _no_bucket(error: Any) -> bool:
    return str(error.response.get("Error", {}).get("Code")) == "NoSuchBucket"


def _seconds_between(then: datetime, now: str | None) -> float:
    """Return the seconds since `then` by the `Date` of an answer: the clocks of two machines may differ."""
    return 0.0 if now is None else (parsedate_to_datetime(now) - then).total_seconds()


def _stops() -> Any:
    """Return what a transfer calls from its own threads, and what ends it if the run is to stop."""
    context = copy_context()
    return lambda _: context.copy().run(stop_if_asked)
