"""Compositions from titles: spellings of real tables, and what holds for any."""

import csv
import random
from pathlib import Path

import pytest

from hf_musiclf.data.maestro.titles import normalise_title
from hf_musiclf.data.maestro.works import compositions

REAL_TABLE = Path(__file__).parents[1] / "../shared/data/maestro-metadata/maestro-v3.0.0.csv"
needs_table = pytest.mark.skipif(not REAL_TABLE.exists(), reason="the table of MAESTRO is not beside the repository")

# Titles as they stand in tables of one composer's performances: one work a line.
ONE_WORK = [
    ["Sonata No. 31 In A-flat Major, Op. 110", "Sonata Op. 110", "Sonata in A-flat, Op. 110"],
    ["Sonata No. 21 in C Major, Op. 53, 1st mov.", "Sonata No. 21, Op. 53, II. Introduzione", "Piano Sonatas 21-1"],
    ["Sonata No. 26 in E-Flat Major, Op. 81a, First Movement", "Sonata Op. 81 No. 26, 'Les Adieux'"],
    ["Étude Op.10, No. 4", "etude_op10 no 4", "Etudes op 10 4"],
    ["Prelude Op. 23/4", "Prelude in D Major, Op. 23, No. 4", "Preludes Op. 23, Nos. 2, 4 and 5"],
    ["12 Etudes, Op. 25", "Etude Op. 25 No. 11 in A Minor", "Etudes Op. 25 Nos. 1-5", "Complete Etudes, Opus 25"],
    ["Impromptu Op. 90 No. 3 in G-flat Major, D. 899", "Impromptus Op. 90, No. 3", "Impromptu op.90 D.899 3"],
    ["Sonata in C Major, Hob. XVI/50", "Piano Sonata in C major, Hob. XVI:50", "Sonata, Hob.XVI: 50, I. Allegro"],
    ["Sonata in D Major, K. 96 L. 465", "Sonata in D Major, K96", "Sonata, L. 465", "Sonata KV 96"],
    ["Fugue bwv 846", "Prelude bwv 846"],
    ["Prelude and Fugue in D major, WTC I", "Prelude & Fugue in D Major, Book I, BWV 850"],
    ["Prelude and Fugue in B-Moll, No. 22 WTKII", "Prelude and Fugue in B-flat Minor, WTC II"],
    ["Prelude and Fugue in D-flat Major, WTC I", "Prelude and Fugue in C-sharp Major, WTC I"],
    ["Sonata No. 3", "Sonata No. 3 in B Minor, Op. 58", "Sonata in B Minor, Op. 58 (Complete)"],
    ["Hungarian Rhapsody, No. 12", "Hungarian Rhapsody No. 12, S. 244/12", "Hungarian Rhapsodies 12"],
    ["Sonata in B Min.", "Sonata in B Minor, S. 178"],
    ["Nocturne in Db", "Nocturne Op. 27 No. 2 in D-flat Major"],
    ["Barcarolle in F#", "Barcarolle, Op. 60 in F-sharp Major"],
    ["Polonaise-Fantasie", "Polonaise-Fantasie, Op. 61"],
    ['"La Campanella"', 'Paganini Etude No. 3, S. 141/3 "La Campanella"'],
    ["Dante Sonata", "Aprés une lecture de Dante: Fantasia quasi Sonata, S.161, No. 7"],
    ["Islamei", 'Oriental Fantasy "Islamey"'],
    ["Sonata in C Minor, D. 958", "Sonata in C Minor, D. 959", "Sonata in C  minor, D960"],
    ["Toccata", "Toccata repeat"],
]
SEVERAL_WORKS = [
    ["Etude Op. 10 No. 4", "Etude Op. 10 No. 5", "Etude Op. 25 No. 4"],
    ["Sonata No. 16 in G Major, Op. 31 No. 1", "Sonata No. 17 in D Minor, Op. 31 No. 2, 1st Movement"],
    ["Sonata in B-flat Major, K. 281", "Sonata in B-flat Major, K. 333", "Sonata in B-flat Major, K. 570"],
    ["Prelude and Fugue in D Major, WTC I, BWV 850", "Prelude and Fugue in D Major, WTC II, BWV 874"],
    ["Fugue bwv 862", "Fugue bwv 863", "Fugue bwv 864"],
    ["Ballade No. 1 in G Minor, Op. 23", "Ballade No. 2 in F Major", "Scherzo No. 1", "Scherzo No. 2"],
    ["Moment Musical no 1", "Moment musical no 3"],
    ["Sonata in B Minor", "Sonata in B-flat Minor", "Ballade in B Minor"],
    ["Concert Etude No. 2, S. 144/2", "Concert Etude No. 2, S. 145/2"],
]


