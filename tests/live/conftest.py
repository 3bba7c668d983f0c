"""The running host of the live tests; without PG_LIVE_URL all of them are skipped, saying so.

    PG_LIVE_URL=http://127.0.0.1:7860 PG_LIVE_LORA=subject,style python -m pytest tests/live

The host needs `--api`, the extension, a checkpoint and a network that fits it; PG_LIVE_LORA names networks,
or else the first ones that the host lists are used, and PG_LIVE_CHECKPOINT a second checkpoint of the same
family. Some tests need a host script too: `tests/live/probe`, and `tests/live/brute_force` or, for Forge and
its relatives, `tests/live/brute_force_forge`, which say how they are put there. What pictures may differ by
suits models in half precision; for a host in full precision PG_LIVE_LEVEL=0.05 (of 255, in the mean) is a
sharper test. PG_LIVE_VALUES='{"scheduler": "Simple"}' goes with every call, for models that need it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.host import TITLE, Host, Pixels

URL = os.environ.get("PG_LIVE_URL", "")
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not URL:
        reason = "start a WebUI with --api and set PG_LIVE_URL=http://127.0.0.1:7860 to its address"
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    host = Host(URL)
    assert TITLE.lower() in host.scripts(), "the host does not list the extension"
    before = host.options()
    yield host
    host.txt2img("a cat", steps=1, options=before)  # an override that the host keeps has to be the old value


@pytest.fixture(scope="session")
def level() -> float:
    """What rounding, batching and merging may differ by, in levels of 255."""
    return float(os.environ.get("PG_LIVE_LEVEL", "1"))


@pytest.fixture(scope="module")
def names(host: Host) -> list[str]:
    named = [name.strip() for name in os.environ.get("PG_LIVE_LORA", "").split(",") if name.strip()]
    names = named or host.networks()
    assert names, "the host has no network: name one in PG_LIVE_LORA"
    return names


@pytest.fixture(scope="module")
def prompt(names: list[str]) -> str:
    return f"a cat on a chair<lora:{names[0]}:1>"


@pytest.fixture(scope="module")
def plain(host: Host, prompt: str) -> Pixels:
    """The picture of the host alone, made before anything was guided."""
    return host.txt2img(prompt).picture
