"""The one Trainer subclass: windows in, whole tracks validated, and what does not learn left alone."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import EvalPrediction, Trainer
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.utils import SAFE_WEIGHTS_NAME

from hf_musiclf.arguments import RecipeTrainingArguments
from hf_musiclf.augmentation import BatchAugmentation, Targets, check_augmentation
from hf_musiclf.callbacks import EarlyStopping, EpochCallback
from hf_musiclf.data.window_dataset import (
    EvaluationWindows,
    RandomWindows,
    check_shortest,
    collate_inputs,
    collate_windows,
)
from hf_musiclf.debiasing import Debiasing, Paired, WeakWeights, load_beside, save_beside
from hf_musiclf.embeddings import EmbeddedWindows, EmbeddingCache, collate_embeddings, without_backbone
from hf_musiclf.errors import UserError
from hf_musiclf.launching import available_cores
from hf_musiclf.losses import cross_entropy
from hf_musiclf.metrics import choice_metrics
from hf_musiclf.models.folding import fold_batch_norms
from hf_musiclf.models.freezing import batch_norms, frozen_modules, learning_rate_scales, split_by_scale
from hf_musiclf.models.loading import FAMILIES, FROM_SCRATCH, LoadedModel
from hf_musiclf.models.music_pipeline import usual_batch_size
from hf_musiclf.probabilities import mean_by_track, softmax
from hf_musiclf.runs import check_space
from hf_musiclf.waveform_augmentation import AugmentedWindows, WaveformAugmentation


def choose_collator(features: Any, args: RecipeTrainingArguments, debiasing: Debiasing | None) -> Callable[..., Any]:
    """Batches of waveforms; of model inputs, where workers make them on the model's own device, beside its steps."""
    # With no core of their own they would hold up the model's threads (benchmarks/training_loop.py --inputs).
    has_cores = args.world_size * (args.dataloader_num_workers + 1) <= available_cores()
    if args.device.type == "cpu" and args.dataloader_num_workers and has_cores and not debiasing:
        return partial(collate_inputs, features)
    return collate_windows


