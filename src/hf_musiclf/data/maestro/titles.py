"""What the title of a composition says: catalogue entries, key, form and names; titles are not standardised."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

# Opus and the catalogues of Beethoven, Bach, Handel, Busoni, Mozart, Schubert, Haydn, Liszt, Debussy and Scarlatti (K.
# too), Franck and Ravel, Vivaldi, C. P. E. Bach, Purcell. An entry reaches as far as the numbers of its pieces.
CATALOGUE = r"(?:op|woo|bwv|hwv|bv|kv?|d|s|l|m|rv|wq|z)"
ENTRY = re.compile(rf"\b({CATALOGUE}|hob [ivx]+) (\d+)[a-z]?\b((?: (?:nos?|and|\d{{1,2}})\b)*)")
# Forms that a composer's works are counted through in, so that form and number name the work.
SERIES = re.compile(
    r"\b(sonata|ballade|scherzo|concerto|partita|(?:english|french) suite|hungarian rhapsod(?=y|ies)|transcendental "
    r"etude|mephisto waltz)(?:y|ie)?(?:e?s)? (?:no )?(\d+)\b"
)
# The Well-Tempered Clavier has every key once in each of its books, so book and key name the work.
BOOK = re.compile(r"\b(?:book ?|bk ?|wt[ck] ?|b(?=i))(i{1,2}|1|2)\b")
KEY = re.compile(r"\b(in )?([a-h])(b| flat| sharp)?(?: ?(major|minor|maj|min|dur|moll))?\b")
SEMITONES = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11, "h": 11}

# Words that name no work: its form, and what is said of many. Any other word of four letters ("Waldstein",
# "Campanella") is a name: what shares it, of one composer, is taken for one composition.
FORMS = """arabesque bagatelle ballade barcarolle berceuse canon chaconne concerto dance duet elegie elegy etude
    fantasia fantasie fantasy fugue impromptu intermezzo intermezzi invention mazurka minuet moment nocturne partita
    polonaise prelude rhapsodie rhapsody romance rondo scherzo serenade sinfonia son sonata song study suite toccata
    valse variation waltz""".split()
COMMON = {
    *"""adagio allegretto allegro andante assai brio cantabile fuoco grave largo lento maestoso moderato molto moto
    presto quasi sostenuto tanto troppo vivace arrangement book complete concert edition fantasien fantasies from grand
    grande keyboard movement musical musicaux musique opera opus overture piano piece posth posthumous prel rhapsodies
    selection series style tableau tableaux theme transcription volume waltzes with without first second third fourth
    four five eight nine twelve thirty three execution transcendante transcendental hungarian english french italian
    flat major minor moll sharp brilliant brillante brilliante avec dans deux drei pour quatre trois vier""".split(),
    *FORMS,
}
# Of a name: Islamei and Islamey differ in the seventh letter, choral and chorale in the last, huit and huits too.
NAME_LETTERS = 5
# Remarks on the performance, not on the work.
REMARKS = re.compile(r" (?:complete|repeat|selections)\b")
# Words that tell no work of a form from another: how many, and for what they are.
COUNTS = {
    *"""three four five eight nine twelve thirty deux drei quatre trois vier from with without complete repeat selection
    selections piece pieces piano keyboard""".split()
}
# "Nos. 1, 3-5" or "Op. 28, 13 through 18": numbers of pieces, in which a range may stand.
NUMBERS = re.compile(
    r"\b(op(?:us)?[ .]*\d+[ ,/]+(?:nos?[ .]*)?|nos?[ .]*)(\d\d?(?:[\s,.&/–-]|\d|\b(?:and|to|through)\b)*)",
    re.IGNORECASE,
)
RANGE = re.compile(r"\b(\d\d?) ?(?:[-–]|to\b|through\b) ?(\d\d?)\b", re.IGNORECASE)
# "Nocturne 27/2" is Op. 27 No. 2. Opus numbers end below 200.
SLASHED = re.compile(rf"\b((?:{'|'.join(FORMS)})s?),? (1?\d?\d)/(\d\d?)\b", re.IGNORECASE)
SEVERAL_NUMBERS = re.compile(r"\bnos? \d+(?: and)? \d+\b")


def normalise_title(title: str) -> str:
    """One spelling for one title: no case, diacritics or punctuation, and catalogue numbers apart from their letters.

    >>> normalise_title("Étude Op.10, No. 4") == normalise_title("etude_op10 no 4")
    True
    >>> normalise_title("Sonata in F#  Minor, Opus 25/5")
    'sonata in f sharp minor op 25 5'
    """
    text = unicodedata.normalize("NFKC", title).casefold()
    for sign, word in (("&", " and "), ("#", " sharp "), ("♯", " sharp "), ("♭", " flat ")):
        text = text.replace(sign, word)
    text = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    text = " ".join(re.findall(r"[^\W_]+", text))
    text = re.sub(r"\b(?:opus|op)(?= ?\d)", "op", text)
    text = re.sub(r"(?<=\d)(?=nos?\d)", " ", text)  # op27no2
    return re.sub(rf"\b({CATALOGUE}|nos?)(?=\d)", r"\1 ", text) or title.strip()


def expanded(title: str) -> str:
    """The normalised title, with ranges written out and glued words apart, while case and signs still tell them.

    >>> expanded("PreludesBII, Nos. 1, 3-5"), expanded("Nocturne 27/2")
    ('preludes bii nos 1 3 4 5', 'nocturne op 27 no 2')
    """
    title = re.sub(r"(?<=[a-z])(?<!\bWo)(?=[A-Z])", " ", unicodedata.normalize("NFC", title))
    title = SLASHED.sub(r"\1 op \2 no \3", title)
    return normalise_title(NUMBERS.sub(lambda found: found[1] + RANGE.sub(_written_out, found[2]), title))


def _written_out(found: re.Match) -> str:
    first, last = int(found[1]), int(found[2])
    return " ".join(map(str, range(first, last + 1))) if first < last else found[0]


def canonical_names(names: Iterable[str]) -> dict[str, str]:
    """Every spelling of a name -> the most frequent one of the same normalised name, or of these the accented one.

    >>> canonical_names(["Frederic Chopin", "Frédéric Chopin"])["Frederic Chopin"]
    'Frédéric Chopin'
    """
    counts, best = Counter(names), {}
    for name in sorted(counts, key=lambda name: (counts[name], sum(not sign.isascii() for sign in name), name)):
        best[normalise_title(name)] = name
    return {name: best[normalise_title(name)] for name in counts}


@dataclass(frozen=True)
class Title:
    """What a normalised title says.

    entries: catalogue and number -> the numbers of the pieces within, empty for the whole: "Op. 25 Nos. 1 and 5" is
    {("op", 25): {1, 5}}. "No. 21" before the opus, letters ("81a") and movements ("I. Allegro", "1st mov.") are no
    pieces. key: semitone and mode; book: of the Well-Tempered Clavier or the like; form: what is in that key, the suite
    in "Prelude from English Suite No. 6 in D Minor".
    """

    text: str
    entries: dict[tuple[str, int], frozenset[int]]
    key: str | None
    book: str | None
    form: str | None

    @classmethod
    def parse(cls, text: str) -> "Title":
        entries = {(m[1].replace("kv", "k"), int(m[2])): _numbers(m[3]) for m in ENTRY.finditer(text)}
        # "Op. 90 No. 3 in G-flat, D. 899": the piece is the same in both catalogues.
        pieces = frozenset().union(*entries.values())
        book = BOOK.search(text)
        key, head = _key(text)
        forms = [word for word in map(_singular, head.split()) if word in FORMS]
        return cls(
            text,
            {entry: own or pieces for entry, own in entries.items()},
            key,
            str(len(book[1])) if book and book[1].startswith("i") else book and book[1],
            {"son": "sonata"}.get(forms[-1], forms[-1]) if forms else None,
        )

    def catalogues(self) -> set[str]:
        return {catalogue for catalogue, _ in self.entries} | ({"book"} if self.book else set())

    def without_entries(self) -> str:
        return REMARKS.sub("", " ".join(ENTRY.sub(" ", self.text).split()))

    def names(self) -> list[str]:
        """Words that name a work, by their beginning, whatever their ending or spelling."""
        words = [word for word in re.findall(r"[^\W\d]{4,}", self.text) if not {word, _singular(word)} & COMMON]
        return sorted({word[:NAME_LETTERS] for word in words})

    def series(self) -> list[tuple[str, str]]:
        """Form and number of works counted through: `[("sonata", "21")]`."""
        return SERIES.findall(self.text)

    def is_bare(self) -> bool:
        """Whether it says a form and no more ("Two Sonatas"), or several numbers of it and not of which book."""
        if self.entries or self.key or self.book or self.series() or self.names() or not self.form:
            return False
        return bool(SEVERAL_NUMBERS.search(self.text)) or not re.search(r"\d", self.text)

    def kind(self) -> frozenset[str]:
        """Its words by their beginning, but for counts: what a bare title has in common with the works it may be."""
        return frozenset(word[:NAME_LETTERS] for word in re.findall(r"[^\W\d]{4,}", self.text) if word not in COUNTS)


def _numbers(text: str) -> frozenset[int]:
    return frozenset(int(number) for number in re.findall(r"\d+", text))


def _singular(word: str) -> str:
    return word.removesuffix("s")


def _key(text: str) -> tuple[str | None, str]:
    """Semitone and mode, so that D flat is C sharp, and the text before; major where no mode is said.

    "In a" alone may be an article, and is a key only at the end or before a catalogue entry.
    """
    for match in KEY.finditer(text):
        preposition, letter, accidental, mode = match.groups()
        ends = not text[match.end() :] or ENTRY.match(text[match.end() + 1 :])
        if not (accidental or mode or (preposition and (letter != "a" or ends))):
            continue
        shift = {"b": -1, "flat": -1, "sharp": 1}.get((accidental or "").strip(), 0)
        if letter == "b" and mode in ("dur", "moll"):  # the German B is B flat, and H is B
            shift = -1
        mode = "minor" if mode in ("minor", "min", "moll") else "major"
        return f"{(SEMITONES[letter] + shift) % 12} {mode}", text[: match.start()]
    return None, text
