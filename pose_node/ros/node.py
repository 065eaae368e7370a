"""The node: mailbox, worker, publishers. It holds no maths: what needs no node stands elsewhere.

A lifecycle node. Configuring loads the network and makes the topics, activating starts to listen,
deactivating stops, cleaning up frees the network. It walks to active by itself (`autostart`).
"""

from __future__ import annotations

import functools
import math
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_srvs.srv import SetBool

from pose_node.errors import ImageError, PoseNodeError
from pose_node.imaging import check
from pose_node.msg import SkeletonInfo
from pose_node.pipeline import Found, PosePipeline
from pose_node.process_settings import release_memory
from pose_node.ros import messages, start_up
from pose_node.ros.adapters import check_adapters
from pose_node.ros.camera_topics import ArrivedImage, CameraTopics
from pose_node.ros.depth_topics import check_target_frame
from pose_node.ros.diagnostics import NodeReport, to_diagnostics
from pose_node.ros.loading import LoadPipeline, load_pipeline
from pose_node.ros.mailbox import Mailbox
from pose_node.ros.node_topics import NodeTopics
from pose_node.ros.parameters import NodeParameters
from pose_node.ros.statistics import StageStatistics
from pose_node.ros.throttle import Throttle
from pose_node.ros.worker import Worker

Transition = Callable[["PoseNode", LifecycleState], TransitionCallbackReturn]


