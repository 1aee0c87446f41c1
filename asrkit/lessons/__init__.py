"""The lessons of a textbook on recurrent networks. Each is a small module to be read beside its page in docs/textbook/.

A lesson is a module with a function `study(quick)`, which returns a Lesson: a table, figures and pictures. Lessons on
speech have `study(quick, speech)`. This table loads none of them.
"""

LESSONS = {
    "reber": "asrkit.lessons.reber",
    "gradients": "asrkit.lessons.gradients",
    "truncation": "asrkit.lessons.truncation",
    "memory": "asrkit.lessons.memory",
    "phones": "asrkit.lessons.phones",
    "characters": "asrkit.lessons.characters",
    "sequences": "asrkit.lessons.sequences",
    "hopfield": "asrkit.lessons.hopfield",
}

ON_SPEECH = ("memory", "phones")  # they use the data of a recipe and models trained on it
