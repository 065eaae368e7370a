"""The files that make this a package agree, and the scripts around it do their work."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest

import pose_node
from pose_node.ros.entry import PROCESSES

ROOT = Path(__file__).resolve().parents[1]

NOT_ROS = {"numpy", "cv2", "torch", "yaml"}


def load(path: str) -> ModuleType:
    """The script at this path of the checkout, as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package_xml() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


def test_versions_agree() -> None:
    assert package_xml().findtext("version") == pose_node.__version__


def test_every_message_is_built() -> None:
    named = re.findall(r"^  (msg/\w+\.msg)$", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)
    assert named == sorted(f"msg/{path.name}" for path in (ROOT / "msg").iterdir())


def test_every_imported_ros_package_is_a_dependency() -> None:
    tags = ("depend", "exec_depend")
    dependencies = {element.text for tag in tags for element in package_xml().iter(tag)}
    imported: set[str] = set()
    for path in [*(ROOT / "pose_node" / "ros").glob("*.py"), *(ROOT / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).split(".")[0])
    imported -= {*sys.stdlib_module_names, *NOT_ROS, "pose_node"}
    assert "rclpy" in imported
    assert imported - dependencies == set()


def test_every_executable_starts_a_process() -> None:
    programs = sorted((ROOT / "scripts" / "ros").iterdir())
    names = [program.name for program in programs]
    assert names == ["camera", "exercise", "pose-node", "pose_node"]
    for program in programs:
        text = program.read_text(encoding="utf-8")
        found = re.search(r"^sys.exit\((?:main\(\)|start\(\"(\w+)\"\))\)$", text, re.MULTILINE)
        assert found is not None
        module, _ = PROCESSES[found[1]] if found[1] else ("pose_node.__main__", 0)
        source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
        assert "def main(" in source


def test_build_without_ros_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    build = load("setup.py")
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(build.BuildError, match=r"no ROS 2 environment is sourced .* scripts/setup"):
        build.ros_prefixes()


def test_build_with_another_python_than_the_sourced_one_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build = load("setup.py")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    with pytest.raises(build.BuildError, match=r"does not see its message generators"):
        build.ros_prefixes()


@pytest.mark.parametrize(
    ("missing", "reason"), [("cmake", "`cmake` is not on the PATH"), ("c++", "no C.. compiler")]
)
def test_build_without_a_tool_says_which(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str, reason: str
) -> None:
    build = load("setup.py")
    monkeypatch.setattr(build, "ros_prefixes", lambda: [tmp_path])
    monkeypatch.delenv("CXX", raising=False)
    there = {"cmake", "ninja"} - {missing}
    monkeypatch.setattr(build.shutil, "which", lambda tool: tool if tool in there else None)
    with pytest.raises(build.BuildError, match=reason):
        build.run_cmake(tmp_path / "build", tmp_path / "staging")


def test_failing_build_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build = load("setup.py")
    monkeypatch.setattr(build, "ros_prefixes", lambda: [tmp_path])
    monkeypatch.setattr(build.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(
        build.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 2)
    )
    with pytest.raises(build.BuildError, match=r"`cmake -S` ended with status 2"):
        build.run_cmake(tmp_path / "build", tmp_path / "staging")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--distro", "humble"], "no ROS 2 wheels are known for 'humble'"),
        (["--distro"], "--distro needs a name"),
        (["--fast"], "unknown argument '--fast'"),
        (["--python", "/nonexistent/python"], "/nonexistent/python is not a Python from 3.10"),
    ],
)
def test_setup_refuses_with_one_sentence(arguments: list[str], said: str) -> None:
    ended = subprocess.run(
        [ROOT / "scripts" / "setup", *arguments],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"},
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"set-up: {said}")
    assert ended.stderr.count("\n") == 1


def junit(tmp_path: Path, *skips: str) -> Path:
    """A report of one test that passed and of these, skipped."""
    report = tmp_path / "report.xml"
    cases = "".join(f'<testcase classname="c" name="n">{skip}</testcase>' for skip in ("", *skips))
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    return report


@pytest.mark.parametrize(
    ("skip", "gpu", "unexpected"),
    [
        ('<skipped type="pytest.skip" message="no CUDA device"/>', False, []),
        ('<skipped type="pytest.skip" message="no CUDA device"/>', True, ["c.n: no CUDA device"]),
        ('<skipped type="pytest.skip" message="no rclpy"/>', False, ["c.n: no rclpy"]),
        ('<skipped type="pytest.xfail" message="known"/>', False, []),
        ("", False, []),
    ],
)
def test_only_skips_for_want_of_a_gpu_are_expected(
    tmp_path: Path, skip: str, gpu: bool, unexpected: list[str]
) -> None:
    check = load("scripts/ci_skips.py")
    assert check.unexpected_skips(junit(tmp_path, skip), gpu=gpu) == unexpected
