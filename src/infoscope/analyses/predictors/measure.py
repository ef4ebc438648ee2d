"""`measure_predictors`: how a run's measures go together, repeat, and tell what a removal does (method, section 4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infoscope.analyses.predictors.config import PredictorConfig
from infoscope.analyses.predictors.measures import measures_by_half, quantile_groups, read_measures
from infoscope.analyses.predictors.pooled import PooledImages, read_pooled
from infoscope.analyses.predictors.relations import additions, correlations, mean_ranks, relate_sets, reliabilities
from infoscope.analyses.predictors.removals import HEADS, Classifier, Difference, compare_sets, holm
from infoscope.analyses.predictors.result import (
    FORMAT_VERSION,
    METRICS,
    PREDICTORS_FILE,
    TABLES,
    PredictorRecord,
    PredictorResult,
    open_predictors,
)
from infoscope.analyses.probes.classification import ClassificationTask
from infoscope.analyses.probes.config import ProbeConfig
from infoscope.analyses.probes.probe import plan_probe, prepare
from infoscope.analyses.removal.config import RemovalConfig
from infoscope.analyses.removal.energy import Energies
from infoscope.analyses.removal.groups import FeatureGroup, named_group
from infoscope.analyses.removal.kept_ladders import keep_ladders
from infoscope.analyses.removal.ladder import Ladder, build_ladder
from infoscope.backbones.backbone import Backbone
from infoscope.backbones.families import token_set_of
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.source import notes_of
from infoscope.measurement.identity import dictionary_record, model_record, say_other_images
from infoscope.measurement.shared_images import compare_images
from infoscope.runtime.columns import make_table
from infoscope.runtime.execution import Execution, run_here
from infoscope.runtime.json_values import to_json
from infoscope.runtime.manifest import SkippedImage, software_versions
from infoscope.runtime.partials import Arrays, Partials
from infoscope.runtime.progress import Clock, progress
from infoscope.runtime.run import PARTIALS, Run


@dataclass(frozen=True)
class Part:
    """A quantile group of a measure or a named group, the sets that it is compared by, and their scores.

    Attributes:
        measure: the measure, or the group's name.
        number: of the group among those of the measure, 1 for the lowest values; None for a named group.
        ladder: its sets.
        scores: what `Classifier.score` gives of the whole group and then of the ladder's sets.
    """

    measure: str
    number: int | None
    ladder: Ladder
    scores: Arrays

    def of(self, step: float, side: str, head: int, metric: str) -> np.ndarray:
        """The scores of the sets of a step and side, ``[set, image]``, in the order of their draws."""
        at = self._at(step, side)
        found: np.ndarray = self.scores["hits" if metric == METRICS[0] else "loss"][at, head].astype(np.float64)
        return found

    def pooled(self, step: float, side: str) -> float:
        """What the sets of a step and side take out of the mean patch, mean squared length."""
        return float(self.scores["pooled"][self._at(step, side)].mean())

    def _at(self, step: float, side: str) -> list[int]:
        # The whole group comes first.
        return [at for at, each in enumerate(self.ladder.sets, 1) if (each.step, each.side) == (step, side)]


def measure_predictors(
    run: Run,
    backbone: Backbone,
    sae: SparseAutoencoder,
    task: ClassificationTask,
    config: PredictorConfig | None = None,
    remove: Sequence[str | FeatureGroup] = (),
    *,
    out: Path | str,
    execution: Execution | None = None,
    command: str = "infoscope.measure_predictors",
    **options: Any,
) -> PredictorResult:
    """Compare the measures of a run's features: with each other, with themselves, and by what their removal does.

    Three questions: how the measures correlate; how far each repeats between the even and the odd ranks of a feature's
    images, and what CDS says beyond the others that repeats; and what a linear classifier of mean patch tokens, at the
    SAE's own block, loses without the features of each quantile group of a measure. Groups are compared on a ladder:
    random subsets of a group with random sets disjoint from it, and with subsets of the group at the measure's other
    end, all of equal removed energy. Images are read once, however many sets there are. What is finished in ``out`` is
    kept, and the same call resumes there.

    Args:
        run: the run that measured the features.
        backbone: its model.
        sae: its SAE, of patch tokens.
        task: the images, as `infoscope.classification_task` gives them. The test images should be neither the run's nor
            those that the SAE was trained on; the record says whether they are.
        config: which measures, and how groups are removed.
        remove: further groups that are removed in the same way, or their names, as for `infoscope.probe_groups`.
        out: the folder to write.
        execution: how the passes run; it changes memory and speed, not the result.
        command: how this was asked for, for the record.
        **options: options of ``execution`` by name, such as ``batch_size=4``; they override its own.

    Raises:
        InfoscopeError: run, model and SAE do not belong together, the SAE is not of patch tokens, a measure is known
            for too few features, no image can be read, or ``out`` holds something else or cannot be written.
    """
    execution = run_here(execution, options)
    config, out = config or PredictorConfig(), Path(out)
    if token_set_of(sae.site) != "patch":
        raise InfoscopeError(
            f"the SAE {sae.name} reads {token_set_of(sae.site)} tokens, and what is compared here are mean patches"
            "; give a run of an SAE of patch tokens"
        )
    measures = read_measures(run)
    groups = {name: quantile_groups(measures, name, config.quantiles) for name in config.group_by}
    named = [named_group(run, group) if isinstance(group, str) else group for group in remove]
    if clash := [group.name for group in named if group.name in groups]:
        raise InfoscopeError(f"{clash[0]} is a measure that groups are made by: give the further group another name")
    groups |= {group.name: [group] for group in named}
    probe = ProbeConfig(resize=config.resize, sample_images=config.sample_images, seed=config.seed, baselines=False)
    removal = RemovalConfig(sites=("site",), random_draws=0, ladder=True, random_seed=config.seed)
    clock, watched = Clock(), task.watch()
    say_other_images(run, watched.images["train"])
    task = watched.task  # type: ignore[assignment]
    every = [group for of_measure in groups.values() for group in of_measure]
    plan = plan_probe(run, backbone, sae, watched, task.check(), every, probe, removal)
    watched.claim(out, plan | {"predictors": to_json(asdict(config)), "format": FORMAT_VERSION})
    if (out / PREDICTORS_FILE).is_file():
        finished = open_predictors(out)
        if finished.record.shared_images is not None:
            finished.record.shared_images.warn()
        return finished
    partials = Partials(out / PARTIALS)
    with clock("comparing"):
        shared = compare_images(run, sae, watched.images["test"])
    with clock("halves"):
        halves = measures_by_half(run, partials.directory)
    with clock("codes"):
        prepared = prepare(run, backbone, sae, task, probe, config.seed, execution)
    with clock("images"):
        images = {
            split: read_pooled(prepared.edited, task.splits[split], prepared.resize, execution, partials, split)
            for split in ("train", "test")
        }
    watched.check()
    labels = {split: task.labelled[split].labels[each.rows] for split, each in images.items()}
    classifier = Classifier(
        images["train"], images["test"], labels["train"], labels["test"], len(task.classes), config.seed
    )
    with clock("ladder"):
        ladders = _ladders(every, prepared.energies, config, partials)
    with clock("removals"):
        parts = list(_score(groups, ladders, classifier, partials))
        untouched = classifier.score([np.zeros(0, np.uint32)])
    record = PredictorRecord(
        format_version=FORMAT_VERSION,
        command=command,
        run=str(run.path),
        options=to_json(asdict(config) | {"resize": prepared.resize}),
        model=model_record(backbone),
        dictionary=dictionary_record(prepared.edited.sae),
        data=task.describe(),
        skipped={
            split: [SkippedImage(at, task.splits[split].ids[at], why) for at, why in sorted(each.skipped.items())]
            for split, each in images.items()
        },
        groups={group.name: group.features.tolist() for group in every},
        head=_describe(classifier, untouched),
        no_fair_control=[unfair for ladder in ladders for unfair in ladder.unfair],
        notes=sorted({note for images in task.splits.values() for note in notes_of(images)}),
        software=software_versions(),
        timings=clock.seconds,
        shared_images=shared,
    )
    energies, test = prepared.energies, images["test"]
    rows = {
        "correlations": correlations(measures),
        "reliability": reliabilities(halves),
        "additions": additions(measures, halves, run.scope["scope_class"].to_list()),
        "removals": list(_removal_rows(parts, untouched, energies.mean_square, energies, test)),
        "effects": _corrected(list(_effect_rows(parts, config.steps, test.mean_square))),
        "ends": _corrected(list(_end_rows(parts, config, test.mean_square))),
        "sets": list(_set_rows(parts, config.steps, measures, test.mean_square)),
    }
    result = PredictorResult(record, **{name: make_table(table, rows[name]) for name, table in TABLES.items()})
    result.save(out)
    return result


def _describe(classifier: Classifier, untouched: Arrays) -> dict[str, Any]:
    """The head on unedited tokens, as JSON values."""
    head = classifier.untouched
    return to_json(  # type: ignore[no-any-return]
        {
            "strength": classifier.strength,
            "held_out_top_1": head.chosen.score,
            "trained_on": head.trained_on,
            "converged": head.linear.converged,
            "top_1": float(untouched["hits"][0, 0].mean()),
            "loss": float(untouched["loss"][0, 0].mean(dtype=np.float64)),
        }
    )


def _ladders(
    groups: Sequence[FeatureGroup], energies: Energies, config: PredictorConfig, partials: Partials
) -> list[Ladder]:
    """Each group's ladder, kept in a file of its own as soon as it is drawn."""
    found = []
    with progress("Drawing sets of equal removed energy", len(groups), "groups") as advance:
        for number, group in enumerate(groups):

            def draw(group: FeatureGroup = group) -> list[Ladder]:
                codes, square = energies.codes("zero"), energies.mean_square
                return [build_ladder(codes, group, square, seed=config.seed, steps=config.steps, draws=config.draws)]

            found += keep_ladders(partials.beside(f"ladder-{number:04}.json"), [group], draw)
            advance(1)
    return found


