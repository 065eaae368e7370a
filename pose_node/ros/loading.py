"""From parameters to a pipeline that is ready to work. No ROS here."""

from __future__ import annotations

from collections.abc import Callable

from pose_node.errors import PoseNodeError
from pose_node.models.catalog import KNOWN_MODELS
from pose_node.models.fetch import fetch_model
from pose_node.pipeline import PosePipeline
from pose_node.ros.parameters import NodeParameters

LoadPipeline = Callable[[NodeParameters], PosePipeline]


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
        image_size=parameters.image_size,
        score_threshold=parameters.score_threshold,
        iou_threshold=parameters.iou_threshold,
        max_people=parameters.max_people,
        classes=tuple(filter(None, parameters.classes)) or None,
        skeleton=parameters.skeleton or None,
        end_to_end=parameters.end_to_end or None,
        onnx_layout=parameters.onnx_layout or None,
    )
    engine.warm_up()
    return PosePipeline(
        engine, tracking=parameters.tracker_settings(), smoothing=parameters.smoothing_settings()
    )
