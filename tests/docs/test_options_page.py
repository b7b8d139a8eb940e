"""docs/options.md is what the declarations of the options say."""

from pages import ROOT

from fedgate.train.config.table import page


def test_the_page_is_the_declarations():
    assert (ROOT / "docs/options.md").read_text() == page(), "python -m fedgate.train.config.table > docs/options.md"
