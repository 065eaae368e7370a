"""`PoseEngine`: images in, people out. The heart of the package, usable without ROS."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from pose_node.errors import ImageError
from pose_node.inference.backends import BACKENDS, choose_device, prepare
from pose_node.inference.device_engine import DeviceEngine
from pose_node.inference.device_pipeline import decode_precisely
from pose_node.inference.devices import describe_device
from pose_node.inference.exported_network import ExportedNetwork
from pose_node.inference.letterbox import Letterbox
from pose_node.inference.networks import Network
from pose_node.inference.nms import non_maximum_suppression
from pose_node.inference.recorded import REPETITIONS, RecordedNetwork
from pose_node.models.fetch import resolve_model
from pose_node.poses import ChannelOrder, Poses, Skeleton
from pose_node.process_settings import available_processors

MAX_CANDIDATES = 30_000  # boxes of one image that enter suppression, best first
MAX_COORDINATE = 1e6  # pixels; what lies further off is the nonsense of a damaged network


class PoseEngine:
    """Finds people in images with one network on one device.

    Not for several threads at once: the thread that calls it owns it.

    Args:
        network: the network, on its device.
        device: that device.
        half: whether the network computes in 16 bits (decoding stays in float32).
        image_size: longer side of the network's input in pixels, a multiple of its stride; of no
            meaning for networks whose input has a fixed size.
        score_threshold: people scored at or below are dropped, 0 to 1.
        iou_threshold: of two people whose boxes overlap more, the better one stays, 0 to 1.
        max_people: most people of one image.
        classes: only objects of these classes are kept; names or numbers, None for all.
        skeleton: names and meaning of the keypoints; None for the built-in skeleton with so many.
        model_name: what to call the model in messages.
        backend: what runs the network, for messages.

    Attributes:
        classes: numbers of the classes that are kept, None for all.
        score_threshold, iou_threshold, max_people: as given; may be set between calls.
        stage_times: seconds that the last call spent in "preprocess", "network" (decoding and the
            copy to the host included) and "postprocess".
    """

    def __init__(
        self,
        network: Network,
        *,
        device: torch.device | str = "cpu",
        half: bool = False,
        image_size: int = 640,
        score_threshold: float = 0.3,
        iou_threshold: float = 0.65,
        max_people: int = 100,
        classes: Sequence[int | str] | None = None,
        skeleton: Skeleton | None = None,
        model_name: str = "",
        backend: str = "torch",
    ) -> None:
        if network.input_size is not None:
            image_size = max(network.input_size)
        elif image_size <= 0 or image_size % network.stride:
            raise ValueError(
                f"image_size must be a multiple of {network.stride}, the stride of this model, "
                f"got {image_size}"
            )
        if skeleton is not None and skeleton.num_keypoints != network.num_keypoints:
            raise ValueError(
                f"the model has {network.num_keypoints} keypoints, skeleton {skeleton.name!r} has "
                f"{skeleton.num_keypoints}: choose one that goes with the model"
            )
        self.network = network
        self.model_name = model_name
        self.backend = backend
        self.skeleton = skeleton or Skeleton.for_keypoints(network.num_keypoints)
        self.classes = None if classes is None else _class_numbers(classes, network)
        self.image_size = image_size
        self.half = half
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.max_people = max_people
        self.stage_times: dict[str, float] = {}
        self._device = torch.device(device)
        own = isinstance(network, torch.nn.Module)  # others are given float32, whatever they do
        self._recorded = RecordedNetwork(network) if own and self._device.type == "cpu" else None
        self._dtype = torch.float16 if half and own else torch.float32
        # On a GPU, a network of torch runs in one go with all that comes before and after it.
        whole = own and self._device.type == "cuda"
        self._on_device = DeviceEngine(network, device=self._device, half=half) if whole else None
        # A GPU is fastest with all images at once, a CPU with one after the other, unless the file
        # of an exported network wants several.
        wanted = network.batch if isinstance(network, ExportedNetwork) else None
        self._batches = self._device.type != "cpu" or (wanted or 1) > 1

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str],
        *,
        device: str = "auto",
        half: bool = False,
        image_size: int = 640,
        score_threshold: float = 0.3,
        iou_threshold: float = 0.65,
        max_people: int = 100,
        classes: Sequence[int | str] | None = None,
        skeleton: Skeleton | str | os.PathLike[str] | None = None,
        end_to_end: bool | None = None,
        onnx_layout: str | None = None,
        backend: str = "torch",
        threads: int | None = None,
    ) -> PoseEngine:
        """Load a model and prepare it for a device.

        Args:
            model: a file (checkpoint, native, ``.onnx``, OpenVINO's ``.xml``), or the name of a
                model that ``pose-node fetch`` has put in the cache.
            device: "auto" (an NVIDIA GPU if there is one and what runs the network can use it, else
                the CPU), "cpu", "cuda", "cuda:N".
            half: compute in 16 bits: in float16 on an NVIDIA GPU; on a CPU that has it in bfloat16,
                with backend "openvino" or "auto".
            image_size: longer side of the network's input in pixels, a multiple of its stride.
            score_threshold: people scored at or below are dropped, 0 to 1.
            iou_threshold: of two people whose boxes overlap more, the better one stays, 0 to 1.
            max_people: most people of one image.
            classes: only objects of these classes are kept; names or numbers, None for all.
            skeleton: names and meaning of the keypoints: a `Skeleton`, the name of a built-in one
                or a YAML file (see `pose_node.skeletons`); None for the built-in one with so many.
            end_to_end: of models with two kinds of branches (YOLO26), use those that need no
                suppression of duplicates (True) or the others (False); None takes what the model's
                authors recommend.
            onnx_layout: how the outputs of an exported network are laid out, where it does not say
                so; a name of `pose_node.inference.onnx_layouts.LAYOUT_NAMES`.
            backend: what runs the network: "torch"; on the CPU also "openvino" or "onnxruntime",
                for which the model is exported into the cache on first use; "auto" takes the
                fastest that is installed. Exported networks bring their own.
            threads: on the CPU, at most the processors that this process may use; None for as many.

        Raises:
            CheckpointError: the model is not there, damaged, of a foreign kind or hostile, or has
                no such branches.
            DeviceError: the device is not there.
            ValueError: another argument is out of its range or does not go with the model.
        """
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
        if threads is not None and not 1 <= threads <= available_processors():
            raise ValueError(
                f"threads must be 1 to {available_processors()}, the processors that this process "
                f"may use, got {threads}"
            )
        chosen = choose_device(device, Path(model), backend)
        if isinstance(skeleton, (str, os.PathLike)):
            from pose_node.skeletons import load_skeleton  # needs YAML, which few callers do

            skeleton = load_skeleton(skeleton)
        path = resolve_model(model)
        prepared = prepare(
            path,
            backend=backend,
            device=chosen,
            half=half,
            end_to_end=end_to_end,
            onnx_layout=onnx_layout,
            threads=threads,
        )
        return cls(
            prepared.network,
            device=chosen,
            half=half,
            image_size=image_size,
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            max_people=max_people,
            classes=classes,
            skeleton=skeleton,
            model_name=path.stem,
            backend=prepared.backend,
        )

    @property
    def device(self) -> str:
        """The device really used: "cpu", "cuda:0", ..."""
        return str(self._device)

    @property
    def runs_batches(self) -> bool:
        """Whether the images of one call are computed together, not one after the other."""
        return self._batches

    @property
    def device_description(self) -> str:
        """The device in words, for people."""
        own = self.network.threads if isinstance(self.network, ExportedNetwork) else None
        return describe_device(self._device, own)

    @property
    def num_keypoints(self) -> int:
        """Keypoints of each person, K."""
        return self.network.num_keypoints

    @property
    def score_threshold(self) -> float:
        """People scored at or below are dropped."""
        return self._score_threshold

    @score_threshold.setter
    def score_threshold(self, value: float) -> None:
        self._score_threshold = _fraction("score_threshold", value)

    @property
    def iou_threshold(self) -> float:
        """Of two people whose boxes overlap more, the better one stays."""
        return self._iou_threshold

    @iou_threshold.setter
    def iou_threshold(self, value: float) -> None:
        self._iou_threshold = _fraction("iou_threshold", value)

    @property
    def max_people(self) -> int:
        """Most people of one image."""
        return self._max_people

    @max_people.setter
    def max_people(self, value: int) -> None:
        if value < 1:
            raise ValueError(f"max_people must be at least 1, got {value}")
        self._max_people = value

    def warm_up(
        self, sizes: Sequence[tuple[int, int]] = ((1280, 720), (640, 480)), *, batch: int = 1
    ) -> None:
        """Run on grey images, so that the first real ones do not pay for the set-up.

        Args:
            sizes: width and height of the images to come, in pixels; those of most cameras.
            batch: most images of a call. A GPU is prepared for as many of one size, and for fewer.
        """
        on_device = self._on_device
        with on_device.warming_up() if on_device is not None else nullcontext():
            for width, height in sizes:
                image = np.full((height, width, 3), 114, np.uint8)
                for count in range(batch if self._batches else 1, 0, -1):  # most memory first
                    for _ in range(2 * REPETITIONS):  # until the graph is recorded and optimised
                        self([image] * count)

    def release_graphs(self) -> None:
        """Give up what was recorded on a GPU, and its memory; it is recorded again as it comes."""
        if self._on_device is not None:
            self._on_device.forget()

    def __call__(
        self,
        images: Sequence[np.ndarray],
        *,
        channel_order: ChannelOrder | Sequence[ChannelOrder] = "bgr",
    ) -> list[Poses]:
        """Find the people in each image.

        What is found in an image does not depend on the other images of the call, but for rounding
        on a GPU, where images whose inputs have the same size run through the network as one batch.

        Args:
            images: arrays (H, W, 3) uint8 of any sizes; rows may be padded.
            channel_order: "bgr" (as OpenCV reads) or "rgb", for all or for each image.

        Returns:
            One `Poses` for each image, in pixels of that image, boxes within it.

        Raises:
            ImageError: an image is not such an array.
        """
        orders = [channel_order] * len(images) if isinstance(channel_order, str) else channel_order
        if len(orders) != len(images):
            raise ValueError(f"got {len(images)} images and {len(orders)} channel orders")
        self.stage_times = dict.fromkeys(("preprocess", "network", "postprocess"), 0.0)
        groups: dict[tuple[int, int], list[tuple[int, Letterbox]]] = defaultdict(list)
        for index, image in enumerate(images):
            _check_image(image)
            box = self._fit(*image.shape[:2])
            groups[box.height, box.width].append((index, box))

        if self._on_device is not None:
            return self._run_on_device(self._on_device, images, orders, list(groups.values()))
        results = [Poses.empty(self.num_keypoints)] * len(images)
        for group in groups.values():
            size = len(group) if self._batches else 1
            for start in range(0, len(group), size):
                indices, boxes = zip(*group[start : start + size], strict=True)
                batch = [(images[i], orders[i]) for i in indices]
                for index, poses in zip(indices, self._run(batch, boxes), strict=True):
                    results[index] = poses
        return results

    def largest_reduction(self, width: int, height: int) -> int:
        """How many times smaller an image may be decoded and still fill its place in the input.

        Args:
            width, height: of the image, pixels.

        Returns:
            1, 2, 4 or 8, which are what JPEG decoders offer.
        """
        box = self._fit(height, width)
        most = min(width // box.scaled_width, height // box.scaled_height, 8)
        return 1 << max(most, 1).bit_length() - 1

    def _fit(self, height: int, width: int) -> Letterbox:
        preprocessing, size = self.network.preprocessing, self.network.input_size
        if preprocessing.square and size is None:
            size = (self.image_size, self.image_size)
        return Letterbox.fit(
            height,
            width,
            image_size=self.image_size,
            stride=self.network.stride,
            input_size=size,
            centred=preprocessing.centred,
        )

    def _run(
        self, images: Sequence[tuple[np.ndarray, ChannelOrder]], boxes: Sequence[Letterbox]
    ) -> list[Poses]:
        """One batch: images that share the size of their input."""
        started = time.perf_counter()
        pixels = _draw(images, boxes, self.network.preprocessing.channel_order)
        drawn = time.perf_counter()
        image_indices, rows = self._infer(pixels)
        inferred = time.perf_counter()
        people = [
            self._to_poses(rows[image_indices == index], box) for index, box in enumerate(boxes)
        ]
        ended = time.perf_counter()
        self.stage_times["preprocess"] += drawn - started
        self.stage_times["network"] += inferred - drawn
        self.stage_times["postprocess"] += ended - inferred
        return people

    @torch.inference_mode()
    def _infer(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows above the threshold, and for each the image of the batch that it belongs to."""
        if isinstance(self.network, ExportedNetwork):
            image_index, rows = self.network.detect(pixels, self.score_threshold)
        else:
            batch = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2)
            batch = batch.to(self._dtype).mul_(self.network.preprocessing.scale)
            recorded = self._recorded
            decoded = recorded(batch) if recorded else decode_precisely(self.network, batch)
            best = decoded[..., 4 : 4 + self.network.num_classes].amax(2)
            image_index, anchor = (best > self.score_threshold).nonzero(as_tuple=True)
            rows = decoded[image_index, anchor]
        packed = torch.cat((image_index[:, None].to(rows.dtype), rows), 1).cpu().numpy()
        return packed[:, 0].astype(np.int64), packed[:, 1:]

    def _run_on_device(
        self,
        on_device: DeviceEngine,
        images: Sequence[np.ndarray],
        orders: Sequence[ChannelOrder],
        groups: Sequence[Sequence[tuple[int, Letterbox]]],
    ) -> list[Poses]:
        """All batches: while the device works on one, the next is copied to pinned memory."""
        times = [time.perf_counter()]
        batches = []
        for group in groups:
            indices, boxes = zip(*group, strict=True)
            started = on_device.start(
                [(images[i], orders[i]) for i in indices],
                boxes,
                score_threshold=self.score_threshold,
                iou_threshold=self.iou_threshold,
                classes=self.classes,
                max_people=self.max_people,
            )
            batches.append((indices, started))
        times.append(time.perf_counter())
        for _, started in batches:
            on_device.wait(started)
        times.append(time.perf_counter())
        results = [Poses.empty(self.num_keypoints)] * len(images)
        for indices, started in batches:
            people = on_device.finish(started, self._poses_of_rows)
            for index, poses in zip(indices, people, strict=True):
                results[index] = poses
        times.append(time.perf_counter())
        self.stage_times = dict(zip(self.stage_times, np.diff(times).tolist(), strict=True))
        return results

    def _poses_of_rows(self, rows: Tensor, box: Letterbox) -> Poses:
        """People among all rows of one image, where the device could not know all of them."""
        best = rows[:, 4 : 4 + self.network.num_classes].amax(1)
        return self._to_poses(rows[best > self.score_threshold].cpu().numpy(), box)

    def _to_poses(self, rows: np.ndarray, box: Letterbox) -> Poses:
        """Suppress duplicates among decoded rows of one image, and go back to its pixels."""
        rows = rows[(np.abs(rows) < MAX_COORDINATE).all(1)]  # false for what is not a number, too
        classes_end = 4 + self.network.num_classes
        if self.classes is not None:
            rows = rows[np.isin(rows[:, 4:classes_end].argmax(1), self.classes)]
        scores = rows[:, 4:classes_end].max(1, initial=0.0)
        if len(rows) > MAX_CANDIDATES:
            best = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
            rows, scores = rows[best], scores[best]
        if self.network.end_to_end:
            kept = np.argsort(-scores, kind="stable")[: self.max_people]
        else:
            kept = non_maximum_suppression(
                rows[:, :4],
                scores,
                rows[:, 4:classes_end].argmax(1),
                iou_threshold=self.iou_threshold,
                max_kept=self.max_people,
            )
        rows = rows[kept]
        corners = box.to_image(rows[:, :4].reshape(-1, 2, 2))
        limit = np.array((box.image_width, box.image_height), np.float32)
        keypoints = np.ones((len(rows), self.num_keypoints, 3), np.float32)
        dimensions = self.network.keypoint_dimensions
        keypoints[..., :dimensions] = rows[:, classes_end:].reshape(
            len(rows), self.num_keypoints, dimensions
        )
        keypoints[..., :2] = box.to_image(keypoints[..., :2])
        return Poses.from_arrays(np.clip(corners, 0, limit).reshape(-1, 4), scores[kept], keypoints)


