"""People in space: made scenes of which every distance is known, and a real pair of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose_node import COCO17, Poses, Skeleton
from pose_node.camera_model import CameraModel
from pose_node.depth import LONGEST_LIMB, Poses3D, lift
from pose_node.errors import ImageError
from tests.conftest import make_poses

FOCAL, WIDTH, HEIGHT = 500.0, 640, 480
CAMERA = CameraModel(WIDTH, HEIGHT, (FOCAL, FOCAL), (320.0, 240.0))
WALL = 4.0
NAMES = COCO17.keypoint_names
LEFT_ELBOW, LEFT_WRIST, LEFT_SHOULDER = (
    NAMES.index(f"left_{part}") for part in ("elbow", "wrist", "shoulder")
)

# Somebody with arms spread, in metres from the middle of the torso, as seen: x right, y down.
BODY = np.array(
    [
        *((0, -0.5), (0.03, -0.53), (-0.03, -0.53), (0.08, -0.5), (-0.08, -0.5)),
        *((0.18, -0.25), (-0.18, -0.25), (0.45, -0.25), (-0.45, -0.25)),
        *((0.7, -0.25), (-0.7, -0.25), (0.12, 0.25), (-0.12, 0.25)),
        *((0.12, 0.65), (-0.12, 0.65), (0.12, 1.0), (-0.12, 1.0)),
    ]
)


def person(distance: float, *, x: float = 0.0, score: float = 0.9) -> Poses:
    """Somebody standing upright at this distance, `x` metres to the right."""
    pixels = CAMERA.project(np.insert(BODY + np.array([x, 0]), 2, distance, axis=1))
    keypoints = np.insert(pixels, 2, score, axis=1)[np.newaxis]
    box = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])[np.newaxis]
    return Poses.from_arrays(box, [score], keypoints)


def paint(
    depth: np.ndarray, poses: Poses, distance: float, *, camera: CameraModel = CAMERA
) -> None:
    """Paint the bodies of people into a depth image, metres: discs and limbs of 8 cm, a torso."""
    scale = (depth.shape[1] / camera.width, depth.shape[0] / camera.height)
    thickness = max(1, round(0.08 * camera.focal[0] * scale[0] / distance))
    for keypoints in poses.keypoints[:, :, :2] * scale:
        points = np.round(keypoints).astype(int)
        for a, b in COCO17.edges:
            cv2.line(depth, points[a].tolist(), points[b].tolist(), distance, thickness)
        cv2.fillConvexPoly(depth, points[[5, 6, 12, 11]], distance)


def scene(*people: tuple[Poses, float], wall: float = WALL) -> np.ndarray:
    """(H, W) float32 metres: a wall, and people before it."""
    depth = np.full((HEIGHT, WIDTH), wall, np.float32)
    for poses, distance in people:
        paint(depth, poses, distance)
    return depth


def in_view(poses: Poses) -> np.ndarray:
    pixels = poses.keypoints[:, :, :2]
    return np.asarray(((pixels >= 0) & (pixels < (WIDTH, HEIGHT))).all(axis=2))


def together(*people: Poses) -> Poses:
    return Poses.from_arrays(
        np.concatenate([poses.boxes_xyxy for poses in people]),
        np.concatenate([poses.scores for poses in people]),
        np.concatenate([poses.keypoints for poses in people]),
        np.arange(len(people)) + 7,
    )


@pytest.mark.parametrize("distance", [1.2, 2.5, 3.7, 6.0])
def test_everybody_stands_where_they_stand(distance: float) -> None:
    poses = person(distance)
    found = lift(poses, scene((poses, distance), wall=distance + 1), CAMERA)
    expected = np.insert(BODY, 2, distance, axis=1)
    expected[~in_view(poses)[0]] = np.nan
    np.testing.assert_allclose(found.points[0], expected, atol=1e-3)


def test_people_keep_order_scores_and_ids() -> None:
    poses = together(person(2.0, x=-0.7, score=0.9), person(3.0, x=1.0, score=0.6))
    found = lift(poses, scene((person(3.0, x=1.0), 3.0), (person(2.0, x=-0.7), 2.0)), CAMERA)
    assert len(found) == 2
    np.testing.assert_array_equal(found.ids, [7, 8])
    np.testing.assert_array_equal(found.scores, poses.scores)
    np.testing.assert_array_equal(found.keypoint_scores, poses.keypoints[:, :, 2])
    np.testing.assert_allclose(found.positions[:, 2], [2, 3], atol=1e-3)
    assert found.points.dtype == np.float32


def test_millimetres_are_metres() -> None:
    poses = person(2.0)
    depth = scene((poses, 2.0))
    in_metres = lift(poses, depth, CAMERA).points
    in_millimetres = lift(poses, np.round(depth * 1000).astype(np.uint16), CAMERA).points
    np.testing.assert_allclose(in_millimetres, in_metres, atol=1e-6)


@pytest.mark.parametrize("hole", [0.0, np.nan, np.inf, -np.inf, -1.0])
def test_holes_are_unknown_and_never_the_origin(hole: float) -> None:
    poses = person(2.0)
    depth = scene((poses, 2.0))
    x, y = poses.keypoints[0, LEFT_WRIST, :2].astype(int)
    depth[y - 25 : y + 25, x - 25 : x + 25] = hole
    points = lift(poses, depth, CAMERA).points[0]
    assert np.isnan(points[LEFT_WRIST]).all()
    assert np.isfinite(points[LEFT_ELBOW]).all()
    # A few pixels around a hole in the middle are enough.
    depth = scene((poses, 2.0))
    depth[y - 2 : y + 2, x - 2 : x + 2] = hole
    np.testing.assert_allclose(lift(poses, depth, CAMERA).points[0, LEFT_WRIST, 2], 2.0)


@pytest.mark.parametrize("depth", [np.zeros((HEIGHT, WIDTH), np.uint16), scene() * np.nan])
def test_without_any_depth_all_is_unknown(depth: np.ndarray) -> None:
    found = lift(person(2.0), depth, CAMERA)
    assert np.isnan(found.points).all()
    assert np.isnan(found.positions).all()


def test_the_rim_of_an_arm_is_the_arm() -> None:
    # The keypoint is off the arm by its half width: most of the window is wall.
    poses = person(2.0)
    depth = scene((poses, 2.0), wall=2.3)
    shifted = poses.keypoints.copy()
    shifted[0, LEFT_WRIST, 1] += 9
    x, y = shifted[0, LEFT_WRIST, :2].astype(int)
    assert depth[y, x] == np.float32(2.0)
    assert depth[y + 4, x] == np.float32(2.3)
    found = lift(replace(poses, keypoints=shifted), depth, CAMERA)
    np.testing.assert_allclose(found.points[0, LEFT_WRIST, 2], 2.0)


def test_false_depths_at_the_rim_do_not_count() -> None:
    # Sensors mix near and far at a rim: single pixels somewhere in between, or even before.
    poses = person(2.0)
    depth = scene((poses, 2.0))
    random = np.random.default_rng(1)
    flying = random.random(depth.shape) < 0.08
    depth[flying] = random.uniform(1.2, 4.0, flying.sum()).astype(np.float32)
    points = lift(poses, depth, CAMERA).points[0]
    known = np.isfinite(points[:, 2])
    assert known[in_view(poses)[0]].mean() > 0.9
    np.testing.assert_allclose(points[known, 2], 2.0, atol=0.01)


def test_noise_is_averaged() -> None:
    poses = person(2.0)
    noise = np.random.default_rng(2).normal(0, 0.01, (HEIGHT, WIDTH)).astype(np.float32)
    points = lift(poses, scene((poses, 2.0)) + noise, CAMERA).points[0]
    assert np.nanmax(np.abs(points[:, 2] - 2.0)) < 0.01


def test_a_keypoint_on_the_wall_is_unknown() -> None:
    poses = person(2.0)
    wrong = poses.keypoints.copy()
    wrong[0, LEFT_WRIST, :2] = (40, 60)
    points = lift(replace(poses, keypoints=wrong), scene((poses, 2.0)), CAMERA).points[0]
    assert np.isnan(points[LEFT_WRIST]).all()
    assert np.isfinite(points[LEFT_ELBOW]).all()


def test_a_wall_in_reach_is_found_out_by_the_limbs() -> None:
    # 1 m behind, which an arm could reach, but not one that hangs on this elbow.
    poses = person(2.0)
    depth = scene((poses, 2.0), wall=3.0)
    wrong = poses.keypoints.copy()
    wrong[0, LEFT_WRIST, 1] -= 60
    points = lift(replace(poses, keypoints=wrong), depth, CAMERA).points[0]
    assert np.isnan(points[LEFT_WRIST]).all()
    # Without its elbow, two limbs together may be so long, and no longer.
    wrong[0, LEFT_ELBOW, 2] = 0.1
    points = lift(replace(poses, keypoints=wrong), depth, CAMERA).points[0]
    assert np.isnan(points[LEFT_ELBOW]).all()
    np.testing.assert_allclose(points[LEFT_WRIST, 2], 3.0)
    shoulder = points[LEFT_SHOULDER]
    assert LONGEST_LIMB < np.linalg.norm(points[LEFT_WRIST] - shoulder) < 2 * LONGEST_LIMB


def test_an_arm_stretched_towards_the_camera_belongs_to_its_person() -> None:
    poses = person(2.5)
    depth = scene((poses, 2.5))
    for index, distance in ((LEFT_ELBOW, 2.2), (LEFT_WRIST, 1.95)):
        x, y = poses.keypoints[0, index, :2].round().astype(int).tolist()
        cv2.circle(depth, (x, y), 12, distance, cv2.FILLED)
    points = lift(poses, depth, CAMERA).points[0]
    np.testing.assert_allclose(points[[LEFT_ELBOW, LEFT_WRIST], 2], [2.2, 1.95], atol=1e-6)


def test_only_a_head_in_view() -> None:
    poses = person(2.0)
    hidden = poses.keypoints.copy()
    hidden[0, 5:, 2] = 0.05
    points = lift(replace(poses, keypoints=hidden), scene((poses, 2.0)), CAMERA).points[0]
    np.testing.assert_allclose(points[:5, 2], 2.0)
    assert np.isnan(points[5:]).all()


@pytest.mark.parametrize(
    "place", [(-0.1, 100), (640, 100), (100, -1e9), (100, 480), (np.nan, 1), (np.inf, 1)]
)
def test_outside_the_image_is_unknown(place: tuple[float, float]) -> None:
    poses = person(2.0)
    outside = poses.keypoints.copy()
    outside[0, LEFT_WRIST, :2] = place
    depth = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    points = lift(replace(poses, keypoints=outside), depth, CAMERA).points[0]
    assert np.isnan(points[LEFT_WRIST]).all()
    np.testing.assert_allclose(points[LEFT_ELBOW, 2], 2.0)


def test_low_scores_are_unknown() -> None:
    poses = person(2.0)
    depth = scene((poses, 2.0))
    poses.keypoints[0, LEFT_WRIST, 2] = 0.4
    assert np.isfinite(lift(poses, depth, CAMERA).points[0, LEFT_WRIST]).all()
    strict = lift(poses, depth, CAMERA, keypoint_threshold=0.5)
    assert np.isnan(strict.points[0, LEFT_WRIST]).all()
    assert strict.keypoint_scores[0, LEFT_WRIST] == np.float32(0.4)


@pytest.mark.parametrize("size", [(320, 240), (1280, 960), (213, 160)])
def test_depth_of_another_resolution(size: tuple[int, int]) -> None:
    poses = person(2.0)
    depth = np.full(size[::-1], WALL, np.float32)
    paint(depth, poses, 2.0)
    points = lift(poses, depth, CAMERA).points[0]
    expected = np.insert(BODY, 2, 2.0, axis=1)
    expected[~in_view(poses)[0]] = np.nan
    np.testing.assert_allclose(points, expected, atol=1e-3)


def test_a_distorting_lens() -> None:
    lens = CameraModel.from_calibration(
        width=WIDTH,
        height=HEIGHT,
        k=(FOCAL, 0, 319.5, 0, FOCAL, 239.5, 0, 0, 1),
        d=(-0.3, 0.1, 0.001, 0.0, 0.0),
        distortion_model="plumb_bob",
    )
    expected = np.insert(BODY, 2, 2.0, axis=1)
    keypoints = np.insert(lens.project(expected), 2, 0.9, axis=1)[np.newaxis]
    poses = Poses.from_arrays([[100, 50, 500, 480]], [0.9], keypoints)
    found = lift(poses, np.full((HEIGHT, WIDTH), 2.0, np.float32), lens)
    known = in_view(poses)[0]
    assert known.sum() > 12
    np.testing.assert_allclose(found.points[0, known], expected[known], atol=1e-3)


def test_nobody() -> None:
    found = lift(Poses.empty(17), scene(), CAMERA)
    assert found.points.shape == (0, 17, 3)
    assert found.positions.shape == (0, 3)


def test_a_skeleton_of_other_names() -> None:
    poses = make_poses(3, num_keypoints=5)
    flat = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    found = lift(poses, flat, CAMERA, keypoint_threshold=0.0)
    np.testing.assert_allclose(found.points[:, :, 2], 2.0)
    named = Skeleton("two", ("Left_Shoulder", "tail"), ((0, 1),), (0, 1), (0.1, 0.1))
    two = make_poses(1, num_keypoints=2)
    found = lift(two, flat, CAMERA, skeleton=named, keypoint_threshold=0.0)
    np.testing.assert_allclose(found.points[:, :, 2], 2.0)


def test_refuses_depth_that_is_not_registered() -> None:
    with pytest.raises(ImageError, match="848x480 pixels, the colour image 640x480") as raised:
        lift(person(2.0), np.ones((480, 848), np.float32), CAMERA)
    assert raised.value.kind == "depth not registered"


@pytest.mark.parametrize(
    "depth", [np.ones((4, 3, 1), np.float32), np.ones((480, 640)), np.ones((0, 4), np.uint16)]
)
def test_refuses_what_is_no_depth(depth: np.ndarray) -> None:
    with pytest.raises(ValueError, match="depth must be"):
        lift(person(2.0), depth, CAMERA)


def test_refuses_the_skeleton_of_another_model() -> None:
    with pytest.raises(ValueError, match="has 5 keypoints, the poses have 17"):
        lift(person(2.0), scene(), CAMERA, skeleton=Skeleton.for_keypoints(5))


# Values


def test_transformed_to_another_frame() -> None:
    poses = person(2.0)
    found = lift(poses, scene((poses, 2.0)), CAMERA)
    optical_to_body = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    moved = found.transformed(optical_to_body, np.array([0.1, 0.0, 1.2]))
    x, y, z = found.points[0].T
    np.testing.assert_allclose(moved.points[0], np.stack([z + 0.1, -x, 1.2 - y], 1), atol=1e-6)
    np.testing.assert_array_equal(moved.ids, found.ids)


def test_position_is_the_median_of_known_points() -> None:
    points = np.full((2, 4, 3), np.nan)
    points[0, 1:] = [[0, 1, 2], [0.2, 1.2, 2.2], [5, 5, 5]]
    points[1, 0] = [1, 2, 3]
    found = Poses3D.from_points(points, make_poses(2, num_keypoints=4))
    np.testing.assert_allclose(found.positions, [[0.2, 1.2, 2.2], [1, 2, 3]], rtol=1e-6)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("points", np.zeros((2, 4, 2), np.float32), ValueError),
        ("points", np.zeros((3, 4, 3), np.float32), ValueError),
        ("points", np.zeros((2, 4, 3)), ValueError),
        ("keypoint_scores", np.zeros((2, 5), np.float32), ValueError),
        ("scores", np.zeros(3, np.float32), ValueError),
        ("ids", np.zeros(1, np.int64), ValueError),
        ("ids", [1, 2], TypeError),
    ],
)
def test_wrong_shapes(field: str, value: object, error: type[Exception]) -> None:
    good = Poses3D.unknown(make_poses(2, num_keypoints=4))
    with pytest.raises(error, match="must"):
        replace(good, **{field: value})


# A real pair of images


def real_pair(shared: Path) -> tuple[np.ndarray, np.ndarray, CameraModel]:
    folder = shared / "data" / "rgbd"
    colour = cv2.imread(str(folder / "person_rgb.png"))
    depth = cv2.imread(str(folder / "person_depth_mm.png"), cv2.IMREAD_UNCHANGED)
    assert colour is not None
    assert depth is not None
    camera = CameraModel.from_calibration(
        width=640, height=480, k=(525.0, 0, 319.5, 0, 525.0, 239.5, 0, 0, 1), d=[0.0] * 5
    )
    return colour, depth, camera


def test_real_person(shared: Path, yolo11n_pose: Path) -> None:
    from pose_node import PoseEngine

    colour, depth, camera = real_pair(shared)
    (poses,) = PoseEngine.load(str(yolo11n_pose), device="cpu")([colour])
    found = lift(poses, depth, camera)
    points = found.points[0]
    assert len(found) == 1
    assert np.isfinite(points[:13]).all()  # all that is in view: knees and ankles are not
    assert np.isnan(points[13:]).all()
    torso = points[[5, 6, 11, 12]]
    assert abs(torso[:, 2].mean() - 1.54) < 0.05
    # His right wrist's keypoint lies beside the arm, where the depth image shows the wall.
    x, y = poses.keypoints[0, 10, :2].astype(int)
    assert depth[y, x] > 3500
    assert np.ptp(points[:13, 2]) < 0.3
    np.testing.assert_allclose(camera.project(points[:13]), poses.keypoints[0, :13, :2], atol=0.01)
    arms = np.linalg.norm(points[[5, 6, 7, 8]] - points[[7, 8, 9, 10]], axis=1)
    assert ((arms > 0.22) & (arms < 0.36)).all()


def test_real_shoulders(shared: Path) -> None:
    # The outermost points of his shoulders: half of each window sees the wall behind.
    _, depth, camera = real_pair(shared)
    keypoints = np.zeros((1, 17, 3))
    keypoints[0, 5:7] = [[373.5, 175.5, 0.9], [245.5, 175.5, 0.9]]
    poses = Poses.from_arrays([[91, 70, 522, 480]], [0.9], keypoints)
    left, right = lift(poses, depth, camera).points[0, 5:7]
    assert abs(np.linalg.norm(left - right) - 0.41) < 0.03
