"""Archives that Kaldi's own code (kaldi_native_io) reads and writes, against ours, in both directions."""

import kaldi_native_io
import numpy as np
import pytest

from asrkit.io.ark import ArkReader, ArkWriter

KINDS = {
    "float_matrix": ("FloatMatrix", np.float32, (7, 13)),
    "double_matrix": ("DoubleMatrix", np.float64, (2, 14)),
    "float_vector": ("FloatVector", np.float32, (11,)),
    "double_vector": ("DoubleVector", np.float64, (5,)),
}


def _arrays(dtype, shape):
    random = np.random.default_rng(3)
    return {key: (random.normal(size=shape) * 40).astype(dtype) for key in ("utt-2", "utt-1", "گفتار", "utt:3[0:1]")}


@pytest.mark.parametrize("kind", KINDS)
def test_kaldi_reads_ours(tmp_path, kind):
    name, dtype, shape = KINDS[kind]
    arrays = _arrays(dtype, shape)
    with ArkWriter(tmp_path / "a.ark", tmp_path / "a.scp") as writer:
        for key, values in arrays.items():
            writer.write(key, values)
    by_key = getattr(kaldi_native_io, f"RandomAccess{name}Reader")(f"scp:{tmp_path}/a.scp")
    for key, values in arrays.items():
        np.testing.assert_array_equal(np.array(by_key[key]), values)
    in_order = getattr(kaldi_native_io, f"Sequential{name}Reader")(f"ark:{tmp_path}/a.ark")
    assert [key for key, _ in in_order] == list(arrays)
    # Kaldi refuses a random-access table that says it is sorted (`s`) and is not.
    sorted_scp = getattr(kaldi_native_io, f"RandomAccess{name}Reader")(f"scp,s,cs:{tmp_path}/a.scp")
    for key in sorted(arrays):
        np.testing.assert_array_equal(np.array(sorted_scp[key]), arrays[key])


@pytest.mark.parametrize("kind", KINDS)
def test_we_read_kaldi(tmp_path, kind):
    name, dtype, shape = KINDS[kind]
    arrays = _arrays(dtype, shape)
    with getattr(kaldi_native_io, f"{name}Writer")(f"ark,scp:{tmp_path}/a.ark,{tmp_path}/a.scp") as writer:
        for key, values in arrays.items():
            writer.write(key, values)
    reader = ArkReader(tmp_path / "a.scp")
    assert list(reader) == list(arrays)
    for key, values in arrays.items():
        np.testing.assert_array_equal(reader[key], values)
        assert reader[key].dtype == dtype
        assert reader.shape(key) == shape


# 1 is automatic (CM for more than 8 rows, else CM2), 2 speech feature (CM), 3 and 4 two bytes (CM2), 5 to 7 one (CM3).
@pytest.mark.parametrize("method", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 13)])
def test_we_read_compressed(tmp_path, method, shape):
    random = np.random.default_rng(method)
    values = random.uniform(0, 1, shape) if method in (6, 7) else random.normal(size=shape) * 30
    values = values.astype(np.float32)
    compression = kaldi_native_io.CompressionMethod(method)
    with kaldi_native_io.CompressedMatrixWriter(f"ark,scp:{tmp_path}/a.ark,{tmp_path}/a.scp") as writer:
        writer.write("one", values, compression)
        writer.write("two", values[::-1], compression)
    reader = ArkReader(tmp_path / "a.scp")
    # Kaldi expands compressed matrices when asked for float ones.
    expected = kaldi_native_io.RandomAccessFloatMatrixReader(f"scp:{tmp_path}/a.scp")
    for key in ("one", "two"):
        found = reader[key]
        assert found.dtype == np.float32
        assert reader.num_rows(key) == shape[0]
        np.testing.assert_allclose(found, np.array(expected[key]), rtol=2e-6, atol=2e-6 * np.abs(values).max())


def test_file_without_key(tmp_path):
    """An scp line without an offset names a file that holds one matrix, as Kaldi writes with `copy-matrix`."""
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    kaldi_native_io.FloatMatrix(values).write(str(tmp_path / "one.mat"), True)
    (tmp_path / "a.scp").write_text(f"utt {tmp_path}/one.mat\n")
    np.testing.assert_array_equal(ArkReader(tmp_path / "a.scp")["utt"], values)
