"""Values of a model file become settings only when every one is of its declared type."""

import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

import pytest

from asrkit.config.plain_values import from_plain, is_of_type, shown
from asrkit.config.ranges import at_most
from asrkit.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    size: Annotated[int, at_most(9)] = 3
    rate: float = 0.5
    is_on: bool = True
    name: Literal["a", "b"] = "a"
    limit: float | None = None


def test_what_was_written_comes_back():
    for settings in (Settings(), Settings(1, 2, False, "b", 7.5)):
        assert from_plain(Settings, asdict(settings), "s") == settings


def test_what_an_older_file_lacks_has_its_default():
    older = {"size": 4, "rate": 1.5, "is_on": False, "name": "b"}
    assert from_plain(Settings, older, "s", ["limit"]) == Settings(4, 1.5, False, "b", None)
    with pytest.raises(ConfigError, match=r"^s\.rate: missing$"):
        from_plain(Settings, {"size": 4, "is_on": False, "name": "b"}, "s", ["limit"])


@dataclass(frozen=True)
class Outer:
    inner: Settings = field(default_factory=Settings)


def test_sections_within_are_read_and_checked_too():
    assert from_plain(Outer, asdict(Outer(Settings(7, name="b"))), "o") == Outer(Settings(7, name="b"))
    assert from_plain(Outer, {}, "o", ["inner"]) == Outer()
    lacking = {"inner": {"size": 4, "rate": 1.5, "is_on": False, "name": "b"}}
    assert from_plain(Outer, lacking, "o", ["inner.limit"]) == Outer(Settings(4, 1.5, False, "b", None))
    with pytest.raises(ConfigError, match=r"^o\.inner\.limit: missing$"):
        from_plain(Outer, lacking, "o", ["limit", "inner.rate"])
    with pytest.raises(ConfigError, match=r"^o\.inner\.size: expected a whole number, found 'x'$"):
        from_plain(Outer, {"inner": {**asdict(Settings()), "size": "x"}}, "o")
    with pytest.raises(ConfigError, match=r"^o\.inner: expected values by their names, found 3$"):
        from_plain(Outer, {"inner": 3}, "o")


def test_every_fault_is_named():
    values = {"size": 2.5, "rate": math.nan, "is_on": 1, "name": "c", "more": "x" * 100}
    with pytest.raises(ConfigError) as caught:
        from_plain(Settings, values, "s")
    assert str(caught.value).split("\n") == [
        "s: unknown setting 'more'",
        "s.limit: missing",
        "s.size: expected a whole number, found 2.5",
        "s.rate: expected a finite number, found nan",
        "s.is_on: expected true or false, found 1",
        "s.name: expected one of a, b, found 'c'",
    ]
    with pytest.raises(ConfigError, match=r"s: expected values by their names, found \[\]"):
        from_plain(Settings, [], "s")


@pytest.mark.parametrize(
    ("hint", "right", "wrong"),
    [
        (int, [0, -1, 10**400], [1.0, True, "1", None]),
        (float, [1, -2.5, 0], [math.inf, -math.inf, math.nan, 10**400, True, "1", None, [1.0]]),
        (bool, [True, False], [0, 1, "true", None]),
        (str, ["", "x"], [b"x", 1, None, ["x"]]),
        (str | None, ["x", None], [0, False]),
        (float | None, [1, 2.5, None], ["1", math.nan]),
        (Literal["a", "b"], ["a"], ["c", 1, None, ["a"], {}]),
    ],
)
def test_types(hint, right, wrong):
    assert all(is_of_type(value, hint) for value in right)
    assert not any(is_of_type(value, hint) for value in wrong)


def test_long_values_are_shown_in_part():
    assert shown("x" * 1000) == f"'{'x' * 59}..."
    assert "\n" not in shown("a\nb")
