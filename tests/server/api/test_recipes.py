"""Recipes over the API: what the library has, word for word, and jobs that the server takes once their paths are there."""

from __future__ import annotations

from recipes.library import load_index, text_of
from tests.server.api.conftest import World

API = "/api/v1"
PAIR = "cityscapes-deeplabv3-r101-mobilenet_v2-acam"


def test_a_locked_server_shows_nothing_without_a_key(locked: World) -> None:
    for path in ("recipes", f"recipes/{PAIR}"):
        assert locked.client.get(f"{API}/{path}").status_code == 401
        headers = {"Authorization": f"Bearer {locked.key()}"}
        assert locked.client.get(f"{API}/{path}", headers=headers).status_code == 200


def test_the_list_and_a_file_are_the_librarys(world: World) -> None:
    answer = world.client.get(f"{API}/recipes").json()
    index = load_index()
    assert [one["name"] for one in answer["recipes"]] == [one.name for one in index.recipes]
    assert answer["not_expressible"] == [one.model_dump() for one in index.not_expressible]
    for one in index.recipes:
        found = world.client.get(f"{API}/recipes/{one.name}").json()
        assert found == {"recipe": one.model_dump(mode="json"), "text": text_of(one)}


def test_an_unknown_name_is_answered_with_the_near_ones(world: World) -> None:
    answer = world.client.get(f"{API}/recipes/{PAIR}s")
    assert answer.status_code == 404
    assert answer.json()["code"] == "recipe.not_found"
    assert PAIR in answer.json()["hint"]


def test_submitted_as_it_is_a_recipe_is_refused_for_its_paths_only(world: World) -> None:
    """Nothing else may be wrong with it: a user edits the paths and goes on."""
    text = world.client.get(f"{API}/recipes/{PAIR}").json()["text"]
    answer = world.client.post(f"{API}/jobs?dry_run=true", content=text, headers={"Content-Type": "application/yaml"})
    fields = {one["field"] for one in answer.json()["problems"]} if answer.status_code == 422 else set()
    assert fields == {"dataset.root", "teacher.weights"}, answer.text
