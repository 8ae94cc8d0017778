"""Training of models: recipes, data, losses, the loop."""
