import pytest

from hf_musiclf.arguments import parse_recipe
from hf_musiclf.errors import UserError

DEFAULTS = dict(output_dir="runs/x", learning_rate=3e-5, use_cpu=True, window_seconds=5.0)


def test_default_then_recipe_then_file_then_flag(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("learning_rate: 2e-5\nseed: 7\nmodel_config: {hidden_size: 192}\nbf16: no\n")
    data, model, training = parse_recipe(DEFAULTS, ["--config", str(config), "--seed", "8"])
    assert data.split_scheme is None  # dataclass
    assert data.window_seconds == 5.0  # recipe
    assert training.learning_rate == 2e-5  # file; PyYAML alone would read text
    assert training.seed == 8  # flag
    assert training.bf16 is False
    assert model.config_overrides() == {"hidden_size": 192}


def test_null_in_a_file_takes_the_recipes_default_away(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("window_seconds: null\n")
    assert parse_recipe(DEFAULTS, ["--config", str(config)])[0].window_seconds == 10.24


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--learning_rat", "1"], r"unknown flag --learning_rat; did you mean --learning_rate\?"),
        (["--learning_rate", "fast"], r"--learning_rate: invalid float value: 'fast'"),
        (["--window_seconds", "-1"], r"window_seconds=-1\.0 must be greater than 0 s"),
        (["--balance", "oversample", "--balance_power", "0"], r"balance_power=0\.0 must lie in \(0, 1\]"),
        (["--balance", "oversample", "--balance_power", "1.5"], r"balance_power=1\.5 must lie in \(0, 1\]"),
        (["--window_seconds", "5", "--eval_hop_seconds", "6"], r"eval_hop_seconds=6\.0 must lie in \(0, 5\.0\]"),
        (["--train_layers", "last:0"], r"train_layers='last:0' is not known; choose all, head or last:N"),
        (["--model_config", "hidden_size"], r"model_config='hidden_size' is neither key=value"),
        (["--train_windows", "some"], r"train_windows='some' is not known"),
        (["stray"], r"'stray' stands alone"),
        (["--config"], r"--config: expected a YAML file"),
        (["--config", "nowhere.yaml"], r"--config nowhere\.yaml: No such file"),
    ],
)
def test_a_mistake_is_one_line(argv, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_recipe(DEFAULTS, argv)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("learning_rte: 1\n", r"unknown key in .*c\.yaml learning_rte; did you mean learning_rate\?"),
        ("learning_rate: fast\n", r"c\.yaml: --learning_rate: invalid float value: 'fast'"),
        ("num_train_epochs: [1, 2]\n", r"c\.yaml: "),
        ("bf16: perhaps\n", r"c\.yaml: --bf16: .*perhaps"),
        ("- a\n- b\n", r"must hold `flag: value` lines, it holds a list"),
        ("a: [\n", r"is not YAML"),
    ],
)
def test_a_wrong_config_file_is_one_line_that_names_it(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        parse_recipe(DEFAULTS, ["--config", str(tmp_path / "c.yaml")])
    assert "\n" not in str(caught.value)


def test_a_recipe_with_a_mistyped_default_is_refused():
    with pytest.raises(UserError, match="unknown DEFAULTS key learning_rte"):
        parse_recipe(dict(learning_rte=1), [])


def test_model_config_in_both_spellings():
    pairs = parse_recipe(DEFAULTS, ["--model_config", "hidden_size=192,hidden_act=relu,layer_norm_eps=1e-6"])[1]
    as_json = parse_recipe(DEFAULTS, ["--model_config", '{"hidden_size": 192}'])[1]
    assert pairs.config_overrides()["hidden_size"] == 192 and as_json.config_overrides() == {"hidden_size": 192}


@pytest.mark.parametrize("workers, kept", [(2, True), (0, False)])
def test_workers_are_kept_between_epochs_where_there_are_any(workers, kept):
    defaults = dict(dataloader_num_workers=2, dataloader_persistent_workers=True)
    argv = ["--dataloader_num_workers", str(workers)]
    assert parse_recipe(defaults, argv)[2].dataloader_persistent_workers is kept
