"""Which of MAESTRO's performances are classified, and by which composer; from its table alone."""

import difflib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hf_musiclf.data.maestro.files import Performance
from hf_musiclf.data.maestro.titles import normalise_title
from hf_musiclf.data.maestro.works import compositions
from hf_musiclf.errors import UserError

DOUBLE_CREDITS = ("leave_out", "first", "second")


def credit(performances: Iterable[Performance], double_credits: str) -> tuple[dict[Performance, str], list[dict]]:
    """The composer of each performance, and what was left out because it has two."""
    credited, left_out = {}, Counter()
    for performance in performances:
        names = [name.strip() for name in performance.composer.split(" / ")]
        if len(names) > 1 and double_credits == "leave_out":
            left_out[performance.composer] += 1
        else:
            credited[performance] = names[1] if len(names) > 1 and double_credits == "second" else names[0]
    if not left_out:
        return credited, []
    reason = f"double credits such as {left_out.most_common(1)[0][0]!r}, {len(left_out)} in all; see --double_credits"
    return credited, [_entry(left_out.total(), reason)]


def match_composers(wanted: Sequence[str], known: Sequence[str]) -> set[str]:
    """The known composers that are meant, by full name or surname, whatever their case and accents.

    Raises UserError for a name that fits none, with the nearest, or several.

    >>> match_composers(["chopin", "liszt"], ["Franz Liszt", "Franz Schubert", "Frédéric Chopin"]) == {
    ...     "Franz Liszt", "Frédéric Chopin"
    ... }
    True
    """
    spellings = {composer: normalise_title(composer) for composer in known}
    chosen = set()
    for name in wanted:
        words = normalise_title(name)
        fits = [full for full, spelling in spellings.items() if spelling == words] or [
            full for full, spelling in spellings.items() if spelling.endswith(f" {words}")
        ]
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
    return chosen


def composition_of_tracks(credited: Mapping[Performance, str]) -> dict[str, str]:
    """Track -> the composition it plays, see `works.compositions`."""
    names = compositions(list(credited.values()), [performance.title for performance in credited])
    return {performance.track: name for performance, name in zip(credited, names, strict=True)}


def select(
    credited: Mapping[Performance, str],
    group_of: Mapping[str, str],
    max_performances_per_piece: int | None,
    min_pieces_per_composer: int,
) -> tuple[dict[Performance, str], list[dict[str, str]]]:
    """Leave out composers of too few compositions, then performances beyond the cap; sorted by track.

    A piece is a composer and a normalised title. Which of its performances stay is told by a hash of their names: the
    same in every order of the files, and of mixed years, whose rooms and pianos differ. Raises UserError where fewer
    than two composers are left.
    """
    pieces_of: dict[str, set[str]] = defaultdict(set)
    for performance, composer in credited.items():
        pieces_of[composer].add(group_of[performance.track])
    few = {composer: len(found) for composer, found in pieces_of.items() if len(found) < min_pieces_per_composer}
    if len(pieces_of) - len(few) < 2:
        left = ", ".join(sorted(set(pieces_of) - set(few))) or "none"
        raise UserError(
            f"min_pieces_per_composer={min_pieces_per_composer}: of {len(pieces_of)} in question, composers with so "
            f"many compositions are {left}, and two are the least to tell apart; lower it, or take more composers in"
        )
    by_name = sorted(credited, key=lambda performance: hashlib.sha256(performance.track.encode()).digest())
    kept, skipped, taken, beyond = {}, [], Counter(), 0
    for performance in by_name:
        piece = credited[performance], normalise_title(performance.title)
        taken[piece] += credited[performance] not in few
        if max_performances_per_piece is not None and taken[piece] > max_performances_per_piece:
            beyond += 1
        elif credited[performance] not in few:
            kept[performance] = credited[performance]
    if few:
        told = ", ".join(f"{composer} {count}" for composer, count in sorted(few.items()))
        reason = f"of composers with fewer than min_pieces_per_composer={min_pieces_per_composer} compositions: {told}"
        skipped.append(_entry(len(credited) - len(kept) - beyond, reason))
    if beyond:
        reason = f"beyond max_performances_per_piece={max_performances_per_piece} of their piece"
        skipped.append(_entry(beyond, reason))
    return {performance: kept[performance] for performance in sorted(kept, key=lambda found: found.track)}, skipped


def _entry(count: int, reason: str) -> dict[str, Any]:
    """An entry of `TrackTable.skipped` for many tracks at once."""
    return {"track": f"{count} performance{'s' if count != 1 else ''}", "reason": reason, "count": count}
