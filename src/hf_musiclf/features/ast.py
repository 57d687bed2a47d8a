"""AST's log-mel filterbank in batches, on the model's device.

Equal to `ASTFeatureExtractor`, which makes one window at a time with `torchaudio.compliance.kaldi.fbank`: Hann window
of 25 ms every 10 ms, mean of each frame removed, pre-emphasis 0.97, power spectrum, 128 triangular mel filters from
20 Hz, natural logarithm, no dither; zeros behind the last frame up to `max_length`; then `(x - mean) / (2 std)` (Gong,
Chung and Glass, "AST: Audio Spectrogram Transformer", Interspeech 2021).
"""

from functools import lru_cache

import torch
import torchaudio
from transformers import ASTFeatureExtractor

from hf_musiclf.features.mel_filters import MelFilters

FRAME_SECONDS = 0.025
SHIFT_SECONDS = 0.010
PREEMPHASIS = 0.97
LOWEST_HZ = 20.0
# Kaldi's floor below the logarithm: the spacing of float32 at 1.
ENERGY_FLOOR = torch.finfo(torch.float32).eps


class AstFeatures:
    """Waveforms to AST's input_values.

    extractor: the `ASTFeatureExtractor` that is saved with the model; its settings are the ones used here.
    """

    def __init__(self, extractor: ASTFeatureExtractor):
        self.extractor = extractor
        self.sampling_rate = extractor.sampling_rate
        self.frame = int(self.sampling_rate * FRAME_SECONDS)
        self.shift = int(self.sampling_rate * SHIFT_SECONDS)
        self.fft = 1 << (self.frame - 1).bit_length()

    @property
    def window_seconds(self) -> float:
        """The window that the model was trained for; of a stock extractor the longest that fits `max_length` frames."""
        return getattr(self.extractor, "window_seconds", None) or self.extractor.max_length * SHIFT_SECONDS

    @torch.no_grad()
    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Log-mel spectrograms as the model takes them.

        waveforms: `(batch, time)` float32 in [-1, 1] at `sampling_rate`, zeros behind short ones. lengths: `(batch,)`
        samples of each, on any device; None where all are whole. Returns `{"input_values": (batch, max_length, mels)}`.
        Raises ValueError for a waveform shorter than one frame of 25 ms.
        """
        # Asked on the CPU alone: a GPU would have to be waited for, in every step.
        shortest = int(lengths.min()) if lengths is not None and lengths.device.type == "cpu" else waveforms.shape[1]
        if shortest < self.frame:
            raise ValueError(
                f"a waveform of {shortest} samples is shorter than AST's frame of {self.frame} samples "
                f"({1000 * FRAME_SECONDS:.0f} ms)"
            )
        # Autocast would take the matrix product in half precision, where the logarithm loses the quiet bins.
        with torch.autocast(waveforms.device.type, enabled=False):
            waveforms = waveforms.float()
            if waveforms.device.type == "cpu":
                # One window's frames stay in the processor's cache, a batch's do not: four times faster.
                log_mel = torch.cat([self._log_mel(waveform[None]) for waveform in waveforms])
            else:
                log_mel = self._log_mel(waveforms)
        log_mel = log_mel[:, : self.extractor.max_length]
        if lengths is not None:
            frames = 1 + (lengths.to(log_mel.device) - self.frame) // self.shift
            behind = torch.arange(log_mel.shape[1], device=log_mel.device) >= frames[:, None]
            log_mel.masked_fill_(behind[..., None], 0.0)
        if missing := self.extractor.max_length - log_mel.shape[1]:
            log_mel = torch.nn.functional.pad(log_mel, (0, 0, 0, missing))
        if self.extractor.do_normalize:
            log_mel.sub_(self.extractor.mean).div_(2 * self.extractor.std)
        return {"input_values": log_mel}

    def _log_mel(self, waveforms: torch.Tensor) -> torch.Tensor:
        """`(batch, time)` -> `(batch, frames, mels)`."""
        window, filters = _constants(
            self.frame, self.fft, self.sampling_rate, self.extractor.num_mel_bins, waveforms.device
        )
        frames = waveforms.unfold(1, self.frame, self.shift)
        frames = frames - frames.mean(-1, keepdim=True)
        # A frame's first sample has none before it, but there the Hann window is 0, and so it stays 0.
        padded = frames.new_zeros(*frames.shape[:-1], self.fft)
        emphasised = padded[..., 1 : self.frame]
        torch.sub(frames[..., 1:], PREEMPHASIS * frames[..., :-1], out=emphasised)
        emphasised.mul_(window[1:])
        spectrum = torch.fft.rfft(padded)
        power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
        return filters(power).clamp_min_(ENERGY_FLOOR).log_()


@lru_cache(maxsize=16)
def _constants(frame: int, fft: int, sampling_rate: int, mels: int, device: torch.device):
    """Window `(frame,)` and mel filters, from `fft / 2 + 1` bins to `mels`, on the device."""
    window = torch.hann_window(frame, periodic=False, device=device)
    banks, _ = torchaudio.compliance.kaldi.get_mel_banks(
        mels, fft, float(sampling_rate), LOWEST_HZ, 0.0, 100.0, -500.0, 1.0
    )
    # Kaldi gives the highest bin, at half the sampling rate, no filter.
    return window, MelFilters(torch.nn.functional.pad(banks, (0, 1)).T.contiguous().to(device))
