"""Taking a run away: weights, recipe, model card, heads."""
