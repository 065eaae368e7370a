"""What no module may do, wherever it stands; docs/security.md promises it."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "pose_node"
MODULES = sorted(PACKAGE.rglob("*.py"))

RUNS_WHAT_IT_READS = {
    *("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"),
    *("code", "codeop", "runpy", "pty", "multiprocessing"),
}
"""Modules that make code of data. (multiprocessing pickles what it sends.)"""

NETWORK_AND_PROGRAMS = {
    *("socket", "socketserver", "ssl", "http", "urllib", "ftplib", "smtplib", "telnetlib"),
    *("xmlrpc", "asyncio", "requests", "httpx", "aiohttp", "websockets", "zmq", "subprocess"),
    *("ctypes", "cffi"),
}
ALLOWED = {
    "models/download.py": {"http", "urllib", "subprocess"},  # `fetch`: https, and pip for wheels
    "ros/demo.py": {"subprocess"},  # starts our camera and node
    "ros/shared_memory.py": {"socket"},  # occupies ports for a moment, and neither hears nor sends
    "viewing/destinations.py": {"socket"},  # `view`: looks whether its ports are free
    "process_settings.py": {"ctypes"},  # malloc's settings, of the C library
}
"""The only places that may reach beyond the process."""

NEVER_CALLED = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "pty.spawn"),
    *("torch.load", "torch.jit.load", "torch.export.load", "torch.ops.load_library"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"),
    *("pandas.read_pickle", "pd.read_pickle"),
}
NEVER_BEGUN_WITH = ("os.exec", "os.spawn", "os.posix_spawn", "torch.hub.")
READS_BACK = {"exporting/writers.py": {"torch.jit.load", "torch.export.load"}}
"""Exports are compared with torch before they are done: the files are those just written."""
LOADED_BY_NAME = {
    *("__init__.py", "cli.py", "imaging.py", "ros/entry.py"),
    *("exporting/writers.py", "exporting/quantization.py"),
    *("ros/target_frame.py", "ros/adapters/hri.py", "ros/adapters/publishing.py"),
}
"""Where modules are imported by a name: all of them from tables in the code."""


def faults(source: str, name: str) -> Iterator[str]:
    """What a module does and may not do."""
    allowed = ALLOWED.get(name, set())
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imported = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
            for top in {module.split(".")[0] for module in imported}:
                if top in RUNS_WHAT_IT_READS or top in NETWORK_AND_PROGRAMS - allowed:
                    yield f"line {node.lineno} imports {top}"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            never = NEVER_CALLED - READS_BACK.get(name, set())
            if called in never or called.startswith(NEVER_BEGUN_WITH):
                yield f"line {node.lineno} calls {called}"
            if called.endswith("import_module") and name not in LOADED_BY_NAME:
                yield f"line {node.lineno} imports by name"
            for keyword in node.keywords:
                if keyword.arg in ("shell", "allow_pickle", "weights_only"):
                    harmless = ast.unparse(keyword.value) == str(keyword.arg == "weights_only")
                    if not harmless:
                        yield f"line {node.lineno} gives {ast.unparse(keyword)}"
            if called in ("np.load", "numpy.load") and not any(
                keyword.arg == "allow_pickle" for keyword in node.keywords
            ):
                yield f"line {node.lineno} calls {called} without allow_pickle=False"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_runs_data_or_reaches_out(path: Path) -> None:
    name = str(path.relative_to(PACKAGE))
    assert list(faults(path.read_text(encoding="utf-8"), name)) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from multiprocessing import Pool",
        "def f():\n    import socket",
        "from urllib.request import urlopen",
        "import urllib.request as r",
        "eval('1')",
        "os.system('ls')",
        "os.execvp('a', ['a'])",
        "torch.load(path)",
        "yaml.load(text)",
        "run(['a'], shell=True)",
        "run(['a'], shell=flag)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "importlib.import_module(name)",
    ],
)
def test_the_search_finds_what_it_looks_for(code: str) -> None:
    assert len(list(faults(code, "some_module.py"))) == 1


def test_exceptions_are_still_needed() -> None:
    for name, allowed in ALLOWED.items():
        text = (PACKAGE / name).read_text(encoding="utf-8")
        assert {module for module in allowed if f"import {module}" in text} == allowed, name
    for name in LOADED_BY_NAME:
        assert "import_module" in (PACKAGE / name).read_text(encoding="utf-8"), name


# --- What set-up installs -----------------------------------------------------------------------

LOCKS = sorted((REPOSITORY / "requirements/locked").glob("*.txt"))


def test_lock_files_go_with_the_requirements() -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts/locked.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_lock_file_pins_everything_and_names_no_index(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    packages = re.findall(r"^[a-z0-9-]+(?:\[\w+\])?==[\w.!+]+ \\$", text, re.MULTILINE)
    hashes = re.findall(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$", text, re.MULTILINE)
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert len(packages) + len(hashes) + len(head) == len(text.splitlines())
    assert len(hashes) >= len(packages) > 100
    assert "://" not in text
    assert not re.search(r"^torch==", text, re.MULTILINE), "its build is the user's choice"


# --- What really happens ------------------------------------------------------------------------

AUDIT = """
import json, sys
WATCHED = ("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "subprocess.Popen", "os.system",
           "os.exec", "os.spawn", "os.posix_spawn", "pickle.find_class", "marshal.load",
           "shutil.rmtree")
