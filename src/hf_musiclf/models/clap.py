"""CLAP's audio encoder with a classification head; `save_pretrained` copies this file beside the weights.

CLAP is Wu et al., "Large-scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption
Augmentation", ICASSP 2023; its audio encoder is HTS-AT (Chen et al., ICASSP 2022). This file imports torch and
transformers alone, so that `pipeline("audio-classification", model=..., trust_remote_code=True)` runs it anywhere.
"""

import torch
from torch import nn
from transformers import ClapAudioConfig, ClapAudioModel, ClapPreTrainedModel, PreTrainedConfig
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple


class ClapAudioClassificationConfig(PreTrainedConfig):
    """Config of ClapForAudioClassification; `from_pretrained` also reads those of ClapModel and ClapAudioModel.

    audio_config: of the encoder. head_hidden_size: width of the head's hidden layer, None: that of the encoder's
    output. head_activation: a name of Transformers' ACT2FN. head_dropout: in [0, 1), behind the activation.
    hop_seconds: distance of evaluation windows, set by the trainer. Raises ValueError for a head that cannot be built.
    """

    model_type = "clap-audio-classification"
    sub_configs = {"audio_config": ClapAudioConfig}  # noqa: RUF012  an annotation would make it a field

    audio_config: dict | PreTrainedConfig | None = None
    head_hidden_size: int | None = None
    head_activation: str = "relu"
    head_dropout: float | int = 0.1
    hop_seconds: float | int | None = None

    def __post_init__(self, **kwargs):
        if not isinstance(self.audio_config, PreTrainedConfig):
            self.audio_config = ClapAudioConfig(**(self.audio_config or {}))
        # HTS-AT reads the depths alone; some published checkpoints say something else here.
        self.audio_config.num_hidden_layers = len(self.audio_config.depths)
        width, dropout = self.head_hidden_size, self.head_dropout
        if width is not None and (isinstance(width, bool) or not isinstance(width, int) or width < 1):
            raise ValueError(f"head_hidden_size={width} must be a whole number of 1 or more")
        if self.head_activation not in ACT2FN:
            raise ValueError(f"head_activation={self.head_activation!r} is unknown; relu, gelu, silu, tanh are some")
        if isinstance(dropout, (str, bool)) or not 0 <= dropout < 1:
            raise ValueError(f"head_dropout={dropout} must lie in [0, 1)")
        super().__post_init__(**kwargs)

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """The checkpoint's config; of a CLAP without this head, what concerns the audio encoder."""
        config, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        found = config.get("model_type")
        if found in ("clap", ClapAudioConfig.model_type):
            audio = config if found != "clap" else config.get("audio_config")
            config = {
                "model_type": cls.model_type,
                "audio_config": audio,
                "dtype": config.get("dtype", config.get("torch_dtype")),
            }
        return config, kwargs


class ClapClassificationHead(nn.Module):
    """`(batch, hidden_size)` -> `(batch, num_labels)`."""

    def __init__(self, config: ClapAudioClassificationConfig):
        super().__init__()
        size = config.audio_config.hidden_size
        hidden = config.head_hidden_size or size
        self.dense = nn.Linear(size, hidden)
        self.activation = ACT2FN[config.head_activation]
        self.dropout = nn.Dropout(config.head_dropout)
        self.out_proj = nn.Linear(hidden, config.num_labels)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.out_proj(self.dropout(self.activation(self.dense(pooled))))


class ClapForAudioClassification(ClapPreTrainedModel):
    """CLAP's audio encoder and a head of two layers on its pooled output.

    `from_pretrained` takes what `save_pretrained` wrote, and checkpoints of ClapModel, ClapAudioModelWithProjection and
    ClapAudioModel: their audio encoder is kept, their text tower and projections are left out, the head is new.
    """

    config: ClapAudioClassificationConfig
    config_class = ClapAudioClassificationConfig
    base_model_prefix = "audio_model"
    main_input_name = "input_features"
    input_modalities = "audio"
    # ClapPreTrainedModel says no for the sake of its text tower; the stages of the audio encoder can be recomputed.
    supports_gradient_checkpointing = True
    _keys_to_ignore_on_load_unexpected = (r"^text_model\.", r"^(text|audio)_projection\.", r"^logit_scale_[at]$")

    def __init__(self, config: ClapAudioClassificationConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.audio_model = ClapAudioModel(config.audio_config)
        self.classifier = ClapClassificationHead(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Of the head; the encoder, a PreTrainedModel itself, starts as CLAP's own does."""
        if isinstance(module, nn.Linear):
            # Variance 1 / inputs keeps the scale of what passes: logits start near 0, gradients do not vanish.
            init.normal_(module.weight, std=module.in_features**-0.5)
            init.zeros_(module.bias)

    def train(self, mode: bool = True) -> "ClapForAudioClassification":
        """As ever, but the batch norms of the fusion keep to their running statistics.

        They see a batch's long clips alone, often few; of a single one PyTorch takes no statistics but raises an error.
        """
        super().train(mode)
        if self.config.audio_config.enable_fusion:
            self.audio_model.audio_encoder.patch_embed.fusion_model.eval()
        return self

    @can_return_tuple
    def forward(
        self,
        input_features: torch.Tensor,
        is_longer: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """Logits of a batch and, with labels, the loss.

        input_features: `(batch, 1 or 4, frames, mels)` in dB, of ClapWindowFeatureExtractor. is_longer: `(batch, 1)`
        bool, whether the four mels are an overview and three crops; of use to fused encoders alone. labels: `(batch,)`
        int64; or `(batch, num_labels)` float for several labels; or float for regression: `config.problem_type`.
        Returns logits `(batch, num_labels)`.
        """
        if self.config.audio_config.enable_fusion:
            is_longer = clips_to_fuse(input_features, is_longer)
        outputs = self.audio_model(
            input_features=input_features,
            is_longer=is_longer,
            output_attentions=bool(output_attentions or self.config.output_attentions),
            output_hidden_states=bool(output_hidden_states or self.config.output_hidden_states),
            return_dict=True,
        )
        logits = self.classifier(outputs.pooler_output)
        if self.training and self.config.audio_config.enable_fusion:
            logits = logits + self._no_fusion()
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def _no_fusion(self) -> torch.Tensor | float:
        """0, of all fusion parameters that learn.

        A batch without a long clip leaves them out of the graph; DistributedDataParallel would wait for their gradients
        and fail. So they have one of 0.
        """
        patches = self.audio_model.audio_encoder.patch_embed
        layers = (patches.fusion_model, patches.mel_conv2d)
        learning = [value.sum() for layer in layers for value in layer.parameters() if value.requires_grad]
        return 0.0 * sum(learning)


def clips_to_fuse(input_features: torch.Tensor, is_longer: torch.Tensor | None) -> torch.Tensor:
    """Which clips to fuse: `(batch, 1)` bool.

    Where no clip of a batch is long, the stock ClapFeatureExtractor marks one of them at random. Its four mels are
    copies, so it has no crops to fuse with, and its scores would hang on the draw: a clip is long only if its mels
    differ as well.
    """
    differ = (input_features[:, 1:] != input_features[:, :1]).flatten(1).any(1, keepdim=True)
    return differ if is_longer is None else differ & is_longer.to(differ.device).bool().view(-1, 1)


ClapAudioClassificationConfig.register_for_auto_class()
ClapForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
