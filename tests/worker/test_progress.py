"""The account of the engine's thread."""

from worker.progress import Progress


def test_the_tail_is_what_follows_the_last_sample_begun() -> None:
    progress = Progress()
    progress.begin()
    progress.count(8, 8)
    progress.begin()
    progress.count(2, 8)
    assert (progress.share_used, progress.share_used_before_tail) == (0.625, 1.0)


def test_inner_stages_are_not_charged_to_outer_ones() -> None:
    progress = Progress(clock=iter(range(10)).__next__)
    with progress.stage("sampler"), progress.stage("unet"):
        pass
    assert progress.seconds == {"sampler": 2, "unet": 1}


def test_it_is_told_in_one_line() -> None:
    progress = Progress(images=3, seconds=Progress().seconds)
    progress.begin()
    progress.count(3, 4)
    progress.seconds["unet"] += 2.0
    assert str(progress) == (
        "3 images in 1 UNet calls, rows 75.0% used, 0.0% before the last image was begun; time: unet 100.0%"
    )


def test_it_can_count_anew() -> None:
    progress = Progress()
    progress.count(3, 4)
    progress.forget()
    assert (progress.steps, progress.rows_used, progress.share_used) == (0, 0, 0.0)
