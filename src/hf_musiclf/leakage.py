"""What the splits of a data set share with each other, counted and in words."""

from collections.abc import Mapping, Sequence

import numpy as np


def leakage_report(
    splits: Mapping[str, np.ndarray],
    groups: Sequence[str | None],
    titles: Sequence[str | None],
    audio_hashes: Sequence[str | None],
) -> dict[str, dict[str, dict[str, int | float]]]:
    """What each later split shares with each earlier one.

    groups, titles, audio_hashes: `(n,)`, None where unknown. A title is to name the work and its artist, so that two
    different songs of one name are not taken for the same. Returns e.g. `report["train/test"]["group"]` ->
    `{"shared": distinct groups on both sides, "items": items of test that share one, "known": items of test whose
    group is known, "share": items / known}`, and the same for "title" and "audio" (exact duplicates).
    """
    report = {}
    names = list(splits)
    for position, first in enumerate(names):
        for second in names[position + 1 :]:
            report[f"{first}/{second}"] = {
                what: _shared(values, splits[first], splits[second])
                for what, values in (("group", groups), ("title", titles), ("audio", audio_hashes))
            }
    return report


def _shared(values, first, second) -> dict[str, int | float]:
    seen = {values[item] for item in first} - {None}
    known = [values[item] for item in second if values[item] is not None]
    hits = [value for value in known if value in seen]
    share = round(len(hits) / len(known), 4) if known else 0.0
    return {"shared": len(set(hits)), "items": len(hits), "known": len(known), "share": share}


def format_leakage(report: Mapping, group_word: str = "group") -> str:
    """The report as lines of text, one a pair of splits and kind of leak.

    >>> splits = {"train": np.array([0, 1]), "test": np.array([2])}
    >>> print(format_leakage(leakage_report(splits, ["a", "b", "b"], [None] * 3, ["x", "y", "z"]), "artist"))
    train/test: 1 of 1 test tracks share their artist with train (100 %)
    train/test: no title of test is known, so nothing can be said of it
    train/test: no exact duplicate among 1 known
    """
    words = {"group": group_word, "title": "title", "audio": "exact duplicate"}
    lines = []
    for pair, found in report.items():
        first, second = pair.split("/")
        clean = []
        for what, counts in found.items():
            if not counts["known"]:
                lines.append(f"{pair}: no {words[what]} of {second} is known, so nothing can be said of it")
                continue
            if not counts["items"]:
                shared = "no" if what == "audio" else "no shared"
                clean.append(f"{shared} {words[what]} among {counts['known']} known")
                continue
            having = "have an exact duplicate in" if what == "audio" else f"share their {words[what]} with"
            lines.append(
                f"{pair}: {counts['items']} of {counts['known']} {second} tracks {having} {first} "
                f"({100 * counts['share']:.0f} %)"
            )
        if clean:
            lines.append(f"{pair}: " + ", ".join(clean))
    return "\n".join(lines)
