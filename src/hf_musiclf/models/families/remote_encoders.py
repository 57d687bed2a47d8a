"""Encoders that bring their own code, and no classification head: a head of ours on top."""

from typing import Any

from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from hf_musiclf.errors import UserError
from hf_musiclf.models.remote_encoder import RemoteEncoderConfig, RemoteEncoderForAudioClassification

CLASSIFIER, ENCODER = "AutoModelForAudioClassification", "AutoModel"
WHERE = ("revision", "local_files_only", "trust_remote_code")
OF_THE_CONFIG = ("label2id", "id2label", "problem_type")


def brings_no_head(folder: str, known: tuple[str, ...], **where) -> bool:
    """Whether the checkpoint's code, which is trusted, has an encoder alone.

    known: model types that need no code. where: WHERE. Raises UserError for code that has neither encoder nor
    classifier.
    """
    config = AutoConfig.from_pretrained(folder, **where)
    offers = code_of(config)
    if config.model_type in known or CLASSIFIER in offers:
        return False
    if ENCODER not in offers:
        raise UserError(
            f"model={folder!r} has code for {', '.join(offers) or 'nothing'}; an {ENCODER} or {CLASSIFIER} is missing "
            "from the auto_map of its config.json"
        )
    return True


def code_of(config: PreTrainedConfig) -> dict[str, str]:
    return getattr(config, "auto_map", None) or {}


def load_with_head(folder: str, **kwargs: Any) -> tuple[PreTrainedModel, dict]:
    """Model and loading info, as `from_pretrained` of a class with a head gives them.

    kwargs: of `from_pretrained`; the head has no fields. Raises UserError where it is given some.
    """
    where = {name: kwargs.pop(name) for name in WHERE if name in kwargs}
    about = {name: kwargs.pop(name) for name in OF_THE_CONFIG if name in kwargs}
    dtype = kwargs.pop("dtype", None)
    unknown = kwargs.keys() - {"output_loading_info", "ignore_mismatched_sizes"}
    if unknown:
        raise UserError(
            f"model_config: the head of an encoder with code of its own has no {', '.join(sorted(unknown))}"
        )
    encoder, found = AutoModel.from_pretrained(folder, **where, dtype=dtype, output_loading_info=True)
    model = RemoteEncoderForAudioClassification(RemoteEncoderConfig.of(encoder, **about), encoder)
    of_head = [key for key in model.state_dict() if not key.startswith("encoder.")]
    missing = [*of_head, *(f"encoder.{key}" for key in found["missing_keys"])]
    return model, {**found, "missing_keys": missing}
