"""Conditions on FILE as a whole: over several sections, arms and the search space.

``config/load.py`` checks those that FILE alone decides, ``training/checks.py`` those that depend on
its metrics or workers.
"""
