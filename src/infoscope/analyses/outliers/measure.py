"""`measure_outliers`: from a model and images, and a run where there is one, to what its outlier tokens are doing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from infoscope.analyses.outliers.config import Cutoff, OutlierConfig
from infoscope.analyses.outliers.cutoffs import PRESENT_SHARE, BlockNorms, describe_norms
from infoscope.analyses.outliers.groups import activate_groups, rank_with_cds
from infoscope.analyses.outliers.judging import judge_places, judge_presence, judge_stability
from infoscope.analyses.outliers.masks import shift_masks
from infoscope.analyses.outliers.norm_pass import Norms, read_norms, sample_of
from infoscope.analyses.outliers.probing import plan_probes
from infoscope.analyses.outliers.record import FORMAT_VERSION, CutoffUsed, Groups, OutlierRecord
from infoscope.analyses.outliers.result import (
    OutlierResult,
    blocks_table,
    features_table,
    norms_table,
    positions_table,
    stability_table,
)
from infoscope.analyses.outliers.tokens import FeatureSums, read_tokens
from infoscope.analyses.removal.groups import feature_groups
from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.labels import FolderLabels, labels_of
from infoscope.images.source import Images, ids_sha256, notes_of, open_images
from infoscope.images.views import Views
from infoscope.images.watched import Watched, watch
from infoscope.measurement.identity import check_belongs, dictionary_record, model_record, say_other_images
from infoscope.runtime.execution import Execution, split_options
from infoscope.runtime.manifest import ImagesRecord, SkippedImage, software_versions
from infoscope.runtime.progress import Clock
from infoscope.runtime.run import Run

DEFAULT_SHIFT = 2


def measure_outliers(
    backbone: Backbone,
    images: Images,
    config: OutlierConfig | None = None,
    *,
    run: Run | None = None,
    sae: SparseAutoencoder | None = None,
    labels: FolderLabels | Sequence[str] | None = None,
    out: Path | str | None = None,
    execution: Execution | None = None,
    command: str = "infoscope.measure_outliers",
    **options: Any,
) -> OutlierResult:
    """Find a model's outlier tokens, or say that it has none, and measure what they do (method, section 6).

    Norms of the residual stream are read at every block, before any final norm. Where outlier tokens sit, how they
    move under a shift and what they carry is measured at the backbone's block. Without outlier tokens the same is
    measured of the tail above the cutoff, and called so.

    Args:
        backbone: the model, at the block of the analyses.
        images: the images: a source, or what `infoscope.open_images` opens.
        config: the options (see `OutlierConfig`).
        run: a finished run at this block, for its feature groups, shift and resize.
        sae: the dictionary that the run measured; needed with a run.
        labels: ``folder`` for the name of each image's folder, or one label an image: for the label probe.
        out: a folder to write; without it nothing is written.
        execution: how the passes run; it changes memory and speed, not the result.
        command: how this was asked for, for the record.
        **options: options of ``config`` and ``execution`` by name, such as ``cutoff="percentile"``; they
            come before theirs.

    Raises:
        InfoscopeError: run, model and SAE do not belong together, labels do not fit, no image can be read, or ``out``
            cannot be written.

    Example:
        >>> import tempfile
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        ...                    image_size=64, patch_size=8)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=-1, device="cpu")
        >>> photographs = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
        >>> found = measure_outliers(backbone, photographs)
        >>> found.record.presence.kind, found.blocks.height
        ('tail', 2)
    """
    own, execution = split_options(OutlierConfig, execution, options)
    config = replace(config or OutlierConfig(), **own)
    images = watch(open_images(images))
    settings = _settings(config, run)
    views = Views(backbone.patch_size, backbone.grid, settings["shift"], settings["resize"], settings["shifts"])
    if run is not None or sae is not None:
        sae = _checked(backbone, sae, run)
    label = None if labels is None else labels_of(images, labels)
    if run is not None:
        say_other_images(run, images)
    clock = Clock()

    with clock("norms"):
        norms = read_norms(backbone, images, views, sample_of(len(images), config.sample_images), execution)
        blocks = [describe_norms(norms.patches[:, at].ravel(), config.cutoff_value) for at in range(backbone.blocks)]
    cut = _Cut.of(config.cutoff, blocks, backbone.block)
    outlier = norms.outliers(backbone.block, cut.threshold)
    with clock("shift"):
        shifts = shift_masks(
            norms.crops,
            cut.threshold,
            grid=backbone.grid,
            shift=views.shift,
            image=norms.image,
            seed=config.seed,
        )
    with clock("tokens"):
        known = None if label is None else [label[index] for index in norms.image.tolist()]
        probing = plan_probes(outlier, known, config.probe_tokens, config.seed)
        tokens = read_tokens(
            backbone, sae, images, views, norms.image, outlier, probing.chosen, probing.label_rows, execution
        )
    with clock("probes"):
        probes = probing.score(tokens, backbone.layout.special_tokens > 0, backbone.grid)
    groups, features = (None, None) if run is None or tokens.sums is None else _groups(run, tokens.sums, outlier)

    images.check()
    record = OutlierRecord(
        format_version=FORMAT_VERSION,
        command=command,
        options=asdict(config) | settings | {"labels": labels if isinstance(labels, str) else labels is not None},
        model=model_record(backbone),
        dictionary=None if sae is None else dictionary_record(sae),
        images=_images_record(images, norms),
        sample=len(norms.image),
        tokens=norms.tokens,
        software=software_versions(),
        timings=clock.seconds,
        presence=judge_presence(blocks, backbone.block),
        cutoff=CutoffUsed(
            asked=config.cutoff,
            used=cut.used,
            threshold=cut.threshold,
            tokens=int(outlier.sum()),
            share=float(outlier.mean()),
            images=int(outlier.any(1).sum()),
        ),
        places=judge_places(outlier, backbone.grid),
        stability=judge_stability(shifts),
        probes=probes,
        groups=groups,
        notes=_notes(cut, config.cutoff, backbone.block, norms.tokens),
    )
    result = OutlierResult(
        record=record,
        blocks=blocks_table(blocks, norms, backbone.layout.special_tokens),
        positions=positions_table(norms, [_Cut.of(config.cutoff, blocks, at).threshold for at in range(len(blocks))]),
        norms=norms_table(norms),
        stability=stability_table(norms, shifts, [images.ids[index] for index in norms.image.tolist()]),
        features=features,
    )
    if out is not None:
        result.save(out)
    return result


@dataclass(frozen=True)
class _Cut:
    """The cutoff taken at a block."""

    used: Cutoff
    threshold: float

    @classmethod
    def of(cls, asked: Cutoff, blocks: list[BlockNorms], block: int) -> _Cut:
        """The one asked for, or where there is no valley the default."""
        found = blocks[block].thresholds
        wanted, standard = found[asked], found["std"]
        assert standard is not None  # it needs nothing
        return cls("std", standard) if wanted is None else cls(asked, wanted)


def _settings(config: OutlierConfig, run: Run | None) -> dict[str, Any]:
    """Shift, resize and further shifts: as asked for, else the run's, else the defaults of a measurement."""
    options = {} if run is None else run.manifest.options
    shift = options.get("shift", DEFAULT_SHIFT) if config.shift is None else config.shift
    curve = tuple(options.get("shifts", ()))
    return {
        "shift": shift,
        "resize": options.get("resize", "stretch") if config.resize is None else config.resize,
        # A run cuts the crops of all its shifts from one picture, resized for the largest.
        "shifts": curve if shift in curve else (),
    }


