from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose_node.drawing import LEFT, RIGHT, draw_frame, draw_poses, joint_colors, sides
from pose_node.poses import COCO17, Frame, Poses, Skeleton
from pose_node.skeletons import load_skeleton
from tests.conftest import make_poses

PAIR = Skeleton("pair", ("left_hand", "right_hand"), ((0, 1),), (1, 0), (0.1, 0.1))
NOWHERE = (np.nan,) * 4


def one_person(keypoints: object, box: object = NOWHERE, track_id: int = -1) -> Poses:
    return Poses.from_arrays([box], [0.9], [keypoints], [track_id])


def grey(height: int = 120, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def changed(picture: np.ndarray) -> np.ndarray:
    return (picture != 90).any(axis=2)


def test_nobody_leaves_the_image_as_it_is_and_makes_a_new_one() -> None:
    image = grey()
    picture = draw_poses(image, Poses.empty(17), COCO17)
    assert (picture == image).all()
    assert not np.shares_memory(picture, image)


def test_joints_have_the_colour_of_their_side_where_the_keypoint_is() -> None:
    picture = draw_poses(grey(), one_person([(40.5, 60.5, 1), (120.5, 60.5, 1)]), PAIR)
    assert tuple(picture[60, 40].tolist()) == LEFT
    assert tuple(picture[60, 120].tolist()) == RIGHT
    assert changed(picture)[60, 40:121].all()
    assert not changed(picture)[:50].any()


@pytest.mark.parametrize(("score", "drawn"), [(0.5, True), (0.49, False)])
def test_only_keypoints_that_reach_the_threshold_are_drawn(score: float, drawn: bool) -> None:
    people = one_person([(40, 60, score), (120, 60, 1)])
    picture = draw_poses(grey(), people, PAIR, keypoint_threshold=0.5)
    assert changed(picture)[:, :100].any() == drawn
    assert changed(picture)[:, 110:].any()


def test_box_and_label_are_drawn_and_the_colour_follows_the_track() -> None:
    unseen = [(0, 0, 0), (0, 0, 0)]
    box = (30, 40, 100, 110)
    untracked, first, again = (
        draw_poses(grey(), one_person(unseen, box, track_id), PAIR) for track_id in (-1, 3, 3)
    )
    for x, y in [(30, 90), (100, 90), (60, 40), (60, 110)]:
        assert changed(first)[y, x]
    assert changed(first)[25:39, 30:60].any()  # the label, above the box
    assert not changed(first)[60:100, 40:90].any()
    assert (first == again).all()
    assert (first[90, 30] != untracked[90, 30]).any()


def test_label_of_a_box_at_the_top_stays_in_the_image() -> None:
    picture = draw_poses(grey(), one_person([(0, 0, 0)] * 2, (140, 0, 160, 100)), PAIR)
    assert changed(picture)[3:10, 120:155].any()


@pytest.mark.parametrize(
    "wild", [np.nan, np.inf, -np.inf, 1e9, -1e9, 3e38, -3e38, 2.0**31, -40.0, 1e5]
)
def test_wild_coordinates_do_no_harm(wild: float) -> None:
    people = one_person([(wild, 60, 1), (80, wild, 1)], (wild, 20, 100, wild))
    picture = draw_poses(grey(), people, PAIR)
    assert picture.shape == (120, 160, 3)


def test_a_limb_to_a_far_keypoint_keeps_its_direction() -> None:
    picture = draw_poses(grey(), one_person([(80.5, 60.5, 1), (80.5 + 1e8, 60.5, 1)]), PAIR)
    rows, _ = np.nonzero(changed(picture)[:, 100:])
    assert changed(picture)[60, 100:].all()
    assert rows.min() >= 57
    assert rows.max() <= 63


def test_a_limb_that_never_comes_near_the_image_is_left_out() -> None:
    people = one_person([(-9000, 60, 1), (-9000, 70, 1)])
    assert not changed(draw_poses(grey(), people, PAIR)).any()


@pytest.mark.parametrize("shape", [(1, 1), (40, 2000), (2160, 3840)])
def test_any_size_of_image(shape: tuple[int, int]) -> None:
    image = grey(*shape)
    assert draw_poses(image, make_poses(3), COCO17).shape == image.shape


def test_read_only_and_padded_images_are_not_modified() -> None:
    padded = np.full((120, 200, 3), 90, np.uint8)
    view = padded[:, :160]
    view.flags.writeable = False
    picture = draw_poses(view, make_poses(3), COCO17, keypoint_threshold=0.0)
    assert changed(picture).any()
    assert (padded == 90).all()


def test_a_frame_in_rgb_is_drawn_in_bgr() -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:] = (10, 20, 30)
    picture = draw_frame(Frame("", "", 0, image, "rgb"), Poses.empty(17), COCO17)
    assert tuple(picture[0, 0].tolist()) == (30, 20, 10)


