"""Draws markers.png: the markers of a real person as RViz shows them, by matplotlib.

    python docs/draw_markers.py COLOUR.png DEPTH.png CAMERA_INFO.yaml markers.png

The colour image, the depth image registered to it (16 bits, millimetres) and the calibration of the
colour camera. Needs ROS, the fetched model and matplotlib (requirements/develop.txt).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from pose_node import PoseEngine, Poses
from pose_node.depth import lift
from pose_node.ros.camera_info import read_calibration, to_camera_info
from pose_node.ros.markers import PersonMarkers
from pose_node.ros.messages import to_camera_model

VIEWS = (("from the camera", 0, -90), ("from its left", 15, -150))


def make_markers(colour: Path, depth: Path, calibration: Path) -> list[Marker]:
    """The markers of everybody in a pair of images."""
    header = Header(frame_id="camera_optical_frame")
    engine = PoseEngine.load("yolo11n-pose")
    (found,) = engine([np.asarray(cv2.imread(str(colour)))])
    tracked = Poses.from_arrays(
        found.boxes_xyxy, found.scores, found.keypoints, np.arange(len(found)) + 1
    )
    camera = to_camera_model(to_camera_info(read_calibration(calibration), header))
    millimetres = np.asarray(cv2.imread(str(depth), cv2.IMREAD_UNCHANGED))
    people = lift(tracked, millimetres, camera, skeleton=engine.skeleton)
    return list(PersonMarkers().update(header, people, engine.skeleton).markers)


def to_scene(points: Any) -> np.ndarray:
    """(N, 3): right, ahead and up of points in the optical frame."""
    return np.array([(point.x, point.z, -point.y) for point in points])


def draw(markers: list[Marker], axes: Any) -> None:
    """Draw markers as what they are."""
    for marker in markers:
        color = (marker.color.r, marker.color.g, marker.color.b)
        points = to_scene(marker.points)
        if marker.type == Marker.LINE_LIST:
            for start in range(0, len(points), 2):
                axes.plot(*points[start : start + 2].T, color=color, linewidth=3)
        elif marker.type == Marker.SPHERE_LIST:
            axes.scatter(*points.T, color=color, edgecolors="black", s=45, depthshade=False)
        elif marker.type == Marker.TEXT_VIEW_FACING:
            (place,) = to_scene([marker.pose.position])
            axes.text(*place, marker.text, ha="center", fontsize=12, weight="bold")
    axes.set(xlabel="x right (m)", ylabel="z ahead (m)", zlabel="-y up (m)")


def draw_camera(axes: Any) -> None:
    """Its x, y and z in red, green and blue."""
    for end, color in (((0.25, 0, 0), "r"), ((0, 0, -0.25), "g"), ((0, 0.25, 0), "b")):
        axes.plot(*np.stack([np.zeros(3), end]).T, color=color, linewidth=2)
    axes.text(0, 0, 0.1, "camera", ha="center")


def main() -> None:
    """Read the command line and write the picture."""
    parser = argparse.ArgumentParser(description="Draw the markers of a real person.")
    for name in ("colour", "depth", "calibration", "output"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    markers = make_markers(options.colour, options.depth, options.calibration)
    figure = plt.figure(figsize=(9, 4))
    for place, (title, elevation, azimuth) in enumerate(VIEWS, start=1):
        axes: Any = figure.add_subplot(1, 2, place, projection="3d")
        axes.view_init(elev=elevation, azim=azimuth)
        draw(markers, axes)
        axes.set(xlim=(-0.9, 0.9), ylim=(0, 1.8), zlim=(-0.6, 0.9), title=f"seen {title}")
        axes.set(xticks=(-0.5, 0, 0.5), yticks=(0, 0.5, 1, 1.5), zticks=(-0.5, 0, 0.5))
        axes.set_proj_type("ortho")
        if elevation:
            draw_camera(axes)
        else:  # what is ahead cannot be told from here
            axes.set(yticks=(), ylabel="")
        axes.set_box_aspect((1.8, 1.8, 1.5), zoom=1.15)
    figure.tight_layout()
    figure.savefig(options.output, dpi=80)


if __name__ == "__main__":
    main()
