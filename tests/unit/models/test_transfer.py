"""What a network of other output classes takes over from a trained one."""

import pytest
import torch

from asrkit.models.acoustic import AcousticModel
from asrkit.models.config import ModelConfig
from asrkit.models.decoder import NO_DECODER
from asrkit.models.decoder_config import DecoderConfig
from asrkit.models.transfer import take_over


def network(num_tokens: int, seed: int, **settings: object) -> AcousticModel:
    torch.manual_seed(seed)
    config = ModelConfig(num_layers=2, hidden_size=5, dropout=0.0, **settings)
    return AcousticModel(config, 6, num_tokens).eval()


@pytest.mark.parametrize("head", ["ctc", "both"])
@torch.no_grad()
def test_classes_in_another_order_give_the_same_in_that_order(head: str) -> None:
    trained, model = network(4, 1, head=head), network(4, 2, head=head)
    order = [0, 3, 1, 2]
    take_over(model, trained, order)
    feats, lens = torch.randn(2, 20, 6), torch.tensor([20, 13])
    old, new = trained.outputs(feats, lens), model.outputs(feats, lens)
    torch.testing.assert_close(new.log_probs[:, :4], old.log_probs[:, :4, order])
    if head == "both":
        torch.testing.assert_close(new.frame_log_probs, old.frame_log_probs[:, :, [2, 0, 1]])


@pytest.mark.parametrize(
    ("head", "settings"),
    [
        ("attention", {}),
        ("joint", {}),
        ("joint", {"layers": "transformer", "feed_forward_size": 8}),
        ("transducer", {}),
        ("joint_transducer", {}),
    ],
)
@torch.no_grad()
def test_a_decoder_gives_classes_in_another_order_the_same_loss(head: str, settings: dict) -> None:
    decoder = DecoderConfig(hidden_size=8, **settings)
    trained, model = network(4, 1, head=head, decoder=decoder), network(4, 2, head=head, decoder=decoder)
    order = [0, 3, 1, 2]
    take_over(model, trained, order)
    feats, lens, token_lens = torch.randn(2, 20, 6), torch.tensor([20, 13]), torch.tensor([3, 2])
    new_tokens = torch.tensor([[1, 2, 3], [3, 1, 0]])
    losses = [
        each.decoder.losses(each.decoder.source(output.steps, output.log_prob_lens), tokens, token_lens, NO_DECODER)
        for each, tokens in ((trained, torch.tensor(order)[new_tokens]), (model, new_tokens))
        for output in [each.outputs(feats, lens)]
    ]
    torch.testing.assert_close(*losses)


def test_a_class_of_its_own_keeps_its_initial_weights() -> None:
    trained, model = network(3, 1), network(5, 2)
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    take_over(model, trained, [0, None, 2, None, None])
    known, after = trained.state_dict(), model.state_dict()
    for name in ("output.weight", "output.bias"):
        assert torch.equal(after[name][[0, 2]], known[name][[0, 2]])
        assert torch.equal(after[name][[1, 3, 4]], before[name][[1, 3, 4]])
    assert torch.equal(after["feedback.weight"][:, [0, 2]], known["feedback.weight"][:, [0, 2]])
    assert torch.equal(after["feedback.weight"][:, [1, 3, 4]], before["feedback.weight"][:, [1, 3, 4]])
    others = {name for name in after if not name.startswith(("output.", "feedback.weight"))}
    assert len(others) > 10
    assert all(torch.equal(after[name], known[name]) for name in others)


def test_a_head_may_be_left_out() -> None:
    trained, model = network(3, 1, head="both"), network(3, 2, head="ctc")
    take_over(model, trained, [0, 1, 2])
    known = trained.state_dict()
    assert all(torch.equal(weights, known[name]) for name, weights in model.state_dict().items())
