"""The Triton kernels give what torch's operators give, or are not used."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import pose_node.inference
from pose_node.inference import device_kernels
from pose_node.inference.device_kernels import choose_kernels, find_difference

CPU = torch.device("cpu")


def test_without_a_gpu_there_are_none() -> None:
    kernels, why_not = choose_kernels(CPU)
    assert kernels is None
    assert why_not is not None
    assert "NVIDIA" in why_not


def test_whatever_triton_raises_is_a_reason_not_to_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "pose_node.inference.triton_kernels", raising=False)
    monkeypatch.delattr(pose_node.inference, "triton_kernels", raising=False)
    kernels, why_not = choose_kernels(torch.device("cuda"))
    assert kernels is None
    assert why_not is not None
    assert "triton is missing" in why_not


def wrong_draw(images: torch.Tensor, canvas: torch.Tensor, *_: Any, **__: Any) -> None:
    canvas.zero_()


def right_draw(*_: Any, **__: Any) -> None:
    pass


def wrong_suppress(candidates: Any, threshold: Any, max_kept: int) -> tuple[torch.Tensor, ...]:
    batch = len(candidates.count)
    return torch.zeros(batch, max_kept, dtype=torch.int64), torch.ones(batch, dtype=torch.int64)


def test_a_kernel_with_other_results_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels: Any = SimpleNamespace(draw=wrong_draw, suppress=wrong_suppress)
    assert find_difference(kernels, CPU) == "letterboxing"
    monkeypatch.setattr(device_kernels, "_letterboxed", lambda *_: torch.zeros(1))
    assert find_difference(kernels, CPU) == "suppression"


def test_a_kernel_with_other_results_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules, "pose_node.inference.triton_kernels", SimpleNamespace(draw=None)
    )
    monkeypatch.setattr(device_kernels, "find_difference", lambda *_: "suppression")
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext(device))
    kernels, why_not = choose_kernels(torch.device("cuda"))
    assert kernels is None
    assert why_not is not None
    assert "suppression" in why_not


INTERPRET = """
import os, torch, warnings
os.environ["TRITON_INTERPRET"] = "1"
warnings.simplefilter("ignore")  # two empty boxes divide nothing by nothing
from pose_node.inference import triton_kernels
from pose_node.inference.device_kernels import find_difference
print(find_difference(triton_kernels, torch.device("cpu")))
"""


def test_interpreted_on_the_cpu_the_kernels_are_right() -> None:
    pytest.importorskip("triton", reason="Triton missing: it comes with CUDA builds of torch")
    ended = subprocess.run(
        [sys.executable, "-c", INTERPRET], capture_output=True, text=True, check=True, timeout=120
    )
    assert ended.stdout.strip() == "None"


@pytest.mark.gpu
def test_compiled_on_the_gpu_the_kernels_are_right() -> None:
    if not torch.cuda.is_available():
        pytest.skip("GPU missing: torch finds no CUDA device")
    pytest.importorskip("triton", reason="Triton missing: it comes with CUDA builds of torch")
    kernels, why_not = choose_kernels(torch.device("cuda"))
    assert why_not is None
    assert kernels is not None
