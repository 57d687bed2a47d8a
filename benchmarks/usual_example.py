"""The usual way that benchmarks/usual_way.py compares with: a training as the example of Transformers has it.

After `examples/pytorch/audio-classification/run_audio_classification.py`: `set_transform` decodes whole files, cuts a
random stretch for training and none for evaluation, and calls the stock extractor, which keeps the first window; a
plain Trainer. Files are decoded by soundfile and brought to the model's rate by soxr, so that torchcodec, which
`datasets.Audio` would ask for, is not needed. Nothing of hf_musiclf is in it.

Takes the path of a JSON file: {"model": folder, "splits": {split: [[path, label id], ...]}, "window_seconds",
"output_dir", "arguments": of TrainingArguments}. Its last line is the label id of every test track, in their order.
"""

import json
import sys
from pathlib import Path
from random import randint

import datasets
import numpy as np
import soundfile
import soxr
from signals import mono
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)


def random_stretch(wave, samples):
    if len(wave) <= samples:
        return wave
    start = randint(0, len(wave) - samples - 1)
    return wave[start : start + samples]


def accuracy(predicted):
    return {"accuracy": float((predicted.predictions.argmax(axis=1) == predicted.label_ids).mean())}


def main(request):
    arguments = TrainingArguments(request["output_dir"], remove_unused_columns=False, **request["arguments"])
    set_seed(arguments.seed)
    extractor = AutoFeatureExtractor.from_pretrained(request["model"])
    model = AutoModelForAudioClassification.from_pretrained(request["model"])
    rate, name = extractor.sampling_rate, extractor.model_input_names[0]

    def decode(path):
        samples, its_rate = soundfile.read(path, dtype="float32", always_2d=True)
        return soxr.resample(mono(samples), its_rate, rate)

    def features_of(waves, labels):
        return {name: extractor(waves, sampling_rate=rate).get(name), "labels": list(labels)}

    def for_training(batch):
        samples = round(request["window_seconds"] * rate)
        return features_of([random_stretch(decode(path), samples) for path in batch["path"]], batch["label"])

    def for_evaluation(batch):
        return features_of([decode(path) for path in batch["path"]], batch["label"])

    data = {}
    for split, rows in request["splits"].items():
        paths, labels = zip(*rows, strict=True)
        data[split] = datasets.Dataset.from_dict({"path": paths, "label": labels})
        data[split].set_transform(for_training if split == "train" else for_evaluation, output_all_columns=False)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        compute_metrics=accuracy,
        processing_class=extractor,
    )
    trainer.train()
    trainer.save_model()
    return np.argmax(trainer.predict(data["test"]).predictions, axis=1).tolist()


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
