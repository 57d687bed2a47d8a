"""Several saved models as one: the mean of what they say of a whole track, tested where all were held out."""

from hf_musiclf.ensembles.scoring import Ensemble, EnsembleScores, open_classifier

__all__ = ["Ensemble", "EnsembleScores", "open_classifier"]
