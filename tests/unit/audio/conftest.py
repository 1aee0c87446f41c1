"""Fixtures that the tests of audio formats share."""

import pytest

from asrkit.audio import audio_info, read_audio


@pytest.fixture
def read(tmp_path):
    """The samples of a file with such content, whose name says nothing; its header must promise as many."""

    def read(content, **options):
        path = tmp_path / "x"
        path.write_bytes(content)
        samples = read_audio(path, **options).samples
        assert audio_info(path).num_samples == len(samples)
        return samples

    return read
