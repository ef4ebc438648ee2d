"""Where a vision model keeps its information: the information scope of sparse-autoencoder features.

Nothing heavy is imported until a name is used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# torch and numba bring a pool of OpenMP threads each. By default both spin while they wait, and on few cores the one
# then starves the other; this must be set before either is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if TYPE_CHECKING:
    from infoscope.backbones.backbone import Backbone
    from infoscope.backbones.loading import load_backbone
    from infoscope.comparison.compared import compare_runs
    from infoscope.comparison.page import write_comparison
    from infoscope.comparison.sweep import sweep_blocks
    from infoscope.dictionaries.loading import load_sae, save_sae, save_saelens
    from infoscope.dictionaries.sae import SparseAutoencoder
    from infoscope.errors import InfoscopeError
    from infoscope.execution.config import Execution
    from infoscope.images.source import ImageSource, open_images
    from infoscope.measurement.config import MeasureConfig
    from infoscope.measurement.fit import check_fit
    from infoscope.measurement.measure import measure_scope
    from infoscope.measurement.scope import Scope
    from infoscope.outliers.config import OutlierConfig
    from infoscope.outliers.measure import measure_outliers
    from infoscope.outliers.result import OutlierResult
    from infoscope.planted.config import PlantedConfig, planted_config
    from infoscope.planted.plant import Planted, plant, plant_into
    from infoscope.report.page import write_report
    from infoscope.scope.partition import Partition
    from infoscope.storage.run import Run, open_run
    from infoscope.training.config import TrainConfig
    from infoscope.training.from_cache import train_on_cache
    from infoscope.training.train import train_sae, train_saes
    from infoscope.training.untrained import make_dictionary
    from infoscope.validation.config import ValidateConfig
    from infoscope.validation.validate import Validation, validate
    from infoscope.zeroshot.classes import Classes, read_classes
    from infoscope.zeroshot.embeddings import ClassEmbeddings, class_embeddings, read_embeddings, write_embeddings
    from infoscope.zeroshot.measure import measure_zeroshot
    from infoscope.zeroshot.result import ZeroshotResult
    from infoscope.zeroshot.text import embed_classes

_HOMES = {
    "Backbone": "backbones.backbone",
    "ClassEmbeddings": "zeroshot.embeddings",
    "Classes": "zeroshot.classes",
    "Execution": "execution.config",
    "ImageSource": "images.source",
    "InfoscopeError": "errors",
    "MeasureConfig": "measurement.config",
    "OutlierConfig": "outliers.config",
    "OutlierResult": "outliers.result",
    "Partition": "scope.partition",
    "Planted": "planted.plant",
    "PlantedConfig": "planted.config",
    "Run": "storage.run",
    "Scope": "measurement.scope",
    "SparseAutoencoder": "dictionaries.sae",
    "TrainConfig": "training.config",
    "ValidateConfig": "validation.config",
    "Validation": "validation.validate",
    "ZeroshotResult": "zeroshot.result",
    "check_fit": "measurement.fit",
    "class_embeddings": "zeroshot.embeddings",
    "compare_runs": "comparison.compared",
    "embed_classes": "zeroshot.text",
    "load_backbone": "backbones.loading",
    "load_sae": "dictionaries.loading",
    "make_dictionary": "training.untrained",
    "measure_outliers": "outliers.measure",
    "measure_scope": "measurement.measure",
    "measure_zeroshot": "zeroshot.measure",
    "open_images": "images.source",
    "open_run": "storage.run",
    "plant": "planted.plant",
    "plant_into": "planted.plant",
    "planted_config": "planted.config",
    "read_classes": "zeroshot.classes",
    "read_embeddings": "zeroshot.embeddings",
    "save_sae": "dictionaries.loading",
    "save_saelens": "dictionaries.loading",
    "sweep_blocks": "comparison.sweep",
    "train_on_cache": "training.from_cache",
    "train_sae": "training.train",
    "train_saes": "training.train",
    "validate": "validation.validate",
    "write_comparison": "comparison.page",
    "write_embeddings": "zeroshot.embeddings",
    "write_report": "report.page",
}

__all__ = [
    "Backbone",
    "ClassEmbeddings",
    "Classes",
    "Execution",
    "ImageSource",
    "InfoscopeError",
    "MeasureConfig",
    "OutlierConfig",
    "OutlierResult",
    "Partition",
    "Planted",
    "PlantedConfig",
    "Run",
    "Scope",
    "SparseAutoencoder",
    "TrainConfig",
    "ValidateConfig",
    "Validation",
    "ZeroshotResult",
    "check_fit",
    "class_embeddings",
    "compare_runs",
    "embed_classes",
    "load_backbone",
    "load_sae",
    "make_dictionary",
    "measure_outliers",
    "measure_scope",
    "measure_zeroshot",
    "open_images",
    "open_run",
    "plant",
    "plant_into",
    "planted_config",
    "read_classes",
    "read_embeddings",
    "save_sae",
    "save_saelens",
    "sweep_blocks",
    "train_on_cache",
    "train_sae",
    "train_saes",
    "validate",
    "write_comparison",
    "write_embeddings",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"infoscope.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'infoscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
