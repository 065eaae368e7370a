"""Batches of images to people, everything but the first and the last copy on the device.

A composition of a batch (sizes of images, how many) that comes again is recorded as one CUDA graph;
others run as they are, which takes longer. See docs/gpu.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pose_node.inference.cuda_graph import CudaGraphs
from pose_node.inference.device_kernels import choose_kernels
from pose_node.inference.device_pipeline import (
    HEADER,
    MAX_CANDIDATES,
    MAX_PEOPLE,
    DevicePipeline,
    InputSize,
    LiveSettings,
    image_bytes,
)
from pose_node.inference.image_upload import ImageUpload
from pose_node.inference.letterbox import Letterbox
from pose_node.inference.networks import Network
from pose_node.inference.recorded import REPETITIONS
from pose_node.poses import ChannelOrder, Poses

MAX_GRAPHS = 64
"""Recorded compositions that are kept; they share their memory."""

LONG_UNUSED = 1000
"""Batches after which a graph may make room for another; recording takes as long as hundreds."""

MAX_UNRECORDED = 64
"""Compositions that are kept beside these; others are made anew when they come again."""


@dataclass(frozen=True)
class Started:
    """A batch on the device.

    Attributes:
        order: for each image on the device, its index in the batch.
        boxes: for each image on the device, where it lies in the input.
        max_people: most people of one image.
    """

    program: _Program
    order: tuple[int, ...]
    boxes: tuple[Letterbox, ...]
    max_people: int


class _Program:
    """A pipeline, its memory, and how to run it."""

    def __init__(self, pipeline: DevicePipeline, upload: ImageUpload) -> None:
        self.pipeline = pipeline
        self.upload = upload
        self.run: Callable[[], object] = pipeline
        people = pipeline.people
        self.result = people  # on the host
        self.done: torch.cuda.Event | None = None
        if people.device.type == "cuda":
            self.result = torch.empty(people.shape, pin_memory=True)
            self.done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.calls = 0
        self.last_used = 0

    @property
    def recorded(self) -> bool:
        return self.run is not self.pipeline


class DeviceEngine:
    """Runs batches of images on one device. Not for several threads at once.

    Args:
        network: of torch, on the device, its weights final.
        device: an NVIDIA GPU; on the CPU everything runs as it is, for comparison.
        half: whether the network computes in float16.

    Attributes:
        why_no_kernels: why torch's operators do what Triton's kernels would; None if these do.
    """

    def __init__(
        self,
        network: Network,
        *,
        device: torch.device,
        half: bool,
    ) -> None:
        self._network = network
        self._device = device
        self._dtype = torch.float16 if half else torch.float32
        self._kernels, self.why_no_kernels = choose_kernels(device)
        self._settings = LiveSettings(network.num_classes, device)
        self._graphs = CudaGraphs(device) if device.type == "cuda" else None
        self._upload: ImageUpload | None = None
        self._rows: dict[InputSize, Tensor] = {}
        self._programs: dict[tuple[Letterbox, ...], _Program] = {}
        self._repetitions = REPETITIONS
        self._calls = 0
        # Asking the network costs more than one would think, for every image.
        self._num_keypoints, self._end_to_end = network.num_keypoints, network.end_to_end

    @property
    def why_not(self) -> str | None:
        """Why nothing is recorded as a graph any more; None as long as recording works."""
        return self._graphs.why_not if self._graphs else "graphs are for NVIDIA GPUs"

    @property
    def num_graphs(self) -> int:
        """Compositions of batches that are ready to run in one go."""
        return sum(program.recorded for program in self._programs.values())

    @torch.inference_mode()
    def start(
        self,
        images: Sequence[tuple[np.ndarray, ChannelOrder]],
        boxes: Sequence[Letterbox],
        *,
        score_threshold: float,
        iou_threshold: float,
        classes: tuple[int, ...] | None,
        max_people: int,
    ) -> Started:
        """Upload a batch and set the device to work, without waiting for it.

        A batch must be finished before the next of the same size of input is started; batches of
        different sizes may overlap.

        Args:
            images: arrays (H, W, 3) uint8 with their channel orders.
            boxes: where each lies in its input; the inputs have one size.
            score_threshold, iou_threshold, classes, max_people: see `PoseEngine`.
        """
        channel_orders = [channel_order for _, channel_order in images]
        # The same cameras in another order are the same composition.
        sizes = [(box.image_height, box.image_width) for box in boxes]
        order = tuple(sorted(range(len(boxes)), key=lambda i: (sizes[i], channel_orders[i])))
        key = tuple(boxes[index] for index in order)
        with self._stream():
            self._settings.set(score_threshold, iou_threshold, classes)
            program = self._program(key)
            program.pipeline.set_channel_orders([channel_orders[index] for index in order])
            program.upload([images[index][0] for index in order])
            program.run()
            if program.done is not None:
                program.result.copy_(program.pipeline.people, non_blocking=True)
                program.done.record()
        return Started(program, order, key, max_people)

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        """In here, compositions are recorded at once, and make room first unless they come again.

        That is also when cuDNN tries its algorithms: for shapes that never ran, or not at all.
        """
        self._repetitions = 1
        try:
            yield
        finally:
            self._repetitions = REPETITIONS
            for program in self._programs.values():
                program.last_used = self._calls - LONG_UNUSED

    def forget(self) -> None:
        """Give up what was recorded, and its memory; what comes again is recorded again."""
        self._programs.clear()
        self._rows.clear()
        self._upload = None
        if self._graphs:
            self._graphs.forget()

    def wait(self, started: Started) -> None:
        """Wait until the device has done all that `start` set it to."""
        if started.program.done is not None:
            started.program.done.synchronize()

    @torch.inference_mode()
    def finish(
        self, started: Started, poses_of_rows: Callable[[Tensor, Letterbox], Poses]
    ) -> list[Poses]:
        """Wait for a batch: one `Poses` for each image, in the order given to `start`.

        Args:
            started: what `start` returned.
            poses_of_rows: makes `Poses` of all that the network said of one image, (A, 4 + classes
                + K * dimensions). Asked where an image has more candidates or people than fit on
                the device, so that it gets the same answer as everywhere else.
        """
        self.wait(started)
        program = started.program
        results = program.result.numpy()
        people: list[Poses] = [Poses.empty(self._num_keypoints)] * len(started.order)
        for position, (index, box) in enumerate(zip(started.order, started.boxes, strict=True)):
            poses = self._unpack(results[position], started.max_people)
            if poses is None:
                with self._stream():
                    poses = poses_of_rows(program.pipeline.rows[position], box)
            people[index] = poses
        return people

    def _unpack(self, result: np.ndarray, max_people: int) -> Poses | None:
        """People of one image; None where the device could not know all of them."""
        kept, found, settled = (int(value) for value in result[:HEADER])
        suppressed = not self._end_to_end and found > MAX_CANDIDATES
        all_of_them = kept < MAX_PEOPLE and not suppressed
        if not settled or not (kept >= max_people or all_of_them):
            return None
        count, num_keypoints = min(kept, max_people), self._num_keypoints
        rows = result[HEADER:].reshape(MAX_PEOPLE, 5 + 3 * num_keypoints)[:count].copy()
        keypoints = rows[:, 5:].reshape(count, num_keypoints, 3)
        return Poses.from_arrays(rows[:, :4], rows[:, 4], keypoints)

    def _program(self, key: tuple[Letterbox, ...]) -> _Program:
        self._calls += 1
        program = self._programs.get(key) or self._make(key)
        program.calls += 1
        program.last_used = self._calls
        due = not program.recorded and program.calls >= self._repetitions
        if self._graphs and due and self._make_room():
            program.run = self._graphs.record(program.pipeline)
            if not program.recorded:
                program.calls = -LONG_UNUSED  # there may be memory for it later
        return program

    def _make_room(self) -> bool:
        """Whether one more graph may be kept."""
        graphs = self._keys(recorded=True)
        if len(graphs) < MAX_GRAPHS:
            return True
        if self._calls - self._programs[graphs[0]].last_used < LONG_UNUSED:
            return False
        del self._programs[graphs[0]]
        return True

    def _keys(self, *, recorded: bool) -> list[tuple[Letterbox, ...]]:
        """What is kept, the longest unused first."""
        keys = [key for key, program in self._programs.items() if program.recorded == recorded]
        return sorted(keys, key=lambda key: self._programs[key].last_used)

    def _make(self, key: tuple[Letterbox, ...]) -> _Program:
        needed = sum(map(image_bytes, key))
        if self._upload is None or len(self._upload.pixels) < needed:
            self._upload = ImageUpload(needed, self._device)
            # Graphs keep the one that they have; others are made anew and do not hold it.
            self._programs = {key: each for key, each in self._programs.items() if each.recorded}
        others = self._keys(recorded=False)
        if len(others) >= MAX_UNRECORDED:
            del self._programs[others[0]]
        pipeline = DevicePipeline(
            self._network,
            key,
            pixels=self._upload.pixels,
            shared_rows=self._rows,
            settings=self._settings,
            dtype=self._dtype,
            kernels=self._kernels,
        )
        program = self._programs[key] = _Program(pipeline, self._upload)
        return program

    def _stream(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._graphs.stream) if self._graphs else nullcontext()
