"""Which windows an encoder of sound takes, and that its extractor makes what it takes."""

from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    SequenceFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from hf_musiclf.errors import UserError
from hf_musiclf.features.w2v_bert import least_samples, stacked_frames

WHISPER_STRIDE = 2  # of its second convolution: spectrogram frames a position


def fit_window(model: PreTrainedModel, extractor: SequenceFeatureExtractor, window_seconds: float) -> str | None:
    """Make the extractor give windows of this length; returns what was done, None where nothing had to be.

    All but Whisper take any length. Of a window shorter than the masks that the checkpoint was trained with, the masks
    over time are switched off. Raises UserError for a window that the model cannot take, and for an extractor that
    makes what it does not take.
    """
    config = model.base_model.config
    _check_extractor(config, extractor)
    samples = round(window_seconds * extractor.sampling_rate)
    if isinstance(extractor, WhisperFeatureExtractor):
        if samples > extractor.n_samples:
            raise UserError(
                f"window_seconds={window_seconds} exceeds the {extractor.chunk_length} s that this Whisper hears; "
                "lower --window_seconds"
            )
        extractor.window_seconds = float(window_seconds)
        same = samples == extractor.n_samples
        return None if same else f"windows of {window_seconds} s are padded to {extractor.chunk_length} s"
    fbank = isinstance(extractor, SeamlessM4TFeatureExtractor)
    least = least_samples(extractor.stride) if fbank else receptive_field(config)
    if samples < least:
        raise UserError(
            f"window_seconds={window_seconds} is shorter than the {least / extractor.sampling_rate:.3f} s of which "
            "this encoder makes a frame; raise --window_seconds"
        )
    extractor.window_seconds, extractor.least_samples = float(window_seconds), least
    return _fit_masks(config, stacked_frames(samples, extractor.stride) if fbank else conv_frames(config, samples))


def receptive_field(config: PreTrainedConfig) -> int:
    """Samples of which the convolutions make one frame; SEW squeezes several into one."""
    samples = getattr(config, "squeeze_factor", 1)
    for kernel, stride in reversed(_convolutions(config)):
        samples = (samples - 1) * stride + kernel
    return samples


def conv_frames(config: PreTrainedConfig, samples: int) -> int:
    """Frames that the convolutions make of so many samples."""
    for kernel, stride in _convolutions(config):
        samples = (samples - kernel) // stride + 1
    return samples


def _convolutions(config: PreTrainedConfig) -> list[tuple[int, int]]:
    """Kernel and stride of each; none of an encoder with code of its own that does not say."""
    return list(zip(getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ()), strict=True))


def _fit_masks(config: PreTrainedConfig, frames: int) -> str | None:
    """Transformers refuses to draw a mask that is longer than what it is to hide a part of."""
    masks = getattr(config, "apply_spec_augment", False) and config.mask_time_prob > 0
    if not masks or config.mask_time_length <= frames:
        return None
    config.mask_time_prob = 0.0
    return f"no masks over time, they are {config.mask_time_length} frames long and a window has {frames}"


def extractor_class_of(config: PreTrainedConfig) -> type[SequenceFeatureExtractor]:
    """The class of extractor that makes what a model of this config takes."""
    if hasattr(config, "feature_projection_input_dim"):
        return SeamlessM4TFeatureExtractor
    return WhisperFeatureExtractor if hasattr(config, "num_mel_bins") else Wav2Vec2FeatureExtractor


def _check_extractor(config: PreTrainedConfig, extractor: SequenceFeatureExtractor) -> None:
    """The checkpoint's extractor makes what its encoder takes, or a UserError says what to mend."""
    wanted = extractor_class_of(config)
    if not isinstance(extractor, wanted):
        raise UserError(
            f"the checkpoint's extractor is a {type(extractor).__name__}, its encoder takes what {wanted.__name__} "
            "makes; mend its preprocessor_config.json"
        )
    if wanted is WhisperFeatureExtractor:
        positions = extractor.nb_max_frames // WHISPER_STRIDE
        sizes = [("feature_size", extractor.feature_size, config.num_mel_bins)]
        sizes.append(("chunk_length", positions, config.max_source_positions))
    elif wanted is SeamlessM4TFeatureExtractor:
        made = extractor.num_mel_bins * extractor.stride
        sizes = [("num_mel_bins or stride", made, config.feature_projection_input_dim)]
    else:
        sizes = [("feature_size", extractor.feature_size, 1)]
    for name, makes, takes in sizes:
        if makes != takes:
            raise UserError(
                f"the checkpoint's extractor makes {makes} where its encoder takes {takes}; mend {name} in its "
                "preprocessor_config.json"
            )
