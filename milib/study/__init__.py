"""A run of the study: what is measured, and kept."""

from importlib.util import find_spec

if find_spec("yaml") is None:
    raise ImportError("milib.study needs its extra: pip install '.[study]' in a clone of the study")
