import pytest

from sficonv.training import RECIPES, Recipe


def test_paper_recipe_is_the_paper() -> None:
    recipe = RECIPES["paper"]
    assert (recipe.optimizer, recipe.betas, recipe.weight_decay) == ("adam", (0.9, 0.999), 0.0)
    assert (recipe.lr, recipe.schedule) == (1e-4, "halve")
    assert (recipe.epochs, recipe.batch_size, recipe.seed) == (20, 64, 7)
    assert (
        recipe.image_size is None
    )  # the model's own: 256, as in the paper, unless its design is for another
    assert (recipe.transform, recipe.sampling) == ("paper", "shuffle")
    extras = (recipe.label_smoothing, recipe.self_blend, recipe.ema_decay, recipe.grad_clip, recipe.warmup)
    assert extras == (0, 0, 0, 0, 0)


def test_finetune_recipe_blends_and_averages() -> None:
    recipe = RECIPES["finetune"]
    assert (recipe.optimizer, recipe.schedule, recipe.sampling) == ("adamw", "cosine", "balanced")
    assert 0 < recipe.self_blend < 1
    assert recipe.ema_decay > 0.9


def test_overrides_keep_what_is_none_and_do_not_touch_the_original() -> None:
    changed = Recipe.named("paper", lr=1e-3, epochs=None)
    assert (changed.lr, changed.epochs) == (1e-3, 20)
    assert RECIPES["paper"].lr == 1e-4
    assert Recipe.named(Recipe("mine", lr=0.5), batch_size=2) == Recipe("mine", lr=0.5, batch_size=2)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"learning_rate": 1}, "no learning_rate"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"self_blend": 1.5}, r"self_blend must lie in \[0, 1\]"),
        ({"warmup": 1.0}, r"warmup must lie in \[0, 1\)"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"self_blend": 0.5, "batch_size": 3}, "batch_size must be even"),
        ({"optimizer": "sgd"}, "optimizer must be one of"),
    ],
)
def test_bad_values_are_named(overrides: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Recipe.named("paper", **overrides)


def test_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="paper, finetune"):
        Recipe.named("papr")
