"""Kernels for NVIDIA GPUs: letterboxing in one pass, and the walk of greedy suppression.

Triton comes with CUDA builds of torch. Its results are those of the torch operators in
`device_letterbox` and `device_suppression`, to the last bit; `device_kernels` compares them before
use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

try:
    import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
    import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
except ImportError as error:
    raise ImportError("triton is missing: it comes with CUDA builds of torch") from error

if TYPE_CHECKING:
    from pose_node.inference.device_suppression import Candidates

BLOCK = 1024


# Triton compiles a kernel once more for whole numbers that are 1 or multiples of 16, and for memory
# that begins at these. Where that differs between images it must not, for they would wait; sides of
# canvases are multiples of 16 whatever the image.
@triton.jit(  # type: ignore[untyped-decorator,unused-ignore]
    do_not_specialize=[
        *("image_height", "image_width", "scaled_height", "scaled_width"),
        *("top", "left"),
    ],
    do_not_specialize_on_alignment=["images", "swaps"],
)
def _draw(  # type: ignore[no-untyped-def]
    images,
    swaps,
    canvas,
    rows,
    columns,
    image_height,
    image_width,
    scaled_height,
    scaled_width,
    canvas_height,
    canvas_width,
    top,
    left,
    numbers,
    scale,
    GREY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # One number of the canvases each: image, row, column, channel.
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = index % 3
    pixel = index // 3
    x = pixel % canvas_width - left
    y = (pixel // canvas_width) % canvas_height - top
    image = pixel // (canvas_width * canvas_height)
    there = (index < numbers) & (x >= 0) & (x < scaled_width) & (y >= 0) & (y < scaled_height)

    x_first = tl.load(columns + x, mask=there, other=0)
    x_second = tl.load(columns + scaled_width + x, mask=there, other=0)
    of_left = tl.load(columns + 2 * scaled_width + x, mask=there, other=0)
    of_right = tl.load(columns + 3 * scaled_width + x, mask=there, other=0)
    y_first = tl.load(rows + y, mask=there, other=0)
    y_second = tl.load(rows + scaled_height + y, mask=there, other=0)
    of_upper = tl.load(rows + 2 * scaled_height + y, mask=there, other=0)
    of_lower = tl.load(rows + 3 * scaled_height + y, mask=there, other=0)

    swap = tl.load(swaps + image, mask=there, other=0)
    source = tl.where(swap != 0, 2 - channel, channel)
    first = image.to(tl.int64) * image_height
    upper = (first + y_first) * image_width
    lower = (first + y_second) * image_width
    a = tl.load(images + (upper + x_first) * 3 + source, mask=there, other=0).to(tl.int32)
    b = tl.load(images + (upper + x_second) * 3 + source, mask=there, other=0).to(tl.int32)
    c = tl.load(images + (lower + x_first) * 3 + source, mask=there, other=0).to(tl.int32)
    d = tl.load(images + (lower + x_second) * 3 + source, mask=there, other=0).to(tl.int32)
    above = (of_upper * ((a * of_left + b * of_right) >> 4)) >> 16
    below = (of_lower * ((c * of_left + d * of_right) >> 4)) >> 16
    value = tl.where(there, (above + below + 2) >> 2, GREY).to(tl.float32) * scale
    tl.store(canvas + index, value.to(canvas.dtype.element_ty), mask=index < numbers)


def draw(
    images: Tensor,
    swaps: Tensor,
    canvas: Tensor,
    rows: Tensor,
    columns: Tensor,
    *,
    corner: tuple[int, int],
    grey: int,
    scale: float,
) -> None:
    """See `DeviceLetterbox.draw`.

    Args:
        images: (N, H, W, 3) uint8, contiguous.
        swaps: (N,) bool.
        canvas: (N, height, width, 3) float16 or float32, contiguous.
        rows, columns: `linear_taps` of the scaled rows and columns.
        corner: top and left pixel of the scaled image on the canvas.
        grey: the pixel value around it.
        scale: what pixel values are multiplied by.
    """
    _draw[(triton.cdiv(canvas.numel(), BLOCK),)](
        images,
        swaps.view(torch.uint8),
        canvas,
        rows,
        columns,
        images.shape[1],
        images.shape[2],
        rows.shape[1],
        columns.shape[1],
        canvas.shape[1],
        canvas.shape[2],
        corner[0],
        corner[1],
        canvas.numel(),
        scale,
        GREY=grey,
        BLOCK=BLOCK,
        num_warps=4,
    )


@triton.jit(do_not_specialize=["width", "max_kept"])  # type: ignore[untyped-decorator,unused-ignore]
def _suppress(  # type: ignore[no-untyped-def]
    boxes,
    classes,
    counts,
    threshold,
    places,
    kept_counts,
    width,
    max_kept,
    BLOCK: tl.constexpr,
):
    # One image each. All boxes stay in registers, and every kept one drops its rivals at once.
    image = tl.program_id(0)
    index = tl.arange(0, BLOCK)
    there = index < width
    own = boxes + image * width * 4
    left = tl.load(own + index * 4, mask=there, other=0.0)
    top = tl.load(own + index * 4 + 1, mask=there, other=0.0)
    right = tl.load(own + index * 4 + 2, mask=there, other=0.0)
    bottom = tl.load(own + index * 4 + 3, mask=there, other=0.0)
    kinds = tl.load(classes + image * width + index, mask=there, other=0)
    areas = (right - left) * (bottom - top)
    limit = tl.load(threshold)

    remaining = index < tl.load(counts + image)
    kept = 0
    best = tl.min(tl.where(remaining, index, BLOCK), axis=0)
    while (best < BLOCK) & (kept < max_kept):
        tl.store(places + image * max_kept + kept, best.to(tl.int64))
        its_left = tl.load(own + best * 4)
        its_top = tl.load(own + best * 4 + 1)
        its_right = tl.load(own + best * 4 + 2)
        its_bottom = tl.load(own + best * 4 + 3)
        its_kind = tl.load(classes + image * width + best)
        its_area = (its_right - its_left) * (its_bottom - its_top)
        common_width = tl.minimum(its_right, right) - tl.maximum(its_left, left)
        common_height = tl.minimum(its_bottom, bottom) - tl.maximum(its_top, top)
        intersection = tl.maximum(common_width, 0.0) * tl.maximum(common_height, 0.0)
        union = its_area + areas - intersection
        rivals = (tl.div_rn(intersection, union) > limit) & (kinds == its_kind)
        remaining = remaining & (index > best) & (rivals == 0)
        kept += 1
        best = tl.min(tl.where(remaining, index, BLOCK), axis=0)
    tl.store(kept_counts + image, kept)


def suppress(candidates: Candidates, iou_threshold: Tensor, max_kept: int) -> tuple[Tensor, Tensor]:
    """See `device_suppression.suppress`: (B, max_kept) int64 places, (B,) int64 how many."""
    batch, width, _ = candidates.boxes.shape
    places = torch.zeros(batch, max_kept, dtype=torch.int64, device=candidates.boxes.device)
    kept = torch.empty(batch, dtype=torch.int64, device=candidates.boxes.device)
    _suppress[(batch,)](
        candidates.boxes,
        candidates.classes,
        candidates.count,
        iou_threshold,
        places,
        kept,
        width,
        max_kept,
        BLOCK=max(BLOCK, triton.next_power_of_2(width)),  # one and the same for small inputs
        num_warps=8,
        # Fused multiplication and addition rounds once where the host rounds twice.
        enable_fp_fusion=False,
    )
    return places, kept
