"""Where recordings go."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from pose_node.errors import OutputError, ViewError
from pose_node.viewing import destinations
from pose_node.viewing.destinations import File, Ports, Server, Window
from pose_node.viewing.sdk import load_rerun

pytestmark = pytest.mark.usefixtures("sdk")


def free_ports() -> Ports:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("", 0))
        second.bind(("", 0))
        return Ports(first.getsockname()[1], second.getsockname()[1])


def test_a_file_gets_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.rrd"
    file = File(path)
    assert not path.exists()
    assert "rerun" in file.close()
    assert path.read_bytes()[:4] == b"RRF2"
    assert list(path.parent.iterdir()) == [path]


def test_an_aborted_file_leaves_nothing(tmp_path: Path) -> None:
    File(tmp_path / "a.rrd").abort()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write .*file/a\.rrd: "):
        File(tmp_path / "file" / "a.rrd")


def test_a_file_that_cannot_be_renamed(tmp_path: Path) -> None:
    file = File(tmp_path / "a.rrd")
    (tmp_path / "a.rrd").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*a\.rrd: "):
        file.close()


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are those of POSIX")
def test_a_full_disk_is_an_error_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    """The largest size of a file stands for a full disk: writing fails in the same way."""
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "import numpy as np, rerun\n"
        "from pose_node.errors import OutputError\n"
        "from pose_node.viewing.destinations import File\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "file = File(Path(sys.argv[1]))\n"
        "for _ in range(30):\n"
        "    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)\n"
        "    file.stream.log('image', rerun.Image(noise))\n"
        "try:\n"
        "    file.close()\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.rrd")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"cannot write {tmp_path}/a.rrd: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_a_server_serves_the_page_of_this_machine() -> None:
    ports = free_ports()
    server = Server(ports, memory="10MiB")
    try:
        data = f"rerun%2Bhttp://localhost:{ports.data}/proxy"
        assert server.address == f"http://localhost:{ports.web}/?url={data}"
        with urllib.request.urlopen(server.address, timeout=20) as page:
            assert b"<html" in page.read().lower()
        with socket.create_connection(("localhost", ports.data), timeout=20):
            pass
        with pytest.raises(ViewError, match=f"port {ports.web} cannot be used"):
            Server(ports, memory="10MiB")
    finally:
        assert "ended" in server.close()


def test_a_server_for_other_machines() -> None:
    ports = free_ports()
    server = Server(ports, host="robot", memory="10MiB")
    server.abort()
    assert server.address.startswith(f"http://robot:{ports.web}/?url=rerun%2Bhttp://robot:")


def test_a_server_with_memory_that_makes_no_sense() -> None:
    with pytest.raises(ViewError, match="cannot start"):
        Server(free_ports(), memory="much")


def test_a_window_needs_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ViewError, match=r"no screen .* --save FILE.rrd .* --serve"):
        Window(memory="1GiB")


class Spawned:
    """Stands for a recording of which the viewer starts, or does not."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.hangs = False
        self.calls: list[str] = []

    def spawn(self, *, memory_limit: str) -> None:
        self.calls.append(f"spawn {memory_limit}")
        if self.error is not None:
            raise self.error

    def flush(self, *, timeout_sec: float) -> None:
        assert timeout_sec < 1000
        self.calls.append("flush")
        if self.hangs:
            raise RuntimeError("Flush timed out")

    def disconnect(self) -> None:
        self.calls.append("disconnect")


def test_a_window_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    spawned = Spawned()
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.setattr(destinations, "_new_stream", lambda: spawned)
    Window(memory="2GiB").close()
    assert spawned.calls == ["spawn 2GiB", "flush", "disconnect"]
    Window(memory="2GiB").abort()
    assert spawned.calls[3:] == ["spawn 2GiB", "disconnect"]


def test_a_viewer_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spawned = Spawned()
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.setattr(destinations, "_new_stream", lambda: spawned)
    window = Window(memory="2GiB")
    spawned.hangs = True
    with pytest.raises(ViewError, match="did not take everything: Flush timed out"):
        window.close()


def test_a_viewer_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":99")
    spawned = Spawned(RuntimeError("no viewer found"))
    monkeypatch.setattr(destinations, "_new_stream", lambda: spawned)
    with pytest.raises(ViewError, match="cannot start: no viewer found"):
        Window(memory="1GiB")


def test_without_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ViewError, match=r"pip install 'pose-node\[view\]'"):
        load_rerun()