def test_skeletons_without_names_or_edges_are_drawn_too() -> None:
    nameless = Skeleton.for_keypoints(5)
    picture = draw_poses(grey(), make_poses(2, num_keypoints=5), nameless, keypoint_threshold=0.0)
    assert changed(picture).any()
    assert sides(nameless) == ("centre",) * 5
    swapped = Skeleton("s", ("a", "b", "c"), (), (0, 2, 1), (0.1,) * 3)
    assert sides(swapped) == ("centre", "left", "right")


def test_a_hand_has_a_colour_for_each_point_and_small_joints_in_a_small_box() -> None:
    hand = load_skeleton(Path(__file__).parents[1] / "config/skeletons/hand21.yaml")
    assert len(set(joint_colors(hand))) == 21
    grid = 60.5 + 20 * np.stack([np.arange(21) % 7, np.arange(21) // 7], axis=1)
    points = np.concatenate([grid, np.ones((21, 1))], axis=1)
    large, small = (
        draw_poses(grey(240, 240), one_person(points, box), Skeleton.for_keypoints(21))
        for box in ((40, 40, 220, 140), (225, 200, 235, 210))
    )
    for point, color in zip(points, joint_colors(hand), strict=True):
        assert tuple(large[int(point[1]), int(point[0])].tolist()) == color
    around_a_point = np.s_[95:106, 95:106]
    assert changed(large)[around_a_point].sum() > changed(small)[around_a_point].sum() > 0
    limbs = draw_poses(grey(240, 240), one_person(points), hand).astype(int)
    assert np.abs(limbs[100, 170] - joint_colors(hand)[20]).max() < 40  # its last limb


def test_one_keypoint_is_a_skeleton() -> None:
    picture = draw_poses(grey(), one_person([(40.5, 60.5, 1)]), Skeleton.for_keypoints(1))
    assert changed(picture)[60, 40]


def test_sides_of_the_coco_skeleton_are_in_its_names() -> None:
    for name, side in zip(COCO17.keypoint_names, sides(COCO17), strict=True):
        assert side == ("centre" if name == "nose" else name.split("_")[0])


def test_a_skeleton_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'coco17' has 17 keypoints, the poses have 2"):
        draw_poses(grey(), one_person([(0, 0, 1)] * 2), COCO17)


def test_real_people_are_drawn_on_themselves(shared: Path) -> None:
    reference = json.loads((shared / "data/coco/reference_yolo11n_pose.json").read_text())
    name, people = max(reference["images"].items(), key=lambda item: len(item[1]["scores"]))
    image = cv2.imread(str(shared / "data/coco/val2017" / name))
    keypoints = np.array(people["keypoints"]).reshape(-1, 17, 3)
    poses = Poses.from_arrays(people["boxes_xyxy"], people["scores"], keypoints)
    picture = draw_poses(image, poses, COCO17)
    drawn = (picture != image).any(axis=2)
    inside = [
        drawn[int(y), int(x)]
        for x, y, score in keypoints.reshape(-1, 3)
        if score >= 0.5 and 0 <= x < image.shape[1] and 0 <= y < image.shape[0]
    ]
    assert len(inside) > 20
    assert all(inside)
