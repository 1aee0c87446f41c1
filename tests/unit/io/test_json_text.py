import ast
import json
import math
from pathlib import Path

import pytest

import asrkit
from asrkit.io.json_text import json_text, parse_json, write_json

PACKAGE = Path(asrkit.__file__).parent


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_json_reaches_no_file(tmp_path: Path, number: float) -> None:
    path = tmp_path / "figures.json"
    write_json(path, {"before": 1})
    with pytest.raises(ValueError):
        json_text({"figure": [number]})
    with pytest.raises(ValueError):
        write_json(path, {"figure": [number]})
    assert json.loads(path.read_text()) == {"before": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [2**63, -(2**63), 10**400, "1e400", "NaN"])
def test_numbers_that_no_json_of_ours_has(number: int | str) -> None:
    assert parse_json(f"[{2**63 - 1}, {1 - 2**63}, 1e300]") == [2**63 - 1, 1 - 2**63, 1e300]
    with pytest.raises(ValueError, match=r"a whole number of more than 64 bits|expected a finite number"):
        parse_json(f"[{number}]")


def test_undefined_figures_are_null_and_symbols_stay_themselves(tmp_path: Path) -> None:
    write_json(tmp_path / "figures.json", {"per": None, "phone": "ʃ"})
    assert (tmp_path / "figures.json").read_bytes() == '{\n "per": null,\n "phone": "ʃ"\n}\n'.encode()
    assert json_text({"per": None, "phone": "ʃ"}) == '{"per": null, "phone": "ʃ"}'


def test_json_is_written_in_one_place() -> None:
    """A fingerprint is made of JSON-like text, which is written nowhere."""
    writers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("json.dump", "json.dumps", "json.JSONEncoder"):
                writers.add(str(path.relative_to(PACKAGE)))
    assert writers == {"io/json_text.py", "io/stamp.py"}
