"""Options of training: declared in `options`, given on the command line or in a file, and resolved to a `TrainConfig`.

Reading this package imports no torch, so that `fedgate train --help` does not; `resolve` and `checks` do.
"""

from .options import TrainConfig

__all__ = ["TrainConfig"]
