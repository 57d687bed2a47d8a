"""Zero-shot classification with CLAP: a label is as probable as its sentence is like the sound.

Wu et al., "Large-scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption Augmentation",
ICASSP 2023, section 4.3. A baseline: nothing is trained.
"""

from collections.abc import Sequence

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoTokenizer, ClapModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import logging

from hf_musiclf.arguments import ModelArguments
from hf_musiclf.errors import UserError, first_line
from hf_musiclf.models.clap import clips_to_fuse
from hf_musiclf.models.loading import quiet_transformers
from hf_musiclf.reach import only_local, why_not_here


class ClapZeroShot(nn.Module):
    """A whole CLAP that scores labels by their sentences, which are embedded once; a classifier to whoever calls it.

    model_name: folder or Hub id of a ClapModel with its tokenizer. prompt: a sentence with `{label}` in it. revision:
    branch, tag or commit on the Hub. Raises UserError for a prompt without `{label}`, and for a checkpoint that is not
    there, no CLAP, or without text tower or tokenizer.
    """

    def __init__(self, model_name: str, labels: Sequence[str], prompt: str, revision: str = "main"):
        super().__init__()
        if "{label}" not in prompt:
            raise UserError(f"prompt={prompt!r} names no label; put {{label}} where it belongs")
        self.prompts = tuple(prompt.replace("{label}", label) for label in labels)
        where = {"revision": revision, "local_files_only": only_local(model_name)}
        self.clap = _load_model(model_name, where).requires_grad_(False).eval()
        self.config = self.clap.config
        try:
            tokenizer = AutoTokenizer.from_pretrained(model_name, **where)
        except (OSError, ValueError) as error:
            raise UserError(
                f"model={model_name!r} has no tokenizer, which zero-shot classification needs: {first_line(error)}"
            ) from error
        tokens = tokenizer(list(self.prompts), padding=True, truncation=True, return_tensors="pt")
        # Where a vocabulary is missing Transformers makes an empty one, which has the same tokens for everything.
        if len(tokens["input_ids"].unique(dim=0)) < len(labels):
            raise UserError(
                f"model={model_name!r} has no tokenizer that tells the prompts apart; pass a CLAP with its tokenizer"
            )
        self.register_buffer("text", self._embed(tokens))

    @torch.no_grad()
    def _embed(self, tokens) -> torch.Tensor:
        """Token ids of the prompts `(labels, tokens)` -> `(labels, projection_dim)` of unit length."""
        text = self.clap.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return torch.nn.functional.normalize(self.clap.text_projection(text.pooler_output), dim=-1)

    @torch.no_grad()
    def forward(
        self,
        input_features: torch.Tensor,
        is_longer: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Logits `exp(logit_scale_a) * cosine(sound, prompt)`, ClapModel's logits_per_audio; with labels, a loss too.

        input_features: `(batch, 1 or 4, frames, mels)`. is_longer: `(batch, 1)` bool; None: where the four mels differ.
        Both as ClapFeatures makes them. labels: `(batch,)`. Logits are `(batch, labels)` float32.
        """
        if self.config.audio_config.enable_fusion:
            is_longer = clips_to_fuse(input_features, is_longer)
        sound = self.clap.audio_model(input_features=input_features, is_longer=is_longer).pooler_output
        sound = torch.nn.functional.normalize(self.clap.audio_projection(sound), dim=-1)
        logits = (self.clap.logit_scale_a.exp() * sound @ self.text.T).float()
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def load_zero_shot(args: ModelArguments, labels: Sequence[str]) -> ClapZeroShot:
    """The classifier that `--model` and `--zero_shot_prompt` make of these labels; nothing is trained."""
    return ClapZeroShot(args.model, labels, args.zero_shot_prompt, args.model_revision)


def _load_model(name: str, where: dict) -> ClapModel:
    """The whole model. Raises UserError."""
    try:
        config = AutoConfig.from_pretrained(name, **where)
        if config.model_type != "clap":
            raise UserError(
                f"model={name!r} is of architecture {config.model_type!r}; zero-shot classification needs a whole "
                "'clap' with its text tower, such as laion/larger_clap_music"
            )
        with quiet_transformers(logging.ERROR):
            model, found = ClapModel.from_pretrained(name, **where, dtype=torch.float32, output_loading_info=True)
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"model={name!r} cannot be loaded: {why_not_here(name) or first_line(error)}") from error
    lost = sorted(found["missing_keys"])
    if lost:
        tower = "text tower" if lost[0].startswith("text_") else "CLAP"
        raise UserError(f"model={name!r} lacks {len(lost)} weights of its {tower}, {lost[0]} among them")
    return model
