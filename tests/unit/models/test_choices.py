"""What the registries of the network's parts name can be loaded."""

import pytest

from asrkit.models.cells import CELLS
from asrkit.models.encoders import ENCODERS
from asrkit.models.frontends import FRONT_ENDS
from asrkit.models.inits import INITS
from asrkit.models.language_config import NETWORKS, SEARCH_NETWORKS

CHOICES = [*CELLS.values(), *ENCODERS.values(), *FRONT_ENDS.values(), *INITS.values()]
CHOICES += [*NETWORKS.values(), *SEARCH_NETWORKS.values()]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: c.name)
def test_what_a_choice_stands_for_is_there(choice):
    assert callable(choice.load())
