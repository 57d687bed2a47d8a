"""Groups from artists' names: one spelling an artist, one group for those who share a credit."""

import re

from hf_musiclf.splits import merge_groups


def normalised_artist(artist: str) -> str:
    """One spelling for one artist.

    >>> normalised_artist("Earth, Wind & Fire") == normalised_artist("Earth Wind and Fire")
    True
    """
    words = re.findall(r"[^\W_]+", artist.casefold().replace("&", " and "))
    return " ".join(words[1:] if words[:1] == ["the"] and len(words) > 1 else words)


def artist_groups(artists: list[str | None]) -> list[str | None]:
    """Group of each excerpt: its artist, joined with everybody they share a credit with.

    "Lauryn Hill and Bob Marley" makes one group of both artists' excerpts, as either voice would give the other away. A
    credit is only taken apart where a part stands alone elsewhere, so that "KC and The Sunshine Band" stays one.

    >>> artist_groups(["A", "B", "A & B", "C and D", None, "B"])
    ['a', 'a', 'a', 'c and d', None, 'a']
    """
    names = [normalised_artist(artist) if artist else None for artist in artists]
    known = set(filter(None, names))
    # Each part of a credit that stands alone elsewhere is a second item with the credit's key.
    groups, keys = list(names), [None] * len(names)
    for artist, name in zip(artists, names, strict=True):
        parts = re.split(r",|&|\band\b", artist) if artist else []
        for part in sorted({normalised_artist(part) for part in parts if part.strip()} & known):
            groups += [name, part]
            keys += [f"{name} / {part}"] * 2
    return merge_groups(groups, keys)[: len(names)]
