"""Feature backends of which a machine may lack some."""

import pytest

from asrkit.errors import ConfigError, MissingPackageError
from asrkit.features.config import FeatureConfig
from asrkit.features.mfcc import FeatureExtractor


def extractor_or_skip(config: FeatureConfig) -> FeatureExtractor:
    """The extractor; skips the test where its backend is not installed or not built, and for no other error."""
    try:
        return FeatureExtractor(config)
    except MissingPackageError as error:
        pytest.skip(str(error))
    except ConfigError as error:
        if "torchaudio cannot be loaded" in str(error):
            pytest.skip(f"{error} (tools/setup.sh --bench makes an environment that has it)")
        if "the compiled kernel is missing" in str(error):
            pytest.skip("asrkit._native._mfcc is not built, or ASRKIT_NO_NATIVE is 1")
        raise
