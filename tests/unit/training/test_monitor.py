"""What is written of a run: rows, scalars that TensorBoard reads, a picture."""

import csv
import math
import struct
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from tensorboardX.proto.event_pb2 import Event, SessionLog

from asrkit.training.curve import draw_learning_curve
from asrkit.training.monitor import Monitor, write_history
from asrkit.training.state import EpochRecord


def record(epoch, phase=1, skipped=0):
    return EpochRecord(
        epoch, phase, 3 / epoch, 4 / epoch, 100 / epoch, epoch == 2, 1e-3 / epoch, 0.5 * epoch, skipped, 7.0 * epoch
    )


def read_scalars(directory):
    """{(tag, step): value} as TensorBoard shows them: a START drops what earlier files have from its step on.

    A file of events holds records of length (uint64), checksum (uint32), data, checksum (uint32).
    """
    shown = {}
    for path in sorted(directory.iterdir()):
        content = path.read_bytes()
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            event, content = Event.FromString(content[12 : 12 + size]), content[16 + size :]
            if event.session_log.status == SessionLog.START:
                shown = {key: value for key, value in shown.items() if key[1] < event.step}
            for value in event.summary.value:
                assert (value.tag, event.step) not in shown
                shown[value.tag, event.step] = value.simple_value
    return shown


def test_a_line_and_scalars_for_every_epoch(tmp_path, capsys):
    history = [record(1, phase=0), record(2), record(3, phase=2, skipped=5)]
    monitor = Monitor(tmp_path, 1)
    for number in (1, 2, 3):
        monitor.show(history[:number], 250.0 + number, 60.0, 9)
    monitor.close(history)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "epoch 1/9: pre-training on frames, loss 3.000, dev loss 4.000, dev PER 100.00 %, 251 utterances/s, "
        "7 CPU seconds, 60 s left",
        "epoch 2/9: loss 1.500, dev loss 2.000, dev PER 50.00 % (blank phase), 252 utterances/s, 14 CPU seconds, "
        "60 s left",
        "epoch 3/9: with weight noise, loss 1.000, dev loss 1.333, dev PER 33.33 %, skipped batches: 5, "
        "253 utterances/s, 21 CPU seconds, 60 s left",
    ]
    scalars = read_scalars(tmp_path / "tensorboard")
    names = ("train_loss", "dev_loss", "dev_per", "learning_rate", "gradient_norm", "skipped_batches")
    expected = {(name, each.epoch): getattr(each, name) for each in history for name in names}
    expected |= {("utterances_per_second", epoch): 250.0 + epoch for epoch in (1, 2, 3)}
    assert scalars.keys() == expected.keys()
    assert all(math.isclose(scalars[key], expected[key], rel_tol=1e-6) for key in expected)
    assert (tmp_path / "learning_curve.png").exists()


def test_an_epoch_done_again_is_shown_once(tmp_path):
    history = [record(epoch) for epoch in (1, 2, 3)]
    killed = Monitor(tmp_path, 1)
    for number in (1, 2):  # killed before the checkpoint after epoch 2
        killed.show(history[:number], 1.0, 0.0, 3)
    resumed = Monitor(tmp_path, 2)
    for number in (2, 3):
        resumed.show(history[:number], 2.0, 0.0, 3)
    resumed.close(history)
    killed.close(history)
    rates = {key[1]: value for key, value in read_scalars(tmp_path / "tensorboard").items() if key[0].startswith("utt")}
    assert rates == {1: 1.0, 2: 2.0, 3: 2.0}


def test_history_is_a_table(tmp_path):
    history = [record(1), replace(record(2), train_loss=math.nan, learning_rate=1.25e-7)]
    write_history(tmp_path / "history.csv", history)
    with open(tmp_path / "history.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == [field.name for field in fields(EpochRecord)]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert rows[1]["train_loss"] == "nan"
    assert float(rows[1]["learning_rate"]) == 1.25e-7
    assert float(rows[1]["dev_per"]) == 50.0
    assert [row["blank_phase"] for row in rows] == ["0", "1"]


def test_the_picture_is_drawn_when_more_than_a_minute_has_passed(tmp_path, monkeypatch):
    drawn, clock = [], iter([1000, 1030, 1060, 1061, 1061, 1121, 1122, 1122, 1123])
    monkeypatch.setattr("asrkit.training.monitor.time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr("asrkit.training.curve.draw_learning_curve", lambda history, path: drawn.append(len(history)))
    history = [record(epoch) for epoch in range(1, 6)]
    monitor = Monitor(tmp_path, 1)
    for number in range(1, 6):
        monitor.show(history[:number], 250.0, 60.0, 5)
    assert drawn == [3, 5]  # after 61 seconds, and after 61 more
    monitor.close(history)
    assert drawn == [3, 5, 5]


def test_the_picture_tells_the_phases_apart(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(FigureCanvasAgg, "print_png", lambda canvas, stream: figures.append(canvas.figure))
    draw_learning_curve([record(epoch, phase) for epoch, phase in enumerate((0, 0, 1, 1, 2), 1)], tmp_path / "a.png")
    draw_learning_curve([record(1), record(2)], tmp_path / "b.png")
    legends = [{text.get_text() for text in figure.axes[1].get_legend().get_texts()} for figure in figures]
    assert legends[1] == {"training loss", "dev loss", "dev PER"}
    assert legends[0] == legends[1] | {"pre-training on frames", "weight noise begins"}
    left, _ = figures[0].axes
    assert [(span.get_x(), span.get_width()) for span in left.patches] == [(0.5, 2.0)]
    assert [line.get_xdata() for line in left.lines if line.get_label() == "weight noise begins"] == [[4.5, 4.5]]


def test_the_picture_shows_both_losses_and_per(tmp_path):
    """Each curve has a colour of its own, and a curve of NaNs leaves no trace."""
    colours = {"train_loss": (31, 119, 180), "dev_loss": (255, 127, 14), "dev_per": (44, 160, 44)}

    def pixels_of(history):
        draw_learning_curve(history, tmp_path / "curve.png")
        image = np.rint(imread(tmp_path / "curve.png")[:, :, :3] * 255).astype(int)
        return {name: int((np.abs(image - colour).max(2) < 3).sum()) for name, colour in colours.items()}

    history = [record(epoch, phase=min(epoch - 1, 2)) for epoch in range(1, 6)]
    whole = pixels_of(history)
    assert min(whole.values()) > 100
    for name in colours:
        without = pixels_of([replace(each, **{name: math.nan}) for each in history])
        assert without[name] < 0.4 * whole[name], name  # what is left is its entry in the legend
    assert pixels_of([record(1)])["dev_per"] > 0
    assert pixels_of([]) is not None
