"""Short names for checkpoints, and their files."""

import sys
from pathlib import Path

import click

PRECISIONS = ("float16", "bfloat16", "float32")


@click.group()
def models() -> None:
    """Give checkpoints short names, convert and verify them.

    A name goes where a model goes: `--model NAME`, and the column `model`. Each host has names of its own.
    """


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with every field.")
def list_models(as_json: bool) -> None:
    """List all names.

    The hash is what A1111 calls the model hash.
    """
    from msgspec import structs

    from configs.models import read_models
    from producer.table import print_json_lines, print_table

    known = read_models()
    if as_json:
        return print_json_lines({"name": name, **structs.asdict(model)} for name, model in known.items())
    rows = (
        (name, model.kind, model.precision, _size(model.bytes), model.short_hash, _shown(model.path))
        for name, model in known.items()
    )
    return print_table(("name", "kind", "precision", "size", "hash", "path"), rows)


@models.command()
@click.argument("name")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
def add(name: str, path: Path) -> None:
    """Let NAME stand for a file or a diffusers folder.

    It is read and hashed, and stays where it is.

    \b
    promptmill models add sd14 ~/checkpoints/sd-v1-4.ckpt
    promptmill render prompts.csv --model sd14
    """
    from producer.models import add_model

    model = add_model(name, path)
    click.echo(f"{name}: {model.kind}, {model.precision}, {_size(model.bytes)}, hash {model.short_hash}")
    click.echo(f"sha256 {model.sha256}")


@models.command()
@click.argument("source", metavar="NAME|FILE")
@click.argument("target", type=click.Path(path_type=Path), required=False)
@click.option("--precision", type=click.Choice(PRECISIONS), default="float16", show_default=True)
@click.option("--ema", is_flag=True, help="Take the averages of training (EMA) as the UNet's weights.")
def convert(source: str, target: Path | None, precision: str, ema: bool) -> None:
    """Write a .ckpt or .safetensors file anew as TARGET.

    TARGET is a .safetensors file, by default beside the source. It holds what is rendered and nothing else, in half
    precision: a .ckpt of 4 GB becomes 2 GB. A NAME stands for the new file then; the old one stays.
    """
    from producer.models import convert_model

    model = convert_model(source, target, precision, averaged=ema)
    click.echo(f"{model.path}: {model.kind}, {model.precision}, {_size(model.bytes)}, hash {model.short_hash}")


@models.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget NAME.

    Its files stay.
    """
    from producer.models import remove_model

    click.echo(f"{name} is forgotten; {remove_model(name).path} is still there.")


@models.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Read the files of NAMES again, and compare their hashes.

    Without NAMES, of all.
    """
    from producer.models import verify_models

    faults = 0
    for verdict in verify_models(names):
        faults += not verdict.ok
        click.echo(f"{'ok   ' if verdict.ok else 'FAULT'} {verdict.name}: {verdict.detail}")
    sys.exit(1 if faults else 0)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _shown(path: str) -> str:
    return path if Path(path).exists() else f"{path} (not here)"
