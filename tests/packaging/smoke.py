"""Whether an installed infoscope works: its script, the module, a measurement, and the site that comes with it.

    python smoke.py .../bin/infoscope [--demo]

It uses nothing of the checkout and no test library, so it runs in an environment that holds the wheel alone. The heavy
part is done in this process, to import torch once.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main(script: str, *more: str) -> None:
    version = run(script, "--version")
    assert version == run(sys.executable, "-m", "infoscope", "--version"), version
    assert "measure" in run(script, "--help")
    assert "clip-scope-22" in run(sys.executable, "-m", "infoscope", "saes")

    import numpy as np
    import torch
    from PIL import Image
    from transformers import ViTConfig, ViTModel

    import infoscope
    from infoscope.cli.main import main as infoscope_main

    place = Path(tempfile.mkdtemp())
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ViTModel(ViTConfig(image_size=48, patch_size=8, **shape)).save_pretrained(place / "model")
    (place / "images").mkdir()
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "images" / f"{number}.png")
    words = ["measure", "--model", f"{place}/model", "--block", "1", "--dictionary", "channels", "--shift", "1"]
    words += ["--images", f"{place}/images", "--top-images", "2", "--min-pairs", "1", "--out", f"{place}/run"]
    assert infoscope_main([*words, "--quiet"]) == 0
    scored = infoscope.open_run(place / "run").scope["cds"].is_not_null().sum()
    assert scored > 0
    # The page's template, style and scripts, and the list of classes, are files of the package.
    assert infoscope_main(["report", f"{place}/run", "--features-shown", "1", "--quiet"]) == 0
    assert (place / "run" / "report" / "index.html").is_file()
    if "--demo" in more:
        made = json.loads(run(script, "demo", "--photographs", "24", "--json", "--out", f"{place}/demo"))
        assert made["result"]["features"]["scored"] > 0
        assert Path(made["written"]["page"]).is_file()
    print(json.dumps({"version": version.split()[1], "from": str(Path(infoscope.__file__).parent), "scored": scored}))


if __name__ == "__main__":
    main(*sys.argv[1:])
