"""The parts of the model-based sampler: space, models, and what a point is worth."""
