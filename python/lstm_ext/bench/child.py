"""A run with one thread count, in a process of its own: settings in, a report's file out."""

from __future__ import annotations

import json
import sys

from .grid import Shape
from .runner import Settings, run


def main() -> None:
    """Read the settings from the command line, and write the report where it says."""
    request, path, *command = sys.argv[1:]
    fields = json.loads(request)
    sys.argv[1:] = command  # for the report's record of the command
    fields["shapes"] = [(group, Shape(*shape)) for group, shape in fields["shapes"]]
    run(Settings(**fields)).save(path)


if __name__ == "__main__":
    main()
