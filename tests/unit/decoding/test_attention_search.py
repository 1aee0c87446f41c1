"""Searches over an attention decoder find what trying all labellings finds; CTC's prefix scores are sums over all."""

import itertools
import pickle

import numpy as np
import pytest
import torch

from asrkit.decoding.attention_search import DecoderBeamSearch, GreedyDecoderSearch
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.ctc_prefix import CtcFrames
from asrkit.decoding.forced_align import forced_align
from asrkit.decoding.forward import ctc_log_probs
from asrkit.decoding.methods import make_search
from asrkit.errors import ConfigError, ModelError
from asrkit.lm.ngram import train_ngram
from asrkit.models.decoder import NO_DECODER
from asrkit.models.decoder_config import DecoderConfig, attention_decoder
from tests.language_models import random_network

STEP_SIZE, CLASSES = 4, 3
TRANSFORMER = {"layers": "transformer", "num_layers": 2, "num_heads": 2, "feed_forward_size": 5}
LAYERS = pytest.mark.parametrize("settings", [{}, TRANSFORMER], ids=["recurrent", "transformer"])
LM = train_ngram([["a", "b"], ["b"], ["a", "a", "b"]], 2, ["a", "b"]).automaton
NETWORK = random_network()


def make_decoder(has_ctc=False, **settings):
    return make_module(has_ctc, **settings).for_search()


def make_module(has_ctc=False, **settings):
    torch.manual_seed(5)
    sizes = {"hidden_size": 4} if "layers" in settings else {"hidden_size": 4, "embedding_size": 3, "attention_size": 4}
    decoder = attention_decoder(DecoderConfig(**{**sizes, **settings}), STEP_SIZE, CLASSES, has_ctc).double().eval()
    with torch.no_grad():
        for weights in decoder.parameters():
            weights.copy_(torch.randn_like(weights))
    return decoder


def make_stored(*lens, has_ctc=False, seed=0):
    """What is stored of utterances of so many steps."""
    rng = np.random.default_rng(seed)
    found = []
    for length in lens:
        logits = rng.normal(size=(length, CLASSES))
        ctc = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        steps = rng.normal(size=(length, STEP_SIZE))
        found.append(np.hstack([ctc, steps]) if has_ctc else steps)
    return found


def all_labelings(num_steps, tokens=(1, 2)):
    """Those that CTC can align with so many steps: one for each phone, and one between equal ones."""
    found = (each for length in range(num_steps + 1) for each in itertools.product(tokens, repeat=length))
    return [each for each in found if len(each) + sum(a == b for a, b in itertools.pairwise(each)) <= num_steps]


@pytest.mark.parametrize("has_ctc", [False, True])
@pytest.mark.parametrize("lm", [None, LM, NETWORK], ids=["no LM", "LM", "network"])
@pytest.mark.parametrize("coverage_weight", [0.0, 0.6])
@LAYERS
def test_a_wide_beam_finds_the_best_of_all_labelings(has_ctc, lm, coverage_weight, settings):
    """Its total scores are those of the formula, also of the second and third best."""
    config = DecodingConfig(
        beam=64, lm_weight=0.5, insertion_bonus=0.7, ctc_weight=0.4, coverage_weight=coverage_weight
    )
    search = make_search(config, lm, make_decoder(has_ctc, **settings))
    utterances = make_stored(4, 2, 5, 3, has_ctc=has_ctc)
    results = search.decode_all(utterances, num_best=3)
    for stored, found in zip(utterances, results, strict=True):
        labelings = all_labelings(len(stored))
        scores = search.total_scores(stored, labelings)
        best = np.argsort(-scores)[:3]
        assert [result.tokens for result in found] == [labelings[index] for index in best]
        np.testing.assert_allclose([result.score for result in found], scores[best], rtol=0, atol=1e-9)
        if not coverage_weight:
            parts = [
                each.ctc_log_prob + search.scorer.lm_weight * each.lm_log_prob + 0.7 * len(each.tokens)
                for each in found
            ]
            np.testing.assert_allclose(parts, scores[best], rtol=0, atol=1e-9)


@LAYERS
def test_total_scores_are_sums_over_the_decoders_steps(settings):
    decoder = make_module(has_ctc=True, **settings)
    (stored,) = make_stored(4, has_ctc=True)
    labeling, lens = (2, 1, 1), torch.tensor([4])
    source = decoder.source(torch.from_numpy(stored[None, :, CLASSES:]), lens)
    loss = decoder.losses(source, torch.tensor([labeling]), torch.tensor([3]), NO_DECODER)
    ctc = ctc_log_probs(stored[:, :CLASSES], [labeling])[0]
    search = make_search(DecodingConfig(ctc_weight=0.25, lm_weight=0.5, insertion_bonus=1.0), LM, decoder.for_search())
    expected = search.scorer.total(-0.75 * loss.item() + 0.25 * ctc, labeling)
    assert search.total_scores(stored, [labeling])[0] == pytest.approx(expected, abs=1e-10)
    assert search.total_scores(stored, []).shape == (0,)


@LAYERS
def test_utterances_do_not_change_each_other(settings):
    utterances = make_stored(6, 1, 9, 4, 9, has_ctc=True, seed=3) * 9
    search = make_search(DecodingConfig(beam=3, lm_weight=0.3), LM, make_decoder(has_ctc=True, **settings))
    together = search.decode_all(utterances, num_best=2)
    for stored, found in zip(utterances[:5], together[:5], strict=True):
        alone = search.decode(stored, num_best=2)
        assert [result.tokens for result in alone] == [result.tokens for result in found]
        np.testing.assert_allclose([each.score for each in alone], [each.score for each in found], rtol=0, atol=1e-9)
    assert [found[0].tokens for found in together] == [found[0].tokens for found in together[:5]] * 9
    sent = pickle.loads(pickle.dumps(search))  # as to a cluster's worker
    assert sent.decode_all(utterances[:5]) == search.decode_all(utterances[:5])


