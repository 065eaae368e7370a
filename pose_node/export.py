"""Writes networks for other programs: ONNX, OpenVINO, TorchScript, torch.export.

What is written holds the network and its decoding, in a layout that this package, Ultralytics and
many others read, and says in its metadata what it is. It is run on a real image and compared with
torch before it gets its name.
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pose_node import __version__
from pose_node.errors import OutputError
from pose_node.exporting.check import SCORE_TOLERANCE, Difference, measure_difference
from pose_node.exporting.graph import ExportedGraph
from pose_node.exporting.writers import FORMATS, Format, Runner, Shape
from pose_node.inference.onnx_metadata import FileFacts, write_metadata
from pose_node.models import PoseNetwork

OPSETS = range(13, 21)
"""Operator sets of ONNX that can be written."""

UNKNOWN_LICENCE = (
    "that of the weights, which is not known here: ask who published them (those trained with "
    "Ultralytics YOLO are AGPL-3.0, those of edgeai-yolov5 and yolov7 GPL-3.0)"
)


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        path: the file; OpenVINO's weights lie beside it.
        layout: of its output, see `pose_node.inference.onnx_layouts`.
        difference: between the file and torch on the image.
    """

    path: Path
    layout: str
    difference: Difference


def export_network(
    network: PoseNetwork,
    path: str | os.PathLike[str],
    *,
    check_image: np.ndarray,
    format_name: str = "onnx",
    image_size: tuple[int, int] = (640, 640),
    batch: int = 1,
    dynamic: bool = False,
    opset: int = 17,
    pixel_tolerance: float = 1e-3,
    name: str = "",
    licence: str = UNKNOWN_LICENCE,
    progress: Callable[[int, int | None], None] | None = None,
) -> Export:
    """Write a network, complete and checked or not at all.

    Args:
        network: on the CPU, float32; it is fused.
        path: the file to write; what is there is replaced.
        check_image: a real picture of people, (H, W, 3) uint8 BGR, on which file and torch are
            compared.
        format_name: a name of `pose_node.exporting.writers.FORMATS`.
        image_size: height and width of the input in pixels, multiples of the network's stride.
        batch: images that the input holds.
        dynamic: take any number of images, of any size in steps of the stride.
        opset: operator set of ONNX.
        pixel_tolerance: largest difference of a coordinate that is accepted.
        name: what the model is called, for the metadata.
        licence: of the weights, for the metadata.
        progress: is called with the steps that are done, and their number.

    Raises:
        ValueError: an argument is out of its range.
        PoseNodeError: an optional package is missing.
        OutputError: the network cannot be written in this format or to this place, or file and
            torch differ; nothing is left behind.
    """
    path = Path(path)
    form = _check_arguments(network, path, format_name, image_size, batch, opset)
    shape = Shape(batch, *image_size, dynamic=dynamic, stride=network.stride)
    graph = ExportedGraph(network.fuse())
    metadata = _metadata(graph, shape, name or path.stem, licence)
    report = progress or (lambda done, total: None)
    report(0, 2)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    try:
        written = folder / path.name
        form.write(graph, shape, opset, metadata, written)
        report(1, 2)
        difference = _measure(graph, form.open(written), check_image, shape, pixel_tolerance)
        if not difference.within(pixel_tolerance):
            raise OutputError(
                f"{path} was not written: it differs from torch by {difference.pixels:.2g} pixels "
                f"and {difference.scores:.2g} in scores, expected at most {pixel_tolerance:.2g} "
                f"and {SCORE_TOLERANCE:.2g}"
            )
        report(2, 2)
        files = sorted(folder.iterdir())  # OpenVINO's .bin goes before its .xml
        if len(files) > 1:
            path.unlink(missing_ok=True)  # an old .xml with a new .bin would be wrong
        for file in files:
            os.replace(file, path.parent / file.name)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:
        reason = " ".join(str(error).split())[:500]
        raise OutputError(f"cannot write {path} as {form.name}: {reason}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Export(path, graph.layout, difference)


def _measure(
    graph: ExportedGraph, run: Runner, image: np.ndarray, shape: Shape, pixel_tolerance: float
) -> Difference:
    """How far a file is from torch.

    Some pictures put a keypoint where float32 has few sure decimals, and then torch itself may be
    further from the truth than the file. So a file that differs is compared with float64, too.
    """
    difference = measure_difference(graph, run, image, shape)
    if difference.within(pixel_tolerance):
        return difference
    exact = copy.deepcopy(graph).double()
    truth = measure_difference(exact, run, image, shape, precision=torch.float64)
    return min(difference, truth, key=lambda d: (not d.within(pixel_tolerance), d.pixels))


def _check_arguments(
    network: PoseNetwork,
    path: Path,
    format_name: str,
    image_size: tuple[int, int],
    batch: int,
    opset: int,
) -> Format:
    if format_name not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format_name!r:.40}")
    form = FORMATS[format_name]
    if path.suffix != form.suffix:
        raise ValueError(f"{form.name} files end in {form.suffix}, got {path.name}")
    stride = network.stride
    if not all(0 < side <= 8192 and side % stride == 0 for side in image_size):
        raise ValueError(
            f"image_size must be a height and a width in multiples of {stride}, the stride of this "
            f"model, up to 8192, got {image_size}"
        )
    if not 1 <= batch <= 256:
        raise ValueError(f"batch must be 1 to 256, got {batch}")
    if opset not in OPSETS:
        raise ValueError(f"opset must be {OPSETS[0]} to {OPSETS[-1]}, got {opset}")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}")
    return form


def _metadata(graph: ExportedGraph, shape: Shape, name: str, licence: str) -> dict[str, str]:
    network = graph.network
    names = tuple(network.class_names)
    if len(names) != network.num_classes:  # YOLOX records none
        person = network.num_classes == 1
        names = ("person",) if person else tuple(f"class{i}" for i in range(network.num_classes))
    facts = FileFacts(
        family=network.family,
        layout=graph.layout,
        strides=tuple(network.strides),
        keypoint_shape=(network.num_keypoints, network.keypoint_dimensions),
        class_names=names,
        final=network.end_to_end,
        image_size=(shape.height, shape.width),
        preprocessing=network.preprocessing,
    )
    return write_metadata(
        facts,
        description=f"{name}: {network.family} pose network, exported by pose_node {__version__}",
        licence=licence,
        version=__version__,
        batch=shape.batch,
        dynamic=shape.dynamic,
    )
