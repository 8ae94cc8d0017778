"""`denoise live`: the sound card gets what a stream gives, late by what is said; a fake card is the judge."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from denoise.infer.catalogue import load
from denoise.infer.stream import Stream
from pipelines import sound_card

Run = Callable[..., Any]
RATE = 48_000.0
SOUND = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)


class Card(ModuleType):
    """The module of a card that plays `SOUND` into its microphone, and is interrupted at the end."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def __init__(self) -> None:
        super().__init__("sounddevice")
        self.heard = np.zeros((0, 2), np.float32)
        self.opened: dict[str, Any] = {}

    def query_devices(self, device: Any = None, kind: str = "") -> Any:
        if device == "nowhere":
            raise ValueError("No output device matching 'nowhere'")
        return {"default_samplerate": RATE, "max_output_channels": 8} if kind else "0 Fake Card"

    def Stream(self, **settings: Any) -> Card:  # noqa: N802 - as in sounddevice
        self.opened, self.latency, self.active = settings, (0.005, 0.010), True
        return self

    def __enter__(self) -> Card:
        return self

    def __exit__(self, *_: object) -> None:
        self.active = False

    def play(self) -> None:
        frames = self.opened["blocksize"]
        for number, start in enumerate(range(0, len(SOUND) - frames + 1, frames)):
            given = np.full((frames, 2), np.nan, np.float32)
            lost = "input overflow" if number in (3, 5) else ""
            self.opened["callback"](SOUND[start : start + frames, None], given, frames, None, lost)
            self.heard = np.concatenate([self.heard, given])


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card()

    def wait(_seconds: float) -> None:
        if len(card.heard):
            raise KeyboardInterrupt
        card.play()

    monkeypatch.setitem(sys.modules, "sounddevice", card)
    monkeypatch.setattr(sound_card.time, "sleep", wait)
    return card


def test_the_output_is_that_of_a_stream_and_as_late_as_is_said(denoise: Run, card: Card) -> None:
    result = denoise("live", "--input", "2", "--output", "cable", "--block-ms", "10")
    assert result.exit_code == 0
    assert card.opened["device"] == [2, "cable"]
    assert card.opened["channels"] == (1, 2)
    stream = Stream(load("speech-live"), 1, RATE)
    expected = np.concatenate([stream.feed(SOUND[None]), stream.flush()], axis=1)[0]
    late = stream.latency_samples
    assert late is not None
    assert not card.heard[:late].any()
    for channel in card.heard.T:
        np.testing.assert_allclose(channel[late:], expected[: len(SOUND) - late], atol=1e-5)
    assert f"{1000 * (late / RATE + 0.015):.0f} ms late" in result.stderr
    assert "in  -20.0 dBFS" in result.stderr
    assert "2 overruns" in result.stderr


def test_strength_0_is_the_input(denoise: Run, card: Card) -> None:
    denoise("live", "--strength", "0")
    late = Stream(load("speech-live"), 1, RATE).latency_samples or 0
    np.testing.assert_array_equal(card.heard[late:, 0], SOUND[: len(card.heard) - late])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--model", "audio"), "the model audio is more than 1 s late; use speech-live"),
        (("--output", "nowhere"), "No output device matching 'nowhere'; see denoise live --devices"),
    ],
)
@pytest.mark.usefixtures("card")
def test_what_cannot_work_is_said(denoise: Run, options: tuple[str, ...], sentence: str) -> None:
    result = denoise("live", *options)
    assert result.exit_code == 2
    assert sentence in result.stderr


@pytest.mark.usefixtures("card")
def test_devices_are_listed_and_the_extra_is_named(denoise: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert denoise("live", "--devices").stdout == "0 Fake Card\n"
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    result = denoise("live")
    assert result.exit_code == 2
    assert "denoise-pipelines[live]" in result.stderr
