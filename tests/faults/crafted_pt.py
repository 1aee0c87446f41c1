"""Crafted and damaged files of trained experiments: final.pt and checkpoint.pt."""

from __future__ import annotations

import copy
import functools
import io
import os
import pickle
import re
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from asrkit.config.yaml_config import config_text
from asrkit.experiment import save_experiment
from asrkit.formats.arpa import write_arpa
from asrkit.io.seal import seal, unsealed
from asrkit.training.config import TrainingConfig
from asrkit.training.state import TrainingState
from asrkit.types import Supplement
from tests.faults.crafted import BAD_PHONES, HUGE, STRANGE, Case, Missing, damaged, experiment, lm, put, strange_values

IDENTITY = "the run's"


@functools.cache
def right() -> bytes:
    trained = experiment()
    with tempfile.TemporaryDirectory() as directory:
        write_arpa(lm().ngrams, Path(directory) / "lm.arpa")
        text = (Path(directory) / "lm.arpa").read_text()
        parts = trained.config, trained.tokens, trained.model, trained.global_cmvn, Supplement(text)
        save_experiment(Path(directory), *parts)
        return (Path(directory) / "final.pt").read_bytes()


def new_state(directory: Path) -> TrainingState:
    """The state of a training in a directory, as its checkpoint says if there is one."""
    network, config = copy.deepcopy(experiment().model), TrainingConfig(ema_decay=0.9, select="ema")
    return TrainingState(network, config, 3, directory, IDENTITY)


@functools.cache
def right_checkpoint() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        state = new_state(Path(name))
        for weight in state.model.parameters():
            weight.grad = torch.ones_like(weight)
        state.optimizer.step()
        state.save()
        return (Path(name) / "checkpoint.pt").read_bytes()


def cases(num_flips: int = 50) -> Iterator[Case]:
    """Every crafted file, and `num_flips` of each kind with one bit flipped."""
    for kind, content in (("final.pt", right()), ("checkpoint.pt", right_checkpoint())):
        for name, make in damaged(content, num_flips, seed=3):
            yield Case(name, kind, make, must_fail=True)
        for name, make in no_checkpoints(content):
            yield Case(name, kind, make, must_fail=True)
        loaded = _load(content)
        for name, make in _weights(loaded):
            yield Case(name, kind, make, must_fail=True)
        small = {key: value for key, value in loaded.items() if key not in ("model", "optimizer", "average")}
        for name, changed in strange_values(small):
            yield Case(name, kind, functools.partial(saved, _merged(loaded, changed)))
        for key in ("model", "optimizer", "average"):
            for value in STRANGE:
                if key in loaded:
                    changed = put(loaded, (key,), value)
                    yield Case(f"{key} {str(value)[:20]!r}", kind, functools.partial(saved, changed))
    for name, make in (*settings(), *optimizers()):
        yield Case(name, "final.pt" if "optimizer" not in name else "checkpoint.pt", make, must_fail=True)


def _merged(loaded: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in loaded.items() if key in ("model", "optimizer", "average")}
    return {**changed, **kept}


def _load(content: bytes) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    return loaded


def saved(content: Any) -> bytes:
    """What torch.save writes, sealed."""
    stream = io.BytesIO()
    torch.save(content, stream)
    return seal(stream.getvalue())


