"""Scoring: alignment, phone error rate, protocols, confidence intervals and phone boundaries."""
