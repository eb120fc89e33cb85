"""Python code in the Markdown pages runs as it stands."""

import subprocess
import sys

import pytest

from tests.docs.pages import PAGES, ROOT, code_blocks

WITH_CODE = [page for page in PAGES if code_blocks(page, "python")]


@pytest.mark.parametrize("page", WITH_CODE, ids=str)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path):
    code = "\n".join(code_blocks(page, "python"))
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
