"""Encoders of sound with the classification head that Transformers has for them: wav2vec 2.0 (Baevski et al., NeurIPS
2020), HuBERT, WavLM, data2vec, UniSpeech, SEW, w2v-BERT, Whisper's encoder.

Everything follows from the class of the checkpoint's config: what is saved is that plain class of Transformers, with
its own pooling and masks. A checkpoint of its speech recogniser or of pretraining gives the backbone.
"""

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    PreTrainedConfig,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    SequenceFeatureExtractor,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from hf_musiclf.errors import UserError
from hf_musiclf.features.w2v_bert import W2vBertFeatures
from hf_musiclf.features.waveforms import WaveformFeatures
from hf_musiclf.features.whisper import WhisperFeatures
from hf_musiclf.models.families import encoder_windows, remote_encoders
from hf_musiclf.models.families.overrides import checked_overrides, make_config

MODEL_TYPE = Wav2Vec2Config.model_type  # the family's name
MODEL_TYPES = (
    "wav2vec2",
    "wav2vec2-conformer",
    "wav2vec2-bert",
    "hubert",
    "wavlm",
    "data2vec-audio",
    "unispeech",
    "unispeech-sat",
    "sew",
    "sew-d",
    "whisper",
)
ACCEPTS = set(MODEL_TYPES)
REMOTE_CODE = True  # other encoders, which bring their code along
# Put in the place of masked frames in training; checkpoints that were fine-tuned without masks have none.
MAY_BE_MISSING = ("masked_spec_embed",)
HEAD_FIELDS = ("classifier_proj_size", "use_weighted_layer_sum")

FEATURES = {
    Wav2Vec2FeatureExtractor: WaveformFeatures,
    WhisperFeatureExtractor: WhisperFeatures,
    SeamlessM4TFeatureExtractor: W2vBertFeatures,
}


class AnyEncoder:
    """In the place of a model class: makes a model of the class that belongs to a config or a checkpoint."""

    def __new__(cls, config: PreTrainedConfig) -> PreTrainedModel:
        return _with_backbone(AutoModelForAudioClassification.from_config(config))

    @staticmethod
    def from_pretrained(folder: str, **kwargs):
        """As of the model's class: the model, and with `output_loading_info` what of it was not found."""
        where = {name: kwargs[name] for name in remote_encoders.WHERE if name in kwargs}
        if kwargs.get("trust_remote_code") and remote_encoders.brings_no_head(folder, MODEL_TYPES, **where):
            return remote_encoders.load_with_head(folder, **kwargs)
        made = AutoModelForAudioClassification.from_pretrained(folder, **kwargs)
        _with_backbone(made[0] if isinstance(made, tuple) else made)
        return made


def _with_backbone(model: PreTrainedModel) -> PreTrainedModel:
    """Make `base_model` the backbone: WhisperForAudioClassification names one that it does not have."""
    if model.base_model is model:
        model.base_model_prefix = "encoder"
    return model


def head_overrides(overrides: dict) -> dict:
    """HEAD_FIELDS of a new head, checked. Raises UserError for other keys."""
    for key in overrides:
        if key not in HEAD_FIELDS:
            raise UserError(
                f"model_config: {key} is not of the head, and the rest the checkpoint brings; choose from "
                f"{', '.join(HEAD_FIELDS)}"
            )
    return checked_overrides(overrides, Wav2Vec2Config())


def random_parts(overrides: dict, window_seconds: float) -> tuple[PreTrainedConfig, SequenceFeatureExtractor]:
    """Config and extractor for training from scratch.

    overrides: `model_type`, one of MODEL_TYPES (wav2vec2), and fields of its config. Raises UserError for fields that
    it does not have or that do not fit.
    """
    fields = dict(overrides)
    model_type = fields.pop("model_type", MODEL_TYPE)
    if model_type not in MODEL_TYPES:
        raise UserError(f"model_config: model_type={model_type} is none of {', '.join(MODEL_TYPES)}")
    config_class = CONFIG_MAPPING[model_type]
    fields = checked_overrides(fields, config_class(), examples="hidden_size, num_hidden_layers, model_type")
    config = make_config(config_class, **fields)
    if model_type == "whisper":
        stock = WhisperFeatureExtractor()
        seconds = config.max_source_positions * encoder_windows.WHISPER_STRIDE * stock.hop_length / stock.sampling_rate
        if not seconds.is_integer():
            raise UserError(
                f"model_config: max_source_positions={config.max_source_positions} are {seconds} s; set it to whole "
                "seconds, 50 each"
            )
        return config, WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=int(seconds))
    if model_type == "wav2vec2-bert":
        mels = config.feature_projection_input_dim // SeamlessM4TFeatureExtractor().stride
        return config, SeamlessM4TFeatureExtractor(feature_size=mels, num_mel_bins=mels)
    norm = getattr(config, "feat_extract_norm", "layer")  # data2vec has no other
    # As the published checkpoints: a norm over the whole window was learnt on zeros behind short ones, without a mask.
    return config, Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer")


def freeze(model: PreTrainedModel) -> str | None:
    """Freeze what stands before the encoder layers as its authors do in fine-tuning; returns what, None if nothing.

    The convolutions that make frames of a waveform (Baevski et al., section 4.4), and Whisper's two with its table of
    positions. w2v-BERT has none.
    """
    if hasattr(model, "freeze_feature_encoder"):
        model.freeze_feature_encoder()
        return "its feature encoder is frozen"
    names = ("feature_extractor", "conv1", "conv2", "embed_positions")
    convolutions = [getattr(model.base_model, name, None) for name in names]
    for module in filter(None, convolutions):
        module.requires_grad_(False)
    return "its convolutions are frozen" if any(convolutions) else None


def embeds(model: PreTrainedModel) -> bool:
    """Whether one vector a window is all that the head takes: not where it weighs the states of all layers.

    Of a head that came as code with the checkpoint nothing is known.
    """
    known = type(model).__module__.startswith("transformers.models.") or hasattr(model, "embed")
    return known and not getattr(model.config, "use_weighted_layer_sum", False)


def embed(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """`(batch, dim)`: the mean of the backbone's last states over the frames of each window.

    The head projects each frame before it takes their mean; as that is linear, it may as well be the other way round.
    """
    if hasattr(model, "embed"):
        return model.embed(**inputs)
    states = model.base_model(**inputs).last_hidden_state
    mask = inputs.get("attention_mask")
    if mask is None:
        return states.mean(1)
    inside = model._get_feature_vector_attention_mask(states.shape[1], mask)[..., None]
    return states.masked_fill(~inside, 0.0).sum(1) / inside.sum(1)


def make_features(extractor: SequenceFeatureExtractor):
    """The features of an extractor. Raises ValueError for one of another class than FEATURES."""
    for extractor_class, features in FEATURES.items():
        if isinstance(extractor, extractor_class):
            return features(extractor)
    known = ", ".join(known.__name__ for known in FEATURES)
    raise ValueError(f"{type(extractor).__name__} is none of {known}")


fit_window = encoder_windows.fit_window
model_class, extractor_class = AnyEncoder, AutoFeatureExtractor
