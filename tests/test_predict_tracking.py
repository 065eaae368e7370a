"""What `pose-node predict` makes of its options of tracking and smoothing."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pytest

from pose_node.poses import COCO17, Poses
from pose_node.predict_tracking import Following, add_tracking_arguments, following

RATE_NS = 100_000_000


def parse(*arguments: str) -> Following | None:
    parser = argparse.ArgumentParser()
    add_tracking_arguments(parser)
    parser.set_defaults(parser=parser, score_threshold=0.5)
    return following(parser.parse_args(arguments))


def person(score: float = 0.9, shift: float = 0.0) -> Poses:
    keypoints = np.zeros((1, 17, 3), np.float32)
    keypoints[0, :, 0] = 60 + shift
    keypoints[0, :, 1] = np.linspace(30, 170, 17)
    keypoints[0, :, 2] = 0.9
    return Poses.from_arrays([[40, 20, 90, 180]], [score], keypoints)


def walk(people: Following, frames: list[Poses]) -> list[Poses]:
    tracker = people.new_tracker(COCO17)
    return [tracker.update(poses, index * RATE_NS) for index, poses in enumerate(frames)]


def test_nobody_is_followed_unasked() -> None:
    assert parse() is None


def test_tracking_alone_moves_nothing() -> None:
    people = parse("--track")
    assert people is not None
    assert people.to_json() == {"track": True, "smoothing": None}
    frames = [person(shift=shift) for shift in (0, 3, -3, 3)]
    found = walk(people, frames)
    assert found[-1].ids.tolist() == [1]
    np.testing.assert_array_equal(found[-1].keypoints, frames[-1].keypoints)


@pytest.mark.parametrize("arguments", [["--smooth"], ["--smoothing-min-cutoff", "1.5"]])
def test_smoothing_takes_the_tremble_and_tracks_as_well(arguments: list[str]) -> None:
    people = parse(*arguments)
    assert people is not None
    shifts = [3.0 * (-1) ** index for index in range(20)]
    found = walk(people, [person(shift=shift) for shift in shifts])
    tremble = [poses.keypoints[0, 0, 0] - 60 for poses in found[10:]]
    assert max(map(abs, tremble)) < 2.5
    assert found[-1].ids.tolist() == [1]
    assert found[-1].keypoints[0, 0, 1] == pytest.approx(30)


def test_settings_of_smoothing() -> None:
    names = ("min-cutoff", "speed-coefficient", "speed-cutoff", "max-lag")
    people = parse(*(word for name in names for word in (f"--smoothing-{name}", "0.5")))
    assert people is not None
    assert people.to_json()["smoothing"] == {
        **{"min_cutoff": 0.5, "speed_coefficient": 0.5, "speed_cutoff": 0.5, "max_lag": 0.5}
    }


def test_a_setting_out_of_its_range(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--smoothing-max-lag", "9")
    assert "--smoothing-max-lag must be 0.0 to 2.0, got 9.0" in capsys.readouterr().err


def test_who_is_weak_stays_only_as_part_of_a_track() -> None:
    people = parse("--track")
    assert people is not None
    found = walk(people, [person(), person(), person(), person(0.2)])
    assert found[-1].ids.tolist() == [1]
    assert len(walk(people, [person(0.2)])[0]) == 0


def test_images_have_nobody_to_follow() -> None:
    people = parse("--smooth")
    assert people is not None
    tracker: Any = people.new_tracker(COCO17)
    assert [tracker.update(person(), None).ids.tolist() for _ in range(4)] == [[-1]] * 4
    assert len(tracker.update(person(0.4), None)) == 0
