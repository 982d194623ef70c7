"""Parse the URL of a served model, and read the certificates for TLS."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from posecascade.errors import InputError
from posecascade.files import read_bytes

PORTS = {"grpc": 8500, "grpcs": 443, "http": 80, "https": 443}  # defaults by scheme
FORMS = "grpc://HOST:8500/MODEL or http://HOST:8501/v1/models/MODEL (with TLS: grpcs, https), followed by " \
        "/versions/N or /labels/LABEL for a version other than the newest"
_MODEL = r"(?P<model>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PATHS = {"grpc": re.compile(rf"/{_MODEL}/?"), "http": re.compile(rf"(?P<prefix>.*)/v1/models/{_MODEL}(?::predict|/)?")}


@dataclass(frozen=True)
class Address:
    """The address of a served model.

    Attributes:
        scheme: one of PORTS.
        host, port: of the server, or of a proxy in front of it.
        model: the model's name on the server.
        version, label: the requested version; at most one is not None. Both None for the newest version.
        prefix: part of a REST path before /v1; empty or begins with a slash.
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
        """Whether the connection uses TLS."""
        return self.scheme in ("grpcs", "https")

    @property
    def server(self) -> str:
        """HOST:PORT."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def address_of(url: str) -> Address:
    """Parse a URL of one of FORMS; raise InputError for others."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"URL {url!r}: is malformed ({error}); expected {FORMS}") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise InputError(f"URL {url!r}: expected {FORMS}")
    if parts.query or parts.fragment or parts.username is not None:
        raise InputError(f"URL {url!r}: has a query, a fragment or a user; expected {FORMS}")
    match = _PATHS[parts.scheme.rstrip("s")].fullmatch(parts.path)
    if not match:
        raise InputError(f"URL {url!r}: its path contains no model; expected {FORMS}")
    version, label = match["version"], match["label"]
    return Address(parts.scheme, parts.hostname, port or PORTS[parts.scheme], unquote(match["model"]),
                   int(version) if version else None, unquote(label) if label else None,
                   match.groupdict().get("prefix") or "")


@dataclass(frozen=True)
class Tls:
    """PEM files for grpcs:// and https://.

    Attributes:
        ca: CA certificates to verify the server's certificate; None for those that the system trusts (over gRPC: those
            that gRPC brings).
        certificate, key: the client's certificate and private key, if the server requires them; both or none.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InputError("a client certificate needs its key, and a key its certificate; pass both or none")
        for name in ("ca", "certificate", "key"):
            self.read(name)

    def read(self, name: str) -> bytes | None:
        """Return the bytes of one of the files, None if it is None; raise InputError if it cannot be read."""
        path: Path | None = getattr(self, name)
        return None if path is None else read_bytes(path, name)