def _checked(backbone: Backbone, sae: SparseAutoencoder | None, run: Run | None) -> SparseAutoencoder:
    """The SAE on the model's device, once it is sure that run, model and SAE belong together."""
    if run is None or sae is None:
        missing = "the run that measured it" if run is None else "the SAE it measured"
        raise InfoscopeError(f"feature groups need a run and its SAE: give {missing} too")
    check_belongs(run, backbone, sae)
    return sae.to(backbone.device)


def _groups(run: Run, sums: FeatureSums, outlier: Bool[np.ndarray, "image patch"]) -> tuple[Groups, Any]:
    """The run's feature groups on both kinds of tokens, and the table of features."""
    count = int(outlier.sum())
    high = sums.outlier / count if count else None
    low = sums.normal / (outlier.size - count) if count < outlier.size else None
    correlation, ranked = (None, 0) if high is None or low is None else rank_with_cds(run.scope, high, low)
    groups = Groups(activate_groups(feature_groups(run), high, low), correlation, ranked)
    return groups, features_table(high, low, len(sums.outlier))


def _images_record(images: Watched, norms: Norms) -> ImagesRecord:
    return ImagesRecord(
        source=images.name,
        count=len(images),
        ids_sha256=ids_sha256(images),
        skipped=[SkippedImage(index, images.ids[index], reason) for index, reason in norms.skipped],
        notes=notes_of(images),
        stamp=images.stamp(),
    )


def _notes(cut: _Cut, asked: Cutoff, block: int, tokens: int) -> list[str]:
    """What a reader must know of the sample and the cutoff."""
    notes = []
    if cut.used != asked:
        notes.append(f"The norms of block {block} have one mode, so there is no valley: mean + 3 std is taken instead.")
    if tokens * PRESENT_SHARE < 1:
        notes.append(f"With {tokens:,} tokens a single one decides whether there are outlier tokens: read more images.")
    return notes
