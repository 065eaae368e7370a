"""People in camera images: YOLO-Pose networks for ROS 2, usable with and without ROS.

The Python package and the generated message package share the name ``pose_node``; a source
checkout on ``sys.path`` would hide ``pose_node.msg``, so the two folders are merged here.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

__path__ = extend_path(__path__, __name__)

if TYPE_CHECKING:
    from pose_node.errors import PoseNodeError
    from pose_node.inference.engine import PoseEngine
    from pose_node.poses import COCO17, Frame, Poses, Skeleton

__all__ = ["COCO17", "Frame", "PoseEngine", "PoseNodeError", "Poses", "Skeleton"]
__version__ = "0.1.0"

# Loaded when asked for. PoseEngine brings torch, which takes seconds to import: only those who need
# it pay. And a process must take care of signals before anything that takes time (ros/entry.py).
_HOMES = {
    "COCO17": "pose_node.poses",
    "Frame": "pose_node.poses",
    "PoseEngine": "pose_node.inference.engine",
    "PoseNodeError": "pose_node.errors",
    "Poses": "pose_node.poses",
    "Skeleton": "pose_node.poses",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
