"""Ways to run a model: generate text and score candidate answers."""
