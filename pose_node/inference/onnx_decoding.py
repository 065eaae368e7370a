"""From the outputs of an exported model to rows as this project's own networks give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pose_node.inference.onnx_layouts import (
    ANCHORS_OF_A_CELL,
    Counts,
    Shape,
    divide_columns,
    divide_final_columns,
    find_strides,
    level_sizes,
)
from pose_node.inference.onnx_metadata import FileFacts
from pose_node.models.preprocessing import Preprocessing
from pose_node.models.yolov5 import decode_anchor_maps
from pose_node.models.yolox import YoloxHead, decode_cells

PUBLISHED_ANCHORS = (
    ((19, 27), (44, 40), (38, 94)),
    ((96, 68), (86, 152), (180, 137)),
    ((140, 301), (303, 264), (238, 542)),
    ((436, 615), (739, 380), (925, 792)),
)
"""Width and height in pixels of the anchors of each level, of published YOLOv5 and YOLOv7."""

Anchors = Sequence[Sequence[Sequence[float]]]


@dataclass(frozen=True)
class OutputFormat:
    """How to read the outputs of one file.

    Attributes:
        layout: one of `pose_node.inference.onnx_layouts.LAYOUT_NAMES`.
        outputs: names of the outputs that are needed, in the order in which they are read.
        family: "yolov8", ... or "" where nothing tells.
        strides: input pixels per cell, for each level; or the largest alone.
        counts: classes, keypoints and their dimensions.
        preprocessing: how the model wants its images.
        anchors: (levels, anchors, 2) in pixels, of maps that need them.
    """

    layout: str
    outputs: tuple[str, ...]
    family: str
    strides: tuple[int, ...]
    counts: Counts
    preprocessing: Preprocessing
    anchors: Tensor | None = None

    @property
    def final(self) -> bool:
        """Whether duplicates are suppressed already."""
        return self.layout.endswith(("-final", "-detections"))

    @property
    def without_batch(self) -> bool:
        """Whether the outputs are those of one image, without a dimension for more."""
        return self.layout.endswith("-detections")

    def decode(self, outputs: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Turn outputs into rows.

        Args:
            outputs: those that `outputs` names, float32.
            image_size: height and width of the input.

        Returns:
            (B, A, 4 + num_classes + K * D), see `pose_node.models.PoseNetwork.decode`. Of final
            rows only the column of their class has a score; rows of zeros mean nothing.
        """
        return _DECODERS[self.layout](self, outputs, image_size)

    def decode_above(
        self, score_threshold: float, outputs: Sequence[Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Only the rows that have a class scored above a threshold, which costs less.

        Returns:
            (N,) image of the batch that a row belongs to, and (N, ...) rows as `decode` has them.
        """
        classes_end = 4 + self.counts.num_classes
        if self.layout == "ultralytics":
            columns = outputs[0]
            best = columns[:, 4:classes_end].amax(1)
            image, place = (best > score_threshold).nonzero(as_tuple=True)
            few = columns[image, :, place]
            return image, torch.cat((_corners(few[:, :4]), few[:, 4:]), 1)
        rows = self.decode(outputs, image_size)
        best = rows[..., 4:classes_end].amax(2)
        image, place = (best > score_threshold).nonzero(as_tuple=True)
        return image, rows[image, place]


def make_format(
    layout: str,
    shapes: Mapping[str, Shape],
    image_size: tuple[int, int],
    facts: FileFacts,
    *,
    num_keypoints: int | None = None,
    anchors: Anchors | None = None,
) -> OutputFormat:
    """Find out how to read the outputs of a file whose layout is known.

    Args:
        layout: one of `LAYOUT_NAMES`.
        shapes: the shape of each output for one image, by name.
        image_size: height and width of that image.
        facts: the file's metadata.
        num_keypoints: where neither metadata nor shapes tell.
        anchors: of raw anchor maps, in pixels, by level; None takes the published ones.

    Raises:
        ValueError: the outputs do not fit the layout.
    """
    family, _, _ = layout.partition("-")
    preprocessing = YoloxHead.PREPROCESSING if family == "yolox" else Preprocessing()
    form = OutputFormat(
        layout=layout,
        outputs=(),
        family=facts.family or ("" if family == "ultralytics" else family),
        strides=facts.strides or (32,),
        counts=Counts(1, 1, 3),
        preprocessing=facts.preprocessing or preprocessing,
    )
    if layout in ("yolov5-maps", "yolov5-split-maps"):
        return _of_maps(form, shapes, image_size, facts, num_keypoints, anchors)
    rank = 2 if form.without_batch else 3
    names = [name for name, shape in shapes.items() if len(shape) == rank]
    if len(names) != 1:
        raise ValueError(
            f"{layout} has one output of {rank} dimensions, got the shapes {dict(shapes)!s:.400}"
        )
    form = replace(form, outputs=(names[0],))
    shape = shapes[names[0]]
    if form.final:
        return replace(form, counts=divide_final_columns(shape[-1] - 6, facts, num_keypoints))
    if layout == "ultralytics":
        counts = divide_columns(shape[1] - 4, facts, num_keypoints)
        return replace(form, counts=counts, strides=_row_strides(facts, shape[2], image_size))
    counts = divide_columns(shape[2] - 5, facts, num_keypoints, dimensions=(3,))
    anchors_of_a_cell = ANCHORS_OF_A_CELL if layout == "yolov5-rows" else 1
    if shape[1] % anchors_of_a_cell:
        raise ValueError(f"{layout} has {anchors_of_a_cell} rows for each cell, got {shape[1]}")
    strides = find_strides(shape[1] // anchors_of_a_cell, image_size)
    return replace(form, counts=counts, strides=strides)


def _row_strides(facts: FileFacts, count: int, image_size: tuple[int, int]) -> tuple[int, ...]:
    """Strides of rows that are decoded already: what the file says, or what their number tells."""
    try:
        return facts.strides or find_strides(count, image_size)
    except ValueError:  # an unusual network; 64 is a multiple of every usual stride
        return (64,)


def _of_maps(
    form: OutputFormat,
    shapes: Mapping[str, Shape],
    image_size: tuple[int, int],
    facts: FileFacts,
    num_keypoints: int | None,
    anchors: Anchors | None,
) -> OutputFormat:
    joined = form.layout == "yolov5-maps"
    names = _maps_by_level(shapes) if joined else _pairs_by_level(shapes)
    first = shapes[names[0]]
    if joined:
        num_anchors, columns = first[1], first[4]
        sizes = [shapes[name][2:4] for name in names]
    else:
        num_anchors = ANCHORS_OF_A_CELL
        columns, rest = divmod(first[1] + shapes[names[1]][1], num_anchors)
        sizes = [shapes[name][2:4] for name in names[::2]]
        if rest:
            raise ValueError(f"its maps must have rows for {num_anchors} anchors, got {shapes!s}")
    strides = tuple(image_size[0] // max(height, 1) for height, _ in sizes)
    if level_sizes(image_size, strides) != [tuple(size) for size in sizes]:
        raise ValueError(f"its maps have {sizes} cells for an image of {image_size}")
    if anchors is None and (len(strides), num_anchors) != (4, 3):
        raise ValueError(
            f"its anchors are not in the file, and it has {num_anchors} for each of {len(strides)} "
            "levels, so they are not the published ones; give them (anchors)"
        )
    sizes_of_anchors = torch.tensor(anchors or PUBLISHED_ANCHORS, dtype=torch.float32)
    if sizes_of_anchors.shape != (len(strides), num_anchors, 2):
        raise ValueError(
            f"anchors must be a width and a height for {len(strides)} levels of {num_anchors} "
            f"anchors, got the shape {tuple(sizes_of_anchors.shape)}"
        )
    counts = divide_columns(columns - 5, facts, num_keypoints, dimensions=(3,))
    return replace(form, outputs=names, strides=strides, counts=counts, anchors=sizes_of_anchors)


def _maps_by_level(shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """Names of the joined maps, the finest first."""
    maps = {name: shape for name, shape in shapes.items() if len(shape) == 5}
    if not maps or len({(shape[1], shape[4]) for shape in maps.values()}) != 1:
        raise ValueError(f"yolov5-maps has maps of one kind, got the shapes {dict(shapes)!s:.400}")
    return tuple(sorted(maps, key=lambda name: -maps[name][2] * maps[name][3]))


def _pairs_by_level(shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """Names of the separate maps: boxes and keypoints of the finest level, of the next, ..."""
    maps = {name: shape for name, shape in shapes.items() if len(shape) == 4}
    ordered = sorted(maps, key=lambda name: (-maps[name][2] * maps[name][3], maps[name][1]))
    pairs = list(zip(ordered[::2], ordered[1::2], strict=False))
    kinds = {(maps[boxes][1], maps[keypoints][1]) for boxes, keypoints in pairs}
    if (
        len(ordered) % 2
        or len(kinds) != 1
        or any(maps[boxes][2:] != maps[keypoints][2:] for boxes, keypoints in pairs)
    ):
        raise ValueError(
            "yolov5-split-maps has a map of boxes and one of keypoints for each level, got the "
            f"shapes {dict(shapes)!s:.400}"
        )
    return tuple(ordered)


# --- One function for each layout ---------------------------------------------------------------


def _corners(centre_and_size: Tensor) -> Tensor:
    """(..., 4) centre x, y, width, height to x1 y1 x2 y2."""
    centre, size = centre_and_size[..., :2], centre_and_size[..., 2:4]
    return torch.cat((centre - size / 2, centre + size / 2), -1)


def _decode_columns(_: OutputFormat, outputs: Sequence[Tensor], __: tuple[int, int]) -> Tensor:
    rows = outputs[0].transpose(1, 2)
    return torch.cat((_corners(rows[..., :4]), rows[..., 4:]), -1)


def _decode_final(form: OutputFormat, outputs: Sequence[Tensor], _: tuple[int, int]) -> Tensor:
    rows = outputs[0]
    # A file that does not name its classes has one for all that it may find.
    last = form.counts.num_classes - 1
    classes = rows[..., 5].round().clamp(0, last).long()
    scores = torch.zeros(*rows.shape[:2], last + 1, dtype=rows.dtype, device=rows.device)
    scores.scatter_(2, classes[..., None], rows[..., 4:5])
    return torch.cat((rows[..., :4], scores, rows[..., 6:]), -1)


def _decode_detections(
    form: OutputFormat, outputs: Sequence[Tensor], size: tuple[int, int]
) -> Tensor:
    rows = outputs[0]
    if form.layout == "yolox-detections":
        rows = rows.clone()
        rows[:, 8::3] = rows[:, 8::3].sigmoid()
    return _decode_final(form, [rows[None]], size)


def _decode_anchor_rows(
    form: OutputFormat, outputs: Sequence[Tensor], _: tuple[int, int]
) -> Tensor:
    rows = outputs[0]
    classes_end = 5 + form.counts.num_classes
    scores = rows[..., 4:5] * rows[..., 5:classes_end]
    return torch.cat((_corners(rows[..., :4]), scores, rows[..., classes_end:]), -1)


def _decode_anchor_maps(
    form: OutputFormat, outputs: Sequence[Tensor], _: tuple[int, int]
) -> Tensor:
    assert form.anchors is not None
    anchors = form.anchors.to(outputs[0].device)
    return decode_anchor_maps(outputs, form.strides, anchors, num_classes=form.counts.num_classes)


def _decode_split_maps(
    form: OutputFormat, outputs: Sequence[Tensor], size: tuple[int, int]
) -> Tensor:
    """Boxes and keypoints are joined, then cut into anchors: not each by itself."""
    maps = []
    for boxes, keypoints in zip(outputs[::2], outputs[1::2], strict=True):
        joined = torch.cat((boxes, keypoints), 1)
        batch, channels, height, width = joined.shape
        columns = channels // ANCHORS_OF_A_CELL
        cut = joined.view(batch, ANCHORS_OF_A_CELL, columns, height, width)
        maps.append(cut.permute(0, 1, 3, 4, 2))
    return _decode_anchor_maps(form, maps, size)


def _decode_cell_rows(
    form: OutputFormat, outputs: Sequence[Tensor], size: tuple[int, int]
) -> Tensor:
    sizes = level_sizes(size, form.strides)
    return decode_cells(outputs[0], form.strides, sizes, num_classes=form.counts.num_classes)


_Decoder = Callable[[OutputFormat, Sequence[Tensor], tuple[int, int]], Tensor]
_DECODERS: dict[str, _Decoder] = {
    "ultralytics": _decode_columns,
    "ultralytics-final": _decode_final,
    "yolov5-maps": _decode_anchor_maps,
    "yolov5-split-maps": _decode_split_maps,
    "yolov5-rows": _decode_anchor_rows,
    "yolov5-detections": _decode_detections,
    "yolox-rows": _decode_cell_rows,
    "yolox-detections": _decode_detections,
}
