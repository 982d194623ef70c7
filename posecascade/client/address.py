"""Where a served model is: the URL that users give, in parts, and the certificates that go with it."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from posecascade.errors import InputError
from posecascade.files import read_bytes

PORTS = {"grpc": 8500, "grpcs": 443, "http": 80, "https": 443}  # where the URL names none
FORMS = "grpc://HOST:8500/MODEL or http://HOST:8501/v1/models/MODEL (grpcs, https: with TLS), and /versions/N or " \
        "/labels/LABEL behind it where not the newest version is meant"
_MODEL = r"(?P<model>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PATHS = {"grpc": re.compile(rf"/{_MODEL}/?"), "http": re.compile(rf"(?P<prefix>.*)/v1/models/{_MODEL}(?::predict|/)?")}


@dataclass(frozen=True)
class Address:
    """A served model.

    Attributes:
        scheme: one of PORTS.
        host, port: of the server, or of the proxy before it.
        model: its name.
        version, label: which of its versions; at most one is not None, and without both the newest is meant.
        prefix: of a REST path, before /v1; "" or begins with a slash.
    """

    scheme: str
    host: str
    port: int
    model: str
    version: int | None = None
    label: str | None = None
    prefix: str = ""

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme in ("grpcs", "https")

    @property
    def server(self) -> str:
        """HOST:PORT."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def address_of(url: str) -> Address:
    """The address in a URL of one of FORMS; InputError for others."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"URL {url!r}: is none ({error}); give {FORMS}") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise InputError(f"URL {url!r}: expected {FORMS}")
    if parts.query or parts.fragment or parts.username is not None:
        raise InputError(f"URL {url!r}: a query, a fragment or a user has no place here; give {FORMS}")
    found = _PATHS[parts.scheme.rstrip("s")].fullmatch(parts.path)
    if not found:
        raise InputError(f"URL {url!r}: its path names no model; give {FORMS}")
    version, label = found["version"], found["label"]
    return Address(parts.scheme, parts.hostname, port or PORTS[parts.scheme], unquote(found["model"]),
                   int(version) if version else None, unquote(label) if label else None,
                   found.groupdict().get("prefix") or "")


@dataclass(frozen=True)
class Tls:
    """Files in PEM for grpcs:// and https://.

    Attributes:
        ca: authorities by whom the server's certificate is signed; None: those that the system trusts (gRPC: those it
            brings).
        certificate, key: the client's own, where the server asks for one; both or none.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InputError("a client's certificate and its key go together; give both or none")
        for name in ("ca", "certificate", "key"):
            self.read(name)

    def read(self, name: str) -> bytes | None:
        """The bytes of one of the files; InputError where it cannot be read."""
        path: Path | None = getattr(self, name)
        return None if path is None else read_bytes(path, name)
