"""Small CNNs on spectrograms, residual or plain; `save_pretrained` copies this file beside the weights.

The residual one is the short-chunk CNN with residual connections of Won, Ferraro, Bogdanov and Serra, "Evaluation of
CNN-based Automatic Music Tagging Models", SMC 2020 (arXiv 2006.00751), at a fraction of its width: theirs, of 12
million parameters, is `channels=[128, 128, 256, 256, 256, 256, 512]` with `stem=False`, `pooling="max"` and
`dense_sizes=[512]`. This file imports torch and transformers alone, so that `pipeline("audio-classification",
model=..., trust_remote_code=True)` runs it anywhere.
"""

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput
from transformers.utils import can_return_tuple

BLOCKS, POOLINGS = ("residual", "plain"), ("max", "mean", "mean_max", "flatten")


class CnnConfig(PreTrainedConfig):
    """Config of CnnModel and CnnForAudioClassification.

    feature_size: bins of a frame. block: `residual`; or `plain`, convolution, ReLU and max pooling. channels: of each
    stage. stem: whether a convolution of stride 2 and half the first stage's channels comes first, which divides the
    cost by four; None: with residual blocks. kernel_size: odd. pool_size: by which a stage divides bins and frames, by
    its stride or its max pooling, rounded up. batch_norm: False with plain blocks only. pooling: `max` or `mean` over
    bins and frames; `mean_max`, the mean over bins, of which mean and maximum over frames are added (PANNs: Kong et
    al. 2020); or `flatten`, the maps as they are, averaged over time to flatten_steps: maps of just so many frames are
    flattened untouched. dense_sizes: of the hidden layers behind the pooling, `[]` for none. dropout: in [0, 1),
    before the scores; 0.5 is that of Won et al. batch_norm_eps, batch_norm_momentum: PyTorch's. Raises ValueError for
    values that make no network.
    """

    model_type = "spectrogram_cnn"

    feature_size: int = 128
    block: str = "residual"
    channels: list[int] | tuple[int, ...] = (32, 64, 128, 128)
    stem: bool | None = None
    kernel_size: int = 3
    pool_size: int = 2
    batch_norm: bool = True
    pooling: str = "mean_max"
    flatten_steps: int = 8
    dense_sizes: list[int] | tuple[int, ...] = (128,)
    dropout: float | int = 0.5
    batch_norm_eps: float | int = 1e-5
    batch_norm_momentum: float | int = 0.1

    def __post_init__(self, **kwargs):
        for name in ("channels", "dense_sizes"):
            if not isinstance(getattr(self, name), (list, tuple)):
                raise ValueError(f"{name}={getattr(self, name)} must be a list of whole numbers, [32,64] say")
            setattr(self, name, list(getattr(self, name)))
        numbers = {name: getattr(self, name) for name in ("feature_size", "kernel_size", "pool_size", "flatten_steps")}
        for name in ("channels", "dense_sizes"):
            numbers |= {f"{name}[{place}]": size for place, size in enumerate(getattr(self, name))}
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value} must be a whole number of 1 or more")
        for name, known in (("block", BLOCKS), ("pooling", POOLINGS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} is not known; choose from {', '.join(known)}")
        if not isinstance(self.batch_norm, bool) or not isinstance(self.stem, (bool, type(None))):
            raise ValueError(f"batch_norm={self.batch_norm} and stem={self.stem} must be true or false")
        if not self.channels:
            raise ValueError("channels=[] makes no network; give one count a stage")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={self.kernel_size} must be odd")
        if self.block == "residual" and not self.batch_norm:
            raise ValueError("batch_norm=False goes with block=plain; the sums of residual blocks grow without it")
        if self.block == "residual" and self.pool_size > self.kernel_size:
            raise ValueError(f"pool_size={self.pool_size} skips what kernel_size={self.kernel_size} does not reach")
        for name, value in (("dropout", self.dropout), ("batch_norm_momentum", self.batch_norm_momentum)):
            if isinstance(value, (bool, str)) or not 0 <= value < 1:
                raise ValueError(f"{name}={value} must lie in [0, 1)")
        if isinstance(self.batch_norm_eps, (bool, str)) or not self.batch_norm_eps > 0:
            raise ValueError(f"batch_norm_eps={self.batch_norm_eps} must be above 0")
        super().__post_init__(**kwargs)

    @property
    def has_stem(self) -> bool:
        return self.block == "residual" if self.stem is None else self.stem

    @property
    def num_hidden_layers(self) -> int:
        return len(self.channels)

    @property
    def pooled_size(self) -> int:
        """Size of what the pooling gives."""
        if self.pooling != "flatten":
            return self.channels[-1]
        bins = -(-self.feature_size // 2) if self.has_stem else self.feature_size
        for _ in self.channels:
            bins = -(-bins // self.pool_size)
        return self.channels[-1] * bins * self.flatten_steps

    @property
    def hidden_size(self) -> int:
        """Size of the embedding."""
        return self.dense_sizes[-1] if self.dense_sizes else self.pooled_size


class CnnNorm(nn.BatchNorm2d):
    """Batch norm over axis 1, of 2 axes or more; a single value a channel is taken by the running statistics.

    It has no variance, and PyTorch raises an error; the last batch of an epoch may be such a one. Gradient
    checkpointing computes a layer twice; the statistics take the first time alone.
    """

    def __init__(self, config: CnnConfig, size: int):
        super().__init__(size, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        fresh = self.training and hidden.numel() > hidden.shape[1]
        mean, variance = self.running_mean, self.running_var
        if fresh and not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            mean, variance = mean.clone(), variance.clone()  # in a backward pass, where checkpointing computes it again
        elif fresh:
            self.num_batches_tracked.add_(1)
        return nn.functional.batch_norm(hidden, mean, variance, self.weight, self.bias, fresh, self.momentum, self.eps)


class CnnConvolution(nn.Module):
    """Convolution and, if so configured, batch norm; `(batch, inputs, bins, frames)` -> `(batch, outputs, ...)`."""

    def __init__(self, config: CnnConfig, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        kernel, biased = config.kernel_size, not config.batch_norm
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=biased)
        self.norm = CnnNorm(config, outputs) if config.batch_norm else nn.Identity()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(hidden))


class CnnResidualLayer(GradientCheckpointingLayer):
    """Two convolutions, the first with the stride, beside a third or nothing: as in the code of Won et al."""

    def __init__(self, config: CnnConfig, inputs: int, outputs: int):
        super().__init__()
        self.first = CnnConvolution(config, inputs, outputs, config.pool_size)
        self.second = CnnConvolution(config, outputs, outputs)
        self.shortcut = nn.Identity()
        if config.pool_size > 1 or inputs != outputs:
            self.shortcut = CnnConvolution(config, inputs, outputs, config.pool_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return (self.second(self.first(hidden).relu()) + self.shortcut(hidden)).relu()


class CnnPlainLayer(GradientCheckpointingLayer):
    """Convolution, ReLU and max pooling."""

    def __init__(self, config: CnnConfig, inputs: int, outputs: int):
        super().__init__()
        self.convolution = CnnConvolution(config, inputs, outputs)
        # With the ends that fill no pool: of few bins or frames some are left by any number of stages.
        self.pool = nn.MaxPool2d(config.pool_size, ceil_mode=True)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.pool(self.convolution(hidden).relu())


class CnnDense(nn.Module):
    """Linear layer, batch norm if so configured, ReLU; `(batch, inputs)` -> `(batch, outputs)`."""

    def __init__(self, config: CnnConfig, inputs: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=not config.batch_norm)
        self.norm = CnnNorm(config, outputs) if config.batch_norm else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear(features)).relu()


class CnnPreTrainedModel(PreTrainedModel):
    config: CnnConfig
    config_class = CnnConfig
    base_model_prefix = "cnn"
    main_input_name = "input_values"
    input_modalities = "audio"
    supports_gradient_checkpointing = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """He et al. 2015 before a ReLU; the scores start small, as in VGG, and the loss at its chance level."""
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            if module is getattr(self, "classifier", None):
                init.normal_(module.weight, std=0.01)
            else:
                init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)


class CnnModel(CnnPreTrainedModel):
    """The network without its scores: standardisation of each bin, stem, stages, pooling, hidden layers."""

    def __init__(self, config: CnnConfig):
        super().__init__(config)
        self.standardisation = CnnNorm(config, config.feature_size)
        stem = (config.channels[0] + 1) // 2
        self.stem = nn.Identity()
        if config.has_stem:
            self.stem = nn.Sequential(CnnConvolution(config, 1, stem, 2), nn.ReLU())
        layer = CnnResidualLayer if config.block == "residual" else CnnPlainLayer
        channels = [stem if config.has_stem else 1, *config.channels]
        self.layers = nn.ModuleList(layer(config, *pair) for pair in zip(channels, config.channels, strict=False))
        sizes = [config.pooled_size, *config.dense_sizes]
        self.dense = nn.Sequential(*(CnnDense(config, *pair) for pair in zip(sizes, config.dense_sizes, strict=False)))
        self.post_init()

    @can_return_tuple
    def forward(self, input_values: torch.Tensor) -> BaseModelOutputWithPooling:
        """Feature maps and the embedding of a batch.

        input_values: `(batch, frames, feature_size)`, of any scale; any number of frames from 1. Returns
        last_hidden_state `(batch, channels[-1], bins, frames)` of the last stage and pooler_output `(batch,
        hidden_size)`. Raises ValueError for inputs of another shape.
        """
        size = self.config.feature_size
        if input_values.dim() != 3 or input_values.shape[1] < 1 or input_values.shape[2] != size:
            raise ValueError(
                f"input_values of shape {tuple(input_values.shape)} must be (batch, frames, {size}), with 1 frame or "
                f"more and the {size} bins of feature_size"
            )
        hidden = self.stem(self.standardisation(input_values.transpose(1, 2))[:, None])
        if hidden.device.type == "cpu":  # where convolutions are faster with the channels last in memory
            hidden = hidden.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            hidden = layer(hidden)
        return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=self.dense(self._pooled(hidden)))

    def _pooled(self, hidden: torch.Tensor) -> torch.Tensor:
        """`(batch, channels, bins, frames)` -> `(batch, pooled_size)`."""
        if self.config.pooling == "max":
            return hidden.amax((2, 3))
        if self.config.pooling == "mean":
            return hidden.mean((2, 3))
        if self.config.pooling == "mean_max":
            over_bins = hidden.mean(2)
            return over_bins.mean(2) + over_bins.amax(2)
        return nn.functional.adaptive_avg_pool2d(hidden, (hidden.shape[2], self.config.flatten_steps)).flatten(1)


class CnnForAudioClassification(CnnPreTrainedModel):
    """The CNN with one linear layer of scores on its embedding."""

    def __init__(self, config: CnnConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.cnn = CnnModel(config)
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
        pooled = self.cnn(input_values, return_dict=True).pooler_output
        logits = self.classifier(self.dropout(pooled))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)


CnnConfig.register_for_auto_class()
CnnForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
