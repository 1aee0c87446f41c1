"""What each step of a recipe does, as functions."""
