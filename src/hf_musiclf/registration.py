"""`pipeline("music-classification", model=...)`: known to Transformers wherever this package has been imported.

`import hf_musiclf` loads neither torch nor Transformers. It leaves word to register when `transformers.pipelines` is
imported, and registers at once where it has been.
"""

import sys
from importlib.abc import MetaPathFinder
from types import ModuleType

PIPELINES, TASK = "transformers.pipelines", "music-classification"
IMPL = "hf_musiclf.inference.TrackPipeline"  # imported by Transformers when the first one is made


def register_soon() -> None:
    """Register the task now or after `transformers.pipelines` is imported; once, however often it is called."""
    if PIPELINES in sys.modules:
        register(sys.modules[PIPELINES])
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


def register(pipelines: ModuleType) -> None:
    """Make the task and our architectures known. pipelines: `transformers.pipelines`."""
    if TASK in pipelines.SUPPORTED_TASKS:
        return
    from transformers import AutoModelForAudioClassification

    pipelines.SUPPORTED_TASKS[TASK] = {
        "impl": IMPL,
        "pt": (AutoModelForAudioClassification,),
        "default": {},
        "type": "audio",
    }
    pipelines.AutoConfig = _prefer_ours(pipelines.AutoConfig)
    import hf_musiclf.models.loading  # noqa: F401  its families register what they save


def _prefer_ours(auto_config: type) -> type:
    """What `pipeline` reads configs by; it then takes this package for the file of ours that a saved run carries.

    Transformers asks for trust_remote_code wherever config.json names a pipeline for the task, though the task be
    registered here. Of its models and extractors it takes the registered ones; so it is with this pipeline too.
    """

    class AutoConfig(auto_config):
        @classmethod
        def from_pretrained(cls, *args, **kwargs):
            config = super().from_pretrained(*args, **kwargs)
            custom = getattr(config, "custom_pipelines", None) or {}
            ours = custom.get(TASK, {}).get("impl") == "music_pipeline.MusicClassificationPipeline"
            if ours and kwargs.get("_from_pipeline") == TASK:
                config.custom_pipelines = {task: entry for task, entry in custom.items() if task != TASK}
            return config

    return AutoConfig


class _AfterImport(MetaPathFinder):
    """Finds nothing itself: has `transformers.pipelines` found by the others, and registers once it is loaded."""

    def find_spec(self, name, path=None, target=None):
        if name != PIPELINES:
            return None
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in found if spec), None)
        if spec is None:
            return None
        load = spec.loader.exec_module

        def load_and_register(module: ModuleType) -> None:
            sys.meta_path.remove(self)
            load(module)
            register(module)

        spec.loader.exec_module = load_and_register
        return spec
