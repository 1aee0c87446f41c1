"""Files: atomic writing, locks, stamps of finished steps, Kaldi tables and archives, text and JSON."""
