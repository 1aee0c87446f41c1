import bz2
import gzip
import lzma
import math
import zlib
from dataclasses import replace

import numpy as np
import pytest

from asrkit.errors import ConfigError, DataError
from asrkit.lm import ngram
from asrkit.lm.ngram import EOS, LN10, NEVER, UNK, NgramLM, read_arpa, train_ngram, write_arpa
from asrkit.lm.smoothing import FALLBACK_DISCOUNTS, kneser_ney_discounts

ARPA = """\
text before the data is a comment

\\data\\
ngram 1=6
ngram 2=4

\\1-grams:
-99\t<s>\t-0.5
-0.8\t</s>
-2.0\t<unk>
-0.4\tb\t-0.25
-0.6\ta\t-0.125
-0.9\tʃ

\\2-grams:
-0.3\t<s> a
-0.7\ta b
-0.2\tb </s>
-0.1\tb b

\\end\\
"""


@pytest.fixture
def arpa(tmp_path):
    path = tmp_path / "lm.arpa"

    def write(text):
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_witten_bell_by_hand():
    # Two sentences: a b | a. Counts: a 2, b 1, </s> 2; 5 tokens of 3 types; 5 symbols (a b c </s> <unk>) below.
    lm = train_ngram([["a", "b"], ["a"]], 2, ["a", "b", "c"], "witten_bell")
    unigram = {"a": (2 + 3 / 5) / 8, "b": (1 + 3 / 5) / 8, EOS: (2 + 3 / 5) / 8, "c": 3 / 5 / 8, UNK: 3 / 5 / 8}
    for word, prob in unigram.items():
        assert math.exp(lm.log_prob(word, [])) == pytest.approx(prob)
    # After a: b once, </s> once: 2 tokens of 2 types.
    assert math.exp(lm.log_prob("b", ["a"])) == pytest.approx((1 + 2 * unigram["b"]) / 4)
    assert math.exp(lm.log_prob("c", ["a"])) == pytest.approx(2 * unigram["c"] / 4)
    # After <s>: a twice, one type. After c, never seen: the unigram.
    assert math.exp(lm.log_prob("a", ["<s>"])) == pytest.approx((2 + unigram["a"]) / 3)
    assert math.exp(lm.log_prob("a", ["c"])) == pytest.approx(unigram["a"])


def test_laplace_by_hand():
    # The counts above; epsilon 2 for unigrams, 1/2 for bigrams and trigrams.
    lm = train_ngram([["a", "b"], ["a"]], 3, ["a", "b", "c"], "laplace", (2.0, 0.5))
    unigram = {"a": (2 + 2 / 5) / 7, "b": (1 + 2 / 5) / 7, EOS: (2 + 2 / 5) / 7, "c": 2 / 5 / 7, UNK: 2 / 5 / 7}
    bigram = {"b": (1 + unigram["b"] / 2) / 2.5, "c": unigram["c"] / 2 / 2.5}  # after a
    for word, prob in unigram.items():
        assert math.exp(lm.log_prob(word, ["b", "c"])) == pytest.approx(prob)
    for word, prob in bigram.items():
        assert math.exp(lm.log_prob(word, ["a"])) == pytest.approx(prob)
    assert math.exp(lm.log_prob("b", ["<s>", "a"])) == pytest.approx((1 + bigram["b"] / 2) / 2.5)
    assert math.exp(lm.log_prob("c", ["<s>", "a"])) == pytest.approx(bigram["c"] / 2 / 2.5)


