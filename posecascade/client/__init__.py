"""A client of a served model: pictures in, poses out, over gRPC or REST.

    from posecascade.client import connect

    with connect("grpc://localhost:8500/posecascade") as client:
        for pose in client.predict(["photo.jpg", "other.png"]):
            print(pose.names, pose.keypoints)

No TensorFlow and no Keras are loaded. What the model's joints are called the server tells (signature `model_card`).
"""

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from posecascade import images
from posecascade.client.address import Tls, address_of
from posecascade.client.over_grpc import GrpcTransport, Reply
from posecascade.client.over_rest import RestTransport
from posecascade.client.retrying import TOO_LARGE, ServerError, with_retries
from posecascade.errors import InputError
from posecascade.files import read_bytes
from posecascade.geometry import Box
from posecascade.poses import Pose
from posecascade.poses_io import box_from
from posecascade.schema import Schema, schema_from

__all__ = ["Client", "Pose", "ServerError", "connect"]

BYTES_AT_ONCE = 2 ** 24  # of pictures in a request, unless one alone has more
_SENT_IDENTITY = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # how the files begin that the server decodes
_SHAPES = {"keypoints": (2,), "scores": (), "visibility": ()}  # of a joint

Image = np.ndarray | bytes | str | Path
Given = Box | Sequence[float] | None


class _Sent(NamedTuple):
    """A picture on its way: its place among those asked for, its name, its file's bytes and its box."""

    place: int
    name: str
    data: bytes
    box: Box | None


