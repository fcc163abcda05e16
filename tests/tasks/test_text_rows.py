"""Maps as text keep all of their rows."""

from __future__ import annotations

import numpy as np
import pytest

from engram.tasks.environments.room_grid import label_rooms, load_grid_text
from engram.tasks.room_maps import maze_of
from engram.tasks.text_rows import text_rows


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_files_have_them_and_nowhere_else(end):
    rows = ["a\u2028b", "   ", "\x0c\x1c\x85"]
    assert text_rows(end + end.join(rows) + end + end) == rows


def test_rows_and_columns_of_spaces_are_rooms():
    text = "ab \n   \nab "
    codes = np.array([[ord(character) for character in line] for line in text.split("\n")])
    assert label_rooms(text).tolist() == label_rooms(codes).tolist() == [[0, 1, 2], [2, 2, 2], [3, 4, 2]]


def test_a_maze_has_rows_of_empty_cells():
    assert maze_of("   \n###\n   ").astype(int).tolist() == [[0, 0, 0], [1, 1, 1], [0, 0, 0]]
    with pytest.raises(ValueError, match="expected lines of one length made of"):
        maze_of("##\x0c##")


def test_a_row_of_a_grid_that_is_blank_is_refused_and_not_lost():
    assert load_grid_text("2\n2\n30\n05\n\n  \n").tolist() == [[3, 0], [0, 5]]
    with pytest.raises(ValueError, match="expected one length"):
        load_grid_text("2\n3\n30\n\n05\n")
