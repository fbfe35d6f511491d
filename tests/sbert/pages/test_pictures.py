"""Pictures of pages leave room for what is written at their axes."""

from sbert.pages.pictures import as_picture, legend_below, new_axes


def test_no_number_of_a_vertical_axis_is_cut_off() -> None:
    figure, axes = new_axes()
    axes.plot([0.0243, 0.0306, 0.0305, 0.0], ".-", label="after a backfill")
    axes.set_ylim(0, 0.0352)
    axes.set_xticks(range(4), ["29 Nov\n13:59"] * 4)
    legend_below(figure)
    as_picture(figure, "energy distance")
    assert min(label.get_window_extent().x0 for label in axes.get_yticklabels()) >= 0
