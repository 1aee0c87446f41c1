"""A decoded set without a network: twelve utterances, names in Persian, half a second each."""

from pathlib import Path

import numpy as np
import soundfile

from asrkit.config.yaml_config import dump_config
from asrkit.io.ark import ArkWriter

UTTS = 12
BAD = "</script><b>"  # a symbol of which a browser could make an element


def log_probs(rng, num_steps: int) -> np.ndarray:
    values = rng.normal(size=(num_steps, 4)).astype(np.float32) * 5
    return values - np.log(np.exp(values).sum(axis=1, keepdims=True))


def make_decoded(tmp_path: Path) -> tuple[Path, Path]:
    """Make an experiment and the data directory that it decoded, and return the two."""
    rng = np.random.default_rng(0)
    data, out = tmp_path / "test", tmp_path / "exp/decode_test"
    data.mkdir()
    out.mkdir(parents=True)
    utts = [f"گوینده{number // 4}-{number:02}" for number in range(UTTS)]
    refs = {utt: ["a", "b", BAD][: 1 + number % 3] for number, utt in enumerate(utts)}
    hyps = {utt: ref if number % 2 else [*ref[:-1], "a"] for number, (utt, ref) in enumerate(refs.items())}
    tables = {
        "text": {utt: " ".join(phones) for utt, phones in refs.items()},
        "utt2spk": {utt: utt.split("-")[0] for utt in utts},
        "wav.scp": {utt: f"{tmp_path}/{utt}.wav" for utt in utts},
    }
    for name, rows in tables.items():
        (data / name).write_text("".join(f"{key} {value}\n" for key, value in rows.items()))
    (out / "hyp").write_text("".join(f"{utt} {' '.join(phones)}\n" for utt, phones in hyps.items()))
    for utt in utts:
        soundfile.write(tmp_path / f"{utt}.wav", rng.normal(0, 0.1, 8000), 16000)
    for path, transcripts, end in ((data, refs, ""), (out, hyps, " 0.7500")):
        (path / "phones.ctm").write_text(
            "".join(
                f"{utt} 1 {0.1 * place:.3f} 0.100 {phone}{end}\n"
                for utt, phones in transcripts.items()
                for place, phone in enumerate(phones)
            )
        )
    with ArkWriter(out / "log_probs.ark", out / "log_probs.scp") as writer:
        for utt in utts:
            writer.write(utt, log_probs(rng, 12))
    (tmp_path / "exp/tokens.txt").write_text(f"<blk> 0\na 1\nb 2\n{BAD} 3\n")
    (tmp_path / "exp/config.yaml").write_text("features: {cmvn: utterance}\n")
    (tmp_path / "exp/history.csv").write_text("epoch,train_loss,dev_loss,dev_per\n1,2.5,2.0,\n2,1.5,1.0,30.5\n")
    return tmp_path / "exp", data


def make_attended(tmp_path: Path) -> tuple[Path, Path]:
    """The same of a model with an attention decoder and CTC, untrained, which knows none of the phones but a."""
    from asrkit.inference.export import export_model  # loads PyTorch
    from tests.unit.inference.test_decoder_export import experiment_of
    from tests.unit.inference.test_export import TOKENS

    exp, data = make_decoded(tmp_path)
    experiment, out = experiment_of("joint"), exp / "decode_test"
    (exp / "final.onnx").write_bytes(export_model(experiment))
    dump_config(experiment.config, exp / "config.yaml")
    TOKENS.write(exp / "tokens.txt")
    rng, num_columns = np.random.default_rng(1), len(TOKENS) + experiment.model.decoder.step_size
    with ArkWriter(out / "log_probs.ark", out / "log_probs.scp") as writer:
        for line in (out / "hyp").read_text().splitlines():
            writer.write(line.split()[0], rng.normal(-2, 1, (12, num_columns)).astype(np.float32))
    return exp, data
