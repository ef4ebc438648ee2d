import polars as pl
import pytest

from infoscope.analyses.zeroshot.result import VARIANTS
from infoscope.runtime.atomic import write_json
from infoscope.runtime.schema import write_table
from infoscope.views.report.page import write_report
from infoscope.views.report.zeroshot_table import zeroshot_table

RECORD = {
    "labelled": True,
    "classes": {"names": ["cat", "dog", "owl"]},
    "read": 200,
    "images": {"source": "some/photographs"},
    "notes": ["a note for readers"],
}
ROWS = [
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


def write_zeroshot(folder, record=RECORD):
    folder.mkdir(parents=True)
    rows = [
        dict.fromkeys(VARIANTS) | {"method": "keep-error", "replacement": "zero", "images": 200} | row for row in ROWS
    ]
    frame = pl.DataFrame(rows, schema={name: column.dtype for name, column in VARIANTS.items()})
    write_table(folder / "zeroshot.parquet", frame, VARIANTS)
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
    write_zeroshot(run.path / "zeroshot", RECORD | {"labelled": False})
    page = write_report(run, None).read_text(encoding="utf-8")
    assert "<td>accuracy</td>" not in page
    assert "<td>40.0 %</td><td>0.400</td>" in page