def test_kneser_ney_by_hand():
    # Bigrams: <s> a 2, a b 1, b </s> 1, a </s> 1; none of count 3, so the discounts are 1/2, 1 and 3/2.
    lm = train_ngram([["a", "b"], ["a"]], 2, ["a", "b", "c"], "kneser_ney")
    # Symbols before each: a 1, b 1, </s> 2; 4 in all, discounted by 1/2 + 1/2 + 1 = 2, over 5 symbols below.
    unigram = {"a": (0.5 + 2 / 5) / 4, "b": (0.5 + 2 / 5) / 4, EOS: (1 + 2 / 5) / 4, "c": 2 / 5 / 4, UNK: 2 / 5 / 4}
    for word, prob in unigram.items():
        assert math.exp(lm.log_prob(word, [])) == pytest.approx(prob)
        assert math.exp(lm.log_prob(word, ["<s>"])) == pytest.approx(((word == "a") * 1 + 1 * prob) / 2)
    assert math.exp(lm.log_prob("b", ["a"])) == pytest.approx((0.5 + 1 * unigram["b"]) / 2)


def test_discounts_are_those_of_chen_and_goodman():
    counts = np.repeat([1, 2, 3, 4, 9], [60, 20, 10, 5, 7])
    y = 60 / (60 + 2 * 20)
    expected = (1 - 2 * y * 20 / 60, 2 - 3 * y * 10 / 20, 3 - 4 * y * 5 / 10)
    assert kneser_ney_discounts(counts) == pytest.approx(expected)
    assert kneser_ney_discounts(counts[counts != 3]) == FALLBACK_DISCOUNTS  # nothing to estimate them from
    assert kneser_ney_discounts(np.repeat([1, 2, 3], [60, 20, 30])) == FALLBACK_DISCOUNTS  # D2 would be below 0
    assert kneser_ney_discounts(np.zeros(0, dtype=int)) == FALLBACK_DISCOUNTS


@pytest.mark.parametrize(("bos", "eos"), [(True, True), (True, False), (False, True), (False, False)])
def test_sentence_ends_can_be_left_out(arpa, bos, eos):
    lm = read_arpa(arpa(ARPA), ["a", "b", "ʃ"])
    expected = (-0.3 if bos else -0.6) - 0.7 + (-0.2 if eos else 0.0)
    assert lm.score(["a", "b"], bos=bos, eos=eos) == pytest.approx(expected * LN10)


def test_score_and_perplexity_count_the_end_of_sentence(arpa):
    lm = read_arpa(arpa(ARPA), ["a", "b", "ʃ"])
    # <s> a | a b | b b | b </s>, then </s> at once with the back-off of <s>
    full, empty = (-0.3 - 0.7 - 0.1 - 0.2) * LN10, (-0.5 - 0.8) * LN10
    assert lm.score(["a", "b", "b"]) == pytest.approx(full)
    assert lm.score([]) == pytest.approx(empty)
    assert lm.perplexity([["a", "b", "b"], []]) == pytest.approx(math.exp(-(full + empty) / 5))
    # Symbols outside the vocabulary are <unk>, after which there is no back-off weight.
    assert lm.score(["zzz", "b"]) == pytest.approx((-0.5 - 2.0 - 0.4 - 0.2) * LN10)


def test_table_is_in_the_order_of_the_phones_not_of_the_file(arpa):
    table = read_arpa(arpa(ARPA), ["ʃ", "a", "b"]).automaton.table
    assert table.log_probs[table.start, 1:] == pytest.approx([(-0.5 - 0.9) * LN10, -0.3 * LN10, (-0.5 - 0.4) * LN10])
    after_a = table.next_context[table.start, 2]
    assert table.log_probs[after_a, 1:] == pytest.approx([(-0.125 - 0.9) * LN10, (-0.125 - 0.6) * LN10, -0.7 * LN10])
    assert table.end[table.next_context[after_a, 3]] == pytest.approx(-0.2 * LN10)


def test_arpa_text(tmp_path):
    write_arpa(train_ngram([["b", "a"]], 2, ["a", "b"], "witten_bell"), tmp_path / "lm.arpa")
    lines = (tmp_path / "lm.arpa").read_text(encoding="utf-8").split("\n")
    assert lines[:5] == ["\\data\\", "ngram 1=5", "ngram 2=3", "", "\\1-grams:"]
    assert [line.split("\t")[1] for line in lines[5:10]] == ["<unk>", "<s>", "</s>", "a", "b"]
    assert lines[6] == f"-99.0\t<s>\t{math.log10(1 / 2)!r}"
    assert [line.split("\t")[1] for line in lines[12:15]] == ["<s> b", "a </s>", "b a"]
    assert all(len(line.split("\t")) == 2 for line in lines[12:15])  # the highest order has no back-off weights
    assert lines[15:] == ["", "\\end\\", ""]


