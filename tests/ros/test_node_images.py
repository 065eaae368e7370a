"""What images the node takes: every encoding, compressed ones, and every fault refused in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CompressedImage, Image

from pose_node.imaging import KNOWN_ENCODINGS
from pose_node.ros.parameters import NodeParameters
from tests.ros.node_bench import HEIGHT, WIDTH, Bench, header, image, picture

pytestmark = pytest.mark.ros

PAD = 5
PICTURE = picture()
GREY = PICTURE[..., 0]
LIMIT = NodeParameters().max_image_pixels
PLAIN = (40, 120, 200)  # blue, green, red of a picture of one colour
# Luma and chroma of that colour: BT.601, limited range.
Y, U, V = 132, 81, 169


def plain(*color: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, len(color)), color, np.uint8)


def grey_as_bgr(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


def with_alpha(bgr: np.ndarray) -> np.ndarray:
    return np.concatenate([bgr, np.full((HEIGHT, WIDTH, 1), 7, np.uint8)], axis=2)


def mosaic(first_row: tuple[int, int], second_row: tuple[int, int]) -> np.ndarray:
    """One sample per pixel; the pattern repeats every two pixels."""
    return np.tile(np.array([first_row, second_row], np.uint8), (HEIGHT // 2, WIDTH // 2))


def pairs(*samples: int) -> np.ndarray:
    """Four samples for two pixels of YUV 4:2:2."""
    return np.tile(np.array(samples, np.uint8), (HEIGHT, WIDTH // 2)).reshape(HEIGHT, WIDTH, 2)


def semi_planar(first: int, second: int, *, full: bool = False) -> np.ndarray:
    """Rows of luma, then rows of two alternating chroma samples."""
    luma = np.full((HEIGHT, WIDTH), Y, np.uint8)
    rows = 2 * HEIGHT if full else HEIGHT // 2
    chroma = np.tile(np.array([first, second], np.uint8), (rows, WIDTH // 2))
    return np.concatenate([luma, chroma])


def wide(samples: np.ndarray, order: str) -> np.ndarray:
    """16 bits: the 8 given ones above 8 others."""
    return ((samples.astype(np.uint16) << 8) | 0x5A).astype(f"{order}u2")


B, G, R = PLAIN
SAMPLES: dict[str, tuple[np.ndarray, np.ndarray, int]] = {
    # encoding: rows as they are sent, pixels to expect in BGR, tolerance
    "bgr8": (PICTURE, PICTURE, 0),
    "rgb8": (PICTURE[..., ::-1], PICTURE, 0),
    "8UC3": (PICTURE, PICTURE, 0),
    "bgra8": (with_alpha(PICTURE), PICTURE, 0),
    "rgba8": (with_alpha(PICTURE[..., ::-1]), PICTURE, 0),
    "8UC4": (with_alpha(PICTURE), PICTURE, 0),
    "mono8": (GREY, grey_as_bgr(GREY), 0),
    "8UC1": (GREY, grey_as_bgr(GREY), 0),
    "mono16": (wide(GREY, "<"), grey_as_bgr(GREY), 0),
    "bgr16": (wide(PICTURE, "<"), PICTURE, 0),
    "rgb16": (wide(PICTURE[..., ::-1], "<"), PICTURE, 0),
    "bayer_rggb8": (mosaic((R, G), (G, B)), plain(*PLAIN), 0),
    "bayer_bggr8": (mosaic((B, G), (G, R)), plain(*PLAIN), 0),
    "bayer_gbrg8": (mosaic((G, B), (R, G)), plain(*PLAIN), 0),
    "bayer_grbg8": (mosaic((G, R), (B, G)), plain(*PLAIN), 0),
    "bayer_rggb16": (wide(mosaic((R, G), (G, B)), "<"), plain(*PLAIN), 0),
    "bayer_bggr16": (wide(mosaic((B, G), (G, R)), "<"), plain(*PLAIN), 0),
    "bayer_gbrg16": (wide(mosaic((G, B), (R, G)), "<"), plain(*PLAIN), 0),
    "bayer_grbg16": (wide(mosaic((G, R), (B, G)), "<"), plain(*PLAIN), 0),
    "uyvy": (pairs(U, Y, V, Y), plain(*PLAIN), 2),
    "yuv422": (pairs(U, Y, V, Y), plain(*PLAIN), 2),
    "yuyv": (pairs(Y, U, Y, V), plain(*PLAIN), 2),
    "yuv422_yuy2": (pairs(Y, U, Y, V), plain(*PLAIN), 2),
    "nv12": (semi_planar(U, V), plain(*PLAIN), 2),
    "nv21": (semi_planar(V, U), plain(*PLAIN), 2),
}


def rows_to_fields(rows: np.ndarray, pad: int = 0) -> dict[str, Any]:
    """`step` and `data` of a message; rows padded with what is no part of the picture."""
    lines = np.ascontiguousarray(rows.reshape(len(rows), -1)).view(np.uint8)
    padded = np.pad(lines, ((0, 0), (0, pad)), constant_values=255)
    return {"step": padded.shape[1], "data": padded.tobytes()}


def seen_by_the_network(bench: Bench) -> np.ndarray:
    """The last frame, in BGR."""
    frame = bench.pipeline.frames[-1]
    return np.asarray(frame.image[..., ::-1] if frame.channel_order == "rgb" else frame.image)


def test_every_encoding_is_tested_here() -> None:
    # nv24 differs from nv12 only in what test_imaging.py looks at.
    assert SAMPLES.keys() | {"nv24"} == set(KNOWN_ENCODINGS)


@pytest.mark.parametrize("pad", [0, PAD])
@pytest.mark.parametrize("encoding", SAMPLES)
def test_encoding(bench: Bench, encoding: str, pad: int) -> None:
    rows, expected, tolerance = SAMPLES[encoding]
    sent = image(encoding=encoding, **rows_to_fields(rows, pad))
    message = bench.ask(sent)
    assert message.header == sent.header
    assert (message.image_width, message.image_height) == (WIDTH, HEIGHT)
    found = seen_by_the_network(bench)
    assert found.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(found.astype(int), expected, atol=tolerance)


@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bayer_rggb16"])
def test_big_endian(bench: Bench, encoding: str) -> None:
    rows, expected, _ = SAMPLES[encoding]
    fields = rows_to_fields(rows.astype(">u2"))
    bench.ask(image(encoding=encoding, is_bigendian=1, **fields))
    np.testing.assert_array_equal(seen_by_the_network(bench), expected)


def test_size_may_change_from_image_to_image(bench: Bench) -> None:
    for height, width in ((HEIGHT, WIDTH), (3, 7), (100, 200), (1, 1)):
        fields = rows_to_fields(np.zeros((height, 3 * width), np.uint8))
        message = bench.ask(image(width=width, height=height, **fields))
        assert (message.image_width, message.image_height) == (width, height)


# Compressed images


@pytest.fixture
def compressed(make_bench: Callable[..., Bench]) -> Bench:
    bench: Bench = make_bench(image_transport="compressed").activate()
    return bench


def encode(extension: str, pixels: np.ndarray = PICTURE) -> bytes:
    done, data = cv2.imencode(extension, pixels)
    assert done
    return data.tobytes()


def compressed_image(data: bytes, text: str = "bgr8; jpeg compressed bgr8") -> CompressedImage:
    return CompressedImage(header=header(), format=text, data=data)


@pytest.mark.parametrize(
    ("extension", "text"), [(".jpg", "jpeg"), (".png", "png"), (".png", "anything"), (".webp", "")]
)
def test_compressed(compressed: Bench, extension: str, text: str) -> None:
    data = encode(extension, plain(*PLAIN))
    message = compressed.ask(compressed_image(data, text), "image_raw/compressed")
    assert message.header == header()
    assert (message.image_width, message.image_height) == (WIDTH, HEIGHT)
    found = seen_by_the_network(compressed)
    np.testing.assert_allclose(found.astype(int), plain(*PLAIN), atol=4)


def test_only_the_transport_that_is_asked_for_is_subscribed(compressed: Bench) -> None:
    assert compressed.node.count_subscribers("image_raw/compressed") == 1
    assert compressed.node.count_subscribers("image_raw") == 0


# Faults


@dataclass(frozen=True)
class Fault:
    """A fault of an image: its kind and what the log says of it."""

    message: Image | CompressedImage
    kind: str
    reason: str


def png_that_claims(width: int, height: int) -> bytes:
    data = bytearray(encode(".png"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(data)


JPEG = encode(".jpg")
ROW = 3 * WIDTH
RAW_FAULTS = {
    "no width": Fault(image(width=0), "zero area", f"image of 0x{HEIGHT} pixels has no area"),
    "no height": Fault(image(height=0), "zero area", f"image of {WIDTH}x0 pixels has no area"),
    "claims 2**31": Fault(
        image(width=2**31, height=2**31, step=2**32 - 1),
        "absurd size",
        f"image claims 2147483648x2147483648 pixels, expected at most {LIMIT} in all",
    ),
    "unknown encoding": Fault(
        image(encoding="32FC1"),
        "unknown encoding",
        "encoding '32FC1' is not known, expected one of "
        f"{', '.join(KNOWN_ENCODINGS)}; install cv_bridge for others",
    ),
    "no encoding": Fault(
        image(encoding=""),
        "unknown encoding",
        "encoding '' is not known, expected one of "
        f"{', '.join(KNOWN_ENCODINGS)}; install cv_bridge for others",
    ),
    "small step": Fault(
        image(step=ROW - 1),
        "step too small",
        f"a row of {WIDTH} pixels 'bgr8' has {ROW} bytes, got step {ROW - 1}",
    ),
    "short data": Fault(
        image(data=bytes(ROW * HEIGHT - 1)),
        "data too short",
        f"{WIDTH}x{HEIGHT} 'bgr8' with step {ROW} needs {ROW * HEIGHT} bytes, "
        f"got {ROW * HEIGHT - 1}",
    ),
    "no data": Fault(
        image(data=b""),
        "data too short",
        f"{WIDTH}x{HEIGHT} 'bgr8' with step {ROW} needs {ROW * HEIGHT} bytes, got 0",
    ),
    "large step": Fault(
        image(step=2**32 - 1),
        "data too short",
        f"{WIDTH}x{HEIGHT} 'bgr8' with step {2**32 - 1} needs {(2**32 - 1) * HEIGHT} bytes, "
        f"got {ROW * HEIGHT}",
    ),
    "odd width": Fault(
        image(encoding="yuyv", width=WIDTH - 1),
        "bad size",
        "yuyv needs a width that is a multiple of 2 and a height of 1, both at least 1, got "
        f"{WIDTH - 1}x{HEIGHT}",
    ),
}
COMPRESSED_FAULTS = {
    "no data": Fault(compressed_image(b""), "empty data", "compressed image without data"),
    "no image": Fault(compressed_image(b"no image at all"), "unknown compressed format", ""),
    "depth": Fault(
        compressed_image(encode(".png"), "16UC1; compressedDepth"),
        "depth image",
        "format '16UC1; compressedDepth' holds depth, expected a colour image; use the compressed "
        "topic of a colour camera",
    ),
    "claims 2**31": Fault(
        compressed_image(png_that_claims(2**31 - 1, 2**31 - 1)),
        "absurd size",
        f"image claims 2147483647x2147483647 pixels, expected at most {LIMIT} in all",
    ),
    "cut JPEG": Fault(compressed_image(JPEG[:-40]), "broken compressed image", ""),
    "JPEG of zeros": Fault(
        compressed_image(JPEG[:20] + bytes(len(JPEG) - 20)), "broken compressed image", ""
    ),
}


def check_fault(bench: Bench, fault: Fault, good: Image | CompressedImage, topic: str) -> None:
    """Refused three times, said once, counted; the next good image is answered."""
    for number in range(3):
        bench.send(fault.message)
        bench.wait_for_value(f"refused: {fault.kind}", str(number + 1), f"/{topic}")
    status = bench.status(f"/{topic}")
    assert status.level == DiagnosticStatus.ERROR
    assert status.message.startswith(f"all images are refused: {fault.reason}")

    assert bench.ask(good, topic).header == good.header
    (line,) = bench.logs("error")
    prefix = f"image on /{topic} refused: "
    assert line.startswith(prefix)
    assert "\n" not in line
    assert len(line) > len(prefix) + 20
    if fault.reason:
        assert line == prefix + fault.reason
    status = bench.status(f"/{topic}")
    assert (status.level, status.message) == (
        DiagnosticStatus.WARN,
        f"3 refused, last: {line.removeprefix(prefix)}",
    )
    values = bench.values(f"/{topic}")
    assert (values["received"], values["published"], values["refused"]) == ("4", "1", "3")


@pytest.mark.parametrize("name", RAW_FAULTS)
def test_fault_of_a_raw_image(bench: Bench, name: str) -> None:
    check_fault(bench, RAW_FAULTS[name], image(1), "image_raw")


@pytest.mark.parametrize("name", COMPRESSED_FAULTS)
def test_fault_of_a_compressed_image(compressed: Bench, name: str) -> None:
    check_fault(compressed, COMPRESSED_FAULTS[name], compressed_image(JPEG), "image_raw/compressed")


def test_different_faults_have_a_line_each(bench: Bench) -> None:
    for name in ("no width", "short data", "no height"):
        bench.send(RAW_FAULTS[name].message)
        bench.wait_for_log(RAW_FAULTS[name].reason, "error") if name != "no height" else None
    bench.wait_for_value("refused", "3")
    assert len(bench.logs("error")) == 2
