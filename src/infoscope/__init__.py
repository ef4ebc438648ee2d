"""Where a vision model keeps its information: the information scope of sparse-autoencoder features.

Nothing heavy is imported until a name is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from infoscope.analyses.comparison import compare_runs
    from infoscope.analyses.outliers.config import OutlierConfig
    from infoscope.analyses.outliers.measure import measure_outliers
    from infoscope.analyses.outliers.result import OutlierResult
    from infoscope.analyses.planted.config import PlantedConfig, planted_config
    from infoscope.analyses.planted.plant import Planted, plant, plant_into
    from infoscope.analyses.probes.classification import classification_task
    from infoscope.analyses.probes.config import ProbeConfig
    from infoscope.analyses.probes.depth import depth_task
    from infoscope.analyses.probes.depth_sets import open_depths, open_nyu
    from infoscope.analyses.probes.labelled_images import open_labelled
    from infoscope.analyses.probes.probe import probe_groups
    from infoscope.analyses.probes.result import ProbeResult, open_probe
    from infoscope.analyses.probes.segmentation import segmentation_task
    from infoscope.analyses.probes.segmentation_sets import open_masks, open_segmentation
    from infoscope.analyses.removal.config import RemovalConfig
    from infoscope.analyses.removal.edited import EditedBackbone
    from infoscope.analyses.removal.groups import FeatureGroup, named_group
    from infoscope.analyses.removal.statistics import read_statistics
    from infoscope.analyses.removal.variants import Variant, plan_variants
    from infoscope.analyses.selection.config import SelectConfig
    from infoscope.analyses.selection.result import Selection
    from infoscope.analyses.selection.select import select_features
    from infoscope.analyses.sweep import sweep_blocks
    from infoscope.analyses.validation.config import ValidateConfig
    from infoscope.analyses.validation.validate import Validation, validate
    from infoscope.analyses.zeroshot.classes import Classes, read_classes
    from infoscope.analyses.zeroshot.embeddings import (
        ClassEmbeddings,
        class_embeddings,
        read_embeddings,
        write_embeddings,
    )
    from infoscope.analyses.zeroshot.measure import measure_zeroshot
    from infoscope.analyses.zeroshot.result import ZeroshotResult
    from infoscope.analyses.zeroshot.text import embed_classes
    from infoscope.backbones.backbone import Backbone
    from infoscope.backbones.loading import load_backbone
    from infoscope.demo.demo import DemoResult, run_demo
    from infoscope.dictionaries.activations import Activation, Gated, JumpReLU, ReLU, TopK, register_activation
    from infoscope.dictionaries.loading import load_sae, save_sae, save_saelens
    from infoscope.dictionaries.sae import SparseAutoencoder
    from infoscope.errors import InfoscopeError
    from infoscope.images.source import ImageSource, open_images
    from infoscope.measurement.config import MeasureConfig
    from infoscope.measurement.fit import check_fit
    from infoscope.measurement.measure import measure_scope
    from infoscope.measurement.result import Scope
    from infoscope.runtime.execution import Execution
    from infoscope.runtime.run import Feature, Run, open_run
    from infoscope.scope.partition import Partition
    from infoscope.training.config import TrainConfig
    from infoscope.training.from_cache import train_on_cache
    from infoscope.training.train import train_sae, train_saes
    from infoscope.training.untrained import make_dictionary
    from infoscope.views.comparison.page import write_comparison
    from infoscope.views.figures.figure import figure
    from infoscope.views.figures.options import FigureOptions
    from infoscope.views.figures.paper import save_figure
    from infoscope.views.report.page import write_report

_HOMES = {
    "Activation": "dictionaries.activations",
    "Backbone": "backbones.backbone",
    "ClassEmbeddings": "analyses.zeroshot.embeddings",
    "Classes": "analyses.zeroshot.classes",
    "DemoResult": "demo.demo",
    "EditedBackbone": "analyses.removal.edited",
    "Execution": "runtime.execution",
    "Feature": "runtime.run",
    "FeatureGroup": "analyses.removal.groups",
    "FigureOptions": "views.figures.options",
    "Gated": "dictionaries.activations",
    "ImageSource": "images.source",
    "InfoscopeError": "errors",
    "JumpReLU": "dictionaries.activations",
    "MeasureConfig": "measurement.config",
    "OutlierConfig": "analyses.outliers.config",
    "OutlierResult": "analyses.outliers.result",
    "Partition": "scope.partition",
    "Planted": "analyses.planted.plant",
    "PlantedConfig": "analyses.planted.config",
    "ProbeConfig": "analyses.probes.config",
    "ProbeResult": "analyses.probes.result",
    "ReLU": "dictionaries.activations",
    "RemovalConfig": "analyses.removal.config",
    "Run": "runtime.run",
    "Scope": "measurement.result",
    "SelectConfig": "analyses.selection.config",
    "Selection": "analyses.selection.result",
    "SparseAutoencoder": "dictionaries.sae",
    "TopK": "dictionaries.activations",
    "TrainConfig": "training.config",
    "ValidateConfig": "analyses.validation.config",
    "Validation": "analyses.validation.validate",
    "Variant": "analyses.removal.variants",
    "ZeroshotResult": "analyses.zeroshot.result",
    "check_fit": "measurement.fit",
    "class_embeddings": "analyses.zeroshot.embeddings",
    "classification_task": "analyses.probes.classification",
    "compare_runs": "analyses.comparison",
    "depth_task": "analyses.probes.depth",
    "embed_classes": "analyses.zeroshot.text",
    "figure": "views.figures.figure",
    "load_backbone": "backbones.loading",
    "load_sae": "dictionaries.loading",
    "make_dictionary": "training.untrained",
    "measure_outliers": "analyses.outliers.measure",
    "measure_scope": "measurement.measure",
    "measure_zeroshot": "analyses.zeroshot.measure",
    "named_group": "analyses.removal.groups",
    "open_depths": "analyses.probes.depth_sets",
    "open_images": "images.source",
    "open_labelled": "analyses.probes.labelled_images",
    "open_masks": "analyses.probes.segmentation_sets",
    "open_nyu": "analyses.probes.depth_sets",
    "open_probe": "analyses.probes.result",
    "open_run": "runtime.run",
    "open_segmentation": "analyses.probes.segmentation_sets",
    "plan_variants": "analyses.removal.variants",
    "plant": "analyses.planted.plant",
    "plant_into": "analyses.planted.plant",
    "planted_config": "analyses.planted.config",
    "probe_groups": "analyses.probes.probe",
    "read_classes": "analyses.zeroshot.classes",
    "read_embeddings": "analyses.zeroshot.embeddings",
    "read_statistics": "analyses.removal.statistics",
    "register_activation": "dictionaries.activations",
    "run_demo": "demo.demo",
    "save_figure": "views.figures.paper",
    "save_sae": "dictionaries.loading",
    "save_saelens": "dictionaries.loading",
    "segmentation_task": "analyses.probes.segmentation",
    "select_features": "analyses.selection.select",
    "sweep_blocks": "analyses.sweep",
    "train_on_cache": "training.from_cache",
    "train_sae": "training.train",
    "train_saes": "training.train",
    "validate": "analyses.validation.validate",
    "write_comparison": "views.comparison.page",
    "write_embeddings": "analyses.zeroshot.embeddings",
    "write_report": "views.report.page",
}

__all__ = [
    "Activation",
    "Backbone",
    "ClassEmbeddings",
    "Classes",
    "DemoResult",
    "EditedBackbone",
    "Execution",
    "Feature",
    "FeatureGroup",
    "FigureOptions",
    "Gated",
    "ImageSource",
    "InfoscopeError",
    "JumpReLU",
    "MeasureConfig",
    "OutlierConfig",
    "OutlierResult",
    "Partition",
    "Planted",
    "PlantedConfig",
    "ProbeConfig",
    "ProbeResult",
    "ReLU",
    "RemovalConfig",
    "Run",
    "Scope",
    "SelectConfig",
    "Selection",
    "SparseAutoencoder",
    "TopK",
    "TrainConfig",
    "ValidateConfig",
    "Validation",
    "Variant",
    "ZeroshotResult",
    "check_fit",
    "class_embeddings",
    "classification_task",
    "compare_runs",
    "depth_task",
    "embed_classes",
    "figure",
    "load_backbone",
    "load_sae",
    "make_dictionary",
    "measure_outliers",
    "measure_scope",
    "measure_zeroshot",
    "named_group",
    "open_depths",
    "open_images",
    "open_labelled",
    "open_masks",
    "open_nyu",
    "open_probe",
    "open_run",
    "open_segmentation",
    "plan_variants",
    "plant",
    "plant_into",
    "planted_config",
    "probe_groups",
    "read_classes",
    "read_embeddings",
    "read_statistics",
    "register_activation",
    "run_demo",
    "save_figure",
    "save_sae",
    "save_saelens",
    "segmentation_task",
    "select_features",
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
