"""Client of a served model: send images over gRPC or REST, receive poses.

    from posecascade.client import connect

    with connect("grpc://localhost:8500/posecascade") as client:
        for pose in client.predict(["photo.jpg", "other.png"]):
            print(pose.names, pose.keypoints)

Neither TensorFlow nor Keras is imported. The names of the keypoints come from the server (signature `model_card`).
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
from posecascade.errors import InputError, first_line
from posecascade.files import read_bytes
from posecascade.geometry import Box
from posecascade.poses import Pose
from posecascade.poses_io import box_from
from posecascade.schema import Schema, schema_from

__all__ = ["Client", "Pose", "ServerError", "connect"]

MAX_REQUEST_BYTES = 2 ** 24  # of the images in a request; a single larger image is still sent
MAX_TRIES = 3  # of a request whose answer is of a version whose keypoints are unknown
_JPEG_OR_PNG = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # first bytes of the files that the server decodes
_SHAPES = {"keypoints": (2,), "scores": (), "visibility": ()}  # shape of each output per keypoint

Image = np.ndarray | bytes | str | Path
Given = Box | Sequence[float] | None


class _Sent(NamedTuple):
    """An image to send: its position among the requested ones, its name, its file's bytes and its box."""

    position: int
    name: str
    data: bytes
    box: Box | None


