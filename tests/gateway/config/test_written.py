"""What is generated: the page of all keys, and configurations that read back as they were."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.config import document, model
from gateway.config.load import examine
from gateway.config.template import render
from gateway.config.values import toml

ROOT = Path(__file__).parents[3]


def test_the_page_of_all_keys_is_fresh() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == document.render(), "docs/configuration.md is stale: make docs"


def test_every_key_says_what_it_is() -> None:
    for table in dataclasses.fields(model.Config):
        kind = str(table.type)
        cls = getattr(model, kind[6:].partition(",")[0] if kind.startswith("tuple[") else kind)
        assert (cls.__doc__ or "").startswith("``["), f"{cls.__name__}: its docstring begins with its table"
        for field in dataclasses.fields(cls):
            assert field.metadata.get("doc"), f"{cls.__name__}.{field.name} has no meaning"


def test_defaults_pass_their_own_checks() -> None:
    text = "\n".join(
        f"[{table.name}]\n"
        + "\n".join(f"{f.name} = {toml(f.default)}" for f in dataclasses.fields(getattr(model, str(table.type))))
        for table in dataclasses.fields(model.Config)
        if not str(table.type).startswith("tuple[")
    )
    found = examine(text)
    assert found.mistakes == []
    assert found.config == model.Config()


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # lone surrogates stand in no file
    assert tomllib.loads(f"x = {toml(text)}") == {"x": text}


def test_a_rendered_site_reads_back() -> None:
    config = model.Config(
        ema=model.EmaConfig(number=3, state_dir='/srv/a "quoted" folder'),
        control=model.ControlConfig(threshold_w=812.5, fuse_a=(16.0, 16.0, 20.0)),
        site_coap=model.SiteCoapConfig(sources=("10.0.0.0/8",)),
        upstream=(
            model.UpstreamConfig(host="127.0.0.1", port=1884, mode=2),
            model.UpstreamConfig(name="b", host="::1"),
        ),
        device=(
            model.DeviceConfig(number=1, link="gpio", pin="18", never_shed=True),
            model.DeviceConfig(number=2, type="ess", link="coap", address="10.1.2.3", floor_soc=30.0),
        ),
    )
    text = render(config)
    found = examine(text)
    assert found.mistakes == []
    assert found.config == config


def test_comments_tell_defaults_and_set_keys_stand() -> None:
    text = render(model.Config(control=model.ControlConfig(threshold_w=800.0)))
    assert "\nthreshold_w = 800 " in text
    assert "\n# hard_w = 0 " in text
    assert "# [[device]]\n# number = 1\n" in text
