import polars as pl
import pytest

from infoscope.runtime.atomic import write_json
from infoscope.views.report.page import write_report
from infoscope.views.report.probe_tables import probe_tables

RECORD = {
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


def write_probe(folder, rows, record=RECORD):
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


def test_a_probe_that_cannot_be_read_is_named_and_the_site_stands(fake_run):
    run = fake_run([0.1, 0.2, 0.4])
    write_probe(run.path / "probes" / "probe", ROWS, RECORD | {"notes": None} | {"recipe": None})
    _, broken = probe_tables(run)
    assert len(broken) == 1
    assert broken[0].startswith("probe cannot be read")
    assert "probe cannot be read" in write_report(run, None).read_text()


def test_without_a_probe_there_is_no_section(fake_run):
    page = write_report(fake_run([0.1, 0.2, 0.4]), None).read_text()
    assert "removed" not in page
