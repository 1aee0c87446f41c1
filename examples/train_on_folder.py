"""Train on a folder of audio with a table of phones, then recognize a file.

    python examples/train_on_folder.py FOLDER EXP AUDIO [CONFIG.yaml]

FOLDER holds the audio and corpus.csv with the columns audio, phones and speaker (docs/own-corpus.md). Everything that
is made goes to EXP. A second run finds all steps up to date.
"""

import sys
from pathlib import Path

import asrkit

if __name__ == "__main__":  # features are computed by processes, which import this file
    folder, exp, audio, *config_file = map(Path, sys.argv[1:])
    config = asrkit.load_config(*config_file)
    data, decoded = exp / "data", exp / "decode_test"

    asrkit.prepare_own(folder, data)
    asrkit.extract([data / name for name in ("train", "dev", "test")], config.features, num_jobs=2)
    asrkit.train_lm(data / "train", data / "tokens.txt", data / "lm.arpa")
    asrkit.train(asrkit.TrainingData.under(data), exp, config, resume=True)
    asrkit.decode(exp, data / "test", decoded)
    print(*asrkit.score(data / "test" / "text", decoded / "hyp").lines(), sep="\n")

    hypothesis = asrkit.load_recognizer(exp).transcribe(audio)
    for time, confidence in zip(hypothesis.times, hypothesis.confidences, strict=True):
        print(f"{time.start:7.3f} {time.end:7.3f} {time.phone} {confidence:.2f}")
