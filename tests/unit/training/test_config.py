"""Settings of training and model that exclude each other are refused by name."""

import pytest

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import parse_config
from asrkit.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("training: {two_phase: true, weight_noise: 0.1}", "two_phase needs early_stopping and weight_noise"),
        ("training: {select: ema}", "select ema and ema_decay go together"),
        ("training: {ema_decay: 0.9}", "select ema and ema_decay go together"),
        ("training: {select: average}", "select average needs keep_best above 1"),
        ("training: {pretrain_epochs: 1}", "pretrain_epochs is for model.head both"),
        ("{model: {head: both}, training: {pretrain_epochs: 43}}", "pretrain_epochs must be below num_epochs"),
        ("{model: {head: frames}, training: {num_views: 2}}", "num_views 2 is for heads with CTC"),
        ("training: {bptt_steps: 50}", "a model that looks ahead cannot do that, found model.bidirectional; take"),
        ("{model: {encoder: conformer}, training: {bptt_steps: 50}}", "found model.encoder conformer; take"),
        (
            "{model: {bidirectional: false}, training: {bptt_steps: 0}}",
            "training.bptt_steps must be at least 1, found 0",
        ),
        ("training: {num_views: 3}", "num_views must be 1 or 2, found 3"),
        ("training: {frame_weight: 1}", "frame_weight must be in"),
        ("training: {min_lr: 1}", "min_lr must be at most max_lr"),
        ("training: {bf16: true}", "bf16 is for device cuda or auto"),
        ("training: {augment: {noise_snr_db: [3, 1]}}", "noise_snr_db must be two values, low and high"),
        ("training: {augment: {noises: []}}", "noises must name one or more, found none"),
        (
            "training: {augment: {noises: [rain]}}",
            "brown, babble, hum, gusts, found 'rain'",
        ),
        ("training: {augment: {reverb_t60: [0.01, 0.5]}}", "reverb_t60 must be two values, low and high from 0.05 to"),
        ("training: {augment: {reverb_t60: [0.5]}}", "reverb_t60 must be two values, low and high from 0.05 to 3"),
        ("training: {augment: {reverb_prob: 2}}", "reverb_prob must be from 0 to 1, found 2"),
        ("training: {augment: {level_db: [-100, 0]}}", "level_db must be two values, low and high from -80 to 20"),
        ("training: {augment: {level_db: [6, -30]}}", "level_db must be two values, low and high from -80 to 20"),
        ("training: {augment: {codecs: []}}", "codecs must name one or more, found none"),
        ("training: {augment: {codecs: [8khz, g729]}}", "expected one of 8khz, telephone, mulaw, gsm, opus, mp3"),
        ("training: {augment: {codec_kbps: [4, 48]}}", "codec_kbps must be two values, low and high from 12 to 128"),
        ("training: {augment: {speeds: [3]}}", "speeds must be from 0.5 to 2"),
        ("model: {head: frames, self_conditioning: true}", "self_conditioning is for heads with CTC"),
        ("model: {cell: gru, projection_size: 3}", "projection_size is for cell lstm"),
        ("model: {projection_size: 128}", "projection_size must be at least 1 and below hidden_size"),
        ("model: {nonlinearity: relu}", "nonlinearity relu is for cells elman and jordan"),
        ("model: {init: orthogonal, init_range: 0.1}", "init_range is for init uniform"),
        ("model: {encoder: transformer, num_heads: 3}", r"num_heads \(3\) must divide hidden_size \(128\)"),
        ("model: {encoder: conformer, conv_kernel: 8}", "conv_kernel must be odd, so that it has a middle, found 8"),
        ("model: {encoder: transformer, conv_kernel: 7}", "conv_kernel is for encoder conformer, found encoder transf"),
        ("model: {num_heads: 8}", "num_heads is for encoders transformer and conformer, found encoder recurrent"),
        (
            "model: {encoder: conformer, cell: gru}",
            "model.cell is for encoders recurrent and pyramid, found encoder conf",
        ),
        (
            "model: {encoder: transformer, bidirectional: false}",
            "model.bidirectional is for encoders recurrent and pyramid, found",
        ),
        (
            "{model: {encoder: transformer}, training: {weight_drop: 0.1}}",
            "weight_drop is for encoder recurrent, found",
        ),
    ],
)
def test_settings_that_exclude_each_other(text, fault):
    with pytest.raises(ConfigError, match=fault):
        parse_config(text, ExperimentConfig, "c.yaml")
