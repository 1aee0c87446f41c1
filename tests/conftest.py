"""Settings of every test: one thread per worker, and property tests that do not depend on the machine's speed.

What is loaded to collect the tests stays, so garbage is not looked for in it.
"""

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Before torch is imported: pytest-xdist's workers and torch's threads together would ask for more cores than there are.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("asrkit", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("asrkit")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
