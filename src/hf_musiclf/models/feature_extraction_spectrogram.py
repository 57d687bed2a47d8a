"""Log-mel, MFCC and chroma for small networks; `save_pretrained` copies this file beside the weights.

The log-mel is that of Won et al., "Evaluation of CNN-based automatic music tagging models", SMC 2020 (arXiv
2006.00751): 16 kHz, centred Hann windows every 256 samples (16 ms), power spectrum, 128 triangles on the HTK mel scale
from 0 to 8 kHz, decibels. MFCC are its orthonormal DCT-II (Davis and Mermelstein, 1980). Chroma is librosa's
`chroma_stft`, of a longer window. Training makes its features by the same `extract`, on the model's device. This file
imports numpy, torch, torchaudio and transformers alone.
"""

import math
from functools import lru_cache

import numpy as np
import torch
import torchaudio
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.audio_utils import chroma_filter_bank

FEATURES = ("log_mel", "mfcc", "chroma")
F_MAX = 8_000.0  # Hz


class SpectrogramFeatureExtractor(SequenceFeatureExtractor):
    """Waveforms -> input_values `(batch, frames, features)`, frames `hop_length` samples apart.

    features: one or several of FEATURES, which are stacked along the last axis in this order. Their units differ:
    log_mel and mfcc are decibels, chroma lies in [0, 1]; a network is to normalise each feature on its own.
    feature_size: values a frame; derived, and need not be given. sampling_rate: Hz. window_seconds: what every waveform
    is cut or repeated to; the models of Won et al. take 3 to 29 s.

    n_fft, hop_length: samples. Won et al. take 512 for n_fft; there one of the 128 triangles from 0 Hz falls between
    two bins of 31 Hz and stays empty, with 1024 none does. f_min, f_max: Hz; None is 8,000, or half a lower sampling
    rate. mel_scale: "htk" or "slaney". mel_norm: None or "slaney", triangles of equal area. floor_db: powers below it,
    relative to 1, count as it: digital silence, as 16 bits' rounding noise lies at -75 dB in a bin of 1024. The floor
    is no distance from the loudest (top_db): a frame would depend on the others of its window, and quiet windows would
    show more than loud ones.

    num_mfcc: coefficients from the 0th (the level) on, at most num_mel_bins; 20 is librosa's default. num_chroma: bins
    an octave from C up, tuned to A4 = 440 Hz, whatever the recording's own tuning. chroma_n_fft: samples. 4096 (256 ms)
    has bins of 3.9 Hz, two of which, what a Hann window separates, are a semitone from C3 up; a single tone has its
    peak in its own pitch class from E1 (41 Hz) up, the lowest string of a bass, where 2048 mistakes E for D sharp.

    Raises ValueError for settings of another type, and where those that its features use make none.
    """

    model_input_names = ("input_values",)

    def __init__(
        self,
        features: str | list[str] = "log_mel",
        feature_size: int | None = None,
        sampling_rate: int = 16_000,
        padding_value: float = 0.0,
        window_seconds: float = 5.0,
        n_fft: int = 1024,
        hop_length: int = 256,
        num_mel_bins: int = 128,
        mel_scale: str = "htk",
        mel_norm: str | None = None,
        f_min: float = 0.0,
        f_max: float | None = None,
        floor_db: float = -100.0,
        num_mfcc: int = 20,
        num_chroma: int = 12,
        chroma_n_fft: int = 4096,
        **kwargs,
    ):
        kwargs.setdefault("return_attention_mask", False)
        features = [features] if isinstance(features, str) else features
        _check_names(features)
        features = list(features)
        whole = dict(
            sampling_rate=sampling_rate, n_fft=n_fft, hop_length=hop_length, num_mel_bins=num_mel_bins,
            num_mfcc=num_mfcc, num_chroma=num_chroma, chroma_n_fft=chroma_n_fft,
        )  # fmt: skip
        _check_types(whole, dict(window_seconds=window_seconds, f_min=f_min, f_max=f_max, floor_db=floor_db))
        sizes = {"log_mel": num_mel_bins, "mfcc": num_mfcc, "chroma": num_chroma}
        size = sum(sizes[name] for name in features)
        if feature_size not in (None, size):
            raise ValueError(f"feature_size={feature_size}, but {features} make {size}; leave feature_size out")
        super().__init__(feature_size=size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        self.features, self.window_seconds = features, window_seconds
        self.n_fft, self.hop_length, self.chroma_n_fft = n_fft, hop_length, chroma_n_fft
        self.num_mel_bins, self.num_mfcc, self.num_chroma = num_mel_bins, num_mfcc, num_chroma
        self.mel_scale, self.mel_norm, self.floor_db = mel_scale, mel_norm, floor_db
        self.f_min, self.f_max = f_min, min(F_MAX, sampling_rate / 2) if f_max is None else f_max
        self._check_settings()
        self.check_window()

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict, **kwargs):
        """As of the base class, feature_size derived anew: kwargs may change what it is made of."""
        settings = {name: value for name, value in feature_extractor_dict.items() if name != "feature_size"}
        return super().from_dict(settings, **kwargs)

    def _check_settings(self) -> None:
        """Of those that the features use."""
        self._check_counts("sampling_rate", "hop_length")
        if not -300 <= self.floor_db < 0:  # powers of less than 1e-38 are none in single precision
            raise ValueError(f"floor_db={self.floor_db} must lie in [-300, 0)")
        if "chroma" in self.features:
            self._check_length("chroma_n_fft")
            if self.num_chroma < 12 or self.num_chroma % 12:
                raise ValueError(f"num_chroma={self.num_chroma} must be 12 or a multiple of it, so that C has a bin")
        if "mfcc" in self.features:
            self._check_counts("num_mfcc")
            if self.num_mfcc > self.num_mel_bins:
                raise ValueError(
                    f"num_mfcc={self.num_mfcc} exceeds num_mel_bins={self.num_mel_bins}, which they come from"
                )
        if self.features != ["chroma"]:
            self._check_mel()

    def _check_counts(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")

    def _check_length(self, name: str) -> None:
        size = getattr(self, name)
        if size < 2 or size % 2:  # odd ones, centred, may make a frame less than the others
            raise ValueError(f"{name}={size} must be an even number of samples, 2 or more")

    def _check_mel(self) -> None:
        self._check_length("n_fft")
        self._check_counts("num_mel_bins")
        if self.mel_scale not in ("htk", "slaney") or self.mel_norm not in (None, "slaney"):
            raise ValueError(
                f"mel_scale={self.mel_scale!r} must be 'htk' or 'slaney', mel_norm={self.mel_norm!r} None or 'slaney'"
            )
        if not 0 <= self.f_min < self.f_max <= self.sampling_rate / 2:
            raise ValueError(
                f"f_min={self.f_min} and f_max={self.f_max} Hz must rise and stay within "
                f"{self.sampling_rate / 2:g} Hz, half the sampling rate"
            )

    @property
    def window_samples(self) -> int:
        return round(self.window_seconds * self.sampling_rate)

    def check_window(self) -> None:
        """Raises ValueError where the window is too short for its ends to be reflected by half a spectrum."""
        sizes = [self.chroma_n_fft if name == "chroma" else self.n_fft for name in self.features]
        least = max(sizes) // 2 + 1  # reflection leaves out the sample at the end
        if self.window_samples < least:
            raise ValueError(
                f"window_seconds={self.window_seconds} is {self.window_samples} samples; {' + '.join(self.features)} "
                f"of {max(sizes)} samples a spectrum need {least}, {least / self.sampling_rate:.3f} s"
            )

    def __call__(self, raw_speech, sampling_rate: int | None = None, return_tensors=None, **kwargs) -> BatchFeature:
        """Features of one waveform or of several.

        raw_speech: `(time,)` float in [-1, 1], or a list or `(batch, time)` array of them; arrays, tensors or lists.
        sampling_rate: of raw_speech in Hz; None trusts that it is the extractor's. return_tensors: "np", "pt" or
        None. Returns `{"input_values": (batch, frames, feature_size) float32}`. Raises ValueError for another sampling
        rate, an empty waveform, and for several channels.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise ValueError(
                f"sampling_rate={sampling_rate} Hz: this extractor takes {self.sampling_rate} Hz; resample the audio"
            )
        waveforms = [self._to_window(waveform) for waveform in _as_list(raw_speech)]
        rows = [self.extract(waveform[None])[0].numpy() for waveform in waveforms]
        return BatchFeature({"input_values": rows}, tensor_type=return_tensors)

    def _to_window(self, waveform) -> torch.Tensor:
        """`(time,)` -> `(window_samples,)`."""
        waveform = torch.as_tensor(np.asarray(waveform, dtype=np.float32))
        if waveform.dim() != 1:
            raise ValueError(f"a waveform has {waveform.dim()} axes; this extractor takes mono audio, one axis")
        if not len(waveform):
            raise ValueError("a waveform has no samples; a spectrogram needs one at least")
        return self.fit(waveform[None])[0]

    def fit(self, waveforms: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Cut, or repeat from the start on until the window is full: `(batch, time)` -> `(batch, window_samples)`.

        lengths: `(batch,)` samples of each that count, 1 or more; None: all. As CLAP's "repeatpad" (Wu et al., ICASSP
        2023), but that the last repetition is cut where CLAP puts zeros. Zeros become frames at floor_db, far from all
        that a standardised network has learnt: with them it does no better than chance on half a window.
        """
        time, full = waveforms.shape[1], self.window_samples
        # Asked on the CPU alone: a GPU would have to be waited for, in every step.
        if time >= full and (lengths is None or (lengths.device.type == "cpu" and int(lengths.min()) >= full)):
            return waveforms[:, :full]
        place = torch.arange(full, device=waveforms.device)
        if lengths is None:
            return waveforms[:, place % time]
        lengths = lengths.to(waveforms.device, non_blocking=True).clamp(1, time)
        return waveforms.gather(1, place % lengths[:, None])

    @torch.no_grad()
    def extract(self, waveforms: torch.Tensor) -> torch.Tensor:
        """`(batch, time)` -> `(batch, 1 + time // hop_length, feature_size)` float32, on the waveforms' device."""
        # Autocast would take the matrix products in half precision, where the logarithm loses the quiet bins.
        with torch.autocast(waveforms.device.type, enabled=False):
            waveforms, parts = waveforms.float(), {}
            if "log_mel" in self.features or "mfcc" in self.features:
                parts["log_mel"] = self._log_mel(waveforms)
            if "mfcc" in self.features:
                parts["mfcc"] = parts["log_mel"] @ _cosines(self.num_mel_bins, self.num_mfcc, waveforms.device)
            if "chroma" in self.features:
                parts["chroma"] = self._chroma(waveforms)
            if len(self.features) == 1:
                return parts[self.features[0]]
            return torch.cat([parts[name] for name in self.features], dim=-1)

    def _log_mel(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Decibels `(batch, frames, num_mel_bins)`."""
        limits = (self.f_min, self.f_max, self.num_mel_bins, self.sampling_rate, self.mel_norm, self.mel_scale)
        filters = _mel_filters(self.n_fft // 2 + 1, *limits, waveforms.device)
        mel = _power(waveforms, self.n_fft, self.hop_length) @ filters
        return mel.clamp_min_(10 ** (self.floor_db / 10)).log10_().mul_(10)

    def _chroma(self, waveforms: torch.Tensor) -> torch.Tensor:
        """`(batch, frames, num_chroma)` in [0, 1], the highest of a frame 1, or less where it lies below the floor."""
        filters = _chroma_filters(self.chroma_n_fft, self.num_chroma, self.sampling_rate, waveforms.device)
        energy = _power(waveforms, self.chroma_n_fft, self.hop_length) @ filters
        return energy / energy.amax(-1, keepdim=True).clamp_min(10 ** (self.floor_db / 10))


def _check_names(features: list | tuple) -> None:
    known = isinstance(features, (list, tuple)) and all(name in FEATURES for name in features)
    if not known or not features or len(set(features)) < len(features):
        raise ValueError(f"features={features} must name each once, one or several of {', '.join(FEATURES)}")


def _check_types(whole: dict, real: dict) -> None:
    for name, value in whole.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{name}={value} must be a whole number")
    for name, value in real.items():
        if name == "f_max" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{name}={value} must be a number")


def _as_list(raw_speech) -> list:
    """The waveforms of what may be one or several."""
    if isinstance(raw_speech, (list, tuple)):
        several = len(raw_speech) > 0 and hasattr(raw_speech[0], "__len__")
    else:
        several = raw_speech.ndim > 1
    return list(raw_speech) if several else [raw_speech]


def _power(waveforms: torch.Tensor, n_fft: int, hop: int) -> torch.Tensor:
    """`(batch, time)` -> `(batch, 1 + time // hop, n_fft / 2 + 1)`; frame t has its middle at sample `t * hop`."""
    padded = torch.nn.functional.pad(waveforms[:, None], (n_fft // 2, n_fft // 2), mode="reflect")[:, 0]
    # As torch.stft, whose frames would lie behind one another in memory, for the product with the filters to gather.
    spectrum = torch.fft.rfft(padded.unfold(1, n_fft, hop) * _window(n_fft, waveforms.device))
    return spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)


# What stays the same is made once for each device, outside the extractor: it is neither saved nor pickled with it.
@lru_cache(maxsize=16)
def _window(length: int, device: torch.device) -> torch.Tensor:
    return torch.hann_window(length, device=device)


@lru_cache(maxsize=16)
def _mel_filters(
    bins: int, low: float, high: float, mels: int, sampling_rate: int, norm: str | None, scale: str, device
) -> torch.Tensor:
    """`(bins, mels)`."""
    return torchaudio.functional.melscale_fbanks(bins, low, high, mels, sampling_rate, norm, scale).to(device)


@lru_cache(maxsize=16)
def _cosines(mels: int, coefficients: int, device: torch.device) -> torch.Tensor:
    """The orthonormal DCT-II: `(mels, coefficients)`."""
    return torchaudio.functional.create_dct(coefficients, mels, "ortho").to(device)


@lru_cache(maxsize=16)
def _chroma_filters(n_fft: int, bins: int, sampling_rate: int, device: torch.device) -> torch.Tensor:
    """`(n_fft / 2 + 1, bins)`: Gaussians a semitone wide, octaves weighed around A5 (880 Hz), as librosa's."""
    # The function calls "num_frequency_bins" what is the length of the spectrum's window.
    return torch.from_numpy(chroma_filter_bank(n_fft, bins, sampling_rate).T).float().contiguous().to(device)


SpectrogramFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
