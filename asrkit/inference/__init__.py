"""A trained model on audio."""

import os

# onnxruntime tells its makers what it is used for, unless this is set before it is loaded, which is done in here only.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
