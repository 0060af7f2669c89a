"""``python -m lstm_ext``: the same as ``lstm-ext``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
