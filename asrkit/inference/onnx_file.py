"""Check an ONNX file before onnxruntime loads it: it may contain only what `asrkit export` writes.

onnxruntime would read weights from other files that a model names, run loops without an end, and make tensors of any
size that a number in the graph asks for. So operators, texts of attributes, types of tensors and parts of messages are
those of the export; whole numbers are small; every tensor is as long as its shape says, and holds finite numbers. What
is not seen here: a graph of these operators that multiplies sizes. The file is read as Protocol Buffers say
(protobuf.dev/programming-guides/encoding), with the numbers of fields from onnx.proto: the `onnx` package takes longer
to load than all of this.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

_MAX_WHOLE = 2**17  # of the whole numbers in a graph: sizes, shapes, axes
_MAX_RANK = 8
_OPSETS = {"": 17}

_COMMON = ("Add", "Identity", "MatMul", "Mul")
_IN_LOOPS = frozenset({*_COMMON, "Relu", "Sigmoid", "Split", "Tanh"})
_OPERATORS = frozenset(
    {
        *_COMMON,
        *("Cast", "Concat", "Conv", "Div", "Flatten", "GRU", "Gather", "Greater", "LSTM", "LayerNormalization", "Less"),
        *("LogSoftmax", "Max", "Min", "Pad", "RNN", "Range", "Reciprocal", "ReduceSum", "ReduceSumSquare", "Relu"),
        *("Reshape", "Scan", "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Transpose"),
        *("Unsqueeze", "Where"),
    }
)
_WORDS = frozenset({b"forward", b"bidirectional", b"edge", b"constant", b"Tanh", b"Relu"})  # texts of attributes
_DTYPES = {1: "<f4", 3: "<i1", 7: "<i8", 11: "<f8"}  # of tensors

# The fields that messages may have, by their numbers: name, and whether it may come more than once.
_Fields = Mapping[int, tuple[str, bool]]
_MODEL: _Fields = {
    1: ("ir_version", False),
    2: ("producer", False),
    3: ("producer_version", False),
    7: ("graph", False),
    8: ("opsets", True),
    14: ("metadata", True),
}
_OPSET: _Fields = {1: ("domain", False), 2: ("version", False)}
_ENTRY: _Fields = {1: ("key", False), 2: ("value", False)}
_GRAPH: _Fields = {
    1: ("nodes", True),
    2: ("name", False),
    5: ("tensors", True),
    11: ("inputs", True),
    12: ("outputs", True),
    13: ("values", True),
}
_NODE: _Fields = {
    1: ("inputs", True),
    2: ("outputs", True),
    3: ("name", False),
    4: ("operator", False),
    5: ("attributes", True),
    7: ("domain", False),
}
_ATTRIBUTE: _Fields = {
    1: ("name", False),
    2: ("number", False),
    3: ("whole", False),
    4: ("text", False),
    6: ("graph", False),
    8: ("wholes", True),
    9: ("texts", True),
    20: ("type", False),
}
_TENSOR: _Fields = {
    1: ("dims", True),
    2: ("dtype", False),
    8: ("name", False),
    9: ("raw", False),
    14: ("location", False),
}


class OnnxFault(Exception):
    """A fault of an ONNX file, as a message that follows its name."""


@dataclass(frozen=True)
class _Message:
    """A message's fields by name: whole numbers, or bytes."""

    kind: str
    fields: Mapping[str, list[int | memoryview]]

    def wholes(self, name: str) -> list[int]:
        """Whole numbers, signed; also those that are packed into one field."""
        numbers: list[int] = []
        for value in self.fields.get(name, ()):
            numbers += [value] if isinstance(value, int) else _packed(value)
        return [number - 2**64 if number >= 2**63 else number for number in numbers]

    def whole(self, name: str, default: int = 0) -> int:
        return next(iter(self.wholes(name)), default)

    def parts(self, name: str) -> list[memoryview]:
        """Bytes: messages, texts, contents of tensors."""
        parts = self.fields.get(name, ())
        found = [part for part in parts if isinstance(part, memoryview)]
        if len(found) != len(parts):
            raise OnnxFault(f"{self.kind}: a number in place of {name}")
        return found

    def text(self, name: str) -> str:
        return _decode(next(iter(self.parts(name)), memoryview(b"")))


@dataclass(frozen=True)
class OnnxContent:
    """What a file holds besides the graph: the entries of its metadata, and all constants by their names."""

    metadata: dict[str, str]
    constants: dict[str, np.ndarray]


def checked_content(content: bytes) -> OnnxContent:
    """What is in an ONNX file, after its graph was looked at. Raises OnnxFault."""
    model = _parse(memoryview(content), "model", _MODEL)
    opsets = [_parse(part, "opset", _OPSET) for part in model.parts("opsets")]
    found = {opset.text("domain"): opset.whole("version") for opset in opsets}
    if len(found) != len(opsets) or found != _OPSETS:
        raise OnnxFault(f"operator sets {found}; expected {_OPSETS}")
    graphs = model.parts("graph")
    if not graphs:
        raise OnnxFault("no graph")
    constants = _check_graph(graphs[0], _OPERATORS)
    entries = [_parse(part, "metadata", _ENTRY) for part in model.parts("metadata")]
    metadata = {entry.text("key"): entry.text("value") for entry in entries}
    if len(metadata) != len(entries):
        raise OnnxFault("metadata with an entry twice")
    return OnnxContent(metadata, constants)


def count_weights(content: bytes) -> int:
    """How many numbers the tensors of a checked ONNX file hold, but for 64-bit whole numbers, which are no weights.

    Besides the trained weights these are the constants of the features and the scales of 8-bit weights.
    """
    return sum(map(_count, _parse(memoryview(content), "model", _MODEL).parts("graph")))


