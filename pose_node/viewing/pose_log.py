"""Writes frame after frame into a Rerun recording: what is where, when, and how it is laid out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from pose_node.depth import Poses3D
from pose_node.poses import ChannelOrder, Poses, Skeleton
from pose_node.viewing import archetypes
from pose_node.viewing.sdk import load_rerun

_YEAR_NS = 365 * 86_400 * 1_000_000_000
# The layout is sent again for each new camera, up to this many; then only at the end.
_LAYOUTS = 16
_CLASSES = 40  # to begin with; each one has the names and limbs of the whole skeleton

Axes = Literal["optical", "up"]
"""Of points in space: of a camera (x right, y down, z forward), or of a robot or map (z up)."""


@dataclass(frozen=True)
class ViewedFrame:
    """What there is to see of one image.

    Attributes:
        camera: name of the camera or source; each is a place of its own in the viewer.
        index: number of the frame; None for the next one.
        stamp_ns: nanoseconds, since 1970 or since the start of the recording; None for none.
        poses: the people.
        image: (H, W, 3) uint8; None where there is none.
        channel_order: of the image.
        people_3d: the same people in space.
        axes: of the points in space.
        file: where the image comes from, if that is worth saying.
    """

    camera: str
    index: int | None
    stamp_ns: int | None
    poses: Poses
    image: np.ndarray | None = None
    channel_order: ChannelOrder = "bgr"
    people_3d: Poses3D | None = None
    axes: Axes = "optical"
    file: str = ""


@dataclass
class _Camera:
    """What was logged of one camera."""

    root: str
    next_index: int = 0
    skeleton: Skeleton | None = None
    classes: int = 0
    axes: Axes | None = None
    file: bool = False
    curves: set[str] = field(default_factory=set)
    visible: set[str] = field(default_factory=set)


class PoseLog:
    """The people of any number of cameras, on timelines.

    Timelines: ``frame``, the number of the frame; ``stamp``, the capture time, or ``time``, seconds
    since the start, for videos and simulated clocks.

    Args:
        stream: a `rerun.RecordingStream`.
        keypoint_threshold: keypoints with a lower score are not logged.
        jpeg_quality: of the images.

    Attributes:
        num_frames: frames so far, of all cameras.
    """

    def __init__(
        self, stream: Any, *, keypoint_threshold: float = 0.5, jpeg_quality: int = 80
    ) -> None:
        self._stream = stream
        self._keypoint_threshold = keypoint_threshold
        self._jpeg_quality = jpeg_quality
        self._cameras: dict[str, _Camera] = {}
        self.num_frames = 0

    def write(self, frame: ViewedFrame, skeleton: Skeleton) -> None:
        """Log one frame.

        Raises:
            ValueError: the people have other keypoints than the skeleton.
        """
        if frame.poses.num_keypoints != skeleton.num_keypoints:
            raise ValueError(
                f"skeleton {skeleton.name!r} has {skeleton.num_keypoints} keypoints, the people "
                f"have {frame.poses.num_keypoints}"
            )
        camera = self._camera(frame)
        self._describe(camera, frame, skeleton)
        self._set_times(camera, frame)
        self._log_frame(camera, frame)
        self._log_scores(camera, frame.poses)
        self.num_frames += 1

    def finish(self) -> None:
        """Send the layout of all cameras, where some came after the last one was sent."""
        if len(self._cameras) > _LAYOUTS:
            self._send_layout()

    def _camera(self, frame: ViewedFrame) -> _Camera:
        if frame.camera not in self._cameras:
            name = load_rerun().escape_entity_path_part(frame.camera or "camera")
            self._cameras[frame.camera] = _Camera(name)
            self._layout_changed()
        return self._cameras[frame.camera]

    def _describe(self, camera: _Camera, frame: ViewedFrame, skeleton: Skeleton) -> None:
        """Log what holds for all frames: classes, axes, and the style of curves."""
        rerun = load_rerun()
        needed = 1 + int(archetypes.class_ids(frame.poses.ids).max(initial=0))
        if camera.skeleton != skeleton or camera.classes < needed:
            camera.skeleton = skeleton
            camera.classes = max(_CLASSES, 2 * needed if needed > _CLASSES else 0, camera.classes)
            context = archetypes.annotation_context(skeleton, camera.classes)
            self._stream.log(camera.root, context, static=True)
        if frame.people_3d is not None and camera.axes != frame.axes:
            camera.axes = frame.axes
            axes = rerun.ViewCoordinates
            found = axes.RDF if frame.axes == "optical" else axes.FLU
            self._stream.log(f"{camera.root}/space", found, static=True)
            self._layout_changed()
        if frame.file and not camera.file:
            camera.file = True
            self._layout_changed()

    def _set_times(self, camera: _Camera, frame: ViewedFrame) -> None:
        index = frame.index
        if index is None or index < camera.next_index:
            index = camera.next_index
        camera.next_index = index + 1
        self._stream.reset_time()
        self._stream.set_time("frame", sequence=index)
        if frame.stamp_ns is None:
            return
        if frame.stamp_ns < _YEAR_NS:
            self._stream.set_time("time", duration=np.timedelta64(frame.stamp_ns, "ns"))
        else:
            self._stream.set_time("stamp", timestamp=np.datetime64(frame.stamp_ns, "ns"))

    def _log_frame(self, camera: _Camera, frame: ViewedFrame) -> None:
        rerun = load_rerun()
        parts: dict[str, Any] = {
            "image/boxes": archetypes.boxes_archetype(frame.poses),
            "image/keypoints": archetypes.keypoints_archetype(
                frame.poses, keypoint_threshold=self._keypoint_threshold
            ),
            "people": rerun.Scalars(len(frame.poses)),
        }
        if frame.image is not None:
            parts["image"] = archetypes.image_archetype(
                frame.image, frame.channel_order, jpeg_quality=self._jpeg_quality
            )
        if frame.people_3d is not None:
            parts["space/keypoints"] = archetypes.points_archetype(
                frame.people_3d, keypoint_threshold=self._keypoint_threshold
            )
        if frame.file:
            parts["file"] = rerun.TextDocument(frame.file)
        for path, archetype in parts.items():
            self._stream.log(f"{camera.root}/{path}", archetype)

    def _log_scores(self, camera: _Camera, poses: Poses) -> None:
        """A point on each curve, and an end to the curves of those who left."""
        curves = archetypes.scores_archetypes(poses)
        for name, scalars in curves.items():
            path = f"{camera.root}/scores/{name}"
            if name not in camera.curves:
                camera.curves.add(name)
                style = archetypes.curve_style(name)
                if style is not None:
                    self._stream.log(path, style, static=True)
            self._stream.log(path, scalars)
        for name in camera.visible - set(curves):
            self._stream.log(f"{camera.root}/scores/{name}", load_rerun().Clear(recursive=False))
        camera.visible = set(curves)

    def _layout_changed(self) -> None:
        if len(self._cameras) <= _LAYOUTS:
            self._send_layout()

    def _send_layout(self) -> None:
        layout = load_rerun().blueprint
        views = [_views(layout, name, camera) for name, camera in self._cameras.items()]
        top = views[0] if len(views) == 1 else layout.Tabs(*views)
        self._stream.send_blueprint(
            layout.Blueprint(
                top, layout.SelectionPanel(state="collapsed"), layout.TimePanel(state="expanded")
            )
        )


def _views(layout: Any, name: str, camera: _Camera) -> Any:
    """The views of one camera: the image, points in space where there are any, and curves."""
    pictures = [layout.Spatial2DView(origin=f"{camera.root}/image", name="image")]
    if camera.axes is not None:
        pictures.append(layout.Spatial3DView(origin=f"{camera.root}/space", name="space"))
    curves = [
        layout.TimeSeriesView(
            origin=f"{camera.root}/scores", name="scores", axis_y=layout.ScalarAxis(range=(0, 1))
        ),
        layout.TimeSeriesView(origin=f"{camera.root}/people", name="people"),
    ]
    if camera.file:
        curves.append(layout.TextDocumentView(origin=f"{camera.root}/file", name="file"))
    return layout.Horizontal(
        pictures[0] if len(pictures) == 1 else layout.Vertical(*pictures),
        layout.Vertical(*curves),
        column_shares=[2, 1],
        name=name or "camera",
    )
