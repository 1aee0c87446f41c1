from dataclasses import dataclass, field
from typing import Literal

import pytest

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import config_text, dump_config, load_config, parse_config
from asrkit.errors import ConfigError
from tests.presets import EACH_PRESET


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    size: int = 3
    kind: Literal["lstm", "gru"] = "lstm"

    def __post_init__(self):
        if self.size < 1:
            raise ConfigError(f"inner.size must be at least 1, found {self.size}")


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    flag: bool = True
    maybe: float | None = None
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner = field(default_factory=Inner)


def parse(text: str) -> Outer:
    return parse_config(text, Outer, "c.yaml")


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value).split("\n")


def test_the_declared_type_decides_how_a_scalar_is_read():
    config = parse("name: no\nflag: no\nmaybe: 1e-3\nsizes: [4, 5]\ninner: {rate: 1, size: 7, kind: gru}\n")
    assert config == Outer("no", False, 0.001, (4, 5), Inner(1.0, 7, "gru"))


def test_what_is_left_out_keeps_its_default():
    assert parse("") == Outer()
    assert parse("inner: {size: 9}\n") == Outer(inner=Inner(size=9))
    assert parse("maybe: null\n").maybe is None


def test_every_fault_is_reported_at_once_with_its_line():
    assert faults("nam: y\nflag: maybe\nname: a\nname: b\ninner:\n  rate: fast\n  size: 1.5\n  kind: lst\n") == [
        "c.yaml:1: unknown setting 'nam'; did you mean 'name'?",
        "c.yaml:2: flag: expected true or false, found 'maybe'",
        "c.yaml:4: name is set twice; keep one",
        "c.yaml:6: inner.rate: expected a finite number, found 'fast'",
        "c.yaml:7: inner.size: expected a whole number, found '1.5'",
        "c.yaml:8: inner.kind: expected one of lstm, gru, found 'lst'; did you mean 'lstm'?",
    ]


def test_impossible_values_are_reported_at_their_own_line():
    assert faults("name: a\ninner:\n  rate: 2\n  size: 0\n") == ["c.yaml:4: inner.size must be at least 1, found 0"]


def test_an_impossible_value_is_reported_beside_other_faults():
    assert faults("inner:\n  size: 0\n  rate: x\n  sise: 1\n") == [
        "c.yaml:3: inner.rate: expected a finite number, found 'x'",
        "c.yaml:4: unknown setting 'inner.sise'; did you mean 'size'?",
        "c.yaml:2: inner.size must be at least 1, found 0",
    ]


def test_a_list_with_an_unreadable_entry_is_not_checked_further():
    with pytest.raises(ConfigError) as caught:
        parse_config("training: {augment: {speeds: [fast, 1.0]}}", ExperimentConfig, "c.yaml")
    assert str(caught.value) == "c.yaml:1: training.augment.speeds[0]: expected a finite number, found 'fast'"


def test_an_empty_section_keeps_its_defaults():
    assert parse("inner:\n") == Outer()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("? [a]\n: 1\n", "c.yaml:1: expected the name of a setting, found a sequence"),
        ("a: [1\n", "c.yaml:2: not valid YAML"),
        ("[" * 20000, "c.yaml: nested too deeply"),
        ("- 1\n", "c.yaml:1: the file: expected a mapping"),
        ("inner: 3\n", "c.yaml:1: inner: expected a mapping"),
        ("sizes: 3\n", "c.yaml:1: sizes: expected a list"),
        ("sizes: [1, x]\n", "c.yaml:1: sizes[1]: expected a whole number"),
        ("maybe: .nan\n", "c.yaml:1: maybe: expected a finite number"),
        ("name: [a]\n", "c.yaml:1: name: expected text, found a sequence"),
    ],
)
def test_malformed_files(text, message):
    (fault,) = faults(text)
    assert fault.startswith(message)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        load_config(tmp_path / "absent.yaml", Outer)


