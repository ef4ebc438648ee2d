"""`measure_zeroshot`: how zero-shot predictions change when feature groups are removed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Int64

from infoscope.analyses.probes.labelled_images import LabelledImages, open_labelled
from infoscope.analyses.removal.edited import EditedBackbone
from infoscope.analyses.removal.energy import Energies
from infoscope.analyses.removal.ladder import NoFairControl
from infoscope.analyses.removal.statistics import CodeStatistics
from infoscope.analyses.removal.variants import Variant, check_variants
from infoscope.analyses.zeroshot.classes import UNKNOWN
from infoscope.analyses.zeroshot.config import ZeroshotConfig
from infoscope.analyses.zeroshot.embeddings import ClassEmbeddings
from infoscope.analyses.zeroshot.image_head import ImageHead, load_image_head
from infoscope.analyses.zeroshot.metrics import Scores, calibration_error, estimate_changes, estimate_levels, top_k
from infoscope.analyses.zeroshot.record import (
    FORMAT_VERSION,
    ClassesRecord,
    HeadRecord,
    ZeroshotRecord,
    control_records,
    variant_record,
)
from infoscope.analyses.zeroshot.result import (
    ZeroshotResult,
    predictions_table,
    read_predictions,
    variant_row,
    variants_table,
)
from infoscope.analyses.zeroshot.scoring import Shard, ZeroshotTask, score_images
from infoscope.backbones.backbone import Backbone
from infoscope.backbones.families import token_set_of
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import all_unreadable
from infoscope.images.source import Images, ImageSource, ids_sha256, open_images
from infoscope.images.views import Views
from infoscope.images.watched import watch
from infoscope.measurement.identity import (
    check_belongs,
    dictionary_record,
    images_record,
    model_identity,
    model_record,
    say_other_images,
)
from infoscope.measurement.shared_images import compare_images
from infoscope.options import TokenSet
from infoscope.runtime.execution import Execution, split_options
from infoscope.runtime.manifest import software_versions
from infoscope.runtime.partials import Partials
from infoscope.runtime.progress import Clock
from infoscope.runtime.run import PARTIALS, Run

_TOP = 5


def summarise(task: ZeroshotTask, shards: Sequence[Shard], config: ZeroshotConfig, labelled: bool) -> pl.DataFrame:
    """The table of variants. The scores of one variant, and of the untouched model, are in memory at a time."""
    statistics = task.edited.statistics
    mass = None if statistics is None else statistics.mass
    energies = Energies.of_statistics(task.edited.sae, statistics, task.edited.seed)
    rows, untouched = [], None
    for number, variant in enumerate(task.variants):
        scores = Scores.joined([shard.scores(number) for shard in shards])
        estimates = estimate_levels(scores, config.draws, config.seed)
        if untouched is None:
            untouched = scores
        else:
            estimates |= estimate_changes(untouched, scores, config.draws, config.seed)
        without_interval: dict[str, float | None] = {}
        if labelled:
            without_interval["calibration_error"] = calibration_error(scores.confidence, scores.right)
            without_interval["top5"] = top_k(scores.rank, _TOP) if len(task.vectors) > _TOP else None
        rows.append(variant_row(variant, mass, len(scores), estimates, without_interval, energies))
    return variants_table(rows)


def key_of(task: ZeroshotTask, images: ImageSource, options: dict[str, Any]) -> str:
    """A hash of everything that the scores of a shard depend on, in 16 hex digits.

    Args:
        task: how each image is classified.
        images: the images.
        options: the options, as they are recorded.
    """
    statistics = task.edited.statistics
    # Statistics affect scores only where codes are replaced by others; under zero they only fill the column mass.
    replaced = statistics is not None and any(variant.replacement != "zero" for variant in task.variants)
    depends_on = {
        "model": model_identity(model_record(task.edited.backbone)),
        "dictionary": [task.edited.sae.sha256, str(task.edited.sae.activation), task.edited.token_set],
        # The content of each image is kept with its shard.
        "images": [len(images), ids_sha256(images)],
        "label": hashlib.sha256(task.label.tobytes()).hexdigest(),
        "classes": hashlib.sha256(task.vectors.cpu().numpy().tobytes()).hexdigest(),
        "head": [task.head.logits.scale, task.head.logits.bias],
        "variants": [asdict(variant_record(variant)) for variant in task.variants],
        "options": {name: options[name] for name in ("pooled", "probability", "resize")},
        "statistics": [hashlib.sha256(statistics.mean.tobytes()).hexdigest(), statistics.donor_ids, task.edited.seed]
        if replaced and statistics is not None
        else None,
        "software": software_versions(),
    }
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]


UNTOUCHED = "untouched"


def measure_zeroshot(
    backbone: Backbone,
    sae: SparseAutoencoder,
    images: Images,
    labels: str | Path | Sequence[str] | None,
    classes: ClassEmbeddings,
    variants: Sequence[Variant] = (),
    config: ZeroshotConfig | None = None,
    *,
    run: Run | None = None,
    run_images: bool = False,
    token_set: TokenSet | None = None,
    statistics: CodeStatistics | None = None,
    random_seed: int = 0,
    no_fair_control: Sequence[NoFairControl] = (),
    out: Path | str | None = None,
    execution: Execution | None = None,
    command: str = "infoscope.measure_zeroshot",
    **options: Any,
) -> ZeroshotResult:
    """Classify images by class embeddings, with and without feature groups (method, section 7).

    The untouched model is always the first variant, and every other variant is compared with it image by image. Memory
    grows by 48 bytes for each image and variant. With ``out``, finished shards are on disk instead, and the same call
    resumes from them.

    Args:
        backbone: the model, at the SAE's block.
        sae: the dictionary.
        images: the images: a source, or what `infoscope.open_images` opens.
        labels: the class of each image, by the class's folder or name: ``folder`` for the folder it is in, ``column``
            of a data set, a list or ImageNet's devkit (see `open_labelled`), the labels themselves, or ``auto`` for
            those that come with the images. None where classes are not known; there is then no accuracy.
        classes: class embeddings, from `embed_classes` or `read_embeddings`.
        variants: the variants, all at the site ``rerun``, since the rest of the model makes the output.
        config: the options (see `ZeroshotConfig`).
        run: the run that the groups are from: SAE and model must be the run's, and its resize is the default. Images
            that it was measured on too are counted, named and warned of.
        run_images: whether the images are the run's own by choice, which the record and its reader are told.
        token_set: the tokens that the SAE was trained on; by default what the SAE states, or patch tokens.
        statistics: codes over a sample, from `read_statistics`; needed for a replacement other than zero, and for the
            columns ``mass`` and ``energy``.
        random_seed: seed of the choice of images that codes are taken from, under the replacement ``resampled``.
        no_fair_control: the steps that a group is not compared at, of the ladders that ``variants`` are from.
        out: a folder to write; by default nothing is written.
        execution: how the passes run; it changes memory and speed, not the result.
        command: what the record names as the command.
        **options: options of ``config`` and ``execution`` by name, such as ``pooled="cls"``; they override these.

    Raises:
        InfoscopeError: model, SAE, run and class embeddings do not belong together, a variant is at the site ``site``,
            an image belongs to none of the classes, no image can be read, or ``out`` cannot be written.

    Example:
        >>> import tempfile
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> from infoscope.dictionaries.activations import TopK
        >>> from infoscope.analyses.removal.groups import FeatureGroup
        >>> from infoscope.analyses.zeroshot.classes import Classes
        >>> from infoscope.analyses.zeroshot.embeddings import class_embeddings
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        ...                    image_size=64, patch_size=16)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=0, device="cpu")
        >>> sae = SparseAutoencoder(torch.eye(32), torch.zeros(32), torch.eye(32), torch.zeros(32), TopK(8))
        >>> photographs = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
        >>> classes = class_embeddings(Classes(("cat", "dog")), np.eye(2, 32))
        >>> half = FeatureGroup("half", "list", np.arange(16, dtype=np.uint32))
        >>> result = measure_zeroshot(backbone, sae, photographs, ["cat", "dog"] * 3, classes, [Variant("half", half)])
        >>> result.variants["name"].to_list(), result.predictions.height
        (['untouched', 'half'], 12)
    """
    own, execution = split_options(ZeroshotConfig, execution, options)
    config = replace(config or ZeroshotConfig(), **own)
    sae = sae.to(backbone.device)
    if run is not None:
        check_belongs(run, backbone, sae)
    resize = config.resize or (run.manifest.options["resize"] if run is not None else "stretch")
    variants = _untouched_first(variants)
    labelled = None if labels is None else open_labelled(images, None if labels == "auto" else labels)
    images = open_images(images) if labelled is None else labelled.images
    images = watch(images)
    label, classes, notes = _match_classes(images, labelled, classes, config)
    # Others than the run's are what a test should be on; those of the run's own source should be as they were.
    if run is not None and images.name == run.manifest.images.source:
        say_other_images(run, images)
    head = load_image_head(backbone, classes, config.pooled, config.logit_scale, config.logit_bias)
    token_set = token_set or token_set_of(sae.site)
    notes += _notes(head, token_set, config)
    task = ZeroshotTask(
        edited=EditedBackbone(backbone, sae, token_set, statistics, random_seed),
        head=head,
        vectors=torch.from_numpy(classes.vectors).to(backbone.device),
        label=label,
        probability=config.probability,
        variants=variants,
        views=Views(backbone.patch_size, backbone.grid, 0, resize),
    )
    stored_options = asdict(config) | {"resize": resize, "pooled": head.pooled, "labels": _labels_option(labels)}
    stored_options["random_seed"] = random_seed
    stored_options["images"] = "run" if run_images else "given"
    partials = Partials(None if out is None else Path(out) / PARTIALS)
    clock = Clock()
    with clock("comparing"):
        shared = compare_images(run, sae, images, run_images=run_images)
    with clock("images"):
        shards, skipped = score_images(
            task, images, partials, key_of(task, images, stored_options), config.shard_images, execution
        )
    if not shards:
        raise all_unreadable(images, skipped[0][1])
    with clock("intervals"):
        table = summarise(task, shards, config, labels is not None)
    images.check()
    record = ZeroshotRecord(
        format_version=FORMAT_VERSION,
        command=command,
        options=stored_options,
        model=model_record(backbone),
        dictionary=dictionary_record(sae),
        token_set=token_set,
        images=images_record(images, skipped),
        read=int(table["images"][0]),
        labelled=labels is not None,
        classes=ClassesRecord(
            list(classes.classes.names),
            None if classes.classes.folders is None else list(classes.classes.folders),
            classes.classes.source,
            classes.source,
        ),
        head=HeadRecord(
            pooled=head.pooled,
            projected=head.projection is not None,
            width=head.width,
            scale=head.logits.scale,
            bias=head.logits.bias,
            scale_source=head.logits.source,
            probability=config.probability,
        ),
        variants=[variant_record(variant) for variant in variants],
        controls=control_records(table),
        software=software_versions(),
        timings=clock.seconds,
        notes=notes,
        shared_images=shared,
        no_fair_control=list(no_fair_control),
    )
    names = classes.classes.names

    def parts() -> Iterator[pl.DataFrame]:
        for shard in shards:
            image = shard.image()
            ids = [images.ids[index] for index in image.tolist()]
            scores = [(variant, shard.scores(number)) for number, variant in enumerate(variants)]
            yield predictions_table(image, ids, label[image], names, scores)

    result = ZeroshotResult(record, table, parts)
    if out is None:
        return result
    result.save(out)
    partials.clear()
    with suppress(OSError):  # it may hold files that are not ours
        (Path(out) / PARTIALS).rmdir()
    return replace(result, parts=lambda: iter([read_predictions(out)]))


def _untouched_first(variants: Sequence[Variant]) -> list[Variant]:
    """The variants, the untouched model first."""
    for variant in variants:
        if variant.site != "rerun":
            raise InfoscopeError(
                f"{variant.name} is of the site {variant.site}: zero-shot reads the model's own output, which the "
                "blocks after the edit make; choose rerun"
            )
    untouched = [variant for variant in variants if not variant.edited] or [Variant(UNTOUCHED)]
    ordered = untouched + [variant for variant in variants if variant.edited]
    check_variants(ordered)
    return ordered


def _match_classes(
    images: ImageSource, labelled: LabelledImages | None, classes: ClassEmbeddings, config: ZeroshotConfig
) -> tuple[Int64[np.ndarray, " image"], ClassEmbeddings, list[str]]:
    """Each image's class, the classes that can be predicted, and what a reader must know about them."""
    notes: list[str] = []
    if labelled is None:
        if config.among == "present":
            raise InfoscopeError("--among present needs to know the images' classes: give labels, or choose all")
        label = np.full(len(images), UNKNOWN, np.int64)
    else:
        numbers, note = classes.classes.match(labelled.classes)
        notes += [note] if note else []
        label = numbers[labelled.labels]
        unknown = labelled.labels[label == UNKNOWN]
        if len(unknown):
            raise InfoscopeError(
                f"{len(unknown):,} of {len(images):,} images are of {labelled.classes[unknown[0]]!r}, which "
                f"{classes.classes.source} does not name: add that class, or leave these images out"
            )
        if config.among == "present":
            # Ascending, so that the classes keep their order.
            present, label = np.unique(label, return_inverse=True)
            classes = classes.chosen(present.tolist())
    shared = classes.classes.shared_names
    if shared:
        notes.append(
            f"{len(shared)} names are of several classes ({', '.join(shared[:3])}): no text tells these apart."
        )
    return label.astype(np.int64), classes, notes


