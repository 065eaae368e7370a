"""The node: mailbox, worker, publishers. It holds no maths: what needs no node stands elsewhere.

A lifecycle node. Configuring loads the network and makes the topics, activating starts to listen,
deactivating stops, cleaning up frees the network. It walks to active by itself (`autostart`).
"""

from __future__ import annotations

import math
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_srvs.srv import SetBool

from pose_node.errors import DeviceError, ImageError, PoseNodeError
from pose_node.imaging import check
from pose_node.inference.device_faults import find_device_fault
from pose_node.msg import SkeletonInfo
from pose_node.pipeline import Found, PosePipeline
from pose_node.ros import messages, start_up
from pose_node.ros.adapters import check_adapters
from pose_node.ros.camera_topics import ArrivedImage, CameraTopics
from pose_node.ros.depth_topics import check_target_frame
from pose_node.ros.device_thread import DeviceThread
from pose_node.ros.health import NodeReport
from pose_node.ros.lifecycle import with_reason
from pose_node.ros.loading import LoadPipeline, apply_parameters, load_pipeline, why_on_cpu
from pose_node.ros.mailbox import Mailbox
from pose_node.ros.node_topics import NodeTopics
from pose_node.ros.parameters import NodeParameters
from pose_node.ros.recovery import RecoveringPipeline
from pose_node.ros.reports import Reports
from pose_node.ros.statistics import StageStatistics
from pose_node.ros.throttle import Throttle

if TYPE_CHECKING:
    from pose_node.inference.engine import PoseEngine

STOP_SECONDS = 10.0
"""For which the images being worked on may take to be finished; a device that hangs never ends."""


