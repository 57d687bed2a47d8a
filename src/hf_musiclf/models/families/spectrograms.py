"""Small networks on log-mel, MFCC or chroma: CNN, CRNN with a GRU, VGG. One family each, alike but for their classes.

`--model_config` takes the fields of the network's config and those of its extractor (features, num_mel_bins, ...).
"""

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from hf_musiclf.errors import UserError
from hf_musiclf.features.spectrogram import SpectrogramFeatures
from hf_musiclf.models.cnn import CnnConfig, CnnForAudioClassification
from hf_musiclf.models.crnn import CrnnConfig, CrnnForAudioClassification
from hf_musiclf.models.families.extractor_windows import change_window, set_window
from hf_musiclf.models.families.overrides import SET_BY_THE_TRAINER, checked_overrides, make_config, own_fields
from hf_musiclf.models.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hf_musiclf.models.imagenet import IMAGENET, folder_of_imagenet, is_file_of_weights
from hf_musiclf.models.vgg import VggConfig, VggForAudioClassification

# Of the extractor's settings those that follow from others: the window from --window_seconds, the size from features.
DERIVED = {"self", "feature_size", "window_seconds", "padding_value", "kwargs"}
OF_EXTRACTOR = [name for name in inspect.signature(SpectrogramFeatureExtractor).parameters if name not in DERIVED]


@dataclass(frozen=True)
class SpectrogramFamily:
    """One of the networks, as `models.loading` takes its families. examples: of its config's fields, for messages."""

    config_class: type[PreTrainedConfig]
    model_class: type[PreTrainedModel]
    examples: str
    extractor_class: type = SpectrogramFeatureExtractor
    make_features: type = SpectrogramFeatures
    # On a CPU these train faster with the channels of their weights last in memory (benchmarks/convolutions.py); on
    # a GPU it was not measured.
    CHANNELS_LAST: ClassVar[bool] = True

    @property
    def MODEL_TYPE(self) -> str:
        return self.config_class.model_type

    def embeds(self, model: PreTrainedModel) -> bool:
        """Whether the head takes the pooled output of the backbone alone: always."""
        return True

    def random_parts(
        self, overrides: Mapping[str, Any], window_seconds: float
    ) -> tuple[PreTrainedConfig, SpectrogramFeatureExtractor]:
        """Config and extractor for training from scratch.

        overrides: fields of the config and settings of the extractor. Raises UserError for those that neither has or
        that make no network or features, and for a window shorter than a spectrum.
        """
        offered = {*OF_EXTRACTOR, *own_fields(self.config_class)} - {"feature_size"} - SET_BY_THE_TRAINER
        for key in overrides:
            if key not in offered:
                near = difflib.get_close_matches(key, offered, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are e.g. features, num_mel_bins, {self.examples}"
                raise UserError(f"model_config: {key!r} is a field neither of the network nor of its features; {hint}")
        settings = {key: value for key, value in overrides.items() if key in OF_EXTRACTOR}
        try:
            extractor = SpectrogramFeatureExtractor(**settings)
        except (ValueError, TypeError) as error:
            raise UserError(f"model_config: {' '.join(str(error).split())}") from error
        set_window(extractor, window_seconds)
        of_network = {key: value for key, value in overrides.items() if key not in OF_EXTRACTOR}
        fields = checked_overrides(of_network, self.config_class(), ["feature_size"], self.examples)
        return make_config(self.config_class, feature_size=extractor.feature_size, **fields), extractor

    def fit_window(
        self, model: PreTrainedModel, extractor: SpectrogramFeatureExtractor, window_seconds: float
    ) -> str | None:
        """Make the extractor give windows of this length; returns what was done, None where it does already.

        The networks pool over time and take any length; what they have learnt, they have from the extractor's windows,
        of which ImageNet's have seen none. Raises UserError for a window shorter than a spectrum, and for an extractor
        of other features than the model's.
        """
        told = change_window(extractor, window_seconds, model.config.feature_size, "features a frame")
        return told if model.base_model.standardisation.num_batches_tracked > 0 else None


class VggFamily(SpectrogramFamily):
    """The VGG, which may start from weights of ImageNet."""

    def resolve(self, name: str, revision: str = "main") -> str:
        """What `from_pretrained` takes: of one of IMAGENET, or a file of such weights, a folder in the cache."""
        return folder_of_imagenet(name, revision) if name in IMAGENET or is_file_of_weights(name) else name

    def origin(self, name: str) -> str | None:
        return f"ImageNet's {name}" if name in IMAGENET else None


cnn = SpectrogramFamily(CnnConfig, CnnForAudioClassification, "channels, block")
crnn = SpectrogramFamily(CrnnConfig, CrnnForAudioClassification, "conv_channels, rnn_size")
vgg = VggFamily(VggConfig, VggForAudioClassification, "layers, width_mult")

for family in (cnn, crnn, vgg):
    AutoConfig.register(family.MODEL_TYPE, family.config_class, exist_ok=True)
    AutoModelForAudioClassification.register(family.config_class, family.model_class, exist_ok=True)
    AutoFeatureExtractor.register(family.config_class, SpectrogramFeatureExtractor, exist_ok=True)