def test_missing_unk_is_nearly_impossible(arpa):
    text = ARPA.replace("-2.0\t<unk>\n", "").replace("ngram 1=6", "ngram 1=5")
    assert read_arpa(arpa(text), ["a"]).log_prob("zzz", []) == pytest.approx(-100 * LN10)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("ngram 1=6", "ngram 1=7", r"lm.arpa: 6 1-grams; \\data\\ declares 7"),
        ("ngram 2=4", "ngram 2=four", r"lm.arpa:5: expected `ngram ORDER=COUNT`, found 'ngram 2=four'"),
        ("\\end\\", "", r"\\end\\ is missing"),
        ("\\data\\", "data", r"\\end\\ is missing after \\data\\"),
        ("-0.8\t</s>", "0.8\t</s>", "lm.arpa:9: expected a log10 probability of at most 0"),
        ("-0.9\tʃ", "nan\tʃ", "lm.arpa:13: expected finite numbers"),
        ("-0.9\tʃ", "0.1\tʃ", "lm.arpa:13: expected a log10 probability of at most 0"),
        ("-0.9\tʃ", "-0.9", "lm.arpa:13: expected a log10 probability, 1 symbols"),
        ("-0.9\tʃ", "x\tʃ", "lm.arpa:13: expected finite numbers"),
        ("-0.9\tʃ", "-0.9\ta", "lm.arpa:13: n-gram given twice: a"),
        (
            "-0.1\tb b",
            "-0.1\tb b\t-0.3",
            "lm.arpa:19: expected no back-off weight, or 0, for an n-gram of the highest order",
        ),
        ("-0.1\tb b", "-0.1\tb b\t0\t0", "lm.arpa:19: expected a log10 probability, 2 symbols, found"),
        ("\tb\t-0.25", "\tb\t-inf", "lm.arpa:11: expected finite numbers"),
        ("-0.1\tb b", "-0.1\tb c", "lm.arpa:19: n-gram b c: c is not among the 1-grams"),
        ("-0.1\tb b", "-0.1\t</s> b", "lm.arpa:19: </s> can only end"),
        ("\\2-grams:", "\\3-grams:", "lm.arpa:15: section .*out of order"),
        ("-0.8\t</s>\n", "", "lm.arpa:17: n-gram b </s>: </s> is not among the 1-grams"),
    ],
)
def test_broken_arpa_files_are_named_with_their_line(arpa, old, new, fault):
    assert old in ARPA
    with pytest.raises(DataError, match=fault):
        read_arpa(arpa(ARPA.replace(old, new, 1)), ["a", "b", "ʃ"])


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text.replace("ngram 1=6", "ngram  1=         6"),  # IRSTLM
        lambda text: text.replace("ngram 1=6", "ngram\t1 = 6 "),
        lambda text: text.replace("\ta b\n", "\ta b\t0\n").replace("\tb b\n", "\tb b\t-0.0\n"),
        lambda text: text.replace("-99\t<s>", "-inf\t<s>"),
        lambda text: text.replace("-99\t<s>", "0\t<s>"),  # lmplz
        lambda text: text.replace("<unk>", "<UNK>"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\t", " "),
        lambda text: text.replace("\\data", "\n\n\\data").replace("\n\\2-", "\n\n\\2-") + "\n\n",
        lambda text: "\ufeff" + text[text.index("\\data") :],
        gzip.compress,
        bz2.compress,
        lzma.compress,
    ],
)
def test_the_variants_that_kenlm_reads_are_one_model(tmp_path, rewrite):
    """Whatever the file is called: gzip is told by the content."""
    compresses = rewrite in (gzip.compress, bz2.compress, lzma.compress)
    content = rewrite(ARPA.encode()) if compresses else rewrite(ARPA).encode()
    assert content != ARPA.encode()
    (tmp_path / "lm.arpa").write_bytes(content)
    lm = read_arpa(tmp_path / "lm.arpa", ["a", "b", "ʃ"])
    assert lm.score(["a", "b", "b"]) == pytest.approx((-0.3 - 0.7 - 0.1 - 0.2) * LN10)
    assert lm.score(["ʃ", "x"]) == pytest.approx((-0.5 - 0.9 - 2.0 - 0.8) * LN10)


