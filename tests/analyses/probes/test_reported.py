"""What is said of a probe beside the paper's row is true of that probe."""

import pytest

from infoscope.analyses.probes.reported import protocol_differences
from infoscope.analyses.probes.result import ProbeRecord
from infoscope.runtime.manifest import DictionaryRecord, ModelRecord


def told(task, train, test, classes=None, family="CLIP", patch=16, replacement="zero"):
    """All differences of a probe on so many images, as one text."""
    data = {
        "splits": {
            split: {"source": f"pictures/{split}", "images": images}
            for split, images in (("train", train), ("test", test))
        }
    }
    record = ProbeRecord(
        format_version=1,
        command="infoscope probe",
        run="no/such/run",
        task=task,
        metric="of no matter",
        higher_is_better=True,
        recipe={"name": "simple", "version": 1},
        options={
            "resize": "stretch",
            "removal": {"sites": ["rerun"], "method": "keep-error", "replacement": replacement},
        },
        model=ModelRecord("some/model", None, "", family, block=10, patch_size=patch, grid=14, prefix_tokens=1),
        dictionary=DictionaryRecord("sae", "infoscope", "", 4096, "topk"),
        token_set="patch",
        data=data if classes is None else data | {"classes": [str(number) for number in range(classes)]},
        skipped={},
        groups={},
        chosen=[],
        baselines=[],
        notes=[],
        software={},
        timings={},
    )
    return " ".join(protocol_differences(record, "clip-b16"))


def test_the_published_data_and_model_are_no_difference():
    for text in (told("classification", 1_281_167, 50_000, 1000), told("segmentation", 20_210, 2_000, 150)):
        for word in ("pictures/train", "some/model", "NYU", "compared"):
            assert word not in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ("classification", 9469, 3925, 10),
            "(10 classes, 9,469 images to train on, 3,925 to test on), not ImageNet's 1,000",
        ),
        (("classification", 1_281_167, 1000, 1000), "a part of ImageNet"),
        (("segmentation", 367, 233, 11), "not ADE20K's 150 classes"),
        (("depth", 100, 50), "(100 images to train on, 50 to test on), not NYU Depth v2's 654"),
        (("depth", 795, 654), "labelled file has 795 training images"),
        (("depth", 300, 654), "There are 300 training images of depth here"),
    ],
)
def test_other_data_are_named(given, said):
    text = told(*given)
    assert said in text
    assert ("795" in text) == ("795" in said)


def test_frames_of_the_raw_recordings_may_be_compared():
    text = told("depth", 24_231, 654)
    assert "There are 24,231 training images" in text
    assert "cannot be compared" not in text


def test_another_model_replacement_or_lost_run_is_named():
    text = told("segmentation", 20_210, 2_000, 150, family="DINOv2", patch=14, replacement="resampled")
    assert "The model here is some/model (DINOv2, patches of 14 pixels), not CLIP ViT-B/16." in text
    assert "another image's, not zero" in text
    assert "is in the run no/such/run, which cannot be read here" in text
    assert "not CLIP ViT-B/16" in told("segmentation", 20_210, 2_000, 150, patch=14)
