"""From labelled audio, wherever it lies, to a table of tracks: decoded once, grouped, with its split schemes."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import datasets

from hf_musiclf.data.artists import artist_groups
from hf_musiclf.data.schemes import RANDOM, Given, Stratified
from hf_musiclf.data.tracks import (
    TRACK_COLUMNS,
    Source,
    TrackTable,
    decoded_row,
    decoder_identity,
    groups_without_duplicates,
    readable_rows,
    track_features,
)
from hf_musiclf.errors import UserError
from hf_musiclf.launching import available_cores
from hf_musiclf.splits import SPLITS

LABEL_COLUMNS = ("label", "genre", "labels")
GROUP_COLUMNS = ("group", "artist")

# What people call a split, in small letters -> our name for it.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}

# What decoding finds out.
DECODED_COLUMNS = ("duration", "sampling_rate", "audio_hash", "error")


def labelled_table(
    source: Source,
    audio: datasets.Dataset,
    labels: Sequence[str],
    label_ids: Sequence[int],
    text: Mapping[str, Sequence[str | None]],
    group_column: str | None = None,
    group_values: Sequence[str | None] | None = None,
    splits: Sequence[str | None] = (),
) -> TrackTable:
    """The table of those tracks that can be decoded; the others are counted in `skipped`.

    audio: n rows of the one column "audio", undecoded. label_ids: `(n,)` indices into labels. text: track, artist and
    title, `(n,)` each. group_column: what the groups are called, None where there are none; "artist" joins the artists
    of shared credits. group_values, splits: `(n,)`. Schemes: `given` where splits are stated, first
    where all three are; `artist` or `group`, with a group column; `random`. Raises UserError where nothing can be
    decoded.
    """
    described = datasets.Dataset.from_dict(
        {**{name: list(values) for name, values in text.items()}, "label": list(label_ids)},
        features=datasets.Features(
            {**{name: TRACK_COLUMNS[name] for name in text}, "label": datasets.ClassLabel(names=list(labels))}
        ),
    )
    columns = datasets.concatenate_datasets([audio, _decoded(audio), described], axis=1)
    all_rows = columns.select_columns(list(track_features(labels)))
    rows, skipped = readable_rows(all_rows)
    if not len(rows):
        raise UserError(f"{source.name}: none of its {len(skipped)} tracks can be decoded: {skipped[0]['reason']}")
    readable = [index for index, error in enumerate(all_rows["error"][:]) if not error]
    groups = list(group_values) if group_column else [None] * len(all_rows)
    if group_column == "artist":
        groups = artist_groups(groups)
    groups = groups_without_duplicates([groups[index] for index in readable], rows)
    given = Given("given", tuple(splits[index] or "" for index in readable)) if any(splits) else None
    schemes = {"given": given} if given and set(SPLITS) <= set(given.split_of) else {}
    if group_column:
        scheme = "artist" if group_column == "artist" else "group"
        schemes[scheme] = Stratified(scheme, group_column, "use --split_scheme random")
    schemes["random"] = RANDOM
    if given:  # of which a part is missing: last, and it says so
        schemes.setdefault("given", given)
    return TrackTable(source, rows, tuple(labels), groups, skipped, schemes)


def _decoded(audio: datasets.Dataset) -> datasets.Dataset:
    """Duration, rate, hash or error of every row; kept by the cache of `map`, which knows a table by its arguments.

    Without labels and names, so that a corrected label decodes nothing; without audio, so that none is copied.
    """
    return audio.map(
        _decoded_batch,
        batched=True,
        batch_size=available_cores(),  # decoded side by side, and all that memory holds of the audio
        fn_kwargs={"decoder": decoder_identity()},
        remove_columns=["audio"],
        features=datasets.Features({name: TRACK_COLUMNS[name] for name in DECODED_COLUMNS}),
        desc="Decoding every track once",
    )


def _decoded_batch(batch: Mapping[str, list], decoder: str) -> dict[str, list]:
    files = [{"audio": audio or {"path": None, "bytes": None}} for audio in batch["audio"]]
    with ThreadPoolExecutor(max_workers=len(files)) as pool:
        found = list(pool.map(decoded_row, files))
    return {name: [row[name] for row in found] for name in DECODED_COLUMNS}
