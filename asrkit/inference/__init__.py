"""Recognition and alignment of audio with a trained model; export of models."""

import os

# Without this variable onnxruntime sends usage data to its makers. It must be set before onnxruntime is loaded, and
# only this package loads it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
