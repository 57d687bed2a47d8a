"""What the page says of a track: everything on it that needs no browser and no Gradio."""

import base64
import html
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_musiclf.app.voices import Voice
from hf_musiclf.audio import audio_info
from hf_musiclf.ensembles import Ensemble, EnsembleScores
from hf_musiclf.ensembles.scoring import ReadOnce
from hf_musiclf.errors import UserError
from hf_musiclf.inference import TrackScores
from hf_musiclf.timeline import plot_timeline

MEGABYTE = 2**20  # bytes, as Gradio counts in its own message
PICTURE_DPI = 110  # sharp on a laptop; a picture of ten inches is about 100 kB
MOST_CHANGES = 20  # told in words

# Called with the seconds heard and the seconds there are.
Progress = Callable[[float, float], Any]


@dataclass(frozen=True)
class Limits:
    """What is refused: more than `minutes` of music, files of more than `megabytes` of MEGABYTE bytes."""

    minutes: float = 15.0
    megabytes: float = 100.0

    def __post_init__(self):
        for name, value in (("max_minutes", self.minutes), ("max_megabytes", self.megabytes)):
            if not value > 0:
                raise UserError(f"{name}={value:g} must exceed 0")

    def check(self, source: str | Path | bytes, name: str) -> float:
        """Length in seconds of what may be heard. Raises UserError for what is beyond a limit, or no audio."""
        size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
        if size > self.megabytes * MEGABYTE:
            raise UserError(f"{name} has {size / MEGABYTE:.1f} MB; at most {self.megabytes:g} MB are taken here")
        seconds = audio_info(source).duration_seconds
        if seconds > self.minutes * 60:
            raise UserError(f"{name} lasts {clock(seconds)}; at most {self.minutes:g} min are heard here")
        return seconds


@dataclass(frozen=True)
class Answer:
    """What the page shows of a track. probabilities: by label. facts, table, timeline: HTML."""

    probabilities: dict[str, float]
    facts: str
    table: str
    timeline: str


def answer(
    voice: Voice, source: str | Path | bytes, name: str, limits: Limits, progress: Progress | None = None
) -> Answer:
    """What a model says of a file or of its bytes, within the limits. name: of the file.

    Raises UserError, whose message speaks of `name`, for what is refused or cannot be read.
    """
    started = time.perf_counter()
    try:
        seconds = limits.check(source, name)
        scores = _hear(voice.classify, source, seconds, progress)
        picture = _picture(source, scores, name)
    except UserError as error:
        raise UserError(_with_name(str(error), source, name)) from error
    took = time.perf_counter() - started
    windows = "1 window" if scores.n_windows == 1 else f"{scores.n_windows} windows"
    facts = f"{name}: {clock(seconds)} heard in {windows} by {voice.name}, in {took:.1f} s."
    probabilities = dict(zip(voice.labels, map(float, scores.probabilities), strict=True))
    return Answer(probabilities, paragraph(facts), probability_table(scores), picture)


def _hear(classify, source, seconds: float, progress: Progress | None) -> TrackScores | EnsembleScores:
    if progress is None or isinstance(classify, Ensemble):  # whose members read the track in their own turn
        return classify(source)
    read_once = ReadOnce(source)

    def read(source, rate, start_seconds, duration_seconds):
        progress(start_seconds, seconds)
        return read_once(source, rate, start_seconds, duration_seconds)

    return classify(source, read=read)


def _with_name(message: str, source: str | Path | bytes, name: str) -> str:
    """The message of an error with the user's name of the file in place of ours."""
    if isinstance(source, bytes):
        return message.replace(f"{len(source)} bytes of audio", name)
    return message.replace("/".join(Path(source).parts[-2:]), name)


def _picture(source, scores: TrackScores | EnsembleScores, name: str) -> str:
    """The timeline as an image that needs no file; what it shows is told to those who do not see it."""
    png = io.BytesIO()
    figure = plot_timeline(source, scores)
    figure.savefig(png, format="png", dpi=PICTURE_DPI, bbox_inches="tight", pad_inches=0.1, facecolor="white")
    data = base64.b64encode(png.getvalue()).decode("ascii")
    told = html.escape(f"Mel spectrogram of {name}, and the probabilities over time. {told_by_time(scores)}")
    return f'<div class="wide" tabindex="0"><img alt="{told}" src="data:image/png;base64,{data}"></div>'


def leaders(scores: TrackScores | EnsembleScores) -> np.ndarray:
    """Id of the most probable label in each second of the track, in the middle of it; of one, where it is shorter."""
    seconds = max(1, round(scores.duration_seconds))
    return scores.over_time((np.arange(seconds) + 0.5) / seconds * scores.duration_seconds).argmax(1)


def told_by_time(scores: TrackScores | EnsembleScores) -> str:
    """The leading label of each stretch of the track, in words."""
    leading = leaders(scores)
    changes = [second for second, label in enumerate(leading) if not second or label != leading[second - 1]]
    told = [f"{scores.labels[leading[second]]} from {clock(second)}" for second in changes[:MOST_CHANGES]]
    return f"Most probable: {', '.join(told)}{', ...' if len(changes) > MOST_CHANGES else '.'}"


def probability_table(scores: TrackScores | EnsembleScores) -> str:
    """Every label, most probable first, and for how much of the track it leads."""
    seconds = np.bincount(leaders(scores), minlength=len(scores.labels))
    names = "".join(f'<th scope="col">{name}</th>' for name in ("Label", "Probability", "Leads for"))
    rows = [
        f'<tr><th scope="row">{html.escape(scores.labels[index])}</th>'
        f"<td>{scores.probabilities[index]:.3f}</td><td>{clock(seconds[index])}</td></tr>"
        for index in np.argsort(-scores.probabilities, kind="stable")
    ]
    return f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def paragraph(text: str, is_error: bool = False) -> str:
    """A line of the message area, read aloud by screen readers; an error at once.

    >>> paragraph("a < b", is_error=True)
    '<p class="told wrong" role="alert">a &lt; b</p>'
    """
    kind = 'class="told wrong" role="alert"' if is_error else 'class="told" role="status"'
    return f"<p {kind}>{html.escape(text)}</p>"


def clock(seconds: float) -> str:
    """Minutes and seconds.

    >>> clock(75.4), clock(3600)
    ('1:15', '60:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
