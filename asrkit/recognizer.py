"""The one path from audio, features or log-probabilities to a Hypothesis; every verb and user takes it.

Legend: T frames, T' steps of the network, D feature dim, V output classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from asrkit.audio import Channel, read_audio, resample
from asrkit.batching import collate
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.decoder import Decoder
from asrkit.decoding.forced_align import forced_align
from asrkit.decoding.spans import FrameClock, align_frames
from asrkit.errors import DataError
from asrkit.experiment import Experiment, load_experiment
from asrkit.features.mfcc import FeatureExtractor
from asrkit.types import Hypothesis, Waveform

_MAX_FINE_CELLS = 2**28  # frames times phones up to which align looks at every frame


class Recognizer:
    """A trained experiment, ready to recognise."""

    def __init__(self, experiment: Experiment, decoding: DecodingConfig | None = None, cmvn: str | None = None):
        """`decoding` and `cmvn` take the place of the experiment's own settings."""
        config = experiment.config
        self.features = config.features if cmvn is None else replace(config.features, cmvn=cmvn)
        self.model = experiment.model
        self.global_cmvn = experiment.global_cmvn
        # Audio comes without a speaker: per-speaker CMVN becomes per-utterance CMVN.
        spk_less = replace(self.features, cmvn="utterance") if self.features.cmvn == "speaker" else self.features
        self._extractor = FeatureExtractor(spk_less)
        # Whole numbers of samples, as the frames have them.
        shift, length = (n / self.features.sample_rate for n in (self.features.frame_shift, self.features.frame_length))
        self.decoder = Decoder(
            experiment.tokens,
            decoding or config.decoding,
            experiment.lm,
            FrameClock(
                shift,
                # With snip_edges the first frame begins at 0 and its middle, not its start, is what it stands for.
                start=(length - shift) / 2 if self.features.snip_edges else 0.0,
                skip=config.model.skip,
                middle=(config.model.stack - 1) / 2,
            ),
            calibration=experiment.calibration,
        )

    @classmethod
    def load(cls, directory: str | Path, decoding: DecodingConfig | None = None, cmvn: str | None = None) -> Recognizer:
        """Read an experiment directory. Raises ModelError when it holds no finished model."""
        return cls(load_experiment(directory), decoding, cmvn)

    @torch.inference_mode()
    def log_probs(self, feats: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Finished features, each (T, D), to log-probabilities, each (T', V) float32. Batch size changes nothing."""
        names = [str(i) for i in range(len(feats))]
        batch = collate(names, dict(zip(names, feats, strict=True)))
        log_probs, lens = self.model(batch.feats, batch.feat_lens)
        return [utt[:length].numpy() for utt, length in zip(log_probs, lens, strict=True)]

    @torch.inference_mode()
    def log_probs_by_frame(self, feats: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Finished features (T, D) to log-probabilities of the step whose middle a frame is, for every frame.

        The network runs in each phase of its frame skipping: `skip` times as much to do as for log_probs.

        Returns: what log_probs gives, (T, V) float32, and the frame-wise head's (T, V - 1), None without that head.
        """
        skip, num_frames = self.model.config.skip, len(feats)
        batch = torch.from_numpy(feats).expand(skip, -1, -1)
        _, ctc, by_frame = self.model.outputs(batch, torch.full((skip,), num_frames), torch.arange(skip))
        log_probs = torch.nn.functional.pad(by_frame, (1, 0), value=-torch.inf) if ctc is None else ctc
        # In phase p step k has its middle in frame middle + k * skip - p.
        frames = torch.arange(num_frames) - (self.model.config.stack - 1) // 2
        steps = ((frames + skip - 1) // skip).clamp(0, log_probs.shape[1] - 1)
        phases = (-frames) % skip
        return log_probs[phases, steps].numpy(), None if by_frame is None else by_frame[phases, steps].numpy()

    def finished_features(self, waveform: Waveform, utt_id: str) -> np.ndarray:
        """Audio to (T, D) features. There is no speaker here: per-speaker CMVN becomes per-utterance CMVN."""
        return self._extractor.finished(waveform, utt_id, self.global_cmvn)

    def transcribe(
        self,
        audio: str | Path | Waveform,
        utt_id: str | None = None,
        channel: Channel = "error",
        with_times: bool = True,
    ) -> Hypothesis:
        """Recognise one audio file or Waveform of any rate, with times and confidences unless they are not wanted.

        Finding times takes memory that grows with the square of the audio's length: 0.1 GB for 7 minutes.

        Raises:
            AudioError: the audio cannot be read, or is shorter than one frame.
        """
        utt_id, waveform, feats = self._load(audio, utt_id, channel)
        (log_probs,) = self.log_probs([feats])
        if not with_times:
            return self.decoder(utt_id, log_probs)
        by_frame = None if self.model.config.head == "ctc" else self.log_probs_by_frame(feats)[1]
        return self.decoder(utt_id, log_probs, feats, waveform.duration, by_frame)

    def align(
        self,
        audio: str | Path | Waveform,
        phones: Sequence[str],
        utt_id: str | None = None,
        channel: Channel = "error",
        optional_silence: str | None = None,
    ) -> Hypothesis:
        """Find where known phones are in the audio.

        A phone's confidence is the geometric mean of its posterior over the frames of its peak. Memory is bounded: a
        byte for each pair of a step and a phone, 2**30 at most, which suffices for half an hour.

        Args:
            phones: what is said, in the model's symbols.
            optional_silence: a symbol of the model that may stand between any two phones and at both ends; where it
                is not heard, it is left out of the result. Then it is optional in `phones`, too.

        Raises:
            AudioError: the audio cannot be read, or is shorter than one frame.
            DataError: symbols that the model does not have, or more phones than there is room for.
        """
        utt_id, waveform, feats = self._load(audio, utt_id, channel)
        tokens, clock = self.decoder.tokens, self.decoder.clock
        if optional_silence is not None:
            phones = with_optional(phones, optional_silence)
        unknown = sorted(set(phones) - set(tokens.phones))
        if unknown:
            known = " ".join(tokens.phones)
            raise DataError(f"{utt_id}: phones that the model does not have: {' '.join(unknown)}; it has {known}")
        ids = np.array(tokens.encode(phones), dtype=np.int64)
        optional = () if optional_silence is None else tokens.encode([optional_silence])
        fine = len(feats) * len(ids) <= _MAX_FINE_CELLS
        log_probs, by_frame = self.log_probs_by_frame(feats) if fine else (self.log_probs([feats])[0], None)
        if self.model.config.head == "frames":
            aligned = align_frames(log_probs[:, 1:], ids, optional, utt_id)
        else:
            aligned = forced_align(log_probs, ids, optional=optional, utt_id=utt_id)
        kept = aligned.starts < aligned.ends
        ids = ids[kept]
        aligned = replace(
            aligned, starts=aligned.starts[kept], ends=aligned.ends[kept], log_probs=aligned.log_probs[kept]
        )
        spans = clock.spans(feats, log_probs, ids, aligned, self.decoder.silences, by_frame)
        times = clock.phone_times(tokens.decode(ids), *spans, len(feats), waveform.duration)
        confidences = tuple(np.exp(aligned.log_probs).tolist())
        return Hypothesis(utt_id, tokens.decode(ids), aligned.score, times, confidences)

    def _load(
        self, audio: str | Path | Waveform, utt_id: str | None, channel: Channel
    ) -> tuple[str, Waveform, np.ndarray]:
        """The utterance's name, its audio at its own rate, and its finished features (T, D)."""
        if isinstance(audio, Waveform):
            utt_id, waveform = utt_id or "audio", audio
        else:
            utt_id, waveform = utt_id or str(audio), read_audio(audio, channel=channel)
        feats = self.finished_features(resample(waveform, self.features.sample_rate), utt_id)
        return utt_id, waveform, feats


def with_optional(phones: Sequence[str], silence: str) -> tuple[str, ...]:
    """`phones` with one silence at either end and between any two, in place of those that were there."""
    found = [silence]
    for phone in phones:
        found += () if phone == silence else (phone, silence)
    return tuple(found)
