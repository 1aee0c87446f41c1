"""Check an ONNX file before onnxruntime loads it: it may contain only what `asrkit export` writes.

A model file can come from a stranger. onnxruntime would read weights from other files that the model names, run endless
loops, and allocate tensors of any size. So this module accepts only the export's operators, attribute texts, tensor
types and message fields. Whole numbers must be small. Each tensor must have the size of its shape, and finite numbers.
One thing is not checked: a graph can still multiply sizes with these operators.

The file is read as Protocol Buffers (protobuf.dev/programming-guides/encoding), with the field numbers of onnx.proto.
The package `onnx` is not used here, because it takes longer to load than everything else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

_MAX_WHOLE = 2**17  # the largest whole number in a graph: a size, a shape or an axis
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

# The fields of messages: number -> name, and whether the field can occur more than once.
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
    """A fault of an ONNX file. Its message follows the name of the file."""


@dataclass(frozen=True)
class _Message:
    """The fields of a message by name: whole numbers, or bytes."""

    kind: str
    fields: Mapping[str, list[int | memoryview]]

    def wholes(self, name: str) -> list[int]:
        """The signed whole numbers of a field, also if they are packed."""
        numbers: list[int] = []
        for value in self.fields.get(name, ()):
            numbers += [value] if isinstance(value, int) else _packed(value)
        return [number - 2**64 if number >= 2**63 else number for number in numbers]

    def whole(self, name: str, default: int = 0) -> int:
        return next(iter(self.wholes(name)), default)

    def parts(self, name: str) -> list[memoryview]:
        """The bytes of a field: messages, texts or contents of tensors."""
        parts = self.fields.get(name, ())
        found = [part for part in parts if isinstance(part, memoryview)]
        if len(found) != len(parts):
            raise OnnxFault(f"{self.kind}: a number in place of {name}")
        return found

    def text(self, name: str) -> str:
        return _decode(next(iter(self.parts(name)), memoryview(b"")))


@dataclass(frozen=True)
class OnnxContent:
    """The contents of a file besides the graph.

    Attributes:
        metadata: its metadata entries.
        constants: name -> constant, an array of any shape.
    """

    metadata: dict[str, str]
    constants: dict[str, np.ndarray]


def checked_content(content: bytes) -> OnnxContent:
    """Check the graph of an ONNX file, and return the other contents of the file.

    Raises:
        OnnxFault: the file is damaged, or contains something that no export has.
    """
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
    """Count the numbers in the tensors of a checked ONNX file.

    64-bit whole numbers do not count, since they are no weights.

    Besides the trained weights, these are constants of the features and scales of 8-bit weights.
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
    """Check a graph. Returns its constants."""
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
    """The name of a tensor and its numbers."""
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
    if numbers.dtype.kind == "f":  # a single -inf is the blank of a model without CTC
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
    """Yield the fields of a message: their numbers and contents."""
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
    """Read a 64-bit whole number. Returns it, and where it ends."""
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
