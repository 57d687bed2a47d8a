"""The true table of MAESTRO v3, whose audio is not here: what remains, and what leaks; and some real performances."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tiny_maestro import reasons

from hf_musiclf.data.maestro import load_maestro
from hf_musiclf.data.maestro.files import read_table
from hf_musiclf.data.maestro.selection import by_composition, credit, select
from hf_musiclf.data.maestro.titles import Title, normalise_title
from hf_musiclf.data.maestro.works import compositions, title_text
from hf_musiclf.data.tracks import split_tracks
from hf_musiclf.splits import FRACTIONS, grouped_split

SHARED = Path(__file__).parents[1] / "../shared/data"
TABLES, MINI = SHARED / "maestro-metadata", SHARED / "maestro-mini"
needs_table = pytest.mark.skipif(not TABLES.exists(), reason="the table of MAESTRO is not beside the repository")


@pytest.fixture(scope="module")
def selected():
    """Performances and composers under the defaults, their compositions, and what was left out."""
    if not TABLES.exists():
        pytest.skip("the table of MAESTRO is not beside the repository")
    credited, doubled = credit(read_table(TABLES).performances, "leave_out")
    credited, group_of, unnamed = by_composition(credited)
    kept, left_out = select(credited, group_of, 3, 3)
    return kept, [group_of[performance.track] for performance in kept], [*doubled, *unnamed, *left_out]


def label_ids(kept):
    return np.unique(list(kept.values()), return_inverse=True)[1]


def real_rows():
    with (TABLES / "maestro-v3.0.0.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["canonical_composer"] for row in rows], [row["canonical_title"] for row in rows]


def test_counts_of_maestro_under_the_defaults(selected):
    kept, groups, skipped = selected
    assert (len(kept), len(set(groups)), len(set(kept.values()))) == (980, 311, 17)
    assert len({(composer, normalise_title(found.title)) for found, composer in kept.items()}) == 669
    # Of two composers, of no single work, of composers with few compositions, and beyond the cap.
    assert [entry["count"] for entry in skipped] == [54, 9, 44, 189]
    assert 980 + 54 + 9 + 44 + 189 == 1276
    assert min(Counter(kept.values()).values()) == 5


@needs_table
def test_titles_of_maestro_that_name_no_single_work():
    composers, titles = real_rows()
    unnamed = [title for title, group in zip(titles, compositions(composers, titles), strict=True) if group is None]
    assert Counter(unnamed) == {
        "Preludes No. 2, 6, 12": 2,
        "Prelude & Fugue": 2,
        "Four Preludes": 1,
        "Three Etudes": 1,
        "Two Sonatas": 1,
        "Hungarian Rhapsody": 1,
        "Etudes-Tableaux": 1,
    }


@pytest.mark.parametrize("seed", range(3))
def test_every_composer_of_maestro_stands_in_every_split_by_composition(selected, seed):
    kept, groups, _ = selected
    labels = label_ids(kept)
    for split, items in grouped_split(labels, groups, seed=seed).items():
        assert abs(len(items) / len(kept) - FRACTIONS[split]) < 0.02
        assert len(set(labels[items])) == 17


def test_what_maestro_leaks_when_split_by_performance_or_by_title(selected):
    """The figures that the docstring of works.py names."""
    kept, groups, _ = selected
    pieces = [f"{composer}: {normalise_title(found.title)}" for found, composer in kept.items()]

    def leaks(split_groups, shared):
        splits = grouped_split(label_ids(kept), split_groups, seed=0)
        seen = set().union(*(shared[item] for item in splits["train"]))
        return sum(bool(shared[item] & seen) for item in splits["test"]), len(splits["test"])

    works = [{group} for group in groups]
    assert leaks(None, works) == (81, 99)
    assert leaks(None, [{piece} for piece in pieces]) == (47, 99)
    assert leaks(pieces, works) == (75, 99)
    # Catalogue entries alone, which need none of the rules but their own.
    entries = [
        {
            (composer, entry, piece)
            for entry, own in Title.parse(title_text(composer, found.title)).entries.items()
            for piece in own or {"whole"}
        }
        for found, composer in kept.items()
    ]
    assert leaks(pieces, entries) == (52, 99)


@needs_table
def test_maestro_has_332_compositions_of_single_credit_in_713_titles():
    composers, titles = real_rows()
    found = compositions(composers, titles)
    single = [index for index, composer in enumerate(composers) if " / " not in composer]
    assert len({(composers[index], normalise_title(titles[index])) for index in single}) == 713
    assert len({found[index] for index in single} - {None}) == 332
    assert all(group is None or group.startswith(f"{name}: ") for group, name in zip(found, composers, strict=True))
    # United as far as titles demand it, and no further: no composition is most of a composer of many works.
    for composer in ("Frédéric Chopin", "Franz Schubert", "Ludwig van Beethoven", "Johann Sebastian Bach"):
        own = [group for group, name in zip(found, composers, strict=True) if name == composer]
        assert max(map(own.count, set(own))) <= 0.2 * len(own)


@needs_table
@pytest.mark.parametrize(
    "composer,words,count",
    [
        ("Ludwig van Beethoven", ("op. 53",), 18),
        ("Ludwig van Beethoven", ("woo",), 27),
        ("Franz Liszt", ("campanella", "s. 141"), 12),
        ("Robert Schumann", ("kreisleriana",), 6),
        ("Frédéric Chopin", ("op. 58", "sonata no. 3"), 12),
    ],
)
def test_works_of_maestro_are_whole(composer, words, count):
    composers, titles = real_rows()
    found = compositions(composers, titles)
    own = [
        (title, group)
        for name, title, group in zip(composers, titles, found, strict=True)
        if name == composer and any(word in title.casefold() for word in words)
    ]
    assert len(own) == count
    # Op. 57 and 80 of Beethoven's works without opus are the Andante favori and the Variations.
    assert len({group for _, group in own}) == (2 if words == ("woo",) else 1)


@needs_table
def test_an_order_of_rows_changes_no_composition_of_maestro():
    composers, titles = real_rows()
    expected = compositions(composers, titles)
    assert compositions(composers[::-1], titles[::-1]) == expected[::-1]


@pytest.mark.skipif(not MINI.exists(), reason="the performances of MAESTRO are not beside the repository")
def test_real_performances_load_and_split():
    table = load_maestro(str(MINI))
    assert (len(table), len(set(table.groups)), len(table.labels)) == (395, 120, 9)
    assert set(table.column("sampling_rate")) == {22050}
    assert 10 <= min(table.column("duration")) and max(table.column("duration")) < 51
    assert sum("less than min_track_seconds=10.0" in reason for reason in reasons(table).values()) == 16
    assert not any("no single work" in reason for reason in reasons(table).values())
    split = split_tracks(table, "composition", 0)
    assert all(found["group"]["items"] == found["title"]["items"] == 0 for found in split.leakage.values())
    assert all(min(counts["labels"].values()) > 0 for counts in split.counts().values())
