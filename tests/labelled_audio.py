"""Small labelled data of noise: a dataset as the Hub stores it, and folders of files."""

import io

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from conftest import noise

from hf_musiclf.data.hub import load_hub_dataset

GENRES = ["jazz", "blues", "rock"]
# Two tracks of each of four artists a genre, in each of three splits.
LABELS = [label for label in range(3) for _ in range(8)]
ARTISTS = [f"{GENRES[label]} {index % 4}" for index, label in enumerate(LABELS)]
TEXT = datasets.Value("string")


def encoded(*key, seconds=0.1, sampling_rate=8000, container="WAV"):
    """The bytes of a file of noise."""
    file = io.BytesIO()
    soundfile.write(file, noise(seconds, sampling_rate, *key), sampling_rate, format=container)
    return file.getvalue()


def write_dataset(folder, splits=("train", "validation", "test"), audio_column="audio", change=None, **columns):
    """A dataset as the Hub stores it: audio embedded, feature types in the schema's metadata.

    columns: name -> (feature, values), the same in every split. change: function of the split's number and its list of
    bytes.
    """
    features = datasets.Features(
        {audio_column: datasets.Audio(), **{name: feature for name, (feature, _) in columns.items()}}
    )
    length = len(next(iter(columns.values()))[1])
    (folder / "data").mkdir(parents=True)
    for number, split in enumerate(splits):
        audio = [encoded(number, index) for index in range(length)]
        if change:
            change(number, audio)
        table = {audio_column: [{"bytes": data, "path": None} for data in audio]}
        table |= {name: values for name, (_, values) in columns.items()}
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        pq.write_table(pa.table(table, schema=features.arrow_schema), path)
    return str(folder)


def loading_in(tmp_path):
    """A function that loads a dataset of `write_dataset`'s arguments; those of `load_hub_dataset` go into `how`."""

    def load_table(how=None, **what):
        folder = write_dataset(tmp_path / "dataset", **what)
        return load_hub_dataset(folder, cache_dir=str(tmp_path / "cache"), **(how or {}))

    return load_table


def class_labels(labels=LABELS, names=GENRES):
    return datasets.ClassLabel(names=names), labels


def text_labels(labels=LABELS, names=GENRES):
    return TEXT, [names[label] for label in labels]


def write_files(folder, *files):
    """Files of noise, each its own; returns folder."""
    for number, file in enumerate(files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(encoded(number, len(file)))
    return folder


def write_label_folders(folder, labels=GENRES, tracks_per_label=4):
    """`folder/LABEL/N.wav`, each track other noise; returns folder."""
    for label in labels:
        (folder / label).mkdir(parents=True)
        for index in range(tracks_per_label):
            (folder / label / f"{index}.wav").write_bytes(encoded(len(label), index))
    return folder