class MusicTrainer(Trainer):
    """Trainer over windows: a batch of waveforms becomes model inputs on the model's device.

    loaded: model and features. windows: split name -> windows, with train, validation and test. The model is chosen by
    `metric_for_best_model` on the validation split. cache_dir: where embeddings are kept, if the backbone is frozen and
    sees the same windows in every epoch: then it is run once, and `model` is the head with a stand-in for the backbone.
    class_weights: `(labels,)` weight of each label's loss in training, None for the same. debiasing: the weak model
    beside the main one, if any; what of it learns is part of `model` while training, and is not saved with it.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        windows: dict[str, EvaluationWindows | RandomWindows],
        args: RecipeTrainingArguments,
        cache_dir: str | None = None,
        class_weights: np.ndarray | None = None,
        debiasing: Debiasing | None = None,
        **kwargs,
    ):
        # Before Trainer makes the folder.
        beside = debiasing.beside(loaded.model) if debiasing else ()
        learns_beside = [parameter for part in beside if part is not None for parameter in part.parameters()]
        check_space(Path(args.output_dir), loaded.facts, args.save_total_limit, learns_beside)
        for hearer in (loaded, *(debiasing.weak.members if debiasing else ())):
            check_shortest(windows, hearer.features)
        self.loaded, self.windows, self.features = loaded, windows, loaded.features
        self.frozen = frozen_modules(loaded.model)
        for learning in (loaded, *(debiasing.weak.members[:1] if debiasing and debiasing.joint else ())):
            if args.freeze_batch_norm and learning.facts.get("start") != FROM_SCRATCH:
                self.frozen += batch_norms(learning.model)
        self._loaders: list[Any] = []
        self.validated = windows["validation"].spread(args.validation_windows_per_track)
        # Who scores whole tracks with the saved model takes the windows that evaluation took.
        loaded.model.config.hop_seconds = windows["validation"].hop / loaded.features.sampling_rate
        callbacks = [EpochCallback(), *(kwargs.pop("callbacks", None) or [])]
        if args.early_stopping_patience is not None:
            callbacks.append(EarlyStopping(args.early_stopping_patience))
        if debiasing and debiasing.digest:
            callbacks.append(WeakWeights(debiasing.digest))
        heard = windows["train"]
        if args.waveform_changes:
            changes = WaveformAugmentation(args.waveform_changes, loaded.features.sampling_rate)
            heard = AugmentedWindows(heard, changes, args.seed)
        if args.device.type == "cpu" and getattr(FAMILIES.get(loaded.family), "CHANNELS_LAST", False):
            loaded.model.to(memory_format=torch.channels_last)
        super().__init__(
            model=loaded.model,
            args=args,
            train_dataset=heard,
            eval_dataset=torch.utils.data.Subset(windows["validation"], self.validated),
            data_collator=choose_collator(loaded.features, args, debiasing),
            processing_class=loaded.features.extractor,
            compute_metrics=self._validation_metrics,
            callbacks=callbacks,
            **kwargs,
        )
        self.augmentation = self._make_augmentation()
        self.class_weights, self.debiasing = None, debiasing
        if class_weights is not None:
            self.class_weights = torch.tensor(class_weights, dtype=torch.float32, device=args.device)
        self._own_loss = bool(self.augmentation or debiasing or class_weights is not None)
        if self._own_loss:
            self.model_accepts_loss_kwargs = False  # our losses are means over a batch: Trainer is to divide them
        self.pair: Paired | None = None
        self.embedded: dict[str, EmbeddedWindows] = {}
        if self._can_embed():
            self._embed(cache_dir)
        if debiasing:
            self._make_pair()

    def _make_augmentation(self) -> BatchAugmentation | None:
        if not self.args.augments_batches:
            return None
        check_augmentation(self.features, self.args)
        return BatchAugmentation(self.features.extractor.model_input_names[0], self.args)

    def _make_pair(self) -> None:
        """Put what learns beside the main model, if anything, into `model` for optimizer and processes."""
        self.pair = self.debiasing.pair(self.model)
        if self.pair:
            self.model = self.model_wrapped = self.pair.to(self.args.device)

    def _can_embed(self) -> bool:
        """Whether every window has one embedding, whatever is learnt."""
        if not self.loaded.embeds or (self.debiasing and self.debiasing.joint):
            return False
        if any(parameter.requires_grad for parameter in self.loaded.model.base_model.parameters()):
            return False
        same_windows = isinstance(self.windows["train"], EvaluationWindows) and not self.args.augments
        if self.debiasing and len(set(self.windows["train"].rows)) < len(self.windows["train"].rows):
            return False  # the weak model speaks of every track once, and these are oversampled
        if not same_windows and self.args.cache_embeddings and self.is_world_process_zero():
            print(
                "the backbone is frozen: with --train_windows all and no augmentation it would be run once, not in "
                "every epoch (recipes/configs/head.yaml)",
                flush=True,
            )
        return same_windows and self.args.cache_embeddings

    def _embed(self, cache_dir: str | None) -> None:
        """Run the backbone over all windows, as far as that is not kept, and go on with the head alone."""
        model, args = self.loaded.model, self.args
        model.base_model.eval()
        # Under bf16 folded weights would be rounded where the norms are not.
        folds = args.device.type == "cpu" and self.accelerator.mixed_precision == "no"
        backbone = fold_batch_norms(model) if folds else model
        cache = EmbeddingCache(model, self.features.extractor, cache_dir, self.accelerator.mixed_precision)

        @torch.no_grad()
        def embed(batch: dict[str, torch.Tensor]) -> torch.Tensor:
            inputs = self.features(batch["waveforms"].to(args.device), batch["lengths"])
            with self.accelerator.autocast():
                return self.loaded.embed(backbone, inputs)

        everything = list(self.windows.values())
        size = args.per_device_eval_batch_size
        if args.device.type == "cpu":
            size = min(size, usual_batch_size(args.device))
        of_batch = (size, args.dataloader_num_workers)
        cache.fill(everything, embed, *of_batch, (args.process_index, args.world_size), self.is_world_process_zero())
        self.accelerator.wait_for_everyone()
        cache.fill(everything, embed, *of_batch, verbose=False)  # what another machine has on a disk of its own
        name = self.features.extractor.model_input_names[0]
        weak = {"train": self.debiasing.speak("train")[0]} if self.debiasing else {}
        self.embedded = {
            split: EmbeddedWindows(name, cache.read(part), part, weak.get(split))
            for split, part in self.windows.items()
        }
        self.train_dataset = self.embedded["train"]
        self.eval_dataset = torch.utils.data.Subset(self.embedded["validation"], self.validated)
        self.data_collator = collate_embeddings
        args.dataloader_num_workers, args.dataloader_persistent_workers = 0, False
        self.model = self.model_wrapped = without_backbone(model)
        self.frozen = []

    def _get_dataloader(self, *args, is_training: bool = False, **kwargs) -> torch.utils.data.DataLoader:
        """Trainer's own, but that evaluation keeps its last batch where training drops its."""
        asked = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = asked and is_training
        try:
            self._loaders.append(super()._get_dataloader(*args, is_training=is_training, **kwargs))
        finally:
            self.args.dataloader_drop_last = asked
        return self._loaders[-1]

    def _end_workers(self) -> None:
        """End the workers that loaders keep between epochs.

        Left to the garbage collector, which may close their pipes before it tells them to stop, each of them would be
        waited for for five seconds. PyTorch (as of 2.11) has no public way.
        """
        for loader in self._loaders:
            getattr(loader, "base_dataloader", loader)._iterator = None

    def train(self, *args, **kwargs):
        try:
            return super().train(*args, **kwargs)
        finally:
            self._end_workers()

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        inputs = super()._prepare_inputs(inputs)
        if "waveforms" in inputs:
            inputs = dict(inputs)
            waveforms, lengths, rows = (inputs.pop(name) for name in ("waveforms", "lengths", "rows"))
            inputs.update(self.features(waveforms, lengths))
            if self.debiasing and self.model.training:
                inputs.update(self.debiasing.inputs(waveforms, lengths, rows))
        return inputs

    def compute_loss(self, model, inputs, *args, **kwargs):
        # What does not learn must not change either: batch norms would go on counting, dropout would blur features.
        for module in self.frozen:
            module.eval()
        if not model.training and self.args.device.type == "cpu" and not self.embedded:
            return self._loss_by_parts(model, inputs, *args, **kwargs)
        if not (model.training and self._own_loss):
            return super().compute_loss(model, inputs, *args, **kwargs)
        return self._training_loss(model, dict(inputs), *args, **kwargs)

    def _training_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean loss of a batch that may be augmented, have weights of its labels, or be heard by a weak model too."""
        weak_logits = inputs.pop("weak_logits", None)
        if self.augmentation:
            inputs, targets = self.augmentation(inputs, self.state.global_step)
        else:
            targets = Targets(inputs.pop("labels"))
        outputs = model(**inputs)
        weak_logits = outputs["weak_logits"] if "weak_logits" in outputs else weak_logits
        smoothing = self.args.label_smoothing_factor

        def loss_of(labels: torch.Tensor) -> torch.Tensor:
            if self.debiasing:
                losses = self.debiasing.losses(outputs, weak_logits, labels, smoothing)
            else:
                losses = cross_entropy(outputs["logits"], labels, smoothing=smoothing, reduction="none")
            return losses if self.class_weights is None else losses * self.class_weights[labels]

        loss = targets.mean_loss(loss_of)
        return (loss, outputs) if return_outputs else loss

    def _loss_by_parts(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Of a batch in evaluation, heard by as few windows at once as `usual_batch_size` says."""
        parts = {name: values.split(usual_batch_size(self.args.device)) for name, values in inputs.items()}
        losses, logits = 0.0, []
        for part in zip(*parts.values(), strict=True):
            loss, outputs = super().compute_loss(model, dict(zip(parts, part, strict=True)), return_outputs=True)
            losses += loss * len(outputs["logits"])
            logits.append(outputs["logits"])
        outputs = {"logits": torch.cat(logits)}
        loss = losses / len(outputs["logits"])
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """Trainer's own, its groups split where `layer_lr_decay` or `head_learning_rate` asks for other rates."""
        is_new, args = self.optimizer is None, self.args
        optimizer = super().create_optimizer(model)
        own_rates = args.layer_lr_decay < 1 or args.head_learning_rate is not None
        if is_new and args.learning_rate and (own_rates or (self.pair and args.weak_learning_rate)):
            if self.is_fsdp_enabled:  # which trains flat slices, not the parameters of the layers
                raise UserError("layer_lr_decay and head_learning_rate do not go with FSDP; leave them out")
            of_head = 1.0 if args.head_learning_rate is None else args.head_learning_rate / args.learning_rate
            scales = learning_rate_scales(self.loaded.model, args.layer_lr_decay)
            if self.pair:
                scales.update(dict.fromkeys(self.pair.parameters_beside(), 1.0))
            if self.pair and self.pair.weak and args.weak_learning_rate:
                scale = args.weak_learning_rate / args.learning_rate
                scales.update(dict.fromkeys(self.pair.weak.parameters(), scale))
            optimizer.param_groups = split_by_scale(optimizer.param_groups, scales, of_head)
        return optimizer

    def _clip_grad_norm(self, model) -> torch.Tensor:
        """Norm of the main model's gradients before they are clipped; what learns beside it is clipped apart.

        One norm over both would let the weak model's gradients shrink the main one's step.
        """
        if self.pair is None:
            return super()._clip_grad_norm(model)
        norm = super()._clip_grad_norm(self.pair.main)  # accelerate unscales all gradients here, which may be done once
        torch.nn.utils.clip_grad_norm_(self.pair.parameters_beside(), self.args.max_grad_norm)
        return norm

    def _get_grad_norm(self, model, grad_norm=None):
        """What is logged: the main model's, whether it is clipped or not."""
        return super()._get_grad_norm(self.pair.main if self.pair else model, grad_norm)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if model is not None or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self._load_weights(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            self._load_weights(self.state.best_model_checkpoint)

    def _load_weights(self, folder: str) -> None:
        """Load a checkpoint's weights, every one of them.

        Transformers 5 saves some classes, AST among them, under the key names of their published checkpoints, which
        differ from the names inside the model. `from_pretrained` translates them; Trainer's own loading (as of 5.23)
        does not, warns of missing keys, and goes on with the weights that it has.
        """
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if self.pair:
            load_beside(self.pair, Path(folder))
            model = self.pair.main
        if self.embedded:
            model.load_state_dict(load_file(Path(folder) / SAFE_WEIGHTS_NAME), strict=True)
            return
        saved = type(model).from_pretrained(folder)
        model.load_state_dict(saved.state_dict(), strict=True)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not (self.embedded or self.pair):
            super()._save(output_dir, state_dict)
            return
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        if self.embedded:  # a checkpoint of the head alone
            head = self.pair.main if self.pair else self.model
            save_file(head.state_dict(), folder / SAFE_WEIGHTS_NAME, {"format": "pt"})
        else:
            self.loaded.save(folder)
        if self.pair:
            save_beside(self.pair, folder)
        torch.save(self.args, folder / TRAINING_ARGS_NAME)

    def save_whole(self, folder: Path) -> None:
        """Model and extractor, as they are published. All processes take part."""
        if not (self.embedded or self.pair):
            self.save_model(str(folder), _internal_call=True)
        elif self.args.should_save:
            self.loaded.save(folder)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: Transformers estimates it from token counts, which waveforms do not have."""
        return 0

    def _validation_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        windows = self.windows["validation"]
        probabilities = softmax(prediction.predictions)
        right = probabilities.argmax(axis=1) == windows.label_of_window[self.validated]
        _, by_track = mean_by_track(probabilities, windows.track_of_window[self.validated])
        of_tracks = choice_metrics(by_track, windows.label_of_track)
        return {**{f"track_{name}": score for name, score in of_tracks.items()}, "window_accuracy": float(right.mean())}

    def logits(self, windows: EvaluationWindows) -> np.ndarray:
        """`(windows, labels)` float32, each window once and in order, on any number of processes."""
        metrics, self.compute_metrics = self.compute_metrics, None
        known = [embedded for split, embedded in self.embedded.items() if self.windows[split] is windows]
        try:
            logits = self.predict(*known or [windows]).predictions
        finally:
            self.compute_metrics = metrics
            self._end_workers()
        assert len(logits) == len(windows), f"{len(logits)} logits for {len(windows)} windows"
        return logits.astype(np.float32)

    def test_logits_of(self, model: torch.nn.Module) -> np.ndarray:
        """`(windows, labels)` of the test split by another model that takes the same features, a baseline."""
        other = MusicTrainer(replace(self.loaded, model=model, embeds=False), self.windows, self.args)
        return other.logits(self.windows["test"])
