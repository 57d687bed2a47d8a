"""What `waveform_augmentation` says: which changes a training window goes through, how often, and how far."""

import difflib
import importlib.util
from dataclasses import dataclass

import yaml

from hf_musiclf.errors import UserError


@dataclass(frozen=True)
class Amount:
    """lowest, highest: the default range, drawn from uniformly. limits: of any range. unit: of all four."""

    lowest: float
    highest: float
    limits: tuple[float, float]
    unit: str


# In the order in which they are applied: noise is added last, so that its level is that of the finished window. None:
# of no amount. Pitch shift, time stretch and random filters are what helped most in Schlüter and Grill, "Exploring data
# augmentation for improved singing voice detection with neural networks", ISMIR 2015, whose released code goes to 30 %
# and to 10 dB; the ranges stay within. Of the equalizer's seven bands neighbours add up, hence 6 dB.
# Speed, which moves pitch and tempo together as a turntable's does, is from Ko, Peddinti, Povey and Khudanpur, "Audio
# augmentation for speech recognition", Interspeech 2015; it costs a twelfth of the pitch shift.
# Gain, polarity and noise are from Spijkervet and Burgoyne, "Contrastive learning of musical representations", ISMIR
# 2021. The gain never raises a level, so that by itself it leaves full scale unbroken; noise of 20 dB is plainly heard,
# of 40 dB just so. Slower than half the tempo the stretch draws random phases that no seed reaches.
WAVEFORM_AUGMENTATIONS = {
    "speed": Amount(0.9, 1.1, (0.5, 2.0), "times pitch and tempo"),
    "time_stretch": Amount(0.8, 1.25, (0.5, 2.0), "times the tempo"),
    "pitch_shift": Amount(-2.0, 2.0, (-24.0, 24.0), "semitones"),
    "equalizer": Amount(-6.0, 6.0, (-24.0, 24.0), "dB in each of seven bands"),
    "gain": Amount(-6.0, 0.0, (-60.0, 24.0), "dB"),
    "polarity_inversion": None,
    "noise": Amount(20.0, 40.0, (-20.0, 120.0), "dB of signal over noise"),
}


def describe_waveform_augmentations() -> str:
    """Every name with its unit and default range, for `--help`."""
    return ", ".join(
        f"{name} ({amount.lowest:g} to {amount.highest:g} {amount.unit})" if amount else name
        for name, amount in WAVEFORM_AUGMENTATIONS.items()
    )


def parse_waveform_augmentation(text: str | None) -> dict[str, tuple[float, ...]]:
    """Name -> (probability, lowest, highest), in the order of application; (probability,) where there is no amount.

    text: `NAME=probability` or `NAME=[probability, lowest, highest]`, separated by commas, or the same as a YAML or
    JSON mapping. Raises UserError for an unknown name and for a number outside its limits.

    >>> parse_waveform_augmentation("noise=0.3,pitch_shift=[0.5,-1,1]")
    {'pitch_shift': (0.5, -1.0, 1.0), 'noise': (0.3, 20.0, 40.0)}
    """
    text = (text or "").strip()
    wanted = _read(text) if text else {}
    for name in wanted:
        if name not in WAVEFORM_AUGMENTATIONS:
            near = difflib.get_close_matches(str(name), WAVEFORM_AUGMENTATIONS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(WAVEFORM_AUGMENTATIONS)}"
            raise UserError(f"waveform_augmentation: {name!r} is not known; {hint}")
    return {name: _numbers(name, wanted[name]) for name in WAVEFORM_AUGMENTATIONS if name in wanted}


def require_audiomentations() -> None:
    """Raises UserError, with the way out, where it is not installed; looks for it only, as importing it is slow."""
    if importlib.util.find_spec("audiomentations") is None:
        raise UserError("waveform_augmentation needs audiomentations; pip install 'audiomentations>=0.42'")


def _read(text: str) -> dict:
    try:
        # `a=1,b=[2,3]` is a YAML mapping but for its signs; JSON is YAML as it stands.
        wanted = yaml.safe_load(text if text.startswith("{") else f"{{{text.replace('=', ': ')}}}")
    except yaml.YAMLError as error:
        raise UserError(
            f"waveform_augmentation={text!r} is not NAME=probability or NAME=[probability,lowest,highest], separated "
            "by commas"
        ) from error
    return wanted


def _numbers(name: str, value: object) -> tuple[float, ...]:
    amount, given = WAVEFORM_AUGMENTATIONS[name], value if isinstance(value, list) else [value]
    shown = f"waveform_augmentation: {name}={value}"
    try:
        numbers = tuple(float(number) for number in given if not isinstance(number, bool))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != len(given) or len(numbers) not in ((1, 3) if amount else (1,)):
        ways = f"{name}=0.5" + (f" or {name}=[0.5,{amount.lowest:g},{amount.highest:g}]" if amount else "")
        raise UserError(f"{shown} is not a probability{', or that and a range' if amount else ''}; write {ways}")
    if not 0 <= numbers[0] <= 1:
        raise UserError(f"{shown}: the probability {numbers[0]:g} must lie in [0, 1]")
    if amount is None or len(numbers) == 1:
        return numbers if amount is None else (*numbers, amount.lowest, amount.highest)
    least, most = amount.limits
    if not least <= numbers[1] <= numbers[2] <= most:
        raise UserError(f"{shown}: the range must ascend and lie in [{least:g}, {most:g}] {amount.unit}")
    return numbers
