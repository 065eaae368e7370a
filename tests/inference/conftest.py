"""What the tests of exported models share: a maker of small ONNX files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MakeOnnx = Callable[..., Path]


@pytest.fixture
def make_onnx(tmp_path: Path) -> MakeOnnx:
    """Writes an ONNX file that answers every input with the same outputs."""

    def make(
        outputs: Mapping[str, np.ndarray],
        *,
        inputs: Mapping[str, Sequence[int | str]] | None = None,
        input_type: str = "FLOAT",
        metadata: Mapping[str, str] | None = None,
        name: str = "model.onnx",
    ) -> Path:
        onnx = pytest.importorskip("onnx", reason="onnx missing: pip install onnx")
        helper, kinds = onnx.helper, onnx.TensorProto
        inputs = inputs or {"images": (1, 3, 128, 128)}
        nodes: list[Any] = []
        for output, value in outputs.items():
            constant = onnx.numpy_helper.from_array(value, f"{output}_value")
            nodes.append(helper.make_node("Constant", [], [output], value=constant))
        float_type = getattr(kinds, input_type)
        graph = helper.make_graph(
            nodes,
            "answers",
            [helper.make_tensor_value_info(n, float_type, s) for n, s in inputs.items()],
            [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), None)
                for n, v in outputs.items()
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, dict(metadata or {}))
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return make
