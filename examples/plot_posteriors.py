"""Plot what a trained model makes of a file: its posteriors, and when each phone is said.

    python examples/plot_posteriors.py MODEL AUDIO PICTURE.png ['PHONE PHONE ...']

With phones these are aligned to the audio; without, those that the model recognizes are shown.
"""

import sys

import matplotlib

matplotlib.use("Agg")  # needs no screen
import matplotlib.pyplot as plt
import numpy as np

import asrkit

model, audio, picture = sys.argv[1:4]
phones = " ".join(sys.argv[4:]).split()
recognizer = asrkit.load_recognizer(model)
waveform = asrkit.read_audio(audio, sample_rate=recognizer.features.sample_rate)
posteriors = np.exp(recognizer.model.log_probs(recognizer.extractor(waveform)))  # (num_steps, num_classes)
hypothesis = recognizer.align(waveform, phones) if phones else recognizer.transcribe(waveform)

figure, (upper, lower) = plt.subplots(2, sharex=True, height_ratios=(1, 2), figsize=(12, 7), layout="constrained")
seconds = np.arange(len(waveform.samples)) / waveform.sample_rate
upper.plot(seconds, waveform.samples / 2**15, color="0.6", linewidth=0.5)
upper.set_ylabel("amplitude")
for time, confidence in zip(hypothesis.times, hypothesis.confidences, strict=True):
    upper.axvspan(time.start, time.end, alpha=0.1 + 0.3 * confidence)
    upper.text((time.start + time.end) / 2, upper.get_ylim()[1], time.phone, ha="center", va="bottom")

classes = ["blank", *recognizer.model.tokens.phones]
lower.imshow(
    posteriors.T, aspect="auto", interpolation="nearest", extent=(0, waveform.duration, len(classes) - 0.5, -0.5)
)
lower.set_yticks(range(len(classes)), classes, fontsize=7)
lower.set_xlabel("seconds")
figure.savefig(picture, dpi=100)
print(picture, *hypothesis.phones)