def test_dumping_and_loading_gives_the_same_settings(tmp_path):
    config = Outer("é", False, 2.5e-7, (3,), Inner(1e-5, 2, "gru"))
    dump_config(config, tmp_path / "c.yaml")
    assert load_config(tmp_path / "c.yaml", Outer) == config
    assert parse_config(config_text(ExperimentConfig()), ExperimentConfig, "d") == ExperimentConfig()


def put(text: str, *overrides: str) -> Outer:
    return parse_config(text, Outer, "c.yaml", overrides)


def test_overrides_are_put_over_the_file():
    text = "name: a\ninner: {rate: 1, size: 7}\n"
    assert put(text, "inner.size=8", "maybe=1e-3", "sizes=[4, 5]") == Outer("a", True, 0.001, (4, 5), Inner(1.0, 8))
    assert put(text, "inner.size=8", "inner.size=9", "inner.kind=gru").inner == Inner(1.0, 9, "gru")
    assert put(text, "inner={kind: gru}").inner == Inner(kind="gru")
    assert put("maybe: 2\ninner:\n", "maybe=", "inner.size=2") == Outer(inner=Inner(size=2))
    assert put("", "name=no") == Outer("no")
    assert load_config(None, Outer, ["inner.size=9"]) == Outer(inner=Inner(size=9))
    assert load_config(None, Outer) == Outer()


def test_a_fault_of_an_override_names_it_and_the_file_s_keep_their_lines():
    with pytest.raises(ConfigError) as caught:
        put("name: a\ninner:\n  rate: x\n  size: 0\nname: b\n", "inner.size=-1", "flag=2", "inner.sise=1", "nam=b")
    assert str(caught.value).split("\n") == [
        "c.yaml:3: inner.rate: expected a finite number, found 'x'",
        "--set inner.sise=1: unknown setting 'inner.sise'; did you mean 'size'?",
        "--set inner.size=-1: inner.size must be at least 1, found -1",
        "c.yaml:5: name is set twice; keep one",
        "--set flag=2: flag: expected true or false, found '2'",
        "--set nam=b: unknown setting 'nam'; did you mean 'name'?",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("inner.size", "--set inner.size: expected SECTION.SETTING=VALUE, such as training.seed=2"),
        ("=3", "--set =3: expected SECTION.SETTING=VALUE"),
        ("inner.=3", "--set inner.=3: expected SECTION.SETTING=VALUE"),
        ("name.x=3", "--set name.x=3: no setting 'x': c.yaml:1 holds no section of settings"),
        ("flag.x=3", "--set flag.x=3: flag: expected true or false, found a mapping"),
        ("sizes=[1", "--set sizes=[1: not valid YAML"),
        ("inner=3", "--set inner=3: inner: expected a mapping of settings"),
    ],
)
def test_malformed_overrides(override, message):
    with pytest.raises(ConfigError) as caught:
        put("name: a\n", override)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_settings_that_do_not_go_together_are_reported_where_one_of_them_is_set():
    with pytest.raises(ConfigError) as caught:
        parse_config("model: {head: ctc}\n", ExperimentConfig, "c.yaml", ["training.pretrain_epochs=2"])
    assert str(caught.value).startswith("--set training.pretrain_epochs=2: training.pretrain_epochs is for model.head")


@EACH_PRESET
def test_shipped_configurations_are_valid(path):
    load_config(path, ExperimentConfig)


def test_a_file_that_is_no_configuration_by_its_size(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("# settings\n" * 30_000)
    with pytest.raises(ConfigError, match=r"c.yaml: more than 262144 bytes; expected the few settings"):
        load_config(path, Outer)


def test_numbers_that_no_setting_has(tmp_path):
    for number in ("9" * 20, "9" * 5000, "1e999", "٣"):
        with pytest.raises(ConfigError, match=r"c.yaml:1: "):
            parse_config(f"{{training: {{seed: {number}, max_lr: {number}}}}}", ExperimentConfig, "c.yaml")
