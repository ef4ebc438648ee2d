import polars as pl
import pytest

from infoscope.analyses.probes.result import VARIANTS as PROBE_VARIANTS
from infoscope.analyses.zeroshot.result import VARIANTS
from infoscope.runtime.columns import make_table, write_table
from infoscope.runtime.json_values import write_json
from infoscope.views.report.page import write_report
from infoscope.views.report.removal_tables import probe_tables, zeroshot_table

PROBE = {
    "task": "classification",
    "metric": "top1",
    "higher_is_better": True,
    "recipe": {"name": "simple", "version": 2, "rates": [0.1]},
    "data": {
        "splits": {"train": {"source": "some/train", "images": 1600}, "test": {"source": "/some/val", "images": 100}}
    },
    "baselines": [{"name": "majority", "test": {"top1": 0.125, "top5": 0.5}}],
    "notes": ["a note for readers"],
}


def write_probe(folder, rows, record=PROBE):
    """A finished probe: the tables first, then its record."""
    folder.mkdir(parents=True)
    columns = (
        "site",
        "name",
        "draw",
        "metric",
        "features",
        "mass",
        "score",
        "difference",
        "difference_lower",
        "difference_upper",
    )
    pl.DataFrame([dict(zip(columns, row, strict=True)) for row in rows]).write_parquet(folder / "variants.parquet")
    write_json(folder / "probe.json", record)


ROWS = [
    ("rerun", "untouched", None, "top1", 0, 0.0, 0.7, 0.0, None, None),
    ("rerun", "untouched", None, "top5", 0, 0.0, 0.9, 0.0, None, None),
    ("rerun", "high-CDS", None, "top1", 10, 0.25, 0.6, -0.1, -0.15, -0.05),
    ("rerun", "random", 1, "top1", 10, 0.25, 0.62, -0.08, -0.1, -0.06),
    ("rerun", "random", 2, "top1", 10, 0.25, 0.66, -0.04, -0.05, -0.03),
]


def test_draws_of_a_random_control_are_one_row_with_their_spread(fake_run):
    run = fake_run([0.1, 0.2, 0.4])
    write_probe(run.path / "probes" / "classification", ROWS)
    (run.path / "probes" / "unfinished").mkdir(parents=True)
    tables, broken = probe_tables(run)
    assert broken == []
    assert (tables[0].folder, tables[0].recipe, tables[0].metric) == ("classification", "simple 2", "top1")
    _, high, random = tables[0].rows
    assert [row["name"] for row in tables[0].rows] == ["untouched", "high-CDS", "random"]
    assert (high["difference_lower"], high["difference_upper"], high["draws"]) == (-0.15, -0.05, 1)
    assert (random["draws"], random["difference_lower"]) == (2, None)
    assert random["score"] == pytest.approx(0.64)
    assert random["spread"] == pytest.approx(0.0283, abs=1e-4)
    text = " ".join(write_report(run, None).read_text().split())
    for part in (
        "What happens when features are removed",
        "high-CDS",
        "-0.1500 to -0.0500",
        "2 draws, spread 0.0283",
        "On train 1,600 images (some/train); test 100 images (val). Without a model, majority: 0.1250.",
        "a note for readers",
    ):
        assert part in text, part


def test_what_is_known_of_the_test_images_comes_before_other_notes(fake_run):
    run = fake_run([0.1, 0.2, 0.4])
    measured = {"shared": 2, "first": ["a.png", "b.png"], "unknown": ""}
    trained = {"shared": None, "first": [], "unknown": "the SAE does not say"}
    shared = {"shared_images": {"images": 100, "own": False, "measured": measured, "trained": trained}}
    write_probe(run.path / "probes" / "classification", ROWS, PROBE | shared)
    write_zeroshot(run.path / "zeroshot", ZEROSHOT | shared)
    expected = [
        "2 of the 100 test images are among those that the run was measured on: a.png, b.png.",
        "Whether test images are among those that the SAE was trained on is not known: the SAE does not say.",
        "a note for readers",
    ]
    assert probe_tables(run)[0][0].notes == zeroshot_table(run)[0].notes == expected
    page = " ".join(write_report(run, None).read_text(encoding="utf-8").split())
    assert page.count(expected[0]) == page.count(expected[1]) == 2