def _count(content: memoryview) -> int:
    graph = _parse(content, "graph", _GRAPH)
    tensors = [_parse(part, "tensor", _TENSOR) for part in graph.parts("tensors")]
    nodes = [_parse(part, "node", _NODE) for part in graph.parts("nodes")]
    attributes = [_parse(part, "attribute", _ATTRIBUTE) for node in nodes for part in node.parts("attributes")]
    own = sum(math.prod(each.wholes("dims")) for each in tensors if np.dtype(_DTYPES[each.whole("dtype")]).itemsize < 8)
    return own + sum(_count(body) for attribute in attributes for body in attribute.parts("graph"))


def _check_graph(content: memoryview, operators: frozenset[str]) -> dict[str, np.ndarray]:
    """The graph's constants."""
    graph = _parse(content, "graph", _GRAPH)
    constants = dict(_checked_tensor(_parse(part, "tensor", _TENSOR)) for part in graph.parts("tensors"))
    if len(constants) != len(graph.parts("tensors")):
        raise OnnxFault("a tensor's name twice")
    for part in graph.parts("nodes"):
        node = _parse(part, "node", _NODE)
        domain, operator = node.text("domain"), node.text("operator")
        if domain or operator not in operators:
            raise OnnxFault(f"the operator {f'{domain} {operator}'.strip()!r}, which no export has")
        for attribute in node.parts("attributes"):
            _check_attribute(_parse(attribute, "attribute", _ATTRIBUTE), operator)
    return constants


def _check_attribute(attribute: _Message, operator: str) -> None:
    where = f"attribute {attribute.text('name')!r} of {operator}"
    numbers = [*attribute.wholes("whole"), *attribute.wholes("wholes")]
    if any(abs(number) > _MAX_WHOLE for number in numbers):
        raise OnnxFault(f"{where}: {max(numbers, key=abs)}; expected {_MAX_WHOLE} at most")
    texts = [bytes(text) for name in ("text", "texts") for text in attribute.parts(name)]
    if not _WORDS.issuperset(texts):
        raise OnnxFault(f"{where}: {texts}; expected one of {sorted(_WORDS)}")
    for body in attribute.parts("graph"):
        if operator != "Scan":
            raise OnnxFault(f"{where}: a graph")
        _check_graph(body, _IN_LOOPS)


def _checked_tensor(tensor: _Message) -> tuple[str, np.ndarray]:
    """A tensor's name and its numbers."""
    name, dims, dtype = tensor.text("name"), tensor.wholes("dims"), tensor.whole("dtype")
    where = f"tensor {name!r}"
    if tensor.whole("location") != 0:
        raise OnnxFault(f"{where}: its numbers are in another file")
    if dtype not in _DTYPES or len(dims) > _MAX_RANK or any(dim < 0 for dim in dims):
        raise OnnxFault(f"{where}: type {dtype}, shape {dims}; expected types {list(_DTYPES)}, lengths of 0 or more")
    layout = np.dtype(_DTYPES[dtype])
    values: bytes | memoryview = next(iter(tensor.parts("raw")), b"")
    if len(values) != math.prod(dims) * layout.itemsize:
        raise OnnxFault(f"{where}: not as many {layout.name} numbers as its shape {dims} has")
    numbers = np.frombuffer(values, layout)
    _check_numbers(numbers, where)
    return name, numbers.reshape(dims)


def _check_numbers(numbers: np.ndarray, where: str) -> None:
    if numbers.dtype.kind == "f":  # -inf alone is what a model without CTC gives its blank
        if not np.isfinite(numbers).all() and not np.array_equal(numbers, [-np.inf]):
            raise OnnxFault(f"{where}: numbers that are not finite")
    elif numbers.dtype.itemsize == 8 and not (np.abs(numbers.clip(-(2**62))) <= _MAX_WHOLE).all():
        raise OnnxFault(f"{where}: whole numbers above {_MAX_WHOLE}")


def _parse(content: memoryview, kind: str, known: _Fields) -> _Message:
    fields: dict[str, list[int | memoryview]] = {}
    for number, value in _fields(content):
        name, is_repeated = known.get(number, (f"field {number}", False))
        if number not in known or (name in fields and not is_repeated):
            raise OnnxFault(f"{kind}: {name} {'once too often' if name in fields else 'is not what an export has'}")
        fields.setdefault(name, []).append(value)
    return _Message(kind, fields)


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: their numbers, and what they hold."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        match tag & 7:
            case 0:
                value, at = _varint(content, at)
                yield tag >> 3, value
                continue
            case 1:
                size = 8
            case 2:
                size, at = _varint(content, at)
            case 5:
                size = 4
            case other:
                raise OnnxFault(f"not an ONNX file (wire type {other})")
        if size > len(content) - at:
            raise OnnxFault("not an ONNX file, or cut short")
        yield tag >> 3, content[at : at + size]
        at += size


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """A whole number of 64 bits, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            raise OnnxFault("not an ONNX file, or cut short")
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 2**64 - 1, at
    raise OnnxFault("not an ONNX file (a number of more than 64 bits)")


def _packed(content: memoryview) -> list[int]:
    numbers, at = [], 0
    while at < len(content):
        number, at = _varint(content, at)
        numbers.append(number)
    return numbers


def _decode(text: memoryview) -> str:
    try:
        return bytes(text).decode()
    except UnicodeDecodeError:
        raise OnnxFault("a text that is not UTF-8") from None