def _score(
    groups: Mapping[str, Sequence[FeatureGroup]],
    ladders: Sequence[Ladder],
    classifier: Classifier,
    partials: Partials,
) -> Iterator[Part]:
    """Every group with the scores of its sets, kept group by group."""
    total = sum(1 + len(ladder.sets) for ladder in ladders)
    left = iter(enumerate(ladders))
    with progress("Classifying without sets of features", total, "sets") as advance:
        for measure, of_measure in groups.items():
            for part, group in enumerate(of_measure, 1):
                number, ladder = next(left)
                sets = [group.features, *(each.features for each in ladder.sets)]
                name = f"removals-{number:04}"
                kept = name in partials

                def compute(sets: Sequence[np.ndarray] = sets) -> Arrays:
                    return classifier.score(sets, advance)

                scores = partials.get_or_compute(name, compute)
                if kept:
                    advance(len(sets))
                # A measure has two groups at least.
                yield Part(measure, part if len(of_measure) > 1 else None, ladder, scores)


def _removal_rows(
    parts: Sequence[Part], untouched: Arrays, mean_square: float, energies: Energies, test: PooledImages
) -> Iterator[dict[str, Any]]:
    codes, pooled = energies.codes("zero"), test.mean_square

    def rows(key: dict[str, Any], scores: Arrays, at: int, energy: float) -> Iterator[dict[str, Any]]:
        taken = {"energy_share": energy / mean_square, "pooled_share": float(scores["pooled"][at]) / pooled}
        for place, head in enumerate(HEADS):
            top_1, loss = scores["hits"][at, place].mean(), scores["loss"][at, place].mean(dtype=np.float64)
            yield {**key, **taken, "head": head, "top_1": float(top_1), "loss": float(loss)}

    yield from rows({"features": 0}, untouched, 0, 0.0)
    for part in parts:
        key = {"measure": part.measure, "part": part.number}
        whole = part.ladder.group.features
        yield from rows({**key, "features": len(whole)}, part.scores, 0, codes.energy(whole))
        for at, each in enumerate(part.ladder.sets, 1):
            own = {"step": each.step, "side": each.side, "draw": each.draw, "features": len(each.features)}
            yield from rows(key | own, part.scores, at, each.energy)


