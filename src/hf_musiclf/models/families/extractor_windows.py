"""Extractors that cut or pad to `window_seconds` and check it themselves."""

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
