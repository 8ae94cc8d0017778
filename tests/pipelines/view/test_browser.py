"""A report in Chromium: it works, is silent on the console, asks the network for nothing, and can be read."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from browser import Browser
from PIL import Image

from pipelines.batch.jobs import CleanJob
from pipelines.batch.manifest import Entry
from pipelines.batch.run import Result
from pipelines.score import score
from pipelines.view import as_html
from pipelines.view.reports import batch_page, scores_page

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=window.hit=1>.png"

# Contrast of every text with its background (WCAG 2.2, 1.4.3), the lowest first.
CONTRAST = """
(() => {
  const channel = v => (v /= 255, v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.7) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const text = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!text || element.closest('script, style') || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const colour = numbers(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(colour), light(behind(element))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), element.outerHTML.slice(0, 80)]);
  }
  return found.sort((a, b) => a[0] - b[0]).slice(0, 3);
})()
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two photos, a recording, a log, a hostile name and a failure."""
    root, rng = tmp_path_factory.mktemp("report"), np.random.default_rng(0)
    entries = []

    def add(name: str, modality: str, gain: float = 0.0, error: str | None = None) -> None:
        pair = [str(root / side / name) for side in ("in", "out")]
        metrics = {} if error else {"snr_db_before": 5.0, "snr_db": 5.0 + gain}
        reason = (f"model: because of {HOSTILE}",)
        facts = {"modality": modality, "model": "model", "metrics": metrics, "error": error, "notes": reason}
        entries.append(Entry(*pair, "failed" if error else "ok", 1.0, **facts))

    for side, sigma in (("in", 0.1), ("out", 0.0)):
        (root / side).mkdir()
        ramp = np.linspace(0.2, 0.8, 400)[None, :, None] * np.ones((300, 1, 3))
        pixels = 255 * (ramp + sigma * rng.standard_normal(ramp.shape))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / side / "a.png")
        shutil.copy(root / side / "a.png", root / side / HOSTILE)
        tone = 0.3 * np.sin(np.arange(48000) / 8) + sigma * rng.standard_normal(48000)
        sf.write(root / side / "t.wav", tone, 16000)
        wave = np.sin(np.arange(2000) / 50) + sigma * rng.standard_normal(2000)
        wave[[700, 1400]] += 9 * (sigma > 0), 9
        lines = [f"{n / 100:.2f},{value:.5f}\n" for n, value in enumerate(wave)]
        (root / side / "s.csv").write_text("time_s,x\n" + "".join(lines))
    add("a.png", "image", gain=3)
    add(HOSTILE, "image", gain=10)
    add("t.wav", "audio", gain=9)
    add("s.csv", "sensor", gain=20)
    add("bad.png", "image", error=f"holds {HOSTILE}")
    page = batch_page(CleanJob(inputs=(root / "in",), output=root / "out"), Result(tuple(entries), ()))
    path = root / "report.html"
    path.write_text(as_html(page), "utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Browser]:
    browser.problems.clear()
    browser.requests.clear()
    browser.size(1200, 900)
    browser.open(report)
    yield browser
    assert browser.problems == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [report.as_uri()]
    assert browser.evaluate("window.hit") is None


def test_the_slider_moves(page: Browser) -> None:
    split = "document.querySelector('.compare .seam').offsetLeft"
    wide = page.evaluate("document.querySelector('.compare').clientWidth")
    assert page.evaluate(split) == pytest.approx(wide / 2, abs=2)
    page.drag(".compare .slider", (0.5, 0.5), (0.25, 0.5))
    assert page.evaluate(split) == pytest.approx(wide / 4, abs=12)
    page.key("ArrowRight")
    assert page.evaluate("document.activeElement.className") == "slider"
    clip = page.evaluate("getComputedStyle(document.querySelector('.compare .two')).clipPath")
    assert float(clip.split()[-1].rstrip("%)")) == pytest.approx(25.5, abs=2)


def test_crops_move_together(page: Browser) -> None:
    page.wait("document.querySelector('.frame').style.left")
    pixels = (
        "[...document.querySelectorAll('.photo:first-of-type .pane canvas')].slice(0, 3)"
        ".map(c => c.getContext('2d').getImageData(0, 0, 1, 1).data[0])"
    )
    left = "parseFloat(document.querySelector('.frame').style.left)"
    before, place = page.evaluate(pixels), page.evaluate(left)
    page.drag(".pane", (0.9, 0.5), (0.2, 0.5))
    assert page.evaluate(left) > place
    after = page.evaluate(pixels)
    assert after[1] > before[1]  # the ramp rises to the right
    page.click("[data-zoom='4']")
    assert page.evaluate("document.querySelector('[data-zoom=\"4\"]').getAttribute('aria-pressed')") == "true"
    assert page.evaluate("parseFloat(document.querySelector('.frame').style.width)") < 25


def test_the_table_sorts_filters_and_searches(page: Browser) -> None:
    names = "[...document.querySelectorAll('tbody tr:not([hidden]) th')].map(cell => cell.textContent)"
    titles = "[...document.querySelectorAll('article:not([hidden]) h2')]"
    articles = f"{titles}.map(title => title.textContent.trim().split(' ').pop())"
    assert page.evaluate(names)[0] == "bad.png"
    page.evaluate("document.querySelectorAll('thead button')[7].click()")  # gain
    assert page.evaluate(names)[:2] == ["a.png", "t.wav"]
    assert page.evaluate(names)[-1] == "bad.png"  # has none
    page.evaluate("document.querySelectorAll('thead button')[7].click()")
    assert page.evaluate(names)[0] == "s.csv"  # as a number: 20 before 9
    assert page.evaluate(articles)[0] == "s.csv"
    assert page.evaluate("document.querySelectorAll('thead th')[7].ariaSort") == "descending"
    choose = (
        "(field => {{ field.value = '{1}'; field.dispatchEvent(new Event('input', {{bubbles: true}})) }})"
        "(document.querySelector('.filters').elements.{0})"
    )
    page.evaluate(choose.format("group", "image"))
    assert sorted(page.evaluate(names)) == sorted(["a.png", "bad.png", HOSTILE])
    page.evaluate(choose.format("words", "BAD"))
    assert page.evaluate(names) == page.evaluate(articles) == ["bad.png"]
    assert page.evaluate("document.querySelector('.filters output').textContent") == "1 of 5"


def test_signals_play_together_and_change_without_a_jump(page: Browser) -> None:
    state = "document.querySelector('.sound').player.state()"
    page.click(".play")
    page.wait(f"{state}.playing === 3 && {state}.at > 0.2")
    before = page.evaluate(state)
    page.click(".pick:nth-of-type(2)")
    after = page.evaluate(state)
    assert after["playing"] == 3  # none was started again
    assert before["at"] < after["at"] < before["at"] + 5
    page.wait(f"{state}.gains[1] > 0.99 && {state}.gains[0] < 0.01")
    assert page.evaluate("document.querySelectorAll('.pick')[1].getAttribute('aria-checked')") == "true"
    page.key("ArrowRight")
    assert page.evaluate(state)["picked"] == 2
    page.click(".graph")
    assert page.evaluate(f"{state}.at") == pytest.approx(1.5, abs=1)
    page.click(".play")
    assert page.evaluate(state)["playing"] == 0


def test_traces_zoom(page: Browser) -> None:
    zoomed = "document.querySelector('.trace').zoomed()"
    assert page.evaluate(zoomed) == [0, 1]
    page.drag(".channel svg", (0.25, 0.5), (0.75, 0.5))
    assert page.evaluate(zoomed) == pytest.approx([0.25, 0.75], abs=0.02)
    assert float(page.evaluate("document.querySelector('.axis span').textContent")) == pytest.approx(
        5, abs=0.4
    )
    page.click("[data-step='in']")
    low, high = page.evaluate(zoomed)
    assert high - low == pytest.approx(0.25, abs=0.02)
    page.click("[data-step='all']")
    assert page.evaluate(zoomed) == [0, 1]
    kept = page.evaluate("[...document.querySelectorAll('.peaks span')].map(peak => peak.className)")
    assert kept == ["lost", "kept"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_contrast(report: Path, dark: bool) -> None:
    with Browser(dark=dark) as browser:
        browser.open(report)
        lowest = browser.evaluate(CONTRAST)
        background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") != dark
        assert lowest[0][0] >= 4.5, lowest


def test_a_phone_need_not_scroll_sideways(page: Browser) -> None:
    page.size(360, 740)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("document.querySelector('.compare').clientWidth") <= 340


def test_scores_of_long_paths_fit_a_phone(tmp_path: Path) -> None:
    """Their articles were cut, which contain what is too wide for them."""
    rng, sides = np.random.default_rng(0), [tmp_path / (40 * f"{side}_") for side in ("truth", "guess")]
    for side in sides:
        side.mkdir()
        Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(side / f"{30 * 'photo_'}.png")
        sf.write(side / f"{30 * 'sound_'}.wav", 0.1 * rng.standard_normal(8000), 8000)
        np.save(side / f"{30 * 'log_'}.npy", rng.standard_normal((2, 500)))
    (sides[0] / f"{30 * 'lone_'}.png").write_bytes((sides[0] / f"{30 * 'photo_'}.png").read_bytes())
    path = tmp_path / "r.html"
    path.write_text(as_html(scores_page(score(*sides))), "utf-8")
    with Browser(360, 740) as browser:
        browser.open(path)
        browser.evaluate("document.querySelectorAll('article').forEach(a => { a.style.contain = 'none' })")
        browser.evaluate(
            "document.querySelectorAll('article').forEach(a => { a.style.contentVisibility = 'visible' })"
        )
        assert browser.evaluate("document.querySelectorAll('article').length") == 4
        assert browser.evaluate("document.documentElement.scrollWidth") <= 360


def test_everything_that_works_has_a_name_for_screen_readers(page: Browser) -> None:
    page.call("Accessibility.enable")
    for _ in range(50):  # the tree follows the page a little later
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
        sliders = [n for n in nodes if n["role"]["value"] == "slider" and not n.get("ignored")]
        if len(sliders) >= 3:
            break
        time.sleep(0.1)
    working = ("button", "slider", "link", "combobox", "searchbox", "radio", "image", "img")
    nameless = [
        node["role"]["value"]
        for node in nodes
        if not node.get("ignored") and node["role"]["value"] in working and not node["name"]["value"].strip()
    ]
    assert nameless == []
    assert len(sliders) >= 3


def test_the_page_shows_everything_without_its_script(report: Path, tmp_path: Path) -> None:
    html = report.read_text("utf-8")
    path = tmp_path / "still.html"
    path.write_text(html[: html.index("<script>")], "utf-8")
    with Browser() as browser:
        browser.open(path)
        assert browser.evaluate("document.querySelectorAll('.audios audio').length") == 3
        assert browser.evaluate("document.querySelector('.audios').clientHeight") > 0
        assert browser.evaluate("document.querySelector('.player').clientHeight") == 0
        assert browser.evaluate("document.querySelector('path.two').getAttribute('d').length") > 1000
