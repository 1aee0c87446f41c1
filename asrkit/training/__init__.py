"""Training: data, augmentation, gradient steps, learning-rate schedules and checkpoints."""
