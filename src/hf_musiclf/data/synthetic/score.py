"""What is played: an artist's habits and a track's score, drawn from the tables."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np

from hf_musiclf.data.synthetic.styles import (
    ATYPICAL,
    BORROW_ARTIST,
    BORROW_TRACK,
    DEGREES,
    DRUMS,
    FAVOURITE,
    GENRES,
    KEYS,
    LOWEST,
    PATCHES,
    ROLES,
    SCALES,
    STEPS,
    STYLES,
    Patch,
    Style,
)


@dataclass(frozen=True)
class Song:
    """The score of a track: what `render_track` plays."""

    tempo: float  # beats a minute
    key: str
    swing: float
    swung: float
    chords: tuple[tuple[int, str], ...]  # (semitones above C, quality), one a bar
    scale: tuple[int, ...]  # semitones above C
    drums: dict[str, str]  # letter of `DRUMS` -> pattern
    parts: dict[str, tuple[Patch, str]]  # role -> instrument, pattern
    lag: float  # beats between the first bar line and the first sample: an excerpt starts anywhere
    style: Style
    habits: SimpleNamespace  # see `_habits`


def stream(seed: int, genre: str, artist: int, track: int = -1, use: int = 0) -> np.random.Generator:
    """Random numbers of their own for every artist, track and use."""
    # NumPy pads short keys with zeros, so that (1, 2) and (1, 2, 0) would be one stream: all keys here have five
    return np.random.default_rng((seed, GENRES.index(genre), artist, track + 1, use))


def _habits(genre: str, artist: int, seed: int) -> SimpleNamespace:
    """What the tracks of one artist share; gains and spreads in dB unless named otherwise."""
    rng = stream(seed, genre, artist)
    neighbour = rng.choice(STYLES[genre].neighbours.split())
    sources = {role: str(neighbour) if rng.random() < BORROW_ARTIST else genre for role in ROLES}
    patches = {}
    for role in ("bass", "comp", "lead"):
        patch = PATCHES[rng.choice(getattr(STYLES[sources[role]], role).partition(":")[0].split())]
        bright, long, slow = np.exp(rng.normal(0.0, (0.1, 0.16, 0.2)))
        patches[role] = replace(
            patch, rolloff=patch.rolloff / bright, string=patch.string * bright, fm=patch.fm * bright,
            ring=patch.ring * long, attack=patch.attack * slow, vibrato=patch.vibrato * slow,
        )  # fmt: skip
    return SimpleNamespace(
        sources=sources, patches=patches, keys=rng.integers(12, size=3), pace=rng.random(),
        favourites={role: rng.random() for role in ROLES},
        kit=dict(zip(DRUMS, np.exp(rng.normal(0.0, 0.08, len(DRUMS))), strict=True)),  # factor on a drum's size
        gains=rng.normal(0.0, 1.2, 4),  # of drums, bass, comp, lead
        tilt=rng.normal(STYLES[genre].tilt, 0.5),  # dB an octave
        bells=[(rng.uniform(-2.7, 2.6), rng.normal(0.0, 2.0)) for _ in range(3)],  # octaves above 1 kHz, gain
        band=(rng.uniform(25, 120), rng.uniform(6500, 11000)),  # Hz
        room=np.exp(rng.normal(0.0, 0.3)), room_seconds=rng.uniform(0.08, 0.4),  # factor on the genre's, its decay
        hiss=rng.uniform(-75, -45), level=rng.uniform(-18, -10),  # of full scale, RMS
    )  # fmt: skip


def compose(genre: str, artist: int, track: int, seed: int = 0) -> Song:
    """The score of a track, without its sound. Arguments and errors as in `render_track`."""
    if genre not in STYLES:
        raise ValueError(f"unknown genre {genre!r}; the synthetic corpus knows {', '.join(GENRES)}")
    if min(artist, track, seed) < 0:
        raise ValueError(f"artist={artist}, track={track}, seed={seed}: none may be negative")
    habits, rng = _habits(genre, artist, seed), stream(seed, genre, artist, track)
    sources, neighbour = dict(habits.sources), str(rng.choice(STYLES[genre].neighbours.split()))
    if rng.random() < ATYPICAL:
        sources.update({role: neighbour for role in ROLES if rng.random() < BORROW_TRACK})
    styles = {role: STYLES[source] for role, source in sources.items()}

    def pick(role: str) -> str:
        text = getattr(styles[role], role)
        options = (text.partition(":")[2] if role in LOWEST else text).split("|")
        place = habits.favourites[role] if rng.random() < FAVOURITE else rng.random()
        return options[int(place * len(options))]

    key, (low, high) = int(rng.choice(habits.keys)), styles["tempo"].tempo
    chords = [re.fullmatch("(b?[IV]+)(.*)", name).groups() for name in pick("chords").split()]
    scale = styles["lead"].scale
    if chords[0] in (("I", "m"), ("I", "m7")):
        scale = {"major": "minor", "country": "blues", "bebop": "dorian"}.get(scale, scale)
    first = int(rng.integers(len(chords)))
    return Song(
        tempo=float(np.clip(low * (high / low) ** habits.pace * np.exp(rng.normal(0.0, 0.04)), low, high)),
        key=KEYS[key], swing=rng.uniform(*styles["drums"].swing), swung=styles["drums"].swung,
        chords=tuple(((key + DEGREES[degree]) % 12, quality) for degree, quality in chords[first:] + chords[:first]),
        scale=tuple((key + step) % 12 for step in SCALES[scale]),
        drums={line[0]: _bar(line[1:]) for line in pick("drums").split()},
        parts={role: (habits.patches[role], _bar(pick(role) or ".")) for role in LOWEST},
        lag=rng.uniform(0, 4), style=STYLES[genre], habits=habits,
    )  # fmt: skip


def _bar(pattern: str) -> str:
    return pattern * (STEPS // len(pattern))
