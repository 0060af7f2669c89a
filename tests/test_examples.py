"""The examples run, and print what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_seed_notebook() -> None:
    command = [sys.executable, str(EXAMPLES / "seed_notebook.py")]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    assert "outputs: (1, 5, 20)  h_state: (1, 20)  c_state: (1, 20)" in text
    assert "Difference between last output and h_state: 0.0\n" in text
    pairs = re.findall(r"predicted +(-?[\d.]+)  truth +([\d.]+)", text)
    assert len(pairs) == 20
    assert all(abs(float(predicted) - float(truth)) < 0.05 for predicted, truth in pairs)
