"""What the tests share: where the data is, a ROS domain of their own, and builders of small values.

A test that needs ROS, a GPU, the fetched model or the shared data asks for the fixture of that name
and is skipped, with a reason, where it is missing.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from pose_node import Frame, Poses
from pose_node.ros.shared_memory import held_ports, remove_half_made_ports, remove_stale_segments

# How long an example takes says more about the machine than about the code.
settings.register_profile("pose_node", deadline=None)
settings.load_profile("pose_node")

# Before anything starts DDS, here or in a child process: no two test processes may hear each other.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 101)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

# Before torch is imported, as the programs do (pose_node/process_settings.py): its waiting threads
# would burn the processor that a node process beside them needs, and a network take seconds.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

# What tests that were killed left could keep these waiting.
remove_stale_segments()
remove_half_made_ports()

REPOSITORY = Path(__file__).resolve().parents[1]

_kept_ports: set[str] = set()


def make_frame(
    *,
    camera: str = "",
    width: int = 64,
    height: int = 48,
    stamp_ns: int = 1_000_000_000,
    frame_id: str = "camera_optical_frame",
    value: int = 0,
) -> Frame:
    """A frame of one grey value."""
    image = np.full((height, width, 3), value, np.uint8)
    return Frame(camera, frame_id, stamp_ns, image)


def make_poses(count: int = 2, *, num_keypoints: int = 17, seed: int = 0) -> Poses:
    """`count` people with random, different numbers in every field, highest score first."""
    random = np.random.default_rng(seed)
    keypoints = random.uniform(0, 100, (count, num_keypoints, 3)).astype(np.float32)
    keypoints[..., 2] /= 100
    return Poses.from_arrays(
        np.sort(random.uniform(0, 100, (count, 2, 2)), axis=1).reshape(count, 4),
        np.sort(random.uniform(0.3, 1, count))[::-1],
        keypoints,
        np.arange(count),
    )


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"reference data missing: no folder {folder.name}/data beside the checkout")
    return folder


@pytest.fixture(scope="session")
def yolo11n_pose() -> Path:
    """The fetched yolo11n-pose checkpoint."""
    from pose_node.models.fetch import cached_model_path

    path = cached_model_path("yolo11n-pose")
    if not path.is_file():
        pytest.skip("model missing: run `pose-node fetch yolo11n-pose`")
    return path


@pytest.fixture
def ros() -> Iterator[Any]:
    """An initialised rclpy, shut down after the test."""
    rclpy = pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")
    pytest.importorskip("pose_node.msg", reason="messages missing: build the package first")
    # A node lives on in DDS while anything keeps one of its handles: the next test would see its
    # topics, and its services without an answer.
    if held_ports() - _kept_ports:
        gc.collect()
        left = held_ports() - _kept_ports
        _kept_ports.update(left)  # said once; a test that failed keeps what it used
        assert not left, "an earlier test keeps a node, by an exception's traceback perhaps"
    rclpy.init(args=[])
    yield rclpy
    rclpy.try_shutdown()