def test_an_older_result_says_that_its_test_images_were_not_compared(fake_run):
    run = fake_run([0.1, 0.2, 0.4])
    write_probe(run.path / "probes" / "classification", ROWS)
    write_zeroshot(run.path / "zeroshot")
    page = write_report(run, None).read_text(encoding="utf-8")
    assert page.count("this result is from before they were compared.") == 2


def test_a_probe_that_cannot_be_read_is_named_and_the_site_stands(fake_run):
    run = fake_run([0.1, 0.2, 0.4])
    write_probe(run.path / "probes" / "probe", ROWS, PROBE | {"notes": None} | {"recipe": None})
    _, broken = probe_tables(run)
    assert len(broken) == 1
    assert broken[0].startswith("probe cannot be read")
    assert "probe cannot be read" in write_report(run, None).read_text()


def test_without_a_probe_there_is_no_section(fake_run):
    page = write_report(fake_run([0.1, 0.2, 0.4]), None).read_text()
    assert "removed" not in page


ZEROSHOT = {
    "labelled": True,
    "classes": {"names": ["cat", "dog", "owl"]},
    "read": 200,
    "images": {"source": "some/photographs"},
    "notes": ["a note for readers"],
}
VARIANT_ROWS = [
    {"name": "untouched", "features": 0, "mass": 0.0, "accuracy": 0.8, "confidence": 0.6},
    {
        "name": "minus global",
        "features": 10,
        "mass": 0.25,
        "accuracy": 0.5,
        "confidence": 0.4,
        "accuracy_change": -0.3,
        "accuracy_change_ci_lower": -0.35,
        "accuracy_change_ci_upper": -0.25,
        "flips": 0.4,
    },
    *(
        {
            "name": "minus random",
            "draw": draw,
            "features": 10,
            "mass": 0.25,
            "accuracy": accuracy,
            "accuracy_change": accuracy - 0.8,
            "accuracy_change_ci_lower": -1.0,
            "flips": 0.1,
            "confidence": 0.5,
        }
        for draw, accuracy in ((1, 0.7), (2, 0.74))
    ),
]


def write_zeroshot(folder, record=ZEROSHOT):
    folder.mkdir(parents=True)
    rows = [{"method": "keep-error", "replacement": "zero", "images": 200} | row for row in VARIANT_ROWS]
    write_table(folder / "zeroshot.parquet", make_table(VARIANTS, rows), VARIANTS)
    write_json(folder / "zeroshot.json", record)


def test_draws_are_one_row_with_their_spread_and_no_interval(fake_run):
    run = fake_run([0.1, 0.2, 0.4])
    assert zeroshot_table(run) == (None, [])
    write_zeroshot(run.path / "zeroshot")
    table, broken = zeroshot_table(run)
    assert broken == []
    assert (table.classes, table.images, table.source) == (3, 200, "some/photographs")
    untouched, minus, random = table.rows
    assert (untouched["accuracy"], untouched["accuracy_change"], untouched["draws"]) == (0.8, None, 1)
    assert (minus["accuracy_change_ci_lower"], minus["accuracy_change_ci_upper"]) == (-0.35, -0.25)
    assert (random["draws"], random["accuracy_change_ci_lower"]) == (2, None)
    assert random["accuracy"] == pytest.approx(0.72)
    assert random["accuracy_spread"] == pytest.approx(0.04 / 2**0.5)


def test_the_overview_shows_it_and_names_one_that_cannot_be_read(fake_run):
    run = fake_run([0.1, 0.2, 0.4])
    write_zeroshot(run.path / "zeroshot")
    page = write_report(run, None).read_text(encoding="utf-8")
    assert "<td>80.0 %</td>" in page
    assert "<td>-30.0</td>" in page
    assert "-35.0 to -25.0" in page
    assert "2 draws, spread 2.8" in page
    assert "a note for readers" in page
    (run.path / "zeroshot" / "zeroshot.parquet").write_bytes(b"nothing")
    assert "zeroshot cannot be read" in write_report(run, None).read_text(encoding="utf-8")


