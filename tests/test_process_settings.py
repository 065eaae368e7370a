"""malloc and thread settings are made for the process, and what the user has set stays."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pose_node import process_settings
from pose_node.process_settings import available_processors, malloc_variables, tune_process


def test_malloc_options_are_taken() -> None:
    code = "from pose_node.process_settings import _tune_malloc; print(_tune_malloc({}))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    expected = hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
    assert found.strip() == str(expected)


@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_TOP_PAD_": "1"}, {"GLIBC_TUNABLES": "glibc.malloc.top_pad=1"}],
)
def test_malloc_settings_of_the_user_stay(environment: dict[str, str]) -> None:
    assert not process_settings._tune_malloc(environment)


def test_malloc_of_others_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    assert not process_settings._tune_malloc({})

    def fail(_: object) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert not process_settings._tune_malloc({})


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="glibc missing")
def test_memory_goes_back_to_the_system() -> None:
    code = """
import numpy as np, threading
from pose_node.process_settings import release_memory, tune_process

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4 // 1024

tune_process({})
def work():
    np.ones(20 << 20, np.uint8)
before = resident()
for _ in range(6):
    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
release_memory()
print(resident() - before)
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert int(found) < 20


def test_threads_wait_briefly_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process_settings, "_tune_malloc", lambda _: True)
    environment: dict[str, str] = {}
    tune_process(environment)
    assert environment == {"GOMP_SPINCOUNT": "2000"}
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        environment = {name: "7"}
        tune_process(environment)
        assert environment == {name: "7"}


def test_a_process_to_be_started_gets_the_same_malloc() -> None:
    code = "import os; print(os.environ['MALLOC_TOP_PAD_'])"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **malloc_variables()},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert int(found) == 16 << 20


@pytest.mark.parametrize(
    ("text", "share"),
    [("150000 100000\n", 2), ("50000 100000\n", 1), ("max 100000\n", 8), ("nonsense", 8)],
)
def test_processors_of_a_container(
    text: str, share: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(process_settings, "_PROCESSOR_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert available_processors() == share


def test_processors_without_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_settings, "_PROCESSOR_QUOTA", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert available_processors() == 2
