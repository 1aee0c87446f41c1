"""The endings of audio files' names: they say which files of a directory are audio. The content tells the format."""

# Formats that are read: libsndfile's, and NIST SPHERE.
AUDIO_ENDINGS = frozenset(
    (
        *(".wav", ".wave", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".nist"),
        *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"),
    )
)

# Formats that are not read. A corpus that has them is refused instead of read without them.
UNREADABLE_AUDIO_ENDINGS = frozenset((".m4a", ".aac", ".wma"))