def test_without_known_classes_there_is_no_accuracy(fake_run):
    run = fake_run([0.1, 0.2, 0.4])
    write_zeroshot(run.path / "zeroshot", ZEROSHOT | {"labelled": False})
    page = write_report(run, None).read_text(encoding="utf-8")
    assert "<td>accuracy</td>" not in page
    assert "<td>40.0 %</td><td>0.400</td>" in page


UNFAIR = [{"group": "global", "step": 0.4, "side": "disjoint", "reached": 0.31, "sets": 0}]
OF_LADDER = [
    {"name": f"minus 5% {side} global", "draw": draw, "features": 4, "mass": 0.02, "energy": 1.0, "energy_share": 0.05}
    | {"control_of": "global", "overlap": 0.0, "step": 0.05, "side": side, "score": score}
    for side, scores in (("subset", (0.5, 0.6)), ("disjoint", (0.7, 0.7)))
    for draw, score in enumerate(scores, 1)
]


def test_groups_on_a_ladder_have_a_table_of_their_own(fake_run):
    run = fake_run([0.1, 0.2, 0.4])
    rows = [
        {"name": "untouched", "features": 0, "mass": 0.0, "energy": 0.0, "energy_share": 0.0, "score": 0.8},
        {"name": "minus global", "features": 9, "mass": 0.1, "energy": 4.0, "energy_share": 0.2, "score": 0.6},
        *OF_LADDER,
    ]
    probe = [{"site": "rerun", "metric": "top1", "difference": row["score"] - 0.8} | row for row in rows]
    folder = run.path / "probes" / "classification"
    folder.mkdir(parents=True)
    write_table(folder / "variants.parquet", make_table(PROBE_VARIANTS, probe), PROBE_VARIANTS)
    write_json(folder / "probe.json", PROBE | {"no_fair_control": UNFAIR})
    zeroshot = [
        {"method": "keep-error", "replacement": "zero", "images": 200, "confidence": 0.5, "accuracy": row["score"]}
        | {name: value for name, value in row.items() if name != "score"}
        for row in rows
    ]
    (run.path / "zeroshot").mkdir()
    write_table(run.path / "zeroshot" / "zeroshot.parquet", make_table(VARIANTS, zeroshot), VARIANTS)
    write_json(run.path / "zeroshot" / "zeroshot.json", ZEROSHOT | {"no_fair_control": UNFAIR})
    (table,), broken = probe_tables(run)
    other, _ = zeroshot_table(run)
    assert broken == []
    for found in (table, other):
        assert [row["name"] for row in found.rows] == ["untouched", "minus global"]
        assert [row["step"] for row in found.ladder] == [None, 0.05, 0.4]
        assert found.ladder[1]["difference"] == pytest.approx(-0.15)
    page = " ".join(write_report(run, None).read_text(encoding="utf-8").split())
    for part in (
        "Classification at equal removed energy: top1",
        "Zero-shot at equal removed energy: accuracy",
        "<td>20.0 %</td>",
        "<td>the whole, 20.0 %</td>",
        "<td>0.5500 ± 0.0707</td><td>0.7000 ± 0.0000</td><td>-0.1500 ± 0.0707</td>",
        "no fair control at 40%: sets disjoint from global come no nearer than 31.0%",
    ):
        assert part in page, part


def test_a_probe_from_before_there_was_removed_energy_is_shown_without_it(fake_run):
    run = fake_run([0.1, 0.2, 0.4])
    write_probe(run.path / "probes" / "classification", ROWS)
    (table,), broken = probe_tables(run)
    assert broken == []
    assert table.ladder == []
    assert [row["energy_share"] for row in table.rows] == [None] * 3
    assert "at equal removed energy" not in write_report(run, None).read_text(encoding="utf-8")