def _fraction(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be 0 to 1, got {value}")
    return float(value)


def _class_numbers(classes: Sequence[int | str], network: Network) -> tuple[int, ...]:
    names = network.class_names
    numbers = []
    for given in classes:
        text = str(given)
        number = names.index(text) if text in names else int(text) if text.isdecimal() else -1
        if not 0 <= number < network.num_classes:
            known = f": {', '.join(names)}" if names else ""
            raise ValueError(
                f"classes must be names or numbers of the model's {network.num_classes} "
                f"classes{known}, got {given!r}"
            )
        numbers.append(number)
    if not numbers:
        raise ValueError("classes must name at least one class, or be None for all")
    return tuple(sorted(set(numbers)))


def _check_image(image: object) -> None:
    if (
        not isinstance(image, np.ndarray)
        or image.ndim != 3
        or image.shape[2] != 3
        or image.dtype != np.uint8
        or 0 in image.shape
    ):
        found = (
            f"shape {image.shape} and dtype {image.dtype}"
            if isinstance(image, np.ndarray)
            else type(image).__name__
        )
        raise ImageError(
            f"expected an image (H, W, 3) of uint8 with at least one pixel, got {found}",
            kind="not an image",
        )


def _draw(
    images: Sequence[tuple[np.ndarray, ChannelOrder]],
    boxes: Sequence[Letterbox],
    channel_order: ChannelOrder,
) -> np.ndarray:
    """(B, H, W, 3) uint8 in the network's channel order: the images, letterboxed."""
    pixels = np.empty((len(images), boxes[0].height, boxes[0].width, 3), np.uint8)
    for canvas, (image, order), box in zip(pixels, images, boxes, strict=True):
        box.draw(image, canvas)
        if order != channel_order:  # after scaling, when the image is small
            cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB, dst=canvas)  # swaps, so it serves both ways
    return pixels
