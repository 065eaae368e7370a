"""Recording work on an NVIDIA GPU as a graph, which the driver then starts in one go."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from pose_node.inference.device_faults import find_device_fault

WARM_UPS = 3

_SETTINGS = threading.RLock()


@contextmanager
def precise_convolutions(*, benchmark: bool | None = None) -> Iterator[None]:
    """Float32 convolutions on a GPU keep their precision in here.

    By default torch lets them round to 10 bits of mantissa (TF32). That is a setting of the whole
    process, so one thread at a time is in here.

    Args:
        benchmark: whether cuDNN tries which of its algorithms is the fastest; None as it is.
    """
    cudnn = torch.backends.cudnn
    with (
        _SETTINGS,
        cudnn.flags(
            enabled=cudnn.enabled,
            benchmark=cudnn.benchmark if benchmark is None else benchmark,
            deterministic=cudnn.deterministic,
            allow_tf32=False,
        ),
    ):
        yield


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
            graph = torch.cuda.CUDAGraph()
            # One shape for long: it pays to try which of cuDNN's algorithms is the fastest.
            with precise_convolutions(benchmark=True):
                with torch.cuda.stream(self.stream):
                    for _ in range(WARM_UPS):
                        function()
                # Other threads may go on using the device meanwhile.
                with torch.cuda.graph(
                    graph,
                    pool=self._pool,
                    stream=self.stream,
                    capture_error_mode="thread_local",
                ):
                    function()
        except RuntimeError as error:
            reason = f"torch {torch.__version__} cannot record the network: {error}"
            fault = find_device_fault(error)
            if not (fault and fault.out_of_memory):  # smaller batches may still fit
                self.why_not = reason
            warnings.warn(
                f"No CUDA graph, images will take longer: {reason}",
                RuntimeWarning,
                stacklevel=2,
            )
            return function
        return graph.replay
