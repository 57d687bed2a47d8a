"""A convolutional recurrent network on spectrograms; `save_pretrained` copies this file beside the weights.

Choi, Fazekas, Sandler and Cho, "Convolutional Recurrent Neural Networks for Music Classification", ICASSP 2017 (arXiv
1609.04243): convolutions pool the bins away, a GRU (Cho et al. 2014) reads what is left in time. Unlike there ReLU
stands for ELU and one GRU layer, which reads both ways, for two that read forwards; all of its outputs are pooled, not
the last one taken. This file imports torch and transformers alone, so that `pipeline("audio-classification", model=...,
trust_remote_code=True)` runs it anywhere.
"""

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput
from transformers.utils import can_return_tuple

POOLINGS = ("attention", "mean")
OF_CONVOLUTIONS = ("conv_channels", "bin_pools", "frame_pools")


class CrnnConfig(PreTrainedConfig):
    """Config of CrnnModel and CrnnForAudioClassification.

    feature_size: bins of a frame. conv_channels: of each 3x3 convolution in front, `[]` for a GRU on the frames
    themselves. bin_pools, frame_pools: by which max pooling behind each convolution divides bins and frames, rounded
    up. first_stride: of the first convolution, in both axes; 2 divides the cost by four. frame_stride: without
    convolutions, so many frames are averaged into one step. rnn_size, rnn_layers: of the GRU, each way. bidirectional:
    whether it also reads backwards. pooling: over its outputs in time, `mean` or `attention`, a mean with learnt
    weights (Yang et al. 2016, "Hierarchical Attention Networks"). dropout: in [0, 1), between the GRU's layers and
    before the scores; 0.3 is that of Choi et al. batch_norm_eps, batch_norm_momentum: PyTorch's. Raises ValueError for
    values that make no network.
    """

    model_type = "spectrogram_crnn"

    feature_size: int = 128
    conv_channels: list[int] | tuple[int, ...] = (32, 64, 128, 128)
    bin_pools: list[int] | tuple[int, ...] = (2, 2, 4, 4)
    frame_pools: list[int] | tuple[int, ...] = (2, 2, 1, 1)
    first_stride: int = 2
    frame_stride: int = 8
    rnn_size: int = 128
    rnn_layers: int = 1
    bidirectional: bool = True
    pooling: str = "attention"
    dropout: float | int = 0.3
    batch_norm_eps: float | int = 1e-5
    batch_norm_momentum: float | int = 0.1

    def __post_init__(self, **kwargs):
        names = ("feature_size", "first_stride", "frame_stride", "rnn_size", "rnn_layers")
        numbers = {name: getattr(self, name) for name in names}
        for name in OF_CONVOLUTIONS:
            if not isinstance(getattr(self, name), (list, tuple)):
                raise ValueError(f"{name}={getattr(self, name)} must be a list of whole numbers, [32,64] say")
            setattr(self, name, list(getattr(self, name)))
            numbers |= {f"{name}[{place}]": size for place, size in enumerate(getattr(self, name))}
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value} must be a whole number of 1 or more")
        for name in OF_CONVOLUTIONS[1:]:  # without convolutions there is nothing to pool, whatever they say
            if self.conv_channels and len(getattr(self, name)) != len(self.conv_channels):
                raise ValueError(
                    f"{name}={getattr(self, name)} must have one number for each of conv_channels={self.conv_channels}"
                )
        if not isinstance(self.bidirectional, bool):
            raise ValueError(f"bidirectional={self.bidirectional} must be true or false")
        if self.first_stride > 3:
            raise ValueError(f"first_stride={self.first_stride} skips what a 3x3 convolution does not reach; 3 at most")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling={self.pooling!r} is not known; choose from {', '.join(POOLINGS)}")
        for name, value in (("dropout", self.dropout), ("batch_norm_momentum", self.batch_norm_momentum)):
            if isinstance(value, (bool, str)) or not 0 <= value < 1:
                raise ValueError(f"{name}={value} must lie in [0, 1)")
        if isinstance(self.batch_norm_eps, (bool, str)) or not self.batch_norm_eps > 0:
            raise ValueError(f"batch_norm_eps={self.batch_norm_eps} must be above 0")
        super().__post_init__(**kwargs)

    @property
    def num_hidden_layers(self) -> int:
        return self.rnn_layers

    @property
    def step_size(self) -> int:
        """Features of a step that the GRU reads."""
        if not self.conv_channels:
            return self.feature_size
        bins = -(-self.feature_size // self.first_stride)
        for pool in self.bin_pools:
            bins = -(-bins // pool)
        return self.conv_channels[-1] * bins

    @property
    def hidden_size(self) -> int:
        """Size of the embedding."""
        return self.rnn_size * (2 if self.bidirectional else 1)


class CrnnNorm(nn.BatchNorm2d):
    """Batch norm over axis 1, of 2 axes or more; a single value a channel is taken by the running statistics.

    It has no variance, and PyTorch raises an error; the last batch of an epoch may be such a one. Gradient
    checkpointing computes a layer twice; the statistics take the first time alone.
    """

    def __init__(self, config: CrnnConfig, size: int):
        super().__init__(size, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        fresh = self.training and hidden.numel() > hidden.shape[1]
        mean, variance = self.running_mean, self.running_var
        if fresh and not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            mean, variance = mean.clone(), variance.clone()  # in a backward pass, where checkpointing computes it again
        elif fresh:
            self.num_batches_tracked.add_(1)
        return nn.functional.batch_norm(hidden, mean, variance, self.weight, self.bias, fresh, self.momentum, self.eps)


class CrnnConvolution(GradientCheckpointingLayer):
    """Convolution, batch norm, ReLU, max pooling; `(batch, inputs, bins, frames)` -> `(batch, outputs, ...)`."""

    def __init__(self, config: CrnnConfig, number: int):
        super().__init__()
        inputs, outputs = [1, *config.conv_channels][number : number + 2]
        stride = config.first_stride if number == 0 else 1
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = CrnnNorm(config, outputs)
        # With the ends that fill no pool: of few bins or frames some are left by any number of layers.
        self.pool = nn.MaxPool2d((config.bin_pools[number], config.frame_pools[number]), ceil_mode=True)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = self.conv(hidden)
        if hidden.device.type == "cpu":  # where convolutions are faster with the channels last in memory
            hidden = hidden.contiguous(memory_format=torch.channels_last)
        return self.pool(self.norm(hidden).relu())


class CrnnRecurrent(GradientCheckpointingLayer):
    """A layer of the GRU; `(batch, steps, inputs)` -> `(batch, steps, hidden_size)`."""

    def __init__(self, config: CrnnConfig, inputs: int):
        super().__init__()
        self.gru = nn.GRU(inputs, config.rnn_size, batch_first=True, bidirectional=config.bidirectional)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        return self.gru(steps)[0]


class CrnnAttention(nn.Module):
    """`(batch, steps, size)` -> `(batch, size)`: a mean over steps by weights that hang on each step."""

    def __init__(self, size: int):
        super().__init__()
        self.hidden = nn.Linear(size, size)
        self.score = nn.Linear(size, 1, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        weights = self.score(self.hidden(hidden).tanh()).softmax(1)
        return (weights * hidden).sum(1)


class CrnnPreTrainedModel(PreTrainedModel):
    config: CrnnConfig
    config_class = CrnnConfig
    base_model_prefix = "crnn"
    main_input_name = "input_values"
    input_modalities = "audio"
    supports_gradient_checkpointing = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Convolutions as He et al. 2015; the GRU orthogonal in its steps (Saxe et al. 2014); scores that start small.

        Attention starts as all but a plain mean, and the loss at its chance level.
        """
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.GRU):
            for name, parameter in module.named_parameters():
                if name.startswith("bias"):
                    init.zeros_(parameter)
                elif name.startswith("weight_hh"):
                    init.orthogonal_(parameter)
                else:
                    init.xavier_uniform_(parameter)
        elif isinstance(module, nn.Linear):
            small = module is getattr(self, "classifier", None) or module.bias is None
            init.normal_(module.weight, std=0.01 if small else module.in_features**-0.5)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)


class CrnnModel(CrnnPreTrainedModel):
    """The network without its scores: standardisation of each bin, convolutions, GRU layers, pooling over time."""

    def __init__(self, config: CrnnConfig):
        super().__init__(config)
        self.standardisation = CrnnNorm(config, config.feature_size)
        # Not in a ModuleList, as the layers are: those that are frozen and decayed one by one are the GRU's.
        self.front = nn.Sequential(*(CrnnConvolution(config, number) for number in range(len(config.conv_channels))))
        sizes = [config.step_size] + [config.hidden_size] * (config.rnn_layers - 1)
        self.layers = nn.ModuleList(CrnnRecurrent(config, size) for size in sizes)
        self.dropout = nn.Dropout(config.dropout)
        self.attention = CrnnAttention(config.hidden_size) if config.pooling == "attention" else None
        self.post_init()

    @can_return_tuple
    def forward(self, input_values: torch.Tensor) -> BaseModelOutputWithPooling:
        """Steps and the embedding of a batch.

        input_values: `(batch, frames, feature_size)`, of any scale; any number of frames from 1, all of which count, as
        the extractor fills its windows with sound. Returns last_hidden_state `(batch, steps, hidden_size)` of the GRU
        and pooler_output `(batch, hidden_size)`. Raises ValueError for inputs of another shape.
        """
        size = self.config.feature_size
        if input_values.dim() != 3 or input_values.shape[1] < 1 or input_values.shape[2] != size:
            raise ValueError(
                f"input_values of shape {tuple(input_values.shape)} must be (batch, frames, {size}), with 1 frame or "
                f"more and the {size} bins of feature_size"
            )
        hidden = self._steps(self.standardisation(input_values.transpose(1, 2)))
        for number, layer in enumerate(self.layers):
            hidden = layer(hidden if number == 0 else self.dropout(hidden))
        pooled = hidden.mean(1) if self.attention is None else self.attention(hidden)
        return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=pooled)

    def _steps(self, bins: torch.Tensor) -> torch.Tensor:
        """`(batch, feature_size, frames)` -> `(batch, steps, step_size)`."""
        if not self.config.conv_channels:
            stride = self.config.frame_stride  # of the last frames, where they fill no step, their own mean
            return nn.functional.avg_pool1d(bins, stride, ceil_mode=True, count_include_pad=False).transpose(1, 2)
        return self.front(bins[:, None]).flatten(1, 2).transpose(1, 2)


class CrnnForAudioClassification(CrnnPreTrainedModel):
    """The CRNN with one linear layer of scores on its embedding."""

    def __init__(self, config: CrnnConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.crnn = CrnnModel(config)
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
        pooled = self.crnn(input_values, return_dict=True).pooler_output
        logits = self.classifier(self.dropout(pooled))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)


CrnnConfig.register_for_auto_class()
CrnnForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
