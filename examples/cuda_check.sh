#!/usr/bin/env bash
# On a machine with a GPU: builds the package, checks the CUDA operator and times it beside cuDNN.
# Takes under ten minutes; the last thing it prints is a table. Run it from the repository's root:
#
#     examples/cuda_check.sh [OUTPUT_FOLDER]
#
# The folder gets the whole log and the measurements as JSON. CuPy and pytest must be installed for
# python3, and for the build cmake, ninja, pybind11 and scikit-build-core; nothing is downloaded.
# torch is compared with if it is there, and bfloat16 is measured only then.
set -euo pipefail

python=${PYTHON:-python3}
out=${1:-cuda_check}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m venv --system-site-packages "$work/venv"
# A venv of a venv sees its packages only this way.
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
  >"$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"

echo "== build"
"$work/venv/bin/python" -m pip install -q --no-build-isolation --no-deps --force-reinstall \
  -C cmake.define.LSTM_EXT_CUDA=ON -C cmake.define.CMAKE_CUDA_ARCHITECTURES=native . 2>&1 | tee "$out/build.log"
"$work/venv/bin/lstm-ext" info

echo "== check"
# The table is worth having even where a check fails. Most of the time is NumPy's; pytest-xdist
# shares it out where it is installed, which pytest-benchmark would complain of.
status=0
several=$("$python" -c 'import importlib.util as u
print("-p no:benchmark -n 8" if u.find_spec("xdist") else "")')
# shellcheck disable=SC2086  # words
"$work/venv/bin/python" -m pytest -q $several --maxfail=20 \
  tests/test_cuda_gpu.py tests/test_devices_gpu.py tests/test_cuda_plan.py \
  >"$out/tests.log" 2>&1 || status=$?
tail -n 30 "$out/tests.log"

echo "== time"
timeout 420 "$work/venv/bin/lstm-ext" bench --device cuda --rounds 5 --seconds 1 \
  --json "$out/bench.json" 2>"$out/bench.log" | tee "$out/table.txt" || status=$?
grep -v "^\(forward\|training\) [a-z0-9]* [0-9,]*$" "$out/bench.log" || true
[ "$status" -eq 0 ] || echo "something failed: see $out" >&2
exit "$status"
