"""A local folder of labelled audio, `LABEL/file.wav`, as a dataset of paths.

`datasets` reads such a folder too, but not without torchcodec, since it encodes what it lists.
"""

from collections import Counter
from pathlib import Path

import datasets

from hf_musiclf.data.gtzan_files import AUDIO_SUFFIXES
from hf_musiclf.errors import UserError

# What `datasets` reads as a table; a folder that holds one is left to it.
TABLE_SUFFIXES = (".parquet", ".arrow", ".csv", ".json", ".jsonl")


def is_labelled_folder(folder: Path) -> bool:
    """Whether `folder` is a folder with audio in it or right below it, and without a table."""
    if not folder.is_dir() or not any(any(_audio_files(folder, pattern)) for pattern in ("*", "*/*")):
        return False
    return not any(path.suffix.lower() in TABLE_SUFFIXES for path in folder.rglob("*"))


def list_labelled_folder(folder: Path, cache_dir: str | None = None) -> datasets.Dataset:
    """Columns track ("LABEL/stem"), audio (path) and label (class label) of every `folder/LABEL/file`, sorted.

    Nothing is decoded. cache_dir: where the list is kept. Raises UserError for fewer than two label folders, and for a
    track that is there in two formats.
    """
    files = sorted(_audio_files(folder.resolve(), "*/*"))
    labels = sorted({file.parent.name for file in files})
    if len(labels) < 2:
        raise UserError(
            f"dataset_name={folder} holds audio in {len(labels)} label folder{'s' if len(labels) != 1 else ''}; a "
            f"classifier needs two: put each file into a folder named after its label, {folder.name}/LABEL/file.wav"
        )
    twice = [track for track, count in Counter(map(_track, files)).items() if count > 1]
    if twice:
        raise UserError(f"dataset_name={folder} holds {twice[0]} twice, in two formats; keep one")
    features = {
        "track": datasets.Value("string"),
        "audio": datasets.Value("string"),
        "label": datasets.ClassLabel(names=labels),
    }
    # Size and time are there for the cache, which knows a list again by its arguments.
    known = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return datasets.Dataset.from_generator(
        _rows, features=datasets.Features(features), cache_dir=cache_dir, gen_kwargs={"known": known}
    )


def _audio_files(folder: Path, pattern: str):
    for file in folder.glob(pattern):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.suffix.lower() in AUDIO_SUFFIXES and not hidden and file.is_file():
            yield file


def _track(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


def _rows(known):
    for path, _, _ in known:
        yield {"track": _track(Path(path)), "audio": path, "label": Path(path).parent.name}
