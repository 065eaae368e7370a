"""Selection and suppression on the device, in static shapes, with the decisions of the host's code.

`pose_node.inference.nms` walks through the boxes from the best to the worst and asks of each
whether a kept one overlaps it. Here all boxes ask at once, again and again: a box stays if none of
those that stayed so far overlaps it. After n steps every box is decided for good that has fewer
than n links to the best of its chain, so once nothing changes the answer is that of the walk,
whatever the boxes. Real images need two to four steps; what would need more than `MAX_STEPS` is
reported as not settled. With Triton (`triton_kernels`), one kernel does the walk itself.

All float32 operations are those of the host, one by one and in its order, so that no overlap comes
out on the other side of the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MAX_COORDINATE = 1e6  # pixels; what lies further off is the nonsense of a damaged network
MAX_STEPS = 16


@dataclass(frozen=True)
class Candidates:
    """The best rows of each image, best first, of equal ones the earlier first.

    Attributes:
        boxes: (B, C, 4) float32, x1 y1 x2 y2.
        scores: (B, C) float32.
        classes: (B, C) int64.
        rows: (B, C) int64: which rows of the network they are.
        count: (B,) int64: so many of the C are candidates, what follows is of no meaning.
        found: (B,) int64: so many rows would have been; above C, some were left out.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    rows: Tensor
    count: Tensor
    found: Tensor


@dataclass(frozen=True)
class Kept:
    """Which candidates stay.

    Attributes:
        places: (B, M) int64: places among the candidates, best first; 0 where there are no more.
        count: (B,) int64, at most M.
        settled: (B,) bool: whether the answer is final.
    """

    places: Tensor
    count: Tensor
    settled: Tensor


def select_candidates(
    rows: Tensor, *, num_classes: int, limit: int, score_threshold: Tensor, wanted: Tensor
) -> Candidates:
    """The best rows above the threshold, of the classes wanted, that are sane.

    Args:
        rows: (B, A, 4 + num_classes + ...) float32, see `PoseNetwork.decode`.
        num_classes: classes of objects.
        limit: most candidates of an image, C; A if that is less.
        score_threshold: () float32 on the device.
        wanted: (num_classes,) bool on the device.
    """
    num_rows = rows.shape[1]
    scores, classes = rows[..., 4 : 4 + num_classes].max(2)
    # What is not a number is the largest of its row, and no less than anything.
    sane = rows.abs().amax(2) < MAX_COORDINATE
    good = (scores > score_threshold) & sane & wanted[classes]
    # One whole number that sorts by score, then by row: bits of positive floats sort as they do.
    # No two are equal, so whatever way topk takes, there is one answer.
    backwards = torch.arange(num_rows - 1, -1, -1, device=rows.device)
    keys = (scores.contiguous().view(torch.int32).to(torch.int64) << 32) + backwards
    keys = torch.where(good, keys, backwards - num_rows)
    best = keys.topk(min(limit, num_rows), 1).values
    chosen = (num_rows - 1) - (best & 0xFFFFFFFF)
    found = good.sum(1)
    chosen = chosen.masked_fill(best < 0, 0)
    return Candidates(
        boxes=rows[..., :4].gather(1, chosen[..., None].expand(-1, -1, 4)),
        scores=scores.gather(1, chosen),
        classes=classes.gather(1, chosen),
        rows=chosen,
        count=found.clamp(max=best.shape[1]),
        found=found,
    )


def keep_best(candidates: Candidates, max_kept: int) -> Kept:
    """The first candidates, for networks that propose everybody once."""
    batch = candidates.count.shape[0]
    places = torch.arange(max_kept, device=candidates.count.device).expand(batch, max_kept)
    count = candidates.count.clamp(max=max_kept)
    places = places.masked_fill(places >= count[:, None], 0)
    return Kept(places, count, torch.ones_like(count, dtype=torch.bool))


def suppress(
    candidates: Candidates, *, iou_threshold: Tensor, max_kept: int, kernels: Any = None
) -> Kept:
    """Exact greedy non-maximum suppression within each class.

    Args:
        candidates: of each image, as `select_candidates` gives them.
        iou_threshold: () float32 on the device.
        max_kept: most that stay of an image, M.
        kernels: `pose_node.inference.triton_kernels`, or None for torch's own operators.
    """
    if kernels is not None:
        places, kept = kernels.suppress(candidates, iou_threshold, max_kept)
        return Kept(places, kept, torch.ones_like(kept, dtype=torch.bool))
    # One image at a time: all pairs of boxes of one are some megabytes already.
    decided = [
        _settle(boxes, classes, count, iou_threshold)
        for boxes, classes, count in zip(
            candidates.boxes, candidates.classes, candidates.count, strict=True
        )
    ]
    stays = torch.stack([stay for stay, _ in decided])
    settled = torch.stack([done for _, done in decided])
    places, count = first_places(stays, max_kept)
    return Kept(places, count, settled)


def _settle(
    boxes: Tensor, classes: Tensor, count: Tensor, threshold: Tensor
) -> tuple[Tensor, Tensor]:
    """Of one image: (C,) bool, who stays, and () bool, whether that is final."""
    place = torch.arange(len(boxes), device=boxes.device)
    candidate = place < count
    rivals = overlaps(boxes, threshold) & (classes[:, None] == classes)
    rivals &= place[:, None] < place  # (C, C): the better one, and whom it drops if it stays
    before = stays = candidate
    for _ in range(MAX_STEPS):
        before, stays = stays, candidate & ~(rivals & stays[:, None]).any(0)
    return stays, (before == stays).all()


def overlaps(boxes: Tensor, threshold: Tensor) -> Tensor:
    """Whose intersection over union is above the threshold: (C, 4) -> (C, C) bool."""
    left, top, right, bottom = boxes.unbind(1)
    areas = (right - left) * (bottom - top)
    width = torch.minimum(right[:, None], right) - torch.maximum(left[:, None], left)
    height = torch.minimum(bottom[:, None], bottom) - torch.maximum(top[:, None], top)
    intersection = width.clamp_(min=0).mul_(height.clamp_(min=0))
    # Two empty boxes have no union; their quotient, not a number, keeps both.
    union = (areas[:, None] + areas).sub_(intersection)
    return intersection.div_(union) > threshold


def first_places(stays: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Places of the first True of each line: (B, C) bool -> (B, limit) int64, (B,) int64."""
    number = stays.cumsum(1)
    # What is not wanted goes to one slot more, which is thrown away.
    slot = (number - 1).masked_fill(~stays | (number > limit), limit)
    batch, width = stays.shape
    place = torch.arange(width, device=stays.device).expand(batch, width)
    places = torch.zeros(batch, limit + 1, dtype=torch.int64, device=stays.device)
    return places.scatter_(1, slot, place)[:, :limit], number[:, -1].clamp(max=limit)
