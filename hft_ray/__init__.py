"""hft-ray: fine-tune a language model and lose the least of what it already knows."""

__version__ = "0.1.0"
