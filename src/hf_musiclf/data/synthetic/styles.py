"""The tables of the synthetic corpus: harmony, instruments, drums, the ten genres, and how far artists stray from them.

A bar is 4/4 in 16 steps. A pattern has one character a step, and a short one repeats to fill the bar: "." holds or
rests, "x" and "X" are soft and accented drum strokes, a letter of `CHORD_TONES` or "C" (the chord) is a note that lasts
until the next. `|` separates alternatives; before a colon stand the instruments, after it their patterns.

The numbers are musical taste tuned to the two accuracies of `benchmarks/synthetic_difficulty.py`.
"""

from dataclasses import dataclass

# fmt: off
STEPS = 16  # a bar
KEYS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
DEGREES = {"I": 0, "bII": 1, "II": 2, "bIII": 3, "III": 4, "IV": 5, "bV": 6, "V": 7, "bVI": 8, "VI": 9, "bVII": 10}
QUALITIES = {"": (0, 4, 7, 9), "m": (0, 3, 7, 10), "5": (0, 7, 12, 10),
             "7": (0, 4, 7, 10), "M7": (0, 4, 7, 11), "m7": (0, 3, 7, 10)}  # semitones above the root
CHORD_TONES = "rtfsoh"  # root, third, fifth, sixth or seventh, octave, tenth
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10), "dorian": (0, 2, 3, 5, 7, 9, 10),
          "blues": (0, 3, 5, 6, 7, 10), "country": (0, 2, 3, 4, 7, 9), "phrygian": (0, 1, 3, 5, 7, 8, 10),
          "bebop": (0, 2, 4, 5, 7, 8, 9, 11)}
LOWEST = {"bass": 28, "comp": 53, "lead": 62}  # MIDI note of a part: E1, F3, D4
ROLES = ("tempo", "chords", "drums", "bass", "comp", "lead")  # what can be borrowed from a neighbour:
BORROW_ARTIST = 0.05  # P(an artist borrows a role for good)
ATYPICAL, BORROW_TRACK = 0.08, 0.5  # P(a track is atypical), P(it then borrows a role)
FAVOURITE = 0.7  # P(a track uses the artist's favourite pattern)


@dataclass(frozen=True)
class Patch:
    """An instrument; times in seconds, `vibrato` and `detune` in semitones."""

    rolloff: float = 1.0  # harmonic k starts at k ** -rolloff
    even: float = 1.0  # gain of the even harmonics: 0 is a closed pipe
    attack: float = 0.004
    ring: float = 9.0  # time constant of the decay
    string: float = 0.0  # loop rate in Hz of a Karplus-Strong string; 0: not a string
    fm: float = 0.0  # index of frequency modulation; above 0 it replaces the harmonics
    ratio: float = 1.0  # modulator over carrier
    vibrato: float = 0.0
    detune: float = 0.0  # of a second voice
    formants: tuple[float, ...] = ()  # Hz: resonances of a body or a vocal tract
    drive: float = 0.0  # gain into an amplifier that clips; 0: none
    gate: float = 1.0  # part of the written length that sounds


PATCHES = {
    "upright": Patch(1.1, ring=0.5, string=7000), "fingered": Patch(0.9, ring=1.0, string=11000),
    "sub": Patch(3, attack=0.01, ring=0.7), "slapped": Patch(0.5, string=20000, gate=0.6),
    "synthbass": Patch(1.0, ring=0.3, detune=0.06, gate=0.8), "cello": Patch(1.1, attack=0.07, vibrato=0.15),
    "piano": Patch(1.5, ring=0.9, string=22000), "rhodes": Patch(ring=0.8, fm=1.2),
    "organ": Patch(1.2, even=0.8, attack=0.01, detune=0.04), "harpsichord": Patch(0.6, ring=0.5, string=32000),
    "strings": Patch(1.2, attack=0.12, detune=0.12, vibrato=0.1), "pad": Patch(1.5, attack=0.15, detune=0.1),
    "acoustic": Patch(0.7, ring=0.7, string=20000, formants=(110, 220, 2400)),
    "clean": Patch(1.0, ring=0.8, string=15000), "chop": Patch(0.9, ring=0.3, string=18000, gate=0.35),
    "banjo": Patch(0.2, ring=0.25, string=20000), "crunch": Patch(0.9, ring=1.5, string=22000, drive=1.5),
    "driven": Patch(0.9, ring=2.5, string=26000, drive=3.5), "metal": Patch(0.9, ring=2.5, string=26000, drive=14),
    "solo": Patch(0.9, ring=3.0, vibrato=0.3, drive=5), "harmonica": Patch(0.7, even=0.6, attack=0.04, vibrato=0.25),
    "steel": Patch(1.1, ring=2.0, vibrato=0.35), "fiddle": Patch(0.8, attack=0.05, vibrato=0.25, formants=(500, 2800)),
    "flute": Patch(2.2, attack=0.06, vibrato=0.2),
    "violin": Patch(1.0, attack=0.07, vibrato=0.25, formants=(480, 2600)), "vibes": Patch(ring=0.9, fm=0.7, ratio=4),
    "sax": Patch(0.9, even=0.8, attack=0.03, vibrato=0.2, formants=(700, 1500)),
    "bell": Patch(ring=0.5, fm=2.0, ratio=3.5), "trumpet": Patch(0.5, attack=0.03, formants=(1200, 2200)),
    "brass": Patch(attack=0.03, ring=2.0, fm=2.5, gate=0.6), "square": Patch(1.0, even=0.0, detune=0.08),
    "voice": Patch(0.9, attack=0.05, vibrato=0.35, formants=(650, 1100, 2700)),
}

