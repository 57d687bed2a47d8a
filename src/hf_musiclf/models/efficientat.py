"""EfficientAT: MobileNetV3 on log-mel spectrograms; `save_pretrained` copies this file beside the weights.

Schmid, Koutini and Widmer, "Efficient Large-Scale Audio Tagging Via Transformer-to-CNN Knowledge Distillation", ICASSP
2023 (arXiv 2211.04772), is the training; Howard et al., "Searching for MobileNetV3", ICCV 2019 (arXiv 1905.02244), the
network. This file imports torch and transformers alone, so that `pipeline("audio-classification", model=...,
trust_remote_code=True)` runs it anywhere.
"""

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput
from transformers.utils import can_return_tuple

# MobileNetV3-Large, table 1 of its paper: kernel, expansion, output channels, squeeze and excite, activation, stride.
ROWS = (
    (3, 16, 16, False, nn.ReLU, 1),
    (3, 64, 24, False, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 1),
    (5, 72, 40, True, nn.ReLU, 2),
    (5, 120, 40, True, nn.ReLU, 1),
    (5, 120, 40, True, nn.ReLU, 1),
    (3, 240, 80, False, nn.Hardswish, 2),
    (3, 200, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 480, 112, True, nn.Hardswish, 1),
    (3, 672, 112, True, nn.Hardswish, 1),
    (5, 672, 160, True, nn.Hardswish, 2),
    (5, 960, 160, True, nn.Hardswish, 1),
    (5, 960, 160, True, nn.Hardswish, 1),
)
# Of the same table: channels of the first layer, growth of the last convolution, width of the layer before the scores.
STEM_CHANNELS, LAST_EXPANSION, PROJECTION_SIZE = 16, 6, 1280


def make_divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, at least one, and one more where that would lose over a tenth.

    The rule of the MobileNets: it rounds the channels of a network whose width is multiplied.

    >>> make_divisible(16 * 0.4), make_divisible(24 * 0.4), make_divisible(1280 * 0.4)
    (8, 16, 512)
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * channels else nearest + divisor


class EfficientAtConfig(PreTrainedConfig):
    """Config of EfficientAtModel and EfficientAtForAudioClassification.

    width_mult: factor of every count of channels; mn04 has 0.4, mn10 1.0. num_mel_bins: of the input. dropout: in
    [0, 1), before the scores. head_type: `projection`, the published classifier, whose scores are linear in the
    projected embedding; or `probe`, for a new head: linear in the embedding and its projection, both standardised.
    squeeze_factor: by which squeeze-and-excitation narrows the expansion. batch_norm_eps, batch_norm_momentum:
    PyTorch's; with a momentum of 0.01 the running statistics need some hundred steps, of account only where one trains
    from scratch. Raises ValueError for values that make no network.
    """

    model_type = "efficientat"

    width_mult: float | int = 1.0
    num_mel_bins: int = 128
    dropout: float | int = 0.2
    head_type: str = "projection"
    squeeze_factor: int = 4
    batch_norm_eps: float | int = 0.001
    batch_norm_momentum: float | int = 0.01

    def __post_init__(self, **kwargs):
        for name in ("width_mult", "num_mel_bins", "squeeze_factor", "batch_norm_eps"):
            if isinstance(getattr(self, name), (bool, str)) or not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        for name, limit in (("dropout", "1)"), ("batch_norm_momentum", "1]")):
            value = getattr(self, name)
            if isinstance(value, (bool, str)) or not 0 <= value <= 1 or (value == 1 and limit == "1)"):
                raise ValueError(f"{name}={value} must lie in [0, {limit}")
        if self.head_type not in ("projection", "probe"):
            raise ValueError(f"head_type={self.head_type!r} is not known; choose projection or probe")
        super().__post_init__(**kwargs)

    def channels(self, count: float) -> int:
        """Channels at this width, of a count in the table."""
        return make_divisible(count * self.width_mult)

    @property
    def num_hidden_layers(self) -> int:
        return len(ROWS)

    @property
    def hidden_size(self) -> int:
        """Size of the embedding: channels of the last convolution."""
        return LAST_EXPANSION * self.channels(ROWS[-1][2])

    @property
    def projection_size(self) -> int:
        """Size of the projected embedding."""
        return self.channels(PROJECTION_SIZE)

    @property
    def pooled_size(self) -> int:
        """Size of what the classifier takes."""
        return self.projection_size + (self.hidden_size if self.head_type == "probe" else 0)


