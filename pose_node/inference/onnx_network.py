"""Runs ``.onnx`` files in the place of a network of our own.

An ONNX file holds no Python, but it is a program: it can take time and memory like any other. It
cannot read other files (`pose_node.inference.onnx_safety`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pose_node.inference.exported_network import ExportedNetwork, check_input
from pose_node.inference.onnx_decoding import Anchors
from pose_node.inference.onnx_session import OnnxSession

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}


def load_onnx(
    path: str | os.PathLike[str],
    *,
    device: torch.device | str = "cpu",
    layout: str | None = None,
    num_keypoints: int | None = None,
    anchors: Anchors | None = None,
    threads: int | None = None,
) -> OnnxNetwork:
    """Load an ONNX file.

    Args:
        path: the file.
        device: "cpu", "cuda" or "cuda:N".
        layout: how it gives its results, one of `pose_node.inference.onnx_layouts.LAYOUT_NAMES`;
            None finds out from its metadata and shapes.
        num_keypoints: number of keypoints, where neither metadata nor shapes tell.
        anchors: (levels, anchors, 2) width and height in pixels, for files of raw maps, which do
            not hold them; None takes those of the published networks.
        threads: on the CPU; None takes as many as there are processors.

    Raises:
        CheckpointError: the file is missing, damaged, hostile or no pose model, or its layout is
            unknown or ambiguous; the text names the file, what was expected and what came.
        DeviceError: ONNX Runtime cannot use the device.
        PoseNodeError: ONNX Runtime is not installed.
    """
    session = OnnxSession(Path(path), device=device, threads=threads)
    return OnnxNetwork(session, layout=layout, num_keypoints=num_keypoints, anchors=anchors)


class OnnxNetwork(ExportedNetwork):
    """A network in an ONNX file; see `load_onnx` and `ExportedNetwork`."""

    def __init__(
        self,
        session: OnnxSession,
        *,
        layout: str | None = None,
        num_keypoints: int | None = None,
        anchors: Anchors | None = None,
    ) -> None:
        self._session = session
        shape, kind = next(iter(session.inputs.values()), ([], "nothing"))
        super().__init__(
            session.path,
            check_input(shape, _DTYPES.get(kind, kind), session.path, len(session.inputs)),
            session.metadata,
            layout=layout,
            num_keypoints=num_keypoints,
            anchors=anchors,
            threads=session.threads,
        )

    def _run(self, images: np.ndarray, outputs: Sequence[str] | None) -> dict[str, np.ndarray]:
        """See `ExportedNetwork._run`."""
        return self._session.run(images, outputs)
