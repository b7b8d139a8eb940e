"""JSON documents with something changed in them, for tests of what reads them."""

from hypothesis import strategies as st

HASHES = {"sha256": "0" * 64, "bytes": 4}


def put(*path_and_value):
    """A change: set (or with Ellipsis delete) the value at a path."""
    *path, key, value = path_and_value

    def change(fields):
        for step in path:
            fields = fields[step]
        if value is ...:
            del fields[key]
        else:
            fields[key] = value

    return change


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def paths(value, at=()):
    """Every place in a JSON value."""
    yield at
    for key, item in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else []):
        yield from paths(item, (*at, key))
