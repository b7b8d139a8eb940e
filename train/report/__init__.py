"""One HTML page that compares runs: history, measure -> summary -> figures -> page."""
