#!/usr/bin/env bash
# Runs the tests in an environment that the first call creates; arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/environment.sh

prepare_environment requirements.txt requirements-test.txt requirements-extras.txt
prepare_environment --no-deps requirements-simulators.txt
exec "$VENV/bin/python" -m pytest "$@"
