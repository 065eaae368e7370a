"""The layers of the package: each part imports only what stands below it, and ROS is the edge."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "pose_node"

# From the bottom up. A module may import from lower layers and from its own.
LAYERS = (
    ("errors", "source_names", "poses", "progress", "process_settings", "idle_options"),
    ("output_files", "interruption"),
    ("installation", "plain_yaml"),
    ("image_headers", "skeletons"),
    ("imaging", "drawing", "camera_model"),
    ("captures", "sources", "depth", "depth_images", "exercise_definitions"),
    ("exercise",),
    ("exercise_drawing",),
    ("playback",),
    ("models",),
    ("inference", "exporting", "export"),  # a backend's file is exported when it is first used
    ("tracking", "smoothing"),
    ("pipeline",),
    ("evaluation",),
    ("prediction",),
    ("viewing",),
    ("ros",),
    ("arguments", "commands"),
    ("predict_sources", "predict_outputs", "predict_tracking"),
    ("evaluate_command", "predict_command", "export_command", "view_command", "cli", "__main__"),
)
ROS_PACKAGES = {
    *("rclpy", "builtin_interfaces", "rcl_interfaces", "lifecycle_msgs", "std_msgs", "std_srvs"),
    *("sensor_msgs", "geometry_msgs", "diagnostic_msgs", "visualization_msgs", "cv_bridge"),
    *("foxglove_msgs", "hri_msgs", "tf2_msgs", "tf2_ros", "vision_msgs"),
}
CORE = [
    *("pose_node", "pose_node.pipeline", "pose_node.imaging", "pose_node.drawing"),
    *("pose_node.sources", "pose_node.inference.engine", "pose_node.cli"),
]


def imports(path: Path, *, at_import: bool = False) -> set[str]:
    """Full names of everything that a module imports, or only of what it imports at once."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    nodes = list(ast.walk(tree)) if not at_import else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path.name} has a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def layer_of(name: str) -> int:
    for level, parts in enumerate(LAYERS):
        if name in parts:
            return level
    raise AssertionError(f"pose_node.{name} stands in no layer: add it to LAYERS")


MODULES = sorted(PACKAGE.rglob("*.py"))


# The front door names the engine, and loads it only on demand.
BEHIND_THE_DOOR = [path for path in MODULES if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", BEHIND_THE_DOOR, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_what_stands_below(path: Path) -> None:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    known = {name for parts in LAYERS for name in parts}
    used = {
        name.split(".")[1]
        for name in imports(path)
        if name.startswith("pose_node.") and name.split(".")[1] in known
    }
    upwards = {name for name in used if layer_of(name) > layer_of(part)}
    # The command line starts the node by name; nothing else may know what is above it.
    assert not upwards, f"pose_node.{part} imports {upwards} from above"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_edge_imports_ros(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0] == "ros":
        assert "torch" not in {name.split(".")[0] for name in imports(path)}
        return
    # cv_bridge is asked for where it is installed, by imaging alone, when an encoding needs it.
    used = {name.split(".")[0] for name in imports(path)} & ROS_PACKAGES
    assert used <= ({"cv_bridge"} if path.name == "imaging.py" else set())
    assert not {name.split(".")[0] for name in imports(path, at_import=True)} & ROS_PACKAGES


@pytest.mark.parametrize("module", CORE)
def test_importing_the_core_loads_no_ros(module: str) -> None:
    if module == "pose_node.inference.engine":
        pytest.importorskip("torch", reason="torch missing")
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "pose_node" in loaded
    assert not ROS_PACKAGES & set(loaded)
    if module in ("pose_node", "pose_node.cli", "pose_node.imaging", "pose_node.drawing"):
        assert "torch" not in loaded  # takes seconds


@pytest.mark.parametrize("ros", [False, pytest.param(True, marks=pytest.mark.ros)])
def test_importing_changes_no_global_setting(ros: bool) -> None:
    pytest.importorskip("torch", reason="torch missing")
    modules, before_it = CORE, ""
    if ros:
        pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")
        modules = [f"pose_node.ros.{path.stem}" for path in (PACKAGE / "ros").glob("[!_]*.py")]
        before_it = "import rclpy\n"
    code = (
        f"{before_it}import os, signal, cv2, torch, numpy as np\n"
        "def state():\n"
        "    return (dict(os.environ), cv2.getNumThreads(), torch.get_num_threads(),\n"
        "            torch.is_grad_enabled(), torch.get_default_dtype(), np.geterr(),\n"
        "            signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM),\n"
        "            torch.backends.cudnn.benchmark, torch.backends.mkldnn.enabled)\n"
        "before = state()\n"
        f"import {', '.join(modules)}\n"
        "assert state() == before, (before, state())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
