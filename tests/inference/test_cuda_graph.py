"""Settings of torch are put back, and a recording that fails leaves work and process whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pose_node.inference import cuda_graph
from pose_node.inference.cuda_graph import WARM_UPS, CudaGraphs, precise_convolutions

CUDNN = torch.backends.cudnn
KINDS: list[Any] = [getattr(CUDNN, name) for name in ("conv", "rnn") if hasattr(CUDNN, name)]


@pytest.fixture
def precisions() -> Iterator[None]:
    """Whatever a test sets, the settings are those of before."""
    before = [kind.fp32_precision for kind in KINDS]
    overall = torch.backends.fp32_precision if KINDS else None
    yield
    CUDNN.allow_tf32 = True
    if overall is not None:
        torch.backends.fp32_precision = overall
    for kind, precision in zip(KINDS, before, strict=True):
        kind.fp32_precision = precision


def allowed() -> bool | None:
    """The setting for all kinds; None where they differ."""
    try:
        return bool(CUDNN.allow_tf32)
    except RuntimeError:
        return None


@pytest.mark.usefixtures("precisions")
@pytest.mark.parametrize("before", [True, False])
def test_convolutions_are_precise_and_what_was_set_comes_back(before: bool) -> None:
    CUDNN.allow_tf32 = before
    for benchmark in (None, True):
        with precise_convolutions(benchmark=benchmark), precise_convolutions():
            assert allowed() is False
            assert CUDNN.benchmark is bool(benchmark)
        assert (allowed(), CUDNN.benchmark) == (before, False)


def look_around_and_fail() -> None:
    assert [kind.fp32_precision for kind in KINDS] == ["ieee", "ieee"]
    assert allowed() is False
    raise ZeroDivisionError


@pytest.mark.skipif(not KINDS, reason="torch 2.9 missing: this one has one setting for all kinds")
@pytest.mark.usefixtures("precisions")
@pytest.mark.parametrize("overall", ["ieee", "tf32"])
@pytest.mark.parametrize("kinds", [("tf32", "ieee"), ("ieee", "tf32"), ("none", "none")])
def test_settings_of_each_kind_come_back(overall: str, kinds: tuple[str, str]) -> None:
    torch.backends.fp32_precision = overall
    for kind, precision in zip(KINDS, kinds, strict=True):
        kind.fp32_precision = precision
    before = [kind.fp32_precision for kind in KINDS]
    with pytest.raises(ZeroDivisionError), precise_convolutions(benchmark=True):
        look_around_and_fail()
    assert [kind.fp32_precision for kind in KINDS] == before
    assert CUDNN.benchmark is False


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What recording needs before it fails, or is pretended."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU: recording would not fail")
    for name in ("synchronize", "Stream", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)


@pytest.mark.usefixtures("without_gpu")
def test_where_recording_fails_there_is_one_warning() -> None:
    """On a machine without a GPU, recording fails by itself."""
    graphs = CudaGraphs(torch.device("cuda"))
    calls: list[int] = []

    def function() -> None:
        calls.append(1)

    with pytest.warns(RuntimeWarning, match="No CUDA graph"):
        assert graphs.record(function) is function
    assert graphs.why_not is not None
    assert graphs.record(function) is function  # and no second warning
    assert len(calls) == WARM_UPS


def end_capture() -> None:
    raise RuntimeError("CUDA error: failed due to a previous error during capture")


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, without_gpu: None) -> list[str]:
    """What was done for torch's allocator; recordings end as those of torch do."""
    calls: list[str] = []

    @contextmanager
    def graph(*_: Any, **__: Any) -> Iterator[None]:
        try:
            yield
        except RuntimeError:
            end_capture()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=None))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        note = partial(lambda name, *_: calls.append(name), name)
        monkeypatch.setattr(torch._C, name, note, raising=False)
    monkeypatch.setattr(cuda_graph, "_FAILED", [])
    return calls


def fail_while_recording(error: Exception) -> Callable[[], None]:
    """Work that runs well until it is recorded."""
    runs = iter([None] * WARM_UPS)

    def function() -> None:
        try:
            next(runs)
        except StopIteration:
            raise error from None

    return function


def test_a_failed_recording_says_why_and_is_ended(ended: list[str]) -> None:
    """What torch says at the end of it hides the cause."""
    graphs = CudaGraphs(torch.device("cuda"))
    with pytest.warns(RuntimeWarning, match="the network: an operator waits for the device"):
        graphs.record(fail_while_recording(RuntimeError("an operator waits for the device")))
    assert ended == ["_cuda_endAllocateToPool", "_cuda_releasePool"]
    assert len(cuda_graph._FAILED) == 1
    assert graphs.why_not is not None


def test_a_batch_too_large_to_record_does_not_end_recording(ended: list[str]) -> None:
    graphs = CudaGraphs(torch.device("cuda"))
    with pytest.warns(RuntimeWarning, match="out of memory"):
        graphs.record(fail_while_recording(torch.OutOfMemoryError("out of memory")))
    assert graphs.why_not is None
    assert len(ended) == 2


def test_whatever_is_raised_the_work_goes_on_as_it_is(
    ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch has ended the recording by itself here, and says so."""

    def already(*_: object) -> None:
        raise RuntimeError("not currently recording to mempool_id")

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", already)
    function = fail_while_recording(KeyError("Triton"))
    graphs = CudaGraphs(torch.device("cuda"))
    with pytest.warns(RuntimeWarning, match="Triton"):
        assert graphs.record(function) is function
    assert (ended, cuda_graph._FAILED) == ([], [])


def test_after_forgetting_other_memory_is_used(
    ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch takes no memory pool again whose graphs are gone."""
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    pools = []

    @contextmanager
    def graph(_: object, *, pool: object, **__: Any) -> Iterator[None]:
        pools.append(pool)
        yield

    monkeypatch.setattr(torch.cuda, "graph", graph)
    graphs = CudaGraphs(torch.device("cuda"))
    for _ in range(2):
        graphs.record(int)
    graphs.forget()
    graphs.record(int)
    assert pools[0] is pools[1] is not pools[2]
    assert ended == []
