"""Half fine-tuning in other libraries' training loops.

Each module is one library's and imports it; see ``docs/integrations.md``.
"""
