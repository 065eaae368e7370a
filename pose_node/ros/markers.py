"""People in space as markers for RViz: for each person limbs, joints and a label.

A track keeps its colour and its marker ids; who has left is deleted at once, and all of it fades by
itself when the node falls silent.
"""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from pose_node.depth import Poses3D
from pose_node.drawing import TRACKS, UNTRACKED
from pose_node.poses import Skeleton

LIMBS, JOINTS, LABELS = "limbs", "joints", "labels"
"""The namespaces, which RViz can show and hide."""

OPTICAL_UP = (0.0, -1.0, 0.0)
"""Where up is in the optical frame of a camera that is held upright."""

_LIMB_WIDTH, _JOINT_SIZE, _TEXT_HEIGHT, _LABEL_GAP = 0.025, 0.05, 0.12, 0.25  # metres
_LARGEST_ID = (1 << 31) - 1


class PersonMarkers:
    """Makes the markers of each image, knowing what RViz still shows of those before."""

    def __init__(self) -> None:
        self._shown: set[tuple[str, int]] = set()

    def update(
        self,
        header: Header,
        people: Poses3D,
        skeleton: Skeleton,
        *,
        lifetime: float = 0.5,
        up: tuple[float, float, float] = OPTICAL_UP,
    ) -> MarkerArray:
        """Show these people instead of those before.

        Args:
            header: whose frame the points are in.
            people: in metres; unknown points are left out.
            skeleton: gives the limbs, K as in `people`.
            lifetime: seconds after which RViz removes a marker by itself, 0 for never.
            up: direction in that frame in which labels stand off.

        Returns:
            A LINE_LIST, a SPHERE_LIST and a text for each person of whom anything is known, and a
            DELETE for each marker of before that is not among them.
        """
        duration = _to_duration(lifetime)
        markers = []
        for person in range(len(people)):
            markers += _mark(header, people, person, skeleton, np.array(up))
        for marker in markers:
            marker.lifetime = duration
        shown = {(marker.ns, marker.id) for marker in markers}
        gone = [
            Marker(header=header, ns=name, id=number, action=Marker.DELETE)
            for name, number in sorted(self._shown - shown)
        ]
        self._shown = shown
        return MarkerArray(markers=gone + markers)

    def clear(self, header: Header) -> MarkerArray:
        """Show nobody any more."""
        self._shown = set()
        return MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])


def _mark(
    header: Header, people: Poses3D, person: int, skeleton: Skeleton, up: np.ndarray
) -> list[Marker]:
    """The markers of one person."""
    points = people.points[person].astype(np.float64)
    known = np.isfinite(points).all(axis=1)
    if not known.any():
        return []
    track_id = int(people.ids[person])
    color = _to_color(UNTRACKED if track_id < 0 else TRACKS[track_id % len(TRACKS)])
    # The untracked are told apart by their place in the list, with ids that no track has.
    number = -1 - person if track_id < 0 else track_id & _LARGEST_ID
    at = [Point(x=x, y=y, z=z) for x, y, z in points.tolist()]
    joints = [at[k] for k in np.flatnonzero(known)]
    ends = [at[k] for a, b in skeleton.edges if known[a] and known[b] for k in (a, b)]
    markers = [_marker(header, JOINTS, number, Marker.SPHERE_LIST, color, _JOINT_SIZE, joints)]
    if ends:  # RViz complains of empty lists
        line = _marker(header, LIMBS, number, Marker.LINE_LIST, color, _LIMB_WIDTH, ends)
        markers.append(line)
    position = people.positions[person].astype(np.float64)
    above = float((points[known] @ up).max() - position @ up) + _LABEL_GAP
    label = _marker(header, LABELS, number, Marker.TEXT_VIEW_FACING, color, _TEXT_HEIGHT, [])
    x, y, z = (position + above * up).tolist()
    label.pose.position = Point(x=x, y=y, z=z)
    distance = f"{np.linalg.norm(position):.2f} m"
    label.text = distance if track_id < 0 else f"#{track_id} {distance}"
    return [*markers, label]


def _marker(
    header: Header,
    name: str,
    number: int,
    kind: int,
    color: ColorRGBA,
    size: float,
    points: list[Point],
) -> Marker:
    return Marker(
        header=header,
        ns=name,
        id=number,
        type=kind,
        action=Marker.ADD,
        pose=Pose(orientation=Quaternion(w=1.0)),
        scale=Vector3(x=size, y=size, z=size),
        color=color,
        points=points,
    )


def _to_color(bgr: tuple[int, int, int]) -> ColorRGBA:
    blue, green, red = (value / 255 for value in bgr)
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)


def _to_duration(seconds: float) -> Duration:
    whole, nanoseconds = divmod(round(seconds * 1e9), 1_000_000_000)
    return Duration(sec=whole, nanosec=nanoseconds)
