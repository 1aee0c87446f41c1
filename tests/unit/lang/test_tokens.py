import pytest

from asrkit.errors import DataError
from asrkit.lang.tokens import BLANK, TokenTable

ODD = ["'", "#", ",", "]", "<", "\\", "t͡ʃ", "ã", "e\u0303", "🜁"]


def test_blank_is_zero_and_phones_count_up():
    table = TokenTable(["b", "a"])
    assert table.symbols == (BLANK, "b", "a")
    assert table.encode(["a", "b", "a"]) == [2, 1, 2]
    assert table.decode([2, 1]) == ("a", "b")
    assert ("a" in table, "c" in table, BLANK in table) == (True, False, False)


def test_any_symbol_survives_the_file(tmp_path):
    TokenTable(ODD).write(tmp_path / "tokens.txt")
    table = TokenTable.read(tmp_path / "tokens.txt")
    assert table.phones == tuple(ODD)
    assert table.decode(table.encode(ODD)) == tuple(ODD)


def test_unknown_phones_are_all_named():
    with pytest.raises(DataError, match=r"^utt7: phones not in the token table: x y$"):
        TokenTable(["a"]).encode(["y", "a", "x", "y"], "utt7")
    with pytest.raises(DataError, match=BLANK):
        TokenTable(["a"]).encode([BLANK])


@pytest.mark.parametrize("phones", [["a", "a"], [""], ["a b"], [BLANK], ["a\n"], ["\x1b[2J"], ["\ud800"]])
def test_symbols_that_cannot_be(phones):
    with pytest.raises(DataError):
        TokenTable(phones)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 0\n", r":1: expected `<blk> 0` first"),
        ("<blk> 0\na 2\n", r":2: expected `symbol 1`, found 'a 2'"),
        ("<blk> 0\na\n", r":2: expected `symbol 1`, found 'a'"),
        ("<blk> 0\n\n", r":2: expected `symbol 1`"),
        ("<blk> 0\na 1\na 2\n", "given twice: a"),
        ("", ":1: expected"),
    ],
)
def test_malformed_files(tmp_path, text, message):
    (tmp_path / "tokens.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        TokenTable.read(tmp_path / "tokens.txt")


def test_missing_and_undecodable_files(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        TokenTable.read(tmp_path / "absent")
    (tmp_path / "latin").write_bytes(b"<blk> 0\n\xe9 1\n")
    with pytest.raises(DataError, match="neither UTF-8 nor UTF-16"):
        TokenTable.read(tmp_path / "latin")
