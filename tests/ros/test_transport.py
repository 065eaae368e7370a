"""When the Fast DDS profile of this package is used, and that Fast DDS accepts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pose_node import installation
from pose_node.ros import transport
from pose_node.ros.transport import find_profile, prepare_process

REPOSITORY = Path(__file__).resolve().parents[2]
NEW, OLD = transport.PROFILE_VARIABLES


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Much shared memory, no profile in the working folder, malloc left alone."""
    monkeypatch.setattr(transport, "_free_shared_memory", lambda: 1 << 30)
    monkeypatch.setattr(transport, "tune_process", lambda _: None)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("distribution", "variable"),
    [("humble", OLD), ("jazzy", OLD), ("kilted", NEW), ("lyrical", NEW), ("rolling", NEW)],
)
def test_variable_of_each_distribution(distribution: str, variable: str) -> None:
    environment = {"ROS_DISTRO": distribution}
    assert prepare_process(environment) == []
    assert environment[variable] == str(find_profile())
    assert len(environment) == 2


@pytest.mark.parametrize(("found", "variable"), [(object(), OLD), (None, NEW)])
def test_variable_of_the_wheels(
    monkeypatch: pytest.MonkeyPatch, found: object, variable: str
) -> None:
    monkeypatch.setattr(transport, "find_spec", lambda name: found if name == "fastrtps" else None)
    environment: dict[str, str] = {}
    prepare_process(environment)
    assert list(environment) == [variable]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (NEW, "/my/profile.xml"),
        (OLD, "/my/profile.xml"),
        ("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp"),
        ("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA"),
    ],
)
def test_the_choice_of_the_user_stays(name: str, value: str) -> None:
    environment = {name: value}
    assert prepare_process(environment) == []
    assert environment == {name: value}


@pytest.mark.parametrize(
    ("environment", "removed"),
    [
        ({NEW: "/my/profile.xml"}, ["segments", "ports"]),
        ({"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}, ["segments", "ports"]),
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, []),
    ],
)
def test_what_killed_processes_left_is_mended_for_every_user_of_fast_dds(
    environment: dict[str, str], removed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(transport, "remove_stale_segments", lambda: calls.append("segments"))
    monkeypatch.setattr(transport, "remove_half_made_ports", lambda: calls.append("ports"))
    prepare_process(environment)
    assert calls == removed


def test_a_profile_in_the_working_folder_is_a_choice() -> None:
    Path("DEFAULT_FASTDDS_PROFILES.xml").touch()
    environment: dict[str, str] = {}
    prepare_process(environment)
    assert environment == {}


def test_fast_dds_by_name_is_no_other_middleware() -> None:
    environment = {"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp", "ROS_DISTRO": "kilted"}
    prepare_process(environment)
    assert NEW in environment


def test_own_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (NEW, OLD, "RMW_IMPLEMENTATION", "FASTDDS_BUILTIN_TRANSPORTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    prepare_process()
    assert os.environ[NEW] == str(find_profile())


def test_profile_is_found_in_a_checkout_and_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert find_profile() == REPOSITORY / "config" / "fastdds.xml"
    module = tmp_path / "lib" / "python3" / "site-packages" / "pose_node" / "installation.py"
    monkeypatch.setattr(installation, "__file__", str(module))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "nowhere"))
    assert find_profile({}) is None
    for prefix, environment in (
        (tmp_path, {}),
        (tmp_path / "nowhere", {}),
        (tmp_path / "ament", {"AMENT_PREFIX_PATH": f"/other:{tmp_path / 'ament'}"}),
    ):
        path = prefix / "share" / "pose_node" / "config" / "fastdds.xml"
        path.parent.mkdir(parents=True)
        path.touch()
        assert find_profile(environment) == path


def test_a_profile_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "find_profile", lambda _: None)
    environment: dict[str, str] = {}
    (warning,) = prepare_process(environment)
    assert "not installed" in warning
    assert environment == {}


