"""What the README says is true: the table of parameters, the files, the commands, the example."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def text() -> str:
    return README.read_text(encoding="utf-8")


def test_the_table_of_parameters_is_the_generated_one(text: str) -> None:
    from pose_node.ros.declared_parameters import to_markdown
    from pose_node.ros.parameters import NodeParameters

    assert to_markdown(NodeParameters) in text


def test_files_that_are_linked_exist(text: str) -> None:
    links = re.findall(r"\]\((?!http|#)([^)]+)\)", text)
    assert len(links) > 3
    missing = [link for link in links if not (README.parent / link).exists()]
    assert missing == []


def test_commands_exist(text: str) -> None:
    from pose_node.cli import _parser

    parser = _parser()
    (commands,) = (action.choices for action in parser._actions if action.choices)
    named = set(re.findall(r"`pose-node ([a-z]+)", text))
    assert named >= {"run", "camera", "demo", "exercise", "fetch", "models", "evaluate"}
    assert named <= set(commands or ())


def test_the_example_runs(
    text: str, shared: Path, yolo11n_pose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        if "PoseEngine" in block
    )
    image = shared / "data/coco/val2017/000000000785.jpg"
    (tmp_path / "people.jpg").write_bytes(image.read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert len(names["poses"]) == 1  # type: ignore[arg-type]
    assert yolo11n_pose.is_file()
