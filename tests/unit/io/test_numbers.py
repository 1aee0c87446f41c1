"""Numbers of text are read in one place, which takes what people write and nothing else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import asrkit
from asrkit.io.numbers import MAX_WHOLE, is_number, parse_number, parse_whole

PACKAGE = Path(asrkit.__file__).parent
READERS = ("audio", "cli", "config", "corpora", "formats", "io", "lang", "reporting", "stages")
READS_NUMBERS = ("int", "float", "complex")
# What NumPy, a random generator or an array gives is no text.
ARRAYS = re.compile(r"(np|rng)[.].*|.*[.](mean|sum)\(\)")
# Other calls of int and float on what is no text of a file: numbers, bits that Python itself wrote, parts of ids that
# the reader made of numbers.
NO_TEXT = {
    "audio/ogg.py": ("f'{byte:08b}'[::-1]", "f'{crc:032b}'[::-1]"),
    "corpora/farsdat.py": ("utt.spk_id", "utt.utt_id.rsplit('_', 1)[1]"),
    "corpora/mini.py": ("sounding[-1]",),
    "reporting/attention.py": ("piece.weights.max()",),
    "reporting/embeddings.py": ("share", "chance"),
    "stages/rescoring.py": (
        "scores[0] - config.lm_weight * scores[1] - config.insertion_bonus * len(phones)",
        "scores.argmax()",
    ),
    "reporting/calibration.py": ("number", "confidence / number", "accuracy / number", "'nan'"),
    "io/numbers.py": ("text",),
    "io/tables.py": ("self.values_by_row[self.keys_by_row.row(key)]",),
}
# JSON is read by io/json_text.py, whose numbers are finite.
READS_JSON = {"io/json_text.py", "corpora/espeak.py", "inference/onnx_metadata.py"}


def number_readings(source: str) -> Iterator[tuple[int, str]]:
    """Line and argument of each call of int, float or complex; what is not called but handed on has no argument."""
    tree = ast.parse(source)
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    types = {id(part) for node in ast.walk(tree) for part in type_parts(node)}
    types |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}  # int.from_bytes
    for node in ast.walk(tree):
        call = called.get(id(node))
        if isinstance(node, ast.Name) and node.id in READS_NUMBERS and (call is not None or id(node) not in types):
            yield node.lineno, ast.unparse(call.args[0]) if call is not None and call.args else ""


def type_parts(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node that name types: of annotations, comparisons, brackets, keys, and calls that take types."""
    places: list[ast.AST | None] = []
    if isinstance(node, ast.arg | ast.AnnAssign):
        places = [node.annotation]
    elif isinstance(node, ast.FunctionDef):
        places = [node.returns]
    elif isinstance(node, ast.Subscript):
        places = [node.slice]
    elif isinstance(node, ast.Compare):
        places = list(node.comparators)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        places = [node.left, node.right]
    elif isinstance(node, ast.Dict):
        places = list(node.keys)
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
        places = [node.value]
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
        "isinstance",
        "TypeVar",
        "np.array",
        "self._take",
        "np.zeros",
    ):
        places = list(node.args[1:] if ast.unparse(node.func) != "self._take" else node.args[:1])
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".astype"):
        places = list(node.args)
    for place in places:
        if place is not None:
            yield from ast.walk(place)


def test_numbers_of_text_are_read_in_one_place() -> None:
    found = set()
    faults = []
    for package in READERS:
        for path in sorted((PACKAGE / package).rglob("*.py")):
            file = path.relative_to(PACKAGE).as_posix()
            for line, argument in number_readings(path.read_text(encoding="utf-8")):
                found.add((file, argument))
                if argument not in NO_TEXT.get(file, ()) and not ARRAYS.fullmatch(argument):
                    faults.append(f"{file}:{line}: int or float of {argument or 'what is not said'}")
    assert faults == []
    assert {(file, text) for file, texts in NO_TEXT.items() for text in texts} <= found  # the table is up to date


@pytest.mark.parametrize(
    "source",
    [
        "int(text)",
        "x = float(fields[0])",
        "map(int, fields)",
        "add(type=float)",
        "(int(f) for f in text)",
        "x[int(text)]",
    ],
)
def test_a_reading_is_found(source: str) -> None:
    assert len(list(number_readings(source))) == 1


@pytest.mark.parametrize(
    "source", ["def f(x: int | None) -> dict[str, float]: ...", "isinstance(x, int)", "kind is int"]
)
def test_a_type_is_no_reading(source: str) -> None:
    assert list(number_readings(source)) == []


def test_json_is_read_in_one_place() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if any(isinstance(node, ast.Attribute) and ast.unparse(node) in ("json.load", "json.loads") for node in nodes):
            found.add(path.relative_to(PACKAGE).as_posix())
    assert found == READS_JSON


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("7", 7), ("+7", 7), ("007", 7), ("0" * 300 + "7", 7), (str(2**63 - 1), 2**63 - 1), ("-0", 0)],
)
def test_whole_numbers(text: str, value: int) -> None:
    assert parse_whole(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 7",
        "7 ",
        "7\n",
        "-7",
        "1_000",
        "٧",
        "²",
        "7.0",
        "0x7",
        "7\0",
        str(2**63),
        "9" * 5000,
        "0" * 5000,
        "1e3",
        "nan",
    ],
)
def test_what_is_no_whole_number(text: str) -> None:
    assert parse_whole(text) is None


def test_ranges_of_whole_numbers() -> None:
    assert parse_whole("-7", low=-7) == -7
    assert parse_whole(str(-MAX_WHOLE), low=-MAX_WHOLE) == -MAX_WHOLE
    assert parse_whole("-8", low=-7) is None
    assert parse_whole("8", high=7) is None
    assert parse_whole("7", high=7) == 7


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0.0),
        ("-1.5", -1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e-3", 1e-3),
        ("+2E+2", 200.0),
        ("1" * 300, float("1" * 300)),
    ],
)
def test_decimal_numbers(text: str, value: float) -> None:
    assert parse_number(text) == value
    assert is_number(text)


@pytest.mark.parametrize("text", ["", ".", "nan", "inf", "-inf", "1_0", "١", "0x1p3", "1e", "1,5", "1 ", "1\0", "--1"])
def test_what_is_no_decimal_number(text: str) -> None:
    assert parse_number(text) is None
    assert not is_number(text)


def test_ranges_of_decimal_numbers() -> None:
    assert parse_number("1e999") is None
    assert parse_number("1" * 400) is None
    assert is_number("1e999")
    assert parse_number("1e9", high=1e9) == 1e9
    assert parse_number("1.0000001e9", high=1e9) is None
    assert parse_number("-0.1", low=0.0) is None
