"""Rows, columns and cells of the tables."""

from milib.study.rows import correct


def test_correct_averages_draw_sets_within_each_image():
    cell = {"predictions": [[1, 2, 3], [1, 0, 0]]}
    assert correct(cell, [1, 2, 2]).tolist() == [1, 0.5, 0]
