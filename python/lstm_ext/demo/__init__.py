"""``lstm-ext demo``: train on a time series, forecast the part that was never seen.

`series` gets the numbers and cuts them up, `forecast` trains and predicts, `peers` times the same
training elsewhere, `plot` draws, and `run` tells the story.
"""

from .run import run

__all__ = ["run"]