class Client:
    """A served model, created by `connect`. It is thread-safe.

    Attributes:
        url: as passed to `connect`.
        timeout: seconds within which each request must be answered, including retries.
        batch_size: maximum number of images in a request.
        parallel: number of requests sent in parallel.
    """

    def __init__(self, url: str, transport: GrpcTransport | RestTransport, timeout: float, batch_size: int,
                 parallel: int):
        """`transport` sends each request once; retries are made here."""
        self.url, self.timeout, self.batch_size, self.parallel = url, timeout, batch_size, parallel
        self._transport, self._rng = transport, np.random.default_rng(secrets.randbits(64))
        self._workers = ThreadPoolExecutor(parallel, thread_name_prefix="posecascade-client")
        self._schemas: dict[int | None, Schema] = {}  # by version; REST answers do not contain it, hence None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for requests that were sent, and close the connections."""
        self._workers.shutdown(cancel_futures=True)
        self._transport.close()

    def predict(self, images: Sequence[Image], boxes: Sequence[Given] | None = None) -> list[Pose]:
        """Return the pose in each image, in pixels of the upright image.

        Args:
            images: paths (JPEG and PNG files are sent unchanged), the bytes of files, or arrays that
                `images.from_array` accepts.
            boxes: one box per image, x, y, w, h tight around the person, or None to search for the person.
        Raises:
            InputError: an image cannot be read or decoded.
            ServerError: the server failed.
        """
        if boxes is not None and len(boxes) != len(images):
            raise InputError(f"predict: got {len(images)} images and {len(boxes)} boxes; expected one box per image. "
                             "Pass None for an unknown box")
        poses: list[Pose] = []
        for answer in list(self.each(zip(images, boxes or [None] * len(images), strict=True))):
            if isinstance(answer, InputError):
                raise answer
            poses.append(answer)
        return poses

    def each(self, people: Iterable[tuple[Image, Given]]) -> Iterator[Pose | InputError]:
        """Yield the pose of each (image, box or None), or an InputError if the image is unreadable, in order.

        `people` is consumed as requests are sent. Raises ServerError if the server fails.
        """
        people = iter(people)
        while window := list(islice(people, self.batch_size * self.parallel)):
            results: dict[int, Pose | InputError] = {}
            sent: list[_Sent] = []
            for position, (image, box) in enumerate(window):
                try:
                    sent.append(_Sent(position, *_file(image, position), box_from(box)))
                except InputError as error:
                    results[position] = error
            for answers in self._workers.map(self._ask, _chunks(sent, self.batch_size)):
                results |= answers
            yield from (results[position] for position in range(len(window)))

    def status(self) -> dict[int, str]:
        """Return the state of each version of the model on the server; "AVAILABLE" if it answers requests."""
        return with_retries(self._transport.status, self.timeout, self._rng)

    def card(self) -> dict[str, Any]:
        """Return the metadata that posecascade-export wrote: schema, sizes, recipe, results and license."""
        card: dict[str, Any] = self._card()[0]
        return card

    @property
    def schema(self) -> Schema:
        """The model's keypoints."""
        schema = self._schema_of(None)
        if schema is None:
            raise ServerError(f"{self.url}: no version answers", "INTERNAL")
        return schema

    def _card(self) -> tuple[Any, int | None]:
        reply = self._reply("model_card", {"query": np.array([b""], object)})
        try:
            return json.loads(reply.outputs["card"][0]), reply.version
        except (KeyError, IndexError, ValueError, TypeError, RecursionError):
            raise ServerError(f"{self.url}: the signature model_card returns no JSON metadata; export the model again",
                              "INTERNAL") from None

    def _schema_of(self, version: int | None) -> Schema | None:
        """Return the schema of a version (None: of the answering one); None if another version answers by now."""
        if version not in self._schemas:
            card, answering = self._card()
            if answering != version and answering in self._schemas:
                raise ServerError(f"{self.url}: versions {version} and {answering} answer alternately; add /versions/N "
                                  "to the URL", "ABORTED")
            model = card.get("model") if isinstance(card, dict) else None
            schema = schema_from(model.get("schema") if isinstance(model, dict) else None, f"{self.url}: model card")
            self._schemas[answering] = schema
            self._schemas.setdefault(None, schema)
        return self._schemas.get(version)

    def _reply(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Reply:
        return with_retries(lambda left: self._transport.predict(signature, inputs, left), self.timeout, self._rng)

    def _ask(self, sent: Sequence[_Sent], tries: int = 1) -> dict[int, Pose | InputError]:
        """Send one request and return the answers by position; if it is too large for the server, send it in halves."""
        inputs = {"image_bytes": np.array([*(image.data for image in sent), None], object)[:-1]}
        if sent[0].box:
            inputs["boxes"] = np.array([image.box.as_list() for image in sent if image.box], np.float32)
        try:
            reply = self._reply("with_boxes" if sent[0].box else "serving_default", inputs)
        except ServerError as error:
            if error.code != TOO_LARGE:
                raise
            if len(sent) == 1:
                return {sent[0].position: InputError(f"image {sent[0].name}: {error}; shrink it, or raise the server's "
                                                  "limit")}
            middle = len(sent) // 2
            return self._ask(sent[:middle]) | self._ask(sent[middle:])
        schema = self._schema_of(reply.version)
        if not schema:
            if tries == MAX_TRIES:
                raise ServerError(f"{self.url}: another version answers each time, version {reply.version} last; add "
                                  "/versions/N to the URL", "ABORTED")
            return self._ask(sent, tries + 1)
        self._check(reply.outputs, len(sent), schema)
        return {image.position: self._pose(image, {name: reply.outputs[name][row] for name in (*_SHAPES, "box")},
                                           schema) for row, image in enumerate(sent)}

    def _check(self, outputs: Mapping[str, np.ndarray], rows: int, schema: Schema) -> None:
        expected = {name: (rows, schema.size, *rest) for name, rest in _SHAPES.items()} | {"box": (rows, 4)}
        for name, shape in expected.items():
            returned = outputs[name].shape if name in outputs else "nothing"
            if returned != shape:
                raise ServerError(f"{self.url}: output {name!r} has shape {first_line(returned)}; expected {shape}. "
                                  "The served model may have changed: connect again, or add /versions/N to the URL",
                                  "INTERNAL")
            if outputs[name].dtype == object or not np.isfinite(outputs[name]).all():
                raise ServerError(f"{self.url}: output {name!r} has values that are no finite numbers; check the "
                                  "served model", "INTERNAL")

    def _pose(self, sent: _Sent, row: Mapping[str, np.ndarray], schema: Schema) -> Pose | InputError:
        """Return the pose in a row of the answer, or an InputError for a box of zeros: the image was not decoded."""
        if not row["box"].any():
            return InputError(f"image {sent.name}: the server cannot decode it, or it has too many pixels; save it "
                              "again as JPEG or PNG, or shrink it")
        keypoints = row["keypoints"].astype(np.float64)
        try:
            box = sent.box or Box(*map(float, row["box"]))
        except ValueError as error:
            raise ServerError(f"{self.url}: output 'box': {error}; check the served model", "INTERNAL") from None
        return Pose(keypoints, row["scores"], row["visibility"], schema, box, {"keypoints": keypoints})


def connect(url: str, *, timeout: float = 30.0, batch_size: int = 8, parallel: int = 2, ca: str | Path | None = None,
            certificate: str | Path | None = None, key: str | Path | None = None,
            headers: Mapping[str, str] | None = None) -> Client:
    """Return the client of a served model, without sending anything yet.

    Args:
        url: grpc://HOST:8500/MODEL or http://HOST:8501/v1/models/MODEL, or with TLS grpcs:// or https://; append
            /versions/N or /labels/LABEL for a version other than the newest.
        timeout: seconds within which each request must be answered. Failures that may be temporary (the server is
            unreachable or overloaded) are retried within this time.
        batch_size: maximum number of images in a request. Keep it within the server's max_batch_size: a larger request
            is sent again in halves.
        parallel: number of requests sent in parallel.
        ca: PEM file with the CA certificates to verify the server's certificate; None for the default ones. Python
            3.13 and newer require the CA certificate to have the keyUsage extension (with keyCertSign; https only).
        certificate: PEM file with the client's certificate, if the server requires one.
        key: PEM file with the private key of `certificate`.
        headers: sent with every request, for a proxy ("Authorization", "Host").
    Raises:
        InputError: the URL is malformed, a number is not positive, a file cannot be read, or a package is missing.
    """
    address = address_of(url)
    for name, value in (("timeout", timeout), ("batch_size", batch_size), ("parallel", parallel)):
        if not value > 0:
            raise InputError(f"{name} is {value!r}; expected a number above 0")
    tls = Tls(*(Path(path) if path else None for path in (ca, certificate, key)))
    if (ca or certificate) and not address.secure:
        raise InputError(f"URL {url!r}: certificates need TLS; use grpcs:// or https://, or remove them")
    transport = GrpcTransport if address.scheme.startswith("grpc") else RestTransport
    return Client(url, transport(address, tls, headers or {}), timeout, batch_size, parallel)


def _file(image: Image, index: int) -> tuple[str, bytes]:
    """Return a name for messages, and the image as the bytes of a JPEG or PNG file."""
    if isinstance(image, (str, Path)):
        name = str(image)
        data = read_bytes(Path(image), "image")
    elif isinstance(image, bytes):
        name, data = f"number {index}", image
    else:
        return f"number {index}", images.png(images.from_array(image))
    if data.startswith(_JPEG_OR_PNG):
        return name, data
    return name, images.png(images.decode(data, name, upright=True))


def _chunks(sent: Iterable[_Sent], batch_size: int) -> Iterator[list[_Sent]]:
    """Yield the images of each request: all with boxes or all without, at most `batch_size` and MAX_REQUEST_BYTES."""
    chunks: dict[bool, list[_Sent]] = {True: [], False: []}
    for image in sent:
        chunk = chunks[image.box is not None]
        if chunk and (len(chunk) == batch_size
                      or sum(len(other.data) for other in chunk) + len(image.data) > MAX_REQUEST_BYTES):
            yield chunk
            chunk = chunks[image.box is not None] = []
        chunk.append(image)
    yield from (chunk for chunk in chunks.values() if chunk)
