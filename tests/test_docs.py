from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    gallery = (tmp_path / "gallery" / "index.html").read_text()
    assert "reproduced at laptop scale" in gallery
    assert "Plotly.newPlot" in gallery
    assert "PlasticRNN" in (tmp_path / "reference" / "index.html").read_text()
