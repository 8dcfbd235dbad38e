from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.docs.pictures import FOLDER, PICTURES, Box, Picture


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_in_docs_is_the_one_that_the_script_draws(name: str) -> None:
    assert (FOLDER / f"{name}.svg").read_text(encoding="utf-8") == PICTURES[name]().svg(), "run: make docs"


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_valid_xml_with_a_title_and_its_text_as_text(name: str) -> None:
    root = ElementTree.fromstring(PICTURES[name]().svg())
    tags = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert tags.count("title") == 1
    assert tags.count("text") > 5


def test_there_is_no_other_picture_in_docs() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(PICTURES)


def test_a_text_that_does_not_fit_into_its_box_is_an_error() -> None:
    picture = Picture(400, 200, "a picture")
    with pytest.raises(ValueError, match="needs"):
        picture.box(Box(0, 0, 100, 40), "plain", "a title that is longer than the box")
    with pytest.raises(ValueError, match="higher"):
        picture.box(Box(0, 0, 100, 40), "plain", "title", "line")
