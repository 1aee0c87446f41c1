"""The registries of the network's parts have what its settings offer, and each entry can be loaded."""

from typing import get_args

import pytest

from asrkit.models.cells import CELLS, CellName
from asrkit.models.frontends import FRONT_ENDS, FrontEndName
from asrkit.models.heads import HEADS, HeadName
from asrkit.models.inits import INITS, InitName


@pytest.mark.parametrize(
    ("registry", "names"), [(CELLS, CellName), (FRONT_ENDS, FrontEndName), (HEADS, HeadName), (INITS, InitName)]
)
def test_a_registry_has_the_names_that_its_setting_takes(registry, names):
    assert set(registry) == set(get_args(names))


@pytest.mark.parametrize("choice", [*CELLS.values(), *FRONT_ENDS.values(), *INITS.values()], ids=lambda c: c.name)
def test_what_a_choice_stands_for_is_there(choice):
    assert callable(choice.load())
