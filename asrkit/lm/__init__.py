"""Phone language models: n-grams with their smoothing, and automata that a search reads."""
