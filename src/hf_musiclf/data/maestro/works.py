"""Which performances play the same composition, told from composers and titles alone.

Titles of piano competitions are not standardised: "Sonata Op. 110", "Sonata in A-flat, Op. 110" and "Sonata No. 31 In
A-flat Major, Op. 110" are one work. Where in doubt two titles are united, since a composition too large costs a split
some variety, and a work on both sides of it makes the test worthless. Abbreviations ("Rhapsody Esp.") and translations
("Fireworks") stand in a table, `spellings.py`; other tables may have others, which are not seen. Titles that name no
single work ("Prelude & Fugue" of Bach's) may be any of them: they get no composition.

Titles alone, normalised, would not do: of MAESTRO v3 split by them under the defaults (seed 0), 75 of 99 test
performances play a composition of training by the rules below, and 52 share the very catalogue entry with it; by
performance 81 of 99 do (tests/test_maestro_v3.py counts them).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hf_musiclf.data.maestro.spellings import SPELLINGS
from hf_musiclf.data.maestro.titles import Title, canonical_names, expanded, normalise_title
from hf_musiclf.splits import merge_groups


def compositions(composers: Sequence[str], titles: Sequence[str]) -> list[str | None]:
    """The composition of each performance, by name: its composer, and the first of its normalised titles.

    composers, titles: `(n,)`. Titles of one composer are united, transitively, that share their text, a catalogue entry
    (see `Title.entries`), a number in a series ("Sonata No. 21"), book and key of the Well-Tempered Clavier, or a
    name. A title without catalogue entry joins all of its form and key ("Sonata in A Min."), or the one entry that has
    its very words ("Dumka", "Dumka, Op. 59"). Movements, and a prelude and its fugue, are one composition. None for a
    title that names no single work: a bare form ("Two Sonatas") of which the composer has several others here.

    >>> compositions(["A", "A", "B"], ["Sonata No. 2", "Sonata No. 2 in G, Op. 19", "Sonata No. 2"])
    ['A: sonata no 2', 'A: sonata no 2', 'B: sonata no 2']
    >>> compositions(["A"] * 3, ["Sonata Op. 1", "Sonata Op. 2", "Sonata"])
    ['A: sonata op 1', 'A: sonata op 2', None]
    """
    names = canonical_names(composers)
    keys = [(names[composer], title_text(composer, title)) for composer, title in zip(composers, titles, strict=True)]
    by_composer: dict[str, set[str]] = defaultdict(set)
    for composer, text in keys:
        by_composer[composer].add(text)
    found = {}
    for composer, texts in by_composer.items():
        for text, group in _grouped([Title.parse(text) for text in sorted(texts)]).items():
            found[composer, text] = f"{composer}: {group}"
    return [found.get(key) for key in keys]


def title_text(composer: str, title: str) -> str:
    """The normalised title, or that of the title it stands for; to be parsed."""
    return expanded(SPELLINGS.get((normalise_title(composer), normalise_title(title)), title))


def _grouped(titles: list[Title]) -> dict[str, str]:
    """Text -> first text of its composition, of one composer's titles; without those that name no single work."""
    bare = [title for title in titles if title.is_bare()]
    told = [title for title in titles if not title.is_bare()]
    found, joined = _united(told), []
    for title in bare:
        may_be = sorted({found[other.text] for other in told if title.kind() <= other.kind()})
        if len(may_be) <= 1:
            # The only work that it can be, or, where there is none, what is as bare.
            told.append(title)
            joined += [(title, f"bare {sorted(title.kind())}"), *((title, f"text {text}") for text in may_be)]
    return _united(told, joined)


def _united(titles: list[Title], joined: Sequence[tuple[Title, str]] = ()) -> dict[str, str]:
    """Text -> first text of all that share a key with it. joined: keys beside those of `_shared_keys`."""
    pairs = [(title.text, key) for title, key in (*_shared_keys(_without_fill_down(titles)), *joined)]
    merged = merge_groups([text for text, _ in pairs], [key for _, key in pairs])
    return {text: group for (text, _), group in zip(pairs, merged, strict=True)}


def _without_fill_down(titles: list[Title]) -> list[Title]:
    """Undo what a spreadsheet does to a number that is dragged down: D. 960, D. 961, D. 962 for one sonata.

    Titles with a key and otherwise the same words whose catalogue numbers follow each other all get the first number.
    True neighbours of one key, as Scarlatti's K. 118 and K. 119 in D major, are thus united too, which does no harm.
    """
    numbers: dict[tuple, set[int]] = defaultdict(set)
    for title in titles:
        for catalogue, number in title.entries:
            numbers[title.without_entries(), catalogue].add(number)

    def first(title: Title, catalogue: str, number: int) -> tuple[str, int]:
        while title.key and number - 1 in numbers[title.without_entries(), catalogue]:
            number -= 1
        return catalogue, number

    return [
        replace(title, entries={first(title, *entry): pieces for entry, pieces in title.entries.items()})
        for title in titles
    ]


def _shared_keys(titles: list[Title]) -> Iterator[tuple[Title, str]]:
    """`(title, key)`: titles with a common key are one composition; every title has at least one."""
    pieces: dict[tuple[str, int], set[int]] = defaultdict(set)
    entries_of_words: dict[str, set] = defaultdict(set)
    for title in titles:
        for entry, own in title.entries.items():
            pieces[entry] |= own
            entries_of_words[title.without_entries()].add(entry)
    bare_words = {title.without_entries() for title in titles if not title.catalogues()}
    catalogues: dict[tuple, list[set[str]]] = defaultdict(list)
    for title in titles:
        if title.form and title.key:
            catalogues[title.form, title.key].append(title.catalogues())
    for title in titles:
        words = title.without_entries()
        yield title, f"text {title.text}"
        if not title.entries or (words in bare_words and len(entries_of_words[words]) == 1):
            yield title, f"words {words}"
        for entry, own in title.entries.items():
            # The whole contains each of its pieces, and so unites those of an opus that somebody plays whole.
            yield from ((title, f"{entry} {piece}") for piece in own or {"whole", *pieces[entry]})
        yield from ((title, f"series {form} {number}") for form, number in title.series())
        if title.book and (title.key or title.form):
            # Without a key, the pieces of the book: "Preludes, Book II (Complete)" contains them all.
            yield title, f"book {title.book} {title.key or title.form}"
        found = catalogues.get((title.form, title.key))
        if found and not set.intersection(*found):
            yield title, f"form {title.form} {title.key}"
        yield from ((title, f"name {name}") for name in title.names())
