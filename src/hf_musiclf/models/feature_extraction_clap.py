"""CLAP's feature extractor without chance; `save_pretrained` copies this file beside the weights.

The stock one takes a crop at random of whatever is longer than `max_length_s`, so that a sound has other scores each
time. This file imports numpy, torch and transformers alone, so that `pipeline("audio-classification", model=...,
trust_remote_code=True)` runs it anywhere.
"""

import numpy as np
import torch
from transformers import BatchFeature, ClapFeatureExtractor


class ClapWindowFeatureExtractor(ClapFeatureExtractor):
    """Waveforms -> input_features and is_longer of ClapForAudioClassification, of their first window alone.

    window_seconds: what is heard of a waveform; None: `max_length_s`. Windows shorter than `max_length_s` are repeated
    or padded to it. Of longer ones `truncation="fusion"` makes an overview and three crops, from the middle of each
    third of all places, where the stock extractor draws them; `"rand_trunc"` hears the first `max_length_s`. The other
    settings are the stock extractor's. Raises ValueError for a window that is not above 0.
    """

    def __init__(self, *args, window_seconds: float | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.window_seconds = float(self.max_length_s if window_seconds is None else window_seconds)
        if not self.window_seconds > 0:
            raise ValueError(f"window_seconds={window_seconds} must be above 0")

    def __call__(self, raw_speech, *args, return_tensors=None, **kwargs) -> BatchFeature:
        """Spectrograms of one waveform or of several, with the stock extractor's arguments.

        raw_speech: `(time,)` float in [-1, 1], or a list or `(batch, time)` array of them. return_tensors: "np", "pt"
        or None. Returns `{"input_features": (batch, channels, frames, mels) float32 in dB, "is_longer": (batch, 1)
        bool}`. Raises ValueError for another sampling rate and for an empty waveform.
        """
        made = super().__call__(raw_speech, *args, **kwargs)
        # Where no waveform of a batch is long the stock one marks one of them at random; its four mels are copies.
        made["is_longer"] = [[bool((mel[1:] != mel[:1]).any())] for mel in made["input_features"]]
        return made.convert_to_tensors(return_tensors)

    def _get_input_mel(self, waveform: np.ndarray, max_length: int, truncation: str, padding: str):
        """The window's spectrogram `(channels, frames, mels)`, and whether it is an overview with crops."""
        if not len(waveform):
            raise ValueError("a waveform has no samples; CLAP's features need one at least")
        heard = round(self.window_seconds * self.sampling_rate)
        heard = heard if truncation == "fusion" else min(heard, max_length)
        return super()._get_input_mel(waveform[:heard], max_length, truncation, padding)

    def _random_mel_fusion(self, mel: np.ndarray, total_frames: int, chunk_frames: int) -> np.ndarray:
        """`(total_frames, mels)` -> an overview and three crops, `(4, chunk_frames, mels)`; nothing is random here."""
        size = [chunk_frames, mel.shape[1]]
        overview = torch.nn.functional.interpolate(torch.tensor(mel)[None, None], size=size, mode="bilinear")[0, 0]
        crops = [mel[start : start + chunk_frames] for start in self.crop_starts(total_frames, chunk_frames)]
        return np.stack([overview.numpy(), *crops])

    def crop_starts(self, total_frames: int, chunk_frames: int) -> list[int]:
        """First frames of the three crops: the middle of each third of all places, 0 for a third without any."""
        thirds = np.array_split(np.arange(total_frames - chunk_frames + 1), 3)
        return [int(third[len(third) // 2]) if len(third) else 0 for third in thirds]


ClapWindowFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