def test_what_never_occurs_has_a_finite_log_probability(arpa):
    lm = read_arpa(arpa(ARPA.replace("-0.1\tb b", "-inf\tb b").replace("-0.9\tʃ", "-INF\tʃ")), ["a", "b", "ʃ"])
    assert lm.log_prob("b", ["b"]) == lm.log_prob("ʃ", []) == NEVER * LN10
    assert np.isfinite(lm.automaton.table.log_probs).all() and np.isfinite(lm.automaton.bounds[0])
    assert np.isfinite(lm.automaton.table.factors(0.0, 0.0)).all()  # 0 x -inf would be no number


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (gzip.compress(ARPA.encode())[:-20], "cannot be decompressed"),
        (b"\x1f\x8b\x08" + bytes(40), "cannot be decompressed"),
        (b"mmap lm http://kheafield.com/code format version 5\n\0", "a binary file of KenLM; give the ARPA file"),
        (b"blmt 2 5 4\n", "a binary file of IRSTLM"),
        (b"iARPA\n\n" + ARPA[ARPA.index("\\data") :].encode(), "an iARPA file of IRSTLM"),
    ],
)
def test_other_formats_and_damage_are_named(tmp_path, content, fault):
    (tmp_path / "lm.arpa").write_bytes(content)
    with pytest.raises(DataError, match=f"^{tmp_path / 'lm.arpa'}: {fault}"):
        read_arpa(tmp_path / "lm.arpa", ["a"])


def test_phones_without_a_unigram_and_missing_files(arpa, tmp_path):
    with pytest.raises(DataError, match="no unigrams for p t; train it with the same token table"):
        read_arpa(arpa(ARPA), ["a", "p", "t"])
    with pytest.raises(DataError, match=r"none.arpa: cannot be read: .*stage 2"):
        read_arpa(tmp_path / "none.arpa", ["a"])


def test_training_refuses_unusable_input():
    with pytest.raises(DataError, match=r"symbols outside the token table: x y$"):
        train_ngram([["y", "a"], ["x"]], 2, ["a"])
    with pytest.raises(DataError, match=r"outside the token table: </s>$"):
        train_ngram([["a", "</s>"]], 2, ["a"])
    with pytest.raises(DataError, match="no sentences"):
        train_ngram([], 2, ["a"])
    with pytest.raises(DataError, match="reserved symbols among the phones: <unk>"):
        train_ngram([["a"]], 2, ["a", "<unk>"])
    with pytest.raises(DataError, match="order 0"):
        train_ngram([["a"]], 0, ["a"])
    with pytest.raises(ConfigError, match="smoothing 'katz'; expected one of kneser_ney, witten_bell, laplace"):
        train_ngram([["a"]], 2, ["a"], "katz")
    for epsilons in ((), (1.0, 0.0), (math.inf,), (math.nan,)):
        with pytest.raises(ConfigError, match=r"epsilons .*; expected positive numbers"):
            train_ngram([["a"]], 2, ["a"], "laplace", epsilons)


def test_numbers_and_orders_beyond_all_models_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "lm.arpa"
    lm = train_ngram([["a", "b"]], 2, ["a", "b"])
    write_arpa(NgramLM(lm.phones, ({**lm.ngrams[0], ("a",): (-1e6, 0.0)}, lm.ngrams[1])), path)
    with pytest.raises(DataError, match=r"lm.arpa: numbers up to 1e\+06, order 2; expected 100000 and 1000 at most$"):
        read_arpa(path, ["a", "b"])
    write_arpa(lm, path)
    read_arpa(path, ["a", "b"])
    monkeypatch.setattr(ngram, "MAX_DEPTH", 1)
    with pytest.raises(DataError, match="order 2; expected 100000 and 1 at most"):
        read_arpa(path, ["a", "b"])


