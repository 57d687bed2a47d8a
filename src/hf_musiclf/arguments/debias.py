"""Training a main classifier beside a weak one, so that it does not learn what the weak one already knows."""

from dataclasses import dataclass, field

from hf_musiclf.errors import UserError

# Default of --debias_alpha: the exponent of the weak model in a product, its share in a mixture.
ALPHAS = {"poe": 1.0, "poe_ce": 1.0, "mixture": 0.1}
DEBIASES = ("none", *ALPHAS, "learned_mixin")


@dataclass
class DebiasArguments:
    """Which loss, and which weak model; see losses.py."""

    debias: str = field(
        default="none",
        metadata={
            "help": "Loss beside a weak model that stands for shortcuts: poe (product of experts), poe_ce (and "
            "cross-entropy), learned_mixin, mixture (additive), or none. Prediction uses the main model alone."
        },
    )
    debias_alpha: float | None = field(
        default=None,
        metadata={
            "help": "poe, poe_ce: exponent of the weak model, default 1. mixture: its share in [0, 1), default 0.1."
        },
    )
    cross_entropy_weight: float = field(
        default=1.0, metadata={"help": "poe_ce: weight of cross-entropy beside the product."}
    )
    entropy_penalty: float = field(
        default=0.0, metadata={"help": "learned_mixin: weight of the weak model's scaled entropy, +H of the paper."}
    )
    weak_model: str = field(
        default="random",
        metadata={
            "help": "Checkpoint of the weak model, or random. One with a head for these labels is used as it is; any "
            "other is trained first, or jointly."
        },
    )
    weak_model_type: str | None = field(
        default=None, metadata={"help": "Family of the weak model. Default: that of its checkpoint, or of the recipe."}
    )
    weak_model_config: str | None = field(default=None, metadata={"help": "As --model_config, for the weak model."})
    weak_layers: int | None = field(
        default=None,
        metadata={"help": "Keep only so many first encoder layers of the weak model; 0: all of them. Default: all."},
    )
    weak_training: str = field(
        default="first",
        metadata={
            "help": "first: train the weak model in a run of its own, keep it in --cache_dir and freeze it. joint: "
            "train it beside the main one, by its own cross-entropy."
        },
    )
    weak_epochs: float = field(
        default=3.0,
        metadata={"help": "Epochs of a weak model that is trained first; jointly it has those of the main one."},
    )
    weak_learning_rate: float | None = field(
        default=None, metadata={"help": "Its learning rate. Default: --learning_rate."}
    )
    weak_folds: int = field(
        default=0,
        metadata={
            "help": "Train so many weak models first, each without one part of the training groups, and take for each "
            "track the one that has not heard it; 0: one weak model for all."
        },
    )

    def check_debias(self) -> None:
        """Raises UserError for values that do not go together."""
        if self.debias not in DEBIASES:
            raise UserError(f"debias={self.debias!r} is not known; choose {', '.join(DEBIASES)}")
        if self.weak_training not in ("first", "joint"):
            raise UserError(f"weak_training={self.weak_training!r} is not known; choose first or joint")
        if self.debias_alpha is not None and self.debias != "none":
            if self.debias not in ALPHAS:
                raise UserError(f"debias_alpha goes with --debias {', '.join(ALPHAS)}; leave it out")
            if not 0 <= self.debias_alpha < float("inf") or (self.debias == "mixture" and self.debias_alpha >= 1):
                limit = "lie in [0, 1)" if self.debias == "mixture" else "be 0 or more"
                raise UserError(f"debias_alpha={self.debias_alpha} must {limit} for {self.debias}")
        for name, loss, usual in (("cross_entropy_weight", "poe_ce", 1.0), ("entropy_penalty", "learned_mixin", 0.0)):
            if self.debias not in ("none", loss) and getattr(self, name) != usual:
                raise UserError(f"{name} goes with --debias {loss}, not {self.debias}; leave it out")
        for name in ("cross_entropy_weight", "entropy_penalty"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"{name}={getattr(self, name)} must be 0 or more")
        if not 0 < self.weak_epochs < float("inf"):
            raise UserError(f"weak_epochs={self.weak_epochs} must be above 0")
        if self.weak_learning_rate is not None and not 0 < self.weak_learning_rate < float("inf"):
            raise UserError(f"weak_learning_rate={self.weak_learning_rate} must be above 0")
        if self.weak_layers is not None and self.weak_layers < 0:
            raise UserError(f"weak_layers={self.weak_layers} must be 0, for all of them, or more")
        if not (self.weak_folds == 0 or self.weak_folds >= 2):
            raise UserError(f"weak_folds={self.weak_folds} must be 0 or 2 and more")
        if self.weak_folds and self.weak_training == "joint":
            raise UserError(f"weak_folds={self.weak_folds} needs weak models that are trained first; see weak_training")

    @property
    def alpha(self) -> float:
        """`debias_alpha`, or the default of the loss."""
        return ALPHAS.get(self.debias, 0.0) if self.debias_alpha is None else self.debias_alpha
