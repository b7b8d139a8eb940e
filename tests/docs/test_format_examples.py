"""The Python of the pages runs, page by page, and prints what stands below it."""

import contextlib
import io

import pytest
from pages import PAGES, ROOT, blocks


def examples(page):
    """The Python blocks of a page, each with the `text` block that follows it at once, or None."""
    found = blocks(page)
    for block, after in zip(found, (*found[1:], None), strict=True):
        if block.language == "python":
            end = block.line + block.text.count("\n") + 1
            follows = after is not None and after.language == "text" and after.line <= end + 2
            yield block, after.text if follows else None


FORMATS = [page for page in PAGES if page.name in ("bundle-format.md", "update-format.md")]


@pytest.mark.parametrize("page", FORMATS, ids=[page.name for page in FORMATS])
def test_the_bytes_of_the_formats_are_those_that_the_code_writes(page):
    assert run_page(page) >= 2


def run_page(page) -> int:
    """Run a page's examples in one namespace; returns how many had output to compare."""
    names, compared = {}, 0
    for block, expected in examples(page):
        out = io.StringIO()
        code = compile("\n" * (block.line - 1) + block.text, str(page.relative_to(ROOT)), "exec")
        with contextlib.redirect_stdout(out):
            exec(code, names)
        if expected is not None:
            assert out.getvalue() == expected
            compared += 1
    return compared