def _notes(head: ImageHead, token_set: TokenSet, config: ZeroshotConfig) -> list[str]:
    """What a reader must know about the tokens that are read, and about the logits.

    Raises:
        InfoscopeError: sigmoid was asked for, and no bias is known.
    """
    notes = []
    backbone = head.backbone
    of_cls = head.pooled == "cls" or (head.pooled == "own" and backbone.layout.special_tokens > 0)
    if of_cls and token_set == "patch" and backbone.block == backbone.blocks - 1:
        notes.append(
            f"The image is read from the CLS token, and block {backbone.block} is the last: patch tokens edited there "
            "cannot reach it, so that no removal changes anything."
        )
    if head.logits.source == "default":
        notes.append(
            f"Nothing states a logit scale, so {head.logits.scale:g} is taken: entropy, margin, confidence and the "
            "calibration error follow from it; predictions do not."
        )
    if config.probability == "sigmoid" and head.logits.bias is None:
        raise InfoscopeError(
            f"--probability sigmoid needs a bias, which neither {head.backbone.name} nor the class embeddings state: "
            "give --logit-bias, or choose softmax"
        )
    return notes


def _labels_option(labels: str | Path | Sequence[str] | None) -> str | None:
    return str(labels) if isinstance(labels, str | Path) else None if labels is None else "given"