def _effect_rows(parts: Sequence[Part], steps: Sequence[float], square: float) -> Iterator[dict[str, Any]]:
    """Subsets of each group against sets disjoint from it."""
    for part in parts:
        for step in steps:
            missed = [each for each in part.ladder.unfair if each.step == step]
            for place, head in enumerate(HEADS):
                for metric in METRICS:
                    row = {"measure": part.measure, "part": part.number, "step": step, "head": head, "metric": metric}
                    if missed:
                        yield {**row, "no_fair_control": "; ".join(map(str, missed))}
                        continue
                    sides = [part.of(step, side, place, metric) for side in ("subset", "disjoint")]
                    found = compare_sets(*sides)
                    yield {
                        **row,
                        "subset": found.first,
                        "disjoint": found.second,
                        **{f"{side}_pooled": part.pooled(step, side) / square for side in ("subset", "disjoint")},
                        **_columns(found),
                    }


def _end_rows(parts: Sequence[Part], config: PredictorConfig, square: float) -> Iterator[dict[str, Any]]:
    """Subsets of the highest group of each measure against subsets of the lowest, where both reach a step."""
    for measure in config.group_by:
        ends = [part for part in parts if part.measure == measure and part.number in (1, config.quantiles)]
        bottom, top = sorted(ends, key=lambda part: part.number or 0)
        for step in config.steps:
            reached = [any(each.step == step for each in part.ladder.sets) for part in (bottom, top)]
            if not all(reached):
                continue
            for place, head in enumerate(HEADS):
                for metric in METRICS:
                    found = compare_sets(*(part.of(step, "subset", place, metric) for part in (top, bottom)))
                    yield {
                        "measure": measure,
                        "step": step,
                        "head": head,
                        "metric": metric,
                        "top": found.first,
                        "bottom": found.second,
                        "top_pooled": top.pooled(step, "subset") / square,
                        "bottom_pooled": bottom.pooled(step, "subset") / square,
                        **_columns(found),
                    }


