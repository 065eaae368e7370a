"""YAML that is not plain, and limits; hostile files of one kind are also in test_skeletons.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from pose_node.plain_yaml import PlainYamlError, read_plain_yaml


def test_plain_content(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: [1, 2.5, x]\nb: {c: true}\n")
    assert read_plain_yaml(path, max_bytes=99, max_depth=3) == {
        "a": [1, 2.5, "x"],
        "b": {"c": True},
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a: &x 1\nb: *x", r"references \(\*x\)"),
        ("a: [[1]]", "nested more than 3 deep"),
        ("a: 1\na: 2", "'a' stands here twice"),
        ("a: [", "expected plain YAML"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: " + "1" * 99, "expected at most 60 bytes"),
    ],
)
def test_content_that_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(content)
    with pytest.raises(PlainYamlError, match=reason):
        read_plain_yaml(path, max_bytes=60, max_depth=3)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PlainYamlError, match="cannot be read: "):
        read_plain_yaml(tmp_path, max_bytes=60, max_depth=3)
