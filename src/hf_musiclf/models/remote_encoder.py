"""A classification head on an encoder that brings its own code, as MERT does (Li et al., ICLR 2024).

Published alone, with its weights and with the encoder's code beside it: whoever loads it has to trust that code.
"""

import copy

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save, get_class_from_dynamic_module
from transformers.modeling_outputs import SequenceClassifierOutput


class RemoteEncoderConfig(PreTrainedConfig):
    """encoder_config: that of the encoder as a dict, with the `auto_map` that names its classes."""

    model_type = "remote-encoder"

    encoder_config: dict | None = None

    @classmethod
    def of(cls, encoder: PreTrainedModel, **kwargs) -> "RemoteEncoderConfig":
        """The config of a head on this encoder, whose code lies beside the weights from here on."""
        config = encoder.config.to_dict()
        config["auto_map"] = {name: _class_name(part) for name, part in _parts(encoder).items()}
        return cls(encoder_config=config, **kwargs)


class RemoteEncoderForAudioClassification(PreTrainedModel):
    """The encoder, the mean of its last states over time, and a linear layer.

    encoder: None to build it with new weights from the code in the folder or repository that the config came from.
    """

    config_class = RemoteEncoderConfig
    base_model_prefix = "encoder"
    main_input_name = "input_values"

    def __init__(self, config: RemoteEncoderConfig, encoder: PreTrainedModel | None = None):
        super().__init__(config)
        self.encoder = _build(config) if encoder is None else encoder
        self.classifier = nn.Linear(self.encoder.config.hidden_size, config.num_labels)
        self.post_init()

    def embed(self, input_values: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """`(batch, time)` -> `(batch, dim)`: the mean over the frames that the mask has samples for."""
        given = {} if attention_mask is None else {"attention_mask": attention_mask}
        states = self.encoder(input_values, **given).last_hidden_state
        if attention_mask is None or not hasattr(self.encoder, "_get_feature_vector_attention_mask"):
            return states.mean(1)
        inside = self.encoder._get_feature_vector_attention_mask(states.shape[1], attention_mask)[..., None].bool()
        return states.masked_fill(~inside, 0.0).sum(1) / inside.sum(1)

    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """input_values: `(batch, time)`. labels: `(batch,)`. Returns logits `(batch, labels)`, and a loss."""
        logits = self.classifier(self.embed(input_values, attention_mask))
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def save_pretrained(self, save_directory, *args, **kwargs) -> None:
        super().save_pretrained(save_directory, *args, **kwargs)
        for part in _parts(self.encoder).values():
            custom_object_save(part, save_directory)


def _parts(encoder: PreTrainedModel) -> dict:
    return {"AutoConfig": encoder.config, "AutoModel": encoder}


def _class_name(part) -> str:
    """As `auto_map` has it: the file's name and the class's."""
    return f"{type(part).__module__.split('.')[-1]}.{type(part).__name__}"


def _build(config: RemoteEncoderConfig) -> PreTrainedModel:
    described = copy.deepcopy(config.encoder_config)
    config_class, model_class = (
        get_class_from_dynamic_module(described["auto_map"][name], config._name_or_path)
        for name in ("AutoConfig", "AutoModel")
    )
    return model_class(config_class.from_dict(described))


RemoteEncoderConfig.register_for_auto_class()
RemoteEncoderForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
