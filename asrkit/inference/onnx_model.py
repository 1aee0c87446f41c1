"""Exported models (export.py) on onnxruntime. They need no PyTorch.

Legend: T frames, D static features, T' steps of the network, V output classes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asrkit.device import CPU, gpu_number
from asrkit.errors import AsrkitError, ConfigError, ModelError, location
from asrkit.features.cmvn import check_stats
from asrkit.inference.model import Outputs, join_phases
from asrkit.inference.onnx_file import OnnxFault, checked_content, count_weights
from asrkit.inference.onnx_metadata import Metadata, read_metadata
from asrkit.io.files import read_bytes
from asrkit.io.seal import check_seal
from asrkit.models.frontends import FRONT_ENDS
from asrkit.models.search_decoder import SearchDecoder, search_decoder

if TYPE_CHECKING:
    import onnxruntime

_CUDA = "CUDAExecutionProvider"
_MAX_SIZE = 2**31  # bytes; Protocol Buffers, and so onnxruntime, can read no more
_REMEDY = "export it again"
DECODER, SCALES = "decoder.", ".scales"  # the beginning of the names of a decoder's weights; the end of scales' names
_MOST_SHOWN = 300  # characters of a fault; a hostile file can contain a name of megabytes
States = Mapping[str, np.ndarray]  # of each recurrent layer, by the graph's names


class OnnxModel:
    """An exported model. Any number of threads can use one object, and it can be pickled.

    Attributes:
        features, config, decoding: settings of the features, the network and the search.
        tokens: its phones and their ids.
        lm: the language model, or None.
        calibration: the calibration of confidences; None before tuning.
        global_cmvn: (2, D + 1) CMVN statistics of the training set.
        made_from: the digest of the file from which it was exported, or None.
        corpus: the corpus of its training, or None.
        decoder: its attention decoder or transducer, or None.
        reach: frames before and after a frame on which the frame's deltas and front end depend.
    """

    def __init__(self, source: str | Path | bytes, num_threads: int = 1, device: str = CPU) -> None:
        """Load an exported model.

        Args:
            source: the file, or its content.
            num_threads: threads of the network within one utterance.
            device: where the network runs: cpu, cuda or cuda:N.

        Raises:
            ModelError: the file is missing, damaged, of another version, or not made by `asrkit export`.
            ConfigError: onnxruntime cannot use the device.
        """
        self._source, self._num_threads, self._device = source, num_threads, device
        self._name = "model" if isinstance(source, bytes) else str(source)
        content = source if isinstance(source, bytes) else _read(Path(source))
        metadata, constants = _checked(content, self._name)
        self.features, self.config, self.decoding = metadata.features, metadata.model, metadata.decoding
        self.tokens, self.lm, self.calibration = metadata.tokens, metadata.lm, metadata.calibration
        self.global_cmvn, self.made_from = metadata.global_cmvn, metadata.made_from
        self.corpus = metadata.corpus
        self.bidirectional, self.stack, self.skip = self.config.bidirectional, self.config.stack, self.config.skip
        self.reach = self.features.delta_order * self.features.delta_window + FRONT_ENDS[self.config.frontend].reach
        self._session = self._open_session(content)
        self._expect_fitting_graph()
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.decoder = self._decoder(constants)

    def __reduce__(self) -> tuple[object, ...]:
        return OnnxModel, (self._source, self._num_threads, self._device)

    @property
    def num_stored(self) -> int:
        """The number of values per step of log_probs."""
        has = self.config.heads
        num_classes = len(self.tokens) if has.has_ctc or has.has_frames else 0
        return num_classes + (self.decoder.step_size if self.decoder else 0)

    def log_probs(self, static: np.ndarray, stats: np.ndarray | None = None) -> np.ndarray:
        """Compute the input of the search, as Model.log_probs.

        Args:
            static: (T, D) static features.
            stats: (2, D + 1) CMVN statistics, or None.

        Returns:
            (T', V) float32.

        Raises:
            ModelError: as `step`.
        """
        return self.step(static, stats=stats)[0].log_probs

    def step(
        self,
        static: np.ndarray,
        states: States | None = None,
        stats: np.ndarray | None = None,
        first: int = 0,
        num_steps: int | None = None,
    ) -> tuple[Outputs, States]:
        """Compute some steps of the network over a window, which can be a part of a longer utterance.

        Step k joins `stack` frames of the window, beginning at frame `first` + k * skip. Beyond an end of the window
        its edge frame is repeated, as at the edges of an utterance. The results are those of the whole utterance only
        if the window has `reach` more frames on either side, as far as the utterance has them.

        Args:
            static: (T, D) static features of the window.
            states: the states that the call for the previous steps returned; None at the beginning.
            stats: (2, D + 1) CMVN statistics, as for log_probs. Give them for windows, because the statistics of a
                window are not those of the utterance.
            first: the frame at which the first step begins; can be negative.
            num_steps: the number of steps; by default all up to the end of the window, ceil(T / skip).

        Returns:
            The outputs of the heads for these steps, and the states after the last one. A bidirectional model has no
            states.

        Raises:
            ModelError: the features have another dimension or no frame, or the network cannot be run.
        """
        dim = self.features.num_static
        if static.ndim != 2 or static.shape[1] != dim or not len(static):
            raise ModelError(f"features of shape {static.shape}; the model expects (frames, {dim}), one frame or more")
        feeds = {"static": np.require(static, np.float32, ["C", "A"]), **(states or {})}
        mode = self.features.normalization
        if stats is None and mode.counts_speech and mode.needs_whole_utterance:
            # The graph cannot tell which frames contain speech.
            stats = mode.filled(mode.statistics(static), self.global_cmvn)
        if stats is not None and mode.is_fixed:
            feeds["stats"] = check_stats(stats, dim)
        if first:
            feeds["first"] = np.array(first, np.int64)
        if num_steps is not None:
            feeds["num_steps"] = np.array(num_steps, np.int64)
        try:
            values = dict(zip(self._outputs, self._session.run(self._outputs, feeds), strict=True))
        except Exception as error:  # onnxruntime raises a dozen types without a common base
            reason = str(error).splitlines()[0]
            raise ModelError(
                f"{location(self._name)}the network cannot be run ({reason}); {_REMEDY}, or free memory"
            ) from None
        found = [values.pop(name) for name in ("log_probs", "attended") if name in values]
        log_probs = found[0] if len(found) == 1 else np.concatenate(found, axis=1)
        outputs = Outputs(log_probs, values.pop("frame_log_probs", None))
        num_steps = -(-(-(-len(static) // self.skip) if num_steps is None else num_steps) // self.config.joined)
        self._expect_fitting_outputs(outputs, num_steps)
        return outputs, {name.removesuffix(".next"): state for name, state in values.items()}

    def outputs_by_frame(self, static: np.ndarray, stats: np.ndarray | None = None) -> Outputs:
        """Compute the outputs of the heads for every frame, as Model.outputs_by_frame.

        Args:
            static, stats: (T, D) and (2, D + 1), as for log_probs.

        Raises:
            ModelError: as `step`.
        """
        phases = []
        for phase in range(self.config.frames_a_step):
            outputs, _ = self.step(static, stats=stats, first=-phase)
            phases.append(Outputs(outputs.log_probs[:, : len(self.tokens)], outputs.frame_log_probs))
        return join_phases(phases, len(static), self.config.frames_in_step)

    def _open_session(self, content: bytes) -> onnxruntime.InferenceSession:
        """Open a session of onnxruntime.

        Raises ModelError if it cannot load the graph, and ConfigError if it cannot use the device.
        """
        import onnxruntime  # slow to import, and not needed to read the settings

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._num_threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False  # utterances differ in length
        options.log_severity_level = 4
        providers: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
        number, what = gpu_number(self._device), f"device {self._device}: onnxruntime {onnxruntime.__version__}"
        if number is not None:
            if _CUDA not in onnxruntime.get_available_providers():
                raise ConfigError(
                    f"{what} has no {_CUDA}, which runs exported models; install onnxruntime-gpu in its place "
                    "(docs/gpu.md), or give cpu"
                )
            providers.insert(0, (_CUDA, {"device_id": str(number), "use_tf32": "0"}))
        try:
            session = onnxruntime.InferenceSession(content, options, providers=providers)
        except Exception as error:  # onnxruntime raises a dozen types without a common base
            raise self._error(f"not a model that onnxruntime can load ({str(error).splitlines()[0]})") from None
        if number is not None and _CUDA not in session.get_providers():  # it goes on with the CPU, and tells nobody
            raise ConfigError(f"{what} cannot use it; see that CUDA, cuDNN and the driver fit, or give cpu")
        return session

    def _expect_fitting_graph(self) -> None:
        """Raise ModelError unless the inputs and outputs of the graph agree with the settings."""
        num_classes, has = len(self.tokens), self.config.heads
        heads = {"log_probs": num_classes} if has.has_ctc or has.has_frames else {}
        if has.has_frames:
            heads["frame_log_probs"] = num_classes - 1
        if has.has_decoder:
            heads["attended"] = self._attended_size()
        outputs = {value.name: (value.type, value.shape) for value in self._session.get_outputs()}
        states = {name.removesuffix(".next") for name in outputs if name.startswith("state.")}
        may_be_left_out = {"first", "num_steps", *states}
        if self.features.normalization.is_fixed:
            may_be_left_out.add("stats")
        is_fitting = (
            {value.name: (value.type, value.shape) for value in self._session.get_inputs()}
            == {"static": ("tensor(float)", ["frames", self.features.num_static])}
            and {value.name for value in self._session.get_overridable_initializers()} == may_be_left_out
            and {name: outputs.pop(name, None) for name in heads}
            == {name: ("tensor(float)", ["steps", size]) for name, size in heads.items()}
            and outputs.keys() == {f"{state}.next" for state in states}
            and bool(states) != self.bidirectional
        )
        if not is_fitting:
            raise self._error("the graph's inputs and outputs are not those of its settings")

    def _attended_size(self) -> int:
        """The size of the values to which a decoder attends, as the graph declares it; 0 if it does not."""
        shapes = [value.shape for value in self._session.get_outputs() if value.name == "attended"]
        size = shapes[0][-1] if shapes and shapes[0] else 0
        return size if isinstance(size, int) else 0

    def _decoder(self, constants: Mapping[str, np.ndarray]) -> SearchDecoder | None:
        """The decoder of a model that has one. Raises ModelError if its weights do not fit the settings."""
        arrays = {name.removeprefix(DECODER): each for name, each in constants.items() if name.startswith(DECODER)}
        weights = {}
        for name, array in arrays.items():
            if array.dtype == np.int8:
                scales = arrays.get(name + SCALES, np.zeros(0, np.float32))
                if scales.shape != (*array.shape[:1], *(1 for _ in array.shape[1:])):
                    raise self._error(f"decoder's weights {name}: scales {scales.shape} for {array.shape}")
                weights[name] = array * scales
            elif not name.endswith(SCALES):
                weights[name] = np.require(array, requirements=["A"])  # arrays in the file can be unaligned
        if any(array.dtype != np.float32 for array in weights.values()):
            raise self._error("decoder's weights that are not float32")
        if not self.config.heads.has_decoder:
            if weights:
                raise self._error("a decoder's weights, but its settings have no decoder")
            return None
        try:
            return search_decoder(self.config, weights, self._attended_size(), len(self.tokens))
        except ModelError as error:
            raise self._error(str(error)) from None

    def _expect_fitting_outputs(self, outputs: Outputs, num_steps: int) -> None:
        """Raise ModelError unless the network gave one row per step and one column per class, without NaN."""
        num_classes = len(self.tokens)
        heads = [(outputs.log_probs, self.num_stored)]
        if outputs.frame_log_probs is not None:
            heads.append((outputs.frame_log_probs, num_classes - 1))
        for log_probs, size in heads:
            if log_probs.shape != (num_steps, size):
                raise self._error(f"the network gives {log_probs.shape} log-probabilities; expected {num_steps, size}")
            if np.isnan(log_probs).any():
                raise self._error("the network gives log-probabilities that are not numbers")

    def _error(self, fault: str) -> ModelError:
        return _fault(self._name, fault)


def read_model_metadata(path: str | Path) -> Metadata:
    """Read the metadata of an exported model without loading its network. Raises ModelError as OnnxModel."""
    return _checked(_read(Path(path)), str(path))[0]


def count_model_weights(path: str | Path) -> int:
    """Count the numbers in the network of an exported model; see count_weights. Raises ModelError as OnnxModel."""
    content = _read(Path(path))
    _checked(content, str(path))
    return count_weights(content)


def _checked(content: bytes, name: str) -> tuple[Metadata, Mapping[str, np.ndarray]]:
    """The metadata and constants of a model's file, after all checks that need no onnxruntime."""
    check_seal(io.BytesIO(content), name, _REMEDY)
    try:
        found = checked_content(content)
        return read_metadata(found.metadata), found.constants
    except (OnnxFault, AsrkitError) as error:
        raise _fault(name, str(error).split("\n")[0][:_MOST_SHOWN]) from None


def _fault(name: str, fault: str) -> ModelError:
    return ModelError(f"{location(name)}{fault}; {_REMEDY}")


def _read(path: Path) -> bytes:
    """The content of a file. Raises ModelError if it is missing or larger than any model."""
    if not path.is_file():
        raise ModelError(f"{location(path)}no such file; made by asrkit export")
    if path.stat().st_size >= _MAX_SIZE:
        raise ModelError(f"{location(path)}{_MAX_SIZE} bytes or more; no model has so many")
    return read_bytes(path)


class OutputStream:
    """The outputs of a unidirectional model for one utterance whose features arrive in chunks. Memory does not grow.

    The outputs are those of the whole utterance, except for rounding.
    """

    def __init__(self, model: OnnxModel, stats: np.ndarray | None = None, phase: int = 0) -> None:
        """Begin an utterance.

        Args:
            model: a unidirectional model.
            stats: (2, D + 1) CMVN statistics, as for OnnxModel.log_probs.
            phase: every step begins `phase` frames early.

        Raises:
            ConfigError: the model is bidirectional, so it needs the whole utterance; or it needs CMVN statistics of the
                whole utterance, and none are given.
        """
        if model.bidirectional:
            raise ConfigError(
                f"{model.config.looks_ahead_by}: such a model needs the whole utterance; expected a unidirectional one "
                "for a stream"
            )
        if stats is None and model.features.normalization.needs_whole_utterance:
            raise ConfigError(
                f"features.cmvn: {model.features.cmvn!r} in a stream, whose end is not known; expected statistics"
            )
        self._model, self._stats, self._phase = model, stats, phase
        self._static = np.empty((0, model.features.num_static), np.float32)  # frames that are still needed
        self._begin = 0  # the number of the first of these frames
        self._num_done = 0  # steps
        self._states: States | None = None

    def accept(self, static: np.ndarray) -> Outputs:
        """Take the next static features (t, D). Returns the outputs for the steps that they complete."""
        self._static = np.concatenate([self._static, static])
        num_frames = self._begin + len(self._static) - self._model.reach
        return self._advance(max((num_frames + self._phase - self._model.stack) // self._model.skip + 1, 0))

    def finish(self) -> Outputs:
        """End the utterance. Returns the outputs for the remaining steps."""
        return self._advance(-(-(self._begin + len(self._static)) // self._model.skip))

    def _advance(self, num_ready: int) -> Outputs:
        model = self._model
        if num_ready <= self._num_done:
            frames = np.empty((0, len(model.tokens) - 1), np.float32) if model.config.heads.has_frames else None
            return Outputs(np.empty((0, model.num_stored), np.float32), frames)
        first = self._num_done * model.skip - self._phase - self._begin
        outputs, self._states = model.step(self._static, self._states, self._stats, first, num_ready - self._num_done)
        self._num_done = num_ready
        drop = num_ready * model.skip - self._phase - model.reach - self._begin
        if drop > 0:
            self._static = self._static[drop:]
            self._begin += drop
        return outputs
