"""Groups from artists' names: one spelling an artist, one group for those who share a credit."""

import re


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
    known = {normalised_artist(artist) for artist in artists if artist}
    parent = {name: name for name in known}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for artist in filter(None, artists):
        parts = {normalised_artist(part) for part in re.split(r",|&|\band\b", artist) if part.strip()}
        for part in sorted(parts & known):
            first, second = sorted((root(normalised_artist(artist)), root(part)))
            parent[second] = first
    return [root(normalised_artist(artist)) if artist else None for artist in artists]