@LAYERS
def test_greedy_search_takes_the_best_class_each_time(settings):
    decoder = make_module(**settings)
    utterances = make_stored(5, 3, 7, seed=1)
    search = make_search(DecodingConfig(method="greedy"), LM, decoder.for_search())
    assert isinstance(search, GreedyDecoderSearch)
    for stored, (found,) in zip(utterances, search.decode_all(utterances), strict=True):
        source = decoder.source(torch.from_numpy(stored[None]), torch.tensor([len(stored)]))
        tokens, total = (), 0.0
        while True:
            log_probs = decoder(source, torch.tensor([tokens]).long())[0, -1]
            token = int(log_probs.argmax())
            total += log_probs.max().item()
            if token == 0 or (*tokens, token) not in all_labelings(len(stored)):
                break
            tokens += (token,)
        assert found.tokens == tuple(tokens)
        assert found.ctc_log_prob == found.score == pytest.approx(total, abs=1e-9)


def test_a_language_model_too_large_for_a_table_gives_the_same(monkeypatch):
    search = make_search(DecodingConfig(beam=8, lm_weight=0.5), LM, make_decoder())
    expected = search.decode_all(make_stored(4, 6))
    monkeypatch.setattr("asrkit.lm.automaton.MAX_TABLE", 0)
    other = train_ngram([["a", "b"], ["b"], ["a", "a", "b"]], 2, ["a", "b"]).automaton
    assert other.table is None
    assert make_search(DecodingConfig(beam=8, lm_weight=0.5), other, make_decoder()).decode_all(make_stored(4, 6)) == (
        expected
    )


def test_prefix_scores_are_sums_over_all_labelings_that_begin_so():
    lens = [5, 3, 1]
    stored = [each[:, :CLASSES] for each in make_stored(*lens, has_ctc=True, seed=2)]
    padded = np.full((3, 5, CLASSES), 3.0)
    for row, each in zip(padded, stored, strict=True):
        row[: len(each)] = each
    frames = CtcFrames.of_batch(padded, np.array(lens))
    for prefix in all_labelings(3):
        prefixes = frames.empty_prefix()
        for token in prefix:
            prefixes = prefixes.extend(np.zeros((3, 1), np.int64), np.full((3, 1), token))
        for row, log_probs in enumerate(stored):
            labelings = all_labelings(len(log_probs))
            whole = np.exp(ctc_log_probs(log_probs, labelings))
            for token in (1, 2):
                begin = (*prefix, token)
                expected = sum(p for p, each in zip(whole, labelings, strict=True) if each[: len(begin)] == begin)
                assert np.exp(prefixes.next_scores()[row, 0, token]) == pytest.approx(expected, abs=1e-10)
            expected = sum(p for p, each in zip(whole, labelings, strict=True) if each == prefix)
            assert np.exp(prefixes.end_scores()[row, 0]) == pytest.approx(expected, abs=1e-10)


def test_prefixes_follow_their_parents():
    stored = make_stored(6, 6, has_ctc=True)
    frames = CtcFrames.of_batch(np.stack(stored)[:, :, :CLASSES], np.array([6, 6]))
    pair = frames.empty_prefix().extend(np.zeros((2, 2), np.int64), np.array([[1, 2], [2, 1]]))
    longer = pair.extend(np.array([[1, 0], [0, 0]]), np.array([[1, 1], [2, 1]]))
    expected = [[(2, 1), (1, 1)], [(2, 2), (2, 1)]]
    for row, labelings in enumerate(expected):
        found = longer.end_scores()[row]
        np.testing.assert_allclose(found, ctc_log_probs(stored[row][:, :CLASSES], labelings), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(longer.keep(np.array([1])).end_scores(), longer.end_scores()[1:])


@pytest.mark.parametrize("settings", [{"score": "general"}, {"context": "fixed"}, TRANSFORMER], ids=str)
def test_phones_can_be_aligned_with_what_the_decoder_looked_at(settings):
    search = make_search(DecodingConfig(), None, make_decoder(**settings))
    (stored,) = make_stored(9)
    emissions = search.emissions(stored, (1, 2, 1))
    np.testing.assert_allclose(np.exp(emissions).sum(axis=1), 1.0, atol=1e-5)
    assert emissions.shape == (9, CLASSES)
    assert len(forced_align(emissions, (1, 2, 1)).tokens) == 3
    assert search.emissions(stored, ()).shape == (9, CLASSES)
    (joint,) = make_stored(9, has_ctc=True)
    np.testing.assert_array_equal(search.emissions(joint, (1,)), joint[:, :CLASSES])


def test_what_a_decoder_cannot_search_is_told():
    search = make_search(DecodingConfig(), None, make_decoder())
    assert isinstance(search, DecoderBeamSearch)
    with pytest.raises(ConfigError, match="needs the whole utterance"):
        search.stream()
    with pytest.raises(ConfigError, match="num_threads must be at least 1"):
        search.decode_all([], num_threads=0)
    for stored in (np.zeros((0, STEP_SIZE)), np.zeros((3, STEP_SIZE + 1)), np.zeros(4)):
        with pytest.raises(ModelError, match="stored outputs of shape"):
            search.decode(stored)
    with pytest.raises(ModelError, match="not finite"):
        search.decode(np.full((2, STEP_SIZE), np.nan))
