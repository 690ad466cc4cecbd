import runpy
from pathlib import Path

from configs.settings import Settings

ROOT = Path(__file__).parents[2]
GENERATOR = runpy.run_path(str(ROOT / "docs" / "generate_configuration.py"))
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_the_page_is_current() -> None:
    assert GENERATOR["render"]() == PAGE, "run `python docs/generate_configuration.py`"


def test_every_setting_has_a_variable_and_a_meaning() -> None:
    fields = GENERATOR["fields"]()
    assert [field.name for field in fields] == list(Settings.__struct_fields__)
    assert all(f"| `PROMPTMILL_{field.name.upper()}` |" in PAGE for field in fields if field.name != "job")


def test_every_preset_is_on_the_page() -> None:
    presets = {path.stem for path in (ROOT / "configs" / "presets").glob("*.toml")}
    assert presets
    assert all(f"**{name}**" in PAGE for name in presets)