def groups(titles, composer="A"):
    return compositions([composer] * len(titles), titles)


def real_rows():
    with REAL_TABLE.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["canonical_composer"] for row in rows], [row["canonical_title"] for row in rows]


@pytest.mark.parametrize("titles", ONE_WORK, ids=lambda titles: titles[0])
def test_spellings_of_one_work_are_one_composition(titles):
    assert len(set(groups(titles))) == 1


@pytest.mark.parametrize("titles", SEVERAL_WORKS, ids=lambda titles: titles[0])
def test_other_numbers_and_keys_are_other_compositions(titles):
    assert len(set(groups(titles))) == len(titles)


def test_numbers_dragged_down_are_taken_for_the_first():
    # The Sonata in A is D. 959 and that in B flat D. 960; the tables of competitions count on, row by row.
    titles = ["Sonata in A D959", "Sonata in A D960", "Sonata in A D961", "Sonata in Bb D960", "Sonata in Bb D961"]
    found = groups(titles)
    assert found[0] == found[1] == found[2] != found[3] == found[4]


@pytest.mark.parametrize(
    "title,normalised",
    [
        ("Étude Op.10, No. 4", "etude op 10 no 4"),
        ("Sonata in B♭, D960", "sonata in b flat d 960"),
        ("Fugue BWV903 & Suite_HWV427", "fugue bwv 903 and suite hwv 427"),
        ("Concert Etude S. 139/10", "concert etude s 139 10"),
        ("Опус 1", "опус 1"),
        ("???", "???"),
    ],
)
def test_a_normalised_title_has_no_case_signs_or_accents(title, normalised):
    assert normalise_title(title) == normalised == normalise_title(normalised)


def test_the_whole_contains_its_pieces_and_so_joins_them():
    pieces = ["Etude Op. 25 No. 1", "Etude Op. 25 No. 11"]
    assert len(set(groups(pieces))) == 2
    assert len(set(groups([*pieces, "12 Etudes, Op. 25"]))) == 1


def test_what_has_nothing_in_common_stays_alone():
    titles = ["Lilac", "Toccata Op. 7", "Waltz, Op. 38", "Prelude & Fugue", "Hungarian Rhapsody", "In a Landscape"]
    assert len(set(groups(titles))) == len(titles)


def test_a_bare_form_joins_no_entry_where_it_may_be_several():
    titles = ["Sonata", "Sonata Op. 101", "Sonata Op. 110"]
    assert len(set(groups(titles))) == 3
    assert len(set(groups(titles[:2]))) == 1


def test_two_composers_share_no_composition():
    found = compositions(["Frédéric Chopin", "Frederic Chopin", "Franz Liszt"], ["Ballade No. 2"] * 3)
    assert found[0] == found[1] == "Frederic Chopin: ballade no 2" and found[2] == "Franz Liszt: ballade no 2"


def test_every_spelling_of_a_list_leads_to_the_same_names_in_any_order():
    titles = [title for work in (*ONE_WORK, *SEVERAL_WORKS) for title in work]
    expected = dict(zip(titles, groups(titles), strict=True))
    random.Random(0).shuffle(titles)
    assert dict(zip(titles, groups(titles), strict=True)) == expected
    assert compositions([], []) == []


# The table of MAESTRO v3


@needs_table
def test_maestro_has_345_compositions_of_single_credit_in_713_titles():
    composers, titles = real_rows()
    found = compositions(composers, titles)
    single = [index for index, composer in enumerate(composers) if " / " not in composer]
    assert len({(composers[index], normalise_title(titles[index])) for index in single}) == 713
    assert len({found[index] for index in single}) == 345
    assert all(group.startswith(f"{composer}: ") for group, composer in zip(found, composers, strict=True))
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
