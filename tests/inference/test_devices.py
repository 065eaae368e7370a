"""The device that was asked for is used, or an error says why not."""

from __future__ import annotations

import pytest
import torch

from pose_node.errors import DeviceError
from pose_node.inference import devices


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_cuda")
def test_auto_falls_back_to_the_cpu() -> None:
    assert devices.resolve_device("auto") == torch.device("cpu")
    assert devices.why_no_cuda() is not None


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize(
    ("cuda_version", "text"),
    [(None, "built without CUDA; install"), ("13.0", "built for CUDA 13.0 .* check `nvidia-smi`")],
)
def test_missing_cuda_is_an_error_that_says_why(
    monkeypatch: pytest.MonkeyPatch, cuda_version: str | None, text: str
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda_version)
    with pytest.raises(DeviceError, match=f"'cuda:0' cannot be used: .*{text}.*device 'cpu'"):
        devices.resolve_device("cuda:0")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "", "mps"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=f"'cuda:N', got {name!r}"):
        devices.resolve_device(name)


def test_a_gpu_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.resolve_device("cuda:1") == torch.device("cuda", 1)
    assert devices.resolve_device("auto") == torch.device("cuda", 0)
    with pytest.raises(DeviceError, match="'cuda:2' is not there: this machine has 2"):
        devices.resolve_device("cuda:2")


@pytest.mark.parametrize(("version", "driver"), [("13.0", False), (None, True)])
def test_a_cuda_build_or_a_driver_lets_expect_a_gpu(
    monkeypatch: pytest.MonkeyPatch, version: str | None, driver: bool
) -> None:
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(devices.Path, "exists", lambda _: driver)
    assert devices.is_cuda_expected()
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(devices.Path, "exists", lambda _: False)
    assert not devices.is_cuda_expected()
