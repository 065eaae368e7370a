"""Skeletons from names and files, and what is said of files that are wrong or hostile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pose_node.errors import SkeletonError
from pose_node.poses import COCO17
from pose_node.skeletons import MAX_FILE_BYTES, MAX_KEYPOINTS, load_skeleton

SKELETONS = Path(__file__).resolve().parents[1] / "config" / "skeletons"
GOOD = "name: hand\nkeypoints: [a, b, c]\n"


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "skeleton.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_built_in_name() -> None:
    assert load_skeleton("coco17") is COCO17


def test_every_shipped_file_loads() -> None:
    sizes = {path.stem: load_skeleton(path).num_keypoints for path in SKELETONS.glob("*.yaml")}
    assert sizes == {"hand21": 21, "crowdpose14": 14}


def test_shipped_files_have_names_too() -> None:
    assert load_skeleton("hand21") == load_skeleton(SKELETONS / "hand21.yaml")


def test_the_example_is_what_it_says() -> None:
    hand = load_skeleton(str(SKELETONS / "hand21.yaml"))
    assert hand.name == "hand21"
    assert hand.keypoint_names[:2] == ("wrist", "thumb_cmc")
    assert len(hand.edges) == 20
    assert hand.edges[16] == (0, 17)  # by index
    assert hand.flip == tuple(range(21))
    assert hand.sigmas == (0.035,) * 21


def test_names_and_indices_mean_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "edges: [[a, b], [1, 2]]\nflip: [[c, 0]]\nsigmas: [1, 0.5, 2.]\n")
    skeleton = load_skeleton(path)
    assert skeleton.edges == ((0, 1), (1, 2))
    assert skeleton.flip == (2, 1, 0)
    assert skeleton.sigmas == (1.0, 0.5, 2.0)


def test_what_may_be_left_out(tmp_path: Path) -> None:
    skeleton = load_skeleton(write(tmp_path, GOOD + "edges:\n"))
    assert (skeleton.edges, skeleton.flip) == ((), (0, 1, 2))
    assert skeleton.sigmas == pytest.approx((1 / 3,) * 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", r": the file: expected a mapping .*, got something else .NoneType"),
        ("[1]", r": the file: expected a mapping .*, got something else .list"),
        ("name: x", r": keypoints: expected this field, got 'none'"),
        ("keypoints: [a]", r": name: expected this field, got 'none'"),
        (GOOD + "limbs: []", r": the file: expected only the fields .*, got \['limbs'\]"),
        (GOOD + "? [1, 2]\n: 3", r"expected plain YAML, got: .*unhashable|only the fields"),
        ("name: 3\nkeypoints: [a]", r": name: expected a name .*, got 3"),
        ("name: ''\nkeypoints: [a]", r": name: expected a name .*, got ''"),
        (f"name: {'x' * 101}\nkeypoints: [a]", r": name: expected a name of 1 to 100 characters"),
        ('name: "a\\nb"\nkeypoints: [a]', r": name: expected a name .*, got 'a\\nb'"),
        ("name: x\nkeypoints: []", r": keypoints: expected a list of 1 to 1000 names, got \[\]"),
        ("name: x\nkeypoints: a", r": keypoints: expected a list .*, got 'a'"),
        ("name: x\nkeypoints: [a, no]", r": keypoints\[1\]: expected a name .*, got False"),
        ("name: x\nkeypoints: [a, a]", r": keypoints\[1\]: expected a name that is not taken"),
        (GOOD + "edges: 3", r": edges: expected a list of pairs of keypoints, got 3"),
        (GOOD + "edges: [[a, b], [a]]", r": edges\[1\]: expected a pair .*, got \['a'\]"),
        (GOOD + "edges: [[a, d]]", r": edges\[0\]: expected the name .* from 0 to 2, got 'd'"),
        (GOOD + "edges: [[a, 3]]", r": edges\[0\]: expected the name .* from 0 to 2, got 3"),
        (GOOD + "edges: [[a, -1]]", r": edges\[0\]: .*, got -1"),
        (GOOD + "edges: [[a, true]]", r": edges\[0\]: .*, got True"),
        (GOOD + "edges: [[a, 0]]", r": edges\[0\]: expected two different keypoints"),
        (GOOD + "flip: [[a, b], [b, c]]", r": flip\[1\]: expected keypoints that no other pair"),
        (GOOD + "sigmas: [1]", r": sigmas: expected one number, or 3"),
        (GOOD + "sigmas: [1, 2, 0]", r": sigmas\[2\]: expected a number above 0.*, got 0"),
        (GOOD + "sigmas: .inf", r": sigmas\[0\]: .*, got inf"),
        (GOOD + "sigmas: .nan", r": sigmas\[0\]: .*, got nan"),
        (GOOD + "sigmas: true", r": sigmas\[0\]: .*, got True"),
        (GOOD + "sigmas: wide", r": sigmas\[0\]: .*, got 'wide'"),
    ],
)
def test_wrong_files(tmp_path: Path, content: str, reason: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(SkeletonError, match=reason) as caught:
        load_skeleton(path)
    assert str(caught.value).startswith(str(path))


BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (BOMB, r"references \(\*a\) are not allowed"),
        ("name: x\nkeypoints: &k [a, *k]", r"references \(\*k\) are not allowed"),
        (GOOD + "edges: " + "[" * 3000 + "]" * 3000, "nested more than 4 deep"),
        (GOOD + "edges: " + "{a: " * 3000, "nested more than 4 deep"),
        (GOOD + "name: again", "'name' stands here twice"),
        (GOOD + "sigmas: " + "9" * 5000, r"integer string|above 0"),
        (GOOD + "sigmas: 2001-99-99", "expected plain YAML, got: month must be"),
        ("!!python/object/apply:os.system ['false']", "could not determine a constructor"),
        (GOOD + "edges: !!python/name:os.system", "could not determine a constructor"),
        (b"\xff\xfe\x00", "expected plain YAML"),
        (b"\x00\x01", "expected plain YAML"),
        ("name: [", "expected plain YAML"),
        (b"#" * (MAX_FILE_BYTES + 1), f"expected at most {MAX_FILE_BYTES} bytes"),
        (f"name: x\nkeypoints: {list(map(str, range(MAX_KEYPOINTS + 1)))}", "of 1 to 1000 names"),
    ],
)
def test_hostile_files(tmp_path: Path, content: str | bytes, reason: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(SkeletonError, match=reason) as caught:
        load_skeleton(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 500


@pytest.mark.parametrize("name", ["coco18", "nowhere/skeleton.yaml", ""])
def test_no_such_skeleton(name: str) -> None:
    with pytest.raises(SkeletonError, match=r"neither a built-in one \(coco17\) nor a YAML file"):
        load_skeleton(name)


def test_a_folder_and_a_pipe_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(SkeletonError, match="nor a YAML file"):
            load_skeleton(path)


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, GOOD)

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SkeletonError, match=r"skeleton\.yaml: cannot be read: Permission denied"):
        load_skeleton(path)


@pytest.mark.parametrize(
    "content", ["root:hunter2:0", "token: hunter2", "- hunter2", "hunter2: [", "a: hunter2: b"]
)
def test_of_a_foreign_file_nothing_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secret"
    path.write_text(content)
    with pytest.raises(SkeletonError) as raised:
        load_skeleton(path)
    assert "hunter2" not in str(raised.value)
