"""People in camera images: YOLO-Pose networks for ROS 2, usable with and without ROS.

The Python package and the generated message package share the name ``pose_node``; a source
checkout on ``sys.path`` would hide ``pose_node.msg``, so the two folders are merged here.
"""

from __future__ import annotations

from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

__path__ = extend_path(__path__, __name__)

from pose_node.errors import PoseNodeError
from pose_node.poses import COCO17, Frame, Poses, Skeleton

if TYPE_CHECKING:
    from pose_node.inference.engine import PoseEngine

__all__ = ["COCO17", "Frame", "PoseEngine", "PoseNodeError", "Poses", "Skeleton"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # PoseEngine brings torch, which takes seconds to import: only those who ask for it pay.
    if name == "PoseEngine":
        from pose_node.inference.engine import PoseEngine

        return PoseEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
