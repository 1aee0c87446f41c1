"""Phones: token tables, phone maps, the International Phonetic Alphabet, and articulation."""
