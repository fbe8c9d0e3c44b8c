"""The demo: a small language model that knows some facts, the facts, and a task to teach it."""
