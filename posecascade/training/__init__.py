"""Train a model: recipe, data, augmentation, losses, optimizer, the run itself and what it writes."""
