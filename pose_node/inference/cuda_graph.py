"""Recording work on an NVIDIA GPU as a graph, which the driver then starts in one go."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch

from pose_node.inference.device_faults import find_device_fault

WARM_UPS = 3

_SETTINGS = threading.RLock()

_FAILED: list[torch.cuda.CUDAGraph] = []
"""Whose recording could not be ended: torch may still ask them whether they are recording."""


@contextmanager
def precise_convolutions(*, benchmark: bool | None = None) -> Iterator[None]:
    """Float32 convolutions on a GPU keep their precision in here.

    By default torch lets them round to 10 bits of mantissa (TF32). That is a setting of the whole
    process, so one thread at a time is in here.

    Args:
        benchmark: whether cuDNN tries which of its algorithms is the fastest, for shapes that never
            ran before; None as it is.
    """
    cudnn = torch.backends.cudnn
    # Since torch 2.9 each kind of operator has a setting of its own, and where these differ, that
    # for all of them cannot be read.
    kinds = [getattr(cudnn, name) for name in ("conv", "rnn") if hasattr(cudnn, name)]
    with _SETTINGS:
        tried, allowed = cudnn.benchmark, None
        precisions = [kind.fp32_precision for kind in kinds]
        with suppress(RuntimeError):
            allowed = cudnn.allow_tf32
        try:
            cudnn.benchmark = tried if benchmark is None else benchmark
            cudnn.allow_tf32 = False
            for kind in kinds:
                kind.fp32_precision = "ieee"
            yield
        finally:
            cudnn.benchmark = tried
            if allowed is not None:
                cudnn.allow_tf32 = allowed
            for kind, precision in zip(kinds, precisions, strict=True):
                kind.fp32_precision = precision


class CudaGraphs:
    """Records functions as graphs that share memory, all on one stream.

    The graphs may share memory because they run one after the other, and what a function leaves
    behind it writes to memory from before the recording.

    Args:
        device: an NVIDIA GPU.

    Attributes:
        stream: where to run the functions, recorded or not.
        why_not: why nothing is recorded any more; None as long as recording works.
    """

    def __init__(self, device: torch.device) -> None:
        torch.cuda.synchronize(device)  # what other streams did to the weights is done
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.why_not: str | None = None
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, function: Callable[[], object]) -> Callable[[], object]:
        """A function that does the same in one go, or the same function with a warning.

        Args:
            function: works on memory that it got earlier, in shapes that do not change, without
                waiting for the device. Runs a few times; what it returns is of no meaning.
        """
        if self.why_not is not None:
            return function
        try:
            return self._record(function)
        except Exception as error:  # noqa: BLE001 - whatever it is, the function itself may work
            # Where a recording failed, ending it fails, too, and says only that.
            hidden = None if error.__suppress_context__ else error.__context__
            cause = hidden or error
        reason = f"torch {torch.__version__} cannot record the network: {cause}"
        fault = find_device_fault(cause)
        if not (fault and fault.out_of_memory):  # smaller batches may still fit
            self.why_not = reason
        warnings.warn(
            f"No CUDA graph, images will take longer: {reason}", RuntimeWarning, stacklevel=2
        )
        return function

    def forget(self) -> None:
        """Record what comes now in new memory: that of before is free when its graphs are."""
        self._pool = torch.cuda.graph_pool_handle()

    def _record(self, function: Callable[[], object]) -> Callable[[], object]:
        # One shape for long: it pays to try which of cuDNN's algorithms is the fastest.
        with precise_convolutions(benchmark=True), torch.cuda.stream(self.stream):
            for _ in range(WARM_UPS):
                function()
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads may go on using the device meanwhile.
                with torch.cuda.graph(
                    graph, pool=self._pool, stream=self.stream, capture_error_mode="thread_local"
                ):
                    function()
            except Exception:
                self._end(graph)
                raise
        return graph.replay

    def _end(self, graph: torch.cuda.CUDAGraph) -> None:
        """End a recording for torch's allocator, which else could never again give memory back.

        Torch does so by itself, but not where the driver refuses to end the recording.
        """
        index = self._device.index or 0
        with suppress(AttributeError, RuntimeError):  # of torch's own, or ended already
            torch._C._cuda_endAllocateToPool(index, self._pool)
            _FAILED.append(graph)
            torch._C._cuda_releasePool(index, self._pool)
