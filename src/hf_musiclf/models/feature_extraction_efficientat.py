"""EfficientAT's log-mel spectrogram; `save_pretrained` copies this file beside the weights.

Schmid, Koutini and Widmer, ICASSP 2023 (arXiv 2211.04772): 32 kHz, pre-emphasis, centred Hann window of 25 ms every
10 ms, power spectrum, 128 triangular mel filters as Kaldi's from 0 to 15 kHz, logarithm, scaled. Training makes its
features by the same `log_mel`, on the model's device. This file imports numpy, torch and transformers alone.
"""

from functools import lru_cache

import numpy as np
import torch
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.audio_utils import mel_filter_bank


class EfficientAtFeatureExtractor(SequenceFeatureExtractor):
    """Waveforms -> input_values `(batch, frames, mels)` of EfficientAtForAudioClassification.

    feature_size: mel bands. sampling_rate: Hz. window_seconds: what every waveform is cut or, with zeros behind its
    end, padded to: clips of 10 s is what the published weights have seen, shorter ones padded in this way, but the
    network takes any length. n_fft, win_length, hop_length: samples. frequency_min, frequency_max: Hz. The output is
    `(log(power + log_offset) - mean) / std`. Raises ValueError for settings that make no spectrogram.
    """

    model_input_names = ("input_values",)

    def __init__(
        self,
        feature_size: int = 128,
        sampling_rate: int = 32_000,
        padding_value: float = 0.0,
        window_seconds: float = 10.0,
        n_fft: int = 1024,
        win_length: int = 800,
        hop_length: int = 320,
        preemphasis: float = 0.97,
        frequency_min: float = 0.0,
        frequency_max: float = 15_000.0,
        log_offset: float = 1e-5,
        mean: float = -4.5,
        std: float = 5.0,
        **kwargs,
    ):
        kwargs.setdefault("return_attention_mask", False)
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        self.window_seconds = window_seconds
        self.n_fft, self.win_length, self.hop_length = n_fft, win_length, hop_length
        self.preemphasis = preemphasis
        self.frequency_min, self.frequency_max = frequency_min, frequency_max
        self.log_offset, self.mean, self.std = log_offset, mean, std
        if not 0 < win_length <= n_fft:
            raise ValueError(f"win_length={win_length} must lie in [1, n_fft={n_fft}]")
        if not 0 <= frequency_min < frequency_max <= sampling_rate / 2:
            raise ValueError(
                f"frequency_min={frequency_min} and frequency_max={frequency_max} Hz must rise and stay within "
                f"{sampling_rate / 2:g} Hz, half the sampling rate"
            )
        self.check_window()

    @property
    def window_samples(self) -> int:
        return round(self.window_seconds * self.sampling_rate)

    def check_window(self) -> None:
        """Raises ValueError where the window is too short for its ends to be reflected by half a spectrum."""
        least = self.n_fft // 2 + 2  # pre-emphasis takes one sample, reflection leaves out the one at the end
        if self.window_samples < least:
            raise ValueError(
                f"window_seconds={self.window_seconds} is {self.window_samples} samples; EfficientAT's spectrogram "
                f"needs {least}, {least / self.sampling_rate:.3f} s"
            )

    def __call__(self, raw_speech, sampling_rate: int | None = None, return_tensors=None, **kwargs) -> BatchFeature:
        """Spectrograms of one waveform or of several.

        raw_speech: `(time,)` float in [-1, 1], or a list or `(batch, time)` array of them; arrays, tensors or lists.
        sampling_rate: of raw_speech in Hz; None trusts that it is the extractor's. return_tensors: "np", "pt" or
        None. Returns `{"input_values": (batch, frames, mels) float32}`. Raises ValueError for another sampling rate,
        an empty waveform, and for several channels.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise ValueError(
                f"sampling_rate={sampling_rate} Hz: this EfficientAT takes {self.sampling_rate} Hz; resample the audio"
            )
        waveforms = [self._to_window(waveform) for waveform in _as_list(raw_speech)]
        rows = [self.log_mel(waveform[None])[0].numpy() for waveform in waveforms]
        return BatchFeature({"input_values": rows}, tensor_type=return_tensors)

    def _to_window(self, waveform) -> torch.Tensor:
        """`(time,)` -> `(window_samples,)`."""
        waveform = torch.as_tensor(np.asarray(waveform, dtype=np.float32))
        if waveform.dim() != 1:
            raise ValueError(f"a waveform has {waveform.dim()} axes; EfficientAT takes mono audio, one axis")
        if not len(waveform):
            raise ValueError("a waveform has no samples; EfficientAT needs one at least")
        return self.fit(waveform[None])[0]

    def fit(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Cut or pad with zeros: `(batch, time)` -> `(batch, window_samples)`."""
        waveforms = waveforms[:, : self.window_samples]
        missing = self.window_samples - waveforms.shape[1]
        return torch.nn.functional.pad(waveforms, (0, missing), value=self.padding_value)

    @torch.no_grad()
    def log_mel(self, waveforms: torch.Tensor) -> torch.Tensor:
        """`(batch, time)` -> `(batch, frames, mels)` float32, on the device of the waveforms, frames 10 ms apart."""
        # Autocast would take the matrix product in half precision, where the logarithm loses the quiet bins.
        with torch.autocast(waveforms.device.type, enabled=False):
            waveforms = waveforms.float()
            window = _window(self.win_length, waveforms.device)
            filters = _filters(
                self.n_fft,
                self.feature_size,
                self.frequency_min,
                self.frequency_max,
                self.sampling_rate,
                waveforms.device,
            )
            emphasised = torch.sub(waveforms[:, 1:], waveforms[:, :-1], alpha=self.preemphasis)
            half = self.n_fft // 2
            padded = torch.nn.functional.pad(emphasised[:, None], (half, half), mode="reflect")[:, 0]
            # As torch.stft with center, but without the zeros around the window, which turn the spectrum's phase alone.
            around = (self.n_fft - self.win_length) // 2
            last = padded.shape[1] - self.n_fft + around + self.win_length
            frames = padded[:, around:last].unfold(1, self.win_length, self.hop_length)
            spectrum = torch.fft.rfft(frames * window, self.n_fft)
            power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
            return (power @ filters).add_(self.log_offset).log_().sub_(self.mean).div_(self.std)


def _as_list(raw_speech) -> list:
    """The waveforms of what may be one or several."""
    if isinstance(raw_speech, (list, tuple)):
        several = len(raw_speech) > 0 and hasattr(raw_speech[0], "__len__")
    else:
        several = raw_speech.ndim > 1
    return list(raw_speech) if several else [raw_speech]


@lru_cache(maxsize=16)
def _window(length: int, device: torch.device) -> torch.Tensor:
    return torch.hann_window(length, periodic=False, device=device)


@lru_cache(maxsize=16)
def _filters(fft: int, mels: int, low: float, high: float, sampling_rate: int, device: torch.device) -> torch.Tensor:
    """Triangles on Kaldi's mel scale, without normalisation: `(fft / 2 + 1, mels)`."""
    filters = mel_filter_bank(
        fft // 2 + 1, mels, low, high, sampling_rate, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    return torch.from_numpy(filters).float().to(device)


EfficientAtFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
