"""Corpora: reads each supported corpus, and the user's own, as utterances with phones."""
