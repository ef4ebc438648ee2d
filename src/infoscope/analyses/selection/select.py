"""`select`: which features a task can do without, one step at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64

from infoscope.analyses.probes.config import ProbeConfig
from infoscope.analyses.probes.probe import make_record, plan_probe, prepare
from infoscope.analyses.probes.probing import Scored, score_variants
from infoscope.analyses.probes.result import paired_interval
from infoscope.analyses.probes.task import Task
from infoscope.analyses.probes.watching import watch_task
from infoscope.analyses.removal.config import RemovalConfig
from infoscope.analyses.removal.groups import FeatureGroup, matched_groups, quantile_group
from infoscope.analyses.removal.variants import Variant
from infoscope.analyses.selection.config import End, SelectConfig
from infoscope.analyses.selection.result import STEPS, Choice, Selection
from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.measurement.identity import say_other_images
from infoscope.runtime.choices import Match
from infoscope.runtime.progress import Clock
from infoscope.runtime.run import PARTIALS, Run


@dataclass(frozen=True)
class Step:
    """One set that is tried.

    Attributes:
        variant: the backbone without it.
        end: which end it was taken from; None where nothing was removed.
        share: which share of the ordered features.
        match: what a random set matches; None for the set itself.
    """

    variant: Variant
    end: End | None
    share: float
    match: Match | None


def plan_steps(
    run: Run, mass: Float64[np.ndarray, " feature"], config: SelectConfig, removal: RemovalConfig
) -> list[Step]:
    """All sets to try at one site, the untouched model first.

    Args:
        run: whose features.
        mass: activation mass of every feature, for the random sets.
        config: which sets.
        removal: how they are removed; its first site is taken.

    Raises:
        InfoscopeError: there is no such column, it is known for too few features, or the removal has two sites.
    """
    if len(removal.sites) != 1:
        raise InfoscopeError("a selection is made at one site: give --sites rerun or --sites site")
    return list(_steps(run, mass, config, removal))


def planned_sets(run: Run, config: SelectConfig) -> Iterator[tuple[End, float, FeatureGroup]]:
    """The sets that are not random: the end, the share, the features.

    Args:
        run: whose features.
        config: which sets.

    Raises:
        InfoscopeError: there is no such column, or it is known for too few features.
    """
    for share in config.shares:
        for end in config.ends:
            between = (1 - share, 1.0) if end == "top" else (0.0, share)
            group = quantile_group(run, config.column, *between)
            if not len(group.features):
                raise InfoscopeError(
                    f"{share:g} of the features with a {config.column} in {run.path} is none: choose larger --shares"
                )
            yield end, share, FeatureGroup(f"{end} {share:g} by {config.column}", group.kind, group.features)


def _steps(
    run: Run, mass: Float64[np.ndarray, " feature"], config: SelectConfig, removal: RemovalConfig
) -> Iterator[Step]:
    site = removal.sites[0]
    yield Step(Variant("untouched", site=site), None, 0.0, None)
    for end, share, group in planned_sets(run, config):
        own = Variant(f"minus {group.name}", group, removal.method, removal.replacement, site)
        yield Step(own, end, share, None)
        if not config.random_draws or not (mass[group.features] > 0).any():
            continue
        for match in config.match:
            for number, drawn in enumerate(matched_groups(group, mass, match, config.random_draws, config.seed), 1):
                variant = Variant(f"minus {drawn.name}", drawn, removal.method, removal.replacement, site, number)
                yield Step(variant, end, share, match)


def select_features(
    run: Run,
    backbone: Backbone,
    sae: SparseAutoencoder,
    task: Task,
    config: SelectConfig | None = None,
    probe: ProbeConfig | None = None,
    removal: RemovalConfig | None = None,
    *,
    out: Path | str,
    batch_size: int | None = None,
    threads: int | None = None,
    command: str = "infoscope.select_features",
) -> Selection:
    """Remove features from either end of a column in steps, and find the set that serves a task best.

    The set is chosen by the score on the validation split, or on images held out of the training split where there is
    none; removing nothing is among the choices. Its test score is reported beside the unedited model's, and beside each
    step random sets of equal size and of equal activation mass show what removing so much does by itself.

    Args:
        run: the run that measured the features.
        backbone: its model.
        sae: its SAE.
        task: the task: `infoscope.classification_task`, `segmentation_task` or `depth_task`.
        config: which sets are tried.
        probe: how features are extracted and probed.
        removal: how features are removed; its random draws are not used.
        out: the folder to write; what is finished in it is kept, and the same call goes on there.
        batch_size: images to a forward pass; changes memory and speed, not the result.
        threads: decoding threads; one a core by default.
        command: how this was asked for, for the record.

    Raises:
        InfoscopeError: as for `infoscope.probe_groups`, or there is no such column.
    """
    config, out = config or SelectConfig(), Path(out)
    probe = replace(probe or ProbeConfig(), baselines=False)
    removal = replace(removal or RemovalConfig(), random_draws=config.random_draws, random_seed=config.seed)
    # Whether there are such sets is seen before anything is read or written.
    sets = [group.features.tolist() for _, _, group in planned_sets(run, config)]
    clock = Clock()
    watched = watch_task(task)
    say_other_images(run, watched.images["train"])
    task = watched.task
    with clock("labels"):
        labels = task.check()
    plan = plan_probe(run, backbone, sae, watched, labels, (), probe, removal)
    watched.claim(out, plan | {"select": asdict(config), "sets": sets})
    running: dict[str, Any] = {"batch_size": batch_size, "threads": threads}
    with clock("codes"):
        prepared = prepare(run, backbone, sae, task, probe, removal.random_seed, **running)
    mass = prepared.statistics.mass
    steps = plan_steps(run, mass, config, removal)
    with clock("variants"):
        scored, skipped = score_variants(
            prepared.edited,
            task,
            [step.variant for step in steps],
            probe,
            out / PARTIALS,
            prepared.resize,
            **running,
        )
    watched.check()
    record = make_record(
        run, prepared, task, probe, removal, scored, skipped, (), labels=labels, command=command, timings=clock.seconds
    )
    selection = Selection(
        choose(steps, scored, task.higher_is_better, config.seed),
        steps_table(steps, scored, mass, task.metric),
        record,
        asdict(config),
    )
    selection.save(out)
    return selection


def choose(steps: Sequence[Step], scored: Sequence[Scored], higher_is_better: bool, seed: int = 0) -> Choice:
    """The best set on the validation split, of those that are not random; of equal ones that which removes least.

    Args:
        steps: the sets, the untouched model first.
        scored: their scores, in the same order.
        higher_is_better: whether a high score is a good one.
        seed: of the bootstrap.
    """
    sign = 1 if higher_is_better else -1
    own = [number for number, step in enumerate(steps) if step.match is None]

    def removed(number: int) -> list[int]:
        group = steps[number].variant.group
        return [] if group is None else group.features.tolist()

    best = max(own, key=lambda number: (sign * scored[number].score.validation, -len(removed(number))))
    chosen, base = scored[best].score, scored[0].score
    metric = next(iter(chosen.test))
    low, high = None, None
    if best and chosen.per_image and base.per_image:
        low, high = paired_interval(np.array(chosen.per_image), np.array(base.per_image), seed)
    return Choice(
        name=steps[best].variant.name,
        end=steps[best].end,
        share=steps[best].share,
        removed=removed(best),
        validation=chosen.validation,
        test=chosen.test[metric],
        validation_untouched=base.validation,
        test_untouched=base.test[metric],
        difference_lower=low,
        difference_upper=high,
    )


def steps_table(
    steps: Sequence[Step], scored: Sequence[Scored], mass: Float64[np.ndarray, " feature"], metric: str
) -> pl.DataFrame:
    """`STEPS` of the sets and their scores."""
    rows = []
    for step, each in zip(steps, scored, strict=True):
        group = step.variant.group
        rows.append(
            {
                "end": step.end,
                "share": step.share,
                "match": step.match,
                "draw": step.variant.draw,
                "features": 0 if group is None else len(group.features),
                "mass": step.variant.mass_share(mass),
                "validation": each.score.validation,
                "test": each.score.test[metric],
            }
        )
    return pl.DataFrame(rows, schema={name: column.dtype for name, column in STEPS.items()})