DRUMS = {  # noise from Hz, to Hz, its decay in s, its gain; tone in Hz, its fall as a factor, its decay in s, its gain
    "K": (60, 1500, 0.008, 0.8, 52, 2.5, 0.1, 1.6), "S": (300, 7500, 0.07, 1.0, 185, 0.4, 0.06, 1.0),  # kick, snare
    "H": (6500, 15000, 0.025, 0.8, 1, 0, 0.01, 0), "O": (6000, 15000, 0.14, 0.7, 1, 0, 0.01, 0),  # closed and open hat
    "R": (4500, 12000, 0.16, 0.35, 3300, 0, 0.2, 0.05), "A": (3000, 12000, 0.5, 0.6, 1, 0, 0.01, 0),  # ride, crash
    "B": (1500, 7000, 0.09, 0.35, 1, 0, 0.01, 0), "P": (900, 3500, 0.05, 0.9, 1, 0, 0.01, 0),  # brush, clap
    "T": (100, 1200, 0.03, 0.7, 105, 0.5, 0.13, 1.4), "I": (1500, 5000, 0.006, 0.5, 1700, 0, 0.012, 0.75),  # tom, rim
}


@dataclass(frozen=True)
class Style:
    """A genre. Options stand between "|"; a part is "patches:patterns"."""

    tempo: tuple[float, float]  # beats a minute
    swing: tuple[float, float]  # where the off-beat falls within `swung` beats: 0.5 is straight, 2/3 a triplet
    chords: str  # one a bar
    drums: str
    bass: str
    comp: str
    lead: str
    scale: str
    neighbours: str
    swung: float = 1.0
    density: float = 0.4  # P(a note of the lead begins) on a step of average strength
    tilt: float = 0.0  # dB an octave around 1 kHz
    room: float = 0.15  # reverberation over dry sound
    balance: tuple[float, ...] = (1.0, 0.8, 0.6, 0.6)  # drums, bass, comp, lead


