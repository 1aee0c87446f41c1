"""Networks: front ends, encoders, output heads and decoders, in PyTorch and in NumPy."""
