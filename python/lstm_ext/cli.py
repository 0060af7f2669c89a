"""The command ``lstm-ext``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from . import _cpu
from .interchange import commands as interchange

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, or 2 for a mistake in how it was called."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        status = int(options.run(options))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ModuleNotFoundError, NotImplementedError) as error:
        print(f"lstm-ext {options.command}: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lstm-ext", description=__doc__)
    parser.add_argument("--version", action="version", version=f"lstm_ext {_cpu.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands.add_parser("demo", help="train on a time series and forecast its end"))
    _add_bench(commands.add_parser("bench", help="measure this package beside its peers"))
    interchange.add_convert(
        commands.add_parser("convert", help="write a model for another framework")
    )
    interchange.add_predict(commands.add_parser("predict", help="run a model file over data"))
    info = commands.add_parser("info", help="what this installation is and what it lacks")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=_info)
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train an LSTM on a time series, forecast the part that it never saw, and compare with "
        "simple forecasts and with the same training in other frameworks. Without --csv, the "
        "yearly sunspots from 1700 on."
    )
    parser.add_argument("--csv", metavar="FILE", help="a file with the series in a column")
    parser.add_argument("--column", metavar="NAME", help="that column, by its heading")
    parser.add_argument("--season", type=int, metavar="N", help="steps in a season")
    parser.add_argument("--epochs", type=int, default=300, help="at most (default 300)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and shuffling (default 0)")
    parser.add_argument("--output", metavar="PNG", default="forecast.png", help="the picture")
    parser.add_argument("--no-peers", action="store_true", help="do not time other frameworks")
    parser.set_defaults(run=_demo)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    from .bench.grid import GROUPS, SUITES
    from .bench.peers import PEERS

    parser.description = (
        "Measure named shapes, beside each peer that is installed, in interleaved rounds in one "
        "process. Results are checked before they are timed."
    )
    suites = (*SUITES, *GROUPS, "gpu")  # the last on a GPU only
    peers = tuple(peer.name for peer in PEERS)
    parser.add_argument(
        "--suite", type=_list_of(suites), metavar="NAMES", help=f"any of {', '.join(suites)}"
    )
    parser.add_argument("--shape", action="append", metavar="B,T,I,H", help="a shape; repeatable")
    parser.add_argument(
        "--mode", type=_list_of(("forward", "stream", "training", "fit")), metavar="MODES",
        help="any of forward, stream, training, fit; by default each suite's own",
    )  # fmt: skip
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu",
        help="cuda: on a GPU, beside torch's cuDNN, in float32 and bfloat16",
    )  # fmt: skip
    parser.add_argument("--threads", type=_integers, metavar="N[,N]", help="for every subject")
    parser.add_argument("--isa", choices=_cpu.available_isas(), help="force an instruction set")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument(
        "--weights-dtype", type=_list_of(("bfloat16", "int8")), default=(), metavar="DTYPES",
        help="store the weights smaller: bfloat16, int8 or both; by default each suite's own",
    )  # fmt: skip
    parser.add_argument(
        "--peers", type=_list_of((*peers, "none")), metavar="NAMES",
        help=f"any of {', '.join(peers)}, or none; by default all that take such weights",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=9, help="at least 3 (default 9)")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="for all rounds of a shape (default 2)"
    )
    parser.add_argument("--json", metavar="FILE", help="write everything there")
    parser.add_argument("--markdown", metavar="FILE", help="write a table for a page there")
    parser.add_argument("--plot", metavar="PNG", help="write a picture of the ratios there")
    parser.add_argument("--roofline", metavar="PNG", help="write a roofline there")
    parser.add_argument(
        "--compare",
        metavar="JSON",
        help="compare with an earlier --json, of this version or another",
    )
    parser.set_defaults(run=_bench)


def _list_of(known: Sequence[str]):  # type: ignore[no-untyped-def]
    """Return a reader of comma-separated names out of `known`."""

    def names(text: str) -> tuple[str, ...]:
        found = tuple(name.strip() for name in text.split(","))
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return found

    return names


def _integers(text: str) -> tuple[int, ...]:
    values = tuple(int(part) if part.strip().isdigit() else 0 for part in text.split(","))
    if min(values) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of positive whole numbers")
    return values


def _info(options: argparse.Namespace) -> int:
    from . import info

    print(json.dumps(info.collect(), indent=1) if options.json else info.describe())
    return 0


def _demo(options: argparse.Namespace) -> int:
    from .demo import run

    run(options)
    return 0


def _bench(options: argparse.Namespace) -> int:
    from .bench import earlier, plot, report
    from .bench.grid import parse_shape
    from .bench.runner import Settings, run

    if options.rounds < 3:
        raise ValueError(f"--rounds: got {options.rounds}, expected at least 3")
    if options.device == "cuda":
        from .bench.gpu.run import main as run_on_gpu

        return run_on_gpu(options)
    shapes = [parse_shape(text) for text in options.shape or ()]
    suites = options.suite or (() if shapes else ("grid",))
    if "gpu" in suites:
        raise ValueError("--suite: got gpu, which is only for --device cuda")
    chosen, modes = Settings.choose(suites, shapes, options.mode)
    threads = options.threads or (_cpu.num_threads(),)
    before = earlier.load(options.compare) if options.compare else None
    settings = Settings(
        chosen, modes, options.dtype, threads, options.isa, options.peers, options.rounds,
        options.seconds, options.weights_dtype,
    )  # fmt: skip
    result = run(settings)
    print(report.table(result.rows))
    if before is not None:
        print(earlier.compare(result.rows, before))
    if options.json:
        result.save(options.json)
    if options.markdown:
        with open(options.markdown, "w", encoding="utf-8") as file:
            file.write(report.markdown(result))
    if options.plot:
        plot.plot_ratios(result, options.plot)
    if options.roofline:
        plot.plot_roofline(result, options.roofline)
    return 0