STYLES = {
    "blues": Style((68, 126), (0.6, 0.67),
        "I7 IV7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7|Im7 IVm7 Im7 Im7 IVm7 IVm7 Im7 Im7 bVI7 V7 Im7 V7",
        "KX....... S....X... Rx...x.x.|KX.......x.x..... S....X... Hx.x.|KX... S....X... Hx.x. Ax...............",
        "upright fingered:r...t...f...s...|r...r...f...f...|r.r.f.f.s.s.f.f.",
        "clean crunch piano:C.....C.........|r.f.r.s.|....C...", "crunch harmonica", "blues", "jazz country rock",
        density=0.35, tilt=-2),
    "classical": Style((56, 150), (0.5, 0.5), "I V I IV I II7 V I|Im IVm V7 Im bVI IVm V Im|I VIm IV V", "",
        "cello cello pad:r...............|r.......f.......",
        "piano harpsichord strings:r.f.t.f.|rftfrftf|C...............|r.t.f.o.h.o.f.t.", "violin flute piano violin",
        "major", "jazz", density=0.35, tilt=-1, room=0.5, balance=(0, 0.6, 0.8, 0.8)),
    "country": Style((84, 150), (0.5, 0.6), "I I IV I V V I I|I IV V I|I VIm IV V|I7 IV7 I7 V7",
        "KX....... Bx.xxX.xx|KX....... S....X... Hx.x.|KX....... I....x...",
        "upright fingered:r.......f.......|r...r...f...f...",
        "acoustic banjo acoustic:....C...|....C.C.....C.C.|r.t.f.o.|rtfotfot", "steel fiddle steel voice", "country",
        "blues rock pop"),
    "disco": Style((108, 130), (0.5, 0.5), "Im7 IVm7|VIm7 IIm7 V7 IM7|Im7 bVII bVI V7|IM7 IIm7",
        "KX... P....X... Ho.O.|KX... S....X... Hx.xx O..x.|KX... S....X... H.x.x O..x.",
        "slapped:r.o.|r.o.r.o.f.o.r.o.|r..ror.o", "chop strings rhodes chop:..CC..C.|C...............|..C...CC",
        "strings brass voice", "dorian", "pop hiphop rock", tilt=0.5, balance=(1.1, 0.8, 0.6, 0.5)),
    "hiphop": Style((74, 102), (0.52, 0.62), "Im7 bVIM7|Im7 IVm7|Im7|IIm7 IM7",
        "KX..x......X..x.. S....X... Hx.|KX......x.X...... P....X... Hx.x.|KX.x.......X..... S....X... Hx.xxx.x.",
        "sub:r.....r...f.....|r..........r....|r..r......s.....",
        "rhodes piano pad:C...............|C......C........|..C.......C.....", "bell square", "minor",
        "reggae disco pop", swung=0.5, density=0.25, tilt=-2, balance=(1.3, 1.1, 0.5, 0.35)),
    "jazz": Style((96, 210), (0.58, 0.67),
        "IIm7 V7 IM7 VIm7|IIm7 V7 IM7 IM7|IM7 VI7 IIm7 V7|I7 IV7 I7 I7 IV7 IV7 I7 VI7 IIm7 V7 I7 V7",
        "Kx... H....x... Rx...x.x.|Bx... H....x... Rx...x.x.|Kx....... S......x........x Rx.x.x.x.",
        "upright:r...t...f...s...|r...f...t...s...|r...s...f...t...",
        "piano rhodes clean:C.....C.........|......C.......C.|..C.......C.....", "sax trumpet vibes", "bebop",
        "blues classical hiphop", density=0.55, tilt=-1.5, room=0.2, balance=(0.6, 0.8, 0.5, 0.8)),
    "metal": Style((96, 190), (0.5, 0.5), "I5 I5 bVI5 bVII5|I5 bII5 I5 bV5|I5 bIII5 IV5 bVI5",
        "Kx. S....X... O...x|KX.xxx.xx S....X... Ax...|KX..xX..x S....X... Rx...|Kx S........X....... Ax.......",
        "fingered:rr|r.rrr.rr|r.rr", "metal:C.CCC.CC|C...C.C.|rrCrrrC.|C.......C...C...", "solo", "phrygian",
        "rock rock classical", density=0.55, tilt=1.5, balance=(1.0, 0.8, 1.0, 0.4)),
    "pop": Style((92, 132), (0.5, 0.5), "I V VIm IV|VIm IV I V|I VIm IV V|IV V IIIm VIm",
        "KX... P....X... Hx.|KX......xX....... S....X... Hx.x.|KX.....x...x..... P....X... H.x.x",
        "synthbass:r.|r.....r.r.......|r..r..r.", "piano pad acoustic:C...|C...............|C..C..C.|r.f.o.f.",
        "voice square", "major", "disco rock hiphop country", tilt=1, balance=(1.0, 0.8, 0.6, 0.7)),
    "reggae": Style((64, 92), (0.52, 0.6), "I IV|Im bVII|I V VIm IV|Im IVm",
        "K........X....... I....x...x...x... Hx.x.|K........X....... S........X....... Hx.x.|"
        "KX... S........X....... Hx.x...x.",
        "fingered:r..r..t.f.......|r.....r.t.f.....|..r.r.f.....t.s.", "organ chop:..C.|....C...|..CC",
        "voice organ brass", "major", "hiphop pop blues", density=0.25, tilt=-1.5, room=0.3,
        balance=(0.7, 1.5, 0.7, 0.4)),
    "rock": Style((100, 164), (0.5, 0.53), "I5 bVII5 IV5 I5|I V IV V|Im bVII bVI bVII|I5 IV5 I5 V5",
        "KX.....x.X.x..... S....X... Hx.|KX.......X.x..... S....X... O...x|KX...x...X..xX... S....X... Ax.......",
        "fingered:r.|r.r.r.r.r.r.f.f.|r...r.r.", "driven crunch:C.......C..C....|C.C.|C...|..C...C.", "voice solo",
        "blues", "metal pop blues country", tilt=0.5, balance=(1.0, 0.8, 0.7, 0.5)),
}
# fmt: on
GENRES = tuple(sorted(STYLES))
