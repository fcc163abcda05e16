import pytest
import torch

from engram.tasks import ClassStreams

IMAGES = torch.arange(6.0 * 4).reshape(6, 4, 1, 1).expand(6, 4, 2, 2)


def test_a_stream_is_of_one_class_and_the_rest_of_all():
    streams, generator = ClassStreams(IMAGES, steps=4, remember=24), torch.Generator().manual_seed(0)
    classes = set()
    for _ in range(60):
        drawn = streams.sample(generator)
        assert len(set(drawn.y.tolist())) == 1
        assert torch.equal(drawn.x[:, 0, 0, 0].long() // 4, drawn.y)
        assert sorted(drawn.x[:, 0, 0, 0].long().tolist()) == [4 * int(drawn.y[0]) + n for n in range(4)]
        assert sorted(drawn.remember_x[:, 0, 0, 0].tolist()) == list(range(24))
        assert torch.equal(drawn.remember_x[:, 0, 0, 0].long() // 4, drawn.remember_y)
        classes.add(int(drawn.y[0]))
    assert classes == set(range(6))


def test_what_is_not_there_cannot_be_drawn():
    for make, said in (
        (lambda: ClassStreams(IMAGES, steps=5), "steps = 5: expected at most 4"),
        (lambda: ClassStreams(IMAGES, steps=4, remember=25), "remember = 25: expected at most 24"),
        (lambda: ClassStreams(IMAGES[0], steps=4), "images is a torch.float32 of shape"),
        (lambda: ClassStreams(IMAGES.long(), steps=4), "images is a torch.int64"),
    ):
        with pytest.raises(ValueError, match=said):
            make()
