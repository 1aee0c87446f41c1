"""Crafted and damaged exported models."""

from __future__ import annotations

import base64
import functools
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from asrkit.inference.export import export_model
from asrkit.io.seal import seal, unsealed
from tests.faults.crafted import (
    BAD_PHONES,
    HUGE,
    LM_ARRAYS,
    Case,
    Missing,
    bad_arrays,
    damaged,
    experiment,
    lm,
    put,
    strange_values,
    to_json,
)


@functools.cache
def right(is_8_bit: bool = False, **shape: Any) -> bytes:
    return export_model(experiment(**shape), is_8_bit=is_8_bit)


def cases(num_flips: int = 100) -> Iterator[Case]:
    """Every crafted exported model, and `num_flips` with one bit flipped."""
    for name, make in damaged(right(), num_flips, seed=2):
        yield Case(name, "onnx", make, must_fail=True)
    for name, make in (*_settings(), *_graphs()):
        yield Case(name, "onnx", make)
    for name, make in (*_phones(), *_stats(), *_language_models(), *refused_graphs()):
        yield Case(name, "onnx", make, must_fail=True)
    for name, shape in {"jordan": {"cell": "jordan"}, "both": {"head": "both", "bidirectional": False}}.items():
        yield Case(f"{name} as it is", "onnx", functools.partial(right, **shape))
    yield Case("8 bits as it is", "onnx", functools.partial(right, True))


def _proto(is_8_bit: bool = False) -> onnx.ModelProto:
    return onnx.load_from_string(unsealed(right(is_8_bit)))


@functools.cache
def _entries() -> dict[str, str]:
    return {entry.key: entry.value for entry in _proto().metadata_props}


def with_entries(**changes: str | None) -> bytes:
    """A sealed model with other entries in its metadata; None leaves one out."""
    proto = _proto()
    entries = {key: value for key, value in {**_entries(), **changes}.items() if value is not None}
    helper.set_model_props(proto, entries)
    return seal(proto.SerializeToString())


def _with_settings(values: Any) -> bytes:
    return with_entries(asrkit=to_json(values))


def _settings() -> Iterator[tuple[str, Callable[[], bytes]]]:
    values = json.loads(_entries()["asrkit"])
    for name, changed in strange_values(values):
        yield name, functools.partial(_with_settings, changed)
    yield "huge", functools.partial(_with_settings, put(values, ("model",), {**values["model"], **HUGE}))
    wide = {"sample_rate": 1_000_000, "frame_length_ms": 1000.0, "num_mel_bins": 1000, "delta_order": 100}
    yield "wide", functools.partial(_with_settings, put(values, ("features",), {**values["features"], **wide}))
    yield "beam", functools.partial(_with_settings, put(values, ("decoding", "beam"), 10**12))
    calibration = {"odds_weight": 1e308, "mean_weight": -1e308, "near_lm_weight": 1e308, "offset": 0.0}
    yield "calibration", functools.partial(_with_settings, put(values, ("calibration",), calibration))
    for text in ("", "null", "[]", "[" * 100_000, "{" * 100_000, "1" * 10_000, '{"format": 1', "\ud7ff", "NaN"):
        yield f"settings {text[:10]}", functools.partial(with_entries, asrkit=text)
    yield "no settings", functools.partial(with_entries, asrkit=None)
    yield "no language model", functools.partial(with_entries, lm=None)


def _phones() -> Iterator[tuple[str, Callable[[], bytes]]]:
    values = json.loads(_entries()["asrkit"])
    for phones in BAD_PHONES:
        yield f"phones {str(phones)[:40]!r}", functools.partial(_with_settings, put(values, ("phones",), phones))


