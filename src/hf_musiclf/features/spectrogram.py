"""Log-mel, MFCC and chroma in batches, on the model's device, by the saved extractor's own `extract`."""

import torch
from transformers import SequenceFeatureExtractor


class SpectrogramFeatures:
    """Waveforms to the input_values of the small networks.

    extractor: the `SpectrogramFeatureExtractor` that is saved with the model; its settings are the ones used here.
    """

    def __init__(self, extractor: SequenceFeatureExtractor):
        self.extractor = extractor
        self.sampling_rate = extractor.sampling_rate

    @property
    def window_seconds(self) -> float:
        return self.extractor.window_seconds

    @torch.no_grad()
    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Features as the model takes them.

        waveforms: `(batch, time)` float32 in [-1, 1] at `sampling_rate`, short ones padded. lengths: `(batch,)`
        samples of each that count, None: all; shorter ones than a window are repeated, as the extractor does. Returns
        `{"input_values": (batch, frames, features)}`. Raises ValueError for an empty waveform.
        """
        # Asked on the CPU alone: a GPU would have to be waited for, in every step.
        if waveforms.shape[1] == 0 or (lengths is not None and lengths.device.type == "cpu" and lengths.min() < 1):
            raise ValueError("a waveform has no samples; a spectrogram needs one at least")
        waveforms = self.extractor.fit(waveforms, lengths)
        if waveforms.device.type == "cpu":
            # One window's frames stay in the processor's cache, a batch's do not.
            return {"input_values": torch.cat([self.extractor.extract(waveform[None]) for waveform in waveforms])}
        return {"input_values": self.extractor.extract(waveforms)}
