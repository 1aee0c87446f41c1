"""TextGrids that praatio writes, with any labels, come back the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkit.findings import Findings
from asrkit.formats.textgrid import read_textgrid

textgrid = pytest.importorskip("praatio.textgrid", reason="praatio, of the extra test, is not installed")

# praatio strips labels and has no line ends in them.
LABELS = st.text(
    st.one_of(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), st.sampled_from('" !\\[]<>')),
    max_size=8,
).map(str.strip)


@settings(max_examples=60)
@given(
    labels=st.lists(LABELS, min_size=1, max_size=6),
    form=st.sampled_from(["long_textgrid", "short_textgrid"]),
    encoding=st.sampled_from(["utf-8", "utf-16"]),
)
def test_any_labels_come_back(tmp_path_factory, labels, form, encoding):
    written = textgrid.Textgrid()
    intervals = [(0.125 * index, 0.125 * (index + 1), label) for index, label in enumerate(labels)]
    written.addTier(textgrid.IntervalTier("phones", intervals, 0, 1))
    path = tmp_path_factory.mktemp("grid") / "a.TextGrid"
    written.save(str(path), form, includeBlankSpaces=False)
    path.write_bytes(path.read_bytes().decode("utf-8").encode(encoding))
    findings = Findings()
    (tier,) = read_textgrid(path, findings)
    assert findings == Findings()
    assert [(label.start, label.end, label.phone) for label in tier.labels] == intervals
