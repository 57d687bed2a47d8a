"""Extractors that cut or fill to `window_seconds` and check it themselves."""

import math

from transformers import SequenceFeatureExtractor

from hf_musiclf.errors import UserError


def set_window(extractor: SequenceFeatureExtractor, window_seconds: float) -> None:
    """Set the length of its windows. Raises UserError, and leaves it as it was, for one shorter than a spectrum."""
    before, extractor.window_seconds = extractor.window_seconds, float(window_seconds)
    try:
        extractor.check_window()
    except ValueError as error:
        extractor.window_seconds = before
        raise UserError(f"{error}; raise --window_seconds") from error


def change_window(extractor: SequenceFeatureExtractor, window_seconds: float, size: int, unit: str) -> str | None:
    """As `set_window`; returns what was done, None where the windows have this length already.

    size: values a frame that the model takes, called `unit` in messages. Raises UserError for a window shorter than a
    spectrum, and for an extractor of another feature_size.
    """
    if extractor.feature_size != size:
        raise UserError(
            f"the checkpoint's extractor makes {extractor.feature_size} {unit} where its model takes {size}; mend "
            "feature_size in its preprocessor_config.json, or what it is made of"
        )
    before = extractor.window_seconds
    set_window(extractor, window_seconds)
    same = math.isclose(before, window_seconds)
    return None if same else f"windows of {window_seconds} s, where it has seen {before} s"
