"""From parameters to a pipeline that is ready to work. No ROS here."""

from __future__ import annotations

from collections.abc import Callable

from pose_node.errors import PoseNodeError
from pose_node.models.catalog import KNOWN_MODELS
from pose_node.models.fetch import fetch_model
from pose_node.pipeline import PosePipeline
from pose_node.ros.parameters import NodeParameters
from pose_node.ros.recovery import Logger

LoadPipeline = Callable[[NodeParameters], PosePipeline]


def apply_parameters(pipeline: PosePipeline, parameters: NodeParameters) -> None:
    """Set what may change while a pipeline is at work."""
    pipeline.score_threshold = parameters.score_threshold
    pipeline.tracking = parameters.tracker_settings()
    pipeline.smoothing = parameters.smoothing_settings()
    pipeline.engine.iou_threshold = parameters.iou_threshold
    pipeline.engine.max_people = parameters.max_people


def why_on_cpu(pipeline: PosePipeline, parameters: NodeParameters, logger: Logger) -> str:
    """Say that no GPU is used though any device is allowed, loudly if one was to be expected.

    Returns:
        The warning; "" if none is due.
    """
    if parameters.device != "auto" or pipeline.engine.device != "cpu":
        return ""
    from pose_node.inference.devices import is_cuda_expected, why_no_cuda  # imports torch

    why = why_no_cuda() or f"{pipeline.engine.backend} cannot use the GPU"
    reason = f"device: auto, running on the CPU: {why}"
    if is_cuda_expected():
        logger.warning(reason)
        return reason
    logger.info(reason)
    return ""


def load_pipeline(parameters: NodeParameters) -> PosePipeline:
    """Load the network that the parameters name, and run it once.

    Raises:
        PoseNodeError: the model or the device cannot be used.
        ValueError: the model does not go with the other parameters.
    """
    try:
        from pose_node.inference.engine import PoseEngine  # takes seconds: not before it is needed
    except ModuleNotFoundError as error:
        raise PoseNodeError(
            f"the Python package {error.name} is missing: `pip install torch safetensors` into the "
            "Python that ROS uses, see the README"
        ) from error
    if parameters.auto_fetch and parameters.model in KNOWN_MODELS:
        fetch_model(parameters.model)
    engine = PoseEngine.load(
        parameters.model,
        device=parameters.device,
        half=parameters.half,
        backend=parameters.backend,
        threads=parameters.threads or None,
        image_size=parameters.image_size,
        score_threshold=parameters.score_threshold,
        iou_threshold=parameters.iou_threshold,
        max_people=parameters.max_people,
        classes=tuple(filter(None, parameters.classes)) or None,
        skeleton=parameters.skeleton or None,
        end_to_end=parameters.end_to_end or None,
        onnx_layout=parameters.onnx_layout or None,
    )
    engine.warm_up(batch=len(parameters.cameras))
    return PosePipeline(
        engine, tracking=parameters.tracker_settings(), smoothing=parameters.smoothing_settings()
    )
