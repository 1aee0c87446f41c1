"""The page and the HTTP API of `asrkit serve`. Recognition itself is asrkit.inference's."""
