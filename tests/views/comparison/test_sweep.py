"""A sweep measures what `measure` measures, goes on where it stopped, and never mixes."""

import os
import shutil

import pytest

import infoscope.analyses.sweep as sweep_module
from commands import fails
from infoscope.cli.main import main
from infoscope.dictionaries.loading import load_sae
from infoscope.runtime.run import open_run
from small import SIDE

pytestmark = pytest.mark.slow


@pytest.mark.slow
def test_each_block_is_what_measure_gives_alone(place, tmp_path):
    for block in (0, 2):
        run = open_run(place / "sweep" / f"block-{block:02}" / "scope")
        assert (run.manifest.model.block, run.manifest.dictionary.format) == (block, "pca")
        measure = ["measure", "--model", f"{place}/model", "--block", str(block), "--input-side", str(SIDE)]
        measure += ["--images", f"{place}/images", "--top-images", "4", "--device", "cpu"]
        measure += ["--dictionary", "pca", "--components", "8", "--out", f"{tmp_path}/{block}"]
        assert main(measure) == 0
        assert open_run(tmp_path / str(block)).scope.equals(run.scope)
    assert (place / "sweep" / "comparison" / "index.html").is_file()
    assert (place / "sweep" / "comparison" / "comparison.json").is_file()


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_and_takes_in_further_blocks(place, words, tmp_path, capsys, monkeypatch):
    measure = sweep_module.measure_scope
    asked = []

    def stop_at_the_second(backbone, *given, **options):
        asked.append(backbone.block)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return measure(backbone, *given, **options)

    monkeypatch.setattr(sweep_module, "measure_scope", stop_at_the_second)
    command = [*words(), "--blocks", "0,2", "--out", f"{tmp_path}/sweep"]
    assert "finished blocks and shards are kept" in fails(capsys, command, status=130)
    first = tmp_path / "sweep" / "block-00" / "scope" / "manifest.json"
    written = first.stat().st_mtime_ns
    monkeypatch.undo()
    made = []
    make = sweep_module.make_dictionaries
    monkeypatch.setattr(
        sweep_module, "make_dictionaries", lambda *given, **options: made.append(given) or make(*given, **options)
    )
    assert main(command) == 0
    assert not made  # the components were there
    assert first.stat().st_mtime_ns == written
    for block in ("block-00", "block-02"):
        ours, theirs = (open_run(folder / block / "scope").scope for folder in (tmp_path / "sweep", place / "sweep"))
        assert ours.equals(theirs)
    assert main([*words(), "--blocks", "0,1,2", "--out", f"{tmp_path}/sweep"]) == 0
    assert [backbone.block for given in made for backbone in given[1]] == [1]
    assert "Block 0 (1 of 3): finished before" in capsys.readouterr().err


def test_a_sweep_that_goes_on_does_not_mix_two_sets_of_photographs(place, words, tmp_path, capsys):
    shutil.copytree(place / "images", tmp_path / "images")
    command = [*words(), "--images", f"{tmp_path}/images", "--out", f"{tmp_path}/sweep"]
    assert main([*command, "--blocks", "0"]) == 0
    photographs = sorted((tmp_path / "images").rglob("*.png"))
    for photograph in photographs:
        os.utime(photograph, ns=(5, 5))
    assert main([*command, "--blocks", "0"]) == 0
    shutil.copy(photographs[1], photographs[0])
    line = fails(capsys, [*command, "--blocks", "0,2"])
    assert f"{photographs[0].name} of {tmp_path}/images has changed since it was first read" in line
    assert not (tmp_path / "sweep" / "block-02").exists()


def test_an_sae_is_trained_at_each_block_where_none_is_given(place, words, tmp_path, capsys):
    train = ["--train.features", "24", "--train.k", "4", "--train.tokens", "2000", "--train.batch-tokens", "256"]
    model = ["--model", f"{place}/model", "--input-side", str(SIDE), *train]
    assert main([*words(*model), "--blocks", "-1", "--out", f"{tmp_path}/sweep"]) == 0
    assert "one block, nothing to compare" in capsys.readouterr().out
    sae = load_sae(tmp_path / "sweep" / "block-02" / "sae")
    assert (sae.features, str(sae.activation), sae.site["block"]) == (24, "topk(4)", 2)
    assert open_run(tmp_path / "sweep" / "block-02" / "scope").manifest.dictionary.sha256 == sae.sha256
    other = [word if word != "24" else "32" for word in words(*model)]
    assert "another sweep's directory (train: features was 24, now 32)" in fails(
        capsys, [*other, "--blocks", "2", "--out", f"{tmp_path}/sweep"]
    )


@pytest.mark.slow
def test_saes_that_exist_say_model_and_block(place, words, tmp_path):
    saes = [f"{place}/sweep/block-{block}/sae" for block in ("02", "00")]
    assert main([*words("--saes", *saes), "--out", f"{tmp_path}/sweep"]) == 0
    for block in ("block-00", "block-02"):
        ours, theirs = (open_run(folder / block / "scope").scope for folder in (tmp_path / "sweep", place / "sweep"))
        assert ours.equals(theirs)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--dictionary", "pca"], "--model missing"),
        (["--model", "MODEL", "--blocks", "3", "--dictionary", "pca"], "has blocks 0 to 2, and no block 3"),
        (["--model", "MODEL", "--components", "2"], "--components belongs to --dictionary"),
        (["--saes", "SAE", "--blocks", "1"], "--blocks does not go with --saes"),
        (["--saes", "SAE", "--dictionary", "pca"], "give --saes or --dictionary"),
        (["--saes", "SAE", "COPY"], "are both of block 0"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(place, words, tmp_path, capsys, more, message):
    shutil.copytree(place / "sweep" / "block-00" / "sae", tmp_path / "copy")
    names = {"MODEL": f"{place}/model", "SAE": f"{place}/sweep/block-00/sae", "COPY": f"{tmp_path}/copy"}
    command = [*words(*(names.get(word, word) for word in more)), "--out", f"{tmp_path}/sweep"]
    assert message in fails(capsys, command)
    assert not (tmp_path / "sweep").exists()


def test_another_directory_is_refused(place, words, tmp_path, capsys):
    channels = [word for word in words() if word not in ("--components", "8")]
    channels[channels.index("pca")] = "channels"
    line = fails(capsys, [*channels, "--out", f"{place}/sweep"])
    assert "another sweep's directory (dictionary was pca, now channels)" in line
    (tmp_path / "mine.txt").write_text("mine")
    assert "is not empty and no sweep's directory" in fails(capsys, [*words(), "--out", str(tmp_path)])