class EfficientAtConvolution(nn.Module):
    """Convolution, batch norm and activation; `(batch, inputs, mels, frames)` -> `(batch, outputs, mels', frames')`."""

    def __init__(self, config, inputs, outputs, kernel=1, stride=1, groups=1, activation=nn.Identity):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)
        self.activation = activation()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.activation(self.norm(self.conv(hidden)))


class EfficientAtSqueezeExcite(nn.Module):
    """Each channel times a factor in (0, 1) that hangs on the means of all (Hu et al., arXiv 1709.01507)."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.squeeze = nn.Linear(channels, squeezed)
        self.excite = nn.Linear(squeezed, channels)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        factors = self.excite(self.squeeze(hidden.mean((2, 3))).relu()).sigmoid()
        return hidden * factors[:, :, None, None]


class EfficientAtLayer(GradientCheckpointingLayer):
    """Inverted residual: expand, depthwise convolution, squeeze and excite, project (MobileNetV3, figure 4)."""

    def __init__(self, config: EfficientAtConfig, inputs: int, row: tuple):
        super().__init__()
        kernel, expansion, outputs, excited, activation, stride = row
        expanded, outputs = config.channels(expansion), config.channels(outputs)
        self.residual = stride == 1 and inputs == outputs
        self.expand = nn.Identity()
        if expanded != inputs:
            self.expand = EfficientAtConvolution(config, inputs, expanded, activation=activation)
        self.depthwise = EfficientAtConvolution(config, expanded, expanded, kernel, stride, expanded, activation)
        self.squeeze_excite = nn.Identity()
        if excited:
            squeezed = make_divisible(expanded // config.squeeze_factor)
            self.squeeze_excite = EfficientAtSqueezeExcite(expanded, squeezed)
        self.project = EfficientAtConvolution(config, expanded, outputs)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        projected = self.project(self.squeeze_excite(self.depthwise(self.expand(hidden))))
        return hidden + projected if self.residual else projected


class EfficientAtPreTrainedModel(PreTrainedModel):
    config: EfficientAtConfig
    config_class = EfficientAtConfig
    base_model_prefix = "efficientat"
    main_input_name = "input_values"
    input_modalities = "audio"
    supports_gradient_checkpointing = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """He et al. 2015: the scale of what passes is kept, by a depthwise convolution's few connections too."""
        if isinstance(module, nn.Conv2d):
            connections = module.weight[0, 0].numel() * module.out_channels // module.groups
            init.normal_(module.weight, std=(2 / connections) ** 0.5)
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=module.in_features**-0.5)
            init.zeros_(module.bias)
        elif isinstance(module, EfficientAtStandardisation):
            init.zeros_(module.count)
            init.zeros_(module.mean)
            init.ones_(module.variance)
        else:
            super()._init_weights(module)