def test_little_shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(transport, "_free_shared_memory", lambda: 64 << 20)
    environment = {"XDG_CACHE_HOME": str(tmp_path), "ROS_DISTRO": "kilted"}
    (warning,) = prepare_process(environment)
    assert "only 64 MiB free" in warning
    assert "--shm-size" in warning
    text = Path(environment[NEW]).read_text()
    assert f"<segment_size>{16 << 20}<" in text
    assert f"<maxMessageSize>{4 << 20}<" in text
    assert [path.name for path in (tmp_path / "pose_node").iterdir()] == ["fastdds_16_mib.xml"]


def test_hardly_any_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_free_shared_memory", lambda: 20 << 20)
    environment: dict[str, str] = {}
    (warning,) = prepare_process(environment)
    assert "only 20 MiB free" in warning
    assert environment == {}


def test_little_shared_memory_and_no_place_for_a_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(transport, "_free_shared_memory", lambda: 64 << 20)
    (tmp_path / "file").touch()
    environment = {"XDG_CACHE_HOME": str(tmp_path / "file")}
    (warning,) = prepare_process(environment)
    assert "cannot be written" in warning
    assert len(environment) == 1


def test_cache_folder_without_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert transport._cache_folder({}) == tmp_path / ".cache" / "pose_node"


class TestSystem:
    """The functions that `_machine` replaces above, on this system and on others."""

    @pytest.fixture(autouse=True)
    def _machine(self) -> None:
        """Replaces the one above: nothing is replaced."""

    def test_free_shared_memory(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(transport, "_SHARED_MEMORY", tmp_path)
        assert transport._free_shared_memory() > 0
        monkeypatch.setattr(transport, "_SHARED_MEMORY", tmp_path / "missing")
        assert transport._free_shared_memory() == 0

    def test_our_own_profile_is_no_choice_of_the_user(self) -> None:
        variables = {"XDG_CACHE_HOME": "/home/robot/.cache"}
        installed = transport.find_profile(variables)
        assert installed is not None
        assert transport._is_ours(str(installed), variables)
        assert transport._is_ours("/home/robot/.cache/pose_node/fastdds_16_mib.xml", variables)
        for other in (
            "/etc/fastdds.xml",
            "/opt/robot/config/fastdds.xml",
            "/home/robot/.cache/pose_node/mine.xml",
            "/home/robot/pose_node/fastdds_16_mib.xml",
        ):
            assert not transport._is_ours(other, variables)

    def test_a_launch_file_gets_profile_and_malloc(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in transport.PROFILE_VARIABLES:
            monkeypatch.delenv(name, raising=False)
        chosen = transport.transport_environment()
        (profile,) = (chosen[name] for name in transport.PROFILE_VARIABLES if name in chosen)
        assert Path(profile).is_file()
        assert int(chosen["MALLOC_MMAP_THRESHOLD_"]) == 32 << 20
        monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
        assert transport.transport_environment() == {}

    @pytest.mark.ros
    @pytest.mark.usefixtures("ros")
    @pytest.mark.parametrize(("free", "mebibytes"), [(1 << 30, 64), (64 << 20, 16)])
    def test_fast_dds_takes_the_segment_size(
        self, tmp_path: Path, free: int, mebibytes: int
    ) -> None:
        """The segment of a new node is mapped in the size that the profile asks for."""
        if transport._free_shared_memory() < 160 << 20:
            pytest.skip("little shared memory: less than 160 MiB free in /dev/shm")
        code = f"""
import os, rclpy
from pose_node import installation
from pose_node.ros import transport
transport._free_shared_memory = lambda: {free}
os.environ["XDG_CACHE_HOME"] = {str(tmp_path)!r}
transport.prepare_process()
rclpy.init()
node = rclpy.create_node("segment")
segments = {{line.split()[-1] for line in open("/proc/self/maps") if "/dev/shm/fast" in line}}
print(max(os.path.getsize(path) for path in segments))
"""
        size = int(python(code).split()[-1])
        assert mebibytes <= size >> 20 <= mebibytes * 1.1


def python(code: str) -> str:
    """What a Python of its own prints, with this checkout and without the user's choices."""
    left_out = (*transport.PROFILE_VARIABLES, "RMW_IMPLEMENTATION", "FASTDDS_BUILTIN_TRANSPORTS")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout
