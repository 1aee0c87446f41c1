"""The page and the HTTP API of `asrkit serve`. asrkit.inference does the recognition."""