def _with_reason(transition: Transition) -> Transition:
    """rclpy swallows what a transition raises without a word: log it."""

    @functools.wraps(transition)
    def run(node: PoseNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not stay unknown
            lines = "".join(traceback.format_exception(error))
            node.get_logger().error(f"cannot {transition.__name__.removeprefix('on_')}: {lines}")
            return TransitionCallbackReturn.ERROR

    return run


class PoseNode(LifecycleNode):
    """Finds the people in the images of one or several cameras.

    Args:
        load: makes the pipeline when the node is configured.
        arguments: of `rclpy.lifecycle.LifecycleNode`.
    """

    def __init__(self, load: LoadPipeline = load_pipeline, **arguments: Any) -> None:
        super().__init__("pose_node", **arguments)
        try:
            self.parameters = NodeParameters.declare(self)
        except Exception:
            super().destroy_node()  # ours would expect a complete node
            raise
        self._load = load
        self._enabled = True
        self._active = False
        self._device_warning = ""
        self._built_from: dict[str, Any] = {}
        # Owns the device: it loads the network, too. torch keeps a pool of threads for every thread
        # that ever computed, and with more of them than processors each operator takes longer.
        self._device_thread: ThreadPoolExecutor | None = None
        self._pipeline: PosePipeline | None = None
        self._first_id = 1
        self._topics = NodeTopics(self)
        self._mailbox: Mailbox[ArrivedImage] | None = None
        self._worker: Worker[ArrivedImage] | None = None
        self._stages = StageStatistics()
        self._throttle = Throttle(seconds=5.0)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Reports must come also while simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics_timer = self.create_timer(
            self.parameters.diagnostics_period, self._publish_diagnostics, clock=steady
        )
        self._start_up_timer = self.create_timer(
            start_up.SECONDS, self._check_start_up, clock=steady, autostart=False
        )
        self.create_service(SetBool, "~/enable", self._on_enable)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._skeleton_info = self.create_publisher(SkeletonInfo, "skeleton_info", latched)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._take_parameters)

    # Lifecycle

    @_with_reason
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network and make the topics."""
        if not self._build():
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def _build(self) -> bool:
        """Network and topics as the parameters say; whether that worked."""
        try:
            self._device_thread = ThreadPoolExecutor(1, "pose worker")
            self._check_packages()
            self._pipeline = self._device_thread.submit(self._load, self.parameters).result()
            self._pipeline.first_id = self._first_id
            self._topics.create(self.parameters)
        except (PoseNodeError, ValueError) as error:
            self.get_logger().error(f"cannot configure: {error}")
            self._free()
            return False
        self._built_from = self.parameters.fixed_values()
        engine = self._pipeline.engine
        self._report_device()
        self._stages = StageStatistics()
        now = self.get_clock().now().to_msg()
        self._skeleton_info.publish(messages.to_skeleton_info(engine.skeleton, now))
        self.get_logger().info(
            f"{engine.model_name} on {engine.device} ({engine.device_description}), listening to "
            f"{', '.join(camera.topic for camera in self._topics.cameras.values())} once active"
        )
        return True

    def _check_packages(self) -> None:
        """Raises ValueError if a parameter asks for a package that is not there."""
        check_target_frame(self.parameters.target_frame)
        check_adapters(self.parameters.adapter_names(), self.parameters.cameras)

    @_with_reason
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to listen and to work."""
        if self._built_from != self.parameters.fixed_values():  # changed since then
            self._free()
            if not self._build():
                return TransitionCallbackReturn.ERROR
        assert self._pipeline is not None
        assert self._device_thread is not None
        self._mailbox = Mailbox()
        self._worker = Worker(
            self._mailbox,
            self._pipeline,
            deliver=self._deliver,
            refuse=lambda arrived, error: self._refuse(arrived.camera, error),
            fail=self._fail,
            thread=self._device_thread,
        )
        self._topics.subscribe(
            self._on_image, lambda: self.parameters.max_image_pixels, self._refuse
        )
        self._active = True
        self._start_up_timer.reset()
        return super().on_activate(state)

    @_with_reason
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop to listen and to work; the images being worked on are finished."""
        self._stop()
        return super().on_deactivate(state)

    @_with_reason
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free network and topics."""
        self._free()
        return super().on_cleanup(state)

    @_with_reason
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything."""
        self._free()
        return super().on_shutdown(state)

    @_with_reason
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, so that configuring again starts afresh."""
        self._free()
        return super().on_error(state)

    def destroy_node(self) -> None:
        """Stop the worker before the node goes."""
        self._free()
        super().destroy_node()

    def _stop(self) -> None:
        self._active = False
        self._start_up_timer.cancel()
        self._topics.unsubscribe()
        worker, self._worker, self._mailbox = self._worker, None, None
        if worker is not None:
            worker.stop()
        if self._pipeline is not None:
            self._pipeline.forget()
            self._first_id = self._pipeline.next_id  # ids are not used again, whatever happens

    def _free(self) -> None:
        self._stop()
        self._topics.destroy()
        self._pipeline = None
        if self._device_thread is not None:
            self._device_thread.shutdown()
            release_memory()
        self._device_thread = None
        self._device_warning = ""

    # From image to people

    def _on_image(self, camera: CameraTopics, arrived: ArrivedImage) -> None:
        """In the executor's thread: check and store, nothing else."""
        camera.statistics.received(self._age_ms(arrived))
        if not self._enabled or self._mailbox is None:
            return
        try:
            check(arrived.image, max_pixels=arrived.max_pixels)
        except ImageError as error:
            self._refuse(camera.camera, error)
            return
        if self._mailbox.put(camera.camera, arrived):
            camera.statistics.replaced()

    def _deliver(self, arrived: ArrivedImage, found: Found, turn: float) -> None:
        """In the worker's thread: publish the people of one image."""
        assert self._pipeline is not None
        skeleton = self._pipeline.engine.skeleton
        seconds = self._topics.publish(arrived, found, skeleton)
        statistics = self._topics.cameras[arrived.camera].statistics
        statistics.published((turn - arrived.arrived) * 1e3, self._age_ms(arrived))
        more = self._topics.publish_more(arrived, found, skeleton, self.parameters)
        self._stages.worked({**self._pipeline.stage_times, "publish": seconds, **more})

    def _age_ms(self, arrived: ArrivedImage) -> float:
        """Milliseconds since the image was taken, by the node's clock (which may be simulated).

        NaN if the image does not say when.
        """
        stamp = messages.to_stamp_ns(arrived.header)
        return (self.get_clock().now().nanoseconds - stamp) / 1e6 if stamp else math.nan

    def _refuse(self, camera: str, error: ImageError) -> None:
        topics = self._topics.cameras[camera]
        topics.statistics.refused(error.kind, str(error))
        if self._throttle.lets_through(camera, error.kind):
            self.get_logger().error(f"image on {topics.topic} refused: {error}")

    def _fail(self, error: Exception) -> None:
        self._stages.failed(str(error) or type(error).__name__)
        if self._throttle.lets_through("failure", type(error).__name__):
            expected = isinstance(error, PoseNodeError)
            lines = [str(error)] if expected else traceback.format_exception(error)
            self.get_logger().error(f"an image could not be processed: {''.join(lines)}")

    # Services, parameters, reports

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        response.success = True
        response.message = "images are processed" if self._enabled else "images are ignored"
        self.get_logger().info(response.message)
        return response

    def _check_parameters(self, given: list[Parameter[Any]]) -> SetParametersResult:
        try:
            self.parameters.changed(_values(given), active=self._active)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _take_parameters(self, given: list[Parameter[Any]]) -> None:
        self.parameters = self.parameters.changed(_values(given), active=self._active)
        period = int(self.parameters.diagnostics_period * 1e9)
        if period != self._diagnostics_timer.timer_period_ns:
            self._diagnostics_timer.timer_period_ns = period
            self._diagnostics_timer.reset()  # else the old period ends first
        if self._pipeline is not None:
            engine = self._pipeline.engine
            self._pipeline.score_threshold = self.parameters.score_threshold
            self._pipeline.tracking = self.parameters.tracker_settings()
            self._pipeline.smoothing = self.parameters.smoothing_settings()
            engine.iou_threshold = self.parameters.iou_threshold
            engine.max_people = self.parameters.max_people

    def _report_device(self) -> None:
        """Say loudly that a GPU was hoped for and is not used."""
        assert self._pipeline is not None
        if self.parameters.device != "auto" or self._pipeline.engine.device != "cpu":
            return
        from pose_node.inference.devices import is_cuda_expected, why_no_cuda

        reason = f"device: auto, running on the CPU: {why_no_cuda()}"
        if is_cuda_expected():
            self._device_warning = reason
            self.get_logger().warning(reason)
        else:
            self.get_logger().info(reason)

    def _check_start_up(self) -> None:
        """Once, some seconds after activation: say why no images come."""
        self._start_up_timer.cancel()
        for reason in self._topics.explain_silence():
            self.get_logger().warning(reason)

    def _publish_diagnostics(self) -> None:
        engine = self._pipeline.engine if self._pipeline is not None else None
        report = NodeReport(
            state=self._state_name(),
            enabled=self._enabled,
            model=engine.model_name if engine else "",
            device=engine.device if engine else "",
            device_description=engine.device_description if engine else "",
            half=self.parameters.half,
            device_warning=self._device_warning,
            stages_ms=self._stages.stages_ms(),
            failing=self._stages.failing,
            failures=self._stages.failures,
            last_failure=self._stages.last_failure,
        )
        message = to_diagnostics(
            self.get_clock().now().to_msg(),
            self.get_fully_qualified_name(),
            report,
            {camera.topic: camera.statistics.report() for camera in self._topics.cameras.values()},
            {depth.topic: depth.statistics.report() for depth in self._topics.depths.values()},
        )
        self._diagnostics.publish(message)

    def _state_name(self) -> str:
        if self._active:
            return "active"
        return "inactive" if self._pipeline is not None else "unconfigured"


def _values(given: Sequence[Parameter[Any]]) -> dict[str, Any]:
    return {parameter.name: parameter.value for parameter in given}
