#!/usr/bin/env bash
# Checks the project on a GPU: the tests, counted memory against allocated memory, a training step
# against the published way, and a short training. Writes gpu_check/results.json and
# gpu_check/page.md, to be attached to an issue. --help lists the flags.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh

prepare_environment requirements.txt requirements-test.txt
exec "$VENV/bin/python" scripts/gpu_check.py "$@"