def _set_rows(
    parts: Sequence[Part],
    steps: Sequence[float],
    measures: Mapping[str, np.ndarray],
    square: float,
) -> Iterator[dict[str, Any]]:
    """What of a set goes with its effect, over the sets of all groups at a step."""
    for step in steps:
        at = [
            (part, number, each.features)
            for part in parts
            for number, each in enumerate(part.ladder.sets, 1)
            if each.step == step
        ]
        if not at:
            continue
        ranks = mean_ranks(measures, [features for _, _, features in at])
        pooled = np.array([part.scores["pooled"][number] for part, number, _ in at]) / square
        for place, head in enumerate(HEADS):
            for metric, stored in zip(METRICS, ("hits", "loss"), strict=True):
                score = np.array([part.scores[stored][number, place].mean(dtype=np.float64) for part, number, _ in at])
                for row in relate_sets(ranks, pooled, score):
                    yield {"step": step, "head": head, "metric": metric, **row}


def _columns(found: Difference) -> dict[str, Any]:
    names = ("sets_error", "images_error", "error", "p", "pairs")
    return {"difference": found.value, **{name: getattr(found, name) for name in names}}


def _corrected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with ``p_holm``: one family for each head and metric, so that neither is paid for by the other."""
    for head in HEADS:
        for metric in METRICS:
            family = [row for row in rows if (row["head"], row["metric"]) == (head, metric) and "p" in row]
            for row, corrected in zip(family, holm([row["p"] for row in family]), strict=True):
                row["p_holm"] = corrected
    return rows
