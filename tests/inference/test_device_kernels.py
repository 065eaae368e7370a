"""The Triton kernels give what torch's operators give, or are not used."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import pose_node.inference
from pose_node.inference import device_kernels
from pose_node.inference.device_kernels import choose_kernels, find_difference
from pose_node.inference.device_pipeline import MAX_PEOPLE

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


def test_the_comparison_sees_all_that_a_walk_may_end_with() -> None:
    """More people than are kept, and fewer; and torch's own operators come to an end."""
    places = device_kernels._suppressed(None, CPU)
    assert places[:, -1].tolist() == [1, 1]
    assert places[0, -2] == MAX_PEOPLE > places[1, -2] > 10


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
import torch, warnings
warnings.simplefilter("ignore")  # two empty boxes divide nothing by nothing
from pose_node.inference import triton_kernels
from pose_node.inference.device_kernels import find_difference
print(find_difference(triton_kernels, torch.device("cpu")))
"""


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from pose_node.inference.triton_kernels import BLOCK, _draw, _suppress

def compiled(kernel, types, constants, capability, **options):
    names = kernel.arg_names
    types = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    source = ASTSource(kernel, types, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm

bytes, whole, real = "*u8", "*i64", "*fp32"
images = {"images": bytes, "swaps": bytes, "rows": "*i32", "columns": "*i32", "scale": "fp32"}
people = {"boxes": real, "classes": whole, "counts": whole, "threshold": real}
people |= {"places": whole, "kept_counts": whole}
for capability in (75, 80, 86, 87, 89, 90, 100, 120):
    for canvas in ("*fp16", "*fp32"):
        types = {**images, "canvas": canvas}
        assert compiled(_draw, types, {"GREY": 114, "BLOCK": BLOCK}, capability)["cubin"]
    constants, options = {"BLOCK": BLOCK}, {"num_warps": 8, "enable_fp_fusion": False}
    code = compiled(_suppress, people, constants, capability, **options)["ptx"]
    assert "fma" not in code and "div.rn" in code, capability
for kernel in (_draw, _suppress):
    same = [p.name for p in kernel.params if not (p.is_constexpr or p.do_not_specialize)]
    print(*(name for name in same if name not in {**images, **people}))
"""


def run_beside_triton(program: str, **variables: str) -> str:
    """What a program prints that has Triton for itself."""
    pytest.importorskip("triton", reason="Triton missing: see requirements/triton.txt")
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, **variables},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_interpreted_on_the_cpu_the_kernels_are_right() -> None:
    assert run_beside_triton(INTERPRET, TRITON_INTERPRET="1") == "None"


def test_compiled_for_gpus_that_are_not_here(tmp_path: Path) -> None:
    """With the arithmetic of the host; once, whatever the images: only these numbers matter."""
    said = run_beside_triton(COMPILE, TRITON_CACHE_DIR=str(tmp_path))
    assert said == "canvas canvas_height canvas_width numbers"


@pytest.mark.gpu
def test_compiled_on_the_gpu_the_kernels_are_right() -> None:
    if not torch.cuda.is_available():
        pytest.skip("GPU missing: torch finds no CUDA device")
    pytest.importorskip("triton", reason="Triton missing: see requirements/triton.txt")
    kernels, why_not = choose_kernels(torch.device("cuda"))
    assert why_not is None
    assert kernels is not None
