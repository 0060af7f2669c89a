"""The code in the pages of docs/ runs as it stands there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interchange_support import GOLDEN

DOCS = Path(__file__).parents[1] / "docs"


def code(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def test_moving_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    monkeypatch.chdir(tmp_path)
    files = {
        "lstm.safetensors": "torch_three_layers.safetensors",
        "model.keras": "keras_sequential.keras",
        "model.weights.h5": "keras_weights.weights.h5",
        "model.onnx": "onnx_forward.onnx",
        "quantized.onnx": "onnx_quantized.onnx",
        "lengths.onnx": "onnx_node_forward.onnx",
        "directions.onnx": "onnx_both_ways.onnx",
    }
    for name, golden in files.items():
        shutil.copy(GOLDEN / golden, name)
    blocks = code("moving-weights.md")
    assert len(blocks) == 3
    for block in blocks:
        names: dict[str, Any] = {"x": np.ones((2, 5, 4))}
        exec(block, names)
        assert names["output"].shape[0] == 2
    written = {path.name for path in tmp_path.iterdir()} - set(files)
    assert written == {
        "back.safetensors", "back.keras", "masked.keras", "back.onnx", "ragged.onnx",
    }  # fmt: skip


@pytest.mark.parametrize(("page", "count"), [("masks.md", 3), ("variants.md", 4)])
def test_page(page: str, count: int) -> None:
    """Its lines check themselves."""
    blocks = code(page)
    assert len(blocks) == count
    for block in blocks:
        assert "assert" in block
        exec(block, {})
