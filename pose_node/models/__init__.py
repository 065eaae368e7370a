"""Networks and the files they come in.

Importing this package loads no torch: the catalogue and the downloads need none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pose_node.models.loading import load_network
    from pose_node.models.network import PoseNetwork

__all__ = ["PoseNetwork", "load_network"]


def __getattr__(name: str) -> Any:
    if name == "load_network":
        from pose_node.models.loading import load_network

        return load_network
    if name == "PoseNetwork":
        from pose_node.models.network import PoseNetwork

        return PoseNetwork
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
