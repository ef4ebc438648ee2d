"""`probe_groups`: what linear heads still find once feature groups are removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from infoscope.analyses.probes.config import ProbeConfig
from infoscope.analyses.probes.recipes import RECIPES
from infoscope.analyses.probes.result import (
    FORMAT_VERSION,
    PROBE_FILE,
    ProbeRecord,
    ProbeResult,
    open_probe,
    per_class_table,
    variants_table,
)
from infoscope.analyses.probes.task import Baseline, Labels, Scored, Task, WatchedTask
from infoscope.analyses.probes.variant_scores import score_variants
from infoscope.analyses.removal.config import STEPS, RemovalConfig
from infoscope.analyses.removal.edited import EditedBackbone
from infoscope.analyses.removal.energy import Energies
from infoscope.analyses.removal.groups import FeatureGroup, named_group
from infoscope.analyses.removal.kept_ladders import keep_ladders
from infoscope.analyses.removal.statistics import CodeStatistics, read_statistics
from infoscope.analyses.removal.variants import plan_variants
from infoscope.backbones.backbone import Backbone
from infoscope.backbones.families import token_set_of
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.untrained import reconstructs
from infoscope.images.source import notes_of
from infoscope.measurement.identity import (
    check_belongs,
    dictionary_record,
    model_identity,
    model_record,
    say_other_images,
)
from infoscope.measurement.shared_images import SharedRecord, compare_images
from infoscope.options import Resize
from infoscope.runtime.execution import Execution, run_here
from infoscope.runtime.json_values import to_json
from infoscope.runtime.manifest import SkippedImage, software_versions
from infoscope.runtime.progress import Clock
from infoscope.runtime.run import PARTIALS, Run


@dataclass(frozen=True)
class Prepared:
    """A run's model and SAE, ready to be edited for a task.

    Attributes:
        edited: the model and what is needed to edit it.
        statistics: codes over a sample of the training images.
        resize: how an image becomes square.
    """

    edited: EditedBackbone
    statistics: CodeStatistics
    resize: Resize

    @property
    def energies(self) -> Energies:
        """The removed energy of its variants, over tokens of the same sample."""
        sample = self.statistics.sample
        assert sample is not None  # `read_statistics` draws one
        return Energies(self.edited.sae, self.statistics, sample, self.edited.seed)


def prepare(
    run: Run,
    backbone: Backbone,
    sae: SparseAutoencoder,
    task: Task,
    config: ProbeConfig,
    seed: int,
    execution: Execution,
) -> Prepared:
    """Check that run, model and SAE belong together, and read the codes of some training images.

    Args:
        run: the run.
        backbone: its model.
        sae: its SAE.
        task: whose training images are read.
        config: the options.
        seed: of the images whose codes take the place of others'.
        execution: how the pass runs.

    Raises:
        InfoscopeError: they do not belong together, or no training image can be read.
    """
    check_belongs(run, backbone, sae)
    sae = sae.to(backbone.device)
    resize: Resize = config.resize or run.manifest.options["resize"]
    token_set = token_set_of(sae.site)
    statistics = read_statistics(
        backbone,
        sae,
        task.splits["train"],
        token_set=token_set,
        resize=resize,
        sample_images=config.sample_images,
        execution=execution,
    )
    return Prepared(EditedBackbone(backbone, sae, token_set, statistics, seed), statistics, resize)


def probe_groups(
    run: Run,
    backbone: Backbone,
    sae: SparseAutoencoder,
    task: Task,
    groups: Sequence[str | FeatureGroup],
    config: ProbeConfig | None = None,
    removal: RemovalConfig | None = None,
    *,
    out: Path | str,
    execution: Execution | None = None,
    command: str = "infoscope.probe_groups",
    **options: Any,
) -> ProbeResult:
    """Remove feature groups from a frozen model and see what linear heads still find (method, section 7).

    Rows: the untouched model, the SAE's reconstruction, without each group, and without random groups of equal size
    and of equal activation mass; with ``ladder``, subsets of each group and sets disjoint from it, of equal removed
    energy; at each site asked for. Each row has its own head, trained on its own features. What
    is finished in ``out`` is kept, and the same call resumes there.

    Args:
        run: the run that measured the features.
        backbone: its model.
        sae: its SAE.
        task: the task: `infoscope.classification_task`, `segmentation_task` or `depth_task`.
        groups: the groups, or their names (see `infoscope.analyses.removal.groups.named_group`).
        config: how features are extracted and probed.
        removal: how groups are removed.
        out: the folder to write.
        execution: how the passes run; it changes memory and speed, not the result.
        command: how this was asked for, for the record.
        **options: options of ``execution`` by name, such as ``batch_size=4``; they override its own.

    Raises:
        InfoscopeError: run, model and SAE do not belong together, a group is not known or empty, the task's data are
            not usable, or ``out`` holds something else or cannot be written.
    """
    execution = run_here(execution, options)
    config, removal, out = config or ProbeConfig(), removal or RemovalConfig(), Path(out)
    named = [named_group(run, group) if isinstance(group, str) else group for group in groups]
    clock = Clock()
    watched = task.watch()
    say_other_images(run, watched.images["train"])
    task = watched.task
    with clock("labels"):
        labels = task.check()
    # Before anything is computed: a folder that holds another probe is refused at once.
    watched.claim(out, plan_probe(run, backbone, sae, watched, labels, named, config, removal))
    if (out / PROBE_FILE).is_file():
        finished = open_probe(out)
        if finished.record.shared_images is not None:
            finished.record.shared_images.warn()
        return finished
    with clock("comparing"):
        shared = compare_images(run, sae, watched.images["test"])
    with clock("codes"):
        prepared = prepare(run, backbone, sae, task, config, removal.random_seed, execution)
    energies = prepared.energies
    with clock("ladder"):
        ladders = keep_ladders(out / PARTIALS / "ladders.json", named, lambda: energies.ladders(named, removal))
    variants = plan_variants(named, prepared.statistics.mass, removal, reconstructs(sae.format), ladders)
    with clock("variants"):
        scored, skipped = score_variants(
            prepared.edited, task, variants, config, out / PARTIALS, prepared.resize, execution
        )
    with clock("baselines"):
        baselines = (
            task.baselines(backbone, task.recipes[config.recipe], prepared.resize, config.seed)
            if config.baselines
            else []
        )
    # A photograph that no pass read twice may still have changed; its scores would be of two sets of images.
    watched.check()
    record = make_record(
        run,
        prepared,
        task,
        config,
        removal,
        scored,
        skipped,
        baselines,
        labels=labels,
        shared=shared,
        command=command,
        timings=clock.seconds,
    )
    record = replace(record, no_fair_control=[step for ladder in ladders for step in ladder.unfair])
    result = ProbeResult(
        record,
        variants_table(scored, prepared.statistics.mass, task.metric, config.seed, energies),
        per_class_table(scored),
    )
    result.save(out)
    return result


def plan_probe(
    run: Run,
    backbone: Backbone,
    sae: SparseAutoencoder,
    watched: WatchedTask,
    labels: Labels,
    groups: Sequence[FeatureGroup],
    config: ProbeConfig,
    removal: RemovalConfig,
) -> dict[str, Any]:
    """All that a probe's scores depend on, as JSON values, once it is sure that run, model and SAE belong together."""
    check_belongs(run, backbone, sae)
    return {
        "probe": FORMAT_VERSION,
        "model": model_identity(model_record(backbone)),
        # A weights file alone does not say how many codes are kept, nor of which tokens they are.
        "dictionary": {
            "sha256": sae.sha256,
            "activation": str(sae.activation),
            "tokens": token_set_of(sae.site),
        },
        "data": watched.task.describe(),
        "labels": dict(labels.summary),
        "stamps": watched.states,
        "resize": config.resize or run.manifest.options["resize"],
        "software": software_versions(),
        # Where features are kept, and for how long, changes no score.
        "options": {key: value for key, value in asdict(config).items() if key not in ("disk_gib", "keep_features")},
        "removal": _of_removal(removal),
        "recipe": RECIPES[config.recipe],
        "groups": {group.name: group.features.tolist() for group in groups},
    }


