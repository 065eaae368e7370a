"""Between messages and values, both ways. The only module that touches the fields of messages.

Large and frequent messages go as bytes, see `pose_node.ros.cdr`.
"""

from __future__ import annotations

import array

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from pose_node import imaging
from pose_node.camera_model import CameraModel
from pose_node.depth import Poses3D
from pose_node.exercise import PersonProgress
from pose_node.msg import (
    BoundingBox,
    ExerciseState,
    Keypoint,
    PersonPose,
    PersonPose3D,
    PersonPose3DArray,
    PersonPoseArray,
    SkeletonInfo,
)
from pose_node.poses import Poses, Skeleton
from pose_node.ros import cdr


def to_stamp_ns(header: Header) -> int:
    """Capture time in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def from_image(message: Image) -> imaging.RawImage:
    """The image of a message, its bytes not copied."""
    return imaging.RawImage(
        encoding=message.encoding,
        width=message.width,
        height=message.height,
        step=message.step,
        data=message.data,
        is_bigendian=bool(message.is_bigendian),
    )


def from_compressed_image(message: CompressedImage) -> imaging.CompressedImage:
    """The compressed image of a message, its bytes not copied."""
    return imaging.CompressedImage(format=message.format, data=message.data)


def read_image(data: bytes) -> tuple[Header, imaging.RawImage]:
    """Header and image of the bytes of an Image, the pixels not copied.

    Args:
        data: of a raw subscription.

    Raises:
        ImageError: the bytes are no such message (kind "malformed message").
    """
    header, image = cdr.read_image(data)
    return _to_header(header), image


def read_compressed_image(data: bytes) -> tuple[Header, imaging.CompressedImage]:
    """The same of a CompressedImage."""
    header, image = cdr.read_compressed_image(data)
    return _to_header(header), image


def read_camera_info(data: bytes) -> CameraInfo:
    """The message of the bytes of a CameraInfo.

    Args:
        data: of a raw subscription.

    Raises:
        ImageError: the bytes are no such message (kind "malformed message").
    """
    fields = cdr.read_camera_info(data)._asdict()
    x_offset, y_offset, height, width = fields.pop("roi")
    return CameraInfo(
        header=_to_header(fields.pop("header")),
        roi=RegionOfInterest(
            x_offset=x_offset,
            y_offset=y_offset,
            height=height,
            width=width,
            do_rectify=fields.pop("do_rectify"),
        ),
        **fields,
    )


def serialize_image(header: Header, image_bgr: np.ndarray) -> bytes:
    """The message of `to_image` as bytes for `Publisher.publish`."""
    return cdr.write_image(_header_fields(header), image_bgr)


def serialize_compressed_image(header: Header, jpeg: bytes) -> bytes:
    """The message of `to_compressed_image` as bytes for `Publisher.publish`."""
    return cdr.write_compressed_image(_header_fields(header), cdr.JPEG_FORMAT, jpeg)


def serialize_pose_array(
    header: Header, poses: Poses, *, width: int, height: int, skeleton: str
) -> bytes:
    """The message of `to_pose_array` as bytes for `Publisher.publish`.

    Raises:
        ValueError: an id does not fit into the message.
    """
    return cdr.write_pose_array(
        _header_fields(header), poses, width=width, height=height, skeleton=skeleton
    )


def _to_header(fields: cdr.HeaderFields) -> Header:
    return Header(stamp=Time(sec=fields.sec, nanosec=fields.nanosec), frame_id=fields.frame_id)


def _header_fields(header: Header) -> cdr.HeaderFields:
    return cdr.HeaderFields(header.stamp.sec, header.stamp.nanosec, header.frame_id)


def to_image(header: Header, image_bgr: np.ndarray) -> Image:
    """A message of encoding bgr8.

    Args:
        header: copied from the image that this one was made of.
        image_bgr: (H, W, 3) uint8, blue, green, red.
    """
    height, width = image_bgr.shape[:2]
    # An array of the type that the field has is taken as it is; bytes would be checked one by one.
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(image_bgr).data.cast("B"))
    return Image(
        header=header, height=height, width=width, encoding="bgr8", step=3 * width, data=data
    )


def to_compressed_image(header: Header, jpeg: bytes) -> CompressedImage:
    """A message of a JPEG image."""
    return CompressedImage(header=header, format=cdr.JPEG_FORMAT, data=array.array("B", jpeg))


def to_pose_array(
    header: Header, poses: Poses, *, width: int, height: int, skeleton: str
) -> PersonPoseArray:
    """The people of one image.

    Args:
        header: of the image; it becomes the header of the message, the same object.
        poses: in pixels of the image.
        width, height: of the image, pixels.
        skeleton: name of the skeleton.
    """
    rows = zip(
        poses.ids.tolist(),
        poses.scores.tolist(),
        poses.boxes_xyxy.tolist(),
        poses.keypoints.tolist(),
        strict=True,
    )
    people = [
        PersonPose(
            track_id=track_id,
            score=score,
            bbox=BoundingBox(x_min=left, y_min=top, x_max=right, y_max=bottom),
            keypoints=[Keypoint(x=x, y=y, score=certainty) for x, y, certainty in keypoints],
        )
        for track_id, score, (left, top, right, bottom), keypoints in rows
    ]
    return PersonPoseArray(
        header=header, image_width=width, image_height=height, skeleton=skeleton, people=people
    )


def to_poses(message: PersonPoseArray, num_keypoints: int = 17) -> Poses:
    """The people of a message.

    Args:
        message: as the node publishes it.
        num_keypoints: K of the skeleton, for a message in which nobody is seen.
    """
    people = message.people
    count = len(people[0].keypoints) if people else num_keypoints
    boxes = [(p.bbox.x_min, p.bbox.y_min, p.bbox.x_max, p.bbox.y_max) for p in people]
    keypoints = [[(k.x, k.y, k.score) for k in person.keypoints] for person in people]
    return Poses.from_arrays(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([person.score for person in people], np.float32),
        np.array(keypoints, np.float32).reshape(-1, count, 3),
        np.array([person.track_id for person in people], np.int64),
    )


def to_pose_array_3d(header: Header, people: Poses3D, *, skeleton: str) -> PersonPose3DArray:
    """The people of one image in space.

    Args:
        header: of the image, or with the frame that the points are in; it becomes the header of the
            message, the same object.
        people: in metres.
        skeleton: name of the skeleton.
    """
    rows = zip(
        people.ids.tolist(),
        people.scores.tolist(),
        people.points.tolist(),
        people.keypoint_scores.tolist(),
        people.positions.tolist(),
        strict=True,
    )
    return PersonPose3DArray(
        header=header,
        skeleton=skeleton,
        people=[
            PersonPose3D(
                track_id=track_id,
                score=score,
                keypoints=[Point(x=x, y=y, z=z) for x, y, z in points],
                keypoint_scores=keypoint_scores,
                position=Point(x=position[0], y=position[1], z=position[2]),
            )
            for track_id, score, points, keypoint_scores, position in rows
        ],
    )


def to_poses_3d(message: PersonPose3DArray, num_keypoints: int = 17) -> Poses3D:
    """The people in space of a message.

    Args:
        message: as the node publishes it.
        num_keypoints: K of the skeleton, for a message in which nobody is seen.
    """
    people = message.people
    count = len(people[0].keypoints) if people else num_keypoints
    points = [[(k.x, k.y, k.z) for k in person.keypoints] for person in people]
    return Poses3D(
        np.array(points, np.float32).reshape(-1, count, 3),
        np.array([person.keypoint_scores for person in people], np.float32).reshape(-1, count),
        np.array([person.score for person in people], np.float32),
        np.array([person.track_id for person in people], np.int64),
    )


def to_camera_model(info: CameraInfo, *, rectified: bool = False) -> CameraModel:
    """The geometry of a camera.

    Args:
        info: its calibration.
        rectified: of the rectified images (P, no distortion) rather than the raw ones (K and D).

    Raises:
        CalibrationError: the camera is not calibrated, or the values make no sense.
    """
    p = list(info.p)
    return CameraModel.from_calibration(
        width=info.width,
        height=info.height,
        k=[*p[0:3], *p[4:7], *p[8:11]] if rectified else list(info.k),
        d=() if rectified else list(info.d),
        distortion_model="" if rectified else info.distortion_model,
        binning=(info.binning_x, info.binning_y),
        roi=(info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height),
    )


def to_skeleton_info(skeleton: Skeleton, stamp: Time) -> SkeletonInfo:
    """Names, limbs and left/right pairs of a skeleton's keypoints."""
    return SkeletonInfo(
        header=Header(stamp=stamp),
        name=skeleton.name,
        keypoint_names=list(skeleton.keypoint_names),
        edges=[index for edge in skeleton.edges for index in edge],
        flip=list(skeleton.flip),
    )


def from_skeleton_info(message: SkeletonInfo) -> Skeleton:
    """The skeleton of a message, which does not say the OKS sigmas: they are 1/K.

    Raises:
        ValueError: the message contradicts itself.
    """
    count = len(message.keypoint_names)
    edges = message.edges.tolist()
    if len(edges) % 2:
        raise ValueError(
            f"skeleton {message.name!r} must have pairs of indices in edges, got {len(edges)}"
        )
    return Skeleton(
        name=message.name,
        keypoint_names=tuple(message.keypoint_names),
        edges=tuple(zip(edges[0::2], edges[1::2], strict=True)),
        flip=tuple(message.flip.tolist()),
        sigmas=(1 / max(count, 1),) * count,
    )


def to_exercise_state(header: Header, progress: PersonProgress) -> ExerciseState:
    """How far one person is with one exercise.

    Args:
        header: of the message with the people.
        progress: of one of them.
    """
    return ExerciseState(
        header=header,
        track_id=progress.track_id,
        exercise=progress.exercise,
        side=progress.side,
        repetitions=progress.repetitions,
        phase=progress.phase,
        angle=progress.angle,
        progress=progress.progress,
    )
