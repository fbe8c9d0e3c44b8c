"""What the commands do, without the terminal: a module for each action, for the command and Python.

A module imports what takes long when its function is called.
"""
