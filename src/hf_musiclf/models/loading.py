"""From model arguments to a classifier and its features: from a checkpoint, or from scratch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from hf_musiclf.arguments import ModelArguments
from hf_musiclf.errors import UserError, first_line
from hf_musiclf.labels import label_mappings
from hf_musiclf.launching import without_path
from hf_musiclf.models.families import ast, clap, efficientat, encoders, spectrograms
from hf_musiclf.models.freezing import set_trainable
from hf_musiclf.reach import only_local, why_not_here

FROM_SCRATCH = "from scratch"


def saved_types(family: ModuleType) -> Sequence[str]:
    """Model types of what the family saves: its own, or those of all its classes."""
    return getattr(family, "MODEL_TYPES", (family.MODEL_TYPE,))


FAMILIES: dict[str, ModuleType | spectrograms.SpectrogramFamily] = {
    model_type: family
    for family in (ast, clap, efficientat, encoders, spectrograms.cnn, spectrograms.crnn, spectrograms.vgg)
    for model_type in saved_types(family)
}


def pooled(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """`(batch, dim)`: what the backbone makes of model inputs, where it pools them itself."""
    return model.base_model(**inputs).pooler_output


@dataclass(frozen=True)
class LoadedModel:
    """What a recipe trains, and what the report says of it.

    features: waveforms -> model inputs; `features.extractor` is saved with the model. facts: JSON types only. family:
    of FAMILIES. embeds: whether the head takes nothing but one vector a window, which `embed(model, inputs)` gives.
    """

    model: PreTrainedModel
    features: Any
    facts: dict[str, Any]
    family: str = ""
    embeds: bool = False
    embed: Callable[[PreTrainedModel, dict[str, torch.Tensor]], torch.Tensor] = pooled

    def save(self, folder: Path) -> None:
        """Model and extractor, as they are published."""
        self.model.save_pretrained(folder)
        self.features.extractor.save_pretrained(folder)


def load_classifier(
    args: ModelArguments, labels: Sequence[str], window_seconds: float, model_type: str, verbose: bool = True
) -> LoadedModel:
    """A classifier with one output a label, its layers frozen as `args.train_layers` says.

    model_type: the architecture that the recipe is for. verbose: False on all processes but the first. Raises UserError
    for a checkpoint that is not there, of another architecture or with weights missing, for a window that the model
    cannot take, and for a config that makes no model.
    """
    family = FAMILIES[model_type]
    if args.zero_shot and not getattr(family, "ZERO_SHOT", False):
        raise UserError(f"zero_shot needs a model with a text tower, which {model_type!r} has not; leave it out")
    label2id, id2label = label_mappings(labels)
    if args.model == "random":
        model, extractor = _from_scratch(args, family, window_seconds, label2id, id2label)
        notes = ["all weights are new (--model random)"]
    else:
        model, extractor, notes = _from_checkpoint(args, family, label2id, id2label)
    fitted = family.fit_window(model, extractor, window_seconds)
    learnt = args.model != "random" and hasattr(family, "freeze")
    notes += [note for note in (fitted, family.freeze(model) if learnt else None) if note]
    counts = set_trainable(model, args.train_layers)
    try:
        features = family.make_features(extractor)
    except ValueError as error:
        raise UserError(f"model={args.model!r} has an extractor that cannot be used: {error}") from error
    name = type(model).__name__
    if verbose:
        print(
            f"{name}: {counts['parameters']:,} parameters, {counts['trainable']:,} of them trained; {'; '.join(notes)}",
            flush=True,
        )
    local = Path(args.model).exists()
    start = FROM_SCRATCH if args.model == "random" else _origin(args.model, family, local)
    on_the_hub = not (local or args.model == "random" or args.model in getattr(family, "RELEASES", ()))
    base = args.model if on_the_hub else None
    about = {"class": name, "own_code": type(model)._auto_class is not None, "base_model": base, "start": start}
    embeds = getattr(family, "embeds", lambda model: False)(model)
    embed = getattr(family, "embed", pooled)
    return LoadedModel(model, features, {**about, **counts, "notes": notes}, model_type, embeds, embed)


def _origin(model: str, family: ModuleType, local: bool) -> str:
    """Where the weights come from, for reports and cards: a path of this machine is nobody else's business."""
    known = family.origin(model) if hasattr(family, "origin") else None
    if known:
        return f"from {known}"
    return "from a checkpoint of one's own" if local else model


