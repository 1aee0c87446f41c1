"""Decoding: from a network's outputs to phones, with their confidences and frames."""
