"""Everything that relies on another library's private names: one module a library.

Each module states the versions in which its names hold, and ``tests/compat`` has a test for each
name that says what to look at when the library changes. No other package uses a private name of a
library (``tests/test_layers.py``).
"""
