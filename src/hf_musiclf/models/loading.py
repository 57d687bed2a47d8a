"""From model arguments to a classifier and its features: from a checkpoint, or from scratch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from hf_musiclf.arguments import ModelArguments
from hf_musiclf.errors import UserError
from hf_musiclf.labels import label_mappings
from hf_musiclf.models.families import ast, clap
from hf_musiclf.models.freezing import set_trainable
from hf_musiclf.reach import only_local, why_not_here

FAMILIES: dict[str, ModuleType] = {family.MODEL_TYPE: family for family in (ast, clap)}


@dataclass(frozen=True)
class LoadedModel:
    """What a recipe trains, and what the report says of it.

    features: waveforms -> model inputs; `features.extractor` is saved with the model. facts: JSON types only.
    """

    model: PreTrainedModel
    features: Any
    facts: dict[str, Any]


def load_classifier(
    args: ModelArguments, labels: Sequence[str], window_seconds: float, model_type: str, verbose: bool = True
) -> LoadedModel:
    """A classifier with one output a label, its layers frozen as `args.train_layers` says.

    model_type: the architecture that the recipe is for. verbose: False on all processes but the first. Raises UserError
    for a checkpoint that is not there, of another architecture or with weights missing, and for a window that the model
    cannot take.
    """
    family = FAMILIES[model_type]
    label2id, id2label = label_mappings(labels)
    if args.model == "random":
        config = family.random_config(args.config_overrides(), window_seconds)
        config.label2id, config.id2label = label2id, id2label
        extractor = family.random_extractor(config)
        model = family.model_class(config)
        notes = ["all weights are new (--model random)"]
    else:
        if args.config_overrides():
            raise UserError(f"model_config goes with --model random; {args.model} brings its own config")
        model, extractor, notes = _from_checkpoint(args, family, label2id, id2label)
    note = family.fit_window(model, extractor, window_seconds)
    notes += [note] if note else []
    counts = set_trainable(model, args.train_layers)
    features = family.make_features(extractor)
    name = type(model).__name__
    if verbose:
        print(
            f"{name}: {counts['parameters']:,} parameters, {counts['trainable']:,} of them trained; {'; '.join(notes)}",
            flush=True,
        )
    local = Path(args.model).exists()  # a path of this machine is nobody else's business
    start = "from scratch" if args.model == "random" else "from a checkpoint of one's own" if local else args.model
    base = None if local or args.model == "random" else args.model
    about = {"class": name, "own_code": type(model)._auto_class is not None, "base_model": base, "start": start}
    return LoadedModel(model, features, {**about, **counts, "notes": notes})


def _from_checkpoint(args: ModelArguments, family: ModuleType, label2id, id2label):
    """Model and extractor of a checkpoint, its head replaced where it has another number of labels."""
    where = {"revision": args.model_revision, "local_files_only": only_local(args.model)}
    try:
        config = AutoConfig.from_pretrained(args.model, **where)
    except (OSError, ValueError) as error:
        reason = why_not_here(args.model) or first_line(error)
        raise UserError(f"model={args.model!r} cannot be loaded: {reason}") from error
    if config.model_type not in getattr(family, "ACCEPTS", (family.MODEL_TYPE,)):
        raise UserError(
            f"model={args.model!r} is of architecture {config.model_type!r}, this recipe fine-tunes "
            f"{family.MODEL_TYPE!r}; use the recipe of that architecture, see recipes/README.md"
        )
    try:
        with quiet_transformers(logging.ERROR):  # what is new is said below, in one line
            model, found = family.model_class.from_pretrained(
                args.model,
                **where,
                label2id=label2id,
                id2label=id2label,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            extractor = family.extractor_class.from_pretrained(args.model, **where)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"model={args.model!r} cannot be loaded: {first_line(error)}") from error
    return model, extractor, [f"{args.model}: {_renew_head(model, found, config, args.model)}"]


def _renew_head(model: PreTrainedModel, found: dict, old_config: PreTrainedConfig, name: str) -> str:
    """Make sure that the backbone came whole and the head is for these labels; returns what became of the head.

    found: the loading info of `from_pretrained`. Raises UserError where weights of the backbone are missing.
    """
    entries = [entry for key in ("missing_keys", "mismatched_keys") for entry in found[key]]
    new = {entry if isinstance(entry, str) else entry[0] for entry in entries}
    lost = sorted(key for key in new if key.startswith(model.base_model_prefix + "."))
    if lost:
        raise UserError(
            f"model={name!r} lacks {len(lost)} weights of {model.config.model_type}'s backbone, {lost[0]} among them; "
            "it is damaged or of another architecture"
        )
    if not new and old_config.label2id == model.config.label2id:
        return "its head has these labels and is kept"
    if old_config.model_type != model.config.model_type:  # of CLAP's two towers only one is taken
        return f"all weights of its {model.base_model_prefix}, and a new head of {model.config.num_labels} labels"
    # The layers of a head that fit by their size would start from what they had learnt for other labels.
    for module in model.children():
        if module is not model.base_model:
            module.apply(lambda part: part.reset_parameters() if hasattr(part, "reset_parameters") else None)
    return f"head of {old_config.num_labels} labels replaced by a new one of {model.config.num_labels}"


@contextmanager
def quiet_transformers(verbosity: int | None = None) -> Iterator[None]:
    """Without Transformers' bars for reading and writing weights, and at another verbosity if asked for."""
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(before if verbosity is None else verbosity)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
