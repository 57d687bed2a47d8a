"""A track and what a model says of it over time: mel spectrogram, most probable label, probabilities.

The track is read once, a column of the picture at a time, so that an hour takes no more memory than a minute.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator
from transformers.audio_utils import hertz_to_mel, mel_filter_bank

from hf_musiclf.audio_readers import AudioError
from hf_musiclf.ensembles import EnsembleScores
from hf_musiclf.inference import TrackScores, open_track
from hf_musiclf.models.music_pipeline import cut_windows, here
from hf_musiclf.plot_style import GREY, HUES, STYLE, line_style

COLUMNS = 800  # of the picture; each is the mean of the frames in it
MOST_FRAMES = 8  # that are looked at in a column, evenly spaced: an hour has hundreds
MEL_BANDS, LOWEST_HZ, HIGHEST_RATE = 96, 30.0, 22_050
FRAME_SECONDS = 2048 / 22_050  # librosa's, rounded to a power of two at other rates
RANGE_DB = 80.0  # below the loudest column; what is softer is black
SILENCE_DB = -120.0  # below full scale: a track without anything louder is shown as black
TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000)
TICK_SECONDS = (0.02, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600)
MOST_TICKS = 8
WIDTH, HEIGHTS = 8.6, (2.0, 0.18, 1.7)  # inches: of all axes; of spectrogram, leading label and probabilities
GAPS = (0.08, 0.14)
LETTER = 0.062  # inches, of the strip's names
LIGHT_HUES = ("#E69F00", "#56B4E9", "#CC79A7")


def mel_spectrogram(source: Any, columns: int = COLUMNS) -> tuple[np.ndarray, float, float]:
    """A track as a picture has it: `(bands, columns or fewer)` decibels to full scale, its seconds, the highest Hz.

    source: what `TrackClassifier` takes, a waveform as a dict with its sampling_rate. Raises AudioError.
    """
    with here(source, AudioError) as found:
        track = open_track(found, HIGHEST_RATE)
        try:
            rate = min(track.sampling_rate, HIGHEST_RATE)
            size = 2 ** round(np.log2(FRAME_SECONDS * rate))
            samples = max(1, round(track.frames / track.sampling_rate * rate))
            count = min(columns, max(1, samples // (size // 8)))
            starts = [samples * column // count for column in range(count)]
            width = -(-samples // count)
            filters = mel_filter_bank(1 + size // 2, MEL_BANDS, LOWEST_HZ, rate / 2, rate, "slaney", "slaney")
            spectra = [_power(frames, size, width) for frames in cut_windows(track, rate, starts, width + size)]
            seconds = track.frames / track.sampling_rate
        finally:
            track.close()
    decibels = 10 * np.log10(np.maximum(np.array(spectra) @ filters, 10 ** (SILENCE_DB / 10)))
    return decibels.T, seconds, rate / 2


def _power(waveform: np.ndarray, size: int, width: int) -> np.ndarray:
    """`(size // 2 + 1,)`: the mean power spectrum of some frames that begin within `width` samples."""
    waveform = np.pad(waveform, (0, max(0, size - len(waveform))))
    hop = max(size // 4, -(-width // MOST_FRAMES))
    frames = np.lib.stride_tricks.sliding_window_view(waveform, size)[:width:hop]
    window = np.hanning(size) / (size / 4)  # a sine of full scale has power 1
    return (np.abs(np.fft.rfft(frames * window)) ** 2).mean(0)


@matplotlib.rc_context(STYLE)
def plot_timeline(source: Any, scores: TrackScores | EnsembleScores, title: str = "", top_k: int = 5) -> Figure:
    """The spectrogram of a track, the label that leads, and the probabilities of some labels, over time.

    source: what was scored; see `mel_spectrogram`. top_k: labels that have a line, the most probable of the whole
    track, and beside them those that lead anywhere, as far as hues go. To be saved by `plot_style.save`.
    """
    decibels, seconds, highest_hz = mel_spectrogram(source)
    times = (np.arange(COLUMNS) + 0.5) / COLUMNS * seconds
    over_time = scores.over_time(np.minimum(times, scores.duration_seconds))
    shown = shown_labels(scores.probabilities, over_time, top_k)
    figure = Figure()
    above, strip, below = _axes(figure)
    _draw_spectrogram(above, decibels, seconds, highest_hz)
    _draw_leader(strip, over_time, shown, scores.labels, seconds)
    for number, label in enumerate(shown):
        told = f"{scores.probabilities[label]:.2f}  {scores.labels[label]}"
        below.plot(times, over_time[:, label], label=told, **line_style(number))
    below.set(xlim=(0, seconds), ylim=(-0.02, 1.02), ylabel="Probability")
    if not set(over_time.argmax(1)) <= set(shown[: len(HUES)]):
        below.plot([], [], color=GREY, linewidth=4, label="another leads")
    below.set_yticks([0, 0.25, 0.5, 0.75, 1])
    step = next((step for step in TICK_SECONDS if seconds <= MOST_TICKS * step), TICK_SECONDS[-1])
    below.xaxis.set_major_locator(MultipleLocator(step))
    below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _clock(value, seconds)))
    below.set_xlabel("Time (min:s)" if seconds >= 120 else "Time (s)")
    below.grid(True)
    below.legend(loc="upper left", bbox_to_anchor=(1.01, 1.05), title="Whole track", alignment="left")
    above.set_title(title)
    return figure


def shown_labels(probabilities: np.ndarray, over_time: np.ndarray, top_k: int) -> list[int]:
    """Ids of the labels with a line: the top_k of the whole track, then those that lead anywhere, most time first.

    probabilities: `(labels,)`. over_time: `(times, labels)`. At most one a hue, but top_k at least.
    """
    top = np.argsort(-probabilities, kind="stable")[:top_k].tolist()
    led = np.bincount(over_time.argmax(1), minlength=len(probabilities))
    leaders = [int(label) for label in np.argsort(-led, kind="stable") if led[label] and label not in top]
    return top + leaders[: max(0, len(HUES) - len(top))]


def _axes(figure: Figure) -> list[Axes]:
    """Three axes below each other, of HEIGHTS inches."""
    height = sum(HEIGHTS) + sum(GAPS)
    figure.set_size_inches(WIDTH, height)
    bottom, made = height, []
    for tall, gap in zip(HEIGHTS, (0, *GAPS), strict=True):
        bottom -= tall + gap
        made.append(figure.add_axes((0, bottom / height, 1, tall / height)))
    return made


def _draw_spectrogram(axes: Axes, decibels: np.ndarray, seconds: float, highest_hz: float) -> None:
    loudest = max(decibels.max(), SILENCE_DB + RANGE_DB)
    low, high = hertz_to_mel(np.array([LOWEST_HZ, highest_hz]), "slaney")
    place = {"extent": (0, seconds, low, high), "origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    image = axes.imshow(decibels - loudest, cmap="magma", vmin=-RANGE_DB, vmax=0, **place)
    ticks = [hertz for hertz in TICKS_HZ if hertz <= highest_hz]
    names = [f"{hertz // 1000} kHz" if hertz >= 1000 else f"{hertz} Hz" for hertz in ticks]
    axes.set_yticks(hertz_to_mel(np.array(ticks, dtype=float), "slaney"), names)
    axes.tick_params(bottom=False, labelbottom=False)
    bar = axes.figure.colorbar(image, cax=axes.inset_axes((1.015, 0, 0.012, 1)))
    bar.set_label("dB")
    bar.outline.set_visible(False)


def _draw_leader(axes: Axes, over_time: np.ndarray, shown: list[int], labels: Sequence[str], seconds: float) -> None:
    """A strip in the hue of the most probable label, named where there is room; grey where that has no line."""
    leaders, number_of = over_time.argmax(1), {label: number for number, label in enumerate(shown[: len(HUES)])}
    bounds = [0, *(np.flatnonzero(np.diff(leaders)) + 1), len(leaders)]
    for first, stop in itertools.pairwise(bounds):
        label = int(leaders[first])
        hue = HUES[number_of[label]] if label in number_of else GREY
        begin, width = (place / len(leaders) * seconds for place in (first, stop - first))
        axes.barh(0.5, width, 1, begin, color=hue)
        if (stop - first) / len(leaders) * WIDTH >= LETTER * (len(labels[label]) + 2):
            ink = "black" if hue in LIGHT_HUES else "white"
            axes.text(begin + width / 2, 0.46, labels[label], ha="center", va="center", color=ink, fontsize=7)
    axes.set(xlim=(0, seconds), ylim=(0, 1))
    axes.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("leads", rotation=0, ha="right", va="center", color=GREY)


def _clock(value: float, seconds: float) -> str:
    """A tick: seconds of a short track, minutes and seconds of a longer one."""
    return f"{round(value) // 60}:{round(value) % 60:02d}" if seconds >= 120 else f"{value:g}"
