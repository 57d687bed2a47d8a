"""Which of MAESTRO's performances are classified, and by which composer; from its table alone."""

import difflib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hf_musiclf.data.maestro.files import Performance
from hf_musiclf.data.maestro.titles import canonical_names, normalise_title
from hf_musiclf.data.maestro.works import compositions
from hf_musiclf.errors import UserError


def credit(performances: Collection[Performance], double_credits: str) -> tuple[dict[Performance, str], list[dict]]:
    """The composer of each performance, each under one spelling of the name, and what was left out since it has two.

    double_credits: leave_out, or first or second, the composer of "Franz Schubert / Franz Liszt" to take.
    """
    assert double_credits in ("leave_out", "first", "second"), double_credits
    spelling = canonical_names(name for performance in performances for name in _credits(performance))
    credited, left_out = {}, Counter()
    for performance in performances:
        names = [spelling[name] for name in _credits(performance)]
        performance = replace(performance, composer=" / ".join(names))
        if len(names) > 1 and double_credits == "leave_out":
            left_out[performance.composer] += 1
        else:
            credited[performance] = names[1] if len(names) > 1 and double_credits == "second" else names[0]
    if not left_out:
        return credited, []
    pairs = f"{len(left_out)} different pairs" if len(left_out) > 1 else "1 pair"
    reason = f"double credits such as {left_out.most_common(1)[0][0]!r}, {pairs}; see --double_credits"
    return credited, [_entry(left_out.total(), reason)]


def _credits(performance: Performance) -> list[str]:
    return [name.strip() for name in performance.composer.split(" / ")]


def match_composers(wanted: Sequence[str], known: Sequence[str]) -> set[str]:
    """The known composers that are meant, by full name or surname, whatever their case and accents.

    Raises UserError for a name that fits none, with the nearest, or several, and where only one composer is meant.

    >>> match_composers(["chopin", "liszt"], ["Franz Liszt", "Franz Schubert", "Frédéric Chopin"]) == {
    ...     "Franz Liszt", "Frédéric Chopin"
    ... }
    True
    """
    spellings = {composer: normalise_title(composer) for composer in known}
    chosen = set()
    for name in wanted:
        words = normalise_title(name)
        fits = [full for full in spellings if full == name]
        fits = fits or [full for full, spelling in spellings.items() if spelling == words]
        fits = fits or [full for full, spelling in spellings.items() if spelling.endswith(f" {words}")]
        if len(fits) > 1:
            raise UserError(f"composers: {name!r} may be {' or '.join(fits)}; give the full name")
        if not fits:
            surnames = {spelling.split()[-1]: full for full, spelling in spellings.items()}
            near = difflib.get_close_matches(words.split()[-1] if words else "", surnames, n=3)
            hint = (
                f"did you mean {' or '.join(surnames[n] for n in near)}?"
                if near
                else f"the data hold {', '.join(known)}"
            )
            raise UserError(f"composers: {name!r} is not among the data's composers; {hint}")
        chosen.update(fits)
    if wanted and len(chosen) < 2:
        raise UserError(
            f"composers: {', '.join(wanted)} is one composer, and two are the least to tell apart; name another, or "
            "leave --composers away"
        )
    return chosen


def by_composition(credited: Mapping[Performance, str]) -> tuple[dict[Performance, str], dict[str, str], list[dict]]:
    """The performances whose title names a work, with composers; track -> that work; and what was left out.

    See `works.compositions`.
    """
    names = compositions(list(credited.values()), [performance.title for performance in credited])
    named = {performance: name for performance, name in zip(credited, names, strict=True) if name}
    titles = Counter(performance.title for performance in credited if performance not in named)
    skipped = []
    if titles:
        reason = f"whose title names no single work, such as {titles.most_common(1)[0][0]!r}"
        skipped.append(_entry(titles.total(), reason))
    kept = {performance: credited[performance] for performance in named}
    return kept, {performance.track: name for performance, name in named.items()}, skipped


def select(
    credited: Mapping[Performance, str],
    group_of: Mapping[str, str],
    max_performances_per_piece: int | None,
    min_pieces_per_composer: int,
) -> tuple[dict[Performance, str], list[dict[str, str]]]:
    """Leave out composers of too few compositions, then performances beyond the cap; sorted by track.

    A piece is what one title of a composer names, normalised: the movements of a sonata are pieces of one composition,
    and a work under two titles may stay with three performances of each. Which of its performances stay is told by a
    hash of their names: the same in every order of the files, and of mixed years, whose rooms and pianos differ. Raises
    UserError where fewer than two composers are left.
    """
    few = _composers_of_few(credited, group_of, min_pieces_per_composer)
    by_name = sorted(credited, key=lambda performance: hashlib.sha256(performance.track.encode()).digest())
    kept, skipped, taken, of_few, beyond = {}, [], Counter(), 0, 0
    for performance in by_name:
        composer = credited[performance]
        if composer in few:
            of_few += 1
            continue
        piece = composer, normalise_title(performance.title)
        taken[piece] += 1
        if max_performances_per_piece is not None and taken[piece] > max_performances_per_piece:
            beyond += 1
        else:
            kept[performance] = composer
    if few:
        told = ", ".join(f"{composer} {count}" for composer, count in sorted(few.items()))
        reason = f"of composers with fewer than min_pieces_per_composer={min_pieces_per_composer} compositions: {told}"
        skipped.append(_entry(of_few, reason))
    if beyond:
        reason = f"beyond max_performances_per_piece={max_performances_per_piece} of their piece"
        skipped.append(_entry(beyond, reason))
    return {performance: kept[performance] for performance in sorted(kept, key=lambda found: found.track)}, skipped


def _composers_of_few(credited: Mapping[Performance, str], group_of: Mapping[str, str], least: int) -> dict[str, int]:
    """Composers of fewer than `least` compositions, with their number. Raises UserError if fewer than 2 remain."""
    works: dict[str, set[str]] = defaultdict(set)
    for performance, composer in credited.items():
        works[composer].add(group_of[performance.track])
    counts = Counter({composer: len(found) for composer, found in works.items()})
    few = {composer: count for composer, count in counts.items() if count < least}
    if len(counts) - len(few) >= 2:
        return few
    if len(counts) < 2:
        left = next(iter(counts), "no composer")
        raise UserError(
            f"usable performances are of {left} alone, and two composers are the least to tell apart; add some"
        )
    (first, most), (second, enough) = counts.most_common(2)
    raise UserError(
        f"min_pieces_per_composer={least} leaves fewer than the two composers that are the least to tell apart: most "
        f"compositions are there of {first}, {most}, and {second}, {enough}; lower it to {enough} or less"
    )


def _entry(count: int, reason: str) -> dict[str, Any]:
    """An entry of `TrackTable.skipped` for many tracks at once."""
    return {"track": f"{count} performance{'s' if count != 1 else ''}", "reason": reason, "count": count}