def _of_removal(removal: RemovalConfig) -> dict[str, Any]:
    """What of a removal the scores depend on."""
    options = asdict(removal) | {"sites": list(removal.sites), "steps": list(removal.steps)}
    # Left out where nothing was asked for, so that probes begun before these options can still be resumed.
    unasked = {"ladder": False, "steps": list(STEPS)}
    return {name: value for name, value in options.items() if name not in unasked or value != unasked[name]}


def make_record(
    run: Run,
    prepared: Prepared,
    task: Task,
    config: ProbeConfig,
    removal: RemovalConfig,
    scored: Sequence[Scored],
    skipped: dict[str, dict[int, str]],
    baselines: Sequence[Baseline],
    *,
    labels: Labels,
    shared: SharedRecord,
    command: str,
    timings: dict[str, float],
) -> ProbeRecord:
    """What ``probe.json`` holds."""
    edited = prepared.edited
    notes = {*labels.notes, *(note for each in scored for note in each.score.notes)}
    notes |= {f"{split}: {note}" for split, images in task.splits.items() for note in notes_of(images)}
    return ProbeRecord(
        format_version=FORMAT_VERSION,
        command=command,
        run=str(run.path),
        task=task.name,
        metric=task.metric,
        higher_is_better=task.higher_is_better,
        recipe=to_json(
            {"name": config.recipe, "version": RECIPES[config.recipe]}
            | {site: asdict(task.recipe_at(config.recipe, site, edited.token_set)) for site in removal.sites}
        ),
        options=to_json(asdict(config) | {"resize": prepared.resize, "removal": asdict(removal)}),
        model=model_record(edited.backbone),
        dictionary=dictionary_record(edited.sae),
        token_set=edited.token_set,
        data=task.describe() | {"labels": dict(labels.summary)},
        skipped={
            split: [SkippedImage(at, task.splits[split].ids[at], why) for at, why in sorted(images.items())]
            for split, images in skipped.items()
        },
        groups={
            each.variant.label: each.variant.group.features.tolist()
            for each in scored
            if each.variant.group is not None and each.variant.site == removal.sites[0]
        },
        chosen=[
            {
                "site": each.variant.site,
                "name": each.variant.label,
                "validation": each.score.validation,
                "chosen": dict(each.score.chosen),
                "candidates": [dict(candidate) for candidate in each.score.candidates],
            }
            for each in scored
        ],
        baselines=list(baselines),
        notes=sorted(notes),
        software=software_versions(),
        timings=timings,
        shared_images=shared,
    )
