"""The HTML report: one page with results, alignments, spectrograms and posteriors."""