def settings() -> Iterator[tuple[str, Callable[[], bytes]]]:
    loaded, config = _load(right()), experiment().config

    def case(name: str, **changes: Any) -> tuple[str, Callable[[], bytes]]:
        return name, functools.partial(saved, {**loaded, **changes})

    huge = "".join(f"  {name}: {value}\n" for name, value in HUGE.items())
    yield case("100 layers of 8192", config=f"model:\n{huge}")
    yield case("100 layers of 8192, both heads", config=f"model:\n  head: both\n{huge}")
    yield case("other settings", config=config_text(config).replace("hidden_size: 8", "hidden_size: 9"))
    for text in (
        "model: [",
        "? " * 50_000,
        "[" * 50_000,
        "a: &a [*a]",
        "x" * 10**6,
        "model: {num_layers: 0}",
        "\0",
        "&" * 99,
    ):
        yield case(f"settings {text[:20]!r}", config=text)
    aliases = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
    yield case("settings of doubling aliases", config=aliases)
    for phones in BAD_PHONES:
        yield case(f"phones {str(phones)[:40]!r}", phones=None if isinstance(phones, Missing) else phones)
    stats = loaded["global_cmvn"]
    for name, value in {
        "cut": stats[:, 1:],
        "float32": stats.float(),
        "NaN": torch.full_like(stats, torch.nan),
        "infinity": torch.full_like(stats, torch.inf),
        "no frames": torch.zeros_like(stats),
        "negative": -stats,
        "list": stats.tolist(),
        "integers": stats.long(),
        "one number for all": torch.ones((), dtype=torch.float64).expand(2, 14),
        "one number for terabytes": torch.ones((), dtype=torch.float64).expand(2, 10**12),
        "sparse": stats.to_sparse(),
        "complex": stats.to(torch.complex128),
        "half": stats.to(torch.bfloat16),
        "meta": stats.to("meta"),
    }.items():
        yield case(f"statistics: {name}", global_cmvn=value)
    text = loaded["lm"]
    for name, value in {
        "empty": "",
        "cut": text[: len(text) // 2],
        "no numbers": text.replace("-", "x"),
        "huge numbers": text.replace("\t", "\t1e999999\t"),
        "huge counts": text.replace("ngram 1=", "ngram 1=9" + "9" * 5000),
        "probabilities of 1e-300000": text.replace("\n-", "\n-300000"),
        "other phones": text.replace("ʃ", "x"),
    }.items():
        yield case(f"language model: {name}", lm=value)
    for name, value in {
        "numbers": [1.0, 0.0, 0.0],
        "texts": {"odds_weight": "1", "mean_weight": 0.0, "offset": 0.0},
        "NaN": {"odds_weight": float("nan"), "mean_weight": 0.0, "offset": 0.0},
        "huge": {"odds_weight": 1e308, "mean_weight": -1e308, "offset": 0.0},
        "huge, near": {"odds_weight": 1.0, "mean_weight": 0.0, "near_mean_weight": 1e308, "offset": 0.0},
        "cut": {"odds_weight": 1.0},
        "more": {"odds_weight": 1.0, "mean_weight": 0.0, "offset": 0.0, "slope": 1.0},
        "tensor": {"odds_weight": torch.ones(()), "mean_weight": 0.0, "offset": 0.0},
    }.items():
        yield case(f"calibration: {name}", calibration=value)


def _weights(loaded: dict[str, Any]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    weights = loaded["model"]
    name = max(weights, key=lambda key: weights[key].numel())
    tensor = weights[name]
    changes: dict[str, Any] = {
        "left out": None,
        "transposed": tensor.T.contiguous(),
        "flat": tensor.flatten(),
        "cut": tensor[:-1],
        "doubles": tensor.double(),
        "halves": tensor.half(),
        "integers": tensor.long(),
        "complex": tensor.to(torch.complex64),
        "one number for all": torch.ones(()).expand(tensor.shape),
        "one number for terabytes": torch.ones(()).expand(2**20, 2**20),
        "not in order": tensor.T.contiguous().T,
        "sparse": tensor.to_sparse(),
        "meta": tensor.to("meta"),
        "list": tensor.tolist(),
        "text": "weights",
    }
    if "format" in loaded:  # in the midst of training they may be what they are
        changes["NaN"] = torch.full_like(tensor, torch.nan)
        changes["infinity"] = torch.full_like(tensor, torch.inf)
    for what, value in changes.items():
        others = {key: each for key, each in weights.items() if key != name}
        changed = others if value is None else {**others, name: value}
        yield f"weights {what}", functools.partial(saved, {**loaded, "model": changed})
    yield "weights more", functools.partial(saved, {**loaded, "model": {**weights, "more": tensor}})
    yield "weights by numbers", functools.partial(saved, {**loaded, "model": dict(enumerate(weights.values()))})


def optimizers() -> Iterator[tuple[str, Callable[[], bytes]]]:
    loaded = _load(right_checkpoint())
    for name in ("exp_avg", "exp_avg_sq", "step"):
        right = loaded["optimizer"]["state"][0][name]
        one_for_all = torch.ones(()).expand(right.shape or (5,))
        for value in (Missing(), torch.ones(7), torch.ones(7, 7, 7), "text", None, one_for_all, right.double()):
            changed = put(loaded, ("optimizer", "state", 0, name), value)
            what = f"{str(value)[:10]!r} {getattr(value, 'dtype', '')}"
            yield f"optimizer: {name} {what}", functools.partial(saved, changed)
    for name, value in {
        "other weights": put(loaded, ("optimizer", "state"), {5000: loaded["optimizer"]["state"][0]}),
        "no state": put(loaded, ("optimizer",), {}),
        "list": put(loaded, ("optimizer", "state"), [1, 2]),
    }.items():
        yield f"optimizer: {name}", functools.partial(saved, value)
    yield (
        "optimizer's average of other weights",
        functools.partial(saved, put(loaded, ("average", "weights"), loaded["average"]["weights"][::-1])),
    )


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch evil",)


def no_checkpoints(content: bytes) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Files that PyTorch would read otherwise, or not at all."""
    loaded = _load(content)

    def sealed(make: Callable[[], bytes]) -> Callable[[], bytes]:
        return lambda: seal(make())

    yield "empty", sealed(lambda: b"")
    yield "words", sealed(lambda: b"these are words" * 20)
    yield "pickle", sealed(lambda: pickle.dumps({"format": 2}))
    yield "program as pickle", sealed(lambda: pickle.dumps(_Evil()))
    yield "program", functools.partial(saved, {**loaded, "format": _Evil()})
    yield "list", functools.partial(saved, [loaded])
    yield "number", functools.partial(saved, 5)
    yield "legacy", sealed(functools.partial(_legacy, loaded))
    yield "compressed", sealed(lambda: _compressed(content))
    yield "compressed to no less", sealed(lambda: _compressed(content, level=0))
    yield "zip bomb", sealed(lambda: _compressed(content, more=b"\0" * 10**8))
    yield "zip comment", sealed(lambda: unsealed(content)[:-2] + b"\x05\0words")
    yield "zip comment in the digest", sealed(lambda: unsealed(content)[:-2] + b"\x05\0")
    yield "members twice", sealed(lambda: _members_twice(unsealed(content)))
    yield "end of a zip alone", sealed(lambda: unsealed(content)[-98:])
    yield "directory elsewhere", sealed(lambda: _moved_directory(content))
    yield "more numbers than there are", sealed(lambda: rewritten(content, _more_numbers))
    for size in (10**12, 10**10):
        yield f"array of {size} bytes", sealed(functools.partial(rewritten, content, functools.partial(_array, size)))
    yield "pickle cut", sealed(lambda: rewritten(content, lambda data: data[: len(data) // 2]))
    yield "pickle of nothing", sealed(lambda: rewritten(content, lambda _: b""))
    yield (
        "lists in lists",
        sealed(lambda: rewritten(content, lambda _: b"\x80\x02" + b"]" * 10**5 + b"a" * 10**5 + b".")),
    )


def _legacy(loaded: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    torch.save(loaded, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def _compressed(content: bytes, more: bytes = b"", level: int = 6) -> bytes:
    """A compressed archive that ends as PyTorch's do."""
    source, target = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for member in source.infolist():
            archive.writestr(member.filename, source.read(member), zipfile.ZIP_DEFLATED)
        archive.writestr("archive/more", more)
    packed = target.getvalue()
    count, size, at = struct.unpack("<10xHII2x", packed[-22:])
    return packed[:-22] + _ends(count, size, at)


def _members_twice(content: bytes) -> bytes:
    """PyTorch's archive with each member twice in its directory."""
    count, size, at = struct.unpack("<32x3Q", content[-98:-42])
    return content[: at + size] + content[at : at + size] + _ends(2 * count, 2 * size, at)


def _ends(count: int, size: int, at: int) -> bytes:
    """What an archive of PyTorch ends with, after a directory of `count` members, `size` bytes long."""
    return (
        struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, at)
        + struct.pack("<4sIQI", b"PK\6\7", 0, at + size, 1)
        + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, size, at, 0)
    )


def rewritten(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The archive with another pickle in it, written by PyTorch's own writer."""
    source, target = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    writer = torch._C.PyTorchFileWriter(target)
    for member in source.infolist():
        name, data = member.filename.partition("/")[2], source.read(member)
        if name == "data.pkl":
            data = change(data)
        if name not in (".data/serialization_id", "version", ".format_version"):
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    return target.getvalue()


def _more_numbers(pickled: bytes) -> bytes:
    """The first array of a pickle is said to have 2**24 - 1 numbers."""
    changed, count = re.subn(
        rb"(cpuq.)(?:K.|M..)", lambda match: match[1] + b"J\xff\xff\xff\0", pickled, count=1, flags=re.DOTALL
    )
    assert count == 1
    return changed


def _array(size: int, pickled: bytes) -> bytes:
    """A pickle of bytearray(size)."""
    return b"\x80\x02cbuiltins\nbytearray\n\x8a\x08" + size.to_bytes(8, "little") + b"\x85R."


def _moved_directory(content: bytes) -> bytes:
    """The locator of the end record points elsewhere."""
    bare = bytearray(unsealed(content))
    bare[-34:-26] = (int.from_bytes(bare[-34:-26], "little") - 8).to_bytes(8, "little")
    return bytes(bare)