def _stats() -> Iterator[tuple[str, Callable[[], bytes]]]:
    values = json.loads(_entries()["asrkit"])
    sums, squares = values["global_cmvn"]
    for name, stats in {
        "one row": [sums],
        "three rows": [sums, squares, squares],
        "rows of two lengths": [sums, squares[1:]],
        "short rows": [sums[1:], squares[1:]],
        "texts": [["1"] * 14] * 2,
        "negative count": [[*sums[:-1], -1], squares],
        "no frames": [[*sums[:-1], 0], squares],
        "NaN": [[float("nan"), *sums[1:]], squares],
        "infinity": [sums, [float("inf"), *squares[1:]]],
        "above float32": [[1e300, *sums[1:]], squares],
        "above float64": [[10**400, *sums[1:]], squares],
        "rows in rows": [[sums] * 14, [squares] * 14],
    }.items():
        yield f"statistics: {name}", functools.partial(_with_settings, put(values, ("global_cmvn",), stats))


LM_ORDER = ("backoff", "end", "log_probs", "first_arc", "shorter", "tokens", "next_context")


def _packed(**changes: np.ndarray) -> str:
    """The arrays of the language model, some of them others."""
    arrays = [changes[name] if name in changes else getattr(lm().automaton, name) for name in LM_ORDER]
    return _deflated(b"".join(map(_laid_out, arrays)))


def _laid_out(array: np.ndarray) -> bytes:
    """The bytes of an array, those of whole numbers by their place: all lowest ones first."""
    content = array.tobytes()
    size = array.itemsize if array.dtype.kind == "i" else 1
    return b"".join(content[place::size] for place in range(size))


def _deflated(content: bytes, more: bytes = b"") -> str:
    return base64.b64encode(zlib.compress(content) + more).decode()


def _zeros(size: int) -> str:
    """So many zeros, packed, of which no more than a million are ever in memory."""
    packer, block = zlib.compressobj(), bytes(2**20)
    parts = [packer.compress(block[: min(2**20, size - at)]) for at in range(0, size, 2**20)]
    return base64.b64encode(b"".join([*parts, packer.flush()])).decode()


def _language_models() -> Iterator[tuple[str, Callable[[], bytes]]]:
    values = json.loads(_entries()["lm"])

    def case(name: str, changed: Any) -> tuple[str, Callable[[], bytes]]:
        """`changed` may be a function that gives it, where that takes long."""

        def make() -> bytes:
            return with_entries(lm=to_json(changed() if callable(changed) else changed))

        return f"language model: {name}", make

    for name in LM_ARRAYS:
        for what, changed in bad_arrays(name):
            yield case(f"{name} {what}", put(values, ("arrays",), _packed(**{name: changed})))
    text, content = values["arrays"], zlib.decompress(base64.b64decode(values["arrays"]))
    assert content == zlib.decompress(base64.b64decode(_packed()))
    for packed in (Missing(), None, 5, [], [text], "", "text", "%%%", text[:-3], text[:-4], text[:40] + text[44:]):
        yield case(f"arrays {str(packed)[:12]} {len(str(packed))}", put(values, ("arrays",), packed))
    for name, packed in {
        "cut": _deflated(content[:-1]),
        "longer": _deflated(content + b"0"),
        "with more behind": _deflated(content, b"0"),
        "not packed": base64.b64encode(content).decode(),
        "of nothing": _deflated(b""),
    }.items():
        yield case(f"arrays {name}", put(values, ("arrays",), packed))
    for name in ("start", "num_classes", "num_contexts", "num_ngrams"):
        for value in (-1, 10**6, 2**31 - 1, 2**70, 0.5, "0", None, True, Missing()):
            yield case(f"{name} {value!r}", put(values, (name,), value))
    for name in ("num_classes", "num_contexts", "num_ngrams"):
        for value in (0, values[name] - 1, values[name] + 1):
            yield case(f"{name} {value!r}", put(values, (name,), value))
    for floats in (Missing(), None, 8, "<f2", "<i8", ">f8", "<f4"):
        yield case(f"floats {floats!r}", put(values, ("floats",), floats))
    many = {**values, "num_contexts": 2**22, "num_ngrams": 2**22}
    yield case("a gigabyte of zeros", lambda: put(many, ("arrays",), _zeros(44 * 2**22 + 8)))
    yield case("more than there is", {**values, "order": 3})
    for text in ("", "null", "[]", "[" * 100_000, "1" * 10_000):
        yield f"language model {text[:10]}", functools.partial(with_entries, lm=text)
    yield case("a cycle", put(values, ("arrays",), _packed(shorter=_cyclic())))
    yield case("contexts of 100000 phones", _deep(100_000))


