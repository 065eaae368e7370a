"""Whether the Triton kernels can be used on this machine: they must compile, and be right."""

from __future__ import annotations

from types import ModuleType

import torch

from pose_node.inference.device_letterbox import DeviceLetterbox
from pose_node.inference.device_pipeline import MAX_CANDIDATES, MAX_PEOPLE
from pose_node.inference.device_suppression import select_candidates, suppress
from pose_node.inference.letterbox import Letterbox


def choose_kernels(device: torch.device) -> tuple[ModuleType | None, str | None]:
    """The kernels for a device, or None and why not.

    Triton compiles on first use and needs a C compiler for that, which many robots lack. Without it
    torch's own operators do the same work with the same results in more and slower steps.
    """
    if device.type != "cuda":
        return None, "they are for NVIDIA GPUs"
    try:
        from pose_node.inference import triton_kernels

        with torch.cuda.device(device):  # Triton computes on the current one
            wrong = find_difference(triton_kernels, device)
    # Triton, the compilers it calls and the driver raise what they like; none of it matters here.
    except Exception as error:  # noqa: BLE001
        return None, f"Triton's kernels cannot be used: {type(error).__name__}: {error}"
    if wrong:
        return None, f"Triton's kernel for {wrong} gives other results than torch"
    return triton_kernels, None


def find_difference(kernels: ModuleType, device: torch.device) -> str | None:
    """Compare the kernels with torch's operators on a small case: what differs, None if nothing."""
    for dtype in (torch.float32, torch.float16):  # each is compiled for itself
        if not torch.equal(_letterboxed(None, device, dtype), _letterboxed(kernels, device, dtype)):
            return "letterboxing"
    if not torch.equal(_suppressed(None, device), _suppressed(kernels, device)):
        return "suppression"
    return None


def _letterboxed(
    kernels: ModuleType | None, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 90, 101, 3), dtype=torch.uint8, generator=random)
    swaps = torch.tensor([False, True], device=device)
    box = Letterbox.fit(90, 101, image_size=64, stride=32)
    canvas = torch.empty(2, box.height, box.width, 3, dtype=dtype, device=device)
    letterbox = DeviceLetterbox(box, scale=1 / 255, device=device, kernels=kernels)
    letterbox.draw(images.to(device), swaps, canvas)
    return canvas


def _suppressed(kernels: ModuleType | None, device: torch.device) -> torch.Tensor:
    """Places of who stays and how many they are, of boxes on a coarse grid: with many ties."""
    random = torch.Generator().manual_seed(0)
    count = MAX_CANDIDATES + 100
    corner = torch.randint(0, 100, (2, count, 2), generator=random) / 7
    size = torch.randint(0, 20, (2, count, 2), generator=random) / 7
    scores = torch.randint(0, 20, (2, count, 2), generator=random) / 20
    scores[1] *= 0.33  # there few are above the threshold
    candidates = select_candidates(
        torch.cat((corner, corner + size, scores), 2).to(device),
        num_classes=2,
        limit=MAX_CANDIDATES,
        score_threshold=torch.tensor(0.3, device=device),
        wanted=torch.ones(2, dtype=torch.bool, device=device),
    )
    threshold = torch.tensor(0.4, device=device)
    kept = suppress(candidates, iou_threshold=threshold, max_kept=MAX_PEOPLE, kernels=kernels)
    return torch.cat((kept.places, kept.count[:, None], kept.settled[:, None]), 1)