@pytest.mark.parametrize("name", ["first_arc", "tokens", "log_probs", "next_context", "shorter", "backoff", "end"])
def test_arrays_that_are_no_language_model_are_refused(name):
    automaton = train_ngram([["a", "b", "a"], ["b", "a"]], 3, ["a", "b"]).automaton
    array = getattr(automaton, name)
    extremes = [np.iinfo(array.dtype).min, np.iinfo(array.dtype).max] if array.dtype.kind == "i" else [-np.inf, np.nan]
    wrong = [array[:-1], np.append(array, array[-1:]), array[None], array.astype(np.float32)]
    for place in range(len(array)):
        for value in extremes:
            wrong.append(array.copy())
            wrong[-1][place] = value
    for each in wrong:
        with pytest.raises(DataError, match=r"^language model: "):
            replace(automaton, **{name: each})
    for other in ({"start": -1}, {"start": len(automaton.end)}, {"num_classes": 2}, {"num_classes": 4}):
        with pytest.raises(DataError, match=r"^language model: "):
            replace(automaton, **other)


def test_a_token_that_the_model_does_not_have_is_refused():
    automaton = train_ngram([["a", "b", "a"], ["b", "a"]], 3, ["a", "b"]).automaton
    for token in (-1, 0, 3):
        with pytest.raises(ValueError, match=f"^token {token}; expected one from 1 to 2$"):
            automaton.step(automaton.start, token)


def test_a_chain_of_contexts_has_an_end():
    automaton = train_ngram([["a"]], 1, ["a"]).automaton

    def chain(length):
        size = length + 1
        first_arc = np.minimum(np.arange(size + 1), 1)
        shorter = np.maximum(np.arange(size) - 1, 0).astype(np.int32)
        return replace(automaton, first_arc=first_arc, shorter=shorter, backoff=np.zeros(size), end=np.zeros(size))

    assert chain(1000)._depth().tolist() == list(range(1001))
    with pytest.raises(DataError, match="contexts of 1001 phones; expected 1000 at most"):
        chain(1001)


def test_compressed_files_of_several_parts(arpa):
    path = arpa("")
    content = ARPA.encode()
    half = len(content) // 2
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        path.write_bytes(compress(content[:half]) + compress(content[half:]) + bytes(512))  # as tapes pad
        assert read_arpa(path, ("a", "b", "ʃ")).ngrams


def test_memory_that_an_xz_file_asks_for(arpa):
    path, content = arpa(""), bytearray(lzma.compress(ARPA.encode()))
    assert content[14:16] == b"\x21\x01"  # LZMA2, whose one property is the size of its dictionary
    content[16] = 40  # 4 GiB
    content[20:24] = zlib.crc32(content[12:20]).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"lm.arpa: cannot be decompressed \(Memory usage limit exceeded\)"):
        read_arpa(path, ("a", "b", "ʃ"))


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_files_that_grow_beyond_all_bounds(arpa, compress):
    path = arpa("")
    path.write_bytes(compress(b"\\data\\\n" * 1_000_000))
    with pytest.raises(DataError, match=r"lm.arpa: grows to more than 100 times its size"):
        read_arpa(path, ("a",))
    path.write_bytes(compress(ARPA.encode())[:-5])
    with pytest.raises(DataError, match=r"lm.arpa: cannot be decompressed"):
        read_arpa(path, ("a",))


def test_numbers_that_no_file_means(arpa):
    for number in ("9" * 5000, "0", "٣"):
        path = arpa(f"\\data\\\nngram {number}=1\n\n\\end\\\n")
        with pytest.raises(DataError, match=r"lm.arpa:2: expected `ngram ORDER=COUNT`"):
            read_arpa(path, ("a",))
