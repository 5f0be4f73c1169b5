"""Checks of drawn figures."""

from matplotlib.text import Text


def assert_nothing_overlaps(figure):
    """Check that images, texts, scales and legends neither overlap nor leave the figure."""
    figure.canvas.draw()
    boxes = []
    for ax in figure.axes:
        texts = [ax.title, ax.xaxis.label, ax.yaxis.label]
        if ax.get_images() and not ax.yaxis.get_ticklabels():
            shown = [text for text in texts if text.get_text()]
            boxes += [each.get_window_extent() for each in (ax, *shown)]
        else:
            boxes.append(ax.get_tightbbox())
            assert_labels_apart(ax.get_yticklabels())
    frame = figure.bbox.padded(1)
    for i, box in enumerate(boxes):
        # Labels may come within a pixel of the images' frames.
        inner = box.padded(-1.5)
        assert frame.contains(inner.x0, inner.y0)
        assert frame.contains(inner.x1, inner.y1)
        assert inner.count_overlaps(boxes[i + 1 :]) == 0


def assert_labels_apart(labels: list[Text]):
    boxes = [label.get_window_extent() for label in labels if label.get_text()]
    assert not any(box.count_overlaps(boxes[i + 1 :]) for i, box in enumerate(boxes))
