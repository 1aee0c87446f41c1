"""An exported network on the device, by onnxruntime: the same as in PyTorch on the CPU.

onnxruntime needs its CUDA provider for a GPU. Where it, or a package that an export needs, is missing, the check is
left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asrkit.inference.torch_model import TorchModel
from asrkit.models.heads import HEADS
from tests.gpu.test_decoding import assert_near, make_experiment

MODELS: list[dict[str, Any]] = [*({"head": head} for head in HEADS), {"cell": "gru"}, {"encoder": "conformer"}]


def expect_onnxruntime(device: torch.device) -> None:
    """Skip the test unless onnxruntime can run networks on the device, and they can be exported."""
    for name in ("onnx", "onnxruntime", "yaml"):
        if not hasattr(pytest.importorskip(name, reason=f"{name} is not installed"), "__file__"):
            pytest.skip(f"{name} is not installed")  # conftest.py has put an empty module in its place
    import onnxruntime

    if device.type == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip(f"onnxruntime {onnxruntime.__version__} has no CUDA provider; onnxruntime-gpu has one")


@pytest.mark.parametrize("settings", MODELS, ids=lambda settings: " ".join(map(" ".join, settings.items())))
def test_an_exported_file_gives_what_pytorch_gives_on_the_cpu(
    settings: dict[str, Any], device: torch.device, tmp_path: Path
) -> None:
    expect_onnxruntime(device)
    from asrkit.inference.export import export_model
    from asrkit.inference.onnx_model import OnnxModel

    rng, file = np.random.default_rng(1), tmp_path / "model.onnx"
    experiment = make_experiment(rng, **settings)
    file.write_bytes(export_model(experiment))
    model, usual = OnnxModel(file, device=str(device)), TorchModel(experiment)
    static = rng.standard_normal((50, experiment.config.features.num_static)).astype(np.float32)
    assert_near(model.log_probs(static), usual.log_probs(static))
    assert_near(model.outputs_by_frame(static).frame_log_probs, usual.outputs_by_frame(static).frame_log_probs)
