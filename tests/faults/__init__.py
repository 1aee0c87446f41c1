"""Faults made on purpose: what asrkit does when files are damaged, killed, crafted. Run by hand; small in the tests."""
