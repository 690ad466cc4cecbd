"""The original scripts' flags: their defaults, what they mean, and what is refused before anything is recorded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result
from PIL import Image

from configs.settings import read_settings
from producer.cli import cli
from producer.errors import InvalidPromptFile
from producer.originals import CHECKPOINT, Run, read_run
from producer.remarks import remarks
from producer.run_rows import RunRows, submission_of

Call = Callable[..., Result]
SMALL = ("--H", "64", "--W", "64")


def read(script: str, *words: object) -> Run:
    """The run of a command line."""
    parent = click.Context(cli, **cli.context_settings)
    flags = cli.commands[script].make_context(script, [str(word) for word in words], parent).params
    return read_run(script, flags, read_settings({}, Path("/")))


@pytest.fixture
def init_image(tmp_path: Path) -> Path:
    path = tmp_path / "init.png"
    Image.new("RGBA", (500, 333)).save(path)
    return path


@pytest.mark.parametrize(
    ("compat", "sampler", "n_iter", "n_samples", "seed", "precision"),
    [("compvis", "DDIM", 2, 3, 42, "autocast"), ("optimized", "PLMS", 1, 5, None, None)],
)
def test_the_defaults_of_txt2img(
    monkeypatch: pytest.MonkeyPatch,
    compat: str,
    sampler: str,
    n_iter: int,
    n_samples: int,
    seed: int | None,
    precision: str | None,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    run = read("txt2img", "--compat", compat)
    assert (run.sampler, run.n_iter, run.n_samples, run.precision) == (sampler, n_iter, n_samples, precision)
    assert (run.steps, run.scale, run.eta, run.width, run.height) == (50, 7.5, 0, 512, 512)
    assert run.chunks[0][0].prompt == "a painting of a virus monster playing guitar"
    assert run.outdir.folder == str(Path("outputs/txt2img-samples").absolute())
    assert run.seed == seed if seed else 0 <= run.seed <= 1_000_000
    assert submission_of(run, 16).batch.total == n_iter * n_samples


def test_autocast_means_nothing_where_there_is_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert read("txt2img").precision is None
    assert read("txt2img", "--precision", "full").precision == "float32"


@pytest.mark.parametrize(
    ("compat", "scale", "n_samples", "size"), [("compvis", 5, 2, (480, 320)), ("optimized", 7.5, 5, (448, 320))]
)
def test_the_defaults_of_img2img(
    init_image: Path, compat: str, scale: float, n_samples: int, size: tuple[int, int]
) -> None:
    run = read("img2img", "--init-img", init_image, "--compat", compat)
    assert (run.sampler, run.n_iter, run.n_samples, run.scale) == ("DDIM", 1, n_samples, scale)
    assert (run.steps, run.strength, run.width, run.height) == (50, 0.75, *size)
    assert run.outdir.folder == str(Path("outputs/img2img-samples").absolute())
    assert run.init_image == str(init_image)


def test_an_init_image_that_lies_on_its_side_is_taken_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (500, 333)).save(tmp_path / "lying.jpg", exif=exif)
    run = read("img2img", "--init-img", tmp_path / "lying.jpg")
    assert (run.width, run.height) == (320, 480)


@pytest.mark.parametrize(
    ("words", "sampler"),
    [
        (["--plms"], "PLMS"),
        (["--dpm_solver"], "DPM++ 2M"),
        (["--plms", "--dpm_solver"], "DPM++ 2M"),
        (["--sampler", "plms"], "PLMS"),
        (["--compat", "optimized", "--sampler", "euler_a"], "Euler a"),
        (["--compat", "optimized", "--sampler", "dpm2_a"], "DPM2 a"),
    ],
)
def test_samplers_go_by_the_names_of_the_flags(words: list[str], sampler: str) -> None:
    assert read("txt2img", *words).sampler == sampler


def rows(*words: object) -> list[tuple[int, str, int | None]]:
    return [(row.line, row.parameters.prompt, row.parameters.seed) for row in RunRows(read("txt2img", *words)).rows()]


def test_compvis_makes_each_line_once_an_iteration_in_chunks(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("b\na\n\nb\n")
    found = rows("--from-file", tmp_path / "lines.txt", "--n_samples", 3, "--n_iter", 2)
    assert found == [(1, "b", 42), (2, "a", 42), (3, "", 42), (4, "b", 42)] * 2


def test_the_fork_makes_n_samples_of_each_line_sorted_with_seeds_counting_on(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("b\na\n")
    words = ("--compat", "optimized", "--from-file", tmp_path / "lines.txt", "--n_samples", 2, "--seed", 7)
    assert rows(*words) == [(2, "a", 7), (2, "a", 8), (1, "b", 9), (1, "b", 10)]


def test_every_image_has_its_place_in_the_runs_noise(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a\nb\nc\n")
    run = read("txt2img", "--from-file", tmp_path / "lines.txt", "--n_samples", 2, "--n_iter", 1, "--plms")
    noise = [row.noise for row in RunRows(run).rows()]
    assert [(record["start"]["draw"], record["start"]["row"]) for record in noise if record] == [
        (0, 0),
        (0, 1),
        (52, 0),
    ]


def test_with_fixed_code_every_iteration_begins_with_the_same_draw() -> None:
    run = read("txt2img", "--fixed_code", "--n_samples", 2, "--n_iter", 2)
    starts = [row.noise["start"] for row in RunRows(run).rows() if row.noise]
    assert [(start["draw"], start["row"]) for start in starts] == [(0, 0), (0, 1)] * 2


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--prompt", "a cat"], "prompt", "a cat"),
        (["--ddim_steps", 30], "steps", 30),
        (["--ddim_eta", 0.5], "eta", 0.5),
        (["--scale", 1], "scale", 1.0),
        (["--H", 128, "--W", 192], "height", 128),
        (["--H", 128, "--W", 192], "width", 192),
        (["--ckpt", "owner/name"], "model", "owner/name"),
        (["--seed", 2**32 - 1], "seed", 2**32 - 1),
        (["--precision", "full"], "precision", "float32"),
        (["--weights"], "weights", True),
        (["--compat", "optimized"], "compat", "optimized"),
    ],
)
def test_what_a_flag_says_is_what_the_job_has(words: list[object], name: str, value: object) -> None:
    assert {getattr(row.parameters, name) for row in RunRows(read("txt2img", *words, "--n_samples", 1)).rows()} == (
        {value}
    )


def test_jpg_is_what_the_ledger_calls_jpeg() -> None:
    assert submission_of(read("txt2img", "--format", "jpg"), 16).batch.image_format == "jpeg"


def test_a_prompt_may_begin_with_a_byte_order_mark_and_be_empty(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_bytes(b"\xef\xbb\xbfa\r\n")
    assert rows("--from-file", tmp_path / "lines.txt", "--n_iter", 1, "--n_samples", 1) == [(1, "a", 42)]
    assert rows("--prompt", "", "--n_iter", 1, "--n_samples", 1) == [(1, "", 42)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xfe\x00", "is not valid UTF-8"),
        (b"ok\n" + b"x" * 8001, "lines.txt:2: prompt: has 8001 characters; at most 8000"),
        (b"a\0b", "holds a NUL character"),
    ],
)
def test_a_prompts_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "lines.txt").write_bytes(content)
    with pytest.raises(InvalidPromptFile, match=message):
        read("txt2img", "--from-file", tmp_path / "lines.txt")


def test_the_default_checkpoint_is_the_scripts_own_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read("txt2img").model == "demo"
    Path(CHECKPOINT).parent.mkdir(parents=True)
    Path(CHECKPOINT).write_bytes(b"")
    assert read("txt2img").model == str(Path(CHECKPOINT).absolute())


@pytest.mark.parametrize(
    ("words", "outdir"),
    [
        ([], {"singles": True, "grid": True, "columns": 3}),
        (["--n_rows", 5, "--n_samples", 2], {"columns": 5}),
        (["--skip_grid"], {"singles": True, "grid": False}),
        (["--skip_save"], {"singles": False, "grid": True}),
        (["--compat", "optimized", "--skip_save"], {"singles": True, "grid": False}),
    ],
)
def test_the_outdir_gets_what_the_flags_say(words: list[object], outdir: dict[str, Any]) -> None:
    found = read("txt2img", *words).outdir
    assert {name: getattr(found, name) for name in outdir} == outdir


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--H", "500"], "'500' is not a whole number from 64 to 4096, a multiple of 64."),
        (["--W", "0"], "'0' is not a whole number from 64 to 4096, a multiple of 64."),
        (["--ddim_steps", "0"], "'0' is not a whole number from 1 to 1000."),
        (["--ddim_steps", "27"], "--ddim_steps: 27 leads out of the original's noise schedule;"),
        (["--ddim_steps", "300"], "take 250 or 334"),
        (["--dpm_solver", "--ddim_steps", "1"], "takes 2 steps or more"),
        (["--seed", "-1"], "'-1' is not a whole number from 0 to 4294967295."),
        (["--seed", "4294967296"], "is not a whole number from 0 to 4294967295."),
        (["--scale", "0.5"], "'0.5' is not a number from 1 to 100."),
        (["--scale", "0"], "'0' is not a number from 1 to 100."),
        (["--scale", "nan"], "'nan' is not a number from 1 to 100."),
        (["--plms", "--ddim_eta", "0.5"], "--ddim_eta: 0.5 is not 0, which sampler PLMS needs"),
        (["--ddim_eta", "1.5"], "'1.5' is not a number from 0 to 1."),
        (["--sampler", "eulr"], "did you mean Euler"),
        (["--sampler", "lms"], "LMS is not DDIM, PLMS or DPM++ 2M"),
        (["--plms", "--sampler", "ddim"], "--plms and --sampler DDIM contradict each other"),
        (["--n_samples", "0"], "'0' is not a whole number from 1 to 1000."),
        (["--n_iter", "many"], "'many' is not a whole number from 1 to 100000."),
        (["--n_rows", "-1"], "'-1' is not a whole number from 0 to 1000."),
        (["--from-file", "none.txt"], "none.txt: cannot be read: No such file or directory"),
        (["--ckpt", "sd-v1-4.ckpt"], "--ckpt sd-v1-4.ckpt does not exist"),
        (["--precision", "half"], "'half' is not one of 'full', 'autocast'"),
        (["--format", "webp"], "'webp' is not one of 'png', 'jpg'"),
        (["--device", "gpu"], "'gpu' is not cpu, mps, auto, cuda"),
        (["--outdir", "taken"], "--outdir taken is not a folder that can be written to"),
        (["--outdir", "taken/below"], "--outdir taken/below is not a folder that can be written to"),
        (["--prompt", "x" * 8001], "has 8001 characters; at most 8000 are allowed"),
        (["--weights", "--prompt", "a:1 b:-1"], "--prompt: "),
        (["--laion400m"], "--laion400m is a model of another kind than Stable Diffusion"),
        (["--steps", "5"], "No such option '--steps'"),
    ],
)  # fmt: skip
def test_txt2img_refuses_before_anything_is_recorded(
    promptmill: Call, home: Path, words: list[str], sentence: str
) -> None:
    Path("taken").write_text("a file")
    result = promptmill("txt2img", *words)
    assert (result.exit_code, sentence in result.stderr) == (2, True), result.output
    assert not home.exists()


@pytest.mark.parametrize("flag", ["--outdir", "--ckpt", "--from-file", "--vram", "--config"])
@pytest.mark.parametrize("value", ["x" * 5000, "x" * 5000 + ".ckpt", "9" * 5000, "~nobody-is-called-this/x"])
def test_no_value_gives_a_traceback(promptmill: Call, home: Path, flag: str, value: str) -> None:
    # What is refused last.
    result = promptmill("txt2img", flag, value, "--ddim_steps", "27")
    assert result.exit_code == 2, result.exception
    assert not home.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "img2img needs --init-img"),
        (["--init-img", "none.png"], "'none.png' is not an existing file"),
        (["--init-img", "text.png"], "text.png cannot be read as a picture"),
        (["--init-img", "tiny.png"], "31x64 pixels, and sides of 64 to 4096 are allowed"),
        (["--init-img", "init.png", "--strength", "1.5"], "'1.5' is not a number above 0, up to 1."),
        (["--init-img", "init.png", "--strength", "0"], "'0' is not a number above 0, up to 1."),
        (["--init-img", "init.png", "--strength", "0.01"], "--strength: 0.01 of 50 steps leaves no step to run"),
        (["--init-img", "init.png", "--plms"], "PLMS cannot begin from an image; DDIM is near to it"),
        (["--init-img", "init.png", "--dpm_solver"], "No such option '--dpm_solver'"),
    ],
)
@pytest.mark.usefixtures("init_image")
def test_img2img_refuses_before_anything_is_recorded(
    promptmill: Call, home: Path, words: list[str], sentence: str
) -> None:
    Path("text.png").write_text("no image")
    Image.new("RGB", (31, 64)).save("tiny.png")
    result = promptmill("img2img", *words)
    assert (result.exit_code, sentence in result.stderr) == (2, True), result.output
    assert not home.exists()


def test_a_script_of_another_model_says_what_to_use(promptmill: Call) -> None:
    result = promptmill("knn2img", "--knn", "10")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "promptmill" in result.stderr


def test_a_prompt_that_is_too_long_is_warned_of_with_the_words_that_are_lost(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text(f"short\n{'word ' * 75}lost words\n")
    (problem,) = RunRows(read("txt2img", "--from-file", tmp_path / "lines.txt")).warnings.problems
    assert (problem.line, problem.column) == (2, "prompt")
    assert problem.message.endswith("word lost words")


def said(*words: object) -> list[str]:
    given = {str(word).removeprefix("--") for word in words}
    return list(remarks(read("txt2img", "--seed", 1, *words), {"seed", "ckpt", *given}))


@pytest.mark.parametrize("words", [["--C", 4], ["--f", 8], ["--config", "x.yaml"], ["--unet_bs", 1], ["--turbo"]])
def test_a_flag_without_a_meaning_says_what_replaces_it(words: list[object]) -> None:
    (line,) = said(*words)
    assert line.startswith(f"{words[0]}: ")


def test_the_fork_says_what_its_flags_never_did() -> None:
    words = ("--compat", "optimized", "--skip_grid", "--skip_save", "--n_rows", 2, "--fixed_code")
    assert [line.partition(":")[0] for line in said(*words)] == [
        "--skip_grid",
        "--skip_save",
        "--n_rows",
        "--fixed_code",
    ]
    assert said("--skip_grid", "--skip_save", "--n_rows", 2, "--fixed_code") == []


def test_a_colon_is_a_weight_only_when_asked_for() -> None:
    (line,) = said("--compat", "optimized", "--prompt", "Title: a castle")
    assert "--weights does so" in line
    assert said("--compat", "optimized", "--prompt", "a:1 b:2", "--weights") == []
    assert said("--prompt", "Title: a castle") == []


def test_plms_in_few_steps_is_more_than_the_demo_checkpoint_can() -> None:
    assert "needs 25 steps" in said("--plms", "--ddim_steps", 10)[0]
    assert said("--plms", "--ddim_steps", 25) == said("--ddim_steps", 10) == []


def test_what_was_chosen_without_a_flag_is_said() -> None:
    run = read("txt2img", "--compat", "optimized")
    assert list(remarks(run, ())) == [
        f"--seed: {run.seed} was drawn.",
        "Without --ckpt the model is demo, which draws coloured shapes and nothing else.",
    ]
