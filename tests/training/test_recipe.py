"""Recipes are data: every key and type is checked, and overrides are typed."""

from pathlib import Path

import pytest

from denoise.errors import UsageError
from denoise.training import recipe

MINIMAL = 'name = "tiny"\nmodality = "sensor"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_states_differences_only(tmp_path: Path) -> None:
    loaded = recipe.load(written(tmp_path, MINIMAL + "[fit]\nsteps = 7\n"))
    assert loaded.fit.steps == 7
    assert loaded.fit.batch == recipe.FitRecipe().batch


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 3\n", "name is 3, expected str"),
        ('name = "x"\n', "lacks modality"),
        ('name = "x"\nmodality = "smell"\n', "unknown modality 'smell'"),
        (MINIMAL + "[fit]\nstepz = 1\n", "unknown key 'stepz'; did you mean steps?"),
        (MINIMAL + '[fit]\nsteps = "many"\n', "steps is 'many', expected int"),
        (MINIMAL + "[fit]\nsteps = true\n", "steps is True, expected int"),
        (MINIMAL + "[fit\n", "is not TOML"),
    ],
)
def test_a_mistake_is_one_clear_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=r"tiny\.toml") as caught:
        recipe.load(written(tmp_path, text))
    assert message in str(caught.value)


def test_a_missing_file_and_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        recipe.load(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="did you mean photo"):
        recipe.load("phot")


def test_overrides(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL)
    loaded = recipe.load(
        path, ["steps=5", "fit.lr=1", "data.corruption=gaussian:snr_db=5", "model.config.widths=[1, 2]"]
    )
    assert (loaded.fit.steps, loaded.fit.lr) == (5, 1.0)
    assert loaded.data.corruption == "gaussian:snr_db=5"
    assert loaded.model.config["widths"] == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps", "expected key=value"),
        ("corruption=x", "did you mean"),  # both [data] and [validate] have one
        ("fit.step=1", "did you mean"),
        ("fits.steps=1", "unknown recipe section"),
        ("steps=many", "expected int"),
    ],
)
def test_a_bad_override_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipe.load(written(tmp_path, MINIMAL), [text])


def test_keys_of_earlier_recipes_and_cards_are_read_under_their_present_names() -> None:
    old = {"name": "o", "modality": "sensor", "fit": {"keep": "last"}, "data": {"together": 3}}
    found = recipe.from_dict(old, "card")
    assert (found.fit.select_weights, found.data.max_joint_channels) == ("last", 3)
    changed = recipe.changed(found, ["keep=best", "data.together=2"])
    assert (changed.fit.select_weights, changed.data.max_joint_channels) == ("best", 2)
