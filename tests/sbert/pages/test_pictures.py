"""Pictures of pages leave room for what is written at their axes."""

import pytest

from sbert.pages.pictures import as_picture, legend_below, new_axes


def test_no_number_of_a_vertical_axis_is_cut_off() -> None:
    figure, axes = new_axes()
    axes.plot([0.0243, 0.0306, 0.0305, 0.0], ".-", label="after a backfill")
    axes.set_ylim(0, 0.0352)
    axes.set_xticks(range(4), ["29 Nov\n13:59"] * 4)
    legend_below(figure)
    as_picture(figure, "energy distance")
    assert min(label.get_window_extent().x0 for label in axes.get_yticklabels()) >= 0


@pytest.mark.parametrize(("top", "are_whole"), [(7.35, True), (475.0, True), (0.35, False), (1.0, False)])
def test_an_axis_of_counts_shows_whole_numbers(top: float, are_whole: bool) -> None:
    _, axes = new_axes()
    axes.set_ylim(0, top)
    ticks = [float(tick) for tick in axes.get_yticks() if 0 <= tick <= top]
    assert 2 <= len(ticks) <= 6
    assert all(tick.is_integer() for tick in ticks) == are_whole
