"""Runs a network on the CPU as a recorded graph, without the Python between its operators.

A YOLO network of the smallest size is some five hundred short operators. Between them Python takes
long enough for torch's worker threads to fall asleep, and waking them costs more than Python
itself: recorded, the same operators with the same results take a sixth less time
(benchmarks/RESULTS.md). A graph belongs to one shape of input, so only shapes that come again are
recorded, and only so many.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

REPETITIONS = 3
"""Calls with the same shape after which it is worth recording."""

MAX_GRAPHS = 6
"""Recording one takes as long as some twenty calls."""


class Network(Protocol):
    """What is needed of a network; `pose_node.models.PoseNetwork` is one."""

    def __call__(self, batch: Tensor) -> Any:
        """Raw maps."""

    def decode(self, raw: Any) -> Tensor:
        """Raw maps to rows."""


class _Decoded(nn.Module):
    """Network and decoding in one, as recording wants it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, batch: Tensor) -> Tensor:
        return self.network.decode(self.network(batch))


class RecordedNetwork:
    """Calls a network and decodes its maps, from a recorded graph where the shape is familiar.

    Args:
        network: on the CPU, in eval mode, its weights final.

    Attributes:
        why_not: why nothing is recorded any more; None as long as recording works.
    """

    def __init__(self, network: Network) -> None:
        self.why_not: str | None = None
        self._module = _Decoded(network)
        self._seen: Counter[tuple[int, ...]] = Counter()
        self._graphs: dict[tuple[int, ...], Callable[[Tensor], Tensor]] = {}

    def __call__(self, batch: Tensor) -> Tensor:
        """Decoded rows of a batch; the same numbers whether recorded or not.

        Args:
            batch: (B, 3, H, W) float32, channels last.

        Returns:
            (B, A, 4 + classes + K * dimensions), see `PoseNetwork.decode`.
        """
        shape = tuple(batch.shape)
        graph = self._graphs.get(shape)
        if graph is not None:
            return graph(batch)
        if self.why_not is None and len(self._graphs) < MAX_GRAPHS:
            self._seen[shape] += 1
            if self._seen[shape] == REPETITIONS:
                self._record(shape, batch)
        return self._module(batch)

    def _record(self, shape: tuple[int, ...], batch: Tensor) -> None:
        try:
            with warnings.catch_warnings():
                # torch recommends its compiler instead, which needs a C++ compiler at run time.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._graphs[shape] = _record(self._module, batch)
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            self.why_not = f"torch {torch.__version__} cannot record the network: {error}"


def _record(module: nn.Module, batch: Tensor) -> Callable[[Tensor], Tensor]:
    """The operators of one call as a function that is freed with its last user.

    `torch.jit.trace` does the same, but what it makes, weights included, stays in torch's own
    registry until the process ends: a node that is configured again and again would grow.
    """
    graph, _ = torch.jit._get_trace_graph(module, (batch,))  # type: ignore[attr-defined, no-untyped-call]
    state = list(module.state_dict(keep_vars=True).values())
    if len(list(graph.inputs())) != 1 + len(state):
        raise RuntimeError("its graph has other inputs than the image and the weights")
    function = torch._C._create_function_from_graph("recorded", graph)
    return lambda image: function(image, *state)
