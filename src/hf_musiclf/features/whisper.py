"""Whisper's log-mel spectrogram in batches, on the model's device.

Equal to `WhisperFeatureExtractor`: zeros behind a window up to `chunk_length` seconds (30), periodic Hann window of
25 ms every 10 ms, frames centred by reflection at both ends, the last one dropped, power spectrum, Slaney's mel
filters, `log10(max(power, 1e-10))`, at most 8 below the loudest of the window, then `(x + 4) / 4` (Radford et al.,
"Robust Speech Recognition via Large-Scale Weak Supervision", ICML 2023).
"""

import torch
from transformers import WhisperFeatureExtractor

from hf_musiclf.features.waveforms import check_shortest, padded

POWER_FLOOR = 1e-10
RANGE = 8.0  # in powers of ten


class WhisperFeatures:
    """Waveforms to Whisper's input_features.

    extractor: the `WhisperFeatureExtractor` that is saved with the model; its settings are the ones used here. Raises
    ValueError for one that draws noise.
    """

    spectrograms = False  # the masks of augmentation expect frames before bands

    def __init__(self, extractor: WhisperFeatureExtractor):
        if extractor.dither:
            raise ValueError(
                f"dither={extractor.dither} draws noise, so that no window has one spectrogram; set it to 0"
            )
        self.extractor = extractor
        self.sampling_rate = extractor.sampling_rate

    @property
    def window_seconds(self) -> float:
        """The window that the model was fitted to; of a stock extractor the longest that fits."""
        return getattr(self.extractor, "window_seconds", None) or float(self.extractor.chunk_length)

    @torch.no_grad()
    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Log-mel spectrograms as the model takes them.

        waveforms: `(batch, time)` float32 in [-1, 1] at `sampling_rate`, of which the first `chunk_length` seconds are
        heard. lengths: `(batch,)` samples of each, on any device; None where all are whole. Returns
        `{"input_features": (batch, mels, frames)}`, 3,000 frames for 30 s. Raises ValueError for an empty waveform.
        """
        check_shortest(waveforms, lengths, 1)
        extractor = self.extractor
        # Autocast would take the matrix product in half precision, where the logarithm loses the quiet bins.
        with torch.autocast(waveforms.device.type, enabled=False):
            waveforms, _ = padded(waveforms[:, : extractor.n_samples], lengths, extractor.n_samples)
            window = torch.hann_window(extractor.n_fft, device=waveforms.device)
            spectrum = torch.stft(waveforms, extractor.n_fft, extractor.hop_length, window=window, return_complex=True)
            spectrum = spectrum[..., :-1]
            power = spectrum.real.square() + spectrum.imag.square()
            filters = torch.from_numpy(extractor.mel_filters).to(waveforms.device, torch.float32)
            log_mel = (filters.T @ power).clamp_min(POWER_FLOOR).log10()
        log_mel = torch.maximum(log_mel, log_mel.amax(dim=(1, 2), keepdim=True) - RANGE)
        return {"input_features": (log_mel + 4.0) / 4.0}