class PoseNode(LifecycleNode):
    """Finds the people in the images of one or several cameras.

    Args:
        load: makes the pipeline when the node is configured.
        interrupted: whether the process shall end, so that loading is not waited for any more.
        enabled: whether images are processed, until the service ~/enable says otherwise.
        arguments: of `rclpy.lifecycle.LifecycleNode`.

    Attributes:
        parameters: as they are now.
        enabled: as it is now.
        fails_for_now: the last attempt to configure failed for the device, and may succeed later.
    """

    def __init__(
        self,
        load: LoadPipeline = load_pipeline,
        *,
        interrupted: Callable[[], bool] = lambda: False,
        enabled: bool = True,
        **arguments: Any,
    ) -> None:
        super().__init__("pose_node", **arguments)
        try:
            self.parameters = NodeParameters.declare(self)
        except Exception:
            super().destroy_node()  # ours would expect a complete node
            raise
        self._load = load
        self._interrupted = interrupted
        self.enabled = enabled
        self._active = False
        self._device_warning = ""
        self._configure_error = ""
        self.fails_for_now = False
        self._finalized = False
        self._applying = threading.Lock()
        self._built_from: dict[str, Any] = {}
        self._device = DeviceThread(interrupted)
        self._first_id = 1
        self._topics = NodeTopics(self)
        self._mailbox: Mailbox[ArrivedImage] | None = None
        self._stages = StageStatistics()
        self._throttle = Throttle(seconds=5.0)
        self._reports = Reports(self)
        # Reports must come also while simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics_timer = self.create_timer(
            self.parameters.diagnostics_period, self._report, clock=steady
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

    @with_reason
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network and make the topics."""
        if not self._build():
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def _build(self) -> bool:
        """Network and topics as the parameters say; whether that worked."""
        self._configure_error, self.fails_for_now = "", False
        try:
            self._check_packages()
            engine = self._load_network()
            self._topics.create(self.parameters)
        except Exception as error:
            fault = find_device_fault(error)
            self._configure_error = fault.reason if fault else _reason(error)
            self.fails_for_now = fault is not None
            if fault is None and not isinstance(error, (PoseNodeError, ValueError)):
                raise
        if self._configure_error:
            tell = self.get_logger().info if self._interrupted() else self.get_logger().error
            tell(f"cannot configure: {self._configure_error}")
            self._free()
            return False
        self._built_from = self.parameters.fixed_values()
        self._stages = StageStatistics()
        now = self.get_clock().now().to_msg()
        self._skeleton_info.publish(messages.to_skeleton_info(engine.skeleton, now))
        self.get_logger().info(
            f"{engine.model_name} by {engine.backend} on {engine.device} "
            f"({engine.device_description}), listening to "
            f"{', '.join(camera.topic for camera in self._topics.cameras.values())} once active"
        )
        return True

    def _load_network(self) -> PoseEngine:
        device = self._device.load(
            lambda: RecoveringPipeline(
                lambda: self._load(self.parameters),
                logger=self.get_logger(),
                adopt=self._adopt,
                first_id=self._first_id,
            )
        )
        assert device.pipeline is not None
        return device.pipeline.engine

    def _adopt(self, pipeline: PosePipeline) -> None:
        """In the worker's thread: a new pipeline is in use."""
        with self._applying:  # else values of before may come last
            apply_parameters(pipeline, self.parameters)
        self._device_warning = why_on_cpu(pipeline, self.parameters, self.get_logger())

    def _check_packages(self) -> None:
        """Raises ValueError if a parameter asks for a package that is not there."""
        check_target_frame(self.parameters.target_frame)
        check_adapters(self.parameters.adapter_names(), self.parameters.cameras)

    @with_reason
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to listen and to work."""
        if self._built_from != self.parameters.fixed_values():  # changed since then
            self._free()
            if not self._build():
                return TransitionCallbackReturn.ERROR
        self._mailbox = Mailbox()
        self._device.work(
            self._mailbox,
            deliver=self._deliver,
            refuse=lambda arrived, error: self._refuse(arrived.camera, error),
            fail=self._fail,
            window=lambda: self.parameters.batch_window,
            cameras=len(self.parameters.cameras),
        )
        for camera in self._topics.cameras.values():
            camera.statistics.nothing_awaited()
        self._topics.subscribe(
            self._on_image,
            lambda: self.parameters.max_image_pixels,
            self._refuse,
            self._choose_reduction,
        )
        self._active = True
        self._start_up_timer.reset()
        return super().on_activate(state)

    @with_reason
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop to listen and to work; the images being worked on are finished."""
        if not self._stop():
            return TransitionCallbackReturn.ERROR
        return super().on_deactivate(state)

    @with_reason
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free network and topics."""
        self._free()
        return super().on_cleanup(state)

    @with_reason
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything."""
        self._free()
        self._finalized = True
        return super().on_shutdown(state)

    @with_reason
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, so that configuring again starts afresh."""
        self._free()
        return super().on_error(state)

    def destroy_node(self) -> None:
        """Stop the worker before the node goes."""
        self._free()
        super().destroy_node()

    def _stop(self) -> bool:
        """Stop to listen and to work. Returns whether that could be done."""
        self._active = False
        self._start_up_timer.cancel()
        self._topics.unsubscribe()
        self._mailbox = None
        stopped = self._device.rest(STOP_SECONDS)
        if not stopped:
            self.get_logger().fatal(
                "the device does not finish what it does and holds a thread that cannot be ended: "
                "see `dmesg`, and start the node anew"
            )
        self._topics.clear()
        if self._device.loaded is not None and stopped:
            self._device.loaded.forget()
            self._first_id = self._device.loaded.next_id  # not used again, whatever happens
        return stopped

    def _free(self) -> None:
        self._stop()
        self._topics.destroy()
        self._device.free()
        self._device_warning = ""

    @property
    def hangs(self) -> bool:
        """Whether the device keeps a thread, so that the process cannot end cleanly."""
        return self._device.hangs

    @property
    def is_loading(self) -> bool:
        """Whether a thread still loads a network."""
        return self._device.is_loading

    @property
    def _pipeline(self) -> PosePipeline | None:
        """The one at work; None while there is none, or its device is broken."""
        device = self._device.loaded
        return None if device is None else device.pipeline

    # From image to people

    def _on_image(self, camera: CameraTopics, arrived: ArrivedImage) -> None:
        """In the executor's thread: check and store, nothing else."""
        camera.statistics.received(self._age_ms(arrived), messages.to_stamp_ns(arrived.header))
        if not self.enabled or self._mailbox is None:
            camera.statistics.nothing_awaited()
            return
        try:
            check(arrived.image, max_pixels=arrived.max_pixels)
        except ImageError as error:
            self._refuse(camera.camera, error)
            return
        if self._mailbox.put(camera.camera, arrived):
            camera.statistics.replaced()

    def _choose_reduction(self, width: int, height: int) -> int:
        """In the worker's thread: how many times smaller an image may be decoded."""
        pipeline = self._pipeline
        if pipeline is None or not self.parameters.reduced_decoding:
            return 1
        return pipeline.engine.largest_reduction(width, height)

    def _deliver(self, arrived: ArrivedImage, found: Found, turn: float) -> None:
        """In the worker's thread: publish the people of one image."""
        pipeline = self._pipeline
        assert pipeline is not None
        skeleton = pipeline.engine.skeleton
        seconds = self._topics.publish(arrived, found, skeleton)
        statistics = self._topics.cameras[arrived.camera].statistics
        statistics.published((turn - arrived.arrived) * 1e3, self._age_ms(arrived))
        stages = {**pipeline.stage_times, "publish": seconds}
        try:
            stages |= self._topics.publish_more(arrived, found, skeleton, self.parameters)
        except Exception as error:  # noqa: BLE001 - the people are out, and come first
            statistics.failed_in_part(_reason(error))
            self._log_failure("what goes with people could not be published", error)
        else:
            statistics.complete()
        self._stages.worked(stages)

    def _age_ms(self, arrived: ArrivedImage) -> float:
        """Milliseconds since the image was taken, by the node's clock (which may be simulated).

        NaN if the image does not say when.
        """
        stamp = messages.to_stamp_ns(arrived.header)
        return (self.get_clock().now().nanoseconds - stamp) / 1e6 if stamp else math.nan

    def _refuse(self, camera: str, error: ImageError | DeviceError) -> None:
        topics = self._topics.cameras[camera]
        if isinstance(error, DeviceError):  # which was said when it broke
            topics.statistics.refused("device fault", str(error))
            return
        topics.statistics.refused(error.kind, str(error))
        if self._throttle.lets_through(camera, error.kind):
            self.get_logger().error(f"image on {topics.topic} refused: {error}")

    def _fail(self, arrived: ArrivedImage | None, error: Exception) -> None:
        """In the worker's thread: an image could not be processed, or several together (None)."""
        self._stages.failed(_reason(error))
        if arrived is not None:
            self._topics.cameras[arrived.camera].statistics.failed(_reason(error))
        self._log_failure("an image could not be processed", error)

    def _log_failure(self, what: str, error: Exception) -> None:
        if self._throttle.lets_through(what, type(error).__name__):
            expected = isinstance(error, PoseNodeError)
            lines = [str(error)] if expected else traceback.format_exception(error)
            self.get_logger().error(f"{what}: {''.join(lines)}")

    # Services, parameters, reports

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.enabled = request.data
        response.success = True
        response.message = "images are processed" if self.enabled else "images are ignored"
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
        pipeline = self._pipeline
        if pipeline is not None:
            with self._applying:
                apply_parameters(pipeline, self.parameters)

    def _check_start_up(self) -> None:
        """Once, some seconds after activation: say why no images come."""
        self._start_up_timer.cancel()
        for reason in self._topics.explain_silence():
            self.get_logger().warning(reason)

    def _report(self) -> None:
        device, pipeline = self._device.loaded, self._pipeline
        engine = None if pipeline is None else pipeline.engine
        report = NodeReport(
            state=self.state_name,
            enabled=self.enabled,
            model=engine.model_name if engine else "",
            device=engine.device if engine else "",
            device_description=engine.device_description if engine else "",
            backend=engine.backend if engine else "",
            half=self.parameters.half,
            device_warning=self._device_warning,
            configure_error=self._configure_error,
            device_fault=device.fault if device else "",
            batch_limit=device.batch_limit if device else None,
            stages=self._stages.report(),
        )
        self._reports.publish(report, self._topics)

    @property
    def state_name(self) -> str:
        """Of the lifecycle: "unconfigured", "inactive", "active" or "finalized"."""
        if self._finalized:
            return "finalized"
        if self._active:
            return "active"
        return "inactive" if self._device.loaded is not None else "unconfigured"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _values(given: Sequence[Parameter[Any]]) -> dict[str, Any]:
    return {parameter.name: parameter.value for parameter in given}
