"""w2v-BERT's log-mel filterbank in batches, on the model's device.

Equal to `SeamlessM4TFeatureExtractor` on each window alone, up to the rounding of its transform: samples as 16-bit
numbers, Povey window of 25 ms every 10 ms, mean of each frame removed, pre-emphasis 0.97, power spectrum, triangular
mel filters from 20 Hz, natural logarithm; each mel bin to zero mean and unit variance over the window's own frames;
then `stride` frames side by side (Chung et al., "w2v-BERT", ASRU 2021; Barrault et al., "Seamless", 2023).
"""

import torch
from transformers import SeamlessM4TFeatureExtractor

from hf_musiclf.features.waveforms import USUAL_WINDOW_SECONDS, VARIANCE_FLOOR, check_shortest, padded, window_samples

# As SeamlessM4TFeatureExtractor has them, in samples whatever the rate, and Kaldi's floor below the logarithm.
FRAME, SHIFT, FFT = 400, 160, 512
PREEMPHASIS, SCALE, POWER_FLOOR = 0.97, 2**15, 1.192092955078125e-07


def least_samples(stride: int) -> int:
    """Of a window: it makes one whole stack of frames, and the two that a variance takes."""
    return FRAME + (max(2, stride) - 1) * SHIFT


def stacked_frames(samples: int, stride: int) -> int:
    """What the model sees of so many samples."""
    return (1 + (samples - FRAME) // SHIFT) // stride


class W2vBertFeatures:
    """Waveforms to w2v-BERT's input_features and attention_mask.

    extractor: the `SeamlessM4TFeatureExtractor` that is saved with the model; its settings are the ones used here.
    """

    spectrograms = False  # a column is no band: frames stand side by side

    def __init__(self, extractor: SeamlessM4TFeatureExtractor):
        self.extractor = extractor
        self.sampling_rate = extractor.sampling_rate

    @property
    def window_seconds(self) -> float:
        """The window that the model was fitted to; a stock extractor knows none."""
        return getattr(self.extractor, "window_seconds", None) or USUAL_WINDOW_SECONDS

    @torch.no_grad()
    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Log-mel spectrograms as the model takes them.

        waveforms: `(batch, time)` float32 in [-1, 1] at `sampling_rate`. lengths: `(batch,)` samples of each, on any
        device; None where all are whole. Returns `{"input_features": (batch, stacks, stride * mels), "attention_mask":
        (batch, stacks)}`, padded to the window. Raises ValueError for a waveform of less than two frames, if its
        length is on the CPU.
        """
        stride = self.extractor.stride
        check_shortest(waveforms, lengths, least_samples(stride))
        with torch.autocast(waveforms.device.type, enabled=False):
            waveforms, inside = padded(waveforms, lengths, window_samples(self.extractor))
            log_mel = self._log_mel(waveforms)
        frames = 1 + (inside.sum(1) - FRAME) // SHIFT
        theirs = torch.arange(log_mel.shape[1], device=log_mel.device) < frames[:, None]
        count = frames[:, None, None]
        behind = ~theirs[..., None]
        centred = log_mel - log_mel.masked_fill(behind, 0.0).sum(1, keepdim=True) / count
        variance = centred.masked_fill(behind, 0.0).square().sum(1, keepdim=True) / (count - 1)
        log_mel = (centred / (variance + VARIANCE_FLOOR).sqrt()).masked_fill(behind, self.extractor.padding_value)
        # Alone, a window of an odd number of frames gets one of padding, and a stack that is not all its own no mask.
        missing = -log_mel.shape[1] % stride
        log_mel = torch.nn.functional.pad(log_mel, (0, 0, 0, missing), value=self.extractor.padding_value)
        theirs = torch.nn.functional.pad(theirs, (0, missing))
        return {
            "input_features": log_mel.reshape(len(log_mel), -1, stride * log_mel.shape[2]),
            "attention_mask": theirs[:, stride - 1 :: stride].int(),
        }

    def _log_mel(self, waveforms: torch.Tensor) -> torch.Tensor:
        """`(batch, time)` -> `(batch, frames, mels)` float32."""
        if waveforms.device.type == "cpu" and len(waveforms) > 1:
            # One window's frames stay in the processor's cache, a batch's do not.
            return torch.cat([self._log_mel(waveform[None]) for waveform in waveforms])
        # The variance of a quiet bin magnifies what float32 would lose beside a loud one.
        precise = torch.float32 if waveforms.device.type == "mps" else torch.float64
        frames = (waveforms.to(precise) * SCALE).unfold(1, FRAME, SHIFT)
        frames = frames - frames.mean(-1, keepdim=True)
        # A frame's first sample has none before it, but there the Povey window is 0.
        frames = torch.cat([frames[..., :1], frames[..., 1:] - PREEMPHASIS * frames[..., :-1]], dim=-1)
        spectrum = torch.fft.rfft(frames * self._constant(self.extractor.window, frames), n=FFT)
        power = spectrum.real.square() + spectrum.imag.square()
        return (power @ self._constant(self.extractor.mel_filters, frames)).clamp_min(POWER_FLOOR).log().float()

    @staticmethod
    def _constant(values, like: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(values).to(like.device, like.dtype)
