"""Where a vision model keeps its information: the information scope of sparse-autoencoder features.

The names below are public, and all others may change. Nothing heavy is imported until one is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # type checkers and editors cannot follow `__getattr__`
    from infoscope.analyses.comparison import compare_runs as compare_runs
    from infoscope.analyses.outliers.config import OutlierConfig as OutlierConfig
    from infoscope.analyses.outliers.measure import measure_outliers as measure_outliers
    from infoscope.analyses.outliers.result import OutlierResult as OutlierResult
    from infoscope.analyses.planted.config import PlantedConfig as PlantedConfig
    from infoscope.analyses.planted.config import planted_config as planted_config
    from infoscope.analyses.planted.plant import Planted as Planted
    from infoscope.analyses.planted.plant import plant as plant
    from infoscope.analyses.planted.plant import plant_into as plant_into
    from infoscope.analyses.planted_blobs.config import BlobsConfig as BlobsConfig
    from infoscope.analyses.planted_blobs.config import blobs_config as blobs_config
    from infoscope.analyses.planted_blobs.plant import PlantedBlobs as PlantedBlobs
    from infoscope.analyses.planted_blobs.plant import plant_blobs as plant_blobs
    from infoscope.analyses.predictors.config import PredictorConfig as PredictorConfig
    from infoscope.analyses.predictors.measure import measure_predictors as measure_predictors
    from infoscope.analyses.predictors.result import PredictorResult as PredictorResult
    from infoscope.analyses.predictors.result import open_predictors as open_predictors
    from infoscope.analyses.probes.classification import classification_task as classification_task
    from infoscope.analyses.probes.config import ProbeConfig as ProbeConfig
    from infoscope.analyses.probes.depth import depth_task as depth_task
    from infoscope.analyses.probes.depth_sets import open_depths as open_depths
    from infoscope.analyses.probes.depth_sets import open_nyu as open_nyu
    from infoscope.analyses.probes.labelled_images import open_labelled as open_labelled
    from infoscope.analyses.probes.probe import probe_groups as probe_groups
    from infoscope.analyses.probes.result import ProbeResult as ProbeResult
    from infoscope.analyses.probes.result import open_probe as open_probe
    from infoscope.analyses.probes.segmentation import segmentation_task as segmentation_task
    from infoscope.analyses.probes.segmentation_sets import open_masks as open_masks
    from infoscope.analyses.probes.segmentation_sets import open_segmentation as open_segmentation
    from infoscope.analyses.removal.config import RemovalConfig as RemovalConfig
    from infoscope.analyses.removal.edited import EditedBackbone as EditedBackbone
    from infoscope.analyses.removal.groups import FeatureGroup as FeatureGroup
    from infoscope.analyses.removal.groups import named_group as named_group
    from infoscope.analyses.removal.statistics import read_statistics as read_statistics
    from infoscope.analyses.removal.variants import Variant as Variant
    from infoscope.analyses.removal.variants import plan_variants as plan_variants
    from infoscope.analyses.selection.config import SelectConfig as SelectConfig
    from infoscope.analyses.selection.result import Selection as Selection
    from infoscope.analyses.selection.select import select_features as select_features
    from infoscope.analyses.sweep import sweep_blocks as sweep_blocks
    from infoscope.analyses.validation.config import ValidateConfig as ValidateConfig
    from infoscope.analyses.validation.validate import Validation as Validation
    from infoscope.analyses.validation.validate import validate as validate
    from infoscope.analyses.zeroshot.classes import Classes as Classes
    from infoscope.analyses.zeroshot.classes import read_classes as read_classes
    from infoscope.analyses.zeroshot.embeddings import ClassEmbeddings as ClassEmbeddings
    from infoscope.analyses.zeroshot.embeddings import class_embeddings as class_embeddings
    from infoscope.analyses.zeroshot.embeddings import read_embeddings as read_embeddings
    from infoscope.analyses.zeroshot.embeddings import write_embeddings as write_embeddings
    from infoscope.analyses.zeroshot.measure import measure_zeroshot as measure_zeroshot
    from infoscope.analyses.zeroshot.result import ZeroshotResult as ZeroshotResult
    from infoscope.analyses.zeroshot.text import embed_classes as embed_classes
    from infoscope.backbones.backbone import Backbone as Backbone
    from infoscope.backbones.loading import load_backbone as load_backbone
    from infoscope.backbones.moved_registers import move_registers as move_registers
    from infoscope.backbones.moved_registers import save_moved as save_moved
    from infoscope.demo.demo import DemoResult as DemoResult
    from infoscope.demo.demo import run_demo as run_demo
    from infoscope.dictionaries.activations import Activation as Activation
    from infoscope.dictionaries.activations import Gated as Gated
    from infoscope.dictionaries.activations import JumpReLU as JumpReLU
    from infoscope.dictionaries.activations import ReLU as ReLU
    from infoscope.dictionaries.activations import TopK as TopK
    from infoscope.dictionaries.activations import register_activation as register_activation
    from infoscope.dictionaries.formats.infoscope import save_sae as save_sae
    from infoscope.dictionaries.formats.saelens import save_saelens as save_saelens
    from infoscope.dictionaries.loading import load_sae as load_sae
    from infoscope.dictionaries.sae import SparseAutoencoder as SparseAutoencoder
    from infoscope.errors import InfoscopeError as InfoscopeError
    from infoscope.images.source import ImageSource as ImageSource
    from infoscope.images.source import open_images as open_images
    from infoscope.measurement.config import MeasureConfig as MeasureConfig
    from infoscope.measurement.fit import check_fit as check_fit
    from infoscope.measurement.measure import measure_scope as measure_scope
    from infoscope.measurement.rejudge import judge_run as judge_run
    from infoscope.measurement.result import Scope as Scope
    from infoscope.runtime.execution import Execution as Execution
    from infoscope.runtime.run import Feature as Feature
    from infoscope.runtime.run import Run as Run
    from infoscope.runtime.run import open_run as open_run
    from infoscope.scope.partition import Partition as Partition
    from infoscope.training.config import TrainConfig as TrainConfig
    from infoscope.training.from_cache import train_on_cache as train_on_cache
    from infoscope.training.train import train_sae as train_sae
    from infoscope.training.train import train_saes as train_saes
    from infoscope.training.untrained import make_dictionary as make_dictionary
    from infoscope.views.comparison.page import write_comparison as write_comparison
    from infoscope.views.figures.figure import figure as figure
    from infoscope.views.figures.options import FigureOptions as FigureOptions
    from infoscope.views.figures.paper import save_figure as save_figure
    from infoscope.views.report.page import write_report as write_report

_NAMES = {
    "analyses.comparison": "compare_runs",
    "analyses.outliers.config": "OutlierConfig",
    "analyses.outliers.measure": "measure_outliers",
    "analyses.outliers.result": "OutlierResult",
    "analyses.planted.config": "PlantedConfig planted_config",
    "analyses.planted.plant": "Planted plant plant_into",
    "analyses.planted_blobs.config": "BlobsConfig blobs_config",
    "analyses.planted_blobs.plant": "PlantedBlobs plant_blobs",
    "analyses.predictors.config": "PredictorConfig",
    "analyses.predictors.measure": "measure_predictors",
    "analyses.predictors.result": "PredictorResult open_predictors",
    "analyses.probes.classification": "classification_task",
    "analyses.probes.config": "ProbeConfig",
    "analyses.probes.depth": "depth_task",
    "analyses.probes.depth_sets": "open_depths open_nyu",
    "analyses.probes.labelled_images": "open_labelled",
    "analyses.probes.probe": "probe_groups",
    "analyses.probes.result": "ProbeResult open_probe",
    "analyses.probes.segmentation": "segmentation_task",
    "analyses.probes.segmentation_sets": "open_masks open_segmentation",
    "analyses.removal.config": "RemovalConfig",
    "analyses.removal.edited": "EditedBackbone",
    "analyses.removal.groups": "FeatureGroup named_group",
    "analyses.removal.statistics": "read_statistics",
    "analyses.removal.variants": "Variant plan_variants",
    "analyses.selection.config": "SelectConfig",
    "analyses.selection.result": "Selection",
    "analyses.selection.select": "select_features",
    "analyses.sweep": "sweep_blocks",
    "analyses.validation.config": "ValidateConfig",
    "analyses.validation.validate": "Validation validate",
    "analyses.zeroshot.classes": "Classes read_classes",
    "analyses.zeroshot.embeddings": "ClassEmbeddings class_embeddings read_embeddings write_embeddings",
    "analyses.zeroshot.measure": "measure_zeroshot",
    "analyses.zeroshot.result": "ZeroshotResult",
    "analyses.zeroshot.text": "embed_classes",
    "backbones.backbone": "Backbone",
    "backbones.loading": "load_backbone",
    "backbones.moved_registers": "move_registers save_moved",
    "demo.demo": "DemoResult run_demo",
    "dictionaries.activations": "Activation Gated JumpReLU ReLU TopK register_activation",
    "dictionaries.loading": "load_sae save_sae save_saelens",
    "dictionaries.sae": "SparseAutoencoder",
    "errors": "InfoscopeError",
    "images.source": "ImageSource open_images",
    "measurement.config": "MeasureConfig",
    "measurement.fit": "check_fit",
    "measurement.measure": "measure_scope",
    "measurement.rejudge": "judge_run",
    "measurement.result": "Scope",
    "runtime.execution": "Execution",
    "runtime.run": "Feature Run open_run",
    "scope.partition": "Partition",
    "training.config": "TrainConfig",
    "training.from_cache": "train_on_cache",
    "training.train": "train_sae train_saes",
    "training.untrained": "make_dictionary",
    "views.comparison.page": "write_comparison",
    "views.figures.figure": "figure",
    "views.figures.options": "FigureOptions",
    "views.figures.paper": "save_figure",
    "views.report.page": "write_report",
}
# Each public name's module.
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"infoscope.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'infoscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
