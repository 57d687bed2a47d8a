"""A weak model beside the main one in training: what it says of each window, and the loss of both.

The weak model stands for shortcuts that it, being weak, finds first. What it knows already, the loss does not ask of
the main model any more; see losses.py for the formulas. Prediction uses the main model alone.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_callback import ExportableState

from hf_musiclf.arguments import RecipeTrainingArguments
from hf_musiclf.embeddings import hash_weights
from hf_musiclf.errors import UserError
from hf_musiclf.losses import DEBIAS_LOSSES, MixinGate, cross_entropy, expert_statistics, memorised_share
from hf_musiclf.models.loading import LoadedModel
from hf_musiclf.runs import CHECKPOINT_END, WAY_OUT

# Above it most of what the main model could learn is lost to what the weak one knows by heart.
MEMORISED = 0.5
WAYS_OUT = {
    "given": "take one that has not heard these tracks",
    "first": "lower --weak_epochs or --weak_layers, or pass --weak_folds 5",
    "out of fold": "lower --weak_epochs or --weak_layers",
    "joint": "make it smaller, or train it first with --weak_folds 5",
}
STATE_FILE = "debiasing.safetensors"  # in a checkpoint, beside the main model: what learns and is not published


class HeardAt:
    """Features of a model for waveforms of another sampling rate, which are resampled on their device.

    features: of the model. sampling_rate: of the waveforms, in Hz.
    """

    def __init__(self, features: Any, sampling_rate: int):
        self.features, self.sampling_rate, self.extractor = features, sampling_rate, features.extractor

    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> dict[str, torch.Tensor]:
        """Inputs of the model. waveforms: `(batch, time)`. lengths: `(batch,)` samples."""
        rate = self.features.sampling_rate
        if rate != self.sampling_rate:
            waveforms = torchaudio.functional.resample(waveforms, self.sampling_rate, rate)
            # Rounded up, as torchaudio does, which counts in float32 and may lose the last sample of a long one.
            lengths = (-(-lengths * rate // self.sampling_rate)).clamp_max(waveforms.shape[1])
        return self.features(waveforms, lengths)


@dataclass(frozen=True)
class WeakModel:
    """One weak model, or one for each part of the training tracks that it has not heard.

    members: the models, with features for the very waveforms that the main model hears (see `HeardAt`). member_of_row:
    row of the table of tracks -> which member speaks, for out-of-fold predictions; empty: the only one. facts: what the
    report says of it.
    """

    members: Sequence[LoadedModel]
    member_of_row: Mapping[int, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @torch.no_grad()
    def logits(self, waveforms: torch.Tensor, lengths: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """`(batch, labels)` of the frozen members. rows: `(batch,)` of the table of tracks."""
        chosen = torch.tensor([self.member_of_row.get(row, 0) for row in rows.tolist()])
        found = None
        for number in chosen.unique().tolist():
            member, mine = self.members[number], chosen == number
            model = member.model.to(waveforms.device).eval()
            logits = model(**member.features(waveforms[mine.to(waveforms.device)], lengths[mine])).logits
            found = logits.new_zeros(len(rows), logits.shape[1]) if found is None else found
            found[mine.to(logits.device)] = logits
        return found

    def digest(self) -> str:
        """SHA-256 of the members' weights, cut to 16 hex digits."""
        digest = hashlib.sha256()
        for member in self.members:
            hash_weights(digest, member.model)
        return digest.hexdigest()[:16]


class WeakWeights(TrainerCallback, ExportableState):
    """Writes the digest of a frozen weak model into every checkpoint, which Trainer does with a callback's state."""

    def __init__(self, digest: str):
        self.digest = digest

    def state(self) -> dict[str, Any]:
        return {"args": {"digest": self.digest}, "attributes": {}}


def scoring_layer(model: PreTrainedModel) -> nn.Linear:
    """The linear layer outside the backbone that makes the scores: what it takes is the vector they are made of."""
    inner = set(model.base_model.modules())
    found = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module not in inner and module.out_features == model.config.num_labels
    ]
    assert found, f"{type(model).__name__} has no linear layer of {model.config.num_labels} scores"
    return found[-1]


