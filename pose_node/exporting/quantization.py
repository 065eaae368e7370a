"""Networks with numbers of 8 bits, which modern processors compute in half the time and less.

The ranges of the numbers are measured on images like those that the network will see. What predicts
(the last convolutions) and decodes stays in float32: it takes little time, and a coordinate of a
thousand pixels has no place in 8 bits.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pose_node.errors import CheckpointError, OutputError, PoseNodeError, SourceError
from pose_node.inference.letterbox import Letterbox
from pose_node.inference.openvino_network import METADATA_SECTION, load_openvino
from pose_node.models.preprocessing import Preprocessing

FEWEST_IMAGES = 10
"""With less, the ranges are those of single pictures."""

_CONVOLUTIONS = ("Convolution", "GroupConvolution")
_NOT_COMPUTED = ("Parameter", "Constant", "Result")


def calibration_inputs(
    images: Iterable[np.ndarray],
    preprocessing: Preprocessing,
    *,
    stride: int,
    image_size: tuple[int, int],
    dynamic: bool,
    count: int = 300,
) -> list[np.ndarray]:
    """Pick images at random, the same ones each time, and fit them into the network's input.

    Args:
        images: (H, W, 3) uint8 BGR, any number; they are read one at a time.
        preprocessing: how the network wants them.
        stride: that of the network.
        image_size: height and width of the input; where it is dynamic, the longer side counts.
        dynamic: whether inputs may be smaller than that.
        count: most images that are kept.

    Returns:
        Inputs (1, H, W, 3) uint8 in the network's channel order.

    Raises:
        SourceError: there are fewer than `FEWEST_IMAGES` images.
    """
    random = np.random.default_rng(0)
    kept: list[np.ndarray] = []
    seen = 0
    for image in images:
        seen += 1
        place = len(kept) if seen <= count else int(random.integers(seen))
        if place >= count:
            continue
        box = Letterbox.fit(
            *image.shape[:2],
            image_size=max(image_size),
            stride=stride,
            input_size=None if dynamic and not preprocessing.square else image_size,
            centred=preprocessing.centred,
        )
        canvas = np.empty((1, box.height, box.width, 3), np.uint8)
        box.draw(image, canvas[0])
        if preprocessing.channel_order == "rgb":
            cv2.cvtColor(canvas[0], cv2.COLOR_BGR2RGB, dst=canvas[0])
        kept[place : place + 1] = [canvas]
    if seen < FEWEST_IMAGES:
        raise SourceError(
            f"8 bits need at least {FEWEST_IMAGES} images to measure ranges on, better some "
            f"hundred like those that the network will see; got {seen}"
        )
    return kept


def quantize_openvino(
    path: Path,
    output: Path,
    inputs: list[np.ndarray],
    *,
    scale: float,
    progress: Callable[[int, int | None], None] | None = None,
) -> None:
    """Write an OpenVINO file again with numbers of 8 bits, complete or not at all.

    Args:
        path: the ``.xml`` in float32.
        output: the ``.xml`` to write; what is there is replaced.
        inputs: see `calibration_inputs`.
        scale: what pixels are multiplied by.
        progress: is called with the images that are done, and their number.

    Raises:
        PoseNodeError: OpenVINO or NNCF is missing.
        OutputError: the network cannot be quantised, or the file cannot be written.
    """
    openvino, nncf = _import_packages()
    report = progress or (lambda done, total: None)
    done = 0

    def as_input(pixels: np.ndarray) -> np.ndarray:
        nonlocal done
        done += 1
        report(min(done, len(inputs)), len(inputs))
        images: np.ndarray = np.multiply(pixels.transpose(0, 3, 1, 2), scale, dtype=np.float32)
        return images

    folder = None
    try:
        model = openvino.Core().read_model(path)
        with contextlib.redirect_stdout(io.StringIO()):  # NNCF draws progress of its own
            small = nncf.quantize(
                model,
                nncf.Dataset(inputs, as_input),
                subset_size=len(inputs),
                preset=nncf.QuantizationPreset.MIXED,  # activations are not symmetric around zero
                ignored_scope=nncf.IgnoredScope(names=_predicting(model), validate=False),
                advanced_parameters=_mean_ranges(),
            )
        if model.has_rt_info([METADATA_SECTION]):
            for name, value in model.get_rt_info([METADATA_SECTION]).astype(dict).items():
                small.set_rt_info(value.value, [METADATA_SECTION, name])
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
        written = folder / output.name
        openvino.save_model(small, written, compress_to_fp16=False)
        load_openvino(written)  # which tries it out
        output.unlink(missing_ok=True)  # an old .xml with a new .bin would be wrong
        for file in sorted(folder.iterdir()):  # the .bin goes before its .xml
            os.replace(file, output.parent / file.name)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
    except (RuntimeError, ValueError, TypeError, KeyError, CheckpointError) as error:
        reason = " ".join(str(error).split())[:500]
        raise OutputError(f"cannot write {output} with 8 bits: {reason}") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _mean_ranges() -> Any:
    """The mean range of the images: the widest of all would make the usual numbers coarse."""
    advanced = importlib.import_module("nncf.quantization.advanced_parameters")
    estimators = importlib.import_module("nncf.quantization.range_estimator")
    return advanced.AdvancedQuantizationParameters(
        activations_range_estimator_params=estimators.RangeEstimatorParametersSet.MEAN_MINMAX
    )


def _import_packages() -> tuple[Any, Any]:
    # Otherwise NNCF reports its use to its makers over the network.
    os.environ.setdefault("NNCF_CI", "1")
    loggers = logging.getLoggerClass()
    try:
        openvino, nncf = importlib.import_module("openvino"), importlib.import_module("nncf")
    except ImportError as error:
        raise PoseNodeError(
            f"networks with 8 bits need OpenVINO and NNCF ({error}): "
            "`pip install 'pose-node[int8]'`"
        ) from error
    finally:
        logging.setLoggerClass(loggers)  # which NNCF replaces for the whole process
    nncf.set_log_level(logging.ERROR)
    return openvino, nncf


def _predicting(model: Any) -> list[str]:
    """Names of the convolutions after which there is no other, and of all that follows them."""
    operators = model.get_ordered_ops()
    after_convolution: set[str] = set()  # of these, another convolution follows
    predicting: list[str] = []
    for operator in reversed(operators):
        name, kind = operator.get_friendly_name(), operator.get_type_name()
        follows = any(
            user.get_node().get_friendly_name() in after_convolution
            or user.get_node().get_type_name() in _CONVOLUTIONS
            for output in operator.outputs()
            for user in output.get_target_inputs()
        )
        if follows:
            after_convolution.add(name)
        elif kind not in _NOT_COMPUTED:
            predicting.append(name)
    return predicting
