"""Where a vision model keeps its information: the information scope of sparse-autoencoder features.

Nothing heavy is imported until a name is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from infoscope.backbones.backbone import Backbone
    from infoscope.backbones.loading import load_backbone
    from infoscope.comparison.compared import compare_runs
    from infoscope.comparison.page import write_comparison
    from infoscope.comparison.sweep import sweep_blocks
    from infoscope.demo.demo import DemoResult, run_demo
    from infoscope.dictionaries.activation_form import register_activation
    from infoscope.dictionaries.activations import Activation, Gated, JumpReLU, ReLU, TopK
    from infoscope.dictionaries.loading import load_sae, save_sae, save_saelens
    from infoscope.dictionaries.sae import SparseAutoencoder
    from infoscope.errors import InfoscopeError
    from infoscope.execution.config import Execution
    from infoscope.figures.figure import figure
    from infoscope.figures.options import FigureOptions
    from infoscope.figures.paper import save_figure
    from infoscope.groups.group import FeatureGroup
    from infoscope.groups.naming import named_group
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
    from infoscope.probes.classification import classification_task
    from infoscope.probes.config import ProbeConfig
    from infoscope.probes.depth import depth_task
    from infoscope.probes.depth_sets import open_depths, open_nyu
    from infoscope.probes.labelled_images import open_labelled
    from infoscope.probes.probe import probe_groups
    from infoscope.probes.result import ProbeResult, open_probe
    from infoscope.probes.segmentation import segmentation_task
    from infoscope.probes.segmentation_sets import open_masks, open_segmentation
    from infoscope.removal.config import RemovalConfig
    from infoscope.removal.edited import EditedBackbone
    from infoscope.removal.planning import plan_variants
    from infoscope.removal.statistics import read_statistics
    from infoscope.removal.variant import Variant
    from infoscope.report.page import write_report
    from infoscope.scope.partition import Partition
    from infoscope.selection.config import SelectConfig
    from infoscope.selection.result import Selection
    from infoscope.selection.select import select_features
    from infoscope.storage.run import Feature, Run, open_run
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
    "Activation": "dictionaries.activations",
    "Backbone": "backbones.backbone",
    "ClassEmbeddings": "zeroshot.embeddings",
    "Classes": "zeroshot.classes",
    "DemoResult": "demo.demo",
    "EditedBackbone": "removal.edited",
    "Execution": "execution.config",
    "Feature": "storage.run",
    "FeatureGroup": "groups.group",
    "FigureOptions": "figures.options",
    "Gated": "dictionaries.activations",
    "ImageSource": "images.source",
    "InfoscopeError": "errors",
    "JumpReLU": "dictionaries.activations",
    "MeasureConfig": "measurement.config",
    "OutlierConfig": "outliers.config",
    "OutlierResult": "outliers.result",
    "Partition": "scope.partition",
    "Planted": "planted.plant",
    "PlantedConfig": "planted.config",
    "ProbeConfig": "probes.config",
    "ProbeResult": "probes.result",
    "ReLU": "dictionaries.activations",
    "RemovalConfig": "removal.config",
    "Run": "storage.run",
    "Scope": "measurement.scope",
    "SelectConfig": "selection.config",
    "Selection": "selection.result",
    "SparseAutoencoder": "dictionaries.sae",
    "TopK": "dictionaries.activations",
    "TrainConfig": "training.config",
    "ValidateConfig": "validation.config",
    "Validation": "validation.validate",
    "Variant": "removal.variant",
    "ZeroshotResult": "zeroshot.result",
    "check_fit": "measurement.fit",
    "class_embeddings": "zeroshot.embeddings",
    "classification_task": "probes.classification",
    "compare_runs": "comparison.compared",
    "depth_task": "probes.depth",
    "embed_classes": "zeroshot.text",
    "figure": "figures.figure",
    "load_backbone": "backbones.loading",
    "load_sae": "dictionaries.loading",
    "make_dictionary": "training.untrained",
    "measure_outliers": "outliers.measure",
    "measure_scope": "measurement.measure",
    "measure_zeroshot": "zeroshot.measure",
    "named_group": "groups.naming",
    "open_depths": "probes.depth_sets",
    "open_images": "images.source",
    "open_labelled": "probes.labelled_images",
    "open_masks": "probes.segmentation_sets",
    "open_nyu": "probes.depth_sets",
    "open_probe": "probes.result",
    "open_run": "storage.run",
    "open_segmentation": "probes.segmentation_sets",
    "plan_variants": "removal.planning",
    "plant": "planted.plant",
    "plant_into": "planted.plant",
    "planted_config": "planted.config",
    "probe_groups": "probes.probe",
    "read_classes": "zeroshot.classes",
    "read_embeddings": "zeroshot.embeddings",
    "read_statistics": "removal.statistics",
    "register_activation": "dictionaries.activation_form",
    "run_demo": "demo.demo",
    "save_figure": "figures.paper",
    "save_sae": "dictionaries.loading",
    "save_saelens": "dictionaries.loading",
    "segmentation_task": "probes.segmentation",
    "select_features": "selection.select",
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