def _cyclic() -> np.ndarray:
    shorter = lm().automaton.shorter.copy()
    shorter[-2:] = len(shorter) - 1, len(shorter) - 2
    return shorter


def _deep(num_contexts: int) -> dict[str, Any]:
    """A language model whose every context's shorter one is that before it."""
    num_tokens = lm().automaton.num_classes - 1
    first_arc = np.minimum(np.arange(num_contexts + 1), 1) * num_tokens
    arrays = {
        "first_arc": first_arc.astype(np.int64),
        "tokens": np.arange(1, num_tokens + 1, dtype=np.int32),
        "log_probs": np.full(num_tokens, -1.0),
        "next_context": np.full(num_tokens, num_contexts - 1, np.int32),
        "shorter": np.maximum(np.arange(num_contexts) - 1, 0).astype(np.int32),
        "backoff": np.zeros(num_contexts),
        "end": np.zeros(num_contexts),
    }
    counts = {"start": 0, "num_classes": num_tokens + 1, "num_contexts": num_contexts, "num_ngrams": num_tokens}
    return {**counts, "floats": "<f8", "arrays": _packed(**arrays)}


def _graphs() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Changes after which a graph may or may not be one that a network has."""
    num_nodes, num_tensors = len(_proto().graph.node), len(_proto().graph.initializer)
    for index in range(num_nodes):
        yield f"node {index} left out", functools.partial(_edited, lambda graph, i: graph.node.pop(i), index)
        yield (
            f"node {index} twice",
            functools.partial(_edited, lambda graph, i: graph.node.append(graph.node[i]), index),
        )
        yield f"node {index} with other inputs", functools.partial(_edited, _other_inputs, index)
    in_8_bits = [
        index for index, each in enumerate(_proto(True).graph.initializer) if each.data_type == TensorProto.INT8
    ]
    tensors = [(False, index) for index in range(num_tensors)]
    tensors += [(True, index + more) for index in in_8_bits for more in (0, 1)]  # with its scales, which follow it
    edits = {"left out": lambda graph, i: graph.initializer.pop(i), "flat": _flat, "negative": _negative}
    edits |= {"large": _large, "with one dimension more": _more_dimensions}
    for is_8_bit, index in tensors:
        for name, edit in edits.items():
            yield f"tensor {index}{' of 8 bits' * is_8_bit} {name}", functools.partial(_edited, edit, index, is_8_bit)


def _edited(edit: Callable[[onnx.GraphProto, int], object], index: int, is_8_bit: bool = False) -> bytes:
    proto = _proto(is_8_bit)
    edit(proto.graph, index)
    return seal(proto.SerializeToString())


def _other_inputs(graph: onnx.GraphProto, index: int) -> None:
    inputs = list(graph.node[index].input)
    del graph.node[index].input[:]
    graph.node[index].input.extend([*inputs[1:], "static"])


def _put_tensor(graph: onnx.GraphProto, index: int, array: np.ndarray) -> None:
    graph.initializer[index].CopyFrom(numpy_helper.from_array(array, graph.initializer[index].name))


def _flat(graph: onnx.GraphProto, index: int) -> None:
    _put_tensor(graph, index, numpy_helper.to_array(graph.initializer[index]).reshape(-1))


def _negative(graph: onnx.GraphProto, index: int) -> None:
    _put_tensor(graph, index, -numpy_helper.to_array(graph.initializer[index]) - 1)


def _large(graph: onnx.GraphProto, index: int) -> None:
    array = numpy_helper.to_array(graph.initializer[index])
    _put_tensor(graph, index, array + np.asarray(100 if array.dtype == np.int8 else 10**5, array.dtype))


def _more_dimensions(graph: onnx.GraphProto, index: int) -> None:
    _put_tensor(graph, index, numpy_helper.to_array(graph.initializer[index])[None])


def refused_graphs() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """What no export has."""

    def case(edit: Callable[[onnx.ModelProto], object]) -> tuple[str, Callable[[], bytes]]:
        def make() -> bytes:
            proto = _proto()
            edit(proto)
            return seal(proto.SerializeToString())

        return edit.__name__.strip("_").replace("_", " "), make

    yield from map(case, _EDITS)
    for operator in ("Loop", "If", "Expand", "Tile", "ConstantOfShape", "RandomNormal", "EyeLike", "Resize", "OneHot"):
        yield f"operator {operator}", functools.partial(_with_operator, operator, "")
    for domain in ("com.microsoft", "ai.onnx.ml", "evil"):
        yield f"operator of {domain}", functools.partial(_with_operator, "PyOp", domain)
    for value in (np.nan, np.inf, -np.inf):
        yield f"weights {value}", functools.partial(_with_weight, value)
        yield f"scale {value}", functools.partial(_with_weight, value, is_8_bit=True)
    for name, change in {
        "a number short": lambda tensor: setattr(tensor, "raw_data", tensor.raw_data[:-1]),
        "a number more": lambda tensor: setattr(tensor, "raw_data", tensor.raw_data + b"0"),
        "in a field of numbers": _in_a_field,
        "in another file": lambda tensor: setattr(tensor, "data_location", TensorProto.EXTERNAL),
        "of terabytes": lambda tensor: tensor.dims.__setitem__(slice(None), [2**20, 2**20]),
        "without signs": lambda tensor: setattr(tensor, "data_type", TensorProto.UINT8),
        "of 16 bits": lambda tensor: setattr(tensor, "data_type", TensorProto.INT16),
    }.items():
        yield f"8-bit weights {name}", functools.partial(_with_changed_8_bits, change)
    for operator in ("DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"):
        yield f"operator {operator}", functools.partial(_with_operator, operator, "")
    values = json.loads(_entries()["asrkit"])
    yield "another direction", functools.partial(_with_settings, put(values, ("model", "bidirectional"), False))
    yield "graph twice", lambda: seal(unsealed(right()) + b"\x3a\x00")
    for name, content in {
        "no message": b"",
        "words": b"these are words",
        "wire type": b"\x0f",
        "long number": b"\x08" + b"\xff" * 20,
        "long message": b"\x3a\xff\xff\xff\xff\x0f",
        "graph alone": b"\x3a\x00",
    }.items():
        yield name, functools.partial(seal, content)


def _with_operator(operator: str, domain: str) -> bytes:
    proto = _proto()
    proto.graph.node.insert(0, helper.make_node(operator, ["static"], ["unused"], domain=domain))
    if domain:
        proto.opset_import.append(helper.make_opsetid(domain, 1))
    return seal(proto.SerializeToString())


def _with_changed_8_bits(change: Callable[[onnx.TensorProto], object]) -> bytes:
    proto = _proto(is_8_bit=True)
    change(next(tensor for tensor in proto.graph.initializer if tensor.data_type == TensorProto.INT8))
    return seal(proto.SerializeToString())


def _in_a_field(tensor: onnx.TensorProto) -> None:
    tensor.int32_data.extend(np.frombuffer(tensor.raw_data, np.int8).tolist())
    tensor.ClearField("raw_data")


def _with_weight(value: float, is_8_bit: bool = False) -> bytes:
    """Another number among weights, or with `is_8_bit` among scales."""
    proto = _proto(is_8_bit)
    index = next(
        i for i, tensor in enumerate(proto.graph.initializer) if tensor.data_type == 1 and len(tensor.dims) > 1
    )
    array = numpy_helper.to_array(proto.graph.initializer[index]).copy()
    array.flat[3] = value
    _put_tensor(proto.graph, index, array)
    return seal(proto.SerializeToString())


def _external_data(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def _location_alone(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL


def _short_tensor(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].raw_data = b""


def _tensor_cut_in_a_number(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-1]


def _tensor_of_nine_dimensions(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims.extend([1] * (9 - len(proto.graph.initializer[0].dims)))


def _tensor_of_terabytes(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[:] = [2**20, 2**20]


def _negative_shape(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[:] = [-1]


def _texts_as_weights(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(helper.make_tensor("text", TensorProto.STRING, [1], [b"text"]))


def _sparse_weights(proto: onnx.ModelProto) -> None:
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("at", TensorProto.INT64, [1], [3])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10**12]))


def _range_of_terabytes(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(helper.make_tensor("end", TensorProto.INT64, [1], np.int64(10**12).tobytes(), True))


def _range_from_the_lowest_number(proto: onnx.ModelProto) -> None:
    """Its magnitude is no number of 64 bits."""
    low = np.int64(-(2**63)).tobytes()
    proto.graph.initializer.append(helper.make_tensor("end", TensorProto.INT64, [1], low, True))


def _attribute_of_terabytes(proto: onnx.ModelProto) -> None:
    conv = next(node for node in proto.graph.node if node.op_type == "Conv")
    conv.attribute.append(helper.make_attribute("pads", [10**9, 10**9]))


def _attribute_text(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].attribute.append(helper.make_attribute("library", "/tmp/evil.so"))


def _graph_in_an_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].attribute.append(helper.make_attribute("body", helper.make_graph([], "inner", [], [])))


def _loop_in_a_loop(proto: onnx.ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Scan", ["a"], ["b"])], "inner", [], [])
    proto.graph.node.append(helper.make_node("Scan", ["static"], ["unused"], body=inner, num_scan_inputs=1))


def _tensor_in_an_attribute(proto: onnx.ModelProto) -> None:
    value = helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0])
    proto.graph.node[0].attribute.append(helper.make_attribute("value", value))


def _functions(proto: onnx.ModelProto) -> None:
    proto.functions.append(helper.make_function("evil", "f", ["a"], ["b"], [], []))


def _training_info(proto: onnx.ModelProto) -> None:
    proto.training_info.add()


def _newer_operators(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 99


def _no_operators(proto: onnx.ModelProto) -> None:
    del proto.opset_import[:]


def _no_graph(proto: onnx.ModelProto) -> None:
    proto.ClearField("graph")


def _output_missing(proto: onnx.ModelProto) -> None:
    proto.graph.output.pop()


def _output_more(proto: onnx.ModelProto) -> None:
    proto.graph.output.append(helper.make_tensor_value_info(proto.graph.node[0].output[0], TensorProto.DOUBLE, None))


def _output_of_another_size(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 10**6


def _output_renamed(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].name = proto.graph.node[-1].output[0] = "other"


def _input_of_another_size(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 7


def _input_more(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def _unknown_entry(proto: onnx.ModelProto) -> None:
    proto.metadata_props.add(key="ort_config", value="{}")


def _entry_twice(proto: onnx.ModelProto) -> None:
    proto.metadata_props.append(proto.metadata_props[0])


_EDITS = (
    _external_data,
    _location_alone,
    _short_tensor,
    _tensor_cut_in_a_number,
    _tensor_of_nine_dimensions,
    _tensor_of_terabytes,
    _negative_shape,
    _texts_as_weights,
    _sparse_weights,
    _range_of_terabytes,
    _range_from_the_lowest_number,
    _attribute_of_terabytes,
    _attribute_text,
    _graph_in_an_operator,
    _loop_in_a_loop,
    _tensor_in_an_attribute,
    _functions,
    _training_info,
    _newer_operators,
    _no_operators,
    _no_graph,
    _output_missing,
    _output_more,
    _output_of_another_size,
    _output_renamed,
    _input_of_another_size,
    _input_more,
    _unknown_entry,
    _entry_twice,
)
