"""wav2vec 2.0's input, waveforms of zero mean and unit variance, in batches on the model's device.

Equal to `Wav2Vec2FeatureExtractor` on each window alone: `(x - mean) / sqrt(variance + 1e-7)` over its own samples
(Baevski et al., "wav2vec 2.0", NeurIPS 2020), zeros behind short ones. The stock extractor pads first where it returns
no mask, and then takes the mean over the padding as well: a window would depend on its neighbours in the batch.
"""

import torch
from transformers import SequenceFeatureExtractor, Wav2Vec2FeatureExtractor

VARIANCE_FLOOR = 1e-7  # of Wav2Vec2FeatureExtractor and SeamlessM4TFeatureExtractor
USUAL_WINDOW_SECONDS = 10.0  # of a clip of AudioSet


class WaveformFeatures:
    """Waveforms to the input_values of wav2vec 2.0, HuBERT, WavLM and their like.

    extractor: the `Wav2Vec2FeatureExtractor` that is saved with the model; its settings are the ones used here. Its
    `window_seconds` and `least_samples`, if any, are what a recipe has written into it.
    """

    spectrograms = False  # nothing with bands and frames to mask

    def __init__(self, extractor: Wav2Vec2FeatureExtractor):
        self.extractor = extractor
        self.sampling_rate = extractor.sampling_rate

    @property
    def window_seconds(self) -> float:
        """The window that the model was fitted to; a stock extractor knows none."""
        return getattr(self.extractor, "window_seconds", None) or USUAL_WINDOW_SECONDS

    @torch.no_grad()
    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Waveforms as the model takes them.

        waveforms: `(batch, time)` float32 in [-1, 1] at `sampling_rate`, whatever behind short ones. lengths:
        `(batch,)` samples of each, on any device; None where all are whole. Returns `{"input_values": (batch, window
        or longer)}`, padded to the window, and where the extractor says so `"attention_mask"` of the same shape.
        Raises ValueError for a waveform of which the model's convolutions make no frame, if its length is on the CPU.
        """
        check_shortest(waveforms, lengths, getattr(self.extractor, "least_samples", 1))
        waveforms, inside = padded(waveforms, lengths, window_samples(self.extractor))
        if self.extractor.do_normalize:
            count = inside.sum(1, keepdim=True)
            centred = (waveforms - waveforms.sum(1, keepdim=True) / count).masked_fill(~inside, 0.0)
            waveforms = centred / (centred.square().sum(1, keepdim=True) / count + VARIANCE_FLOOR).sqrt()
        inputs = {"input_values": waveforms.masked_fill(~inside, self.extractor.padding_value)}
        return {**inputs, "attention_mask": inside.int()} if self.extractor.return_attention_mask else inputs


def check_shortest(waveforms: torch.Tensor, lengths: torch.Tensor | None, least: int) -> None:
    """Raise ValueError for a waveform of less than `least` samples, as far as lengths are on the CPU."""
    # Asked on the CPU alone: a GPU would have to be waited for, in every step.
    shortest = int(lengths.min()) if lengths is not None and lengths.device.type == "cpu" else waveforms.shape[1]
    if shortest < least:
        raise ValueError(f"a waveform of {shortest} samples is shorter than the {least} that this encoder needs")


def window_samples(extractor: SequenceFeatureExtractor) -> int:
    """Samples of the window that a recipe wrote into the extractor, 0 of a stock one."""
    return round((getattr(extractor, "window_seconds", None) or 0) * extractor.sampling_rate)


def padded(waveforms: torch.Tensor, lengths: torch.Tensor | None, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 waveforms with zeros behind each, and which samples are theirs: both `(batch, samples or longer)`.

    What is made of a window so does not depend on how long the others of its batch are.
    """
    if lengths is None:
        lengths = torch.full((len(waveforms),), waveforms.shape[1])
    time = max(waveforms.shape[1], samples)
    waveforms = torch.nn.functional.pad(waveforms.float(), (0, time - waveforms.shape[1]))
    inside = torch.arange(time, device=waveforms.device) < lengths.to(waveforms.device)[:, None]
    return waveforms.masked_fill(~inside, 0.0), inside