class Paired(nn.Module):
    """Main model and what learns beside it, one module for optimizer and processes; evaluates as the main one alone."""

    def __init__(self, main: PreTrainedModel, weak: PreTrainedModel | None, gate: MixinGate | None):
        super().__init__()
        self.main, self.weak, self.gate, self.config = main, weak, gate, main.config
        self._scored: torch.Tensor | None = None
        if gate is not None:
            scoring_layer(main).register_forward_pre_hook(self._keep)

    def _keep(self, layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        self._scored = inputs[0]

    def forward(self, weak_inputs: Mapping[str, torch.Tensor] | None = None, labels=None, **inputs):
        if not self.training:
            return self.main(**inputs, labels=labels)
        found = {"logits": self.main(**inputs).logits}
        if self.weak is not None:
            found["weak_logits"] = self.weak(**weak_inputs).logits
        if self.gate is not None:
            found["gate"] = self.gate(self._scored)
        self._scored = None
        return found

    def gradient_checkpointing_enable(self, **kwargs) -> None:
        self.main.gradient_checkpointing_enable(**kwargs)

    def parameters_beside(self) -> list[nn.Parameter]:
        return [value for name, value in self.named_parameters() if not name.startswith("main.")]

    def beside(self) -> dict[str, torch.Tensor]:
        """State of what is not the main model."""
        return {key: value for key, value in self.state_dict().items() if not key.startswith("main.")}


class Debiasing:
    """The loss of `args.debias` and the weak model that it takes.

    speak: split name -> log-probabilities `(windows, labels)` that the weak model gives the split's windows, those of
    training by a member that has not heard the track, and labels `(windows,)`. All processes take part.
    """

    def __init__(
        self,
        weak: WeakModel,
        args: RecipeTrainingArguments,
        speak: Callable[[str], tuple[np.ndarray, np.ndarray]],
    ):
        self.joint = args.weak_training == "joint"
        self.weak, self.args = weak, args
        self.digest = None if self.joint else weak.digest()  # one that learns is in the checkpoints itself
        self.speak = speak if self.joint else cache(speak)  # a frozen one says the same every time

    def check_checkpoint(self, folder: Path) -> None:
        """Raise UserError where the weak model is not the one beside which the checkpoint was trained."""
        state = json.loads((folder / CHECKPOINT_END).read_text(encoding="utf-8"))["stateful_callbacks"]
        earlier = state.get(WeakWeights.__name__, {"args": {"digest": None}})["args"]["digest"]
        if earlier != self.digest:
            raise UserError(
                f"{folder} was trained beside a weak model of other weights ({earlier}, now {self.digest}); put that "
                f"one back where it was kept (--cache_dir) or given (--weak_model), or {WAY_OUT}"
            )

    def beside(self, main: PreTrainedModel) -> tuple[PreTrainedModel | None, MixinGate | None]:
        """What learns beside the main model: the weak one, a new gate, both or neither."""
        gate = None
        if self.args.debias == "learned_mixin":
            with torch.random.fork_rng(devices=[]):  # the same gate, whatever was drawn before
                torch.manual_seed(self.args.seed)
                gate = MixinGate(scoring_layer(main).in_features)
        return self.weak.members[0].model if self.joint else None, gate

    def pair(self, main: PreTrainedModel) -> Paired | None:
        """Main model and what learns beside it; None where nothing does."""
        weak, gate = self.beside(main)
        return Paired(main, weak, gate) if weak or gate else None

    def inputs(self, waveforms: torch.Tensor, lengths: torch.Tensor, rows: torch.Tensor) -> dict[str, Any]:
        """What a training batch carries besides the main model's inputs."""
        if self.joint:
            return {"weak_inputs": self.weak.members[0].features(waveforms, lengths)}
        return {"weak_logits": self.weak.logits(waveforms, lengths, rows)}

    def losses(
        self, outputs: Mapping[str, torch.Tensor], weak_logits: torch.Tensor, labels: torch.Tensor, smoothing: float
    ) -> torch.Tensor:
        """`(batch,)` losses of the main model, and where it learns too those of the weak one.

        outputs: logits of the main model `(batch, labels)` and, of a learned mixin, gate `(batch,)`. weak_logits:
        `(batch, labels)`. labels: `(batch,)`. smoothing: of the labels.
        """
        args, extra = self.args, {}
        if args.debias == "poe_ce":
            extra["cross_entropy_weight"] = args.cross_entropy_weight
        if args.debias == "learned_mixin":
            extra["entropy_penalty"] = args.entropy_penalty
        alpha = outputs["gate"] if args.debias == "learned_mixin" else args.alpha
        loss = DEBIAS_LOSSES[args.debias]
        losses = loss(outputs["logits"], labels, weak_logits, alpha, smoothing, reduction="none", **extra)
        if self.joint:
            losses = losses + cross_entropy(weak_logits, labels, smoothing=smoothing, reduction="none")
        return losses

    def describe(self, logits: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """What the report says: the loss, the weak model, and its `expert_statistics` on every split.

        logits: split -> `(windows, labels)` of the main model, to tell on how many windows both agree. On training and
        validation alone without them, as long as nothing may be read off the test split.
        """
        statistics = {}
        for split in ("train", "validation", *(["test"] if logits else [])):
            spoken, labels = self.speak(split)
            statistics[split] = expert_statistics(spoken, labels, (logits or {}).get(split), self.args.alpha)
        memorised = None
        if self.args.debias in ("poe", "poe_ce"):
            memorised = memorised_share(statistics["train"], statistics["validation"])
        else:  # it is the product's gradient
            for found in statistics.values():
                found["gradient_left"] = found["gradient_left_wrong"] = None
        about = {"loss": self.args.debias, "alpha": None if self.args.debias == "learned_mixin" else self.args.alpha}
        return {**about, "weak": dict(self.weak.facts), "statistics": statistics, "memorised_share": memorised}


def tell(about: Mapping[str, Any]) -> str:
    """`Debiasing.describe` in a line, and another one where the weak model has memorised its training windows."""
    known = ", ".join(
        f"{split} {found['accuracy']:.3f} (entropy {found['entropy_nats']:.2f} nats"
        + (f", agrees with the main model on {found['agreement']:.0%})" if "agreement" in found else ")")
        for split, found in about["statistics"].items()
    )
    lines = [f"weak model: accuracy by window {known}"]
    if about["memorised_share"] is not None and about["memorised_share"] > MEMORISED:
        held_out = about["statistics"]["validation"]
        wrong = round(held_out["n"] * (1 - held_out["accuracy"]))
        lines.append(
            f"warning: the weak model has memorised its training windows: {about['memorised_share']:.0%} of the "
            f"gradient that it leaves on others, or on the {wrong} of {held_out['n']} that it gets wrong, is missing "
            f"there; {WAYS_OUT[about['weak']['training']]}"
        )
    return "\n".join(lines)


def save_beside(pair: Paired, folder: Path) -> None:
    """Write STATE_FILE into a checkpoint."""
    state = {key: value.contiguous() for key, value in pair.beside().items()}
    save_file(state, folder / STATE_FILE, {"format": "pt"})


def load_beside(pair: Paired, folder: Path) -> None:
    """Read STATE_FILE of a checkpoint. Raises UserError where something else, or nothing, learnt beside that model."""
    path = folder / STATE_FILE
    found = load_file(path) if path.is_file() else {}
    if set(found) != set(pair.beside()):
        learnt = ", ".join(sorted({key.partition(".")[0] for key in found})) or "nothing"
        wanted = ", ".join(sorted({key.partition(".")[0] for key in pair.beside()}))
        raise UserError(
            f"{folder}: beside its model {learnt} learnt, and here {wanted} would; resume with the --debias, "
            f"--weak_training and weak model that it was trained with, or {WAY_OUT}"
        )
    pair.load_state_dict(found, strict=False)
