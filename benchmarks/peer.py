"""Times another program's prediction, in that program's own environment, when told to.

`engine.py` starts this file with the interpreter of an environment that has ``ultralytics``
installed (AGPL-3.0: for comparison only, never a dependency). It prints what it is, then for every
line on standard input runs that many predictions and prints their seconds, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
import types
from typing import Any

import numpy as np


def main() -> None:
    """Arguments: model file, images as .npy (N, H, W, 3), image size, device, perhaps "half"."""
    import torch
    import ultralytics  # type: ignore[import-not-found,unused-ignore]

    _replace_broken_torchvision()
    model_path, images_path, image_size, device, *precision = sys.argv[1:]
    model: Any = ultralytics.YOLO(model_path)
    images = np.load(images_path)
    settings = {
        "imgsz": int(image_size),
        "device": device,
        "conf": 0.3,
        "iou": 0.65,
        "half": precision == ["half"],
        "verbose": False,
    }
    people = [len(model.predict(image, **settings)[0].boxes) for image in images]
    versions = {"ultralytics": ultralytics.__version__, "torch": torch.__version__}
    print(json.dumps({"people": people, **versions}), flush=True)
    for line in sys.stdin:
        seconds = []
        for index in range(int(line)):
            started = time.perf_counter()
            model.predict(images[index % len(images)], **settings)
            seconds.append(time.perf_counter() - started)
        print(json.dumps(seconds), flush=True)


def _replace_broken_torchvision() -> None:
    """Where torchvision's operators do not load (there is no CPU build), use the peer's own."""
    try:
        import torchvision  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
    except (ImportError, RuntimeError):
        from ultralytics.utils.nms import (  # type: ignore[import-not-found,unused-ignore]
            TorchNMS,
        )

        stand_in: Any = types.ModuleType("torchvision")
        stand_in.ops = types.SimpleNamespace(nms=TorchNMS.nms)
        sys.modules["torchvision"] = stand_in


if __name__ == "__main__":
    main()
