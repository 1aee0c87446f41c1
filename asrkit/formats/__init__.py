"""File formats of speech research: TextGrid, CTM, ARPA, Kaldi data directories, HTK and TIMIT labels, SRT and more."""
