"""Python code in the Markdown pages runs as it stands."""

from importlib.util import module_from_spec, spec_from_file_location

import pytest

from tests.docs.pages import PAGES, code_blocks

WITH_CODE = [page for page in PAGES if code_blocks(page, "python")]


@pytest.mark.parametrize("page", WITH_CODE, ids=str)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, sandbox):
    file = sandbox / f"{page.stem}_code.py"
    file.write_text("\n".join(code_blocks(page, "python")))
    spec = spec_from_file_location(file.stem, file)
    spec.loader.exec_module(module_from_spec(spec))
