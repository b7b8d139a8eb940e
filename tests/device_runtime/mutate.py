"""Valid bytes with something wrong in them, for hypothesis."""

from hypothesis import strategies as st


@st.composite
def mutations(draw, blob):
    """A valid blob with a few bytes changed, cut, or inserted."""
    blob = bytearray(blob)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(blob) - 1))
        how = draw(st.sampled_from(["set", "cut", "insert"]))
        new = draw(st.binary(min_size=1, max_size=4))
        blob[place : place + (0 if how == "insert" else len(new))] = b"" if how == "cut" else new
        blob = blob or bytearray(b"x")
    return bytes(blob)