class EfficientAtModel(EfficientAtPreTrainedModel):
    """The network without its scores: first convolution, 15 layers, last convolution, projection.

    The projection, hidden layer of the published classifier, belongs to the backbone as its pooler: it has learnt from
    two million clips, and of a head for other labels only the scores need be new, as in the original's fine-tuning.
    """

    def __init__(self, config: EfficientAtConfig):
        super().__init__(config)
        channels = [config.channels(count) for count in (STEM_CHANNELS, *(row[2] for row in ROWS))]
        self.stem = EfficientAtConvolution(config, 1, channels[0], 3, 2, activation=nn.Hardswish)
        self.layers = nn.ModuleList(EfficientAtLayer(config, *pair) for pair in zip(channels, ROWS, strict=False))
        self.final = EfficientAtConvolution(config, channels[-1], config.hidden_size, activation=nn.Hardswish)
        self.projection = nn.Linear(config.hidden_size, config.projection_size)
        self.activation = nn.Hardswish()
        self.post_init()

    @can_return_tuple
    def forward(
        self, input_values: torch.Tensor, output_hidden_states: bool | None = None
    ) -> BaseModelOutputWithPooling:
        """Feature maps and the projected embedding of a batch.

        input_values: `(batch, frames, mels)`, of EfficientAtFeatureExtractor; any number of frames. Returns
        last_hidden_state `(batch, hidden_size, mels / 32, frames / 32)`, rounded up, of the last convolution, whose
        mean over both axes is the embedding of the paper; pooler_output `(batch, pooled_size)`: the projection, and
        for a `probe` the embedding before it; hidden_states, if asked for: the maps of the first convolution, of each
        layer and of the last convolution.
        """
        hidden = self.stem(input_values.transpose(1, 2)[:, None])
        if hidden.device.type == "cpu":  # where depthwise convolutions are faster with the channels last in memory
            hidden = hidden.contiguous(memory_format=torch.channels_last)
        states = [hidden]
        for layer in self.layers:
            states.append(layer(states[-1]))
        states.append(self.final(states[-1]))
        embedding = states[-1].mean((2, 3))
        pooled = self.activation(self.projection(embedding))
        if self.config.head_type == "probe":
            pooled = torch.cat([embedding, pooled], dim=1)
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return BaseModelOutputWithPooling(
            last_hidden_state=states[-1], pooler_output=pooled, hidden_states=tuple(states) if wanted else None
        )


class EfficientAtStandardisation(nn.Module):
    """Each of `size` features less its mean, over its standard deviation: of all items seen in training so far.

    A linear head learns evenly only of features of one scale, hence the batch norm without scale and shift before the
    linear probes of He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022 (appendix A). Unlike
    there the batch at hand is not singled out: it may be a single item, and a small one is noise.
    """

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.eps = eps
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.training:
            self._take_in(features.detach().float())
        return (features - self.mean) * (self.variance + self.eps).rsqrt()

    @torch.no_grad()
    def _take_in(self, features: torch.Tensor) -> None:
        """Mean and variance of what was seen and these together (Chan, Golub and LeVeque 1979), of all processes."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts = [torch.empty_like(features) for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather(parts, features.contiguous())  # their batches are of one size
            features = torch.cat(parts)
        share = len(features) / (self.count + len(features))
        apart = features.mean(0) - self.mean
        seen = self.variance * (self.count > 0)  # before the first items there is none
        self.variance.copy_((1 - share) * seen + share * features.var(0, correction=0) + share * (1 - share) * apart**2)
        self.mean.add_(share * apart)
        self.count.add_(len(features))


class EfficientAtForAudioClassification(EfficientAtPreTrainedModel):
    """EfficientAT with one linear layer of scores on its pooled output, see `head_type` of its config."""

    def __init__(self, config: EfficientAtConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.efficientat = EfficientAtModel(config)
        self.norm = nn.Identity()
        if config.head_type == "probe":
            self.norm = EfficientAtStandardisation(config.pooled_size, config.batch_norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.pooled_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """Logits of a batch and, with labels, the loss.

        input_values: `(batch, frames, mels)`, of EfficientAtFeatureExtractor; any number of frames. labels: `(batch,)`
        int64; or `(batch, num_labels)` float for several labels; or float for regression: `config.problem_type`.
        Returns logits `(batch, num_labels)`; hidden_states, if asked for, are those of EfficientAtModel, and
        `hidden_states[-1].mean((2, 3))` is the embedding.
        """
        outputs = self.efficientat(input_values, output_hidden_states=output_hidden_states, return_dict=True)
        logits = self.classifier(self.dropout(self.norm(outputs.pooler_output)))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


EfficientAtConfig.register_for_auto_class()
EfficientAtForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
