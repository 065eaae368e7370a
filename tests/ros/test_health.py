"""What each situation means: its level, its name and its words."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from pose_node.ros.health import (
    Condition,
    Level,
    Verdict,
    judge_camera,
    judge_depth,
    judge_node,
    severity,
)
from pose_node.ros.statistics import StageReport
from tests.ros.reports import CAMERA, DEPTH, NODE

TROUBLESHOOTING = Path(__file__).resolve().parents[2] / "docs/troubleshooting.md"
OK, WARN, ERROR, STALE = Level.OK, Level.WARN, Level.ERROR, Level.STALE
TOPIC = "/front/image_raw"

NODES: list[tuple[dict[str, Any], Verdict]] = [
    ({}, Verdict(OK, Condition.WORKING, "yolo11n-pose on cuda:0")),
    (
        {"enabled": False, "batch_limit": 1},
        Verdict(OK, Condition.DISABLED, "disabled by the service ~/enable"),
    ),
    (
        {"state": "inactive", "device_fault": "gone"},
        Verdict(OK, Condition.NOT_ACTIVE, "inactive: nothing is processed"),
    ),
    (
        {"state": "unconfigured"},
        Verdict(OK, Condition.NOT_ACTIVE, "unconfigured: nothing is processed"),
    ),
    (
        {"state": "unconfigured", "configure_error": "no such model"},
        Verdict(ERROR, Condition.NO_NETWORK, "no network: no such model"),
    ),
    (
        {"device_fault": "it is gone: see dmesg", "enabled": False},
        Verdict(ERROR, Condition.DEVICE_FAULT, "it is gone: see dmesg"),
    ),
    (
        {"stages": StageReport({}, failures=3, last_failure="odd shape")},
        Verdict(OK, Condition.WORKING, "yolo11n-pose on cuda:0"),
    ),
    ({"device_warning": "no CUDA"}, Verdict(WARN, Condition.OTHER_DEVICE, "no CUDA")),
    (
        {"batch_limit": 2},
        Verdict(
            WARN,
            Condition.SMALL_BATCHES,
            "the device has memory for 2 images at once only, so cameras wait for each other: end "
            "what else uses it, or choose a smaller model or image_size",
        ),
    ),
]
CAMERAS: list[tuple[dict[str, Any], Verdict]] = [
    ({}, Verdict(OK, Condition.WORKING, "28.0 images/s")),
    (
        {"silent": True, "received": 0},
        Verdict(STALE, Condition.NEVER_CAME, f"no images yet: see what publishes {TOPIC}"),
    ),
    (
        {"silent": True, "rate_refused": 1.0},
        Verdict(STALE, Condition.SILENT, f"no images any more: see what publishes {TOPIC}"),
    ),
    (
        {"rate_out": 0.0, "rate_refused": 30.0, "refused": {"zero area": 9}, "last_error": "0x0"},
        Verdict(ERROR, Condition.ALL_REFUSED, "all images are refused: 0x0"),
    ),
    (
        {"rate_refused": 0.1, "refused": {"zero area": 2, "bad size": 1}, "last_error": "0x0"},
        Verdict(WARN, Condition.REFUSED, "3 refused, last: 0x0"),
    ),
    (
        {"refused": {"zero area": 2}, "last_error": "long ago"},
        Verdict(OK, Condition.WORKING, "28.0 images/s"),
    ),
    (
        {"rate_out": 0.0},
        Verdict(WARN, Condition.UNANSWERED, "images arrive, but none was processed yet"),
    ),
    (
        {"rate_out": 0.0, "rate_in": 0.1, "published": 0},
        Verdict(WARN, Condition.UNANSWERED, "images arrive, but none was processed yet"),
    ),
    (
        {"rate_out": 0.0, "waiting": 12.3},
        Verdict(
            ERROR,
            Condition.NO_ANSWERS,
            "no image was answered for 12 s: if the status of the node is well, its device hangs: "
            "see `dmesg`, and start the node anew",
        ),
    ),
    (
        {"waiting": 12.3, "usual_waiting": 3.0},  # a slow device, and a large network
        Verdict(OK, Condition.WORKING, "28.0 images/s"),
    ),
    (
        {"failure": "odd shape", "rate_out": 0.0, "rate_refused": 1.0, "waiting": 99.0},
        Verdict(ERROR, Condition.FAILING, "images fail: odd shape"),
    ),
    (
        {"partial_failure": "no such field", "unstamped": True},
        Verdict(
            WARN,
            Condition.FAILING_IN_PART,
            "people are published, but not all that goes with them: no such field",
        ),
    ),
    # One image in ten seconds: the answer to the one before has left the window.
    (
        {"rate_out": 0.0, "rate_in": 0.1, "rate_replaced": 0.0},
        Verdict(OK, Condition.WORKING, "0.0 images/s"),
    ),
    (
        {"rate_out": 0.0, "rate_in": 0.0, "rate_replaced": 0.0},
        Verdict(OK, Condition.WORKING, "0.0 images/s"),
    ),
    (
        {"jumps": 2, "last_jump": -7.04, "unstamped": True},
        Verdict(
            WARN,
            Condition.STAMP_JUMP,
            "stamps jumped back by 7.0 s, 2 times in the last seconds: let the camera's clock be "
            "disciplined (chrony); recordings that start over do this, too",
        ),
    ),
    (
        {"jumps": 1, "last_jump": 20 * 86400.0},
        Verdict(
            WARN,
            Condition.STAMP_JUMP,
            "stamps jumped ahead by 20 days, 1 times in the last seconds: let the camera's clock "
            "be disciplined (chrony); recordings that start over do this, too",
        ),
    ),
    (
        {"unstamped": True},
        Verdict(
            WARN,
            Condition.NO_STAMP,
            "images have no stamp (0), so nothing can be matched to them: let the camera driver "
            "set header.stamp",
        ),
    ),
    (
        {"arrival": [-2500.0, 1.0]},
        Verdict(
            WARN,
            Condition.AHEAD,
            "images are stamped 2.5 s ahead of this node's clock: synchronise the clocks (chrony), "
            "or set use_sim_time for all nodes or for none",
        ),
    ),
    ({"arrival": [-99.0, 1.0]}, Verdict(OK, Condition.WORKING, "28.0 images/s")),
    (
        {"arrival": [1500.0, 1600.0], "age": [1600.0, 1700.0]},
        Verdict(
            WARN,
            Condition.OLD,
            "images are 1.5 s old when they arrive: see the network and the camera's clock; for "
            "recordings play --clock and set use_sim_time",
        ),
    ),
    (
        {"age": [1600.0, 1700.0]},
        Verdict(
            WARN,
            Condition.LATE,
            "people come 1.6 s after their image was taken: choose a smaller model or image_size, "
            "or a faster device",
        ),
    ),
    ({"age": None, "arrival": None}, Verdict(OK, Condition.WORKING, "28.0 images/s")),
    (
        {"rate_lost": 5.0},
        Verdict(
            WARN,
            Condition.LOST,
            "5.0 of 35.0 images/s are lost on the way: see the network, shared memory (/dev/shm) "
            "and the profile of the middleware",
        ),
    ),
    ({"rate_lost": 3.0}, Verdict(OK, Condition.WORKING, "28.0 images/s")),
    (
        {"rate_replaced": 16.0, "rate_out": 14.0},
        Verdict(
            WARN,
            Condition.TOO_SLOW,
            "only 14.0 of 30.0 images/s are processed: choose a smaller model or image_size, a "
            "faster device or a slower camera",
        ),
    ),
    ({"rate_replaced": 14.0}, Verdict(OK, Condition.WORKING, "28.0 images/s")),
    (
        {"rate_replaced": 16.0, "settled": False},
        Verdict(OK, Condition.WORKING, "28.0 images/s"),
    ),
]
DEPTHS: list[tuple[dict[str, Any], Verdict]] = [
    ({}, Verdict(OK, Condition.WORKING, "15.0 depth images/s")),
    (
        {"rate_in": 0.0},
        Verdict(STALE, Condition.NO_DEPTH, f"no depth images any more: see what publishes {TOPIC}"),
    ),
    (
        {"rate_in": 0.0, "received": 0},
        Verdict(STALE, Condition.NO_DEPTH_YET, f"no depth images yet: see what publishes {TOPIC}"),
    ),
    (
        {"rate_missed": 0.1, "last_error": "nothing near"},
        Verdict(WARN, Condition.WITHOUT_DEPTH, "2 images without depth, last: nothing near"),
    ),
    ({"last_error": "long ago"}, Verdict(OK, Condition.WORKING, "15.0 depth images/s")),
    (
        {"rate_refused": 15.04, "rate_missed": 15.0, "last_error": "none has come"},
        Verdict(WARN, Condition.WITHOUT_DEPTH, "all depth images are refused, last: not depth"),
    ),
    (
        {"rate_refused": 0.1},
        Verdict(WARN, Condition.WITHOUT_DEPTH, "some depth images are refused, last: not depth"),
    ),
]


@pytest.mark.parametrize(("changes", "verdict"), NODES)
def test_node(changes: dict[str, Any], verdict: Verdict) -> None:
    assert judge_node(dataclasses.replace(NODE, **changes)) == verdict


@pytest.mark.parametrize(("changes", "verdict"), CAMERAS)
def test_camera(changes: dict[str, Any], verdict: Verdict) -> None:
    assert judge_camera(dataclasses.replace(CAMERA, **changes), TOPIC, working=True) == verdict


@pytest.mark.parametrize(("changes", "verdict"), DEPTHS)
def test_depth(changes: dict[str, Any], verdict: Verdict) -> None:
    assert judge_depth(dataclasses.replace(DEPTH, **changes), TOPIC, working=True) == verdict


def test_what_is_not_processed_is_no_fault() -> None:
    silent = dataclasses.replace(CAMERA, silent=True)
    nothing = Verdict(OK, Condition.NOT_ACTIVE, "not processed")
    assert judge_camera(silent, TOPIC, working=False) == nothing
    assert judge_depth(dataclasses.replace(DEPTH, rate_in=0.0), TOPIC, working=False) == nothing


def test_every_condition_is_tested_here() -> None:
    tested = {verdict.condition for _, verdict in (*NODES, *CAMERAS, *DEPTHS)}
    assert tested == set(Condition)


def test_an_error_is_worse_than_silence() -> None:
    assert sorted(Level, key=severity) == [OK, WARN, STALE, ERROR]


@pytest.mark.parametrize("condition", [condition for condition in Condition])
def test_every_condition_is_explained(condition: Condition) -> None:
    rows = re.findall(r"^\| `([^`]+)` \|(.+)\|$", TROUBLESHOOTING.read_text(), re.MULTILINE)
    explained = {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}
    assert condition.value in explained
    level, *words = explained[condition.value]
    (expected,) = {
        verdict.level
        for _, verdict in (*NODES, *CAMERAS, *DEPTHS)
        if verdict.condition == condition
    }
    assert level == expected.name
    assert len(words) == 2
    assert all(len(text) > 5 for text in words)
