"""Hostile messages through the real subscriptions of a process: it goes on, and does not grow.

A short form of scripts/fuzz_messages, and fields by hypothesis.
"""

from __future__ import annotations

import random
import signal
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CompressedImage, Image

from pose_node.errors import ImageError
from pose_node.imaging import decode_file
from tests.ros import hostile_messages
from tests.ros.hostile_run import CALM, TRANSPORTS, Attack, node_parameters
from tests.ros.process_bench import Robot, grey_image

pytestmark = pytest.mark.ros

ERROR, WARN = DiagnosticStatus.ERROR, DiagnosticStatus.WARN
LIMIT = 1_000_000


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("seed", "count"), [(1, 3000), pytest.param(2, 50_000, marks=pytest.mark.long)]
)
def test_the_node_goes_on(
    start_faulty: Callable[..., Any], robot: Robot, transport: str, seed: int, count: int
) -> None:
    process = start_faulty(*node_parameters(transport, LIMIT), environment=CALM)
    attack = Attack(robot, process, transport, seed)
    attack.run(count)
    topic = f"/{next(iter(TRANSPORTS[transport]))}"
    robot.wait_for(WARN, "images refused", topic)
    report = attack.report()
    assert report["tracebacks"] == 0, process.output[-5000:]
    assert report["failures"] == "0"
    assert int(report["node"]["refused"]) > 100
    assert report["MiB grown"] < 20
    assert report["log lines"] < 100 + count / 100  # a line for each kind in five seconds
    assert process.end(signal.SIGINT) == 0


def test_no_bytes_at_all_do_not_concern_other_cameras(
    start_faulty: Callable[..., Any], robot: Robot
) -> None:
    process = start_faulty()
    robot.watch().wait_for_node()
    hostile = robot.node.create_publisher(Image, "image_raw", 5)
    assert robot.wait(lambda: hostile.get_subscription_count() > 0)
    robot.wait_for(
        ERROR,
        "all images refused",
        meanwhile=lambda: [hostile.publish(data) for data in (b"", b"\0", b"\xff" * 30)],
    )
    assert len(robot.ask().people) == 2
    assert process.end(signal.SIGINT) == 0


UINT32 = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from(hostile_messages.SIZES))
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "width": UINT32,
        "height": UINT32,
        "step": UINT32,
        "encoding": st.one_of(
            st.sampled_from(hostile_messages.ENCODINGS),
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
        ),
        "is_bigendian": st.integers(0, 255),
        "data": st.binary(max_size=2000),
    },
)


def test_any_fields(start_faulty: Callable[..., Any], robot: Robot) -> None:
    process = start_faulty(f"max_image_pixels:={LIMIT}", environment=CALM)
    robot.watch().wait_for_node()

    @settings(max_examples=150, database=None, suppress_health_check=list(HealthCheck))
    @given(FIELDS)
    def send(fields: dict[str, Any]) -> None:
        robot.send(grey_image(**{"data": b"", **fields}))

    send()
    assert len(robot.ask().people) == 2
    assert "Traceback" not in process.output
    assert process.end(signal.SIGINT) == 0


# Refused before anything is allocated


TIFF = struct.pack("<2sHIH", b"II", 42, 8, 2) + struct.pack(
    "<HHIIHHIII", 256, 4, 1, 2**31 - 1, 257, 4, 1, 2**31 - 1, 0
)
WEBP = b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0"
WEBP += b"\xff\xff\xff\xff\xff\xff" + bytes(8)  # 16777216x16777216
BOMBS = {
    "PNG": hostile_messages.png_that_claims(2**31 - 1, 2**31 - 1),
    "PNG that keeps its word": hostile_messages.png_bomb(4097, 0),
    "JPEG": hostile_messages.jpeg_that_claims(65535, 65535),
    "BMP": hostile_messages.bmp_that_claims(2**31 - 1, 2**31 - 1),
    "TIFF": TIFF,
    "WebP": WEBP,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_by_their_header(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("cv2.imdecode", decode)
    with pytest.raises(ImageError) as caught:
        decode_file(BOMBS[name], max_pixels=LIMIT)
    assert caught.value.kind == "absurd size"


def test_bombs_do_not_grow_the_node(start_faulty: Callable[..., Any], robot: Robot) -> None:
    process = start_faulty(
        "image_transport:=compressed", f"max_image_pixels:={LIMIT}", environment=CALM
    )
    robot.watch()
    publisher = robot.publisher("image_raw/compressed", CompressedImage)
    assert robot.wait(lambda: publisher.get_subscription_count() > 0)
    sent = [0]

    def send() -> None:
        data = list(BOMBS.values())[sent[0] % len(BOMBS)]
        robot.send(
            CompressedImage(header=grey_image().header, format="", data=data),
            "image_raw/compressed",
        )
        sent[0] += 1

    topic = "/image_raw/compressed"
    robot.wait_for(ERROR, "all images refused", topic, send)
    before = process.resident_mib

    def refused() -> bool:
        send()
        return int(robot.value("refused: absurd size", topic)) > 60

    assert robot.wait(refused)
    assert robot.value("published", topic) == "0"
    assert process.resident_mib - before < 30
    assert process.end(signal.SIGINT) == 0


# The generator itself


MAKERS = [maker for topics in TRANSPORTS.values() for _, maker in topics.values()]


@pytest.mark.parametrize("make", MAKERS)
def test_the_same_seed_gives_the_same_messages(make: Any) -> None:
    first, second = random.Random(7), random.Random(7)
    for _ in range(50):
        one = hostile_messages.hostile(first, make)
        two = hostile_messages.hostile(second, make)
        assert type(one) is type(two)
        if isinstance(one, bytes):  # with padding of any value
            assert len(one) == len(two) > 0
        else:
            assert repr(one) == repr(two)  # NaN differs from itself