seen = []
def watch(event, arguments):
    # Importing compiled Python files is what marshal.loads is for; their folder tells them.
    if event.startswith(WATCHED) and event != "marshal.loads":
        seen.append(f"{event}: {arguments!r:.200}")
sys.addaudithook(watch)
"""


def audited(code: str) -> list[str]:
    """Run code in a process of its own; the audit events of network, programs and pickles."""
    done = subprocess.run(
        [sys.executable, "-c", f"{AUDIT}\n{code}\nprint(json.dumps(seen))"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    events: list[str] = json.loads(done.stdout.splitlines()[-1])
    return events


def test_the_audit_sees_a_connection() -> None:
    assert any(
        event.startswith("socket.connect")
        for event in audited("import socket\nsocket.socket().connect_ex(('127.0.0.1', 1))")
    )


def test_reading_and_running_a_model_reaches_nothing(yolo11n_pose: Path) -> None:
    pytest.importorskip("torch", reason="torch missing")
    before = audited("import torch, cv2, numpy, scipy.optimize")
    code = f"""
import numpy as np
import pose_node, pose_node.cli, pose_node.export, pose_node.prediction.run, pose_node.sources
from pose_node import PoseEngine
engine = PoseEngine.load({str(yolo11n_pose)!r}, device="cpu", image_size=64)
assert len(engine([np.zeros((48, 64, 3), np.uint8)])) == 1
"""
    # The libraries themselves may ask for something, such as torch for the processor.
    assert [event for event in audited(code) if event not in before] == []


@pytest.mark.ros
def test_a_node_that_works_reaches_nothing(yolo11n_pose: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")
    pytest.importorskip("pose_node.msg", reason="messages missing: build the package first")
    from pose_node import PoseEngine

    PoseEngine.load(yolo11n_pose, device="cpu", backend="auto")  # exported on first use
    before = audited("import rclpy, torch, cv2, numpy, scipy.optimize\nrclpy.init()")
    code = """
import os, re, time
import numpy as np, rclpy
from pathlib import Path
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from pose_node.msg import PersonPoseArray
from pose_node.ros.node import PoseNode
rclpy.init()
node = PoseNode(parameter_overrides=[
    Parameter("device", value="cpu"), Parameter("image_size", value=64)])
executor, peer = SingleThreadedExecutor(), rclpy.create_node("peer")
executor.add_node(node), executor.add_node(peer)
arrived = []
peer.create_subscription(PersonPoseArray, "poses", arrived.append, 1)
images = peer.create_publisher(Image, "image_raw", 1)
for transition in ("configure", "activate"):
    assert getattr(node, f"trigger_{transition}")().name == "SUCCESS"
image = Image(width=64, height=48, encoding="bgr8", step=192, data=bytes(64 * 48 * 3))
image.header.stamp.sec = 1
end = time.monotonic() + 120  # a spin may take no time at all, and the first image takes some
while not arrived and time.monotonic() < end:
    images.publish(image)
    executor.spin_once(timeout_sec=0.1)
# DDS speaks UDP by itself, unseen by the audit; there is nothing else.
inodes = {re.findall(r"socket:.(\\d+)", os.readlink(f"/proc/self/fd/{number}"))[0]
          for number in os.listdir("/proc/self/fd")
          if "socket:" in (os.readlink(f"/proc/self/fd/{number}")
                           if os.path.islink(f"/proc/self/fd/{number}") else "")}
for name in ("tcp", "tcp6"):
    table = Path(f"/proc/self/net/{name}")
    lines = table.read_text().splitlines()[1:] if table.exists() else []
    seen.extend(f"{name}: {line}" for line in lines if line.split()[9] in inodes)
udp = Path("/proc/self/net/udp").read_text().splitlines()[1:]
found = inodes & {line.split()[9] for line in udp}
executor.shutdown(), node.destroy_node(), peer.destroy_node(), rclpy.try_shutdown()
assert arrived
assert found, "the search for sockets finds none"
"""
    assert [event for event in audited(code) if event not in before] == []
