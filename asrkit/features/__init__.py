"""Features: MFCC front ends, deltas, cepstral mean and variance normalisation, and their extraction to archives."""