def _from_scratch(args: ModelArguments, family: ModuleType, window_seconds: float, label2id, id2label):
    """Model and extractor with new weights."""
    config, extractor = family.random_parts(args.config_overrides(), window_seconds)
    config.label2id, config.id2label = label2id, id2label
    try:
        return family.model_class(config), extractor
    except (ValueError, TypeError, KeyError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(f"model_config={args.model_config} makes no model: {first_line(error)}") from error


def _from_checkpoint(args: ModelArguments, family: ModuleType, label2id, id2label):
    """Model and extractor of a checkpoint, its head replaced where it has another number of labels."""
    # A family may know checkpoints in other forms than a folder or a Hub id, and make a folder of them.
    folder = family.resolve(args.model, args.model_revision) if hasattr(family, "resolve") else args.model
    where = {"revision": args.model_revision, "local_files_only": only_local(folder)}
    where["trust_remote_code"] = args.trust_remote_code
    config = _config_of(args, folder, where)
    own_code = args.trust_remote_code and getattr(family, "REMOTE_CODE", False) and getattr(config, "auto_map", None)
    if not own_code and config.model_type not in getattr(family, "ACCEPTS", (family.MODEL_TYPE,)):
        raise UserError(
            f"model={args.model!r} is of architecture {config.model_type!r}, this recipe fine-tunes "
            f"{family.MODEL_TYPE!r}; use the recipe of that architecture, see recipes/README.md"
        )
    head = _head_overrides(args, family, config, label2id)
    try:
        with quiet_transformers(logging.ERROR):  # what is new is said below, in one line
            model, found = family.model_class.from_pretrained(
                folder,
                **where,
                label2id=label2id,
                id2label=id2label,
                problem_type="single_label_classification",
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype=torch.float32,  # whatever it was saved in: features are, and mixed precision wants masters
                **head,
            )
            extractor = family.extractor_class.from_pretrained(folder, **where)
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError, ImportError) as error:
        raise UserError(f"model={args.model!r} cannot be loaded: {first_line(error)}") from error
    told = _renew_head(model, found, config, args.model, getattr(family, "MAY_BE_MISSING", ()))
    return model, extractor, [f"{without_path(args.model)}: {told}"]


def _config_of(args: ModelArguments, folder: str, where: dict[str, Any]) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder, **where)
    except (OSError, ValueError, ImportError) as error:
        reason = why_not_here(args.model) or first_line(error)
        if isinstance(error, ValueError) and "trust_remote_code" in str(error):
            reason = "it runs code of its own; read it, and if you trust it pass --trust_remote_code"
        raise UserError(f"model={args.model!r} cannot be loaded: {reason}") from error


def _head_overrides(
    args: ModelArguments, family: ModuleType, config: PreTrainedConfig, label2id: dict[str, int]
) -> dict[str, Any]:
    """What `--model_config` says of a head that is new; a head that is kept stays as it is. Raises UserError."""
    overrides = args.config_overrides()
    if not overrides:
        return {}
    if not hasattr(family, "head_overrides"):
        raise UserError(f"model_config goes with --model random; {args.model} brings its own config")
    head = family.head_overrides(overrides)
    kept = config.model_type in saved_types(family) and config.label2id == label2id
    return {} if kept else head  # a kept head is as the checkpoint has it, which the notes tell


def _renew_head(
    model: PreTrainedModel, found: dict, old_config: PreTrainedConfig, name: str, may_be_missing: tuple[str, ...] = ()
) -> str:
    """Make sure that the backbone came whole and the head is for these labels; returns what became of the head.

    found: the loading info of `from_pretrained`. may_be_missing: ends of keys that a whole checkpoint may be without.
    Raises UserError where other weights of the backbone are missing.
    """
    entries = [entry for key in ("missing_keys", "mismatched_keys") for entry in found[key]]
    new = {entry if isinstance(entry, str) else entry[0] for entry in entries}
    new = {key for key in new if not key.endswith(may_be_missing)}
    lost = sorted(key for key in new if key.startswith(model.base_model_prefix + "."))
    if lost:
        raise UserError(
            f"model={name!r} lacks {len(lost)} weights of {model.config.model_type}'s backbone, {lost[0]} among them; "
            "it is damaged or of another architecture"
        )
    if not new and old_config.label2id == model.config.label2id:
        return "its head has these labels and is kept as it is"
    of_head = {key for key in model.state_dict() if not key.startswith(model.base_model_prefix + ".")}
    # Of CLAP's two towers only one is taken; a checkpoint of pretraining or of a recogniser has no such head.
    if old_config.model_type != model.config.model_type or of_head <= set(found["missing_keys"]):
        return f"all weights of its {model.base_model_prefix}, and a new head of {model.config.num_labels} labels"
    # The layers of a head that fit by their size would start from what they had learnt for other labels.
    for child in model.children():
        if child is not model.base_model:
            child.apply(lambda module: _start_anew(model, module))
    if isinstance(getattr(model, "layer_weights", None), nn.Parameter):  # the mixture of layers, beside the children
        nn.init.constant_(model.layer_weights, 1 / len(model.layer_weights))
    return f"head of {old_config.num_labels} labels replaced by a new one of {model.config.num_labels}"


def _start_anew(model: PreTrainedModel, module: nn.Module) -> None:
    """Give a module the weights that it has in a new model."""
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
    for value in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        value._is_hf_initialized = False  # Transformers leaves alone what it has loaded
    model._init_weights(module)


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