class Client:
    """A served model; several threads may use it at once. `connect` makes one.

    Attributes:
        url: as given.
        timeout: seconds in which a request is answered, all its tries together.
        batch_size: pictures in a request, at most.
        parallel: requests on their way at once.
    """

    def __init__(self, url: str, transport: GrpcTransport | RestTransport, timeout: float, batch_size: int,
                 parallel: int):
        """`transport` tries once what is tried again here."""
        self.url, self.timeout, self.batch_size, self.parallel = url, timeout, batch_size, parallel
        self._transport, self._rng = transport, np.random.default_rng(secrets.randbits(64))
        self._workers = ThreadPoolExecutor(parallel, thread_name_prefix="posecascade-client")
        self._schemas: dict[int | None, Schema] = {}  # by version; over REST the answer does not tell its own

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for requests on their way and close the connections."""
        self._workers.shutdown(cancel_futures=True)
        self._transport.close()

    def predict(self, images: Sequence[Image], boxes: Sequence[Given] | None = None) -> list[Pose]:
        """The pose in each picture, in its own upright pixels.

        Args:
            images: paths (JPEG and PNG files are sent as they are), files' bytes, or arrays as
                `images.from_array` takes.
            boxes: x, y, w, h tight round the person, one each, or None where the person is to be looked for.
        Raises:
            InputError: the first picture that cannot be read or decoded; ServerError where the server fails.
        """
        if boxes is not None and len(boxes) != len(images):
            raise InputError(f"predict: got {len(images)} images and {len(boxes)} boxes, expected one each")
        poses: list[Pose] = []
        for answer in list(self.each(zip(images, boxes or [None] * len(images), strict=True))):
            if isinstance(answer, InputError):
                raise answer
            poses.append(answer)
        return poses

    def each(self, people: Iterable[tuple[Image, Given]]) -> Iterator[Pose | InputError]:
        """Of each (picture, box or None) its pose, or what is wrong with it, in the order asked.

        Pictures are taken from `people` as they are needed. Raises ServerError where the server fails.
        """
        people = iter(people)
        while window := list(islice(people, self.batch_size * self.parallel)):
            found: dict[int, Pose | InputError] = {}
            sent: list[_Sent] = []
            for place, (image, box) in enumerate(window):
                try:
                    sent.append(_Sent(place, *_file(image, place), box_from(box)))
                except InputError as error:
                    found[place] = error
            for answers in self._workers.map(self._ask, _chunks(sent, self.batch_size)):
                found |= answers
            yield from (found[place] for place in range(len(window)))

    def status(self) -> dict[int, str]:
        """The state of each version that the server has of the model, "AVAILABLE" where it answers."""
        return with_retries(self._transport.status, self.timeout, self._rng)

    def card(self) -> dict[str, Any]:
        """What posecascade-export told of the model: schema, sizes, recipe, results and license."""
        card: dict[str, Any] = self._card()[0]
        return card

    @property
    def schema(self) -> Schema:
        """The model's joints."""
        schema = self._joints(None)
        if schema is None:
            raise ServerError(f"{self.url}: no version answers", "INTERNAL")
        return schema

    def _card(self) -> tuple[Any, int | None]:
        reply = self._reply("model_card", {"query": np.array([b""], object)})
        try:
            return json.loads(reply.outputs["card"][0]), reply.version
        except (KeyError, IndexError, ValueError, TypeError):
            raise ServerError(f"{self.url}: its model_card is none; export the model again", "INTERNAL") from None

    def _joints(self, version: int | None) -> Schema | None:
        """The joints of a version, of None whichever answers; None where another became the newest meanwhile."""
        if version not in self._schemas:
            card, answering = self._card()
            if answering != version and answering in self._schemas:
                raise ServerError(f"{self.url}: versions {version} and {answering} answer by turns; name one in the "
                                  "URL", "ABORTED")
            model = card.get("model") if isinstance(card, dict) else None
            schema = schema_from(model.get("schema") if isinstance(model, dict) else None, f"{self.url}: model card")
            self._schemas[answering] = schema
            self._schemas.setdefault(None, schema)
        return self._schemas.get(version)

    def _reply(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Reply:
        return with_retries(lambda left: self._transport.predict(signature, inputs, left), self.timeout, self._rng)

    def _ask(self, sent: Sequence[_Sent]) -> dict[int, Pose | InputError]:
        """The answers to one request, by place; halved where it is too large for the server."""
        inputs = {"image_bytes": np.array([*(picture.data for picture in sent), None], object)[:-1]}
        if sent[0].box:
            inputs["boxes"] = np.array([picture.box.as_list() for picture in sent if picture.box], np.float32)
        try:
            reply = self._reply("with_boxes" if sent[0].box else "serving_default", inputs)
        except ServerError as error:
            if error.code != TOO_LARGE:
                raise
            if len(sent) == 1:
                told = InputError(f"image {sent[0].name}: {error}; shrink it, or raise the limit there")
                return {sent[0].place: told}
            middle = len(sent) // 2
            return self._ask(sent[:middle]) | self._ask(sent[middle:])
        schema = self._joints(reply.version)
        if not schema:
            return self._ask(sent)
        self._check(reply.outputs, len(sent), schema)
        return {picture.place: _pose(picture, {name: values[row] for name, values in reply.outputs.items()}, schema)
                for row, picture in enumerate(sent)}

    def _check(self, outputs: Mapping[str, np.ndarray], rows: int, schema: Schema) -> None:
        expected = {name: (rows, schema.size, *rest) for name, rest in _SHAPES.items()} | {"box": (rows, 4)}
        for name, shape in expected.items():
            found = outputs[name].shape if name in outputs else "nothing"
            if found != shape:
                raise ServerError(f"{self.url}: answers {name!r} of shape {found}, expected {shape}; is this the model "
                                  "whose card it gave? Connect again, or name the version in the URL", "INTERNAL")


def connect(url: str, *, timeout: float = 30.0, batch_size: int = 8, parallel: int = 2, ca: str | Path | None = None,
            certificate: str | Path | None = None, key: str | Path | None = None,
            headers: Mapping[str, str] | None = None) -> Client:
    """The client of a served model; nothing is sent yet.

    Args:
        url: grpc://HOST:8500/MODEL or http://HOST:8501/v1/models/MODEL; grpcs and https speak TLS. Behind it may
            stand /versions/N or /labels/LABEL.
        timeout: seconds in which a request is answered. What may be otherwise a moment later (the server is not
            there, or has too much to do) is tried again within them.
        batch_size: pictures in a request; no more than the server's max_batch_size, or they are sent twice.
        parallel: requests on their way at once.
        ca: authorities that sign the server's certificate, in PEM; None: the usual ones. Over https, Python 3.13 and
            later refuse an authority whose certificate lacks the extension keyUsage (with keyCertSign).
        certificate: the client's own certificate, in PEM, if the server asks for one.
        key: the key of `certificate`, in PEM.
        headers: sent with every request, for a proxy before the server ("Authorization", "Host").
    Raises:
        InputError: the URL is none of these, a number is not positive, a file cannot be read, or a package is missing.
    """
    address = address_of(url)
    for name, value in (("timeout", timeout), ("batch_size", batch_size), ("parallel", parallel)):
        if not value > 0:
            raise InputError(f"{name} is {value!r}, expected more than 0")
    tls = Tls(*(Path(path) if path else None for path in (ca, certificate, key)))
    if (ca or certificate) and not address.secure:
        raise InputError(f"URL {url!r}: certificates are for grpcs:// and https://")
    transport = GrpcTransport if address.scheme.startswith("grpc") else RestTransport
    return Client(url, transport(address, tls, headers or {}), timeout, batch_size, parallel)


def _file(image: Image, place: int) -> tuple[str, bytes]:
    """A name for messages, and the bytes of a file that the server decodes."""
    if isinstance(image, (str, Path)):
        name = str(image)
        data = read_bytes(Path(image), "image")
    elif isinstance(image, bytes):
        name, data = f"number {place}", image
    else:
        return f"number {place}", images.png(images.from_array(image))
    if data.startswith(_SENT_IDENTITY):
        return name, data
    return name, images.png(images.decode(data, name, upright=True))


def _chunks(sent: Iterable[_Sent], batch_size: int) -> Iterator[list[_Sent]]:
    """What goes in one request each: all with boxes or all without, no more than `batch_size`, nor BYTES_AT_ONCE."""
    kinds: dict[bool, list[_Sent]] = {True: [], False: []}
    for picture in sent:
        chunk = kinds[picture.box is not None]
        if chunk and (len(chunk) == batch_size or sum(len(p.data) for p in chunk) + len(picture.data) > BYTES_AT_ONCE):
            yield chunk
            chunk = kinds[picture.box is not None] = []
        chunk.append(picture)
    yield from (chunk for chunk in kinds.values() if chunk)


def _pose(sent: _Sent, row: Mapping[str, np.ndarray], schema: Schema) -> Pose | InputError:
    """The pose that a row of the answer tells; a row of 0 is a picture that could not be decoded."""
    if not row["box"].any():
        return InputError(f"image {sent.name}: the server cannot decode it, or it has more pixels than it takes; save "
                          "it again as JPEG or PNG, or shrink it")
    keypoints = row["keypoints"].astype(np.float64)
    box = sent.box or Box(*map(float, row["box"]))
    return Pose(keypoints, row["scores"], row["visibility"], schema, box, {"keypoints": keypoints})
