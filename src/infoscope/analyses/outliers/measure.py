"""`measure_outliers`: from a model and images, and perhaps a run, to what its outlier tokens do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from infoscope.analyses.outliers.config import OutlierConfig
from infoscope.analyses.outliers.cutoffs import PRESENT_SHARE, describe_norms, judge_presence
from infoscope.analyses.outliers.groups import compare_groups
from infoscope.analyses.outliers.masks import judge_places, judge_stability, shift_masks
from infoscope.analyses.outliers.passes import read_norms, read_tokens
from infoscope.analyses.outliers.probes import choose_tokens
from infoscope.analyses.outliers.record import FORMAT_VERSION, CutoffUsed, OutlierRecord
from infoscope.analyses.outliers.result import (
    OutlierResult,
    blocks_table,
    norms_table,
    positions_table,
    stability_table,
)
from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.labels import labels_of
from infoscope.images.source import Images, open_images, spread_evenly
from infoscope.images.views import Views
from infoscope.images.watched import watch
from infoscope.measurement.identity import (
    check_belongs,
    dictionary_record,
    images_record,
    model_record,
    say_other_images,
)
from infoscope.options import Cutoff, FolderLabels
from infoscope.runtime.execution import Execution, split_options
from infoscope.runtime.manifest import software_versions
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
    """Find a model's outlier tokens, or find that it has none, and measure what they do (method, section 6).

    Norms of the residual stream are read at every block, before any final normalisation layer. Where outlier tokens
    are, how they move under a shift and what they carry is measured at the backbone's block. Without outlier tokens,
    the tail above the cutoff is measured instead, and is called a tail.

    Args:
        backbone: the model, at the block of the analyses.
        images: the images: a source, or what `infoscope.open_images` opens.
        config: the options (see `OutlierConfig`).
        run: a finished run at this block, for its feature groups, shift and resize.
        sae: the dictionary that the run measured; needed with a run.
        labels: the labels of the label probe: ``folder`` for the name of each image's folder, or one label an image.
        out: a folder to write; by default nothing is written.
        execution: how the passes run; it changes memory and speed, not the result.
        command: what the record names as the command.
        **options: options of ``config`` and ``execution`` by name, such as ``cutoff="percentile"``; they override
            these.

    Raises:
        InfoscopeError: run, model and SAE do not belong together, labels do not fit, no image can be read, or ``out``
            cannot be written.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        ...                    image_size=64, patch_size=8)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=-1, device="cpu")
        >>> photographs = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
        >>> outliers = measure_outliers(backbone, photographs)
        >>> outliers.record.presence.kind, outliers.blocks.height
        ('tail', 2)
    """
    own, execution = split_options(OutlierConfig, execution, options)
    config = replace(config or OutlierConfig(), **own)
    images = watch(open_images(images))
    settings = _settings(config, run)
    views = Views(backbone.patch_size, backbone.grid, settings["shift"], settings["resize"], settings["shifts"])
    if run is not None or sae is not None:
        sae = _matched_sae(backbone, sae, run)
    label = None if labels is None else labels_of(images, labels)
    if run is not None:
        # Any images will do: outlier tokens belong to the model, and groups were formed already.
        say_other_images(run, images)
    clock = Clock()

    with clock("norms"):
        norms = read_norms(backbone, images, views, sorted(spread_evenly(len(images), config.sample_images)), execution)
        blocks = [describe_norms(norms.patches[:, at].ravel(), config.cutoff_value) for at in range(backbone.blocks)]
    cutoff, threshold = blocks[backbone.block].cutoff(config.cutoff)
    outlier = norms.outliers(backbone.block, threshold)
    with clock("shift"):
        shifts = shift_masks(
            norms.crops,
            threshold,
            grid=backbone.grid,
            shift=views.shift,
            image=norms.image,
            seed=config.seed,
        )
    with clock("tokens"):
        known = None if label is None else [label[index] for index in norms.image.tolist()]
        probed = choose_tokens(outlier, known, config.probe_tokens, config.seed)
        tokens = read_tokens(
            backbone, sae, images, views, norms.image, outlier, probed.chosen, probed.label_rows, execution
        )
    with clock("probes"):
        probes = probed.score(tokens, backbone.layout.special_tokens > 0, backbone.grid)
    groups, features = None, None
    if run is not None and tokens.sums is not None:
        groups, features = compare_groups(run, tokens.sums, outlier)

    images.check()
    record = OutlierRecord(
        format_version=FORMAT_VERSION,
        command=command,
        options=asdict(config) | settings | {"labels": labels if isinstance(labels, str) else labels is not None},
        model=model_record(backbone),
        dictionary=None if sae is None else dictionary_record(sae),
        images=images_record(images, norms.skipped),
        sample=len(norms.image),
        tokens=norms.tokens,
        software=software_versions(),
        timings=clock.seconds,
        presence=judge_presence(blocks, backbone.block),
        cutoff=CutoffUsed(
            asked=config.cutoff,
            used=cutoff,
            threshold=threshold,
            tokens=int(outlier.sum()),
            share=float(outlier.mean()),
            images=int(outlier.any(1).sum()),
        ),
        places=judge_places(outlier, backbone.grid),
        stability=judge_stability(shifts),
        probes=probes,
        groups=groups,
        notes=_notes(cutoff, config.cutoff, backbone.block, norms.tokens),
    )
    result = OutlierResult(
        record=record,
        blocks=blocks_table(blocks, norms, backbone.layout.special_tokens),
        positions=positions_table(norms, [block.cutoff(config.cutoff)[1] for block in blocks]),
        norms=norms_table(norms),
        stability=stability_table(norms, shifts, [images.ids[index] for index in norms.image.tolist()]),
        features=features,
    )
    if out is not None:
        result.save(out)
    return result


def _settings(config: OutlierConfig, run: Run | None) -> dict[str, Any]:
    """Shift, resize and further shifts: those asked for, or the run's, or the defaults of a measurement."""
    options = {} if run is None else run.manifest.options
    shift = options.get("shift", DEFAULT_SHIFT) if config.shift is None else config.shift
    curve = tuple(options.get("shifts", ()))
    return {
        "shift": shift,
        "resize": options.get("resize", "stretch") if config.resize is None else config.resize,
        # A run cuts the crops of all its shifts from one picture, resized for the largest.
        "shifts": curve if shift in curve else (),
    }


def _matched_sae(backbone: Backbone, sae: SparseAutoencoder | None, run: Run | None) -> SparseAutoencoder:
    """The SAE on the model's device, after a check that run, model and SAE belong together."""
    if run is None or sae is None:
        missing = "the run that measured it" if run is None else "the SAE it measured"
        raise InfoscopeError(f"feature groups need a run and its SAE: give {missing} too")
    check_belongs(run, backbone, sae)
    return sae.to(backbone.device)


def _notes(used: Cutoff, asked: Cutoff, block: int, tokens: int) -> list[str]:
    """What a reader must know about the sample and the cutoff."""
    notes = []
    if used != asked:
        notes.append(f"The norms of block {block} have one mode, so there is no valley: mean + 3 std is taken instead.")
    if tokens * PRESENT_SHARE < 1:
        notes.append(f"With {tokens:,} tokens a single one decides whether there are outlier tokens: read more images.")
    return notes
