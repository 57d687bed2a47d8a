"""From tracks, windows and a model to a trainer: what comes before all layers learn."""

from dataclasses import replace

from accelerate.utils import release_memory

from hf_musiclf.arguments import DataArguments, RecipeTrainingArguments
from hf_musiclf.augmentation import check_augmentation
from hf_musiclf.data.loading import cut_windows
from hf_musiclf.data.tracks import Tracks
from hf_musiclf.data.window_dataset import EvaluationWindows, RandomWindows, check_shortest
from hf_musiclf.debiasing import tell
from hf_musiclf.experts import make_debiasing, weights_of
from hf_musiclf.models.loading import FROM_SCRATCH, LoadedModel, quiet_transformers
from hf_musiclf.models.standardisation import set_standardisation
from hf_musiclf.runs import Run
from hf_musiclf.trainer import MusicTrainer

# Of a head alone, on embeddings: what recipes/configs/head.yaml takes.
HEAD_LEARNING_RATE = 3e-3


def make_trainer(
    run: Run,
    loaded: LoadedModel,
    tracks: Tracks,
    windows: dict[str, EvaluationWindows | RandomWindows],
    data_args: DataArguments,
    args: RecipeTrainingArguments,
) -> MusicTrainer:
    """The trainer of a recipe, after the stages that its arguments ask for: a head that learns first, a weak model.

    A run that goes on from a checkpoint has the head behind it; the weak model it takes from where it is kept. Raises
    UserError where that is another one than the checkpoint was trained beside, and for a track that is too short.
    """
    check_shortest(windows, loaded.features)  # before another model trains, too
    check_augmentation(loaded.features, args)
    learns = any(parameter.requires_grad for parameter in loaded.model.base_model.parameters())
    if not (run.checkpoint and learns):  # a checkpoint of a head alone is without them
        told = set_standardisation(loaded.model, loaded.features, windows["train"], args.seed)
        if told and run.is_main:
            print(told, flush=True)
    weights = weights_of(windows["train"], tracks, data_args)
    # A head on random features learns nothing; where the head alone learns, its own training does it; and beside a weak
    # model it would begin with the very shortcuts that are not to be learnt.
    wanted = args.head_first_epochs and args.debias == "none" and loaded.facts["start"] != FROM_SCRATCH
    if args.head_first_epochs and args.debias != "none" and run.is_main:
        print(
            f"head_first_epochs={args.head_first_epochs}: not beside a weak model, all layers learn at once", flush=True
        )
    if wanted and learns and not run.checkpoint:
        rate = loaded.features.sampling_rate
        every = cut_windows(tracks, replace(data_args, train_windows="all"), rate, args.seed)
        train_head_first(loaded, every, args, data_args.cache_dir, weights)
    debiasing = None
    if args.debias != "none":
        debiasing = make_debiasing(loaded, tracks, data_args, args)
        if run.checkpoint:
            debiasing.check_checkpoint(run.checkpoint)
        if not debiasing.joint:  # of which there is nothing to tell yet
            about = debiasing.describe()
            if run.is_main:
                print(tell(about), flush=True)
    return MusicTrainer(loaded, windows, args, data_args.cache_dir, weights, debiasing)


def train_head_first(
    loaded: LoadedModel,
    windows: dict[str, EvaluationWindows],
    args: RecipeTrainingArguments,
    cache_dir: str | None,
    weights=None,
) -> None:
    """Train the new head alone for `args.head_first_epochs`, on kept embeddings; then every layer may learn as before.

    A head that starts at random pulls the backbone away from what it has learnt: first the probe, then fine-tuning
    (LP-FT; Kumar et al., ICLR 2022). windows: all of them, see `cut_windows`. weights: of each label's loss, as
    MusicTrainer takes them. Nothing is written but embeddings.
    """
    learns = [(parameter, parameter.requires_grad) for parameter in loaded.model.parameters()]
    loaded.model.base_model.requires_grad_(False)
    of_head = args.plain()
    of_head.num_train_epochs, of_head.learning_rate = args.head_first_epochs, HEAD_LEARNING_RATE
    of_head.cache_embeddings = True
    with quiet_transformers():
        MusicTrainer(loaded, windows, of_head, cache_dir, weights).train()
    release_memory()  # a trainer stands in cycles, and its optimizer with it
    for parameter, learnt in learns:
        parameter.requires_grad_(learnt)
