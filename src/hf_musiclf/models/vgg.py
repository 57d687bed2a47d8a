"""VGG on spectrograms; `save_pretrained` copies this file beside the weights.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015 (arXiv
1409.1556), with batch norm, of any width, and with a mean over bins and frames (Lin, Chen and Yan, "Network In
Network", ICLR 2014) in place of the 120 million parameters of its hidden layers. This file imports torch and
transformers alone, so that `pipeline("audio-classification", model=..., trust_remote_code=True)` runs it anywhere.
"""

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput
from transformers.utils import can_return_tuple

# Table 1 of the paper: convolutions before each of the five poolings, by the number of layers; the last three of the
# count are those of the classifier. Under it the channels of the five.
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)


class VggConfig(PreTrainedConfig):
    """Config of VggModel and VggForAudioClassification.

    feature_size: bins of a frame. layers: 11, 13, 16 or 19, which names the layout as the paper does. width_mult:
    factor of every count of channels; the cost grows with its square. dropout: in [0, 1), before the scores; 0.5 is
    the paper's. batch_norm_eps, batch_norm_momentum: PyTorch's. Raises ValueError for values that make no network.
    """

    model_type = "spectrogram_vgg"

    feature_size: int = 128
    layers: int = 11
    width_mult: float | int = 0.25
    dropout: float | int = 0.5
    batch_norm_eps: float | int = 1e-5
    batch_norm_momentum: float | int = 0.1

    def __post_init__(self, **kwargs):
        if isinstance(self.feature_size, bool) or not isinstance(self.feature_size, int) or self.feature_size < 1:
            raise ValueError(f"feature_size={self.feature_size} must be a whole number of 1 or more")
        if self.layers not in STAGES:
            raise ValueError(f"layers={self.layers} is no VGG; choose from {', '.join(map(str, STAGES))}")
        for name in ("width_mult", "batch_norm_eps"):
            if isinstance(getattr(self, name), (bool, str)) or not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        for name, value in (("dropout", self.dropout), ("batch_norm_momentum", self.batch_norm_momentum)):
            if isinstance(value, (bool, str)) or not 0 <= value < 1:
                raise ValueError(f"{name}={value} must lie in [0, 1)")
        super().__post_init__(**kwargs)

    @property
    def channels(self) -> list[int]:
        """Output channels of each convolution."""
        widths = [max(1, round(count * self.width_mult)) for count in CHANNELS]
        return [width for width, count in zip(widths, STAGES[self.layers], strict=True) for _ in range(count)]

    @property
    def pools(self) -> list[bool]:
        """Whether max pooling stands behind each convolution."""
        return [number == count - 1 for count in STAGES[self.layers] for number in range(count)]

    @property
    def num_hidden_layers(self) -> int:
        return sum(STAGES[self.layers])

    @property
    def hidden_size(self) -> int:
        """Size of the embedding."""
        return self.channels[-1]


class VggNorm(nn.BatchNorm2d):
    """Batch norm over axis 1, of 2 axes or more; a single value a channel is taken by the running statistics.

    It has no variance, and PyTorch raises an error; the last batch of an epoch may be such a one. Gradient
    checkpointing computes a layer twice; the statistics take the first time alone.
    """

    def __init__(self, config: VggConfig, size: int):
        super().__init__(size, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        fresh = self.training and hidden.numel() > hidden.shape[1]
        mean, variance = self.running_mean, self.running_var
        if fresh and not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            mean, variance = mean.clone(), variance.clone()  # in a backward pass, where checkpointing computes it again
        elif fresh:
            self.num_batches_tracked.add_(1)
        return nn.functional.batch_norm(hidden, mean, variance, self.weight, self.bias, fresh, self.momentum, self.eps)


class VggLayer(GradientCheckpointingLayer):
    """Convolution, batch norm, ReLU and, at a stage's end, max pooling.

    The convolution has no bias, of which the batch norm would leave nothing. The pooling takes the ends that fill no
    pool, so that of few bins or frames some are left behind all five; the paper's images have none.
    """

    def __init__(self, config: VggConfig, inputs: int, outputs: int, pool: bool):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = VggNorm(config, outputs)
        self.pool = nn.MaxPool2d(2, ceil_mode=True) if pool else nn.Identity()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = self.conv(hidden)
        if hidden.device.type == "cpu":  # where convolutions are faster with the channels last in memory
            hidden = hidden.contiguous(memory_format=torch.channels_last)
        return self.pool(self.norm(hidden).relu())


class VggPreTrainedModel(PreTrainedModel):
    config: VggConfig
    config_class = VggConfig
    base_model_prefix = "vgg"
    main_input_name = "input_values"
    input_modalities = "audio"
    supports_gradient_checkpointing = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Convolutions as He et al. 2015; the scores start small, as the paper's, and the loss at its chance level."""
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=0.01)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)


class VggModel(VggPreTrainedModel):
    """The network without its scores: standardisation of each bin, convolutions, mean over bins and frames."""

    def __init__(self, config: VggConfig):
        super().__init__(config)
        self.standardisation = VggNorm(config, config.feature_size)
        rows = zip([1, *config.channels], config.channels, config.pools, strict=False)
        self.layers = nn.ModuleList(VggLayer(config, *row) for row in rows)
        self.post_init()

    @can_return_tuple
    def forward(self, input_values: torch.Tensor) -> BaseModelOutputWithPooling:
        """Feature maps and the embedding of a batch.

        input_values: `(batch, frames, feature_size)`, of any scale; any number of frames from 1. Returns
        last_hidden_state `(batch, hidden_size, bins / 32, frames / 32)`, rounded up, and pooler_output `(batch,
        hidden_size)`, its mean. Raises ValueError for inputs of another shape.
        """
        size = self.config.feature_size
        if input_values.dim() != 3 or input_values.shape[1] < 1 or input_values.shape[2] != size:
            raise ValueError(
                f"input_values of shape {tuple(input_values.shape)} must be (batch, frames, {size}), with 1 frame or "
                f"more and the {size} bins of feature_size"
            )
        hidden = self.standardisation(input_values.transpose(1, 2))[:, None]
        for layer in self.layers:
            hidden = layer(hidden)
        return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=hidden.mean((2, 3)))


class VggForAudioClassification(VggPreTrainedModel):
    """VGG with one linear layer of scores on its embedding."""

    def __init__(self, config: VggConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.vgg = VggModel(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(self, input_values: torch.Tensor, labels: torch.Tensor | None = None) -> SequenceClassifierOutput:
        """Logits of a batch and, with labels, the loss.

        input_values: `(batch, frames, feature_size)`; any number of frames from 1. labels: `(batch,)` int64; or
        `(batch, num_labels)` float for several labels; or float for regression: `config.problem_type`. Returns logits
        `(batch, num_labels)`. Raises ValueError for inputs of another shape.
        """
        pooled = self.vgg(input_values, return_dict=True).pooler_output
        logits = self.classifier(self.dropout(pooled))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)


VggConfig.register_for_auto_class()
VggForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
