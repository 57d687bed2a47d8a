"""CLAP's log-mel spectrogram in batches, on the model's device.

Equal to the saved `ClapWindowFeatureExtractor`, which makes one window at a time in numpy: periodic Hann window of
`fft_window_size` samples every `hop_length`, frames centred by reflection at both ends, power spectrum, mel filters
(Slaney's for `rand_trunc`, HTK's for `fusion`), `10 log10(max(power, 1e-10))`; short windows repeated or padded first
(Wu et al., "Large-scale Contrastive Language-Audio Pretraining", ICASSP 2023). Within 1e-4 dB, as the transform is in
float64; in float32, which Apple's MPS has to make do with, the quiet bins beside a full-scale tone are off by up to
0.04 dB. `top_db` and `padding_value` change nothing here, as they change nothing in the extractor.
"""

from functools import lru_cache

import torch
from transformers import ClapFeatureExtractor
from transformers.audio_utils import mel_filter_bank

from hf_musiclf.features.mel_filters import MelFilters

# `audio_utils.spectrogram`'s mel_floor, -100 dB.
POWER_FLOOR = 1e-10
# On a CPU: in float64 so many frames, 2 MB, and their spectra stay in the processor's cache; all of a window do not.
FRAMES_AT_ONCE = 256


class ClapFeatures:
    """Waveforms to CLAP's input_features and is_longer, without chance.

    extractor: the `ClapWindowFeatureExtractor` that is saved with the model; its settings are the ones used here. Of a
    stock `ClapFeatureExtractor` that says no window, the window is `max_length_s`. Raises ValueError for settings that
    it does not know.
    """

    def __init__(self, extractor: ClapFeatureExtractor):
        self.extractor = extractor
        self.sampling_rate = extractor.sampling_rate
        self.fft, self.hop = extractor.fft_window_size, extractor.hop_length
        self.max_samples = int(extractor.nb_max_samples)
        if self.max_samples != extractor.nb_max_samples or self.max_samples <= self.fft // 2:
            raise ValueError(
                f"max_length_s={extractor.max_length_s} makes {extractor.nb_max_samples} samples; CLAP's extractor "
                f"needs a whole number above {self.fft // 2}, half its FFT window"
            )
        for name, known in (("truncation", ("rand_trunc", "fusion")), ("padding", ("repeatpad", "repeat", "pad"))):
            if getattr(extractor, name) not in known:
                raise ValueError(f"{name}={getattr(extractor, name)!r} of the extractor is none of {', '.join(known)}")
        self.fused = extractor.truncation == "fusion"

    @property
    def window_seconds(self) -> float:
        """What is heard of a waveform; where nothing is said, the longest that is not cropped."""
        return getattr(self.extractor, "window_seconds", None) or self.max_samples / self.sampling_rate

    @torch.no_grad()
    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Log-mel spectrograms as the model takes them.

        waveforms: `(batch, time)` float32 in [-1, 1] at `sampling_rate`, of which the first `window_seconds` are
        heard. lengths: `(batch,)` samples of each, on any device; None where all are whole. Returns
        `{"input_features": (batch, channels, frames, mels) float32 in dB, "is_longer": (batch, 1) bool}`, 1 channel for
        `rand_trunc`, 4 for `fusion`: of a window longer than `max_length_s` an overview and three crops. Raises
        ValueError for an empty waveform, if its length is on the CPU; on a GPU it counts as one sample.
        """
        # Asked on the CPU alone: a GPU would have to be waited for, in every step.
        if waveforms.shape[1] == 0 or (lengths is not None and lengths.device.type == "cpu" and lengths.min() < 1):
            raise ValueError("a waveform has no samples; CLAP's features need one at least")
        # Autocast would take the matrix product in half precision, where the logarithm loses the quiet bins.
        with torch.autocast(waveforms.device.type, enabled=False):
            waveforms = waveforms[:, : self._heard_samples()].float()
            lengths = None if lengths is None else lengths.clamp(1, waveforms.shape[1])
            if waveforms.shape[1] <= self.max_samples:
                mel = self._log_mel(self._to_max_length(waveforms, lengths))[:, None]
                is_longer = torch.zeros(len(mel), 1, dtype=torch.bool, device=mel.device)
                return {"input_features": mel.repeat(1, 4, 1, 1) if self.fused else mel, "is_longer": is_longer}
            samples = [waveforms.shape[1]] * len(waveforms) if lengths is None else lengths.tolist()
            return self._fuse(waveforms, samples)

    def _heard_samples(self) -> int:
        window = round(self.window_seconds * self.sampling_rate)
        return window if self.fused else min(window, self.max_samples)

    def _fuse(self, waveforms: torch.Tensor, lengths: list[int]) -> dict[str, torch.Tensor]:
        """Of a batch with long waveforms, those of one length at once: most windows of a recipe have the same."""
        made, is_longer = {}, torch.zeros(len(waveforms), 1, dtype=torch.bool)
        for length in set(lengths):
            rows = [row for row, other in enumerate(lengths) if other == length]
            mels, is_longer[rows] = self._of_one_length(waveforms[rows, :length])
            made.update(zip(rows, mels, strict=True))
        mels = torch.stack([made[row] for row in range(len(waveforms))])
        return {"input_features": mels, "is_longer": is_longer.to(waveforms.device)}

    def _to_max_length(self, waveforms: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """Repeat or pad each: `(batch, time)` -> `(batch, max_samples)`."""
        time = waveforms.shape[1]
        if lengths is None:
            lengths = torch.full((len(waveforms),), time)
        if lengths.device.type == "cpu" and time == self.max_samples and bool((lengths == time).all()):
            return waveforms
        lengths = lengths.to(waveforms.device)[:, None]
        place = torch.arange(self.max_samples, device=waveforms.device)
        repeats = {"repeatpad": self.max_samples // lengths, "repeat": self.max_samples, "pad": 1}
        padded = waveforms.gather(1, place % lengths)
        return padded.masked_fill(place >= repeats[self.extractor.padding] * lengths, 0.0)

    def _of_one_length(self, waveforms: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """`(batch, time)` -> `(batch, 4, frames, mels)`, and whether they are overviews with three crops."""
        if waveforms.shape[1] <= self.max_samples:
            return self._log_mel(self._to_max_length(waveforms, None))[:, None].repeat(1, 4, 1, 1), False
        mel = self._log_mel(waveforms)
        frames = self.max_samples // self.hop + 1
        if mel.shape[1] == frames:  # longer by less than a hop
            return mel[:, None].repeat(1, 4, 1, 1), False
        overview = torch.nn.functional.interpolate(mel[:, None], size=[frames, mel.shape[2]], mode="bilinear")[:, 0]
        starts = self.extractor.crop_starts(mel.shape[1], frames)
        return torch.stack([overview, *(mel[:, start : start + frames] for start in starts)], dim=1), True

    def _log_mel(self, waveforms: torch.Tensor) -> torch.Tensor:
        """`(batch, time)` -> `(batch, frames, mels)` float32 in dB."""
        precise = torch.float32 if waveforms.device.type == "mps" else torch.float64
        window = _window(self.fft, waveforms.device, precise)
        extractor = self.extractor
        band = extractor.frequency_min, extractor.frequency_max
        filters = _filters(self.fft, extractor.feature_size, *band, self.sampling_rate, self.fused, waveforms.device)
        half = self.fft // 2
        padded = torch.nn.functional.pad(waveforms[:, None], (half, half), mode="reflect")[:, 0]
        frames = padded.unfold(1, self.fft, self.hop)
        if waveforms.device.type == "cpu":
            blocks = (block for frame in frames for block in frame.split(FRAMES_AT_ONCE))
            mel = torch.cat([filters(_power(block, window)) for block in blocks]).unflatten(0, frames.shape[:2])
        else:
            mel = filters(_power(frames, window))
        return mel.clamp_min_(POWER_FLOOR).log10_().mul_(10)


def _power(frames: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    spectrum = torch.fft.rfft(frames * window)
    power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    return power.float()  # all positive: float32 loses nothing more


@lru_cache(maxsize=16)
def _window(fft: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return torch.hann_window(fft, periodic=True, dtype=dtype, device=device)


@lru_cache(maxsize=16)
def _filters(fft: int, mels: int, low: float, high: float, sampling_rate: int, fused: bool, device: torch.device):
    """Mel filters of `fft / 2 + 1` bins on the device, those of the extractor."""
    scale = {"norm": None, "mel_scale": "htk"} if fused else {"norm": "slaney", "mel_scale": "slaney"}
    filters = mel_filter_bank((fft >> 1) + 1, mels, low, high, sampling_rate, **scale)
    return MelFilters(torch.from_numpy(filters).float().to(device))
